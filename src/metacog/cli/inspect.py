"""`metacog inspect`: a loaded model that answers in JSON lines, for the cockpit or another program.

A line in, such as `{"prompt": "2+2=", "budget": null, "seed": 0}`, begins a question; `{"stop": true}`
ends those that have come; the end of stdin ends the process. Lines out, one an object with a `kind`:

    ready    the model is loaded: `gate` says whether it has one
    reading  what the layer read at the end of the prompt, and the THINK tokens it may take
    token    a piece of text of a segment, by `side`: `on` and, where there is a gate, `off`
    reply    what became of a side's budget
    done     the question is over, or was stopped
    error    the question cannot be answered: a message
"""

import json
import queue
import sys
import threading
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import typer

from metacog.cli.options import BaseName, LayerPath, ModelName
from metacog.errors import InputError

if TYPE_CHECKING:
    from metacog.model.bundle import MetacogModel
    from metacog.records import Generation, Request

Line = dict[str, Any]


def inspect(model: ModelName, layer: LayerPath = None, base: BaseName = None) -> None:
    """Answer questions that come as lines of JSON, telling every token as it comes."""
    from metacog.model.bundle import load_model

    loaded = load_model(model, layer=layer, base_path=base)
    _tell({"kind": "ready", "layer": loaded.reader is not None, "gate": loaded.gate is not None})
    asked = _Asked()
    while (question := asked.next()) is not None:
        try:
            for line in _answers(loaded, question):
                if asked.is_stopped:
                    break
                _tell(line)
        except InputError as error:
            _tell({"kind": "error", "message": str(error)})
        _tell({"kind": "done", "stopped": asked.is_stopped})


class _Asked:
    """Reads stdin in a thread, so that a line can end the questions that came before it."""

    def __init__(self) -> None:
        self._lines: queue.SimpleQueue[Line | None] = queue.SimpleQueue()
        self._come = self._taken = self._stopped = 0
        threading.Thread(target=self._read, daemon=True, name="stdin").start()

    def _read(self) -> None:
        for line in sys.stdin:
            told = _parsed(line)
            if told.get("stop"):
                self._stopped = self._come
            else:
                self._come += 1
                self._lines.put(told)
        self._lines.put(None)

    @property
    def is_stopped(self) -> bool:
        """Whether the question that was taken last is to end."""
        return self._taken <= self._stopped

    def next(self) -> Line | None:
        """Wait for a question; None where none will come."""
        question = self._lines.get()
        self._taken += 1
        return question


def _parsed(line: str) -> Line:
    try:
        told = json.loads(line)
    except ValueError:
        told = None
    return told if isinstance(told, dict) else {"prompt": None}


def _tell(line: Mapping[str, object]) -> None:
    typer.echo(json.dumps(line))
    sys.stdout.flush()


def _answers(model: "MetacogModel", question: Line) -> Iterator[Line]:
    """Yield the reading of a question, then the tokens of both sides in turn, then their replies.

    Raises:
        InputError: If the question is none, or cannot be answered.
    """
    from metacog.decode.engine import Engine
    from metacog.decode.settings import engine_settings

    request = _request(model, question)
    yield {"kind": "reading", **_opening(model, request)}
    sides = {"on": True, "off": False} if model.gate is not None else {"on": True}
    running = {
        side: _side(
            model,
            Engine(model, engine_settings(model, rows=1, gate=gate, telemetry=True)).stream(
                [request]
            ),
        )
        for side, gate in sides.items()
    }
    while running:
        for side in list(running):
            line = next(running[side], None)
            if line is None:
                del running[side]
            else:
                yield {**line, "side": side}


def _request(model: "MetacogModel", question: Line) -> "Request":
    from metacog.decode.settings import request_for
    from metacog.text.render import render

    prompt, budget = question.get("prompt"), question.get("budget")
    seed, temperature = question.get("seed", 0), question.get("temperature")
    is_whole = isinstance(prompt, str) and prompt.strip() and isinstance(seed, int)
    if not is_whole or not isinstance(budget, int | None):
        raise InputError(
            'Wanted a line such as {"prompt": "2+2=", "budget": null, "seed": 0}, got '
            f"{json.dumps(question)[:80]}."
        )
    if isinstance(budget, int) and budget < -1:
        raise InputError(f"Wanted a budget of -1 (no limit) or more THINK tokens, got {budget}.")
    ids = render(model.base.tokenizer, [{"role": "user", "content": str(prompt)}])
    return request_for(model, tuple(ids), budget=budget, seed=seed, temperature=temperature)


def _opening(model: "MetacogModel", request: "Request") -> Line:
    """Return what is read at the end of the prompt, by a reply that ends at once."""
    from dataclasses import asdict, replace

    from metacog.decode.engine import Engine
    from metacog.decode.settings import engine_settings

    close = len(model.base.tags.think_close)
    shortest = replace(request, max_new_tokens=close + 1, max_answer_tokens=1)
    (reply,) = Engine(model, engine_settings(model, rows=1, telemetry=True)).generate([shortest])
    cap = request.budget if request.budget is not None else reply.budget.predicted
    return {
        "reading": asdict(reply.reading) if reply.reading is not None else None,
        "plan": reply.plan,
        "cap": None if cap == -1 else cap,
    }


def _side(model: "MetacogModel", events: Iterator[Any]) -> Iterator[Line]:
    from metacog.records import Step
    from metacog.serve.pieces import Speech

    speech = Speech(model.base)
    for event in events:
        if isinstance(event, Step):
            thought, said = speech.push(event)
            yield {
                "kind": "token",
                "segment": event.segment.value,
                "sampled": event.sampled,
                "think": thought,
                "answer": said,
            }
        else:
            yield {**_reply(event), "think": speech.thinking.end(), "answer": speech.answer.end()}


def _reply(reply: "Generation") -> Line:
    from dataclasses import asdict

    return {
        "kind": "reply",
        "budget": asdict(reply.budget),
        "gate": asdict(reply.gate) if reply.gate is not None else None,
        "forced": sum(not step.sampled for step in reply.steps),
        "finished": reply.finished,
    }
