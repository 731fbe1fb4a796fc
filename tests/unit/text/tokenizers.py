"""Tokenizers for tests: the bundled base's, and foreign ones that are made on the spot."""

from functools import cache

from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers
from tokenizers.decoders import ByteFallback, Fuse
from tokenizers.decoders import Sequence as DecoderSequence
from transformers import PreTrainedTokenizerFast

from metacog.text.tokenizer import build_tokenizer

QUESTIONS = [["What is 3 + 4?", "What is 5 + 6?", "What is 1 + 2?"], ["How many bits has 12?"]]
TRACES = ["3 + 4 = 7\nso 7\n", "5 + 6 = 11\nso 11\n", "1 + 2 = 3\nso 3\n"]
FOREIGN_TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>"
    "{% if message['name'] %}{{ message['name'] }}: {% endif %}"
    "{{ message['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
FOREIGN_CONTROL = ("<|end|>", "<|user|>", "<|system|>", "<|assistant|>")


@cache
def bundled() -> PreTrainedTokenizerFast:
    """The bundled base's kind; copy it before changing it."""
    return build_tokenizer(QUESTIONS, TRACES)


def foreign(
    *,
    added: tuple[str, ...] = (),
    pattern: str = r"\w+|\s|[^\w\s]",
    pieces: tuple[str, ...] = ("think", "plan", "exec", "eval", ".\n", "</"),
    unknown: str | None = None,
) -> PreTrainedTokenizerFast:
    """A tokenizer of bytes and some whole pieces, whose template opens no THINK.

    Args:
        added: Tokens that are added without being special, as many models have them.
        pattern: What the text is split into first.
        pieces: What stands in the vocabulary beside single characters.
        unknown: A token for what is not in the vocabulary, instead of bytes; it is all there is then.
    """
    characters = [chr(code) for code in range(32, 127)] + ["\n"]
    rest = [f"<0x{code:02X}>" for code in range(256)] if unknown is None else [unknown]
    known = [*characters, *pieces] if unknown is None else ["\n", *pieces]
    vocabulary = list(dict.fromkeys([*known, *rest, *FOREIGN_CONTROL]))
    ids = {token: index for index, token in enumerate(vocabulary)}
    tokenizer = Tokenizer(
        models.BPE(vocab=ids, merges=[], unk_token=unknown, byte_fallback=True, ignore_merges=True)
    )
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(pattern), "isolated")
    tokenizer.decoder = DecoderSequence([ByteFallback(), Fuse()])
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in FOREIGN_CONTROL])
    tokenizer.add_tokens([AddedToken(token, normalized=True) for token in added])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|end|>",
        pad_token="<|end|>",
        unk_token=unknown,
        padding_side="left",
        clean_up_tokenization_spaces=False,
        name_or_path="foreign",
    )
    fast.chat_template = FOREIGN_TEMPLATE
    return fast
