"""The cockpit in a browser on this machine: a terminal of its own for every page that is opened."""

import shlex
import sys
from pathlib import Path
from typing import Any

from aiohttp import web
from textual_serve.server import Server

HOST = "127.0.0.1"
_PAGES = Path(__file__).with_name("web")
"""A page of our own: the one that comes along asks another site for a font."""


class BrowserServer(Server):
    """Serves the cockpit to this machine's browser, and to no page of another site.

    A cockpit starts and stops processes. Any site that is open in the same browser could reach a
    port of this machine, so only pages that came from here may open a terminal, and only under
    names of this machine, which a site cannot take for its own (DNS rebinding).

    Args:
        port: That it listens to.
    """

    def __init__(self, port: int) -> None:
        command = shlex.join([sys.executable, "-m", "metacog", "cockpit"])
        super().__init__(command, host=HOST, port=port, title="metacog", templates_path=_PAGES)
        self._names = {f"{HOST}:{port}", f"localhost:{port}"}

    async def on_startup(self, app: web.Application) -> None:
        """Say where it is."""
        del app
        self.console.print(f"The cockpit is at http://{HOST}:{self.port}. Ctrl+C ends it.")

    async def handle_index(self, request: web.Request) -> Any:
        """Give the page, addressed as the browser addressed it."""
        self._refuse_other_names(request)
        self.public_url = f"http://{request.host}"
        return await super().handle_index(request)

    async def handle_websocket(self, request: web.Request) -> web.WebSocketResponse:
        """Open a terminal for a page that came from here."""
        self._refuse_other_names(request)
        if request.headers.get("Origin") not in {f"http://{name}" for name in self._names}:
            raise web.HTTPForbidden(text="Wanted a page of this server. Open its own address.")
        return await super().handle_websocket(request)

    def _refuse_other_names(self, request: web.Request) -> None:
        if request.host not in self._names:
            names = " or ".join(sorted(self._names))
            raise web.HTTPForbidden(text=f"Wanted the address {names}. Open that.")


def serve(port: int) -> None:
    """Serve until a signal stops it."""
    BrowserServer(port).serve()
