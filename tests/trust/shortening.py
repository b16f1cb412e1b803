"""What makes commands short without changing what they write: no pictures, no tracing, no measuring."""

from __future__ import annotations

import contextlib
import hashlib
import os
import types
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any


def shorten() -> None:
    """Leave that out, in this process and its children; and save after every update."""
    import torch

    torch.set_num_threads(1)
    from p2.bench import models as bench_models
    from p2.bench import race, rates, run, startup
    from p2.bench.entries import blank
    from p2.export import builder, graph
    from p2.practical.toy import runs as toy_runs
    from p2.practical.toy.settings import ToySettings
    from p2.practical.toy.training import ToyOptions
    from p2.runtime import nvidia
    from p2.trainer import drawing
    from p2.trainer import run as trainer_run

    trainer_run.FIRST_UPDATES, trainer_run.SAVE_SECONDS, trainer_run._SAVE_SHARE = 2, 0.0, 1e9

    picture = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1 1"></svg>\n'
    drawing.svg = lambda *_: picture

    traced: dict[tuple[Any, ...], bytes] = {}
    original = graph._trace

    def trace(card: Any, dtype: Any) -> Any:
        import onnx

        key = (card.form.name, card.layers, card.hidden, card.vocab, dtype)
        if key not in traced:
            traced[key] = original(card, dtype).SerializeToString()
        return onnx.load_model_from_string(traced[key])

    graph._trace = trace

    class Run:
        """A builder whose plan is some bytes of the graph."""

        targets = ()

        def __init__(self, *_: Any) -> None:
            self.settings: dict[str, Any] = {}

        def parse(self, model: Any) -> str:
            self.of = hashlib.sha256(model.SerializeToString()).digest()
            return "float32"

        def build(self, profiles: Any, _: Any) -> memoryview:
            return memoryview(b"vtrt" + bytes(24) + repr(profiles).encode() + self.of)

    builder.BuilderRun = Run
    builder.available = lambda: ["tensorrt-rtx"]
    nvidia.library = lambda _: types.SimpleNamespace(listening=lambda _: contextlib.nullcontext())
    builder.require_gpu = lambda _: None

    run.QUICK = replace(run.QUICK, rounds=2)
    race.REST_SECONDS = 0.0
    rates.measure = lambda _: {"matmul numpy": 1e10}
    rates.Bandwidth = lambda _: contextlib.nullcontext(types.SimpleNamespace(read=lambda: 2e9))
    startup.measure = lambda *_: {"help_s": 0.1, "generate_first_character_s": 0.3, "runs": 1}
    bench_models.export_steps = lambda *_: {}
    bench_models.prepare_peers = lambda _: None

    def measured(_: Any, entrants: Any) -> list[Any]:
        entries = [blank(entrant.contender) for entrant in entrants]
        for entry in entries:
            entry["characters_per_second"] = race.entries.spread([10.0, 20.0, 30.0])
            entry["bytes_per_step"] = 1000
        return entries

    race.Race.run = measured

    tiny = {"embedding": 2, "hidden": 4, "batch": 8, "updates": 5}
    ToySettings.plan = lambda _: [
        ToyOptions(cell, 4, seed=0, **tiny) for cell in ("rnn", "lstm", "gru", "gru-before")
    ]

    @contextlib.contextmanager
    def pool(_context: Any, _workers: int, told: Any) -> Iterator[Any]:
        from concurrent.futures import ThreadPoolExecutor

        toy_runs._worker.update(told=told, parent=os.getppid())
        with ThreadPoolExecutor(1) as threads:
            yield threads

    toy_runs._pool = pool


def warm(command: str, folder: Path) -> None:
    """Import and trace here, once, what children would each: by doing it."""
    from p2 import cli

    here = Path.cwd()
    os.chdir(folder)
    with (
        Path(os.devnull).open("w") as null,
        contextlib.redirect_stdout(null),
        contextlib.redirect_stderr(null),
    ):
        assert cli.main(command.split()) == 0
    os.chdir(here)
