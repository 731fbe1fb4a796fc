import copy
from collections.abc import Callable

import pytest
import torch
from torch import nn

from metacog.train.optim import Group, Optimizers, course, matrices_and_rest


class Small(nn.Module):
    """An embedding, a block with a matrix and a norm, and a bias."""

    def __init__(self) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(5, 4)
        self.linear = nn.Linear(4, 4)
        self.norm = nn.LayerNorm(4)


def grouped(model: Small) -> Optimizers:
    matrices, rest = matrices_and_rest(model.named_parameters())
    return Optimizers(
        [Group("matrices", matrices, 0.02, 0.1, matrices=True), Group("rest", rest, 0.01, 0.05)]
    )


def descend(model: Small, optimizers: Optimizers, step: int) -> None:
    generator = torch.Generator().manual_seed(step)
    ids = torch.randint(0, 5, (6,), generator=generator)
    target = torch.randn(6, 4, generator=generator)
    out = model.norm(model.linear(model.embed_tokens(ids)))
    (out - target).square().mean().backward()
    optimizers.step(0.5 + step / 10)


@pytest.fixture
def small() -> Small:
    torch.manual_seed(0)
    return Small()


def values(model: nn.Module) -> list[list[float]]:
    return [parameter.flatten().tolist() for parameter in model.parameters()]


@pytest.mark.parametrize(
    ("step", "factor"),
    [(0, 0.25), (1, 0.5), (3, 1.0), (4, 1.0), (5, 1.0), (6, 1.0), (7, 0.75), (8, 0.5), (9, 0.25)],
)
def test_the_course_by_hand(step: int, factor: float) -> None:
    """Four steps up, then level; the last four of ten steps down."""
    assert course(step, 10, warmup=4, decay=0.4) == pytest.approx(factor)


def test_the_course_without_warmup_or_decay_is_level_and_ends_at_zero() -> None:
    assert [course(step, 3, warmup=0, decay=0.0) for step in range(3)] == [1.0, 1.0, 1.0]
    assert course(10, 10, warmup=0, decay=0.5) == 0.0
    assert course(12, 10, warmup=0, decay=0.5) == 0.0
    assert [course(s, 4, warmup=0, decay=1.0) for s in range(4)] == [1.0, 0.75, 0.5, 0.25]


def test_a_short_run_takes_the_lower_of_rise_and_fall() -> None:
    assert course(1, 2, warmup=50, decay=1.0) == pytest.approx(2 / 50)


def test_matrices_are_those_of_blocks_alone(small: Small) -> None:
    matrices, rest = matrices_and_rest(small.named_parameters())
    assert [id(p) for p in matrices] == [id(small.linear.weight)]
    others = {
        id(small.embed_tokens.weight),
        id(small.linear.bias),
        *map(id, small.norm.parameters()),
    }
    assert {id(p) for p in rest} == others


def test_every_group_learns_at_its_own_rate(small: Small) -> None:
    optimizers = grouped(small)
    assert optimizers.rates(0.5) == {
        "train/learning_rate/matrices": 0.01,
        "train/learning_rate/rest": 0.005,
    }
    assert len(optimizers.parameters) == len(list(small.parameters()))
    before = copy.deepcopy(small)
    descend(small, optimizers, 0)
    moved = [
        not torch.equal(a, b) for a, b in zip(small.parameters(), before.parameters(), strict=True)
    ]
    assert all(moved)
    assert all(parameter.grad is None for parameter in small.parameters())


def test_the_factor_scales_the_first_step_of_adamw() -> None:
    """With decay 0 the first step of AdamW is the rate itself, against the gradient's sign."""
    weight = nn.Parameter(torch.tensor([1.0, -2.0]))
    optimizers = Optimizers([Group("all", [weight], 0.1)])
    (3 * weight).sum().backward()
    optimizers.step(0.5)
    assert weight.tolist() == pytest.approx([0.95, -2.05], abs=1e-5)


def test_a_factor_of_zero_moves_nothing(small: Small) -> None:
    optimizers, before = grouped(small), values(small)
    (small.linear.weight.sum() + small.embed_tokens.weight.sum()).backward()
    optimizers.step(0.0)
    assert values(small) == before


def test_a_matrix_moves_by_muon_along_orthogonal_directions() -> None:
    """Muon's update has singular values of about one before it is scaled, whatever the gradient's."""
    weight = nn.Parameter(torch.zeros(6, 6))
    optimizers = Optimizers([Group("matrices", [weight], 1.0, matrices=True)])
    gradient = torch.randn(6, 6, generator=torch.Generator().manual_seed(0))
    weight.grad = gradient
    optimizers.step(1.0)
    moved = torch.linalg.svdvals(weight.detach())
    assert float(moved.max() / moved.min()) < 2.5
    assert float(torch.linalg.svdvals(gradient).max() / torch.linalg.svdvals(gradient).min()) > 5
    assert float((weight.detach() * gradient).sum()) < 0


Restart = Callable[[Optimizers, Optimizers], None]


def carry_over(old: Optimizers, new: Optimizers) -> None:
    new.load_tensors(old.tensors())


def forget(old: Optimizers, new: Optimizers) -> None:
    assert old.tensors()
    assert new.tensors() == {}


@pytest.mark.parametrize(("restart", "equal"), [(carry_over, True), (forget, False)])
def test_a_state_that_is_carried_over_goes_on_bit_for_bit(
    small: Small, restart: Restart, equal: bool
) -> None:
    optimizers = grouped(small)
    for step in range(3):
        descend(small, optimizers, step)
    other = copy.deepcopy(small)
    resumed = grouped(other)
    restart(optimizers, resumed)
    for step in range(3, 6):
        descend(small, optimizers, step)
        descend(other, resumed, step)
    assert (values(small) == values(other)) is equal


def test_a_state_names_group_parameter_and_key(small: Small) -> None:
    optimizers = grouped(small)
    descend(small, optimizers, 0)
    state = optimizers.tensors()
    assert {name.split("/")[0] for name in state} == {"matrices", "rest"}
    assert all(isinstance(value, torch.Tensor) for value in state.values())
    copied = {name: value.clone() for name, value in state.items()}
    descend(small, optimizers, 1)
    assert all(torch.equal(state[name], copied[name]) for name in state), "the state was no copy"
