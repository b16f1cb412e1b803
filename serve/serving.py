"""The process: a socket, uvicorn, and an end that lets texts finish."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import signal
import socket
import sys
from types import FrameType

import uvicorn

from ..contract.errors import P2Error
from ..contract.files import explain
from .answers import STALLED_SECONDS
from .app import Server
from .connection import Connection

_BACKLOG = 2048

# The batchers' threads and the event loop wait no longer for one another; usually it is ten times as long.
SWITCH_SECONDS = 0.0005

# Bytes that the system holds for a reader who is slow; left to itself it is megabytes for each.
SEND_BUFFER = 1 << 17


def listen(host: str, port: int) -> socket.socket:
    """A socket that others can connect to.

    Args:
        host: name or address of this machine.
        port: 0 takes one that is free.

    Raises:
        P2Error: somebody else listens there, or the system refuses.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        found = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError) as error:
        said = explain(error) if isinstance(error, OSError) else "no name of a machine"
        raise P2Error(f"cannot listen on {host}: {said}") from error
    try:
        if sys.platform != "win32":  # there it would let two servers share a port
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # a reader that has taken nothing for so long is cut off
            found.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 1000 * STALLED_SECONDS)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)  # a client that vanished is noticed
        found.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        found.bind(address)
        found.listen(_BACKLOG)
    except OSError as error:
        found.close()
        if error.errno == errno.EADDRINUSE:
            raise P2Error(
                f"port {port} of {host} is in use: stop what uses it, or give another --port"
            ) from error
        raise P2Error(f"cannot listen on {host}, port {port}: {explain(error)}") from error
    return found


def url(listening: socket.socket) -> str:
    """Where a socket of `listen` is reached."""
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def run(app: Server, listening: socket.socket) -> None:
    """Serve until SIGTERM or Ctrl-C, and then until the texts that are under way have ended.

    A second signal ends them at the next border.
    """
    _many_files()
    sys.setswitchinterval(SWITCH_SECONDS)
    log = logging.getLogger("uvicorn.error")
    log.setLevel(logging.WARNING)
    log.addFilter(_worth_a_line)
    with contextlib.suppress(KeyboardInterrupt):
        uvicorn_for(app).run(sockets=[listening])


def uvicorn_for(app: Server) -> uvicorn.Server:
    """What serves an application as `run` does."""
    config = uvicorn.Config(
        app,
        http=Connection,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=1,  # by then `_Uvicorn` has waited for what is worth it
        backlog=_BACKLOG,
        ws="none",
    )
    return _Uvicorn(config, app)


def _worth_a_line(record: logging.LogRecord) -> bool:
    """A request that the end cuts off is no fault of the application."""
    return not (record.exc_info and isinstance(record.exc_info[1], asyncio.CancelledError))


class _Uvicorn(uvicorn.Server):
    """Goes on answering while texts are finished: new ones get 503, and /ready says so."""

    def __init__(self, config: uvicorn.Config, app: Server) -> None:
        super().__init__(config)
        self._served = app
        self._draining: asyncio.Task[None] | None = None
        self._hurry: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Until the end."""
        self._loop, self._hurry = asyncio.get_running_loop(), asyncio.Event()
        await super().serve(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal begins the end, the second hurries it, the third is it."""
        if self._loop is None or self._hurry is None or self._hurry.is_set():
            super().handle_exit(sig, frame)
        elif self._draining is None:
            self._draining = self._loop.create_task(self._drain(self._hurry))
            self._loop.call_soon_threadsafe(lambda: None)  # a signal alone does not wake it
            if sig == signal.SIGINT:
                print("p2: finishing what is being written; Ctrl-C again ends it now", file=sys.stderr)
        else:
            self._loop.call_soon_threadsafe(self._hurry.set)

    async def _drain(self, hurry: asyncio.Event) -> None:
        self._served.refuse()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._served.settings.grace):
                while (not self._served.idle or self.server_state.tasks) and not hurry.is_set():
                    await asyncio.sleep(0.02)
        self._served.end()
        self.should_exit = True


def _many_files() -> None:
    """A connection is an open file, and the usual limit is 1,024."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = 1 << 16 if hard == resource.RLIM_INFINITY else hard
        if soft != resource.RLIM_INFINITY and soft < wanted:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
