"""HTTP/1.1 as uvicorn speaks it; headers have a bounded time, and a refusal of them arrives."""

import asyncio
import sys
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from metacog.serve.guard import refusal


class BoundedHeaders(H11Protocol):
    """Closes a connection whose headers have not come in time: a slow client holds nothing up.

    Refused headers are read and thrown away until the client ends or the same time is over. A
    connection closed with bytes unread is reset, and the reset may overtake the refusal (RFC 9112,
    section 9.6).
    """

    header_seconds = 10.0
    _late: asyncio.TimerHandle | None = None
    _refused = False

    def connection_made(self, transport: Any) -> None:
        """Begin to wait for the first request's headers."""
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Read on; a request whose headers have begun must bring them to an end."""
        if not self._refused:
            super().data_received(data)
            self._watch()

    def _watch(self) -> None:
        if self._refused:
            self._come()
            self._wait()
        elif self.conn.their_state is h11.IDLE and not self.transport.is_closing():
            self._wait()
        else:
            self._come()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002
        """Refuse what came, and close only this side: the other may still be sending."""
        error = sys.exception()
        hint = error.error_status_hint if isinstance(error, h11.RemoteProtocolError) else 400
        said = refusal(hint if hint == 431 else 400)
        events = (
            h11.Response(
                status_code=said.status_code,
                headers=[*said.raw_headers, (b"connection", b"close")],
            ),
            h11.Data(data=bytes(said.body)),
            h11.EndOfMessage(),
        )
        for event in events:
            self.transport.write(self.conn.send(event) or b"")
        self.transport.write_eof()
        self._refused = True

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
