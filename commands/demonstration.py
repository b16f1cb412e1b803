"""All of p2 once, on the text that every Python carries: train, export, compare, time, write.

Nothing is downloaded and nothing is prepared: every figure shown is measured while it runs.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..contract.card import CPU_PRECISIONS
from ..contract.engine import Engine
from ..contract.errors import P2Error
from ..contract.files import write_bytes, write_json
from ..contract.sampling import Sampling
from ..contract.shell import command

if TYPE_CHECKING:
    from rich.console import Console

    from ..bench.speed import Speed
    from ..parity.compare import Parity
    from ..trainer.options import TrainOptions

RUN = Path("artifacts/demo")
STEPS = 600
TEXT_STEPS = 1000
CHARACTERS = 2000
TAU = 2.0
PROMPT = "The "
LENGTH = 400

_MADE = re.compile(r"best|last|log\.jsonl|curve\.svg|demo\.(json|svg)|charlm-\w+\.(onnx|plan|plan\.json)")


@dataclass(frozen=True)
class Contender:
    """An engine of the demo with what was found out about it; `parity` is None for eager itself."""

    title: str
    path: Path
    engine: Engine
    speed: Speed
    parity: Parity | None
    bits: float


def run(console: Console, steps: int = STEPS, folder: Path = RUN) -> bool:
    """Run the demo.

    Args:
        console: where to show it.
        steps: training updates.
        folder: where the run is kept.

    Returns:
        whether every engine passed the parity suite.
    """
    from ..trainer import corpus as corpora
    from ..trainer import display, loop
    from ..trainer.options import TrainOptions

    corpus = corpora.load([])
    console.rule("1. train", align="left")
    options = TrainOptions(steps=steps, out=folder)
    if loop.train(options, corpus, display.for_stdout(), lambda old: made_here(old, options)).interrupted:
        raise KeyboardInterrupt
    console.rule("2. export", align="left")
    exported = _export(folder, console.print)
    console.rule("3. compare", align="left")
    contenders = _compare(folder, exported, corpus.text, lambda stage: console.print(f"  {stage}"))
    console.print(_table(contenders))
    failures = [f"{c.path}: {what}" for c in contenders if c.parity for what in c.parity.failures]
    if failures:
        console.print("parity: out of tolerance: " + "; ".join(failures), style="red")
    else:
        console.print(
            f"parity: every engine says what eager PyTorch says, over {TEXT_STEPS:,} held-out characters;"
            f" float32 writes the same {CHARACTERS:,} characters at tau 0.5, 1 and 2",
            style="green",
        )
    console.rule("4. write", align="left")
    sample, known = _sample(contenders[1].engine, corpus.text)
    words = ("--engine", str(contenders[1].path), "--prompt", PROMPT, "--tau", f"{TAU:g}", "--seed", "0")
    console.print(command("p2", "generate", *words) + "\n", markup=False)
    console.print(sample + "\n", markup=False, highlight=False, soft_wrap=True)
    console.print(f"{known:.0%} of its words are words of the text it learnt from")
    report = _report(contenders, sample, known, steps, not failures, _learning(folder))
    write_json(folder / "demo.json", report)
    write_bytes(folder / "demo.svg", _picture(report))
    console.rule("what next", align="left")
    for line in (
        f"everything is in {folder}: demo.json, demo.svg, curve.svg, the checkpoints and the engines",
        *_environment(),
        "p2 train your-book.txt            a model of your own text",
        "p2 export --fp16                  its engines: charlm.onnx, and charlm.plan where TensorRT is",
        "p2 generate --prompt 'Once upon'  text from them; --tau 2 is safer, --tau 0.5 wilder",
        "p2 parity                         the proof that they say the same",
        "p2 doctor                         what can be built and run on this machine",
    ):
        console.print(line, markup=False, highlight=False)
    return not failures


def _environment() -> list[str]:
    """The line that puts ``p2`` on the path of the person's shell, where it is not there yet."""
    activate = Path(sys.prefix) / "bin" / "activate"
    if not activate.exists() or os.environ.get("VIRTUAL_ENV"):
        return []
    near = activate.is_relative_to(Path.cwd())
    line = command(".", activate.relative_to(Path.cwd()) if near else activate)
    return [f"{line:<33} makes p2 a command of this shell"]


def made_here(folder: Path, options: TrainOptions) -> bool:
    """Whether all that is in a run folder is an earlier demo's, and so made again by the next one."""
    from ..trainer import checkpoint
    from ..trainer.corpus import BUILT_IN
    from ..trainer.options import TrainOptions
    from ..trainer.runfolder import RunFolder

    try:
        record = checkpoint.load(RunFolder(folder).last).record
        before = TrainOptions.from_dict(record.options, options.out, str(folder))
    except P2Error:
        return False
    same = replace(before, precision=options.precision) == options and record.sources == [BUILT_IN]
    return same and all(_MADE.fullmatch(path.name) for path in folder.iterdir())


def _export(folder: Path, say: Callable[[str], None]) -> dict[str, Path]:
    """One .onnx for each precision; the plan, where one can be built, from the float16 graph."""
    from ..export.exporter import export_checkpoint

    paths = {}
    for precision in CPU_PRECISIONS:
        path = folder / f"charlm-{precision}.onnx"
        engine = "auto" if precision == "float16" else "none"
        made = export_checkpoint(folder, precision=precision, out=path, engine=engine, say=say)
        if engine == "auto" and made.plan is None:
            say(made.plan_note)
        paths[precision] = path
    return paths


