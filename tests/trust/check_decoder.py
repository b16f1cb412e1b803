"""The compiled decoder under sanitizers, and its texts on any number of threads."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from p2.contract.engine import Draw
from p2.runtime import native
from p2.runtime.native import binding
from p2.runtime.step_file import open_step

from ..conftest import CELLS, make_card, step_bytes
from .conftest import Trust
from .decoding import SETTINGS, THREADS, changing
from .mutation.planting import folder_of
from .reading import KEPT, ROOT

pytestmark = pytest.mark.skipif(native.problem() is not None, reason="no compiled decoder here")

PRECISIONS = ("float32", "float16", "bfloat16", "float8", "int8", "int4")
SHAPES = (
    (1, 1, 2),
    (1, 16, 5),
    (2, 33, 300),
    (3, 64, 64),
    (4, 20, 17),
    (1, 130, 65),
    (2, 48, 7),
    (5, 32, 97),
)


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    """Step files of odd shapes: every cell and every precision."""
    folder = tmp_path_factory.mktemp("models")
    for number in range(12):
        layers, hidden, vocab = SHAPES[number % len(SHAPES)]
        cell, reset = CELLS[number % 4]
        vocabulary = "".join(map(chr, range(32, 32 + vocab)))
        card = make_card(cell, reset, layers, hidden, vocabulary=vocabulary, precision=PRECISIONS[number % 6])
        (folder / f"{number:02d}.onnx").write_bytes(step_bytes(card, number))
    return folder


def library(name: str) -> str:
    """Where gcc keeps a sanitizer's library; skips where it does not."""
    if shutil.which("gcc") is None:
        pytest.skip("no gcc here")
    found = subprocess.run(["gcc", f"-print-file-name={name}"], capture_output=True, text=True, check=True)
    if not os.path.isabs(found.stdout.strip()):
        pytest.skip(f"gcc has no {name} here")
    return found.stdout.strip()


def levels(trust: Trust) -> list[str]:
    """Those that are tried here: the one that this processor would take, in `make soak` all that it can."""
    there = [name for name, usable in binding.levels().items() if usable]
    return there[:1] if trust.scale == 1 and trust.until is None else there


def sanitised(folder: Path, names: list[str], *flags: str, compiler: str = "gcc") -> Path:
    """A folder with p2, whose decoder is compiled with a sanitizer, but for levels that are not tried."""
    inside = folder / "p2" / "runtime" / "native"
    inside.mkdir(parents=True)
    for above in (Path(), Path("runtime"), Path("runtime/native")):
        for entry in (ROOT / above).iterdir():
            target = folder / "p2" / above / entry.name
            if not target.exists() and entry.suffix != ".so" and not entry.name.startswith("."):
                target.symlink_to(entry)
    words, objects = [compiler, "-O1", "-pthread", "-fPIC"], []
    for source in sorted((ROOT / "runtime" / "native").rglob("*.c")):
        objects.append(str(folder / f"{source.parent.name}-{source.stem}.o"))
        watched = source.parent.name in {"native", *map(folder_of, names)}
        own = ["-g", "-fno-omit-frame-pointer", *flags] if watched else []
        subprocess.run([*words, *own, "-c", str(source), "-o", objects[-1]], check=True)
    made = inside / "_decoder.so"
    subprocess.run([*words, *flags, "-shared", *objects, "-o", str(made), "-lm"], check=True)
    return folder


