"""Files behind http(s) URLs, read as a stream, for `datasets` to open.

`datasets` opens URLs through fsspec, whose own class needs a further package. This one uses the client
of huggingface_hub, so that proxies, time limits and HF_HUB_OFFLINE are one thing everywhere.
"""

import io
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import fsspec
from fsspec.spec import AbstractFileSystem
from huggingface_hub import get_session
from huggingface_hub.utils import (  # type: ignore[attr-defined] # re-exported, not declared
    http_backoff,
    httpx,
)

_BUFFER_BYTES = 1 << 20
_PARTIAL = 206
_ATTEMPTS = 5
_FIRST_WAIT_S = 0.1
"""Seconds before the second attempt; each further one waits twice as long."""


class HttpFile(io.RawIOBase):
    """One file on a server, read forwards; a seek opens it anew where reading goes on.

    A server that cannot begin in the middle is read from its start, and what is not wanted is dropped:
    nothing is ever held in memory but a buffer.
    """

    def __init__(self, url: str, size: int) -> None:
        super().__init__()
        self._url, self._size, self._at = url, size, 0
        self._open = ExitStack()
        self._chunks: Iterator[bytes] | None = None
        self._rest = b""

    def readable(self) -> bool:
        """Say yes."""
        return True

    def seekable(self) -> bool:
        """Say yes."""
        return True

    def tell(self) -> int:
        """Return how many bytes lie before what is read next."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Read on from another place."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        if start + offset != self._at:
            self._hang_up()
            self._at = start + offset
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Fill what fits of the buffer and return how much that is; 0 is the end.

        Raises:
            OSError: If the server gives up, also after several attempts.
        """
        wanted = min(len(buffer), max(0, self._size - self._at))
        if wanted == 0:
            return 0
        if not self._rest:
            self._rest = self._next_chunk()
        part, self._rest = self._rest[:wanted], self._rest[wanted:]
        buffer[: len(part)] = part
        self._at += len(part)
        return len(part)

    def close(self) -> None:
        """End the connection."""
        self._hang_up()
        super().close()

    def _next_chunk(self) -> bytes:
        lost: Exception | None = None
        for attempt in range(_ATTEMPTS):
            try:
                if self._chunks is None:
                    self._chunks = self._connect()
                return next(self._chunks)
            except (httpx.HTTPError, StopIteration) as error:
                lost = error
                self._hang_up()
                time.sleep(_FIRST_WAIT_S * 2**attempt)
        raise OSError(
            f"Wanted byte {self._at} of {self._size} of {self._url}, but the connection broke "
            f"{_ATTEMPTS} times: {lost!r}. Try again, or download the file and set data.path to it."
        )

    def _connect(self) -> Iterator[bytes]:
        headers = {"Range": f"bytes={self._at}-", "Accept-Encoding": "identity"}
        response = self._open.enter_context(
            get_session().stream("GET", self._url, headers=headers, follow_redirects=True)
        )
        response.raise_for_status()
        skipped = self._at if response.status_code != _PARTIAL else 0
        return _after(response.iter_bytes(_BUFFER_BYTES // 4), skipped)

    def _hang_up(self) -> None:
        self._open.close()
        self._chunks, self._rest = None, b""


def _after(chunks: Iterator[bytes], skipped: int) -> Iterator[bytes]:
    """Yield what comes after the first `skipped` bytes."""
    for chunk in chunks:
        if len(chunk) > skipped:
            yield chunk[skipped:]
        skipped = max(0, skipped - len(chunk))


class HttpFiles(AbstractFileSystem):  # type: ignore[misc] # fsspec ships no types
    """What fsspec asks of a place with files: whether one is there, how long it is, its content."""

    protocol = ("http", "https")

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return path

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        """Return name, size in bytes and version of a file.

        Raises:
            FileNotFoundError: If the server has no such file, or does not say how long it is.
        """
        response = http_backoff("HEAD", path, headers={"Accept-Encoding": "identity"})
        length = response.headers.get("Content-Length")
        if response.is_error or length is None:
            raise FileNotFoundError(
                f"Wanted a file of known length at {path}, got status {response.status_code}. "
                "Correct the URL, or download the file and set data.path to it."
            )
        version = response.headers.get("ETag") or response.headers.get("Last-Modified")
        return {"name": path, "size": int(length), "type": "file", "ETag": version}

    def ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
        """Return the one file that a URL names."""
        return [self.info(path)] if detail else [path]

    def glob(self, path: str, detail: bool = False, **_: Any) -> Any:
        """Return the one file that a URL names; its signs stand for themselves."""
        return {path: self.info(path)} if detail else [path]

    def open(self, path: str, mode: str = "rb", **_: Any) -> Any:
        """Open a file to be read, as text with a mode of `r` or `rt`."""
        raw = HttpFile(path, int(self.info(path)["size"]))
        file = io.BufferedReader(raw, _BUFFER_BYTES)
        return file if "b" in mode else io.TextIOWrapper(file)


def use_for_urls() -> None:
    """Let everything that opens URLs through fsspec in this process read them with `HttpFiles`."""
    for protocol in HttpFiles.protocol:
        fsspec.register_implementation(protocol, HttpFiles, clobber=True)
