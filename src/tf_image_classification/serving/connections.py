"""Limits on a server's connections that uvicorn lacks.

* Time limit for the headers of a request, so that slow clients do not occupy connections.
* Maximum number of connections; a further one gets an error at once.
* Time limit for reading an answer.
"""

from __future__ import annotations

import asyncio
import dataclasses
import http
import json
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

_LINGER_SECS = 1.0  # for a rejected client to read the error


@dataclasses.dataclass(frozen=True)
class ConnectionLimits:
    """Limits on connections.

    Attributes:
        max_connections: open at the same time.
        header_secs: seconds for all headers of a request.
        answer_secs: seconds for reading an answer.
    """

    max_connections: int = 512
    header_secs: float = 10.0
    answer_secs: float = 30.0


def limited_protocol(limits: ConnectionLimits) -> type[H11Protocol]:
    """Uvicorn's protocol for HTTP/1.1 with these limits."""

    class Limited(_LimitedProtocol):
        connection_limits = limits

    return Limited


class _LimitedProtocol(H11Protocol):
    connection_limits: ConnectionLimits
    _timer: asyncio.TimerHandle | None = None
    _is_refused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        limit = self.connection_limits.max_connections
        if len(self.connections) > limit:
            self.connections.discard(self)
            self._refuse(503, f"{limit} connections are open. Try again later.")
        else:
            self._start_timer()

    def data_received(self, data: bytes) -> None:
        if self._is_refused:
            return
        is_between_requests = self.cycle is None or self.cycle.response_complete
        if self._timer is None and is_between_requests:
            self._start_timer()
        super().data_received(data)

    def handle_events(self) -> None:
        before = self.cycle
        super().handle_events()
        if self.cycle is not before:  # a request whose headers are complete
            self._stop_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.get_write_buffer_size():
            answered = self.cycle
            self.loop.call_later(
                self.connection_limits.answer_secs, lambda: self._abort_unread(answered)
            )

    def _abort_unread(self, answered: Any) -> None:
        if self.cycle is answered and self.transport.get_write_buffer_size():
            self.transport.abort()

    def _start_timer(self) -> None:
        self._timer = self.loop.call_later(self.connection_limits.header_secs, self._time_is_up)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _time_is_up(self) -> None:
        secs = self.connection_limits.header_secs
        self._refuse(408, f"The request's headers did not arrive within {secs:g} s.")

    def _refuse(self, status: int, text: str) -> None:
        """Answer with an error without reading the request, then disconnect."""
        self._is_refused = True
        self._stop_timer()
        self._unset_keepalive_if_required()
        if self.transport.is_closing():
            return
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):  # it has an answer already
            self.transport.abort()
            return
        body = json.dumps({"error": text}).encode()
        headers = [
            ("content-type", "application/json"),
            ("content-length", str(len(body))),
            ("connection", "close"),
        ]
        if status == 503:
            headers.append(("retry-after", "1"))
        answer = h11.Response(
            status_code=status, headers=headers, reason=http.HTTPStatus(status).phrase.encode()
        )
        for event in (answer, h11.Data(data=body), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        # Closing at once would reset the connection before a client that still sends reads this.
        self.loop.call_later(_LINGER_SECS, self.transport.abort)
