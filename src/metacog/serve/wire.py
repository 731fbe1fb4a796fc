"""What a client may ask for, checked before anything reaches the model."""

from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    model_validator,
)
from pydantic_core import PydanticCustomError

from metacog.config.serving import LimitsConfig
from metacog.errors import InputError

_MOST = 2**31

Effort = Literal["none", "minimal", "low", "medium", "high"]
Tokens = Annotated[StrictInt, Field(ge=-1, le=_MOST)] | Literal["auto"] | None
Number = StrictInt | StrictFloat
Text = Annotated[StrictStr, Field(min_length=1)]

BUDGETS = (
    "thinking_token_budget",
    "thinking_budget",
    "thinking_budget_tokens",
    "reasoning_budget",
    "reasoning_budget_tokens",
    "max_thinking_tokens",
    "reasoning_max_tokens",
)
"""Names under which a budget comes; the first is the one that docs use."""


class Body(BaseModel):
    """A part of a body; unknown fields are refused, so that none is ignored."""

    model_config = ConfigDict(extra="forbid")


def _text_of(content: Any) -> Any:
    """Return the text of text parts, a line each; what is no list is checked as it stands."""
    if not isinstance(content, list):
        return content
    other = next((at for at, part in enumerate(content) if not _is_text(part)), None)
    if other is not None:
        raise PydanticCustomError(
            "text_parts",
            "Wanted text, or a list of text parts, got another part at position {at}. Send text.",
            {"at": other},
        )
    return "\n".join(part["text"] for part in content)


def _is_text(part: Any) -> bool:
    if not isinstance(part, dict) or part.keys() != {"type", "text"}:
        return False
    return part["type"] == "text" and isinstance(part["text"], str)


class ChatMessage(Body):
    """One turn; a reply of this server may stand here as it came."""

    role: StrictStr
    content: Annotated[StrictStr, BeforeValidator(_text_of)]
    name: StrictStr | None = None
    reasoning: StrictStr | None = Field(default=None, exclude=True)
    """What was thought in an earlier turn: read by nobody, like `reasoning_content`."""
    reasoning_content: StrictStr | None = Field(default=None, exclude=True)
    refusal: None = Field(default=None, exclude=True)
    annotations: None = Field(default=None, exclude=True)
    audio: None = Field(default=None, exclude=True)
    function_call: None = Field(default=None, exclude=True)
    tool_calls: None = Field(default=None, exclude=True)

    @model_validator(mode="after")
    def _thought_by_the_assistant(self) -> "ChatMessage":
        thought = self.reasoning is not None or self.reasoning_content is not None
        if thought and self.role != "assistant":
            raise PydanticCustomError(
                "reasoning", "Wanted reasoning in a message of the assistant alone. Leave it out."
            )
        return self


class StreamOptions(Body):
    """How a reply is streamed."""

    include_usage: StrictBool = False


class Thinking(Body):
    """A budget as Anthropic's clients write it."""

    type: Literal["enabled", "disabled", "adaptive"] = "enabled"
    budget_tokens: Tokens = None


class TemplateOptions(Body):
    """The one switch of chat templates that means something here."""

    enable_thinking: StrictBool = True


