"""What a server does under load: ``python -m p2.serve.load charlm.onnx``.

A server of its own process is asked by 1, 16, 64 and 256 clients, each of which sends its next request over
the same connection when the last one is answered. Beside it stands the same model offline, as
``p2 generate --num-samples`` runs it, half of the time before and half after. Clients and server share the
machine.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import statistics
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..contract.engine import Engine
from ..contract.errors import P2Error
from ..contract.files import make_folder, write_bytes, write_json
from ..contract.sampling import Sampling
from ..runtime.generate import Request
from ..runtime.opening import open_engine
from ..runtime.processor import cpu_name, processors
from ..runtime.streams import write_texts
from . import client
from .pace import CHUNK_SECONDS

STREAMS = (1, 16, 64, 256)
LENGTH = 1000  # characters of a text, on average: about 180 words; from half of it to half more
JUDGED_STREAMS, OTHERS = 64, 256
SLOW_ROOM, PAUSE_SECONDS = 4096, 300
WARM_SECONDS = 120.0  # at most, until as many texts have ended as there are clients, or one has begun

# What is wanted of a server.
LEAST_OF_OFFLINE, MOST_CHUNKS, LEAST_BESIDE_OTHERS = 0.8, 5.0, 0.9


@dataclass
class Figures:
    """One run.

    Attributes:
        streams: clients at a time.
        rate: characters a second, of all of them.
        first, between: milliseconds to the first character, and from one piece to the next: median and the
            99th of a hundred.
        piece: characters of a piece, on average.
        chunk: milliseconds of a chunk of the batch, on average.
        writing: share of the time in which the engine writes; the rest is for prompts and borders.
        texts: requests that were answered.
    """

    streams: int
    rate: float
    first: tuple[float, float]
    between: tuple[float, float]
    piece: float
    chunk: float
    writing: float
    texts: int


def offline(engine: Engine, streams: int, seconds: float) -> float:
    """Characters a second of a batch that nobody joins or leaves."""
    rng = np.random.default_rng(0)
    prompts = [client.prompt(rng, engine.card.vocabulary) for _ in range(streams)]
    asked = Request(length=LENGTH, seed=1, sampling=Sampling())
    for _ in write_texts(engine, asked, prompts):  # settings are measured now
        pass
    written, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        written += sum(len(text.text) for text in write_texts(engine, asked, prompts))
    return written / (time.perf_counter() - started)


async def drive(port: int, vocabulary: str, streams: int, seconds: float) -> Figures:
    """So many clients for so long, and what they were told."""
    told: list[client.Told] = []
    warm, stop = asyncio.Event(), asyncio.Event()

    async def one(number: int) -> None:
        rng = np.random.default_rng(number)
        async with client.connection(port) as line:
            while not stop.is_set():
                length = int(rng.integers(LENGTH // 2, LENGTH + LENGTH // 2 + 1))
                fields = {"max_tokens": length, "seed": number, "user": str(number)}
                found = await line.ask(fields | {"prompt": client.prompt(rng, vocabulary)})
                told.append(found)
                refused = found.status != 200
                if refused or len(told) >= streams:
                    warm.set()
                if refused:
                    break

    async def so_far() -> list[float]:
        names = ("p2_chunk_seconds_sum", "p2_chunk_seconds_count", "p2_first_character_seconds_count")
        return await client.meters(port, *names)

    clients = asyncio.gather(*map(one, range(streams)))
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(warm.wait(), WARM_SECONDS)
    before, begin = await so_far(), time.perf_counter()
    while True:  # usually once: a text must have begun, or there is nothing to say of first characters
        await asyncio.sleep(seconds)
        end, after = time.perf_counter(), await so_far()
        if after[2] > before[2] or end - begin > WARM_SECONDS:
            break
    stop.set()
    await clients
    if bad := [one.status for one in told if one.status != 200]:
        raise P2Error(f"the server answered {bad[0]} to {len(bad)} of {len(told)} requests")
    pieces = [piece for one in told for piece in one.at if begin <= piece[0] < end]
    started = [one for one in told if one.at and begin <= one.at[0][0] < end]
    if not started:
        raise P2Error("no text began in the time that is measured: take more --seconds")
    characters = sum(count for _, count in pieces)
    return Figures(
        streams=streams,
        rate=characters / (end - begin),
        first=_percentiles([one.first for one in started]),
        between=_percentiles([gap for one in started for gap in one.gaps] or [0.0]),
        piece=characters / len(pieces),
        chunk=1000 * (after[0] - before[0]) / max(1, after[1] - before[1]),
        writing=(after[0] - before[0]) / (end - begin),
        texts=len(started),
    )


def _percentiles(seconds: list[float]) -> tuple[float, float]:
    """Median and 99th of a hundred, in milliseconds."""
    return 1000 * statistics.median(seconds), 1000 * float(np.percentile(seconds, 99))


async def beside_others(port: int, vocabulary: str, seconds: float) -> tuple[Figures, Figures]:
    """The same load alone, and beside as many idle connections and readers that do not read."""
    alone = await drive(port, vocabulary, JUDGED_STREAMS, seconds)
    slow = client.request({"max_tokens": 1 << 20, "stream": True, "user": "slow", "logprobs": 5})
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(OTHERS):
            await stack.enter_async_context(client.connection(port))
            await stack.enter_async_context(client.connection(port, slow, SLOW_ROOM))
        until = time.perf_counter() + PAUSE_SECONDS
        while await client.meter(port, "p2_paused_texts") < OTHERS:
            if time.perf_counter() > until:
                raise P2Error(f"the texts of slow readers were not put aside in {PAUSE_SECONDS} seconds")
            await asyncio.sleep(0.1)
        return alone, await drive(port, vocabulary, JUDGED_STREAMS, seconds)


def measure(model: str, streams: list[int], seconds: float, options: list[str]) -> dict[str, Any]:
    """The whole report, as plain JSON values."""
    engine = open_engine(model)
    card, vocabulary = engine.card, engine.card.vocabulary
    options = [*options, "--max-length", str(1 << 20)]
    rates, found = {}, []
    with client.serving(model, *options) as port:
        for count in streams:
            print(f"{count} streams, served and offline", file=sys.stderr)
            before = offline(engine, count, seconds / 2)
            found.append(client.run(drive(port, vocabulary, count, seconds)))
            rates[count] = (before + offline(engine, count, seconds / 2)) / 2
        print(f"beside {OTHERS} idle connections and {OTHERS} slow readers", file=sys.stderr)
        alone, beside = client.run(beside_others(port, vocabulary, seconds))
    engine.close()
    return {
        "model": f"{card.cell} {card.layers} x {card.hidden}, {card.vocab} characters, {card.precision}",
        "engine": engine.name,
        "machine": f"{cpu_name()}, {processors()} processors",
        "seconds": seconds,
        "length": LENGTH,
        "offline": {str(count): rate for count, rate in rates.items()},
        "served": [asdict(one) for one in found],
        "alone": asdict(alone),
        "beside": asdict(beside),
        "targets": judge(rates, found, alone, beside),
    }


def judge(
    rates: dict[int, float], found: list[Figures], alone: Figures, beside: Figures
) -> list[dict[str, Any]]:
    """What is wanted, what was found, and whether that is enough."""
    judged = []
    for one in found:
        if one.streams == JUDGED_STREAMS:
            share = one.rate / rates[one.streams]
            judged.append(
                {
                    "wanted": f"at {one.streams} streams at least {LEAST_OF_OFFLINE} of the offline rate",
                    "found": round(share, 3),
                    "met": share >= LEAST_OF_OFFLINE,
                }
            )
        chunks = one.first[1] / max(one.chunk, 1000 * CHUNK_SECONDS)  # short texts end chunks early
        judged.append(
            {
                "wanted": f"at {one.streams} streams p99 to the first character below {MOST_CHUNKS:g} chunks",
                "found": round(chunks, 2),
                "met": chunks < MOST_CHUNKS,
            }
        )
    share = beside.rate / alone.rate
    judged.append(
        {
            "wanted": f"beside {OTHERS} idle connections and {OTHERS} slow readers at"
            f" least {LEAST_BESIDE_OTHERS} of the rate",
            "found": round(share, 3),
            "met": share >= LEAST_BESIDE_OTHERS,
        }
    )
    return judged


def markdown(report: dict[str, Any]) -> str:
    """The report to read."""
    rows = [
        [
            one["streams"],
            f"{one['rate']:,.0f}",
            f"{report['offline'][str(one['streams'])]:,.0f}",
            *(f"{value:,.1f}" for value in (*one["first"], *one["between"], one["piece"], one["chunk"])),
            f"{one['writing']:.2f}",
        ]
        for one in report["served"]
    ]
    head = ["streams", "characters/s", "offline", "first p50", "first p99", "between p50", "between p99"]
    lines = [
        f"# Load: {report['model']}",
        "",
        f"{report['engine']}, {report['machine']}; clients and server share them."
        f" {report['seconds']:g} seconds a row; prompts of {client.SHORTEST_PROMPT} to"
        f" {client.LONGEST_PROMPT} characters, texts of {report['length']}. Times are milliseconds: to the"
        " first character, and from one piece of a text to the next. Offline is the same model and as many"
        " texts by `p2 generate`. Writing is the share of the time in which the engine writes.",
        "",
        *_table([*head, "characters a piece", "chunk", "writing"], rows),
        "",
        *_table(
            ["wanted", "found", "met"],
            [[one["wanted"], one["found"], "yes" if one["met"] else "no"] for one in report["targets"]],
        ),
    ]
    return "\n".join(lines) + "\n"


def _table(head: list[str], rows: list[list[Any]]) -> list[str]:
    return [f"| {' | '.join(map(str, row))} |" for row in (head, ["---"] * len(head), *rows)]


def main(argv: list[str] | None = None) -> int:
    """Measure, write the report, and say whether all targets were met: 0, else 1."""
    parser = argparse.ArgumentParser("python -m p2.serve.load", description="What a server does under load.")
    parser.add_argument("model", nargs="?", default="charlm.onnx", help="a .onnx, a .plan or a checkpoint")
    parser.add_argument("--streams", type=int, nargs="+", default=list(STREAMS), help="clients at a time")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each run")
    parser.add_argument("--out", type=Path, default=Path("artifacts/serve/load"), help="without its ending")
    given, options = parser.parse_known_args(argv)  # the rest is for p2 serve
    try:
        make_folder(given.out.parent)
        report = measure(given.model, given.streams, given.seconds, options)
        write_json(given.out.with_suffix(".json"), report)
        write_bytes(given.out.with_suffix(".md"), markdown(report).encode())
    except P2Error as error:
        print(f"p2: {error}", file=sys.stderr)
        return error.exit_code
    print(markdown(report))
    return int(not all(one["met"] for one in report["targets"]))


if __name__ == "__main__":
    sys.exit(main())
