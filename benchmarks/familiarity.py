"""Fits what tells familiar prompts to a model as it ships, and says how well it does.

    python -m benchmarks.familiarity nano --out DIR

`metacog calibrate` fits the same beside everything else; this leaves a layer's other numbers alone. Prints
JSON: the share of validation prompts that are called unfamiliar, which should be `level`, and that share of
each family that the model was not trained on.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from benchmarks.unseen import UNSEEN, entries_of
from metacog.data.tasks.drawing import draw_questions
from metacog.data.tasks.splits import Split
from metacog.decode.prefixes import Trace, read_packed
from metacog.eval.familiarity import fit_familiarity
from metacog.model.bundle import MetacogModel, load_model
from metacog.records import UNFAMILIAR
from metacog.text.render import render

_BATCH = 64


@torch.no_grad()
def prompt_states(
    model: MetacogModel, texts: Sequence[str]
) -> Float[Tensor, "prompts layers hidden"]:
    """Return the blocks' states at the end of each question's prompt, in no order; too long ones are left out."""
    prompts = [
        tuple(render(model.base.tokenizer, [{"role": "user", "content": text}])) for text in texts
    ]
    fitting = sorted((p for p in prompts if len(p) < model.base.context), key=len)
    found = []
    for start in range(0, len(fitting), _BATCH):
        traces = [Trace(prompt, (), (), ()) for prompt in fitting[start : start + _BATCH]]
        packed, _, tapped = read_packed(model, traces)
        found.append(tapped.at(packed.prompt_end))
    return torch.cat(found)


def main() -> None:
    """Fit, save the layer with it, and print how well it does."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--n", type=int, default=3000, help="calibration questions")
    parser.add_argument("--validation", type=int, default=4000)
    parser.add_argument("--unseen", type=int, default=300, help="questions of each other family")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    model = load_model(given.model)
    assert model.reader is not None
    seen = draw_questions(Split.CALIBRATION, given.n, seed=given.seed)
    found = fit_familiarity(prompt_states(model, [q.text for q in seen]), seed=given.seed)
    assert found is not None

    def unfamiliar(texts: Sequence[str]) -> dict[str, Any]:
        values = found(prompt_states(model, texts))
        return {"n": len(values), "unfamiliar": float((values < UNFAMILIAR).float().mean())}

    new = draw_questions(Split.VALIDATION, given.validation)
    told = {"level": UNFAMILIAR, "validation": unfamiliar([q.text for q in new])} | {
        family: unfamiliar([e["question"] for e in entries_of(family, given.unseen, 0)])
        for family in UNSEEN
    }
    print(json.dumps(told, indent=2))
    if given.out is not None:
        reader = model.reader
        model.with_layer(
            reader.layer,
            plans=reader.plans,
            gate=model.gate,
            calibration=reader.calibration,
            familiarity=found,
        ).save_layer(given.out)


if __name__ == "__main__":
    main()
