"""The gate's arithmetic against its formulas written out by hand."""

import math

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from metacog.model.gate import FeedbackGate, GateShape, GateState, gate

SHAPE = GateShape(hidden=3, inputs=6, layer=0, strength=0.4)


@pytest.fixture
def feedback() -> FeedbackGate:
    """Two components of g, three plans, one confidence."""
    torch.manual_seed(0)
    made = FeedbackGate(SHAPE).eval()
    with torch.no_grad():
        made.project.weight.normal_()
        made.switch.weight.copy_(torch.tensor([[1.0, -1.0, 0.0]]))
        made.switch.bias.zero_()
    return made


G = torch.tensor([[0.5, -1.0], [2.0, 0.25]])
PLANS = torch.tensor([[0.0, 1.0, -1.0], [3.0, 0.0, 0.0]])
CONFIDENCE = torch.tensor([[0.3], [-2.0]])


def gamma_of(feedback: FeedbackGate, row: int) -> list[float]:
    """1 + strength * tanh(W [g ; softmax(plan) ; sigmoid(confidence)]), number by number."""
    odds = [math.exp(value) for value in PLANS[row].tolist()]
    plan = [value / sum(odds) for value in odds]
    confidence = 1 / (1 + math.exp(-CONFIDENCE[row].item()))
    inputs = [*G[row].tolist(), *plan, confidence]
    weights = feedback.project.weight.tolist()
    sums = [sum(w * x for w, x in zip(line, inputs, strict=True)) for line in weights]
    return [1 + 0.4 * math.tanh(value) for value in sums]


def test_gamma(feedback: FeedbackGate) -> None:
    gamma = feedback.gamma(G, PLANS, CONFIDENCE)
    expected = torch.tensor([gamma_of(feedback, 0), gamma_of(feedback, 1)])
    torch.testing.assert_close(gamma, expected)
    far = feedback.gamma(1000 * G, PLANS, CONFIDENCE)
    assert ((far - 1).abs() <= 0.4 + 1e-6).all()


def test_plan_and_confidence_get_no_gradient(feedback: FeedbackGate) -> None:
    g, plans, confidence = (part.clone().requires_grad_() for part in (G, PLANS, CONFIDENCE))
    feedback.gamma(g, plans, confidence).sum().backward()
    assert g.grad is not None
    assert g.grad.all()
    assert (plans.grad, confidence.grad) == (None, None)


def test_a_new_gate_is_one_everywhere() -> None:
    fresh = FeedbackGate(SHAPE)
    assert torch.equal(fresh.gamma(G, PLANS, CONFIDENCE), torch.ones(2, 3))
    assert fresh.eval().on(torch.randn(2, 4, 3)).all(), "its switch starts on"


def test_the_learned_switch_is_a_sign_outside_training(feedback: FeedbackGate) -> None:
    states = torch.tensor([[[2.0, 1.0, 9.0], [1.0, 2.0, 9.0], [400.0, 399.0, 0.0]]])
    assert feedback.on(states).tolist() == [[1.0, 0.0, 1.0]]


def test_the_learned_switch_is_soft_in_training(feedback: FeedbackGate) -> None:
    feedback.train()
    states = torch.randn(1, 2000, 3, generator=torch.Generator().manual_seed(1))
    on = feedback.on(states)
    assert ((on >= 0) & (on <= 1)).all()
    assert (on == 0).any()
    assert (on == 1).any()
    assert ((on > 0) & (on < 1)).any()
    on.sum().backward()
    assert feedback.switch.weight.grad is not None
    assert feedback.switch.weight.grad.any()


def test_the_soft_switch_is_on_as_often_as_hard_concrete_says(feedback: FeedbackGate) -> None:
    """P(on > 0) = sigmoid(logit - 2/3 log(0.1 / 1.1)), Louizos et al. 2017, equation 12."""
    feedback.train()
    with torch.no_grad():
        feedback.switch.weight.zero_()
        feedback.switch.bias.fill_(-1.0)
        torch.manual_seed(2)
        share = (feedback.on(torch.ones(1, 40_000, 3)) > 0).float().mean().item()
    expected = 1 / (1 + math.exp(-(-1.0 - 2 / 3 * math.log(0.1 / 1.1))))
    assert share == pytest.approx(expected, abs=0.01)


