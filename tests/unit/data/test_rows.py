"""Rows of files, with `datasets` itself reading them."""

import gzip
import json
from pathlib import Path

import pytest

from metacog.data.rows import Row, RowPosition, RowStream, find_kind
from metacog.data.schema import RowKind
from metacog.data.sources import Place, Source
from metacog.errors import DataError
from metacog.records import RowFault
from tests.textdata import as_lines, row, rows, write_jsonl, write_parquet

COUNT = 200


def source(path: Path, **settings: object) -> Source:
    return Source(str(path), Place.LOCAL, **settings)


def one_pass(stream: RowStream) -> list[Row]:
    found = []
    while (row := stream.next_row()) is not None:
        found.append(row)
    return found


@pytest.fixture(params=["jsonl", "parquet", "folder", "json", "jsonl.gz"])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The same rows in files of every kind."""
    match request.param:
        case "jsonl":
            return write_jsonl(tmp_path / "rows.jsonl", rows(COUNT))
        case "parquet":
            return write_parquet(tmp_path / "rows.parquet", rows(COUNT))
        case "json":
            path = tmp_path / "rows.json"
            path.write_text(json.dumps(rows(COUNT)), encoding="utf-8")
            return path
        case "jsonl.gz":
            path = tmp_path / "rows.jsonl.gz"
            path.write_bytes(gzip.compress(as_lines(rows(COUNT))))
            return path
        case _:
            for part in range(4):
                write_parquet(
                    tmp_path / f"train-{part}.parquet", rows(COUNT // 4, start=part * COUNT // 4)
                )
            write_parquet(tmp_path / "test.parquet", rows(3, start=900))
            (tmp_path / "README.md").write_text("About these rows.", encoding="utf-8")
            return tmp_path


def test_every_kind_of_file_gives_the_same_rows(files: Path) -> None:
    stream = RowStream(source(files))
    found = one_pass(stream)
    assert [row.values for row in found] == rows(COUNT)
    assert [row.number for row in found] == list(range(COUNT))
    assert stream.epoch == 1
    assert find_kind(source(files)) is RowKind.RESPONSE


def test_a_stream_that_is_not_streamed_gives_the_same_rows(
    files: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path_factory.mktemp("cache")))
    loaded = RowStream(source(files, streaming=False))
    assert [row.values for row in one_pass(loaded)] == rows(COUNT)


@pytest.mark.parametrize("world", [1, 2, 3])
def test_a_stream_resumed_again_and_again_gives_just_the_same_rows(files: Path, world: int) -> None:
    for rank in range(world):
        straight = RowStream(source(files), rank=rank, world_size=world)
        whole = [straight.next_row() for _ in range(2 * COUNT)]
        found: list[Row | None] = []
        position = RowPosition()
        for steps in (1, 6, 63, 64, 65, 150):
            stream = RowStream(source(files), rank=rank, world_size=world)
            stream.go_to(position)
            found += [stream.next_row() for _ in range(steps)]
            written = json.loads(json.dumps(vars(stream.position)))
            position = RowPosition(**written)
        assert found == whole[: len(found)]


@pytest.mark.parametrize("world", [2, 3, 5])
def test_processes_share_the_rows_out(files: Path, world: int) -> None:
    shares = [
        {
            json.dumps(row.values)
            for row in one_pass(RowStream(source(files), rank=r, world_size=world))
        }
        for r in range(world)
    ]
    assert sum(map(len, shares)) == COUNT
    assert set().union(*shares) == {json.dumps(row) for row in rows(COUNT)}


@pytest.mark.parametrize("world", [1, 3])
def test_a_limit_counts_the_rows_of_all_processes(files: Path, world: int) -> None:
    streams = [RowStream(source(files, limit=10), rank=r, world_size=world) for r in range(world)]
    assert sum(len(one_pass(stream)) for stream in streams) == 10


def test_files_come_in_another_order_in_the_next_pass(tmp_path: Path) -> None:
    for part in range(8):
        write_jsonl(tmp_path / f"part-{part}.jsonl", rows(2, start=2 * part))
    stream = RowStream(source(tmp_path))
    first, second = one_pass(stream), one_pass(stream)
    assert [r.values for r in first] != [r.values for r in second]
    assert {r.values["prompt"] for r in first} == {r.values["prompt"] for r in second}


def test_one_bad_line_is_one_bad_row(tmp_path: Path) -> None:
    good = json.dumps(row(1), ensure_ascii=False).encode()
    lines = [good, b'{"prompt": "\xff\xfe"}', b"{torn", b"[1, 2]", b"", b"7", b"[" * 100_000]
    path = tmp_path / "rows.jsonl"
    path.write_bytes("\ufeff".encode() + b"\n".join([*lines, '{"prompt": "é\u2028x"}'.encode()]))
    found = one_pass(RowStream(source(path)))
    unreadable = RowFault.UNREADABLE
    faults = [None, RowFault.INVALID_UTF8, unreadable, unreadable, unreadable, unreadable, None]
    assert [row.fault for row in found] == faults
    assert found[0].values == row(1)
    assert found[-1].values == {"prompt": "é\u2028x"}
    assert found[4].number == 5, "an empty line is no row, but keeps its number"


def test_one_bad_string_in_parquet_is_one_bad_row(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "rows.parquet", rows(3))
    damaged = path.read_bytes().replace(b"What is 1 + 3?", b"What is \xff + 3?")
    assert damaged != path.read_bytes()
    path.write_bytes(damaged)
    found = one_pass(RowStream(source(path)))
    assert [row.fault for row in found] == [None, RowFault.INVALID_UTF8, None]


@pytest.mark.parametrize(
    ("name", "split", "message"),
    [
        ("none.jsonl", "train", "a file or folder at .*none.jsonl, got none"),
        ("notes.txt", "train", "files of one kind .*got notes.txt"),
        ("mixed", "train", "files of one kind .*got a.jsonl, b.parquet"),
        ("empty", "train", "of the split 'train' in .*empty, found none"),
        ("split", "validation", "of the split 'validation' in .*found the splits train, test"),
        ("damaged.parquet", "train", "Wanted to read the split 'train' of .*damaged.parquet"),
        ("blank.jsonl", "train", "Wanted rows in .*blank.jsonl, found none"),
        ("other.jsonl", "train", "found instruction, output. Rename"),
    ],
)
def test_what_cannot_be_read_is_refused(
    name: str, split: str, message: str, tmp_path: Path
) -> None:
    (tmp_path / "notes.txt").write_text("a\n", encoding="utf-8")
    (tmp_path / "damaged.parquet").write_bytes(b"PAR1 no PAR1")
    (tmp_path / "blank.jsonl").write_text("\n\n", encoding="utf-8")
    write_jsonl(tmp_path / "other.jsonl", [{"instruction": "a", "output": "b"}])
    for folder in ("mixed", "empty", "split"):
        (tmp_path / folder).mkdir()
    write_jsonl(tmp_path / "mixed" / "a.jsonl", rows(1))
    write_parquet(tmp_path / "mixed" / "b.parquet", rows(1))
    write_jsonl(tmp_path / "split" / "train.jsonl", rows(1))
    write_jsonl(tmp_path / "split" / "test.jsonl", rows(1))
    with pytest.raises(DataError, match=message):
        find_kind(source(tmp_path / name, split=split))


def test_a_file_that_goes_away_is_an_error_of_the_data(tmp_path: Path) -> None:
    for part in range(2):
        write_jsonl(tmp_path / f"part-{part}.jsonl", rows(2))
    stream = RowStream(source(tmp_path))
    assert stream.next_row() is not None
    (tmp_path / "part-1.jsonl").unlink()
    with pytest.raises(DataError, match=r"Wanted row 2 of .*try again"):
        one_pass(stream)


@pytest.mark.parametrize(
    ("name", "place"), [("someone/rows", Place.HUB), ("http://127.0.0.1:9/a.jsonl", Place.URL)]
)
def test_offline_nothing_on_the_network_is_opened(
    name: str, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(DataError, match=r"HF_HUB_OFFLINE=1 forbids.*Set data\.path to a local"):
        find_kind(Source(name, place))
