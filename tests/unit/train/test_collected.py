from pathlib import Path

import pytest

from metacog.errors import CheckpointError
from metacog.records import Generation
from metacog.telemetry.rundir import RunDir
from metacog.train.collected import Collected
from tests.unit.train.conftest import MakeRollout


@pytest.fixture
def replies(make_rollout: MakeRollout) -> list[Generation]:
    return [make_rollout(n, think=(1, 2, n)).generation for n in range(3)]


def refuse() -> list[Generation]:
    raise AssertionError("it was collected again")


def test_what_was_collected_is_read_back_equal(tmp_path: Path, replies: list[Generation]) -> None:
    found = Collected(RunDir(tmp_path), "world").replies("train", lambda: replies)
    again = Collected(RunDir(tmp_path), "world").replies("train", refuse)
    assert list(found) == list(again) == replies


def test_another_model_or_a_damaged_file_is_refused(
    tmp_path: Path, replies: list[Generation]
) -> None:
    Collected(RunDir(tmp_path), "world").replies("train", lambda: replies)
    with pytest.raises(CheckpointError, match=r"train\.json.*another base"):
        Collected(RunDir(tmp_path), "other").replies("train", refuse)
    path = tmp_path / "features" / "train.json"
    path.write_bytes(path.read_bytes().replace(b"1", b"2", 1))
    with pytest.raises(CheckpointError, match=r"train\.json.*damaged.*Remove"):
        Collected(RunDir(tmp_path), "world").replies("train", refuse)


def test_what_was_cut_short_or_removed_is_collected_again(
    tmp_path: Path, replies: list[Generation]
) -> None:
    collected = Collected(RunDir(tmp_path), "world")
    path = tmp_path / "features" / "train.json"
    path.parent.mkdir()
    path.write_bytes(b"[")
    assert collected.replies("train", lambda: replies) == replies
    path.unlink()
    assert collected.replies("train", lambda: replies[:1]) == replies[:1]
    assert list(collected.digests()) == ["features/train.json"]
