"""Taps against the hidden states that transformers itself returns."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from metacog.decode.batch import causal, left_padded_ids
from metacog.model.bundle import MetacogModel
from metacog.model.taps import Taps, taps

Prompts = tuple[tuple[int, ...], ...]


@pytest.fixture(scope="module")
def expected(tiny_directory: Path, tiny_prompts: Prompts) -> list[Tensor]:
    """Each block's output for each prompt alone; the hooks this installs stay in a model of its own.

    The state after the last block comes back normalised, so it is taken from the norm's input.
    """
    stock = AutoModelForCausalLM.from_pretrained(tiny_directory, local_files_only=True).eval()
    last: list[Tensor] = []
    stock.model.norm.register_forward_pre_hook(lambda _, given: last.append(given[0]))
    found = []
    for prompt in tiny_prompts:
        with torch.no_grad():
            output = stock(torch.tensor([prompt]), output_hidden_states=True, use_cache=False)
        found.append(torch.cat([*output.hidden_states[1:-1], last[-1]]))
    return found


@torch.no_grad()
def tapped(model: MetacogModel, prompts: Prompts) -> tuple[Taps, Tensor]:
    """Taps of a padded batch, and where each prompt begins."""
    ids, valid = left_padded_ids(prompts, model.base.pad_id)
    positions = (valid.long().cumsum(1) - 1).clamp(min=0)
    with taps(model.base.blocks) as readings:
        model.base.hidden_states(ids, mask=causal(valid), positions=positions)
    return readings, valid.long().argmax(1)


def test_the_last_token_of_each_row(
    tiny_base_model: MetacogModel, tiny_prompts: Prompts, expected: list[Tensor]
) -> None:
    readings, _ = tapped(tiny_base_model, tiny_prompts)
    end = torch.full((len(tiny_prompts),), max(map(len, tiny_prompts)) - 1)
    wanted = torch.stack([states[:, -1] for states in expected])
    torch.testing.assert_close(readings.at(end), wanted, atol=1e-4, rtol=1e-5)


@torch.no_grad()
def test_the_newest_states_where_one_token_was_read(tiny_base_model: MetacogModel) -> None:
    tokens = torch.tensor([[5], [6], [7]])
    everything, start = torch.ones(3, 1, 1, 1, dtype=torch.bool), torch.zeros_like(tokens)
    with taps(tiny_base_model.base.blocks) as readings:
        tiny_base_model.base.hidden_states(tokens, mask=everything, positions=start)
    rows = torch.tensor([2, 0])
    assert torch.equal(readings.newest(rows), readings.at(torch.zeros(3, dtype=torch.long))[rows])


def test_any_points_of_any_rows(
    tiny_base_model: MetacogModel, tiny_prompts: Prompts, expected: list[Tensor]
) -> None:
    readings, starts = tapped(tiny_base_model, tiny_prompts)
    rows, places = torch.tensor([2, 0, 2, 4]), torch.tensor([5, 0, 0, 3])
    found = readings.gather(rows, starts[rows] + places)
    pairs = zip(rows.tolist(), places.tolist(), strict=True)
    wanted = torch.stack([expected[row][:, place] for row, place in pairs])
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-5)


def test_the_pass_that_ran_last_is_what_is_read() -> None:
    blocks = [nn.Identity(), nn.Identity()]
    with taps(blocks) as readings:
        for value in (1.0, 2.0):
            for block in blocks:
                block(torch.full((1, 1, 4), value))
    assert readings.at(torch.zeros(1, dtype=torch.long)).unique().tolist() == [2.0]


def test_the_state_of_a_tuple_is_its_first() -> None:
    readings = Taps(1)
    readings.record(0, (torch.ones(1, 2, 4), "weights"))
    assert readings.at(torch.tensor([1])).shape == (1, 1, 4)


def test_reading_before_every_block_ran_is_refused() -> None:
    blocks = [nn.Identity(), nn.Identity()]
    with taps(blocks) as readings:
        blocks[0](torch.ones(1, 1, 4))
        with pytest.raises(AssertionError, match="before the model ran"):
            readings.at(torch.tensor([0]))
