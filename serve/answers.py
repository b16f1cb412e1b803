"""Answers as they go over the wire."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from .errors import ApiError

# A client that has taken nothing for so long, or that does not send its request to the end, is gone.
STALLED_SECONDS = 60


class Json(Response):
    """An object; characters beyond ASCII are escaped, so that half a surrogate pair can be answered with."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """The object in UTF-8."""
        return encode(content)


def encode(content: Any) -> bytes:
    """JSON in ASCII, without spaces."""
    return json.dumps(content, allow_nan=False, separators=(",", ":")).encode("ascii")


def refusal(error: ApiError) -> Json:
    """The answer to a request that is refused."""
    return Json(error.body(), error.status, dict(error.headers))


class Events(Response):
    """A stream of server-sent events.

    Args:
        events: data of each.
        gone: called at the end, however it comes.
    """

    media_type = "text/event-stream"

    def __init__(self, events: AsyncIterator[bytes], gone: Callable[[], None]) -> None:
        self.status_code = 200
        self.init_headers({"cache-control": "no-store", "x-accel-buffering": "no"})
        self._events, self._gone = events, gone

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        """Send them until they end, or the client does."""
        try:
            await unless_gone(self._send(send), receive)
        finally:
            self._gone()

    async def _send(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        async for event in self._events:
            async with asyncio.timeout(STALLED_SECONDS):
                body = b"data: " + event + b"\n\n"
                await send({"type": "http.response.body", "body": body, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def unless_gone(work: Awaitable[Any], receive: Receive) -> Any:
    """What the work comes to; None if the client goes away, or stalls, before that."""

    async def gone() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    tasks = [asyncio.ensure_future(work), asyncio.ensure_future(gone())]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        with contextlib.suppress(TimeoutError):
            return tasks[0].result() if tasks[0].done() else None
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return None


async def read_json(request: Request, most: int) -> bytes:
    """The body of a request.

    Raises:
        ApiError: 415, it does not say that it is JSON; 413, it is longer than `most` bytes; 408, it does not
            end.
    """
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind != "application/json":
        # Browsers let any page send other types to a server on the user's own machine.
        raise ApiError(415, "the content-type must be application/json")
    too_long = ApiError(413, f"a request may have at most {most} bytes here", headers={"connection": "close"})
    announced = request.headers.get("content-length", "0")
    if announced.isdecimal() and int(announced) > most:
        raise too_long
    body = bytearray()
    try:
        async with asyncio.timeout(STALLED_SECONDS):
            async for part in request.stream():
                body += part
                if len(body) > most:
                    raise too_long
    except TimeoutError as error:
        raise ApiError(408, "the request did not end", headers={"connection": "close"}) from error
    return bytes(body)


def bearer(headers: Mapping[str, str]) -> str:
    """The key in a request's ``Authorization``, or the empty string."""
    scheme, _, key = headers.get("authorization", "").partition(" ")
    return key.strip() if scheme.lower() == "bearer" else ""
