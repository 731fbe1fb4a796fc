"""The one write into the base: a vector from g multiplies one block's activations in THINK."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from metacog.model.base import Base, gated_module
from metacog.model.norms import inverse_rms, norm_of

Site = Literal["block", "mlp", "attention"]
Switch = Literal["learned", "always"]

_LOW, _HIGH, _TEMPERATURE = -0.1, 1.1, 2 / 3
_SATURATED = 0.95
_TINY = 1e-6
"""Added to a mean square."""
SHORTEST = 1e-9
"""What a shorter state counts as, where a change is held against it."""


class GateShape(BaseModel):
    """What a gate is built from."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
    )

    hidden: int = Field(ge=1)
    """Width of the gated activations."""

    inputs: int = Field(ge=1)
    """Width of [g ; plan ; confidence]."""

    layer: int = Field(ge=0)
    """Index of the block whose activations it multiplies."""

    site: Site = "block"
    """Output of the block, of its mlp or of its attention."""

    switch: Switch = "learned"
    """Learned token by token, or always on."""

    strength: float = Field(default=0.5, gt=0, le=1)
    """Largest relative change of a channel."""


class FeedbackGate(nn.Module):
    """Modulates a block's activations by what the layer read at the end of the prompt.

        gamma = 1 + strength * tanh(W [g ; plan ; confidence])
        h'_t  = h_t + on_t * h_t * (gamma - 1)          where the input token lies in THINK

    W is zero at the start: the gate is then the identity, bit for bit. `on_t` is 1 with
    `switch: always`; with `learned` it is a hard-concrete variable of the block's own state
    (Louizos, Welling, Kingma, "Learning sparse neural networks through L0 regularization",
    section 4): stochastic and differentiable in training, 0 or 1 otherwise.
    """

    def __init__(self, shape: GateShape) -> None:
        super().__init__()
        self.shape = shape
        self.project = nn.Linear(shape.inputs, shape.hidden, bias=False)
        self.switch = nn.Linear(shape.hidden, 1)
        nn.init.zeros_(self.project.weight)
        nn.init.zeros_(self.switch.weight)
        nn.init.constant_(self.switch.bias, 2.0)
        self.switch.requires_grad_(shape.switch == "learned")
        self.epsilon: Tensor
        self.register_buffer("epsilon", torch.tensor(_TINY), persistent=False)

    def teach_projection(self) -> None:
        """Let only learn what the gate multiplies by: where it acts it has learned already."""
        self.requires_grad_(False)
        self.project.requires_grad_(True)

    def gamma(
        self,
        g: Float[Tensor, "batch proj"],
        plan_logits: Float[Tensor, "batch plans"],
        conf_raw: Float[Tensor, "batch 1"],
    ) -> Float[Tensor, "batch hidden"]:
        """Return the gate vector; plan and confidence enter raw and detached, g with its gradient."""
        plan, confidence = plan_logits.detach().softmax(-1), conf_raw.detach().sigmoid()
        return 1 + self.shape.strength * self._direction(torch.cat([g, plan, confidence], dim=-1))

    def _direction(self, inputs: Float[Tensor, "batch inputs"]) -> Float[Tensor, "batch hidden"]:
        direction: Tensor = torch.tanh(self.project(inputs.float()))
        return direction

    def saturation(self, gamma: Float[Tensor, "batch hidden"]) -> Float[Tensor, " batch"]:
        """Return the share of channels whose |tanh| is above 0.95."""
        pushed = (gamma - 1).abs() / self.shape.strength
        return (pushed > _SATURATED).float().mean(-1)

    def on(
        self,
        states: Float[Tensor, "batch seq hidden"],
        length: Float[Tensor, "batch seq"] | None = None,
    ) -> Float[Tensor, "batch seq"]:
        """Return the per-token switch in [0, 1]; exactly 0 or 1 outside training.

        Args:
            states: The block's own.
            length: Theirs, where it is known already.
        """
        if self.shape.switch == "always":
            return states.new_ones(states.shape[:-1], dtype=torch.float32)
        x = states.detach().float()
        scale = inverse_rms(x, self.epsilon, length)
        logits = torch.addcmul(self.switch.bias, x @ self.switch.weight[0], scale)
        if not self.training:
            return (logits > 0).float()
        noise = torch.rand_like(logits).clamp(1e-6, 1 - 1e-6)
        soft = torch.sigmoid((logits + noise.log() - (1 - noise).log()) / _TEMPERATURE)
        return (soft * (_HIGH - _LOW) + _LOW).clamp(0, 1)


