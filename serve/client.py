"""A client that costs little: what `load` and `soak` ask a server with, in one event loop."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Coroutine, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from ..contract.errors import P2Error

T = TypeVar("T")

# Prompts are of very different lengths, with their logarithms alike in number.
SHORTEST_PROMPT, LONGEST_PROMPT = 1, 250


def run(work: Coroutine[Any, Any, T]) -> T:
    """What some work comes to, in the event loop that costs least, as the server's."""
    if sys.platform == "win32":
        return asyncio.run(work)
    import uvloop

    return uvloop.run(work)


@dataclass
class Told:
    """What one request came to.

    Attributes:
        status: of HTTP; 0 where there was none.
        texts: choice by choice.
        first: seconds to the first characters.
        gaps: seconds from each piece to the next.
        at: time of each piece and the characters in it.
    """

    status: int = 0
    texts: dict[int, str] = field(default_factory=dict)
    first: float = 0.0
    gaps: list[float] = field(default_factory=list)
    at: list[tuple[float, int]] = field(default_factory=list)


@dataclass(frozen=True)
class Line:
    """A connection: what comes over it, and what is sent."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def ask(self, fields: dict[str, Any], pieces: int | None = None) -> Told:
        """Send a request for a stream, and read it; or so many pieces of it.

        Another one can follow if all has been read.

        Raises:
            P2Error: the stream says that the text failed.
        """
        told, started = Told(), time.perf_counter()
        self.writer.write(request(fields | {"stream": True}, last=False))
        head = await self.reader.readuntil(b"\r\n\r\n")
        told.status = int(head.split(b" ", 2)[1])
        if told.status != 200:
            return told
        last = started
        async for event in _events(self.reader):
            now = time.perf_counter()
            if event == b"[DONE]":
                continue
            if not told.at:
                told.first = now - started
            else:
                told.gaps.append(now - last)
            last = now
            found = json.loads(event)
            if "error" in found:
                raise P2Error(found["error"]["message"])
            (choice,) = found["choices"]
            told.texts[choice["index"]] = told.texts.get(choice["index"], "") + choice["text"]
            told.at.append((now, len(choice["text"])))
            if len(told.at) == pieces:
                break
        return told


async def ask(port: int, fields: dict[str, Any], pieces: int | None = None) -> Told:
    """`Line.ask` over a connection of its own."""
    async with connection(port) as line:
        return await line.ask(fields, pieces)


def request(fields: dict[str, Any], last: bool = True) -> bytes:
    """A request for completions, as it goes over the wire; after the last one the server hangs up."""
    body = json.dumps(fields).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(body)}\r\n"
    head += "connection: close\r\n" if last else ""
    return head.encode() + b"content-type: application/json\r\n\r\n" + body


async def get(port: int, path: str) -> str:
    """The answer to a GET, without its head."""
    sent = f"GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n".encode()
    return (await fetch(port, sent))[1]


async def fetch(port: int, sent: bytes) -> tuple[int, str]:
    """Status and body of the answer to a request."""
    async with connection(port, sent) as line:
        head, body = (await line.reader.read()).split(b"\r\n\r\n", 1)
    return int(head.split(b" ", 2)[1]), body.decode()


async def meter(port: int, name: str) -> float:
    """The sum of a meter over its labels."""
    return (await meters(port, name))[0]


async def meters(port: int, *names: str) -> list[float]:
    """The sums of some meters over their labels, at one moment."""
    lines = (await get(port, "/metrics")).splitlines()
    return [
        sum(float(line.rsplit(" ", 1)[1]) for line in lines if re.match(rf"{name}[ {{]", line))
        for name in names
    ]


@contextlib.asynccontextmanager
async def connection(port: int, sent: bytes = b"", room: int = 0) -> AsyncIterator[Line]:
    """A connection over which something has been sent; hung up at the end, whatever is still to come.

    Args:
        port: of the server.
        sent: as it goes over the wire.
        room: bytes that the system holds for a reader who does not read; 0 leaves it that.
    """
    line = socket.socket()
    if room:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
    line.setblocking(False)
    await asyncio.get_running_loop().sock_connect(line, ("127.0.0.1", port))
    reader, writer = await asyncio.open_connection(sock=line, limit=room or 1 << 16)
    try:
        writer.write(sent)
        await writer.drain()
        yield Line(reader, writer)
    finally:
        writer.transport.abort()


async def _events(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    """Data of the server-sent events in a chunked body."""
    held = b""
    while size := int(await reader.readline(), 16):
        held += (await reader.readexactly(size + 2))[:-2]
        *whole, held = held.split(b"\n\n")
        for event in whole:
            yield event.removeprefix(b"data: ")
    await reader.readline()


def prompt(rng: np.random.Generator, vocabulary: str) -> str:
    """A random prompt of random length."""
    low, high = np.log(SHORTEST_PROMPT), np.log(LONGEST_PROMPT + 1)
    return "".join(rng.choice([*vocabulary], int(np.exp(rng.uniform(low, high)))))


@contextlib.contextmanager
def serving(model: str, *options: str) -> Iterator[int]:
    """A ``p2 serve`` of its own process; the port that it listens on, once it is ready.

    Raises:
        P2Error: it ended before that.
    """
    words = [sys.executable, "-m", "p2.cli", "serve", model, "--port", "0", *options]
    environment = {name: value for name, value in os.environ.items() if name != "P2_API_KEYS"}
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, bufsize=1, env=environment)
    assert process.stderr is not None
    try:
        said = []
        for line in process.stderr:
            said.append(line)
            if found := re.match(r"http://[^ ]*:(\d+) ", line):
                break
        else:
            raise P2Error("".join(said).strip().removeprefix("p2: ") or "the server ended")
        port = int(found[1])
        asyncio.run(_ready(port))
        with _unread(process):
            yield port
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stderr.close()


async def _ready(port: int) -> None:
    while json.loads(await get(port, "/ready"))["status"] != "ready":
        await asyncio.sleep(0.05)


@contextlib.contextmanager
def _unread(process: subprocess.Popen[str]) -> Iterator[None]:
    """The access log is read by nobody else, and a full pipe would stop the server."""

    def drain() -> None:
        assert process.stderr is not None
        with contextlib.suppress(ValueError, OSError):
            for _ in process.stderr:
                pass

    reader = threading.Thread(target=drain, daemon=True)
    reader.start()
    try:
        yield
    finally:
        process.terminate()
        reader.join(60)
