"""Malformed rows: set aside with id and reason, counted, and too many of them stop the run."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from metacog.data.rows import Row
from metacog.errors import DataError
from metacog.records import RowFault

_FEWEST_ROWS = 100
"""Rows that must have been seen before their share can stop a run."""
_EXCERPT = 200
"""Characters of a row that are kept, so that it can be found again."""


@dataclass(frozen=True)
class Tallied:
    """Rows seen, and how many of them were set aside for what."""

    seen: int = 0
    faults: Mapping[str, int] = field(default_factory=dict)

    @property
    def malformed(self) -> int:
        """Rows set aside."""
        return sum(self.faults.values())


class Quarantine:
    """Counts rows and writes the malformed ones to a file, one JSON object a line.

    Args:
        path: The file, or None to count only.
        most: Largest share of malformed rows.
    """

    def __init__(self, path: Path | None, *, most: float) -> None:
        self.path, self._most = path, most
        self.seen = 0
        """Rows so far, in order or not."""
        self._faults = Counter[str]()

    @property
    def tallied(self) -> Tallied:
        """The counts so far."""
        return Tallied(self.seen, dict(self._faults))

    def go_to(self, tallied: Tallied) -> None:
        """Count on from here; lines that were written later are taken out of the file again."""
        self.seen, self._faults = tallied.seen, Counter(tallied.faults)
        if self.path is not None and self.path.is_file():
            kept = self.path.read_text(encoding="utf-8").splitlines(keepends=True)
            self.path.write_text("".join(kept[: tallied.malformed]), encoding="utf-8")

    def passed(self) -> None:
        """Count a row that is in order."""
        self.seen += 1

    def set_aside(self, source: str, epoch: int, row: Row, fault: RowFault) -> None:
        """Write a row's id and what is wrong with it.

        Raises:
            DataError: If the share of such rows is above what is allowed.
        """
        self.seen += 1
        self._faults[fault] += 1
        if self.path is not None:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(_line(source, epoch, row, fault)) + "\n")
        if self.seen >= _FEWEST_ROWS:
            self.require_few()

    def require_few(self) -> None:
        """Refuse a share of malformed rows above what is allowed.

        Raises:
            DataError: Naming the reasons and where the rows were written.
        """
        malformed = sum(self._faults.values())
        if malformed > self._most * self.seen:
            reasons = ", ".join(f"{name} {n}" for name, n in self._faults.most_common())
            where = "" if self.path is None else f" They are in {self.path}."
            raise DataError(
                f"Wanted at most {self._most:.0%} malformed rows (data.max_malformed), got "
                f"{malformed} of {self.seen}: {reasons}.{where} Mend the data, or allow more."
            )


def _line(source: str, epoch: int, row: Row, fault: RowFault) -> dict[str, Any]:
    own = row.values.get("id")
    excerpt = json.dumps(dict(row.values), default=str)[:_EXCERPT] if row.values else None
    return {
        "source": source,
        "epoch": epoch,
        "row": row.number,
        "id": own if isinstance(own, str | int) else str(row.number),
        "reason": fault.value,
        "excerpt": excerpt,
    }
