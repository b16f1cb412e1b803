"""A connection as uvicorn reads it, with a bound on what comes before, between and after bodies."""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from .answers import STALLED_SECONDS

MOST_HEAD = 1 << 16  # bytes


class Connection(HttpToolsProtocol):
    """Ends where a head is too long, or does not end in a minute.

    uvicorn bounds neither with httptools: one header without an end, which costs the square of its length,
    would stop everybody.
    """

    _head = 0  # bytes since the last one of a body
    _due: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """The first head may begin."""
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is over."""
        self._forget_head()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Some of a head or of a body."""
        self._head += len(data)
        super().data_received(data)
        if self._head > MOST_HEAD and not self.transport.is_closing():
            if self._answering:
                self.transport.close()
            else:
                self.send_400_response(f"The head of a request may have at most {MOST_HEAD} bytes here.")

    def on_message_begin(self) -> None:
        """A head begins."""
        super().on_message_begin()
        self._await_head()

    def on_headers_complete(self) -> None:
        """A head ends."""
        self._forget_head()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Bodies are bounded by who reads them."""
        self._head = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """A request ends."""
        self._head = 0
        super().on_message_complete()

    @property
    def _answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _await_head(self) -> None:
        self._forget_head()
        self._due = self.loop.call_later(STALLED_SECONDS, self._late)

    def _forget_head(self) -> None:
        if self._due is not None:
            self._due.cancel()
            self._due = None

    def _late(self) -> None:
        if self._answering:  # the next request is late while this one's answer still goes out
            self._await_head()
        else:
            self.transport.close()