def run(
    words: list[str],
    package: Path,
    models: Path,
    preload: str,
    seed: int,
    turns: tuple[int, float | None],
    kind: str,
    **more: str,
):
    """What `decoding` counted, watched; a fault fails with what was said, and keeps the input."""
    script = str(Path(__file__).parent / "decoding.py")
    environment = {
        **os.environ,
        "PYTHONPATH": str(package),
        "LD_PRELOAD": preload,
        "PYTHONMALLOC": "malloc",
        "XDG_CACHE_HOME": str(package / "cache"),
        **more,
    }
    done = subprocess.run(
        [*words, sys.executable, script, str(models), str(seed), *map(str, turns), kind],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        KEPT.mkdir(parents=True, exist_ok=True)
        shutil.copy(models / "now" / "input.onnx", KEPT / f"decoder-{kind}-{seed}.onnx")
    assert done.returncode == 0, f"{done.stderr[-6000:]}\nthe input is {KEPT}/decoder-{kind}-{seed}.onnx"
    return tuple(map(int, done.stdout.split()))


@pytest.mark.weight(90)
def test_no_address_is_wrong_and_nothing_undefined(models, trust, tmp_path):
    preload, names = f"{library('libasan.so')} {library('libubsan.so')}", levels(trust)
    package = sanitised(tmp_path, names, "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
    options = {
        "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1",
        "UBSAN_OPTIONS": "print_stacktrace=1",
    }
    todo = [(*one, name) for one in (("valid", 36, 0.4), ("forged", 600, 0.6)) for name in names]
    for number, (kind, count, _, level) in enumerate(todo):
        part = todo[number][2] / sum(one[2] for one in todo[number:])
        wanted, own = (trust.times(count), trust.part(part)), options | {"P2_CPU": level}
        inputs, ran, written = run([], package, models, preload, trust.seed, wanted, kind, **own)
        row = f"{kind} step files, {level}, AddressSanitizer and UndefinedBehaviorSanitizer"
        trust.count("The compiled decoder", row, inputs=inputs, ran=ran, characters=written, stops=0)


@pytest.mark.weight(60)
def test_no_thread_races_with_another(models, trust, tmp_path):
    preload = library("libtsan.so")
    package = sanitised(tmp_path, levels(trust)[:1], "-fsanitize=thread")
    words = ["setarch", "-R"] if shutil.which("setarch") else []  # it knows no addresses at random
    options = {"TSAN_OPTIONS": "halt_on_error=1:exitcode=66:ignore_noninstrumented_modules=1"}
    wanted = trust.times(24), trust.until
    inputs, ran, written = run(words, package, models, preload, trust.seed, wanted, "threads", **options)
    row = "valid step files, ThreadSanitizer, 1 to 5 threads"
    trust.count("The compiled decoder", row, inputs=inputs, ran=ran, characters=written, stops=0)


def _busy(until) -> None:
    while not until.is_set():
        sum(range(1000))


@pytest.fixture
def load():
    """Other processes that want half of the processors."""
    context = multiprocessing.get_context("spawn")
    until = context.Event()
    others = [
        context.Process(target=_busy, args=(until,), daemon=True)
        for _ in range(-(-(os.cpu_count() or 1) // 2))
    ]
    for one in others:
        one.start()
    yield
    until.set()
    for one in others:
        one.join(10)


@pytest.mark.weight(30)
@pytest.mark.usefixtures("load")
def test_a_text_is_the_same_on_any_number_of_threads(models, trust):
    """While others want the processors, and where the number changes in the middle of the text."""
    from p2.runtime.native.engine import NativeEngine

    rnd, texts = trust.random(), 0
    paths = sorted(models.glob("*.onnx"))
    for turn in trust.turns(len(paths)):
        path = paths[turn % len(paths)]
        engine = NativeEngine(open_step(path), 1)
        batch = rnd.choice((1, 2, 5, 9))
        draws = [Draw(rnd.getrandbits(64), row, 0, rnd.choice(SETTINGS)) for row in range(batch)]
        seed = rnd.getrandbits(32)
        expected = None
        for threads in [(count,) for count in THREADS] + [THREADS, THREADS[::-1]]:
            found = _written(engine, draws, seed, threads)
            expected = expected or found
            assert found == expected, (path.name, threads)
            texts += batch
    trust.count(
        "The compiled decoder", "texts on 1, 2, 3, 5 and changing threads, under load", inputs=texts, stops=0
    )


def _written(engine, draws: list[Draw], seed: int, threads: tuple[int, ...]) -> bytes:
    """What is written, and the states at the end; each call takes the next number of threads."""
    rng, batch, vocab = np.random.default_rng(seed), len(draws), engine.card.vocab
    state, last, said, position = engine.zero_state(batch), np.zeros(batch, np.int64), [], 0
    for number in range(3):
        changing(engine, threads[number % len(threads)])
        said.append(engine.feed(state, rng.integers(0, vocab, (batch, 9)), logits=True).tobytes())
        changing(engine, threads[(number + 1) % len(threads)])
        tokens = engine.draw_each(state, last, [one._replace(position=position) for one in draws], 7)
        said.append(tokens.tobytes())
        last, position = tokens[:, -1].copy(), position + 7
    return b"".join([*said, *(array.tobytes() for array in state.values())])
