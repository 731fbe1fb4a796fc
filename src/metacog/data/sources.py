"""Where rows come from: a hub data set, a local file or folder, or a URL, opened by one function.

`datasets` streams them all. Lines of JSON are read as lines and parsed later, so that one bad line is
one bad row; rows come as Arrow, so that one bad string is one bad row, too.
"""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path, PurePosixPath
from typing import Any

from datasets import Dataset, IterableDataset, load_dataset
from datasets import config as datasets_config
from datasets.data_files import DataFilesDict, get_data_patterns
from fsspec.core import url_to_fs
from huggingface_hub import is_offline_mode
from huggingface_hub.utils import httpx  # type: ignore[attr-defined] # re-exported, not declared

from metacog.config.data import DataConfig
from metacog.data.fingerprint import fingerprint
from metacog.data.http import use_for_urls
from metacog.errors import DataError

LINES = "text"
"""The builder of files that hold a JSON object a line."""

_BUILDERS = {".jsonl": LINES, ".ndjson": LINES, ".json": "json", ".parquet": "parquet"}
_PACKED = (".gz", ".bz2", ".xz", ".zst")
_SETTINGS: dict[str, dict[str, Any]] = {
    # Every byte is a character of latin-1, so that lines come through whatever their bytes are.
    LINES: {"encoding": "latin-1", "chunksize": 1 << 20},
    "parquet": {"batch_size": 256},
    "json": {},
}
UNREADABLE = (OSError, ValueError, LookupError, httpx.HTTPError)
"""What is raised where a data set is not there, or not what its name says."""


# Else `load_dataset` tells a server of every data set, of local files too.
datasets_config.HF_UPDATE_DOWNLOAD_COUNTS = False


class Place(StrEnum):
    """Where a source lies."""

    HUB = "hub"
    URL = "url"
    LOCAL = "local"


@dataclass(frozen=True)
class Source:
    """A data set that is read from."""

    name: str
    """Hub id, URL or path."""
    place: Place
    split: str = "train"
    domain: str | None = None
    weight: float = 1.0
    streaming: bool = True
    limit: int | None = None
    """Most rows to read in one pass, over all processes together."""


@dataclass(frozen=True)
class Opened:
    """A source's rows as Arrow tables of one row, and whether each holds a line of JSON."""

    dataset: IterableDataset
    is_lines: bool
    fingerprint: str = ""
    """Names and sizes of its files, of local ones what is in them too; empty for the hub."""


def sources_of(config: DataConfig) -> tuple[Source, ...]:
    """Return the data sets that a configuration names."""
    if config.mixture:
        return tuple(
            _source(config, part.path, part.dataset, part.split, part.domain, part.weight)
            for part in config.mixture
        )
    return (_source(config, config.path, config.dataset, config.split, None, 1.0),)


def _source(
    config: DataConfig,
    path: str | None,
    dataset: str | None,
    split: str,
    domain: str | None,
    weight: float,
) -> Source:
    place = Place.HUB
    if path is not None:
        place = Place.URL if path.startswith(("http://", "https://")) else Place.LOCAL
    name = dataset if path is None else path
    assert name is not None, "the schema wants a data set or a path"
    return Source(name, place, split, domain, weight, config.streaming, config.sample_limit)


def open_source(source: Source) -> Opened:
    """Open a source; nothing but its first bytes is read, and nothing local asks the network.

    Raises:
        DataError: If it is not there, holds no file that can be read, or is on the network while
            HF_HUB_OFFLINE forbids it.
    """
    _refuse_offline(source)
    try:
        match source.place:
            case Place.HUB:
                found = load_dataset(source.name, split=source.split, streaming=source.streaming)
                return Opened(_as_tables(found), is_lines=False)
            case Place.URL:
                use_for_urls()
                return _open_files(source, [source.name])
            case Place.LOCAL:
                return _open_files(source, _local_files(source))
    except UNREADABLE as error:
        raise DataError(
            f"Wanted to read the split {source.split!r} of {source.name} ({source.place}), but: "
            f"{error} Correct data.dataset, data.path or data.split, or set data.path to a local "
            "file or folder."
        ) from error


def _refuse_offline(source: Source) -> None:
    # What was loaded as a whole before may lie in the cache, and is looked for there.
    cached = source.place is Place.HUB and not source.streaming
    if source.place is not Place.LOCAL and not cached and is_offline_mode():
        raise DataError(
            f"Wanted to stream {source.name} ({source.place}), but HF_HUB_OFFLINE=1 forbids the "
            "network. Set data.path to a local file or folder, or unset HF_HUB_OFFLINE."
        )


def _open_files(source: Source, files: list[str]) -> Opened:
    builders = {name: _builder_of(name) for name in files}
    found = sorted({builder for builder in builders.values() if builder is not None})
    if len(found) != 1 or None in builders.values():
        raise DataError(
            f"Wanted files of one kind ({', '.join(_BUILDERS)}, or packed as {', '.join(_PACKED)}) "
            f"in {source.name}, got {', '.join(sorted(map(_short, files))) or 'none'}. Keep one kind "
            "there, or name one file in data.path."
        )
    (builder,) = found
    dataset = load_dataset(
        builder,
        data_files={source.split: files},
        split=source.split,
        streaming=source.streaming,
        **_SETTINGS[builder],
    )
    known = [_fingerprint(source, name) for name in files]
    return Opened(_as_tables(dataset), builder == LINES, " ".join(known))


def _fingerprint(source: Source, file: str) -> str:
    if source.place is Place.LOCAL:
        return fingerprint(Path(file))
    return f"{_short(file)}:{url_to_fs(file)[0].size(file)}"


def _as_tables(dataset: Dataset | IterableDataset) -> IterableDataset:
    streamed = dataset.to_iterable_dataset() if isinstance(dataset, Dataset) else dataset
    return streamed.with_format("arrow")


def _builder_of(file: str) -> str | None:
    name = PurePosixPath(file.partition("?")[0])
    return _BUILDERS.get((name.with_suffix("") if name.suffix in _PACKED else name).suffix)


def _short(file: str) -> str:
    return PurePosixPath(file).name


def _local_files(source: Source) -> list[str]:
    """Return the files of a split; in a folder, names tell which split a file belongs to.

    Raises:
        DataError: If there is no such path, or no such split in the folder.
    """
    path = Path(source.name)
    if path.is_file():
        return [str(path)]
    if not path.is_dir():
        raise DataError(
            f"Wanted a file or folder at {source.name}, got none. Correct data.path; a data set of "
            "the hub goes into data.dataset."
        )
    readable = [*_BUILDERS, *_PACKED]
    try:
        patterns = get_data_patterns(str(path.absolute()))
    except FileNotFoundError:
        patterns = {}
    splits = DataFilesDict.from_patterns(
        patterns, base_path=str(path.absolute()), allowed_extensions=readable
    )
    if not splits.get(source.split):
        named = [str(name) for name, files in splits.items() if files]
        raise DataError(
            f"Wanted files ({', '.join(_BUILDERS)}) of the split {source.split!r} in {path}, found "
            f"{'the splits ' + ', '.join(named) if named else 'none'}. Correct data.split or data.path."
        )
    return [str(file) for file in splits[source.split]]
