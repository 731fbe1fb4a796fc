"""Rows of text for tests, small and own, and files that hold them."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pyarrow
import pyarrow.parquet


def row(number: int, *, words: int = 3) -> dict[str, str]:
    """A sum as a row of `prompt` and `response`, its thinking as long as asked for."""
    thought = " ".join(f"{number} plus {n}" for n in range(words))
    return {
        "prompt": f"What is {number} + {words}?",
        "response": f"<think>\n{thought}\n</think>\n\n{number + words}",
    }


def rows(count: int, *, start: int = 0) -> list[dict[str, str]]:
    return [row(number) for number in range(start, start + count)]


def as_lines(values: Iterable[object]) -> bytes:
    return b"".join(json.dumps(value).encode() + b"\n" for value in values)


def write_jsonl(path: Path, values: Iterable[object]) -> Path:
    path.write_bytes(as_lines(values))
    return path


def write_parquet(path: Path, values: Sequence[Mapping[str, object]], *, group: int = 64) -> Path:
    table = pyarrow.Table.from_pylist([dict(value) for value in values])
    pyarrow.parquet.write_table(table, path, row_group_size=group, compression="none")
    return path
