"""For programs: load a model, read prompts, answer under budgets, save."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from metacog.decode.engine import Engine
from metacog.decode.forecast import Forecaster
from metacog.decode.settings import engine_settings, request_for
from metacog.decode.terms import NO_LIMIT
from metacog.errors import InputError, ModelError
from metacog.model.bundle import MetacogModel, load_model
from metacog.records import Generation, Reading, Request
from metacog.text.render import render

Prompt = str | Sequence[dict[str, str]]
"""A question, or messages with `role` and `content`."""

Budget = int | Literal["auto"]
"""THINK tokens: a number, 0 to close at once, -1 for no limit, `auto` for the layer's own."""


@dataclass(frozen=True)
class Reply:
    """One answered prompt."""

    thinking: str
    """What stands between the opener and the closer of THINK, marks included."""
    answer: str
    generation: Generation
    """Everything that was decided on the way: reading, budget, revisions, every token."""


class ThinkingModel:
    """A base with its layer, calibration and gate, ready to read and to answer."""

    def __init__(self, model: MetacogModel) -> None:
        self.model = model

    def read(self, prompts: Sequence[Prompt]) -> list[Reading]:
        """Return the layer's reading of each prompt: plan, budget and confidence, without a reply.

        Confidence is that of a reply under `auto`.

        Raises:
            ModelError: If the model has no layer.
            InputError: If a prompt is empty or longer than the model's context.
        """
        if self.model.reader is None:
            raise ModelError(
                f"Wanted a model with a layer to read prompts, got the bare base "
                f"{self.model.base.path}. Train one, then load it with layer=."
            )
        engine = Engine(self.model, engine_settings(self.model, telemetry=True))
        requests = self._requests(prompts, [None] * len(prompts), None, 0, None)
        for request in requests:
            engine.check(request)
        forecaster = Forecaster(self.model, engine.settings)
        together = engine.settings.rows
        parts = [requests[i : i + together] for i in range(0, len(requests), together)]
        openings = [opening for part in parts for opening in forecaster.openings(part)]
        return [opening.reading for opening in openings if opening.reading is not None]

    def generate(
        self,
        prompts: Sequence[Prompt],
        *,
        budget: Budget | Sequence[Budget] = "auto",
        plan: str | None = None,
        seed: int = 0,
        temperature: float | None = None,
    ) -> list[Reply]:
        """Answer prompts side by side, each under its own budget, in the order they came.

        Args:
            prompts: Questions, or lists of messages.
            budget: One for all, or one for each prompt.
            plan: A plan of the model's for all, or None for the reading's.
            seed: Of the sampling noise.
            temperature: Divisor of the logits, 0 for greedy; by default the model's own.

        Raises:
            InputError: If there is another number of budgets than of prompts, a budget is below -1,
                or a prompt is empty or too long.
        """
        budgets = self._budgets(prompts, budget)
        requests = self._requests(prompts, budgets, plan, seed, temperature)
        return [self._reply(generation) for generation in self._answers(requests)]

    def save(self, directory: str | Path) -> None:
        """Write base, layer, gate and calibration as one directory that `load` reads.

        Stock `AutoModelForCausalLM.from_pretrained` reads the base from it.

        Raises:
            RunError: If the directory exists; nothing is overwritten.
        """
        self.model.save(Path(directory))

    def _answers(self, requests: Sequence[Request]) -> list[Generation]:
        engine = Engine(self.model, engine_settings(self.model, telemetry=True))
        found = {reply.request_id: reply for reply in engine.generate(requests)}
        return [found[request.id] for request in requests]

    def _reply(self, generation: Generation) -> Reply:
        decode = self.model.base.decode
        thinking = decode(generation.think, with_control=True)
        return Reply(thinking, decode(generation.answer).strip(), generation)

    def _budgets(
        self, prompts: Sequence[Prompt], budget: Budget | Sequence[Budget]
    ) -> list[int | None]:
        several = [budget] * len(prompts) if isinstance(budget, int | str) else list(budget)
        if len(several) != len(prompts):
            raise InputError(
                f"Wanted one budget, or one for each of {len(prompts)} prompts, got "
                f"{len(several)}. Name as many as there are prompts."
            )
        return [_tokens(one) for one in several]

    def _requests(
        self,
        prompts: Sequence[Prompt],
        budgets: Sequence[int | None],
        plan: str | None,
        seed: int,
        temperature: float | None,
    ) -> list[Request]:
        return [
            request_for(
                self.model,
                ids,
                request_id=number,
                budget=budget,
                plan=plan,
                seed=seed,
                temperature=temperature,
            )
            for number, (ids, budget) in enumerate(zip(self._ids(prompts), budgets, strict=True))
        ]

    def _ids(self, prompts: Sequence[Prompt]) -> Iterator[tuple[int, ...]]:
        for prompt in prompts:
            messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
            yield tuple(render(self.model.base.tokenizer, messages))


def load(
    name: str | Path,
    *,
    layer: str | Path | None = None,
    base_path: str | Path | None = None,
    precision: Literal["fp32", "bf16"] = "fp32",
    attention: Literal["sdpa", "eager"] = "sdpa",
) -> ThinkingModel:
    """Load a model with the layer that goes with it; only a base that is named by its hub id is fetched.

    Args:
        name: A bundled name (`nano`), the directory of a model, a run, a base or an adapter, or the
            hub id of a base.
        layer: Directory of another layer for it.
        base_path: Name or directory of the base of an adapter; by default the one it names.
        precision: Of the base's weights; the layer computes in fp32 always.
        attention: Attention backend.

    Raises:
        ModelError: If there is no such model, it cannot be read, or `precision` or `attention` is
            none of those above.
        CheckpointError: If the layer is damaged or belongs to another base.
    """
    directory = None if layer is None else Path(layer)
    found = load_model(
        name, layer=directory, base_path=base_path, precision=precision, attention=attention
    )
    return ThinkingModel(found)


def _tokens(budget: object) -> int | None:
    if budget == "auto":
        return None
    if isinstance(budget, int) and not isinstance(budget, bool) and budget >= NO_LIMIT:
        return budget
    raise InputError(
        f"Wanted a budget of 0 tokens or more, -1 for no limit or 'auto', got {budget!r}."
    )
