"""Trains a small base from scratch on traces of verifiable questions."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count, islice
from pathlib import Path
from random import Random
from typing import Any

import torch
from torch._dynamo import config as dynamo
from torch.nn.functional import cross_entropy

from metacog.config.objective import PretrainObjective, PretrainStage
from metacog.config.run import RunConfig
from metacog.data.collate import TokenBatch, left_padded
from metacog.data.tasks.corpus import Corpus, CorpusMix, bucketed
from metacog.data.tasks.families import FAMILIES, NUM_LEVELS
from metacog.data.tasks.questions import stream_questions
from metacog.data.tasks.splits import Split
from metacog.data.tasks.traces import choose_plan, think
from metacog.errors import ConfigError, RunError
from metacog.losses.combine import LossName
from metacog.losses.report import LossReport
from metacog.model.base import load_base
from metacog.model.learner import Learner
from metacog.model.scratch import untrained_base
from metacog.text.tokenizer import Tokenizer, build_tokenizer
from metacog.train.gated import padding_tallies
from metacog.train.optim import Group, Optimizers, matrices_and_rest
from metacog.train.result import Counts, StepResult
from metacog.train.state import State

_VOCABULARY_SEED = 1
_STAGE_STRIDE = 1000
"""Distance between the seeds of two stages."""


class Pretraining:
    """The objective `pretrain`: cross-entropy on thinking and answers, Muon on the matrices."""

    is_finished = False

    def __init__(self, config: RunConfig, objective: PretrainObjective) -> None:
        check_mix(objective)
        self._config, self._objective = config, objective
        torch.manual_seed(config.run.seed)
        if objective.start is None:
            self.tokenizer = vocabulary(objective.vocabulary_questions)
            self.model = untrained_base(self.tokenizer, objective)
        else:
            base = load_base(Path(objective.start))
            assert isinstance(base.tokenizer, Tokenizer)
            self.tokenizer, self.model = base.tokenizer, base.model.train()
        matrices, rest = matrices_and_rest(self.model.named_parameters())
        rate, decay = objective.matrix_learning_rate, config.run.weight_decay
        self.optimizers = Optimizers(
            [
                Group("matrices", matrices, rate, decay, matrices=True),
                Group("rest", rest, config.run.learning_rate),
            ]
        )
        self._body: Callable[..., Any] = self.model.base_model
        if objective.compiled:
            dynamo.recompile_limit = objective.longest // objective.length_step + 1
            self._body = torch.compile(self._body, dynamic=False)

    def batches(self, start: int) -> Iterator[TokenBatch]:
        """Yield batches of rows of like length, the one of step `start` first."""
        stages = self._objective.stages
        ends = [stage.from_step for stage in stages[1:]] + [self._config.run.steps]
        for place, (stage, end) in enumerate(zip(stages, ends, strict=True)):
            if end > start:
                skipped = max(0, start - stage.from_step)
                length = end - stage.from_step
                yield from islice(self._stage(place), skipped, length)

    def parts(self, batch: TokenBatch) -> list[TokenBatch]:
        """Return the batch: it passes in one go."""
        return [batch]

    def examples(self, batch: TokenBatch) -> list[str]:
        """Return each row's text."""
        rows = zip(batch.ids, batch.mask.bool(), strict=True)
        return [str(self.tokenizer.decode(row[real].tolist())) for row, real in rows]

    def counts(self, _parts: Sequence[TokenBatch]) -> None:
        """There is only ever one part."""

    def learner(self) -> Learner:
        """Return the base."""
        return Learner(base=self.model)

    @contextmanager
    def step(
        self,
        batch: TokenBatch,
        _counts: Counts | None = None,
        _learner: Learner | None = None,  # one process holds it, so it is the same
    ) -> Iterator[StepResult]:
        """Give the weighted cross-entropy of a batch."""
        report = self._report(batch, self._body)
        reports, weights = {LossName.ANSWER: report}, {LossName.ANSWER: 1.0}
        tallies = padding_tallies(batch.mask.bool())
        yield StepResult(report.mean(), reports, weights, batch.ids.numel(), tallies=tallies)

    @torch.no_grad()
    def evaluate(self) -> Mapping[str, float]:
        """Return the mean loss on validation questions."""
        size = self._objective.chunk // 20
        batches = self._chunk(Split.VALIDATION, len(self._objective.stages) - 1, 0, size)
        # Without gradients the compiled model would be compiled once more for every length.
        losses = [float(self._report(batch, self.model.base_model).mean()) for batch in batches]
        return {"eval/validation/loss": sum(losses) / len(losses)} if losses else {}

    def state(self) -> State:
        """Return nothing: all batches follow from seed and step."""
        return State({}, {})

    def load_state(self, _state: State) -> None:
        """There is nothing to take up."""

    def save(self, directory: Path, *, whole: bool = True) -> None:  # noqa: ARG002 - always whole
        """Write a standard model directory."""
        self.model.save_pretrained(directory)
        self.tokenizer.save_pretrained(directory)

    def _stage(self, place: int) -> Iterator[TokenBatch]:
        for index in count():
            before = None
            for before in self._chunk(Split.BASE_TRAIN, place, index, self._objective.chunk):
                yield before
            if before is None:
                raise RunError(
                    f"Wanted a batch of {self._objective.batch_tokens} tokens, but no length of "
                    f"{self._objective.chunk} examples fills one. Raise run.objective.chunk."
                )

    def _chunk(self, split: Split, place: int, index: int, size: int) -> Iterator[TokenBatch]:
        seed = self._config.run.seed + _STAGE_STRIDE * place
        mix = _mix(self._objective, self._objective.stages[place])
        rows = Corpus(self.tokenizer, mix, split=split, seed=seed).chunk(index, size)
        shuffled = bucketed(
            rows,
            step=self._objective.length_step,
            longest=self._objective.longest,
            tokens=self._objective.batch_tokens,
            rng=Random(f"{seed}/{index}"),
        )
        for length, group in shuffled:
            yield left_padded(group, length, self.tokenizer.pad_token_id)

    def _report(self, batch: TokenBatch, body: Callable[..., Any]) -> LossReport:
        low = self._config.model.precision == "bf16"
        with torch.autocast("cpu", torch.bfloat16, enabled=low):
            states = body(
                input_ids=batch.ids,
                attention_mask=batch.mask,
                position_ids=batch.positions,
                use_cache=False,
            ).last_hidden_state[:, :-1]
            weights = batch.weights[:, 1:]
            chosen = weights > 0
            logits = self.model.get_output_embeddings()(states[chosen])
        losses = cross_entropy(logits.float(), batch.ids[:, 1:][chosen], reduction="none")
        return LossReport((losses * weights[chosen]).sum(), weights.sum())