def test_states_get_no_gradient_through_the_switch(feedback: FeedbackGate) -> None:
    states = torch.randn(1, 4, 3, requires_grad=True)
    feedback.train()
    assert torch.autograd.grad(feedback.on(states).sum(), states, allow_unused=True) == (None,)


def test_always_on() -> None:
    always = FeedbackGate(SHAPE.model_copy(update={"switch": "always"}))
    assert always.on(torch.randn(2, 5, 3)).tolist() == [[1.0] * 5] * 2


def prepared(feedback: FeedbackGate) -> tuple[GateState, Tensor, Tensor]:
    state = GateState(feedback)
    gamma = torch.tensor([[1.4, 0.8, 1.0]])
    state.set(gamma, torch.tensor([[False, True, True, True]]))
    states = torch.tensor([[[2.0, 1.0, 3.0], [2.0, 1.0, 2.0], [1.0, 2.0, 1.0], [4.0, 3.0, 0.0]]])
    return state, gamma, states


def test_what_it_does_to_states_and_what_it_measures(feedback: FeedbackGate) -> None:
    """Token 0 is outside THINK, token 2 is switched off; the others are multiplied."""
    state, gamma, states = prepared(feedback)
    gated = state.apply(states)
    expected = states.clone()
    expected[0, 1], expected[0, 3] = states[0, 1] * gamma[0], states[0, 3] * gamma[0]
    torch.testing.assert_close(gated, expected)
    assert state.on is not None
    assert state.on.tolist() == [[0.0, 1.0, 0.0, 1.0]]
    change = [0.0, math.hypot(0.8, -0.2), 0.0, math.hypot(1.6, -0.6)]
    assert state.change is not None
    assert state.change[0].tolist() == pytest.approx(change, abs=1e-6)
    assert state.relative is not None
    assert state.relative[0].tolist() == pytest.approx([0, change[1] / 3, 0, change[3] / 5])


def test_saturation_is_the_share_of_pushed_channels(feedback: FeedbackGate) -> None:
    """|gamma - 1| / 0.4 is 1, 0.5 and 0 in the first row; 0.96, 0.94 and 1 in the second."""
    state = GateState(feedback)
    gamma = torch.tensor([[1.4, 0.8, 1.0], [1.384, 0.624, 0.6]])
    state.set(gamma, torch.ones(2, 1, dtype=torch.bool))
    torch.testing.assert_close(state.saturation(), torch.tensor([1 / 3, 2 / 3]))


def test_without_a_gamma_or_after_clear_nothing_happens(feedback: FeedbackGate) -> None:
    state, _, states = prepared(feedback)
    assert GateState(feedback).apply(states) is states
    state.apply(states)
    state.clear()
    assert state.apply(states) is states
    assert (state.on, state.change, state.relative) == (None, None, None)


def test_half_precision_stays_half(feedback: FeedbackGate) -> None:
    state, _, states = prepared(feedback)
    assert state.apply(states.bfloat16()).dtype is torch.bfloat16


class Attention(nn.Module):
    """Returns a tuple, as attention modules do."""

    def forward(self, states: Tensor) -> tuple[Tensor, str]:
        return states * 2, "weights"


def test_modules_that_return_a_tuple_keep_the_rest(feedback: FeedbackGate) -> None:
    _, gamma, states = prepared(feedback)
    module = Attention()
    with gate(module, feedback) as state:
        state.set(gamma, torch.tensor([[False, True, False, False]]))
        gated, rest = module(states)
    assert rest == "weights"
    torch.testing.assert_close(gated[0, 1], 2 * states[0, 1] * gamma[0])
    assert torch.equal(gated[0, [0, 2, 3]], 2 * states[0, [0, 2, 3]])
    assert torch.equal(module(states)[0], 2 * states)


@pytest.mark.parametrize(
    "wrong", [{"strength": 0.0}, {"strength": 1.5}, {"site": "head"}, {"layer": -1}, {"depth": 2}]
)
def test_shapes_that_are_none(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        GateShape(**{"hidden": 3, "inputs": 6, "layer": 0, **wrong})
