"""Streams over real HTTP on the loopback: URLs, and the hub's own protocol for the default data set."""

import gzip
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from metacog.config import RunConfig
from metacog.data.http import HttpFile
from metacog.data.rows import RowPosition, RowStream
from metacog.data.sources import Place, Source
from metacog.errors import DataError
from tests.integration.loopback import serving
from tests.textdata import as_lines, row, rows, write_jsonl, write_parquet

ROOT = Path(__file__).parents[2]
COUNT = 300
DATASET = RunConfig().data.dataset

WRITERS: dict[str, Callable[[Path], object]] = {
    "rows.jsonl": lambda path: write_jsonl(path, rows(COUNT)),
    "rows.parquet": lambda path: write_parquet(path, rows(COUNT), group=50),
    "rows.jsonl.gz": lambda path: path.write_bytes(gzip.compress(as_lines(rows(COUNT)))),
}


def values_of(stream: RowStream, count: int = 10**9) -> list[object]:
    found: list[object] = []
    while len(found) < count and (read := stream.next_row()) is not None:
        found.append(read.values)
    return found


@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize("name", WRITERS)
def test_a_file_behind_a_url_is_streamed_also_from_a_server_without_ranges(
    name: str, ranges: bool, tmp_path: Path
) -> None:
    WRITERS[name](tmp_path / name)
    with serving(tmp_path, ranges=ranges) as server:
        stream = RowStream(Source(f"{server.url}/{name}", Place.URL))
        assert values_of(stream) == rows(COUNT)
        stream.close()
    assert {path for _, path, _ in server.asked} == {f"/{name}"}


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.parquet"])
def test_a_url_resumed_twice_gives_what_would_have_come(name: str, tmp_path: Path) -> None:
    WRITERS[name](tmp_path / name)
    found: list[object] = []
    position = RowPosition()
    with serving(tmp_path) as server:
        for count in (37, 101, COUNT):
            stream = RowStream(Source(f"{server.url}/{name}", Place.URL))
            stream.go_to(position)
            found += values_of(stream, count)
            position = RowPosition(**json.loads(json.dumps(vars(stream.position))))
            stream.close()
    assert found == rows(COUNT)


@pytest.mark.parametrize("ranges", [True, False])
def test_a_connection_that_breaks_is_taken_up_where_it_broke(ranges: bool, tmp_path: Path) -> None:
    content = b"".join(number.to_bytes(4, "big") for number in range(250_000))
    (tmp_path / "bytes.jsonl").write_bytes(content)
    with (
        serving(tmp_path, ranges=ranges, drops=2) as server,
        HttpFile(f"{server.url}/bytes.jsonl", len(content)) as file,
    ):
        assert file.read() == content
    assert len(server.asked) == 3


def test_a_connection_that_never_holds_ends_in_an_error(tmp_path: Path) -> None:
    (tmp_path / "bytes.jsonl").write_bytes(b"x")
    with (
        serving(tmp_path, drops=99) as server,
        HttpFile(f"{server.url}/bytes.jsonl", 1) as file,
        pytest.raises(OSError, match=r"byte 0 of 1 of .*broke 5 times.*set data\.path"),
    ):
        file.read()


def test_any_place_of_a_file_can_be_read(tmp_path: Path) -> None:
    content = bytes(range(200))
    (tmp_path / "bytes").write_bytes(content)
    with serving(tmp_path) as server, HttpFile(f"{server.url}/bytes", len(content)) as file:
        for at, whence, expected in ((150, 0, 150), (-20, 1, 140), (-7, 2, 193), (10, 0, 10)):
            assert file.seek(at, whence) == expected == file.tell()
            assert file.read(10) == content[expected : expected + 10]
    assert "bytes=193-" in [ranged for _, _, ranged in server.asked]


def test_a_url_without_a_file_is_refused(tmp_path: Path) -> None:
    with (
        serving(tmp_path) as server,
        pytest.raises(DataError, match=r"rows\.jsonl \(url\).*got status 404"),
    ):
        RowStream(Source(f"{server.url}/rows.jsonl", Place.URL))


