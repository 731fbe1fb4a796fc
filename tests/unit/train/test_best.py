import math

import pytest
import torch
from torch import nn

from metacog.train.best import Best


def at(value: float) -> nn.Linear:
    """A module whose only weight is a number."""
    module = nn.Linear(1, 1, bias=False)
    set_to(module, value)
    return module


def set_to(module: nn.Linear, value: float) -> None:
    with torch.no_grad():
        module.weight.fill_(value)


def test_the_weights_of_the_lowest_loss_are_kept() -> None:
    module = at(0.0)
    best = Best(module, patience=10)
    losses = (3.0, 1.5, 2.0, 1.0, 1.0, 4.0)
    for value, loss in enumerate(losses, 1):
        set_to(module, float(value))
        best.offer(loss)
    assert best.module_of(module).weight.item() == 4.0, "the first of the two lowest is kept"
    assert module.weight.item() == 6.0, "the module itself goes on"


def test_later_training_of_module_or_copy_changes_nothing_kept() -> None:
    module = at(5.0)
    best = Best(module, patience=1)
    best.offer(1.0)
    loss = (module.weight - 100).square().sum()
    loss.backward()
    torch.optim.SGD(module.parameters(), lr=0.1).step()
    assert module.weight.item() == pytest.approx(24.0)
    copied = best.module_of(module)
    assert copied.weight.item() == 5.0
    set_to(copied, 7.0)
    assert best.module_of(module).weight.item() == 5.0


def test_before_any_loss_the_module_is_copied_as_it_is() -> None:
    module = at(2.0)
    best = Best(module, patience=1)
    assert not best.is_stale
    set_to(module, 3.0)
    found = best.module_of(module)
    assert found.weight.item() == 3.0
    assert found is not module
    assert found.weight is not module.weight


def test_a_loss_that_is_no_number_is_never_the_best() -> None:
    module = at(1.0)
    best = Best(module, patience=2)
    for value, loss in ((1.0, math.nan), (2.0, 3.0), (3.0, -math.inf), (4.0, math.nan)):
        set_to(module, value)
        best.offer(loss)
    assert best.module_of(module).weight.item() == 2.0
    assert best.is_stale


def test_patience_counts_losses_in_a_row_that_are_no_lower() -> None:
    best = Best(at(0.0), patience=2)
    stale = []
    for loss in (5.0, 5.0, 4.0, 4.0, 4.5, 9.0, 3.0, 3.5):
        best.offer(loss)
        stale.append(best.is_stale)
    assert stale == [False, False, False, False, True, True, False, False]


def test_it_goes_on_from_its_state_with_weights_loss_and_patience() -> None:
    module = at(0.0)
    best = Best(module, patience=2)
    for value, loss in ((1.0, 2.0), (2.0, 3.0)):
        set_to(module, value)
        best.offer(loss)
    other = Best(at(9.0), patience=2)
    other.load_state(best.state())
    assert other.module_of(at(9.0)).weight.item() == 1.0
    assert not other.is_stale
    other.offer(2.0)
    assert other.is_stale, "one loss that was no lower came before"


def test_a_state_from_before_any_loss_holds_no_weights() -> None:
    best = Best(at(3.0), patience=1)
    state = best.state()
    assert state.tensors == {}
    best.load_state(state)
    assert best.module_of(at(4.0)).weight.item() == 4.0
