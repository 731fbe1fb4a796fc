"""The controller inside transformers' own generate: the same tokens as the engine's, row by row."""

from typing import Any

import pytest
import torch

from metacog.decode.engine import Engine, EngineSettings
from metacog.decode.processor import BudgetProcessor
from metacog.errors import InputError
from metacog.model.bundle import MetacogModel
from metacog.records import Request
from metacog.text.render import render
from tests.invariants.replies import Prompts

MAX_NEW = 60
RESERVE = 8


def generated(model: MetacogModel, prompts: Prompts, budgets: list[int], **options: Any) -> Any:
    """Let transformers decode left-padded rows under a processor; return it with each row's ids."""
    base = model.base
    width = max(map(len, prompts))
    ids = torch.tensor([[base.pad_id] * (width - len(p)) + list(p) for p in prompts])
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts])
    processor = BudgetProcessor(
        base.tokenizer, budgets, max_new_tokens=MAX_NEW, answer_reserve=RESERVE
    )
    written = base.model.generate(
        input_ids=ids,
        attention_mask=mask,
        max_new_tokens=MAX_NEW,
        pad_token_id=base.pad_id,
        eos_token_id=sorted(base.tags.eos),
        logits_processor=[processor],
        **options,
    )
    return processor, written[:, width:].tolist()


def until_end(ids: list[int], ends: frozenset[int]) -> list[int]:
    for at, token in enumerate(ids):
        if token in ends:
            return ids[: at + 1]
    return ids


@pytest.mark.parametrize("budgets", [[5, 0, 17, -1, 1], [2, 2, 2, 2, 2], [-1, 3, 0, 30, 9]])
def test_greedy_rows_are_the_engines(
    tiny_base_model: MetacogModel, tiny_prompts: Prompts, budgets: list[int]
) -> None:
    processor, written = generated(tiny_base_model, tiny_prompts, budgets, do_sample=False)
    how = EngineSettings(rows=8)
    how = EngineSettings(rows=8, controller=type(how.controller)(answer_reserve=RESERVE))
    requests = [
        Request(n, p, b, temperature=0.0, max_new_tokens=MAX_NEW, max_answer_tokens=MAX_NEW)
        for n, (p, b) in enumerate(zip(tiny_prompts, budgets, strict=True))
    ]
    replies = {r.request_id: r for r in Engine(tiny_base_model, how).generate(requests)}
    for row, ids in enumerate(written):
        expected = [step.token for step in replies[row].steps]
        assert until_end(ids, tiny_base_model.base.tags.eos) == expected
        assert processor.used[row] == replies[row].budget.used


def test_sampled_rows_keep_mixed_budgets(
    tiny_base_model: MetacogModel, tiny_prompts: Prompts
) -> None:
    tags, budgets = tiny_base_model.base.tags, [0, 1, 4, 9, -1]
    (close,) = tags.think_close
    for seed in range(8):
        torch.manual_seed(seed)
        _, written = generated(tiny_base_model, tiny_prompts, budgets, do_sample=True, top_k=0)
        for budget, ids in zip(budgets, written, strict=True):
            reply = until_end(ids, tags.eos)
            assert reply.count(close) == 1
            thought = reply.index(close)
            most = MAX_NEW - RESERVE - 1
            assert thought <= (most if budget == -1 else budget)
            assert not tags.eos & set(reply[:thought])


def test_what_it_cannot_hold_is_refused(tiny_base_model: MetacogModel) -> None:
    tokenizer = tiny_base_model.base.tokenizer
    with pytest.raises(InputError, match="budget"):
        BudgetProcessor(tokenizer, [-2], max_new_tokens=20)
    two = BudgetProcessor(tokenizer, [3, 3], max_new_tokens=20)
    prompt = torch.tensor([render(tokenizer, [{"role": "user", "content": "What is 3 + 4?"}])])
    scores = torch.zeros(1, tiny_base_model.base.vocabulary)
    with pytest.raises(InputError, match="Wanted 2 rows, one for each budget, got 1"):
        two(prompt, scores)
    one = BudgetProcessor(tokenizer, [3], max_new_tokens=20)
    with pytest.raises(InputError, match="ends with the opener of THINK"):
        one(prompt[:, :-1], scores)
    again = BudgetProcessor(tokenizer, [3], max_new_tokens=20)
    again(prompt, scores)
    with pytest.raises(InputError, match="for each call of generate"):
        again(prompt, scores)
