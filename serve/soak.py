"""Mixed load, and whether anything is left of it: ``python -m p2.serve.soak charlm.onnx``.

Clients ask for texts of all lengths, hang up in the middle, send what cannot be meant, read slowly and stay
silent. Texts that are known beforehand must come as they are; at the end no text and no connection may be
left, and memory must be what it was.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..contract.engine import Engine
from ..contract.errors import P2Error
from ..contract.files import make_folder, write_bytes, write_json
from ..runtime.generate import Request, generate
from ..runtime.opening import open_engine
from ..runtime.processor import cpu_name, processors
from . import client

CLIENTS = 24
LEFT_SECONDS = 20  # in which texts may end that nobody waits for
SAMPLES, ROWS = 240, 12  # of memory: in the JSON, and in the report to read
# Of memory, over what it was after a fifth of the time.
GROWTH, SLACK = 1.05, 24 << 20
OPEN_FILES = 8  # more than at first may be open at the end: connections that others keep

# What a client does next, and how often.
KINDS = {
    "whole": 0.3,
    "known": 0.2,
    "many": 0.1,
    "look": 0.05,
    "hang up": 0.1,
    "leave": 0.05,
    "silent": 0.05,
    "slow": 0.05,
    "bad": 0.1,
}
_BAD = (b"{", b'{"prompt": 1}', b'{"max_tokens": -1}', b'{"model": "none"}', b"x" * 3_000_000)
_PAGES = ("/", "/health", "/metrics", "/openapi.json", "/v1/models")
_METERS = {
    "processor": "process_cpu_seconds_total",
    "memory": "process_resident_memory_bytes",
    "files": "process_open_fds",
    "waiting": "p2_waiting_texts",
    "running": "p2_running_texts",
    "paused": "p2_paused_texts",
}

Known = Sequence[tuple[dict[str, Any], str]]


@dataclass
class Sample:
    """How the server stood at a moment.

    Attributes:
        seconds: since the first client.
        processor: seconds that the server has computed for.
        memory: resident bytes.
        files: open ones, connections among them.
        waiting, running, paused: texts.
    """

    seconds: float
    processor: float
    memory: float
    files: float
    waiting: float
    running: float
    paused: float

    @property
    def texts(self) -> float:
        """All that have not ended."""
        return self.waiting + self.running + self.paused


@dataclass
class Found:
    """What came of it: requests by kind, and the samples."""

    requests: dict[str, int]
    curve: list[Sample]


def known_texts(engine: Engine, count: int = 16) -> Known:
    """Requests, and the texts that `p2 generate` writes for them."""
    rng, found = np.random.default_rng(1), []
    for seed in range(count):
        prompt, length = client.prompt(rng, engine.card.vocabulary), int(rng.integers(1, 1000))
        text = "".join(generate(engine, Request(prompt, length, seed=seed)))
        found.append(({"prompt": prompt, "max_tokens": length, "seed": seed}, text))
    return found


class _Client:
    """One client, who does something else every time."""

    def __init__(self, port: int, about: dict[str, Any], known: Known, number: int) -> None:
        self._port, self._about, self._texts, self._number = port, about, known, number
        self._rng = np.random.default_rng(number)

    async def run(self, end: float, counts: dict[str, int]) -> None:
        """Until then.

        Raises:
            P2Error: an answer was not as it should be, or did not come.
        """
        while time.monotonic() < end:
            kind = str(self._rng.choice([*KINDS], p=[*KINDS.values()]))
            try:
                await getattr(self, "_" + kind.replace(" ", "_"))()
            except (OSError, EOFError, ValueError, LookupError) as error:
                raise P2Error(f"{kind}: the server broke off: {error!r}") from error
            counts[kind] += 1

    def _fields(self, **more: Any) -> dict[str, Any]:
        length = int(self._rng.integers(0, 2000))
        prompt = client.prompt(self._rng, self._about["vocabulary"])
        return {"prompt": prompt, "max_tokens": length, "user": str(self._number), **more}

    async def _stream(self, fields: dict[str, Any]) -> client.Told:
        told = await client.ask(self._port, fields)
        if told.status not in (200, 429):
            raise P2Error(f"the server answered {told.status} to {json.dumps(fields)}")
        for text in told.texts.values():
            if len(text) != fields["max_tokens"]:
                raise P2Error(f"a text of {len(text)} characters came for {json.dumps(fields)}")
        return told

    async def _whole(self) -> None:
        await self._stream(self._fields(**{"logprobs": 2} if self._rng.random() < 0.2 else {}))

    async def _many(self) -> None:
        await self._stream(self._fields(n=8, top_p=0.9))

    async def _known(self) -> None:
        fields, text = self._texts[int(self._rng.integers(len(self._texts)))]
        if self._rng.random() < 0.5:
            told = await self._stream(fields)
            found = told.texts.get(0) if told.status == 200 else text
        else:
            status, body = await client.fetch(self._port, client.request(fields))
            found = json.loads(body)["choices"][0]["text"] if status == 200 else text
            if status not in (200, 429):
                raise P2Error(f"the server answered {status}: {body}")
        if found != text:
            raise P2Error(f"{json.dumps(fields)} got {found!r}, and not {text!r}")

    async def _look(self) -> None:
        for page in _PAGES:
            await client.get(self._port, page)

    async def _hang_up(self) -> None:
        await client.ask(self._port, self._fields(), pieces=1)

    async def _leave(self) -> None:
        async with client.connection(self._port, client.request(self._fields())):
            await asyncio.sleep(float(self._rng.random()) / 10)

    async def _silent(self) -> None:
        sent = client.request(self._fields())
        async with client.connection(self._port, sent[: int(self._rng.integers(0, len(sent)))]):
            await asyncio.sleep(0.2)

    async def _slow(self) -> None:
        fields = self._fields(stream=True, logprobs=5, max_tokens=min(50_000, self._about["max_length"]))
        async with client.connection(self._port, client.request(fields)):
            await asyncio.sleep(1)

    async def _bad(self) -> None:
        body = _BAD[self._rng.integers(len(_BAD))]
        head = client.request({}).split(b"content-length")[0] + b"content-type: application/json\r\n"
        sent = head + f"content-length: {len(body)}\r\nconnection: close\r\n\r\n".encode() + body
        # Of a body that is too long the server reads no more, and what is still on its way breaks the line.
        with contextlib.suppress(OSError):
            status, _ = await client.fetch(self._port, sent)
            if status not in (400, 404, 413):
                raise P2Error(f"the server answered {status} to what cannot be meant")


async def soak(port: int, seconds: float, known: Known) -> Found:
    """Ask for so long.

    Raises:
        P2Error: a text was not as it should be, texts or connections were left, the server is not well, or
            memory grew.
    """
    (about, *_) = json.loads(await client.get(port, "/v1/models"))["data"]
    counts, started = dict.fromkeys(KINDS, 0), time.monotonic()

    async def sample() -> Sample:
        found = await client.meters(port, *_METERS.values())
        return Sample(round(time.monotonic() - started, 1), *found)

    curve = [await sample()]
    clients = [_Client(port, about, known, number) for number in range(CLIENTS)]
    try:
        async with asyncio.TaskGroup() as group:
            for one in clients:
                group.create_task(one.run(started + seconds, counts))
            while time.monotonic() < started + seconds:
                await asyncio.sleep(seconds / SAMPLES)
                curve.append(await sample())
    except ExceptionGroup as several:  # Python 3.11.2 puts what `except*` raises into another group
        said = several.subgroup((P2Error, OSError))
        if said is None:
            raise
        raise P2Error(str(said.exceptions[0])) from several
    until = time.monotonic() + LEFT_SECONDS
    while (last := await sample()).texts or last.files > curve[0].files + OPEN_FILES:
        if time.monotonic() > until:
            opened = last.files - curve[0].files
            raise P2Error(f"{last.texts:g} texts and {opened:g} open files were left that nobody waits for")
        await asyncio.sleep(0.1)
    curve.append(last)
    if json.loads(await client.get(port, "/health"))["status"] != "ok":
        raise P2Error("the server is no longer well")
    before = after_a_fifth(curve).memory
    if last.memory > GROWTH * before + SLACK:
        raise P2Error(f"memory grew from {_mib(before)} to {_mib(last.memory)} MiB")
    return Found(counts, curve)


def after_a_fifth(curve: Sequence[Sample]) -> Sample:
    """What memory at the end is measured against: by then everything has been loaded once."""
    return next(one for one in curve if one.seconds >= curve[-2].seconds / 5)


def _mib(memory: float) -> str:
    return f"{memory / 2**20:.1f}"


def markdown(report: dict[str, Any]) -> str:
    """The report to read."""
    curve = [Sample(**one) for one in report["curve"]]
    requests = report["requests"]
    rows = [curve[round(at * (len(curve) - 1) / ROWS)] for at in range(ROWS + 1)]
    lines = [
        f"# Soak: {report['model']}",
        "",
        f"{report['engine']}, {report['machine']}, {CLIENTS} clients, {report['minutes']:g} minutes,"
        f" {sum(requests.values()):,} requests: {', '.join(f'{n:,} {kind}' for kind, n in requests.items())}."
        f" The server computed for {curve[-1].processor - curve[0].processor:,.0f} seconds of them."
        f" All {requests['known']:,} texts that were known beforehand came as `p2 generate` writes them; the"
        f" last row is after the last client. Memory was {_mib(after_a_fifth(curve).memory)} MiB after a"
        f" fifth of the time, {_mib(curve[-1].memory)} MiB at the end.",
        "",
        "| minutes | memory, MiB | open files | waiting | running | paused |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for one in rows:
        cells = [f"{one.seconds / 60:.1f}", _mib(one.memory)]
        cells += [f"{value:g}" for value in (one.files, one.waiting, one.running, one.paused)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main(argv: list[str] | None = None) -> int:
    """Soak a server of its own, and write the report."""
    parser = argparse.ArgumentParser(
        "python -m p2.serve.soak", description="Mixed load, and what is left of it."
    )
    parser.add_argument("model", nargs="?", default="charlm.onnx", help="a .onnx, a .plan or a checkpoint")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--out", type=Path, default=Path("artifacts/serve/soak"), help="without its ending")
    given, options = parser.parse_known_args(argv)  # the rest is for p2 serve
    try:
        make_folder(given.out.parent)
        engine = open_engine(given.model)
        card, known = engine.card, known_texts(engine)
        report = {
            "model": f"{card.cell} {card.layers} x {card.hidden}, {card.vocab} characters, {card.precision}",
            "engine": engine.name,
            "machine": f"{cpu_name()}, {processors()} processors",
            "minutes": given.minutes,
        }
        engine.close()
        with client.serving(given.model, *options) as port:
            found = asyncio.run(soak(port, 60 * given.minutes, known))
        report |= asdict(found)
        write_json(given.out.with_suffix(".json"), report)
        write_bytes(given.out.with_suffix(".md"), markdown(report).encode())
    except P2Error as error:
        print(f"p2: {error}", file=sys.stderr)
        return error.exit_code
    print(markdown(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
