"""The way of pieces from the batchers' threads to the event loop that answers a request."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque

from .text import Piece, Text


class Inbox:
    """What has been written for one request and has not been sent yet; made in its event loop."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._pieces: deque[tuple[Text, Piece]] = deque()
        self._there = asyncio.Event()

    def put(self, text: Text, piece: Piece) -> None:
        """In the event loop."""
        self._pieces.append((text, piece))
        self._there.set()

    async def take(self) -> list[tuple[Text, Piece]]:
        """All that is there; waits until there is something."""
        await self._there.wait()
        self._there.clear()
        pieces = list(self._pieces)
        self._pieces.clear()
        return pieces


def deliver(pieces: list[tuple[Text, Piece]]) -> None:
    """From any thread: put pieces into the inboxes of their texts."""
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[Text, Piece]]] = {}
    for text, piece in pieces:
        by_loop.setdefault(text.inbox.loop, []).append((text, piece))
    for loop, some in by_loop.items():
        with contextlib.suppress(RuntimeError):  # the loop has been closed: nobody waits any more
            loop.call_soon_threadsafe(_put, some)


def _put(pieces: list[tuple[Text, Piece]]) -> None:
    for text, piece in pieces:
        text.inbox.put(text, piece)
