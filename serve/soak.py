"""Mixed load, and whether anything is left of it: ``python -m p2.serve.soak charlm.onnx``.

Clients ask for texts of all lengths, hang up in the middle, send what cannot be meant, read slowly and stay
silent. At the end no text may be left, and memory must be what it was.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import sys
import time

import numpy as np

from ..contract.errors import P2Error
from . import client

CLIENTS = 24
LEFT_SECONDS = 20  # in which texts may end that nobody waits for
GROWTH, SLACK = 1.05, 24 << 20  # of memory, over what it was after a fifth of the time

_BAD = (b"{", b'{"prompt": 1}', b'{"max_tokens": -1}', b'{"model": "none"}', b"x" * 3_000_000)


async def _one(port: int, vocabulary: str, number: int, end: float, counts: dict[str, int]) -> None:
    """One client, who does something else every time."""
    rng = np.random.default_rng(number)
    while time.monotonic() < end:
        kind = str(
            rng.choice(
                ["whole", "hang up", "silent", "bad", "slow", "many"], p=[0.5, 0.15, 0.1, 0.1, 0.05, 0.1]
            )
        )
        counts[kind] = counts.get(kind, 0) + 1
        fields = {
            "prompt": client.prompt(rng, vocabulary),
            "max_tokens": int(rng.integers(0, 2000)),
            "user": str(number),
        }
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            if kind == "whole":
                await client.ask(port, fields | {"logprobs": 2} if rng.random() < 0.1 else fields)
            elif kind == "many":
                await client.ask(port, fields | {"n": 8, "top_p": 0.9})
            elif kind == "hang up":
                await client.ask(port, fields, pieces=1)
            elif kind == "silent":
                part = client.request(fields)
                async with client.connection(port, part[: int(rng.integers(0, len(part)))]):
                    await asyncio.sleep(0.2)
            elif kind == "slow":
                asked = fields | {"stream": True, "max_tokens": 50_000, "logprobs": 5}
                async with client.connection(port, client.request(asked)):
                    await asyncio.sleep(1)
            else:
                body = _BAD[rng.integers(len(_BAD))]
                head = client.request({}).split(b"content-length")[0] + b"content-type: application/json\r\n"
                sent = head + f"content-length: {len(body)}\r\n\r\n".encode() + body
                async with client.connection(port, sent) as reader:
                    await reader.read(1 << 16)


async def soak(port: int, seconds: float) -> dict[str, float]:
    """Ask for so long.

    Returns:
        memory after a fifth of the time and at the end, in bytes; requests by kind.

    Raises:
        P2Error: texts were left, the server is not well, or memory grew.
    """
    vocabulary = json.loads(await client.get(port, "/v1/models"))["data"][0]["vocabulary"]
    end, counts = time.monotonic() + seconds, dict[str, int]()
    clients = asyncio.gather(*(_one(port, vocabulary, number, end, counts) for number in range(CLIENTS)))
    await asyncio.sleep(seconds / 5)
    before = await client.meter(port, "process_resident_memory_bytes")
    await clients
    until = time.monotonic() + LEFT_SECONDS
    names = ("p2_waiting_texts", "p2_running_texts", "p2_paused_texts")
    while left := sum([await client.meter(port, name) for name in names]):
        if time.monotonic() > until:
            raise P2Error(f"{left:g} texts were left that nobody waits for")
        await asyncio.sleep(0.1)
    after = await client.meter(port, "process_resident_memory_bytes")
    if json.loads(await client.get(port, "/health"))["status"] != "ok":
        raise P2Error("the server is no longer well")
    if after > GROWTH * before + SLACK:
        raise P2Error(f"memory grew from {before / 2**20:.0f} to {after / 2**20:.0f} MiB")
    return {"before": before, "after": after} | counts


def main(argv: list[str] | None = None) -> int:
    """Soak a server of its own."""
    parser = argparse.ArgumentParser(
        "python -m p2.serve.soak", description="Mixed load, and what is left of it."
    )
    parser.add_argument("model", nargs="?", default="charlm.onnx", help="a .onnx, a .plan or a checkpoint")
    parser.add_argument("--minutes", type=float, default=60.0)
    given, options = parser.parse_known_args(argv)  # the rest is for p2 serve
    try:
        with client.serving(given.model, *options) as port:
            found = asyncio.run(soak(port, 60 * given.minutes))
    except P2Error as error:
        print(f"p2: {error}", file=sys.stderr)
        return error.exit_code
    before, after = found.pop("before"), found.pop("after")
    print(", ".join(f"{count:,} {kind}" for kind, count in sorted(found.items())))
    print(
        f"no text was left; memory {before / 2**20:.0f} MiB after a fifth, {after / 2**20:.0f} MiB at the end"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
