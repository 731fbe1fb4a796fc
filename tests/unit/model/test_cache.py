"""Slots against caches that grow by concatenation, one for each row."""

import pytest
import torch
from torch import Tensor
from transformers import Cache

from metacog.model.base import Base
from metacog.model.bundle import MetacogModel
from metacog.model.cache import SlotCache, growing_cache

CAPACITY = 40
Prompts = tuple[tuple[int, ...], ...]


@pytest.fixture
def base(tiny_base_model: MetacogModel) -> Base:
    return tiny_base_model.base


@torch.no_grad()
def read(base: Base, ids: tuple[int, ...], cache: Cache, start: int = 0) -> Tensor:
    """Let one row of a growing cache read on."""
    end = start + len(ids)
    mask = torch.ones(end, end, dtype=torch.bool).tril()[None, None, start:]
    positions = torch.arange(start, end)[None]
    return base.logits(torch.tensor([ids]), mask=mask, positions=positions, cache=cache)[0]


@torch.no_grad()
def step(base: Base, slots: SlotCache, tokens: list[int], lengths: list[int]) -> Tensor:
    """Let every running row of a slot cache read one token."""
    columns = torch.tensor(lengths)
    width = max(lengths) + 1
    slots.prepare(columns, width)
    seen = torch.arange(width) <= columns.unsqueeze(1)
    return base.logits(
        torch.tensor(tokens).unsqueeze(1),
        mask=seen[:, None, None, :],
        positions=columns.unsqueeze(1),
        cache=slots,
    )


def filled(base: Base, prompts: Prompts, rows: int) -> tuple[SlotCache, list[Cache]]:
    slots, growing = SlotCache(len(base.blocks), rows, CAPACITY), []
    for slot, prompt in enumerate(prompts):
        cache = growing_cache()
        read(base, prompt, cache)
        slots.fill(slot, cache, 0, 0)
        growing.append(cache)
    return slots, growing


def test_rows_of_different_lengths_go_on_as_each_alone(base: Base, tiny_prompts: Prompts) -> None:
    slots, growing = filled(base, tiny_prompts, rows=8)
    lengths = [len(prompt) for prompt in tiny_prompts]
    for turn in range(4):
        tokens = [(7 * turn + 3 * row) % base.vocabulary for row in range(len(lengths))]
        together = step(base, slots, tokens, lengths)
        for row, cache in enumerate(growing):
            alone = read(base, (tokens[row],), cache, lengths[row])
            torch.testing.assert_close(together[row], alone, atol=1e-4, rtol=0)
        lengths = [length + 1 for length in lengths]


def test_a_row_may_leave_and_another_take_its_place(base: Base, tiny_prompts: Prompts) -> None:
    """The last row moves into the first one's slot; then a shorter prompt comes in behind."""
    first, second, third = tiny_prompts[2], tiny_prompts[0], tiny_prompts[4]
    slots, growing = filled(base, (first, second), rows=2)
    step(base, slots, [5, 6], [len(first), len(second)])
    read(base, (6,), growing[1], len(second))
    slots.move(1, 0, len(second) + 1)
    cache = growing_cache()
    read(base, third, cache)
    slots.fill(1, cache, 0, 0)
    together = step(base, slots, [8, 9], [len(second) + 1, len(third)])
    moved, joined = (
        read(base, (8,), growing[1], len(second) + 1),
        read(base, (9,), cache, len(third)),
    )
    torch.testing.assert_close(together, torch.stack([moved, joined]), atol=1e-4, rtol=0)


def test_padding_is_left_out(base: Base) -> None:
    """A padded row is copied from its first real column on."""
    source = growing_cache()
    keys = torch.randn(2, 2, 5, 16)
    for block in range(len(base.blocks)):
        source.update(keys + block, -keys - block, block)
    slots = SlotCache(len(base.blocks), 3, CAPACITY)
    slots.fill(2, source, 1, 3)
    for block, layer in enumerate(slots.slots):
        assert torch.equal(layer.keys[2, :, :2], keys[1, :, 3:] + block)
        assert torch.equal(layer.values[2, :, :2], -keys[1, :, 3:] - block)
        assert not layer.keys[2, :, 2:].any()
        assert not layer.keys[:2].any()


def test_a_step_writes_one_column_of_each_used_row() -> None:
    slots = SlotCache(1, 3, 6)
    source = growing_cache()
    source.update(torch.ones(1, 2, 4, 16), torch.ones(1, 2, 4, 16), 0)
    slots.fill(0, source, 0, 0)
    before = slots.slots[0].keys.clone()
    slots.prepare(torch.tensor([4, 1]), 5)
    new = torch.arange(2.0).view(2, 1, 1, 1).expand(2, 2, 1, 16) + 2
    keys, values = slots.update(new, -new, 0)
    assert keys.shape == values.shape == (2, 2, 5, 16)
    assert torch.equal(keys[0, :, 4], new[0, :, 0])
    assert torch.equal(values[1, :, 1], -new[1, :, 0])
    changed = slots.slots[0].keys != before
    assert changed.nonzero()[:, [0, 2]].unique(dim=0).tolist() == [[0, 4], [1, 1]]


def test_use_before_prepare_is_refused() -> None:
    slots = SlotCache(1, 2, 4)
    slots.slots[0].lazy_initialization(torch.zeros(1, 2, 1, 16), torch.zeros(1, 2, 1, 16))
    with pytest.raises(AssertionError, match="before prepare"):
        slots.update(torch.zeros(2, 2, 1, 16), torch.zeros(2, 2, 1, 16), 0)


def test_what_it_says_of_its_size() -> None:
    slots = SlotCache(2, 3, 9)
    slots.prepare(torch.tensor([4, 2]), 5)
    assert [layer.get_max_length() for layer in slots.slots] == [9, 9]
    assert slots.get_seq_length() == 5
    assert slots.slots[0].get_mask_sizes(1) == (5, 0)
