"""A headless Chromium, spoken to over its debugging pipe."""

import base64
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PROGRAM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
SECONDS = 60


class Page:
    """One tab.

    Args:
        write: End of the pipe that commands go into.
        read: End of the pipe that answers come from.
    """

    def __init__(self, write: int, read: int) -> None:
        self._out, self._in = write, os.fdopen(read, "rb")
        self._number, self._session = 0, ""
        target = self.does("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.does("Target.attachToTarget", targetId=target, flatten=True)[
            "sessionId"
        ]

    def does(self, method: str, **params: Any) -> Any:
        """Return what a command of the protocol answers."""
        self._number += 1
        said: dict[str, Any] = {"id": self._number, "method": method, "params": params}
        if self._session:
            said["sessionId"] = self._session
        os.write(self._out, json.dumps(said).encode() + b"\0")
        while True:
            answer = json.loads(self._message())
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]

    def value(self, script: str) -> Any:
        """Return the value of an expression on the page."""
        found = self.does("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def until(self, script: str) -> Any:
        """Return an expression's value once it is something."""
        end = time.monotonic() + SECONDS
        while not (found := self.value(script)):
            assert time.monotonic() < end, script
            time.sleep(0.1)
        return found

    def resize(self, width: int, height: int) -> None:
        """Look at the page at another size."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.does("Emulation.setDeviceMetricsOverride", **size)

    def picture(self, path: Path) -> None:
        """Save what is seen."""
        path.write_bytes(base64.b64decode(self.does("Page.captureScreenshot")["data"]))

    def _message(self) -> bytes:
        parts = bytearray()
        while (byte := self._in.read(1)) != b"\0":
            assert byte, "the browser has gone"
            parts += byte
        return bytes(parts)


@contextmanager
def browser(profile: Path) -> Iterator[Page]:
    """Yield a tab of a browser that ends with the block."""
    to_read, to_write = os.pipe()
    from_read, from_write = os.pipe()
    options = "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-component-update --disable-sync --remote-debugging-pipe"
    command = f"exec {PROGRAM} {options} --user-data-dir={profile} 3<&{to_read} 4>&{from_write}"
    process = subprocess.Popen(
        ["bash", "-c", command],
        pass_fds=(to_read, from_write),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(to_read)
    os.close(from_write)
    try:
        yield Page(to_write, from_read)
    finally:
        process.kill()
        process.wait()
        os.close(to_write)
