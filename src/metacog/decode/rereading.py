"""Reads the layer again inside THINK, and says what that does to the budget."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from metacog.model.reader import Reader, reread_records
from metacog.records import Rereading, RevisionKind

Schedule = Literal["lines", "every", "none"]


@dataclass(frozen=True)
class RereadSettings:
    """When THINK is read again, and whether that may lower the budget."""

    schedule: Schedule = "lines"
    """After a line or sentence end, after every few THINK tokens, or never."""
    every: int = 32
    """THINK tokens between two re-readings with `every`."""
    revise: bool = True


@dataclass(frozen=True)
class Verdict:
    """What one row's re-reading says, and what follows from it."""

    rereading: Rereading
    kind: RevisionKind | None
    """None where the budget stays as it is."""
    needed: int
    """THINK tokens still needed, rounded up."""


class Rereader:
    """Decides which rows are due, reads them, and turns what they say into verdicts."""

    def __init__(self, reader: Reader | None, settings: RereadSettings) -> None:
        self.reader, self.settings = reader, settings
        self._line_ends = np.zeros(0, dtype=bool)

    def due(self, thinking: np.ndarray, at_line_end: np.ndarray, used: np.ndarray) -> np.ndarray:
        """Return the indices of rows whose last token lies in THINK where it is to be read again."""
        if self.reader is None:
            return np.zeros(0, dtype=np.int64)
        match self.settings.schedule:
            case "lines":
                chosen = thinking & at_line_end
            case "every":
                chosen = thinking & (used % self.settings.every == 0) & (used > 0)
            case "none":
                chosen = np.zeros_like(thinking)
        return np.flatnonzero(chosen)

    def read(
        self, states: Float[Tensor, "points layers hidden"], used: Sequence[int]
    ) -> list[Verdict]:
        """Return a verdict for every row whose states are given."""
        assert self.reader is not None
        spent = torch.tensor(used, dtype=torch.float32, device=states.device)
        calibrated = self.reader.reread(states, spent)
        records = reread_records(calibrated, used)
        confident, hopeless = calibrated.confident.tolist(), calibrated.hopeless.tolist()
        needed = np.ceil(calibrated.needed_tokens.cpu().numpy()).astype(int).tolist()
        return [
            Verdict(record, self._kind(confident[row], hopeless[row]), needed[row])
            for row, record in enumerate(records)
        ]

    def _kind(self, confident: bool, hopeless: bool) -> RevisionKind | None:
        if not self.settings.revise:
            return None
        if confident:
            return RevisionKind.CONFIDENT
        return RevisionKind.HOPELESS if hopeless else RevisionKind.LOWERED
