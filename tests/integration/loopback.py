"""A file server on this machine's loopback: plain files under /, and what a hub says of a data set or model."""

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Loopback(ThreadingHTTPServer):
    """A server that runs, and what it was asked for.

    Args:
        folder: What is served; it holds files only.
        ranges: Whether requests may begin in the middle of a file.
        repository: Kind and name on the hub, as `datasets/owner/name` or `models/owner/name`, or empty.
        drops: Answers to break off in the middle.
    """

    daemon_threads = True

    def __init__(self, folder: Path, *, ranges: bool, repository: str, drops: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder, self.ranges, self.repository, self.drops = folder, ranges, repository, drops
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.asked: list[tuple[str, str, str | None]] = []
        """Method, path and range of each request."""

    def handle_error(self, *_: object) -> None:
        """Say nothing where a client hangs up."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Loopback

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path, server = self.path.partition("?")[0], self.server
        server.asked.append((self.command, path, self.headers.get("Range")))
        api, name = f"/api/{server.repository}", server.repository.partition("/")[2]
        if server.repository and re.fullmatch(f"{api}/tree/[^/]+", path):
            self._send_json(_entries(server.folder))
        elif server.repository and (path == api or path.startswith(f"{api}/revision/")):
            names = [{"rfilename": entry["path"]} for entry in _entries(server.folder)]
            known = {"id": name, "sha": COMMIT, "private": False, "siblings": names}
            self._send_json(known)
        else:
            at = server.repository.removeprefix("models/")
            resolved = f"/{at}/resolve/[^/]+/"
            self._send_file(server.folder / re.sub(resolved, "/", path).lstrip("/"))

    def _send_json(self, value: object) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _send_file(self, file: Path) -> None:
        if not file.is_file():
            self._send(404, b"{}", {"X-Error-Code": "EntryNotFound"})
            return
        content, status = file.read_bytes(), 200
        headers = {"ETag": f'"{_digest(file)}"', "X-Repo-Commit": COMMIT}
        wanted = self.headers.get("Range") if self.server.ranges else None
        if wanted is not None:
            first, last = wanted.removeprefix("bytes=").split("-")
            end = min(int(last) + 1 if last else len(content), len(content))
            headers["Content-Range"] = f"bytes {first}-{end - 1}/{len(content)}"
            content, status = content[int(first) : end], 206
        self._send(status, content, headers)

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if self.server.drops and status in {200, 206}:
            self.server.drops -= 1
            body, self.close_connection = body[: len(body) // 2], True
        try:
            self.wfile.write(body)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True


@contextmanager
def serving(
    folder: Path, *, ranges: bool = True, repository: str = "", drops: int = 0
) -> Iterator[Loopback]:
    """Serve a folder until the block is left, also as that repository of a hub."""
    server = Loopback(folder, ranges=ranges, repository=repository, drops=drops)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _entries(folder: Path) -> list[dict[str, object]]:
    return [
        {
            "type": "file",
            "path": file.relative_to(folder).as_posix(),
            "size": file.stat().st_size,
            "oid": _digest(file),
        }
        for file in sorted(folder.iterdir())
    ]


def _digest(file: Path) -> str:
    return hashlib.sha1(file.read_bytes()).hexdigest()
