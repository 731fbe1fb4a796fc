"""Chooses a model's thresholds anew, on more questions than its training held back.

    python -m benchmarks.operating_point nano-adapted --against nano --n 8000 --margin -0.002 --out DIR

    python -m benchmarks.operating_point runs/reread/final --against nano --n 8000 --gate-off --out DIR

How right the other model's bare base is on the same validation questions is what may not be lost, and
`margin` how much of it may; below 0 is how much is to be won. With `--gate-off` the traces are those of the
frozen base alone, as P2 is measured. Then run `metacog calibrate` on DIR.
"""

import argparse
from dataclasses import asdict, replace
from pathlib import Path

from metacog.cli.operating import set_operating_point
from metacog.data.tasks.drawing import draw_questions
from metacog.data.tasks.splits import Split
from metacog.model.bundle import MetacogModel, load_model
from metacog.train.layer_losses import point_starts
from metacog.train.rollouts import collect_features


def main() -> None:
    """Choose, save the layer, and print the point."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--against", required=True)
    parser.add_argument("--n", type=int, default=8000)
    parser.add_argument("--margin", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--gate-off", action="store_true")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    model, other = load_model(given.model), load_model(given.against)
    questions = draw_questions(Split.VALIDATION, given.n)
    bare = MetacogModel(other.base, decoding=other.decoding)
    found = collect_features(bare, questions, seed=given.seed)
    reference = float(found.ready[point_starts(found)[1:] - 1].mean())
    asked = replace(model, gate=None) if given.gate_off else model
    features = collect_features(asked, questions, seed=given.seed, every_token=True)
    model.save_layer(given.out)
    point = set_operating_point(
        given.model, given.out, features, margin=given.margin, reference=reference
    )
    for name, value in asdict(point).items():
        print(f"{name:24} {value}")


if __name__ == "__main__":
    main()
