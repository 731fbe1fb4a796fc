"""From configuration to the engine's own settings."""

from dataclasses import replace

from metacog.config.decoding import DecodingConfig, ModulationConfig
from metacog.decode.budget import ControllerSettings, Landing
from metacog.decode.engine import EngineSettings
from metacog.decode.modulation import Modulation
from metacog.decode.opening import OpeningSettings
from metacog.decode.rereading import RereadSettings
from metacog.errors import InputError, ModelError
from metacog.model.bundle import MetacogModel
from metacog.records import Request, Segment
from metacog.text.tags import plan_mark

_SEEDS = 2**63


def engine_settings(
    model: MetacogModel,
    decoding: DecodingConfig | None = None,
    *,
    rows: int = 64,
    revise: bool | None = None,
    reread: bool = True,
    gate: bool = True,
    telemetry: bool = False,
    debug: bool = False,
) -> EngineSettings:
    """Return how the engine decodes with a model.

    Args:
        model: Whose replies are wanted.
        decoding: How; by default as the model was saved.
        rows: Most rows that run at once.
        revise: Whether re-readings may lower a budget, or None for what `decoding` says.
        reread: Whether THINK is read again where `decoding` says so.
        gate: Whether the model's gate acts.
        telemetry: Whether readings hold the experts' and replies the gate's figure per token.
        debug: Whether every cap is asserted.
    """
    how = decoding or model.decoding
    budget, base = how.budget, model.base
    plans = model.reader.plans if model.reader is not None else ()
    marks = {plan: base.encode(plan_mark(plan)) for plan in plans}
    text = budget.landing.text
    landing = Landing(
        window=budget.landing.window,
        bias=budget.landing.bias,
        text_ids=base.encode(text) if text else (),
    )
    return EngineSettings(
        rows=rows,
        opening=OpeningSettings(
            use_predicted_budget=budget.use_predicted_budget,
            max_tokens=budget.max_tokens,
            min_think=budget.min_think,
            plan_scale=how.plan.scale,
            inject_plan=how.plan.inject,
            plan_marks=marks,
            telemetry=telemetry,
            modulation=_modulation(how.sampling.modulation),
        ),
        controller=ControllerSettings(
            min_think=budget.min_think,
            answer_reserve=budget.answer_reserve,
            landing=landing if budget.landing.enabled else None,
            debug=debug,
        ),
        reread=RereadSettings(
            schedule=budget.reread if reread else "none",
            every=budget.reread_every,
            revise=budget.revise if revise is None else revise,
        ),
        gate=gate,
        telemetry=telemetry,
    )


def unmodulated(settings: EngineSettings) -> EngineSettings:
    """Return settings under which nothing moves the sampler: prefixes' exact values are of plain sampling."""
    return replace(settings, opening=replace(settings.opening, modulation=None))


def _modulation(config: ModulationConfig) -> Modulation | None:
    if not config.enabled:
        return None
    return Modulation(
        config.temperature_span,
        config.top_p_span,
        config.plan_shift,
        frozenset(map(Segment, config.segments)),
        config.penalty_span,
    )


def request_for(
    model: MetacogModel,
    prompt: tuple[int, ...],
    *,
    request_id: int = 0,
    budget: int | None = None,
    plan: str | None = None,
    seed: int = 0,
    temperature: float | None = None,
) -> Request:
    """Return a request whose sampling and limits are the model's own, or as long as its budget asks.

    A budget that does not fit into the context ends where the context does.

    Raises:
        InputError: If the prompt leaves no room for a closer and an answer in the model's context,
            or the seed is beyond 64 bits.
        ModelError: If the prompt holds a token that the model has no embedding for.
    """
    if not -_SEEDS <= seed < _SEEDS:
        raise InputError(f"Wanted a seed of at most 64 bits, got {seed}. Name a smaller one.")
    if max(prompt) >= model.base.vocabulary:
        raise ModelError(
            f"The tokenizer of {model.base.path} writes the id {max(prompt)}, but the model has "
            f"embeddings for {model.base.vocabulary} tokens. Resize its embeddings and save it again."
        )
    how = model.decoding
    reserve = how.budget.answer_reserve
    room, close = model.base.context - len(prompt), len(model.base.tags.think_close)
    if room <= close:
        raise InputError(
            f"Prompt and reply may hold {model.base.context} tokens together, got a prompt of "
            f"{len(prompt)}. Shorten the prompt."
        )
    longest = max(how.budget.max_tokens, budget or 0) + close + reserve
    return Request(
        id=request_id,
        prompt=prompt,
        budget=budget,
        plan=plan,
        seed=seed,
        temperature=how.sampling.temperature if temperature is None else temperature,
        top_p=how.sampling.top_p,
        repetition_penalty=how.sampling.repetition_penalty,
        max_new_tokens=min(longest, room),
        max_answer_tokens=reserve,
    )
