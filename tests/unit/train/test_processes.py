import json
from typing import Any

import pytest
import torch

from metacog.errors import ConfigError, RunError
from metacog.losses.combine import LossName
from metacog.losses.report import LossReport, Tally
from metacog.train.processes import ALONE, Processes
from metacog.train.result import StepResult, over_processes


class Of(Processes):
    """One of several whose others say the same as it does, after JSON's manner, but for `others`."""

    others: tuple[Any, ...] = ()

    def gather(self, value: Any) -> list[Any]:
        mine = json.loads(json.dumps(value))
        return [mine, *(self.others or (mine,) * (self.size - 1))]


def test_alone_all_stays_as_it_is() -> None:
    assert ALONE.gather({"a": 1}) == [{"a": 1}]
    assert ALONE.gather_bytes(b"a") == [b"a"]
    assert list(ALONE.share([1, 2, 3])) == [1, 2, 3]
    assert ALONE.first(lambda: 3) == 3
    assert ALONE.told == "1"


def test_shares_are_disjoint_of_equal_length_and_all_there_is() -> None:
    shares = [Processes(rank, 3, "ddp").share(range(12)) for rank in range(3)]
    assert [len(share) for share in shares] == [4, 4, 4]
    assert [number for share in shares for number in share] == list(range(12))


def test_counts_add_up_by_name_and_the_largest_wins() -> None:
    three = Of(0, 3, "ddp")
    totals = three.totals({"plan": torch.tensor(2.0), "budget": torch.tensor(5.0)})
    assert {name: float(total) for name, total in totals.items()} == {"plan": 6, "budget": 15}
    assert three.largest(7) == 7
    assert three.any(True)
    assert not three.any(False)


def test_what_the_first_refuses_it_refuses_in_its_own_words() -> None:
    def refuse() -> None:
        raise ConfigError("Wanted another recipe.")

    with pytest.raises(ConfigError, match=r"Wanted another recipe\."):
        Of(0, 2, "ddp").first(refuse)


def result(total: float, count: float, length: int) -> StepResult:
    report = LossReport(
        torch.tensor(total),
        torch.tensor(count),
        {"train/accuracy": Tally(torch.tensor(total / 2), torch.tensor(count))},
    )
    return StepResult(
        torch.tensor(total),
        {LossName.ANSWER: report},
        {LossName.ANSWER: 2.0},
        int(count),
        points=int(length),
        tallies={"think_tokens_used": Tally(torch.tensor(float(length)), torch.tensor(1.0))},
        replies={"think_len": [length]},
    )


def test_results_of_processes_are_sums_over_all_labels_and_replies_of_all() -> None:
    found = over_processes(result(6.0, 2.0, 9), Of(0, 3, "ddp"))
    assert found.metrics == {
        "train/loss": 6.0,
        "train/loss_answer": 3.0,
        "train/accuracy": 1.5,
        "think_tokens_used": 9.0,
    }
    assert (found.tokens, found.points) == (6, 27)
    assert list(found.replies["think_len"]) == [9, 9, 9]
    assert float(found.reports[LossName.ANSWER].count) == 6


def test_what_fails_on_another_process_fails_here() -> None:
    two = Of(0, 2, "ddp")
    object.__setattr__(two, "others", ("no disk",))
    with pytest.raises(RunError, match=r"Process 1 failed: no disk"):
        two.together(lambda: 1)


def test_a_label_that_only_one_process_has_counts_alone() -> None:
    empty, whole = result(0.0, 0.0, 0), result(6.0, 2.0, 9)
    first = empty + whole
    assert first.metrics["train/loss_answer"] == 3.0
