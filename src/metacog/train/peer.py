"""TRL's `SFTTrainer` as a contender of `metacog bench train`; nothing else imports it."""

import sys
import tempfile
from contextlib import redirect_stdout
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from metacog.model.base import load_base
from metacog.train.speed import Contender, Rows, Timed, Work, clock


def trl_steps(work: Work, rows: Rows) -> Contender:
    """Return the same steps under SFTTrainer: left-padded, unpacked, in the same order."""
    base = load_base(work.path)
    tokens = sum(len(row["input_ids"]) for row in rows)

    def collate(batch: list[dict[str, list[int]]]) -> dict[str, Tensor]:
        width = max(len(row["input_ids"]) for row in batch)
        gaps = [width - len(row["input_ids"]) for row in batch]
        pairs = list(zip(gaps, batch, strict=True))
        return {
            "input_ids": torch.tensor([[base.pad_id] * gap + r["input_ids"] for gap, r in pairs]),
            "attention_mask": torch.tensor([[0] * gap + [1] * (width - gap) for gap in gaps]),
            "labels": torch.tensor([[-100] * gap + r["labels"] for gap, r in pairs]),
        }

    def run() -> Timed:
        with tempfile.TemporaryDirectory() as directory:
            trainer = _TimedTrainer(
                model=base.model,
                args=_settings(work, directory),
                train_dataset=Dataset.from_list(list(rows)),
                processing_class=base.tokenizer,
                data_collator=collate,
            )
            with redirect_stdout(sys.stderr):  # it prints; stdout is for data
                trainer.train()
        return Timed(tokens, trainer.ended - trainer.began)

    return run


def _settings(work: Work, directory: str) -> SFTConfig:
    return SFTConfig(
        output_dir=directory,
        max_steps=work.steps,
        per_device_train_batch_size=work.batch,
        learning_rate=1e-5,
        max_grad_norm=1.0,
        logging_steps=10,
        save_strategy="no",
        report_to=[],
        bf16=False,
        use_cpu=True,
        gradient_checkpointing=False,
        packing=False,
        train_sampling_strategy="sequential",
        dataset_kwargs={"skip_prepare_dataset": True},
        dataloader_pin_memory=False,
        disable_tqdm=True,
    )


class _TimedTrainer(SFTTrainer):
    """Notes when its first step began and its last one ended: what comes before and after is no step."""

    began = ended = 0.0

    def training_step(self, *arguments: Any, **named: Any) -> Any:
        """Take one step."""
        self.began = self.began or clock()
        return super().training_step(*arguments, **named)  # type: ignore[no-untyped-call]

    def train(self, *arguments: Any, **named: Any) -> Any:
        """Take all steps."""
        found = super().train(*arguments, **named)
        self.ended = clock()
        return found
