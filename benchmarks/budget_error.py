"""Where the error of P7 comes from: median need, predicted from more and more of what a model knows.

    python -m benchmarks.budget_error nano --fit 3000 --n 1000

Everything is fitted by absolute error to the same replies to layer-train questions, and judged on
replies to validation questions. Prints JSON: mean absolute error in THINK tokens, and how far it is from
that of gradient boosting on family, operands and length.
"""

import argparse
import json
from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from sklearn.ensemble import HistGradientBoostingRegressor
from torch import nn

from metacog.data.tasks.drawing import draw_questions
from metacog.data.tasks.families import FAMILIES
from metacog.data.tasks.splits import Split
from metacog.eval.baselines import boosting
from metacog.eval.baselines.operands import columns
from metacog.eval.evidence import Evidence, collect_evidence
from metacog.eval.proof.budgets import median_of
from metacog.eval.proof.row import interval
from metacog.model.bundle import MetacogModel, load_model

PEER = "operands"
STEPS, BATCH, WIDTH, RATE = 3000, 256, 256, 1e-3
HELD = 6
"""One in so many replies says when the network was best."""
Table = Float[ndarray, "rows columns"]


@torch.no_grad()
def known_of(model: MetacogModel, replies: Evidence) -> dict[str, Table]:
    """Return a table for each thing that median need is predicted from."""
    assert model.reader is not None
    states = torch.from_numpy(replies.prompt_states).float()
    out = model.reader.layer.read(states, torch.full((len(states),), torch.inf))
    blocks = out.per_layer["budget_raw_pl"].squeeze(-1)
    told = torch.cat([out.budget[:, None], blocks, out.conf_raw, out.plan_logits], dim=1)
    budget, outside = out.budget[:, None].numpy(), columns(replies)
    return {
        "budget and family": np.column_stack([budget, outside[:, : len(FAMILIES)]]),
        "budget and operands": np.column_stack([budget, outside]),
        "reading": told.numpy(),
        "g": out.g.numpy(),
    }


def boosted(fit: Table, need: Float[ndarray, " fit"], new: Table) -> Float[ndarray, " new"]:
    """Return median need by gradient boosting, as the baseline on operands has it."""
    model = HistGradientBoostingRegressor(loss="absolute_error", max_iter=200, random_state=0)
    there = ~np.isnan(fit).all(axis=0)
    found: Float[ndarray, " new"] = model.fit(fit[:, there], need).predict(new[:, there])
    return found


def network(fit: Evidence, new: Evidence, seed: int) -> Float[ndarray, " new"]:
    """Return median need by a network of two hidden layers on the states of all blocks."""
    torch.manual_seed(seed)
    states = torch.from_numpy(fit.prompt_states).float().flatten(1)
    need = torch.from_numpy(fit.need).float()
    mean, spread = states.mean(0), states.std(0) + 1e-5
    states, middle, scale = (states - mean) / spread, need.mean(), need.std()
    order = torch.randperm(len(states))
    held, seen = order[: len(order) // HELD], order[len(order) // HELD :]
    net = _network(states.shape[1])
    optimizer = torch.optim.AdamW(net.parameters(), lr=RATE, weight_decay=0.01)
    course = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    best = (float("inf"), net.state_dict())
    for step in range(STEPS):
        if step % 100 == 0:
            net.eval()
            with torch.no_grad():
                error = float((net(states[held])[:, 0] * scale + middle - need[held]).abs().mean())
            if error < best[0]:
                best = (error, {name: t.clone() for name, t in net.state_dict().items()})
            net.train()
        rows = seen[torch.randint(len(seen), (BATCH,))]
        loss = (net(states[rows])[:, 0] - (need[rows] - middle) / scale).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        course.step()
    net.load_state_dict(best[1])
    net.eval()
    with torch.no_grad():
        told = net((torch.from_numpy(new.prompt_states).float().flatten(1) - mean) / spread)[:, 0]
    found: Float[ndarray, " new"] = (told * scale + middle).numpy().astype(np.float64)
    return found


def _network(inputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(inputs, WIDTH),
        nn.SiLU(),
        nn.Dropout(0.1),
        nn.Linear(WIDTH, WIDTH),
        nn.SiLU(),
        nn.Dropout(0.1),
        nn.Linear(WIDTH, 1),
    )


def predictions(
    model: MetacogModel, fit: Evidence, new: Evidence
) -> Mapping[str, Float[ndarray, " new"]]:
    """Return median need of new replies, by name of what it was predicted from."""
    before, now = known_of(model, fit), known_of(model, new)
    budget = [table["budget and family"][:, 0] for table in (before, now)]
    nets = [network(fit, new, seed) for seed in range(3)]
    return {
        PEER: boosting.predict(fit, new),
        "budget": median_of(budget[0], fit.need, budget[1]),
        **{name: boosted(before[name], fit.need, now[name]) for name in before},
        **{f"states, seed {seed}": found for seed, found in enumerate(nets)},
        "states, mean of the three": np.mean(nets, axis=0),
    }


def main() -> None:
    """Collect replies, fit, and print errors."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--fit", type=int, default=3000)
    parser.add_argument("--n", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=3, help="of the questions")
    given = parser.parse_args()
    model = load_model(given.model)

    def solved(split: Split, n: int) -> Evidence:
        found = collect_evidence(model, draw_questions(split, n, seed=given.seed), [0])
        return found.at(~np.isnan(found.need))

    fit, new = solved(Split.LAYER_TRAIN, given.fit), solved(Split.VALIDATION, given.n)
    errors = {name: np.abs(p - new.need) for name, p in predictions(model, fit, new).items()}
    peer = errors[PEER]
    told = {
        name: {
            "mae": float(error.mean()),
            "above_operands": float(error.mean() / peer.mean() - 1),
            "above_operands_ci95": interval(
                new.question, lambda rows, e=error: float(e[rows].mean() / peer[rows].mean() - 1)
            ),
        }
        for name, error in errors.items()
    }
    print(json.dumps({"fitted_to": len(fit), "n": len(new), "median_need_from": told}, indent=2))


if __name__ == "__main__":
    main()