def check_mix(objective: PretrainObjective) -> None:
    """Refuse a mixture of families or levels that there are not.

    Raises:
        ConfigError: Naming the key, what it may hold, and what to do.
    """
    for place, stage in enumerate(objective.stages):
        named = {
            "family_weights": stage.family_weights,
            "direct_families": stage.direct_families or (),
        }
        for key, names in named.items():
            if unknown := sorted(set(names) - set(FAMILIES)):
                raise ConfigError(
                    f"Wanted run.objective.stages.{place}.{key} among {', '.join(FAMILIES)}, got "
                    f"{', '.join(unknown)}. Correct the names."
                )
    if len(objective.level_weights) != NUM_LEVELS:
        raise ConfigError(
            f"Wanted run.objective.level_weights for the {NUM_LEVELS} levels, got "
            f"{len(objective.level_weights)}. Give each level a weight."
        )


def vocabulary(per_family: int) -> Tokenizer:
    """Return the tokenizer built from this many questions of each family and their traces."""
    rng = Random(_VOCABULARY_SEED)
    questions: list[list[str]] = []
    traces: list[str] = []
    for name in FAMILIES:
        stream = stream_questions(Split.BASE_TRAIN, seed=_VOCABULARY_SEED, families=[name])
        drawn = [next(stream) for _ in range(per_family)]
        questions.append([question.text for question in drawn])
        for question in drawn:
            pieces = think(question.lines, choose_plan(question.lines, rng), rng)
            traces += [piece.text for piece in pieces] + [question.answer]
    return build_tokenizer(questions, traces)


def _mix(objective: PretrainObjective, stage: PretrainStage) -> CorpusMix:
    weights = {name: stage.family_weights.get(name, 0.0) for name in FAMILIES}
    direct = stage.direct_families
    return CorpusMix(
        family_weights=weights if any(weights.values()) else dict.fromkeys(FAMILIES, 1.0),
        level_weights=objective.level_weights,
        direct_families=None if direct is None else frozenset(direct),
        cut_share=objective.cut_share,
        cut_at_line_share=objective.cut_at_line_share,
        cut_answer_weight=objective.cut_answer_weight,
    )