class GateState:
    """What the hook needs for the forward pass that comes next, and what it measured in the last.

    The caller sets gamma and the THINK mask before each forward pass, and reads the figures after.
    """

    def __init__(self, gate: FeedbackGate) -> None:
        self.gate = gate
        self.gamma: Float[Tensor, "batch hidden"] | None = None
        self.thinking: Bool[Tensor, "batch seq"] | None = None
        self.on: Float[Tensor, "batch seq"] | None = None
        """The switch where THINK is, else 0."""
        self.length: Float[Tensor, "batch seq"] | None = None
        """Of the states as they came."""
        self.push: Float[Tensor, "batch seq"] | None = None
        """Length of what the gate adds where its switch is on."""

    def set(
        self, gamma: Float[Tensor, "batch hidden"], thinking: Bool[Tensor, "batch seq"]
    ) -> None:
        """Prepare the next forward pass: `thinking` marks input tokens between opener and closer."""
        self.gamma, self.thinking = gamma, thinking

    def clear(self) -> None:
        """Leave the next forward pass untouched."""
        self.gamma = self.thinking = self.on = self.length = self.push = None

    @property
    def change(self) -> Float[Tensor, "batch seq"] | None:
        """Return ||gated - ungated||, or None where nothing was measured."""
        return None if self.on is None or self.push is None else self.on * self.push

    @property
    def relative(self) -> Float[Tensor, "batch seq"] | None:
        """Return ||gated - ungated|| / ||ungated||, or None where nothing was measured."""
        change, length = self.change, self.length
        return None if change is None or length is None else change / length.clamp(min=SHORTEST)

    def saturation(self) -> Float[Tensor, " batch"]:
        """Return the share of channels whose |tanh| is above 0.95."""
        assert self.gamma is not None
        return self.gate.saturation(self.gamma)

    def apply(self, states: Float[Tensor, "batch seq hidden"]) -> Float[Tensor, "batch seq hidden"]:
        """Return the modulated activations; positions outside THINK keep theirs bit for bit."""
        if self.gamma is None or self.thinking is None:
            return states
        self.length = norm_of(states.detach())
        on = self.gate.on(states, self.length) * self.thinking
        pushed = states * (self.gamma - 1).unsqueeze(1).to(states.dtype)
        self.on, self.push = on.detach(), norm_of(pushed.detach())
        return torch.addcmul(states, on.unsqueeze(-1).to(states.dtype), pushed)


class GateHook:
    """The forward hook: hands a module's output to the gate's state."""

    def __init__(self, state: GateState) -> None:
        self.state = state

    def __call__(self, _module: nn.Module, _inputs: Any, output: Any) -> Any:  # noqa: D102
        if isinstance(output, tuple):
            return (self.state.apply(output[0]), *output[1:])
        return self.state.apply(output)


@contextmanager
def gate(module: nn.Module, feedback: FeedbackGate) -> Iterator[GateState]:
    """Let the gate multiply a module's output while the `with` runs.

    Training keeps the block open through the backward pass, since activation checkpointing
    runs the module again there. On exit, normal or not, no hook remains.
    """
    state = GateState(feedback)
    handle = module.register_forward_hook(GateHook(state))
    try:
        yield state
    finally:
        handle.remove()


@contextmanager
def gate_in(base: Base, feedback: FeedbackGate) -> Iterator[GateState]:
    """Put a gate into the block of a base that it is made for, as `gate` does.

    Serving, valuing and training all come through here, so that they register the same hook.
    """
    with gate(gated_place(base, feedback), feedback) as state:
        yield state


def gated_place(base: Base, feedback: FeedbackGate) -> nn.Module:
    """Return the module of a base that a gate multiplies."""
    return gated_module(base.blocks[feedback.shape.layer], feedback.shape.site)


def gates_in(model: nn.Module) -> list[tuple[nn.Module, FeedbackGate]]:
    """Return each module below a model that is gated now, with its gate."""
    return [
        (module, hook.state.gate)
        for module in model.modules()
        for hook in module._forward_hooks.values()  # noqa: SLF001 - torch has no other way to ask
        if isinstance(hook, GateHook)
    ]