class Asked(Body):
    """What both kinds of completion may ask for."""

    model: StrictStr
    stream: StrictBool = False
    stream_options: StreamOptions | None = None
    n: Annotated[StrictInt, Field(ge=1)] = 1
    seed: Annotated[StrictInt, Field(ge=-(2**63), lt=2**63)] = 0
    temperature: Annotated[Number, Field(ge=0, le=100, allow_inf_nan=False)] | None = None
    top_p: Annotated[Number, Field(gt=0, le=1, allow_inf_nan=False)] | None = None
    stop: Text | list[Text] | None = None
    max_tokens: Annotated[StrictInt, Field(ge=1, le=_MOST)] | None = None
    user: StrictStr | None = None
    reasoning_effort: Effort | None = None
    thinking_token_budget: Tokens = None
    thinking_budget: Tokens = None
    thinking_budget_tokens: Tokens = None
    reasoning_budget: Tokens = None
    reasoning_budget_tokens: Tokens = None
    max_thinking_tokens: Tokens = None
    reasoning_max_tokens: Tokens = None
    thinking: Thinking | None = None
    include_reasoning: StrictBool = True
    plan: StrictStr | None = None
    metacog: StrictBool = False

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, body: Any) -> Any:
        """Leave out what a client names without asking for anything, as OpenAI's may."""
        if not isinstance(body, dict):
            return body
        return {key: value for key, value in body.items() if value is not None}

    @property
    def stops(self) -> tuple[str, ...]:
        """Return the texts that end an answer."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())

    @property
    def longest(self) -> int | None:
        """Return the most tokens of a reply, or None where the model's own limit holds."""
        return self.max_tokens

    @property
    def wants_usage(self) -> bool:
        """Return whether a stream ends with its usage."""
        return self.stream_options is not None and self.stream_options.include_usage

    @property
    def closed(self) -> bool:
        """Return whether thinking was switched off without naming a budget."""
        off = self.thinking is not None and self.thinking.type == "disabled"
        return off or self.reasoning_effort == "none"

    def budget(self) -> int | None:
        """Return the budget that was named under whichever name, or None for `auto`.

        Raises:
            InputError: If two names say different things.
        """
        said: dict[str, Any] = {name: self.__dict__[name] for name in BUDGETS}
        said["thinking.budget_tokens"] = (
            None if self.thinking is None else self.thinking.budget_tokens
        )
        said = {name: value for name, value in said.items() if value is not None}
        if len(set(said.values())) > 1:
            raise InputError(
                f"Wanted one thinking budget, got {said}. Name it as {BUDGETS[0]} alone."
            )
        value = next(iter(said.values()), "auto")
        if value == "auto":
            return 0 if self.closed else None
        return int(value)

    def check(self, limits: LimitsConfig) -> None:
        """Refuse what is more than this server gives.

        Raises:
            InputError: If a number or a text is beyond its limit.
        """
        budget = self.budget()
        stops = self.stops
        for name, found, most in (
            ("n", self.n, limits.choices),
            ("stop", len(stops), limits.stops),
            ("letters of a stop", max(map(len, stops), default=0), limits.stop_letters),
            ("max_tokens", self.longest or 0, limits.tokens),
            ("thinking_token_budget", budget or 0, limits.tokens),
        ):
            if found > most:
                raise InputError(f"{name}: wanted at most {most}, got {found}. Ask for less.")


class ChatRequest(Asked):
    """A body of `/v1/chat/completions`."""

    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    max_completion_tokens: Annotated[StrictInt, Field(ge=1, le=_MOST)] | None = None
    chat_template_kwargs: TemplateOptions | None = None

    @property
    def longest(self) -> int | None:
        """Return the smaller of the two limits that may be named."""
        named = [n for n in (self.max_completion_tokens, self.max_tokens) if n is not None]
        return min(named, default=None)

    @property
    def closed(self) -> bool:
        """Return whether thinking was switched off, by the template's switch among others."""
        options = self.chat_template_kwargs
        return super().closed or (options is not None and not options.enable_thinking)

    def check(self, limits: LimitsConfig) -> None:
        """Refuse more messages, too, than this server reads."""
        super().check(limits)
        if len(self.messages) > limits.messages:
            raise InputError(
                f"messages: wanted at most {limits.messages}, got {len(self.messages)}. Leave some out."
            )


class TextRequest(Asked):
    """A body of `/v1/completions`: texts that are read as they stand, without a chat template."""

    prompt: Text | Annotated[list[Text], Field(min_length=1)]

    @property
    def prompts(self) -> tuple[str, ...]:
        """Return the texts to go on from."""
        return (self.prompt,) if isinstance(self.prompt, str) else tuple(self.prompt)

    def check(self, limits: LimitsConfig) -> None:
        """Refuse more replies over all prompts than this server writes."""
        super().check(limits)
        wanted = len(self.prompts) * self.n
        if wanted > limits.choices:
            raise InputError(
                f"prompt: wanted at most {limits.choices} replies in all, got {wanted}. Ask for less."
            )
