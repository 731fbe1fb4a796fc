"""HTTP/1.1 as uvicorn speaks it, with a bound on the time that headers may take."""

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol


class BoundedHeaders(H11Protocol):
    """Closes a connection whose headers have not come in time: a slow client holds nothing up."""

    header_seconds = 10.0
    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Begin to wait for the first request's headers."""
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Read on; a request whose headers have begun must bring them to an end."""
        super().data_received(data)
        if self.conn.their_state is h11.IDLE and not self.transport.is_closing():
            self._wait()
        else:
            self._come()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing any more."""
        self._come()
        super().connection_lost(exc)

    def _wait(self) -> None:
        if self._late is None:
            self._late = self.loop.call_later(self.header_seconds, self.transport.close)

    def _come(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None


def bounded(seconds: float) -> type[H11Protocol]:
    """Return the protocol that waits this long for headers."""
    return type("Bounded", (BoundedHeaders,), {"header_seconds": seconds})
