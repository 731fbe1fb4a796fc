"""From a body on the wire to requests of the engine."""

from dataclasses import replace

from metacog.decode.engine import Engine
from metacog.decode.settings import request_for
from metacog.decode.terms import NO_LIMIT
from metacog.errors import InputError
from metacog.records import Request
from metacog.serve.wire import Asked, ChatRequest, TextRequest
from metacog.text.render import encode_plain, render

EFFORTS = {"minimal": 0.25, "low": 0.5, "medium": 1.0, "high": 2.0}
"""Factor of the predicted budget by `reasoning_effort`; `none` is a budget of 0."""


def chat_prompts(engine: Engine, asked: ChatRequest) -> list[tuple[int, ...]]:
    """Return the ids of a conversation, rendered as training rendered it."""
    messages = [message.model_dump(exclude_none=True) for message in asked.messages]
    return [tuple(render(engine.model.base.tokenizer, messages))]


def text_prompts(engine: Engine, asked: TextRequest) -> list[tuple[int, ...]]:
    """Return the ids of each text with the opener of THINK behind it.

    What a text holds is text, a control token's name among it.
    """
    base = engine.model.base
    return [(*encode_plain(base.tokenizer, p), *base.tags.think_open) for p in asked.prompts]


def requests_for(engine: Engine, asked: Asked, prompts: list[tuple[int, ...]]) -> list[Request]:
    """Return a request for each choice that is wanted, checked by the engine.

    Choice number i of a prompt draws the noise of request i: the first one that of `metacog generate`.

    Raises:
        InputError: If it cannot be answered as asked, the budget that was named among it.
    """
    found = []
    for prompt in prompts:
        request = _request(engine, asked, prompt)
        found += [replace(request, noise_id=number) for number in range(asked.n)]
    return found


def _request(engine: Engine, asked: Asked, prompt: tuple[int, ...]) -> Request:
    budget = asked.budget()
    plain = request_for(
        engine.model,
        prompt,
        budget=budget,
        plan=asked.plan,
        seed=asked.seed,
        temperature=None if asked.temperature is None else float(asked.temperature),
    )
    longest, own = _longest(engine, plain, asked.longest), plain.max_answer_tokens
    request = replace(
        plain,
        top_p=plain.top_p if asked.top_p is None else float(asked.top_p),
        max_new_tokens=longest,
        max_answer_tokens=own if asked.longest is None else max(own, longest),
        budget_scale=_scale(engine, asked, budget),
    )
    _check_budget(engine, request)
    engine.check(request)
    return request


def _longest(engine: Engine, plain: Request, asked: int | None) -> int:
    """Return the limit of a reply: the one that was named, or enough for a budget that was, if it fits."""
    room = engine.context - len(plain.prompt)
    least = len(engine.model.base.tags.think_close) + 1
    if room < least:
        raise InputError(
            f"Wanted a prompt of at most {engine.context - least} tokens on this server, got "
            f"{len(plain.prompt)}. Shorten it."
        )
    longest = max(plain.max_new_tokens, (plain.budget or 0) + behind(engine))
    return min(room, longest if asked is None else asked)


def _scale(engine: Engine, asked: Asked, budget: int | None) -> float:
    if budget is not None or asked.reasoning_effort is None:
        return 1.0
    if engine.model.reader is None:
        raise InputError(
            f"reasoning_effort scales a predicted budget, and this model has no layer that predicts "
            f"one, got {asked.reasoning_effort!r}. Name a thinking_token_budget."
        )
    if not engine.settings.opening.use_predicted_budget:
        raise InputError(
            f"reasoning_effort scales a predicted budget, and this model thinks under a fixed one "
            f"(use_predicted_budget: false), got {asked.reasoning_effort!r}. Name a "
            "thinking_token_budget."
        )
    return EFFORTS[asked.reasoning_effort]


def _check_budget(engine: Engine, request: Request) -> None:
    budget = request.budget
    if budget is None or budget in (0, NO_LIMIT):
        return
    room = request.max_new_tokens - behind(engine)
    if budget > room:
        raise InputError(
            f"Wanted a thinking_token_budget that can be enforced: at most {max(room, 0)} tokens "
            f"beside this prompt, the answer and the limit of the reply, got {budget}. Lower it, or "
            "raise max_completion_tokens."
        )


def behind(engine: Engine) -> int:
    """Return the tokens that are kept for the closer and the answer."""
    close = len(engine.model.base.tags.think_close)
    return close + engine.settings.controller.answer_reserve
