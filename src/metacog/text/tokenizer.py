"""Builds the tokenizer of the bundled base: words and stock phrases whole, the rest by character.

Digits, brackets and letters of unknown words are single tokens, so that work on them stays
character by character; a phrase that many questions share is one token, so that prompts are short.
Characters outside the vocabulary fall back to bytes: every text survives a round trip.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from tokenizers import AddedToken, Regex
from tokenizers import Tokenizer as RustTokenizer
from tokenizers.decoders import ByteFallback, Fuse
from tokenizers.decoders import Sequence as DecoderSequence
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import Split
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from metacog.text.tags import TAGS

Tokenizer = PreTrainedTokenizerFast
"""What `build_tokenizer` returns: a fast tokenizer of the usual kind."""

PAD, END, USER, ASSISTANT = "<|pad|>", "<|end|>", "<|user|>", "<|assistant|>"

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}"
    "{{ '" + ASSISTANT + "' + message['content'] + '" + END + "' }}"
    "{% else %}{{ '" + USER + "' + message['content'] }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '" + ASSISTANT + TAGS[0].open + "' }}{% endif %}"
)

_PIECE = r" ?(?:[AB]#|#[AB])| ?[A-Za-z]+|\d|\n| ?[^\sA-Za-z0-9]|\s|."
_WORD = re.compile(r" ?[A-Za-z]{2,}|\n| ?(?:[AB]#|#[AB])")
_VARIABLE = re.compile(r"\d|[AB]#|#[AB]")
_PHRASE_SHARE = 0.1
_MIN_PHRASE_PIECES = 3
_MIN_WORD_COUNT = 3
_OF_CALLS = ("truncation", "padding")
"""Settings of a fast tokenizer that each call may change."""


def build_tokenizer(
    questions_by_family: Sequence[Sequence[str]], traces: Sequence[str]
) -> Tokenizer:
    """Return a fast tokenizer for questions of several families and the traces that answer them.

    Args:
        questions_by_family: for each family its questions; phrases are looked for within a family.
        traces: thinking and answers; they give words, not phrases, so that line ends stay tokens.
    """
    words = _words(text for texts in (*questions_by_family, traces) for text in texts)
    found = {phrase for texts in questions_by_family for phrase in _phrases(texts)}
    phrases = sorted(found, key=lambda phrase: (-len(phrase), phrase))
    control = [PAD, END, USER, ASSISTANT, *(mark for tag in TAGS for mark in (tag.open, tag.close))]
    characters = [chr(code) for code in range(32, 127)] + ["\n", "×"]
    symbols = [f" {char}" for char in "+-*/=|&^%(),.:;?!\"'`#" + "×"]
    bytes_ = [f"<0x{code:02X}>" for code in range(256)]
    vocabulary = list(dict.fromkeys([*control, *bytes_, *characters, *symbols, *words, *phrases]))
    return _assemble(vocabulary, phrases, control)


def rules_of(tokenizer: PreTrainedTokenizerBase) -> Mapping[str, object]:
    """Return all that says how text becomes ids; of a slow tokenizer the vocabulary alone."""
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        return {"vocabulary": tokenizer.get_vocab()}
    found: dict[str, object] = json.loads(tokenizer.backend_tokenizer.to_str())
    return {name: value for name, value in found.items() if name not in _OF_CALLS}


def _assemble(
    vocabulary: Sequence[str], phrases: Sequence[str], control: Sequence[str]
) -> Tokenizer:
    ids = {token: index for index, token in enumerate(vocabulary)}
    tokenizer = RustTokenizer(BPE(vocab=ids, merges=[], byte_fallback=True, ignore_merges=True))
    pattern = "|".join([*map(re.escape, phrases), _PIECE])
    tokenizer.pre_tokenizer = Split(Regex(pattern), "isolated")
    tokenizer.decoder = DecoderSequence([ByteFallback(), Fuse()])
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in control])
    fast = Tokenizer(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=END,
        padding_side="left",
        clean_up_tokenization_spaces=False,
        model_input_names=["input_ids", "attention_mask"],
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast


def _words(texts: Iterable[str]) -> list[str]:
    counts = Counter(word for text in texts for word in _WORD.findall(text))
    return sorted(word for word, count in counts.items() if count >= _MIN_WORD_COUNT)


def _phrases(texts: Sequence[str]) -> list[str]:
    split = [re.findall(_PIECE, text) for text in texts]
    documents = Counter(piece for pieces in split for piece in set(pieces))
    floor = _PHRASE_SHARE * len(texts)
    runs = Counter(run for pieces in split for run in set(_constant_runs(pieces, documents, floor)))
    return [run for run, count in runs.items() if count >= floor]


def _constant_runs(pieces: Sequence[str], documents: Counter[str], floor: float) -> list[str]:
    runs: list[list[str]] = [[]]
    for piece in pieces:
        if documents[piece] >= floor and not _VARIABLE.search(piece):
            runs[-1].append(piece)
        else:
            runs.append([])
    return ["".join(run) for run in runs if len(run) >= _MIN_PHRASE_PIECES]