def _compare(
    folder: Path, exported: dict[str, Path], text: str, say: Callable[[str], None]
) -> list[Contender]:
    from ..bench.speed import measure
    from ..contract.codec import Codec
    from ..parity.compare import Reference
    from ..runtime.opening import open_step_engine
    from ..trainer.eager import open_checkpoint

    eager = open_checkpoint(folder)
    held_out = Codec(eager.card.vocabulary).encode(text[-TEXT_STEPS - 1 :])
    reference = Reference(eager, TEXT_STEPS, CHARACTERS, 0, held_out, say)
    engines: list[Engine] = [open_step_engine(path) for path in exported.values()]
    results = []
    for engine, path in zip(engines, exported.values(), strict=True):
        say(f"{path.name} reads and writes the same")
        results.append(reference.compare(engine, str(path)))
    say("characters per second, in turns")
    speeds = measure([eager, *engines])
    rows = [Contender("eager PyTorch", folder / "best", eager, speeds[0], None, results[0].bits_reference)]
    rows += [
        Contender(f"p2 {precision}", path, engine, speed, result, result.bits)
        for (precision, path), engine, speed, result in zip(
            exported.items(), engines, speeds[1:], results, strict=True
        )
    ]
    return rows


def _table(contenders: list[Contender]) -> Any:
    from rich.table import Table

    table = Table(title="One text at a time, sampling included", title_justify="left")
    for heading in (
        "engine",
        "characters/s",
        "times eager",
        "bits/char, held out",
        "KL from eager",
        "MB",
        "parity",
    ):
        table.add_column(heading, justify="left" if heading == "engine" else "right")
    base = contenders[0].speed.characters_per_second
    for c in contenders:
        size = (
            c.path.stat().st_size
            if c.path.is_file()
            else sum(p.stat().st_size for p in c.path.glob("model-*"))
        )
        table.add_row(
            c.title,
            f"{c.speed.characters_per_second:,.0f}",
            f"{c.speed.characters_per_second / base:.1f}",
            f"{c.bits:.4f}",
            f"{c.parity.forced.kl:.1e}" if c.parity else "",
            f"{size / 1e6:.1f}",
            "" if c.parity is None else "no" if c.parity.failures else "yes",
        )
    return table


def _sample(engine: Engine, text: str) -> tuple[str, float]:
    """A sample, and the share of its words (of three letters or more) that the text has."""
    from ..runtime.generate import Request
    from ..runtime.printing import write_samples

    request = Request(prompt=PROMPT, length=LENGTH, sampling=Sampling.from_tau(TAU))
    sample = PROMPT + write_samples(engine, request)[0]
    known = set(_words(text))
    words = _words(sample)[:-1]  # the last one may be cut off
    return sample, sum(word in known for word in words) / max(1, len(words))


def _words(text: str) -> list[str]:
    return [word.lower() for word in re.findall(r"[A-Za-z]{3,}", text)]


def _learning(folder: Path) -> list[dict[str, float]]:
    """What the log says of each update that it has a line for: bits per character."""
    from ..trainer.runfolder import RunFolder, read_log

    kept = ("step", "bits_per_character", "val_bits_per_character")
    return [{key: e[key] for key in kept if key in e} for e in read_log(RunFolder(folder).log)]


def _report(
    contenders: list[Contender],
    sample: str,
    known: float,
    steps: int,
    passed: bool,
    learning: list[dict[str, float]],
) -> dict[str, Any]:
    from ..render.machine import machine
    from ..version import __version__

    return {
        "p2": __version__,
        "machine": machine(),
        "steps": steps,
        "passed": passed,
        "learning": learning,
        "engines": [
            {
                "title": c.title,
                "file": str(c.path),
                "backend": c.engine.name,
                "speed": asdict(c.speed),
                "bits_per_character": c.bits,
                "parity": c.parity.to_dict() if c.parity else None,
            }
            for c in contenders
        ],
        "sample": {"prompt": PROMPT, "tau": TAU, "text": sample, "known_words": known},
    }


def _picture(report: dict[str, Any]) -> bytes:
    """Learning on the left, characters per second on the right, as SVG."""
    from ..trainer.drawing import COLOURS, GREY, alone, canvas, legend, plain_numbers, svg

    with canvas(9.5, 3.3) as figure:
        left, right = figure.subplots(1, 2, width_ratios=(1, 1.15))
        for key, label, style, colour in (
            ("bits_per_character", "training", "-", COLOURS[0]),
            ("val_bits_per_character", "held out", "o-", COLOURS[1]),
        ):
            points = [(e["step"], e[key]) for e in report["learning"] if key in e]
            if points:
                left.plot(*zip(*points, strict=True), style, color=colour, label=label)
        left.set(xlabel="updates", ylabel="bits per character", title="Learning")
        engines = report["engines"][::-1]
        titles = [e["title"] for e in engines]
        speeds = [e["speed"]["characters_per_second"] for e in engines]
        bars = right.barh(titles, speeds, color=[COLOURS[0]] * (len(titles) - 1) + [GREY])
        labels = [
            f"{s:,.0f}   ({e['bits_per_character']:.3f} bits/char)"
            for s, e in zip(speeds, engines, strict=True)
        ]
        right.bar_label(bars, labels, padding=4, fontsize=9)
        right.set(title="One text, sampling included", xlabel="characters per second")
        right.set_xlim(0, 1.85 * max(speeds))
        right.grid(visible=False, axis="y")
        plain_numbers(right.xaxis, 4)
        legend(figure)
        return alone(svg(figure, "demo")).encode()
