"""How learnable need is before any head is trained: gradient boosting on the raw operands.

    python -m benchmarks.learnability runs/layer

Reads the labels of a layer run, draws its questions again, and predicts need from the family, the
numbers and letters in the question and its length. Prints JSON: Spearman of predicted against
measured need on validation questions, over all and within each family; natural / need; how far
need spreads; and what is left of it after family and question length.
"""

import argparse
import json
import re
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file
from scipy.stats import spearmanr
from sklearn.ensemble import HistGradientBoostingRegressor

from metacog.config import load
from metacog.data.tasks.families import FAMILIES
from metacog.data.tasks.questions import Question
from metacog.data.tasks.splits import Split
from metacog.train.prepare import questions_of

NUM_OPERANDS = 12
NAMES = tuple(FAMILIES)
Table = dict[str, np.ndarray]


def operands(question: Question) -> list[float]:
    """Return the raw inputs: family, length, counts of signs, and the numbers in order."""
    text = question.text[-400:]
    numbers = [float(number) for number in re.findall(r"\d+", text)][-NUM_OPERANDS:]
    facing = len(re.findall(r"[AB]# #[AB]", text))
    padded = numbers + [np.nan] * (NUM_OPERANDS - len(numbers))
    return [NAMES.index(question.family), len(question.text), text.count("+"), facing, *padded]


def table(run: Path, split: Split) -> tuple[np.ndarray, Table]:
    """Return inputs and labels of the questions of a split whose need is known."""
    config = load(run / "config.yaml")
    labels = load_file(run / "features" / f"{split}-labels.safetensors")
    drawn = questions_of(config, split)
    by_hash = {int(question.id[:15], 16): question for question in drawn}
    known = ~np.isnan(labels["need"])
    inputs = [operands(by_hash[int(key)]) for key in labels["question"][known]]
    return np.array(inputs), {name: values[known] for name, values in labels.items()}


def within(values: np.ndarray, other: np.ndarray, family: np.ndarray) -> dict[str, float]:
    """Return Spearman in each family whose values differ."""
    found = {}
    for index, name in enumerate(NAMES):
        rows = family == index
        if rows.sum() > 20 and np.ptp(values[rows]) > 0 and np.ptp(other[rows]) > 0:
            found[name] = float(spearmanr(values[rows], other[rows]).statistic)
    return found


def spread(labels: Table) -> dict[str, dict[str, float]]:
    """Return for each family how far need spreads and what family and length leave of it."""
    found = {}
    for index, name in enumerate(NAMES):
        rows = labels["family"] == index
        need, length = labels["need"][rows], labels["prompt_length"][rows].astype(float)
        if len(need) < 20:
            continue
        fit = np.polyfit(length, need, 1) if np.ptp(length) else np.array([0.0, need.mean()])
        residual = need - np.polyval(fit, length)
        low, high = np.quantile(need, [0.05, 0.95])
        found[name] = {
            "p05": float(low),
            "p95": float(high),
            "ratio": float(high / max(low, 1.0)),
            "residual_share": float(residual.std() / need.mean()),
            "natural_over_need": float(labels["natural"][rows].mean() / need.mean()),
        }
    return found


def main() -> None:
    """Fit on the run's training questions and print how well validation's need is ranked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    run = parser.parse_args().run
    inputs, labels = table(run, Split.LAYER_TRAIN)
    held_inputs, held = table(run, Split.VALIDATION)
    filled = ~np.isnan(inputs).all(axis=0)
    inputs, held_inputs = inputs[:, filled], held_inputs[:, filled]
    model = HistGradientBoostingRegressor(categorical_features=[0], random_state=0)
    predicted = model.fit(inputs, np.log1p(labels["need"])).predict(held_inputs)
    by_family = within(predicted, held["need"], held["family"])
    whole = np.quantile(labels["need"], [0.01, 0.99])
    result = {
        "n_train": len(inputs),
        "n_validation": len(held_inputs),
        "spearman": float(spearmanr(predicted, held["need"]).statistic),
        "spearman_within": by_family,
        "spearman_within_median": float(np.median(list(by_family.values()))),
        "natural_over_need": float(labels["natural"].mean() / labels["need"].mean()),
        "need_p01_p99": whole.tolist(),
        "families": spread(labels),
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
