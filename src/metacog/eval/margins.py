"""Accuracy within half a point: the arms that a saving is claimed on, over many more questions.

At 5 % discordance a paired half-width is 1.4 points over 1,000 questions; half a point takes about
12,000. So these few arms are run apart from the rest, one reply to each question and seed.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from metacog.eval.arms import GATED_ARM, LEARNED_ARM, PROMPT_ONLY_ARM, UNCAPPED_ARM, Arm
from metacog.eval.rows import EvalRow
from metacog.eval.runner import Runner
from metacog.eval.summary import summarise


def margin_summaries(
    bare: Runner,
    models: Mapping[str, tuple[Runner, bool]],
    cheapest: Arm | None,
    *,
    natural_over_need: float | None = None,
) -> dict[str, dict[str, Any]]:
    """Return a summary of each model against one bare base, on the questions of the runners.

    Args:
        bare: The base that a user would have instead, without layer and gate.
        models: By name, how each runs, and whether its replies without a budget differ from the bare
            base's.
        cheapest: The constant cap that met the margin on calibration questions; None where none did.
        natural_over_need: Of the bare base, which needs the value of every prefix and so is measured
            elsewhere.
    """
    without = bare_rows(bare, cheapest)
    found = {
        name: margin_summary(without, runner, differs=differs)
        for name, (runner, differs) in models.items()
    }
    for summary in found.values():
        summary["budget"]["natural_over_need"] = natural_over_need
    return found


def bare_rows(bare: Runner, cheapest: Arm | None) -> list[EvalRow]:
    """Return what a bare base replies without a budget and under the cheapest constant cap."""
    return _rows(bare, [UNCAPPED_ARM, *([] if cheapest is None else [cheapest])])


def margin_summary(
    without: Sequence[EvalRow], runner: Runner, *, differs: bool, prompt_only: bool = True
) -> dict[str, Any]:
    """Return the summary of one model beside a bare base's rows to the same questions.

    Args:
        without: Of the bare base.
        runner: How the model runs.
        differs: Whether its replies without a budget differ from the bare base's.
        prompt_only: Whether it is also run without re-readings.
    """
    arms = {LEARNED_ARM: True, PROMPT_ONLY_ARM: prompt_only, GATED_ARM: differs}
    return summarise([*without, *_rows(runner, [arm for arm, wanted in arms.items() if wanted])])


def _rows(runner: Runner, arms: Sequence[Arm]) -> list[EvalRow]:
    return [row for arm in arms for row in runner.run(arm, runner.unknown_needs())]
