"""F5: GGUF is not read, so a directory that holds only that is refused for what it is."""

from pathlib import Path

import pytest

from metacog.errors import ModelError
from metacog.model.bundle import load_model
from tests.faults.hostile import WEIGHTS, copied


def test_a_directory_with_gguf_alone(tiny_directory: Path, tmp_path: Path) -> None:
    hostile = copied(tiny_directory, tmp_path)
    (hostile / WEIGHTS).unlink()
    (hostile / "model.Q4_K_M.gguf").write_bytes(b"GGUF" + b"\xff" * 100)
    with pytest.raises(ModelError, match=r"model\.Q4_K_M\.gguf, which is never read\. Name a"):
        load_model(hostile)


def test_gguf_beside_safetensors_is_left_alone(tiny_directory: Path, tmp_path: Path) -> None:
    hostile = copied(tiny_directory, tmp_path)
    (hostile / "model.gguf").write_bytes(b"GGUF" + b"\xff" * 100)
    assert load_model(hostile).base.digest == load_model(tiny_directory).base.digest
