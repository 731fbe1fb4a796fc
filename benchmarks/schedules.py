"""What it costs to read again less often than at every line end.

    python -m benchmarks.schedules nano --n 2000

Uncapped traces of calibration questions, closed where each schedule would close them, thresholds
chosen anew on one half and judged on the other (`metacog.eval.schedules`). Prints JSON.
"""

import argparse
import json
from dataclasses import asdict

from metacog.cli.operating import MARGIN, trace_points
from metacog.data.tasks.drawing import draw_questions
from metacog.data.tasks.splits import Split
from metacog.eval.operating_point import right_at
from metacog.eval.schedules import compare_schedules
from metacog.model.bundle import load_model
from metacog.train.rollouts import collect_features


def main() -> None:
    """Compare schedules and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--n", type=int, default=2000, help="calibration questions")
    parser.add_argument("--halvings", type=int, default=10)
    given = parser.parse_args()
    model = load_model(given.model)
    questions = draw_questions(Split.CALIBRATION, given.n)
    points = trace_points(model, collect_features(model, questions, seed=0, every_token=True))
    natural = points.natural
    told = {
        "n": given.n,
        "margin": MARGIN,
        "uncapped": {
            "accuracy": float(right_at(points, natural).mean()),
            "think_tokens": float(natural.mean()),
        },
        "schedules": [
            asdict(found)
            for found in compare_schedules(points, margin=MARGIN, halvings=given.halvings)
        ],
    }
    print(json.dumps(told, indent=2))


if __name__ == "__main__":
    main()
