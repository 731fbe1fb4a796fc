"""What a person sees of a reply."""

import pytest

from metacog.cli.reply import spending
from metacog.records import (
    BudgetReport,
    BudgetSource,
    CloseReason,
    Rereading,
    Revision,
    RevisionKind,
)


def report(*, used: int, enforced: int | None, revision: Revision | None = None) -> BudgetReport:
    return BudgetReport(
        requested=None,
        predicted=enforced,
        enforced=enforced,
        used=used,
        close_reason=CloseReason.NATURAL,
        source=BudgetSource.PREDICTED,
        revisions=() if revision is None else (revision,),
    )


def test_what_was_spent_stands_beside_what_could_be() -> None:
    numbers, bar = spending(report(used=10, enforced=40)).plain.splitlines()
    assert "predicted 40   enforced 40   used 10   closed by natural" in numbers
    assert bar.count("█") == 10
    assert bar.endswith("] 10/40")


def test_without_a_cap_there_is_no_bar() -> None:
    (numbers,) = spending(report(used=10, enforced=None)).plain.splitlines()
    assert "predicted --   enforced no limit   used 10" in numbers


@pytest.mark.parametrize(
    ("before", "needed", "said"),
    [
        (40, 5.0, "needs 5 more, allowed 5 -> 15"),
        (40, 1631.0, "needs more than it has, allowed 5 -> 15"),
    ],
)
def test_a_revision_says_what_is_needed_as_far_as_there_is_room(
    before: int, needed: float, said: str
) -> None:
    again = Rereading(used=10, needed=needed, ready=0.5, gain=0.01, allowed=4.2)
    seen = spending(
        report(used=15, enforced=before, revision=Revision(RevisionKind.LOWERED, before, 15, again))
    )
    assert seen.plain.splitlines()[-1] == f"at 10: lowered, ready 50%, gain 1%, {said}"