STREAM_THE_HUB = """
import json, sys
from metacog.config.data import DataConfig
from metacog.data.rows import RowPosition, RowStream, find_kind
from metacog.data.sources import sources_of
(source,) = sources_of(DataConfig())
kind = find_kind(source)
values, position = [], RowPosition()
for count in (50, 80, 10**9):
    stream = RowStream(source)
    stream.go_to(position)
    while count and (row := stream.next_row()) is not None:
        values.append(row.values)
        count -= 1
    position = RowPosition(**json.loads(json.dumps(vars(stream.position))))
    stream.close()
sys.stdout.write(json.dumps([source.name, kind, values]))
"""


@pytest.mark.parametrize("name", ["train-00000.parquet", "train-00000.jsonl"])
def test_the_default_data_set_is_streamed_from_the_hub_and_resumed(
    name: str, tmp_path: Path
) -> None:
    """In a process of its own, which reads where the hub is from its environment."""
    served = tmp_path / "served"
    served.mkdir()
    WRITERS["rows" + Path(name).suffix](served / name)
    with serving(served, repository=f"datasets/{DATASET}") as server:
        environment = {
            **os.environ,
            "HF_ENDPOINT": server.url,
            "HF_HOME": str(tmp_path / "home"),
            "HF_HUB_OFFLINE": "0",
            "PYTHONPATH": str(ROOT / "src"),
        }
        done = subprocess.run(
            [sys.executable, "-c", STREAM_THE_HUB],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [DATASET, "prompt/response", rows(COUNT)]
    resolved = [path for _, path, _ in server.asked if path.endswith(name)]
    assert resolved, "rows came from the loopback"


WITHOUT_NETWORK = """
import socket, sys
def refuse(*_):
    sys.stderr.write("the network was asked\\n")
    sys.exit(3)
socket.getaddrinfo = refuse
socket.socket.connect = refuse
from metacog.data.rows import RowStream, find_kind
from metacog.data.sources import Place, Source
for name in sys.argv[1:]:
    source = Source(name, Place.LOCAL)
    find_kind(source)
    stream = RowStream(source)
    while stream.next_row() is not None:
        pass
"""


def test_local_files_ask_the_network_for_nothing(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in WRITERS]
    for path in paths:
        WRITERS[path.name](path)
    environment = {**os.environ, "HF_HUB_OFFLINE": "0", "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_NETWORK, *map(str, paths)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


MEASURE_MEMORY = """
import os, sys
from itertools import islice
from pathlib import Path
from metacog.data.encode import Encoder
from metacog.data.quarantine import Quarantine
from metacog.data.rows import find_kind
from metacog.data.sources import Place, Source
from metacog.data.stream import ExampleStream, StreamSettings
from metacog.text.resolve import resolve_tags
from metacog.text.tokenizer import build_tokenizer
tokenizer = build_tokenizer([["What is 3 + 4?"]], ["3 + 4 = 7"])
encoder = Encoder(tokenizer, closer=resolve_tags(tokenizer).think_close, context=4000)
source = Source(sys.argv[1], Place.URL)
settings = StreamSettings(shuffle_buffer=50)
stream = ExampleStream([(source, find_kind(source))], encoder, Quarantine(None, most=0.1), settings)
for number, drawn in enumerate(islice(stream, 3000)):
    if number in (299, 2999):
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        sys.stdout.write(f"{pages * os.sysconf('SC_PAGE_SIZE') // 1024}\\n")
"""


@pytest.mark.skipif(not Path("/proc/self/statm").is_file(), reason="Linux tells what is in use")
def test_memory_stays_flat_on_a_stream_ten_times_as_long(tmp_path: Path) -> None:
    padding = "x" * 10_000
    values = [{**row(n), "unused": padding} for n in range(4000)]
    write_jsonl(tmp_path / "rows.jsonl", values)
    with serving(tmp_path) as server:
        done = subprocess.run(
            [sys.executable, "-c", MEASURE_MEMORY, f"{server.url}/rows.jsonl"],
            env={**os.environ, "HF_HUB_OFFLINE": "0", "PYTHONPATH": str(ROOT / "src")},
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    early, late = (int(line) for line in done.stdout.split())
    assert late - early < 15_000, "KiB; the stream itself holds 30 MB more by then"
