"""What passes between the parts: small frozen records, without tensors."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Segment(StrEnum):
    """Where in a reply a token stands."""

    PROMPT = "prompt"
    """The rendered prompt, up to and including the opener of THINK."""
    THINK = "think"
    """Strictly between opener and closer."""
    CLOSE = "close"
    """The closer itself."""
    ANSWER = "answer"
    """After the closer."""


class RowFault(StrEnum):
    """Why a row of a data set is quarantined."""

    UNREADABLE = "unreadable"
    """A line that is no JSON object."""
    INVALID_UTF8 = "invalid_utf8"
    """Bytes that are no UTF-8, or half of a surrogate pair."""
    CONTROL_CHARACTER = "control_character"
    """A NUL in the text."""
    WRONG_TYPE = "wrong_type"
    """A column that is missing in this row, or holds something else than text or messages."""
    EMPTY_PROMPT = "empty_prompt"
    """Nothing is asked."""
    NO_THINK = "no_think"
    """A reply without THINK tags, or with nothing between them."""
    MISPLACED = "misplaced"
    """Text before THINK is opened."""
    UNCLOSED = "unclosed"
    """THINK is opened and not closed."""
    NESTED = "nested"
    """THINK is opened inside THINK."""
    DUPLICATED = "duplicated"
    """A THINK tag after THINK was closed."""
    EMPTY_ANSWER = "empty_answer"
    """Nothing after THINK."""
    UNRENDERABLE = "unrenderable"
    """The chat template refuses the messages."""
    UNENCODABLE = "unencodable"
    """Text that the tokenizer has no tokens for."""
    TOO_LONG = "too_long"
    """Longer than the model's context."""


class CloseReason(StrEnum):
    """Why THINK ended."""

    NATURAL = "natural"
    """The model closed by itself."""
    BUDGET = "budget"
    """The budget was spent."""
    CONFIDENT = "confident"
    """A re-reading found a right answer likely, and little to win by going on."""
    HOPELESS = "hopeless"
    """A re-reading found a right answer unlikely, and little to win by going on."""
    MAX_TOKENS = "max_tokens"
    """The token limit of the reply, less the answer reserve, was reached."""
    DISABLED = "disabled"
    """The budget was 0."""


class BudgetSource(StrEnum):
    """Where the budget of a reply came from."""

    EXPLICIT = "explicit"
    """The caller named a number."""
    PREDICTED = "predicted"
    """The reading's, calibrated and clamped."""
    UNCAPPED = "uncapped"
    """None: only the token limit binds."""


class RevisionKind(StrEnum):
    """What a re-reading did to the budget; none of these ever raises it."""

    LOWERED = "lowered"
    """To what was used plus what is still needed."""
    CONFIDENT = "confident"
    """Closed: going on wins too little, and the answer is likely right."""
    HOPELESS = "hopeless"
    """Closed: going on wins too little, and the answer is likely wrong."""


@dataclass(frozen=True)
class Message:
    """One turn of a conversation."""

    role: str
    content: str


@dataclass(frozen=True)
class Example:
    """A row of a data set: a conversation and the reply that is learned from, as text."""

    id: str
    """What the row calls itself, or its number in the stream."""
    source: str
    """Data set, file or URL that it came from."""
    domain: str | None
    """What it is about, or None where nobody said."""
    messages: tuple[Message, ...]
    """All turns before the reply."""
    think: str
    """What stands between the THINK tags."""
    answer: str
    """What stands behind them."""


@dataclass(frozen=True)
class PerLayerReading:
    """One block's own opinion at the end of the prompt."""

    plan: tuple[float, ...]
    """Probabilities of the plans."""
    budget: float
    """Thinking tokens."""
    confidence: float
    """Probability of a right answer."""
    alpha: float
    """Weight that the aggregator gave this block."""


UNFAMILIAR = 0.01
"""A prompt of less familiarity counts as unlike the calibration's: so does one in a hundred of those."""


@dataclass(frozen=True)
class CalibrationReport:
    """Which calibration a reading went through, once, and what it promises."""

    sha256: str
    """Of the calibration's file."""
    confidence: str | None
    """The map of confidence, such as `isotonic`; this and what follows None where nobody fitted it."""
    questions: int | None
    """How many it was fitted to."""
    coverage: float | None
    """Share of needs that the covering scale covers."""
    risk: float | None
    """Probability, at most, of losing an answer that is right uncapped."""


@dataclass(frozen=True)
class Reading:
    """What the layer says at the end of the prompt, after calibration."""

    plan: Mapping[str, float]
    """Probability of each plan."""
    chosen_plan: str
    budget: int
    """Thinking tokens: calibrated, clamped and rounded."""
    confidence: float
    """Probability of a right answer at the enforced budget."""
    alpha: tuple[float, ...]
    """The aggregator's weight of each block, first block first."""
    per_layer: tuple[PerLayerReading, ...] = ()
    """Empty when telemetry is off."""
    calibration: CalibrationReport | None = None
    """What made the numbers above of raw ones."""
    familiarity: float | None = None
    """Share of prompts like the calibration's that look at least as strange as this one: where it is
    tiny, the calibration promises nothing. None where nobody fitted it."""


