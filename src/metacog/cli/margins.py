"""P1, P2 and P10: what is claimed to half a point, on many questions and for several models at once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from metacog.cli.measure import digests_of
from metacog.data.tasks.questions import Question
from metacog.eval.arms import Arm
from metacog.eval.margins import margin_summaries
from metacog.eval.proof.row import Json, Row, missing
from metacog.eval.proof.savings import AFTER_TRAINING, LAYER_ONLY, p10, saving
from metacog.eval.runner import Runner
from metacog.eval.setup import setup_of
from metacog.model.bundle import MetacogModel, load_model

OWN, TRAINED, FROZEN = "own", "trained", "frozen"
"""Whose rows on many questions a summary is made of."""


@dataclass(frozen=True)
class Beside:
    """Other models that the rows are made with, where there are any."""

    against: MetacogModel | None = None
    """Whose bare base a user would have instead; None for the model's own."""
    trained: MetacogModel | None = None
    """With a trained base, for P1 and P10; None for the model itself."""
    frozen: MetacogModel | None = None
    """With a frozen base and a layer, for P2, its gate off; None for the model itself, unless its base
    is compared with another."""


def load_beside(*, against: str | None, trained: str | None, frozen: str | None) -> Beside:
    """Return the models of these names, None where there is no name."""

    def loaded(name: str | None) -> MetacogModel | None:
        return None if name is None else load_model(name)

    return Beside(loaded(against), loaded(trained), loaded(frozen))


def margin_summaries_of(
    model: MetacogModel,
    bare: MetacogModel,
    beside: Beside,
    questions: Sequence[Question],
    seeds: Sequence[int],
    *,
    cheapest: Arm | None,
    natural_over_need: float | None,
) -> dict[str, Json]:
    """Return summaries on many questions: of the model, the trained one, and a frozen base's layer.

    Without a trained model the model stands for it; without a frozen one the model without its gate,
    unless its base is compared with another. The other arguments are those of `margin_summaries`.
    """
    frozen = beside.frozen
    if frozen is None and beside.against is None:
        frozen = model
    sides = {OWN: model}
    if beside.trained is not None:
        sides[TRAINED] = beside.trained
    if frozen is not None:
        sides[FROZEN] = replace(frozen, gate=None)
    return margin_summaries(
        Runner(setup_of(bare), questions, seeds),
        {name: _run(side, bare, questions, seeds) for name, side in sides.items()},
        cheapest,
        natural_over_need=natural_over_need,
    )


def _run(
    side: MetacogModel, bare: MetacogModel, questions: Sequence[Question], seeds: Sequence[int]
) -> tuple[Runner, bool]:
    differs = side.gate is not None or side.base.digest != bare.base.digest
    return Runner(setup_of(side), questions, seeds), differs


def margin_rows(margins: Mapping[str, Json], model: MetacogModel, beside: Beside) -> dict[str, Row]:
    """Return P1, P2 and P10, each with the hashes of the model that it is about."""
    trained = margins.get(TRAINED, margins[OWN])
    return {
        "P1": _about(saving(trained, AFTER_TRAINING), beside.trained or model),
        "P2": _about(saving(margins[FROZEN], LAYER_ONLY), beside.frozen or model)
        if FROZEN in margins
        else missing("a frozen base with its layer alone", "name one with --frozen"),
        "P10": _about(p10(trained), beside.trained or model),
    }


def _about(row: Row, model: MetacogModel) -> Row:
    return replace(row, detail={**row.detail, **digests_of(model)})
