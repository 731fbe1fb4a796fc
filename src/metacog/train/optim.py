"""Parameter groups, optimisers and the learning rate's course."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from metacog.config.run import RunConfig
from metacog.model.adapt import Adapted
from metacog.model.gate import FeedbackGate
from metacog.train.muon import Muon
from metacog.train.processes import noticing_loss


@dataclass(frozen=True)
class Group:
    """Parameters that learn at one rate, under the name that logs show."""

    name: str
    parameters: Sequence[nn.Parameter]
    learning_rate: float
    weight_decay: float = 0.0
    matrices: bool = False
    """Weight matrices learned by Muon instead of AdamW."""


class Optimizers:
    """Muon for matrices, AdamW for all else, under one course of the learning rate."""

    def __init__(self, groups: Sequence[Group]) -> None:
        self.groups = tuple(groups)
        self._parts = [_optimizer(group) for group in groups]
        self._whole: list[nn.Parameter] = []

    def move(self, shards: Mapping[nn.Parameter, nn.Parameter]) -> None:
        """Let shards learn in the place of whole parameters, which follow them from now on.

        Args:
            shards: This process's share of each parameter that learns. Nothing has been learned yet.

        Raises:
            ValueError: If a group is learned by Muon, which needs whole matrices.
        """
        if any(group.matrices for group in self.groups):
            raise ValueError("Muon wanted whole matrices, got shards. Train them on one process.")
        self._whole = self.parameters
        self.groups = tuple(
            replace(group, parameters=[shards[p] for p in group.parameters])
            for group in self.groups
        )
        self._parts = [_optimizer(group) for group in self.groups]

    @torch.no_grad()
    def mirror(self) -> None:
        """Copy what shards have become into the whole parameters, where there are any."""
        for whole, shard in zip(self._whole, self.parameters if self._whole else (), strict=True):
            whole.copy_(whole_of(shard))

    @property
    def parameters(self) -> list[nn.Parameter]:
        """All parameters that learn."""
        return [parameter for group in self.groups for parameter in group.parameters]

    def step(self, factor: float) -> None:
        """Move the parameters at `factor` times their learning rates and forget the gradients."""
        for part, group in zip(self._parts, self.groups, strict=True):
            for settings in part.param_groups:
                settings["lr"] = group.learning_rate * factor
            part.step()
        self.forget()

    def forget(self) -> None:
        """Forget the gradients, the parameters as they are."""
        for part in self._parts:
            part.zero_grad(set_to_none=True)
        self.mirror()

    def rates(self, factor: float) -> dict[str, float]:
        """Return the learning rate of each group by event name."""
        return {
            f"train/learning_rate/{group.name}": group.learning_rate * factor
            for group in self.groups
        }

    def weights(self) -> dict[str, torch.Tensor]:
        """Return what learns by group and place."""
        return {
            f"{group.name}/{index}": whole_of(parameter.detach()).clone()
            for group in self.groups
            for index, parameter in enumerate(group.parameters)
        }

    @torch.no_grad()
    def load_weights(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Take up weights that `weights` returned for the same groups.

        Raises:
            ValueError: If they are those of other groups.
        """
        mine = {f"{g.name}/{i}": p for g in self.groups for i, p in enumerate(g.parameters)}
        wanted, got = ({n: tuple(t.shape) for n, t in of.items()} for of in (mine, tensors))
        if wanted != got:
            differing = sorted(name for name, _ in wanted.items() ^ got.items())
            raise ValueError(f"wanted weights of the same groups, got others: {differing[:5]}")
        for name, parameter in mine.items():
            parameter.copy_(share_of(parameter, tensors[name]))
        self.mirror()

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return the optimisers' state as tensors by group, parameter and key."""
        return {
            f"{group.name}/{index}/{key}": whole_of(torch.as_tensor(value).detach()).clone()
            for part, group in zip(self._parts, self.groups, strict=True)
            for index, parameter in enumerate(group.parameters)
            for key, value in part.state[parameter].items()
        }

    def load_tensors(self, tensors: dict[str, torch.Tensor]) -> None:
        """Take up a state that `tensors` returned for the same groups."""
        for part, group in zip(self._parts, self.groups, strict=True):
            for index, parameter in enumerate(group.parameters):
                prefix = f"{group.name}/{index}/"
                part.state[parameter] = {
                    name.removeprefix(prefix): share_of(parameter, value).clone()
                    for name, value in tensors.items()
                    if name.startswith(prefix)
                }


def _optimizer(group: Group) -> torch.optim.Optimizer:
    parameters = list(group.parameters)
    if group.matrices:
        return Muon(parameters, lr=group.learning_rate, weight_decay=group.weight_decay)
    return torch.optim.AdamW(
        parameters, lr=group.learning_rate, weight_decay=group.weight_decay, betas=(0.9, 0.95)
    )


def whole_of(tensor: Tensor) -> Tensor:
    """Return a tensor put together from the shards of all processes; any other as it is.

    Raises:
        ProcessLost: If another process has ended.
    """
    if not isinstance(tensor, DTensor):
        return tensor
    with noticing_loss():
        whole: Tensor = tensor.full_tensor()
    return whole


def is_finite(tensor: Tensor) -> bool:
    """Return whether every number is finite; of a sharded tensor, every one in this process."""
    local = tensor.to_local() if isinstance(tensor, DTensor) else tensor
    return bool(torch.isfinite(local).all())


def share_of(like: Tensor, value: Tensor) -> Tensor:
    """Return this process's share of a value, cut as `like` is; all of it where that is not cut."""
    if value.shape != like.shape:
        return value
    value = value.to(like.device)
    if not isinstance(like, DTensor):
        return value
    return distribute_tensor(value, like.device_mesh, like.placements, src_data_rank=None)


def parameter_groups(
    config: RunConfig, layer: nn.Module, feedback: FeedbackGate | None, adapted: Adapted
) -> list[Group]:
    """Return what learns of a model: layer, gate and adapters at the full rate, the base below it.

        rate of unfrozen base weights = adaptation.lr_multiplier * run.learning_rate

    A group without parameters is left out.
    """
    rate, decay = config.run.learning_rate, config.run.weight_decay
    gate = [] if feedback is None else [p for p in feedback.parameters() if p.requires_grad]
    groups = [
        Group("layer", [p for p in layer.parameters() if p.requires_grad], rate, decay),
        Group("gate", gate, rate),
        Group("adapters", adapted.adapters, rate),
        Group("base", adapted.unfrozen, rate * config.adaptation.lr_multiplier),
    ]
    return [group for group in groups if group.parameters]


def course(step: int, steps: int, *, warmup: int, decay: float) -> float:
    """Return the factor of the learning rate at a step: up, level, and down to zero.

        min(1, (step + 1) / warmup, (steps - step) / (decay * steps))

    Args:
        step: Steps done.
        steps: Steps in all.
        warmup: Steps over which the rate rises.
        decay: Last share of the steps, over which it falls.
    """
    rising = (step + 1) / warmup if warmup else 1.0
    falling = (steps - step) / (decay * steps) if decay else 1.0
    return max(0.0, min(1.0, rising, falling))


def matrices_and_rest(
    named: Iterable[tuple[str, nn.Parameter]],
) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Split parameters into matrices inside blocks and all else: embeddings, norms, biases."""
    matrices: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for name, parameter in named:
        (matrices if parameter.ndim == 2 and "embed" not in name else rest).append(parameter)
    return matrices, rest