@dataclass(frozen=True)
class Rereading:
    """What the layer says at a point inside THINK."""

    used: int
    """THINK tokens so far."""
    needed: float
    """THINK tokens still needed."""
    ready: float
    """Probability of a right answer if THINK closed now."""
    gain: float
    """Probability that going on to the natural end makes right what closing now would leave wrong."""
    allowed: float
    """THINK tokens that a budget is lowered to from here: `needed` times the calibration's factor."""


@dataclass(frozen=True)
class Revision:
    """One lowering of the budget, or an early close, and the re-reading that caused it."""

    kind: RevisionKind
    budget_before: int | None
    """None: there was no limit but the reply's."""
    budget_after: int
    rereading: Rereading


@dataclass(frozen=True)
class BudgetReport:
    """What was asked of a reply's thinking, and what it did."""

    requested: int | None
    """The caller's number (-1: no limit), or None for `auto`."""
    predicted: int | None
    """The reading's, or None where no layer read the prompt."""
    enforced: int | None
    """The cap at the start of THINK, or None where only the reply's limit binds."""
    used: int
    """Tokens strictly between opener and closer, forced ones included."""
    close_reason: CloseReason | None
    """None while THINK is open."""
    source: BudgetSource
    revisions: tuple[Revision, ...] = ()


@dataclass(frozen=True)
class Step:
    """One token of a reply."""

    request_id: int
    index: int
    """Position in the reply, from 0."""
    token: int
    segment: Segment
    sampled: bool
    """The model chose it; False where the controller forced it."""
    altered: bool
    """The model chose, but from logits that landing or a suppression changed."""
    logprob: float
    """Natural logarithm under the model's own distribution at temperature 1."""
    rereading: Rereading | None = None
    """Present where the layer read again after this token, and only in the finished reply: a step
    that is streamed was yielded before that."""


@dataclass(frozen=True)
class Opened:
    """A prompt has been read: what was decided before the first token."""

    request_id: int
    plan: str | None
    """The plan that acts; None without a layer."""
    reading: Reading | None
    budget: BudgetReport
    """With nothing used yet."""


@dataclass(frozen=True)
class GateReport:
    """What the gate did over a reply's THINK tokens; every figure is None without any."""

    coverage: float | None
    """Mean of the on/off mask over THINK tokens."""
    norm: float | None
    """Mean over THINK tokens of ||gated - ungated|| / ||ungated||."""
    saturation: float | None
    """Share of channels with |tanh| above 0.95."""
    per_token: tuple[float, ...] = ()
    """||gated - ungated|| at each THINK token, in order; empty when telemetry is off."""


@dataclass(frozen=True)
class Generation:
    """A finished reply with everything that was decided on the way."""

    request_id: int
    prompt: tuple[int, ...]
    steps: tuple[Step, ...]
    budget: BudgetReport
    reading: Reading | None
    plan: str | None
    """The plan that acted on budget and sampler; None without a layer."""
    gate: GateReport | None
    finished: bool
    """The reply ended by itself; False where a token limit ended it."""

    @property
    def think(self) -> tuple[int, ...]:
        """Ids strictly between opener and closer."""
        return tuple(step.token for step in self.steps if step.segment is Segment.THINK)

    @property
    def answer(self) -> tuple[int, ...]:
        """Ids after the closer."""
        return tuple(step.token for step in self.steps if step.segment is Segment.ANSWER)

    @property
    def spend(self) -> int:
        """THINK and ANSWER tokens, the closer left out."""
        return len(self.think) + len(self.answer)


@dataclass(frozen=True)
class Request:
    """One reply that is wanted from the engine."""

    id: int
    """Names the reply, and keys the sampling noise together with the seed."""
    prompt: tuple[int, ...]
    """Ids of the rendered prompt, the opener of THINK last."""
    budget: int | None = None
    """THINK tokens: a number, 0 to close at once, -1 for no limit, None for `auto`."""
    plan: str | None = None
    """A plan to follow, or None for the reading's."""
    seed: int = 0
    temperature: float = 1.0
    """0 is greedy."""
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    """Divides positive and multiplies negative logits of tokens already in the reply; 1 is off."""
    max_new_tokens: int = 512
    """THINK, closer and ANSWER together."""
    max_answer_tokens: int = 64
    noise_id: int | None = None
    """Keys the sampling noise in place of `id`, where ids say who asked; None for `id`."""
    budget_scale: float = 1.0
    """Factor of the predicted budget where `budget` is None."""
    meta: Mapping[str, Any] = field(default_factory=dict)
    """Carried along untouched, for whoever asked."""
