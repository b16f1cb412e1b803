"""The compiled decoder at work on models of odd shapes: a program of its own, for sanitizers to watch.

``python decoding.py FOLDER SEED COUNT UNTIL forged|valid|threads`` takes step files of a folder by turns, as
they are or forged, and reads and writes with them in batches, on threads and with settings that change: so
often, or where UNTIL is not None, to that second of the epoch. It exits with 0, having printed how many it
took, how many ran and what they wrote, unless something is wrong.
"""

from __future__ import annotations

import importlib.util
import itertools
import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from p2.contract.engine import Draw
from p2.contract.errors import P2Error
from p2.contract.sampling import Sampling
from p2.runtime.native.engine import NativeEngine
from p2.runtime.step_file import open_step

THREADS = (1, 2, 3, 5)
USUAL = (
    1,
    1,
    1,
    1,
    1,
    1,
    *THREADS,
)  # threads that wait for one another are slow where others have the processors
SETTINGS = (
    Sampling(),
    Sampling(0),
    Sampling(0.3),
    Sampling(2, top_k=3),
    Sampling(top_p=0.8),
    Sampling(min_p=0.05),
)


def changing(engine: NativeEngine, threads: int) -> None:
    """Let an engine take other threads from its next call on."""
    engine._given = threads


def use(engine: NativeEngine, rnd: random.Random, threads: tuple[int, ...]) -> int:
    """Read and write in one batch, threads and settings changing; characters written."""
    vocab, batch, written = engine.card.vocab, rnd.choice((1, 2, 3, 6, 7, 13)), 0
    state, last = engine.zero_state(batch), np.zeros(batch, np.int64)
    for _ in range(3):
        changing(engine, rnd.choice(threads))
        length = rnd.choice((0, 1, 2, 17, 65, 130))
        text = np.random.default_rng(rnd.getrandbits(32)).integers(0, vocab, (batch, length))
        engine.feed(state, text, logits=rnd.random() < 0.5)
        changing(engine, rnd.choice(threads))
        count = rnd.choice((1, 2, 5, 33))
        draws = [Draw(rnd.getrandbits(64), row, 0, rnd.choice(SETTINGS)) for row in range(batch)]
        tokens = engine.draw_each(state, last, draws, count)
        noise = np.zeros((2, batch, vocab), np.float32)
        tokens = engine.decode(state, tokens[:, -1].copy(), noise, rnd.choice(SETTINGS))
        last = tokens[:, -1].copy()
        written += batch * (count + 2)
    return written


def _forging() -> Any:
    path = Path(__file__).resolve().parent.parent / "runtime" / "forging.py"
    spec = importlib.util.spec_from_file_location("forging", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def turns(count: int, until: str) -> Iterator[int]:
    """As many as there is time for."""
    if until == "None":
        yield from range(count)
        return
    for turn in itertools.count():
        if turn and time.time() >= float(until):
            return
        yield turn


def main(folder: Path, seed: str, wanted: Iterator[int], forges: bool, threads: tuple[int, ...]) -> None:
    rnd, models = random.Random(seed), sorted(folder.glob("*.onnx"))
    forge = _forging().forged if forges else lambda data, _: data
    path = folder / "now" / "input.onnx"
    path.parent.mkdir(exist_ok=True)
    ran = written = 0
    number = 0
    for number in wanted:
        path.write_bytes(forge(models[number % len(models)].read_bytes(), rnd))
        try:
            engine = NativeEngine(open_step(path), 1)
            written += use(engine, rnd, threads)
            ran += 1
        except P2Error:
            assert forges, path
    print(number + 1, ran, written)


if __name__ == "__main__":
    _folder, _seed, _count, _until, _kind = sys.argv[1:]
    _threads = THREADS if _kind == "threads" else USUAL
    main(Path(_folder), _seed, turns(int(_count), _until), _kind == "forged", _threads)
