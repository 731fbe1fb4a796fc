"""What a client may ask for, checked before anything reaches the model."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictFloat, StrictInt, StrictStr

from metacog.errors import InputError

MOST_MESSAGES, MOST_CHOICES, MOST_STOPS, LONGEST_STOP = 256, 8, 4, 64

Effort = Literal["none", "minimal", "low", "medium", "high"]
Tokens = Annotated[StrictInt, Field(ge=-1, le=2**31)] | Literal["auto"] | None
Number = StrictInt | StrictFloat
Stop = Annotated[StrictStr, Field(min_length=1, max_length=LONGEST_STOP)]


class ChatMessage(BaseModel):
    """One turn."""

    model_config = ConfigDict(extra="forbid")

    role: StrictStr
    content: StrictStr
    name: StrictStr | None = None


class StreamOptions(BaseModel):
    """How a reply is streamed."""

    include_usage: StrictBool = False


class ChatRequest(BaseModel):
    """A body of `/v1/chat/completions`; unknown fields are refused, so that none is ignored."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    model: StrictStr
    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=MOST_MESSAGES)]
    stream: StrictBool = False
    stream_options: StreamOptions | None = None
    n: Annotated[StrictInt, Field(ge=1, le=MOST_CHOICES)] = 1
    seed: Annotated[StrictInt, Field(ge=-(2**63), lt=2**63)] = 0
    temperature: Annotated[Number, Field(ge=0, le=100, allow_inf_nan=False)] | None = None
    top_p: Annotated[Number, Field(gt=0, le=1, allow_inf_nan=False)] | None = None
    stop: Stop | Annotated[list[Stop], Field(max_length=MOST_STOPS)] | None = None
    max_tokens: Annotated[StrictInt, Field(ge=1, le=2**31)] | None = None
    max_completion_tokens: Annotated[StrictInt, Field(ge=1, le=2**31)] | None = None
    user: StrictStr | None = None
    reasoning_effort: Effort | None = None
    thinking_token_budget: Tokens = None
    thinking_budget: Tokens = None
    thinking_budget_tokens: Tokens = None
    reasoning_budget: Tokens = None
    plan: StrictStr | None = None
    metacog: StrictBool = False

    @property
    def stops(self) -> tuple[str, ...]:
        """Return the texts that end an answer."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())

    @property
    def longest(self) -> int | None:
        """Return the most tokens of a reply, or None where the model's own limit holds."""
        named = [n for n in (self.max_completion_tokens, self.max_tokens) if n is not None]
        return min(named, default=None)

    def budget(self) -> int | None:
        """Return the budget that was named under whichever name, or None for `auto`.

        Raises:
            InputError: If two names say different things.
        """
        names = ("thinking_token_budget", "thinking_budget", "thinking_budget_tokens")
        said = {name: value for name, value in self._budgets() if value is not None}
        if len(set(said.values())) > 1:
            raise InputError(
                f"Wanted one thinking budget, got {said}. Name it as {names[0]} alone."
            )
        value = next(iter(said.values()), "auto")
        if value == "auto":
            return 0 if self.reasoning_effort == "none" and not said else None
        return int(value)

    def _budgets(self) -> list[tuple[str, int | str | None]]:
        return [
            ("thinking_token_budget", self.thinking_token_budget),
            ("thinking_budget", self.thinking_budget),
            ("thinking_budget_tokens", self.thinking_budget_tokens),
            ("reasoning_budget", self.reasoning_budget),
        ]
