"""Around the whole application: request ids, the access log, and what every request is counted by."""

from __future__ import annotations

import json
import re
import sys
import time
import uuid
from typing import TYPE_CHECKING, Any

from starlette.datastructures import Headers, MutableHeaders

from .metrics import Meters

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_IDENTITY = re.compile(r"[\x21-\x7e]{1,128}")


class Access:
    """Gives every request an identity, and writes a line of JSON to stderr when it has been answered.

    Handlers find `request.state.identity`, and may put more into `request.state.logged`.

    Args:
        app: what answers.
        meters: of the server.
        paths: those that are counted by name; all others are one.
        log: whether lines are written.
    """

    def __init__(self, app: ASGIApp, meters: Meters, paths: frozenset[str], log: bool = True) -> None:
        self._app, self._meters, self._paths, self._log = app, meters, paths, log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        identity = given if _IDENTITY.fullmatch(given) else uuid.uuid4().hex
        logged: dict[str, Any] = {}
        scope.setdefault("state", {}).update(identity=identity, logged=logged)
        started, status, sent = time.perf_counter(), 0, 0

        async def watched(message: Message) -> None:
            nonlocal status, sent
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["x-request-id"] = identity
            sent += len(message.get("body", b""))
            await send(message)

        try:
            await self._app(scope, receive, watched)
        finally:
            seconds = time.perf_counter() - started
            path = scope["path"] if scope["path"] in self._paths else "other"
            self._meters.requests.labels(path, str(status)).inc()
            self._meters.request_seconds.labels(path).observe(seconds)
            if self._log:
                line = {
                    "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                    "request_id": identity,
                    "client": (scope.get("client") or ("",))[0],
                    "method": scope["method"],
                    "path": scope["path"],
                    "status": status,  # 0: the client went away before
                    "seconds": round(seconds, 4),
                    "bytes": sent,
                    **logged,
                }
                print(json.dumps(line), file=sys.stderr, flush=True)
