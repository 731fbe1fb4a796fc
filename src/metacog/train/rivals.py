"""Adapters of other kinds on the gate's rows and steps: (IA)^3 and LoRA, which P11 holds the gate against."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace

import torch
from peft import IA3Config, LoraConfig, PeftConfig, inject_adapter_in_model
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.constants import (
    TRANSFORMERS_MODELS_TO_IA3_FEEDFORWARD_MODULES_MAPPING as IA3_INNER,
)
from peft.utils.constants import TRANSFORMERS_MODELS_TO_IA3_TARGET_MODULES_MAPPING as IA3_TARGETS
from torch import nn

from metacog.data.tasks.questions import Question
from metacog.losses.answer import answer_loss
from metacog.losses.report import LossReport
from metacog.model.base import Base
from metacog.model.bundle import MetacogModel
from metacog.model.gate import FeedbackGate
from metacog.records import Generation
from metacog.train.best import Best
from metacog.train.gate import shortest_right
from metacog.train.gated import reply_batch, reply_logits
from metacog.train.optim import course
from metacog.train.own import OwnTraces
from metacog.train.rollouts import Progress, rollout_waves

NAME = "rival"
ROLLOUTS = 6
WARMUP, DECAY, EVERY = 20, 0.9, 50
RATES = (1e-3, 3e-3, 1e-2)
"""Learning rates that are tried; validation chooses."""


@dataclass(frozen=True)
class Rows:
    """What the gate was trained on, and for how long."""

    train: Sequence[Generation]
    validation: Sequence[Generation]
    steps: int = 400
    batch: int = 32
    seed: int = 0


def rows_of(
    bare: MetacogModel,
    train: Sequence[Question],
    validation: Sequence[Question],
    *,
    progress: Progress | None = None,
) -> Rows:
    """Return the bare base's shortest right reply to each question, as the gate's recipe makes them.

    Args:
        bare: Without layer and gate.
        train: Questions to learn from.
        validation: Questions to choose learning rate and step by.
        progress: Told how many of the first have been asked.
    """

    def chosen(questions: Sequence[Question], told: Progress | None) -> list[Generation]:
        waves = rollout_waves(bare, questions, seed=0, rollouts=ROLLOUTS, progress=told)
        return [reply for wave in waves for reply in shortest_right(wave)]

    return Rows(chosen(train, progress), chosen(validation, None))


@dataclass(frozen=True)
class Rival:
    """A base with another kind of adapter, merged into its weights."""

    model: MetacogModel
    """Without layer and gate."""
    parameters: int
    rate: float
    """The learning rate that did best on validation."""
    loss: float
    """Cross-entropy per token of the validation replies, in nats."""


def ia3(base: Base, gate: FeedbackGate) -> PeftConfig:  # noqa: ARG001 - its size follows from the base
    """Return (IA)^3 (Liu et al. 2022) on every block, on the maps that PEFT chooses for the architecture."""
    kind = base.model.config.model_type
    return IA3Config(target_modules=IA3_TARGETS[kind], feedforward_modules=IA3_INNER[kind])


def lora(base: Base, gate: FeedbackGate) -> PeftConfig:
    """Return LoRA on the linear maps of the last blocks, with about as many parameters as the gate.

    Of all ranks and numbers of blocks the one nearest in size; among equals the lower rank.
    """
    wanted = sum(p.numel() for p in gate.parameters())
    costs = [
        sum(m.in_features + m.out_features for m in block.modules() if isinstance(m, nn.Linear))
        for block in base.blocks
    ]
    choices = [
        (abs(rank * sum(costs[-last:]) - wanted), rank, last)
        for last in range(1, len(costs) + 1)
        for rank in range(1, 65)
    ]
    _, rank, last = min(choices)
    inside = {module for block in base.blocks[-last:] for module in block.modules()}
    names = [
        name
        for name, module in base.model.named_modules()
        if module in inside and isinstance(module, nn.Linear)
    ]
    return LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=names)


KINDS: Mapping[str, Callable[[Base, FeedbackGate], PeftConfig]] = {"ia3": ia3, "lora": lora}


def train_rival(
    model: MetacogModel, kind: str, rows: Rows, *, rates: Sequence[float] = RATES
) -> Rival:
    """Train an adapter on the gate's rows, once for every learning rate, and return the best.

    Args:
        model: Whose gate gives the size, and whose bare base learns.
        kind: A key of `KINDS`.
        rows: The replies.
        rates: Learning rates; the lowest validation loss chooses.
    """
    assert model.gate is not None, "a rival is one of a gate."
    config = KINDS[kind](model.base, model.gate)
    bare = MetacogModel(model.base, decoding=model.decoding)
    found = [_train(bare, deepcopy(config), rows, rate) for rate in rates]
    return min(found, key=lambda rival: rival.loss)


def _train(bare: MetacogModel, config: PeftConfig, rows: Rows, rate: float) -> Rival:
    """Train at one learning rate and keep the weights that did best on validation."""
    torch.manual_seed(rows.seed)
    with _injected(bare, config) as (student, learning):
        best = Best(student.base.model, patience=rows.steps)
        optimizer = torch.optim.AdamW(learning, lr=rate, weight_decay=0.0, betas=(0.9, 0.95))
        traces = OwnTraces(rows.train, rows.validation, size=rows.batch, seed=rows.seed)
        for step in range(rows.steps):
            if step % EVERY == 0:
                best.offer(_validate(student, rows))
            for group in optimizer.param_groups:
                group["lr"] = rate * course(step, rows.steps, warmup=WARMUP, decay=DECAY)
            report = _loss(student, [trace.reply for trace in traces.batch(step)])
            optimizer.zero_grad()
            report.mean().backward()
            nn.utils.clip_grad_norm_(learning, 1.0)
            optimizer.step()
        best.offer(_validate(student, rows))
        loss = best.state().values["best_loss"]
        student.base.model.load_state_dict(best.module_of(student.base.model).state_dict())
        merged = replace(bare, base=_merged(bare.base, student.base))
    return Rival(merged, sum(p.numel() for p in learning), rate, loss)


@contextmanager
def _injected(
    bare: MetacogModel, config: PeftConfig
) -> Iterator[tuple[MetacogModel, list[nn.Parameter]]]:
    base = _copy(bare.base)
    base.model.requires_grad_(False)
    inject_adapter_in_model(config, base.model, NAME)
    learning = [p for p in base.model.parameters() if p.requires_grad]
    yield replace(bare, base=base), learning


def _copy(base: Base) -> Base:
    return replace(base, model=deepcopy(base.model))


def _merged(bare: Base, adapted: Base) -> Base:
    """Return a copy of a bare base with what its adapted copy has learned in its own weights."""
    found = _copy(bare)
    for name, module in adapted.model.named_modules():
        if isinstance(module, BaseTunerLayer):
            module.merge()
            plain = found.model.get_submodule(name)
            plain.load_state_dict(module.get_base_layer().state_dict())
    return found


def _loss(model: MetacogModel, replies: Sequence[Generation]) -> LossReport:
    return answer_loss(*reply_logits(model, reply_batch(replies, model.base.pad_id)))


@torch.no_grad()
def _validate(model: MetacogModel, rows: Rows) -> float:
    """Return the cross-entropy of the validation replies."""
    whole: LossReport | None = None
    for first in range(0, len(rows.validation), rows.batch):
        report = _loss(model, rows.validation[first : first + rows.batch])
        whole = report if whole is None else whole + report
    assert whole is not None, "a rival is chosen on validation replies."
    return float(whole.mean())
