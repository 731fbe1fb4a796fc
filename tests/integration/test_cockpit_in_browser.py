"""The cockpit in a browser: its page, who may open a terminal, and what is seen in a real Chromium."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import httpx
import pytest

from tests.integration.chromium import PROGRAM, browser

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")
_SECONDS = 60.0


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "metacog", "cockpit", "--browser", "--port", str(port)]
    place = tmp_path_factory.mktemp("here")
    log = (place / "log").open("wb")
    process = subprocess.Popen(command, cwd=place, stdout=log, stderr=log, env=os.environ.copy())
    end = time.monotonic() + _SECONDS
    while True:
        try:
            httpx.get(f"http://127.0.0.1:{port}/")
            break
        except httpx.TransportError:
            assert time.monotonic() < end
            assert process.poll() is None, (place / "log").read_text()
            time.sleep(0.1)
    yield f"127.0.0.1:{port}"
    process.terminate()
    assert process.wait(timeout=30) in {0, 130, 143}
    log.close()


def test_the_page_asks_nothing_of_another_site(address: str) -> None:
    page = httpx.get(f"http://{address}/").text
    assert f"ws://{address}/ws" in page
    assert page.count("://") == page.count(f"://{address}/")


@pytest.mark.parametrize("host", ["example.org", "example.org:8000", "127.0.0.1:1"])
def test_a_name_that_is_not_of_this_machine_is_refused(address: str, host: str) -> None:
    assert httpx.get(f"http://{address}/", headers={"Host": host}).status_code == 403


@pytest.mark.asyncio
@pytest.mark.parametrize("origin", [None, "http://example.org", "null", "https://127.0.0.1"])
async def test_a_page_of_another_site_opens_no_terminal(address: str, origin: str | None) -> None:
    headers = {} if origin is None else {"Origin": origin}
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await session.ws_connect(f"ws://{address}/ws", headers=headers)
        assert refused.value.status == 403


@pytest.mark.asyncio
async def test_a_page_of_its_own_gets_a_cockpit(address: str) -> None:
    seen = b""
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(
            f"ws://{address}/ws?width=100&height=30", headers={"Origin": f"http://{address}"}
        ) as terminal,
    ):
        while b"No run yet" not in seen:
            message = await terminal.receive(timeout=_SECONDS)
            assert message.type in {aiohttp.WSMsgType.BINARY, aiohttp.WSMsgType.TEXT}, seen
            seen += message.data if isinstance(message.data, bytes) else b""


@pytest.mark.skipif(PROGRAM is None, reason="no Chromium is installed")  # allowed: no dependency
def test_a_real_browser_shows_it(address: str, tmp_path: Path) -> None:
    with browser(tmp_path / "profile") as page:
        page.does("Page.enable")
        page.resize(1280, 800)
        page.does("Page.navigate", url=f"http://{address}/")
        page.until("document.readyState === 'complete'")
        page.until("document.body.classList.contains('-first-byte')")
        time.sleep(2)
        picture = tmp_path / "cockpit.png"
        page.picture(picture)
        assert picture.stat().st_size > 5_000
        assert page.value("document.querySelectorAll('canvas').length") > 0
