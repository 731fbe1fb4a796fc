"""Worked examples in front of every question: what a base that never saw our traces thinks with.

    python -m benchmarks.in_context survey models/SmolLM2-135M-Instruct --n 48
    python -m benchmarks.in_context write models/SmolLM2-135M-Instruct OUT aiw

`survey` asks each family with two examples of its own, easier levels, with and without a budget of 0,
and prints JSON: where thinking is worth something. `write` copies a model's directory to OUT with
two examples of each family named built into its chat template, so that every command can use it.
Examples are questions of the base-train split with our solvers' lines as THINK.
"""

import argparse
import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.smollm2_rows import EASY
from metacog.data.tasks.drawing import draw_questions
from metacog.data.tasks.families import FAMILIES
from metacog.data.tasks.questions import Question, score
from metacog.data.tasks.splits import Split
from metacog.decode.collect import said
from metacog.decode.engine import Engine
from metacog.decode.settings import engine_settings, request_for
from metacog.decode.terms import NO_LIMIT
from metacog.eval import metrics
from metacog.eval.bootstrap import mean_interval
from metacog.model.bundle import MetacogModel, load_model
from metacog.telemetry.files import new_directory
from metacog.text.render import render
from metacog.text.tags import THINK

_SHOTS = 2
_MOST_TOKENS = 200
_SYSTEM_END = "<|im_end|>\n' }}{% endif %}"
"""Where the template has written what comes before the first question."""


def turns(examples: Sequence[Question]) -> list[dict[str, str]]:
    """Return examples as a conversation that has been."""
    return [
        turn
        for q in examples
        for turn in (
            {"role": "user", "content": q.text},
            {
                "role": "assistant",
                "content": f"{THINK.open}{chr(10).join(q.lines)}{THINK.close}{q.answer}",
            },
        )
    ]


def easy(split: Split, family: str, n: int, *, seed: int = 0) -> list[Question]:
    """Return questions of the easier levels."""
    found = draw_questions(split, 4 * n, seed=seed, families=[family])
    return [question for question in found if question.level < EASY][:n]


def worth(model: MetacogModel, family: str, n: int, seed: int) -> dict[str, Any]:
    """Return accuracy and THINK tokens of a family with and without thinking."""
    head = turns(easy(Split.BASE_TRAIN, family, _SHOTS))
    questions = easy(Split.VALIDATION, family, n, seed=seed)
    requests, asked = [], []
    for question in questions:
        turn = {"role": "user", "content": question.text}
        prompt = tuple(render(model.base.tokenizer, [*head, turn]))
        for budget in (NO_LIMIT, 0):
            request = request_for(model, prompt, request_id=len(asked), budget=budget, seed=seed)
            requests.append(replace(request, max_new_tokens=_MOST_TOKENS))
            asked.append((question, budget))
    right: dict[int, dict[str, float]] = {NO_LIMIT: {}, 0: {}}
    tokens = []
    for reply in Engine(model, engine_settings(model, rows=64)).generate(requests):
        question, budget = asked[reply.request_id]
        right[budget][question.id] = float(score(question, said(reply, model.base)))
        tokens += [reply.budget.used] if budget == NO_LIMIT else []
    gain = mean_interval({key: right[NO_LIMIT][key] - right[0][key] for key in right[0]})
    return {
        "n": len(questions),
        "uncapped": metrics.mean(right[NO_LIMIT].values()),
        "budget_0": metrics.mean(right[0].values()),
        "gain": None if gain is None else gain.mean,
        "gain_ci95": None if gain is None else list(gain.ci95),
        "think_tokens": metrics.mean(tokens),
    }


def write(source: Path, out: Path, families: Sequence[str]) -> None:
    """Copy a model with examples of each family in its chat template."""
    template = (source / "chat_template.jinja").read_text(encoding="utf-8")
    if _SYSTEM_END not in template:
        raise SystemExit(f"Wanted SmolLM2's chat template in {source}, got another one.")
    examples = [
        question for family in families for question in easy(Split.BASE_TRAIN, family, _SHOTS)
    ]
    said_before = "".join(
        f"<|im_start|>{turn['role']}\n{turn['content']}<|im_end|>\n" for turn in turns(examples)
    )
    quoted = said_before.replace("\\", "\\\\").replace("'", "\\'")
    changed = template.replace(_SYSTEM_END, f"<|im_end|>\n{quoted}' }}}}{{% endif %}}")
    with new_directory(out) as filling:
        for file in source.iterdir():
            shutil.copy(file, filling)
        (filling / "chat_template.jinja").write_text(changed, encoding="utf-8")


def main() -> None:
    """Survey or write, as the arguments say."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("survey", "write"))
    parser.add_argument("model", type=Path)
    parser.add_argument("rest", nargs="*", help="for write: OUT and families")
    parser.add_argument("--n", type=int, default=48, help="questions of each family")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--precision", default="bf16")
    given = parser.parse_args()
    if given.what == "write":
        out, *families = given.rest
        write(given.model, Path(out), families)
        return
    model = load_model(given.model, precision=given.precision)
    found = {name: worth(model, name, given.n, given.seed) for name in given.rest or FAMILIES}
    about = {"base_sha256": model.base.digest, "precision": given.precision, "seed": given.seed}
    print(json.dumps({**about, "families": found}, indent=2))


if __name__ == "__main__":
    main()
