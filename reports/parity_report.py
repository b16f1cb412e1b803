"""The parity suite as a command: find engines, compare, show a table, keep JSON and a picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..runtime.backends import usable_backends
from ..runtime.locate import locate
from ..spec.agreement import LIMITS
from ..spec.codec import Codec, Tokens
from ..spec.engine import Engine
from ..spec.errors import BackendMissing, P2Error, UsageError
from ..spec.files import read_text, write_bytes, write_json
from ..spec.shell import command
from ..version import __version__
from .engines import kind_for, open_checkpoint, open_engine
from .machine import machine
from .numbers import printable
from .parity import TAUS, Parity, Reference
from .progress import Stages

if TYPE_CHECKING:
    from rich.table import Table


def run_parity(
    engines: list[str],
    checkpoint: Path,
    *,
    steps: int,
    characters: int,
    seed: int,
    text: Path | None,
    json_path: Path | None,
    backend: str | None = None,
    stages: Stages,
) -> tuple[list[Parity], dict[str, str], Path]:
    """Compare engines with the eager checkpoint and write the report.

    Args:
        engines: names or paths; none means every .onnx and .plan in the checkpoint's folder.
        checkpoint: the reference, a checkpoint or a run's folder.
        steps: teacher-forced steps, >= 2.
        characters: sampled characters per tau, >= 1.
        seed: of text and sampling.
        text: a UTF-8 file to read in the teacher-forced part, instead of text the model writes.
        json_path: where the report goes; by default ``parity.json`` in the checkpoint's folder. A
            picture of the error over the steps goes beside it.
        backend: what runs the engines (`engines.BACKENDS`); none of another kind can then take part. With
            None, a .onnx is run by everything on the processor that can.
        stages: shows what is being done.

    Returns:
        the results, the engines that could not run here with the reason, and the report's path.

    Raises:
        P2Error: an engine that was asked for by name cannot be opened or run.
    """
    if steps < 2 or characters < 1:
        raise UsageError("parity needs at least 2 steps and 1 character")
    named = bool(engines)
    names = engines or _engines_in(checkpoint, backend)
    if not names:
        raise P2Error(
            f"there is no engine in {checkpoint}: `{command('p2', 'export', checkpoint)}` makes one"
        )
    opened: list[tuple[Path, Engine]] = []
    skipped: dict[str, str] = {}
    for name in names:
        try:
            path, kind = locate(name)
            backends = usable_backends(path) if kind == "onnx" and backend is None else [backend]
            opened += [(path, open_engine(name, backend=chosen)) for chosen in backends]
        except BackendMissing as error:
            if named:
                raise
            skipped[name] = str(error)
    if not opened:
        raise BackendMissing(next(iter(skipped.values())))
    eager = _reference_for(checkpoint, opened[0][1])
    if not named:
        wanted = eager.card.checkpoint_sha256
        others = [path for path, engine in opened if engine.card.checkpoint_sha256 != wanted]
        skipped |= {str(path): f"{path} was exported from another checkpoint" for path in others}
        opened = [(path, engine) for path, engine in opened if path not in others]
    reading_text = _read_tokens(text, eager, steps) if text else None
    reference = Reference(eager, steps, characters, seed, reading_text, stages.say)
    results = [_compare(reference, path, engine, stages) for path, engine in opened]
    target = json_path or checkpoint / "parity.json"
    write_json(target, _report(results, skipped, checkpoint, steps, characters, seed, text))
    write_bytes(target.with_suffix(".svg"), _picture(results))
    return results, skipped, target


def _engines_in(checkpoint: Path, backend: str | None) -> list[str]:
    """The engines that are compared when none is named."""
    kind = kind_for(backend)
    if kind == "checkpoint":
        return [str(checkpoint)]
    kinds = [kind] if kind else ["onnx", "plan"]
    return [str(path) for kind in kinds for path in sorted(checkpoint.glob(f"*.{kind}"))]


def _compare(reference: Reference, path: Path, engine: Engine, stages: Stages) -> Parity:
    return reference.compare(engine, str(path), lambda stage: stages.say(f"{path.name}: {stage}"))


def table(results: list[Parity], skipped: dict[str, str]) -> Table:
    """The results as a rich table, a column for each engine."""
    from rich.table import Table

    shown = Table(title="Parity with eager PyTorch", title_justify="left")
    shown.add_column("")
    for result in results:
        shown.add_column(f"{Path(result.path).name}\n{result.engine}", justify="right")
    for name in skipped:
        shown.add_column(Path(name).name, justify="right")

    def row(title: str, *values: str) -> None:
        shown.add_row(title, *values, *([""] * len(skipped)))

    steps = f"{results[0].forced.steps:,}" if results else ""
    row("one step: largest logit error", *(f"{r.single.max_abs:.1e}" for r in results))
    row(f"{steps} steps: largest logit error", *(f"{r.forced.max_abs:.1e}" for r in results))
    row(f"{steps} steps: relative error", *(f"{r.forced.relative:.1e}" for r in results))
    row("    its limit", *(f"{LIMITS[r.precision].relative:.0e}" for r in results))
    row(f"{steps} steps: KL, nats", *(f"{r.forced.kl:.1e}" for r in results))
    row("    its limit", *(f"{LIMITS[r.precision].kl:.0e}" for r in results))
    row("bits per character", *(f"{r.bits:.4f}" for r in results))
    row("    eager PyTorch's", *(f"{r.bits_reference:.4f}" for r in results))
    for tau in TAUS:
        differs = (r.first_difference[f"{tau:g}"] for r in results)
        row(f"text differs from, tau {tau:g}", *("nowhere" if at is None else f"{at:,}" for at in differs))
    row(
        "rows of a batch: largest error",
        *(f"{r.rows.max_abs:.1e}" if r.rows else "takes one text" for r in results),
    )
    row("written as its logits choose", *(f"{r.written:.2%}" for r in results))
    row("from a snapshot", *("the same" if r.restored else "other" for r in results))
    verdicts = ("[red]out of tolerance[/]" if r.failures else "[green]parity[/]" for r in results)
    shown.add_row("verdict", *verdicts, *(["not run"] * len(skipped)), end_section=True)
    return shown


def _reference_for(checkpoint: Path, engine: Engine) -> Engine:
    """The checkpoint of a run that the engine was exported from: usually best, but any of them."""
    eager = open_checkpoint(checkpoint)
    wanted = engine.card.checkpoint_sha256
    if eager.card.checkpoint_sha256 != wanted:
        for folder in sorted(path.parent for path in checkpoint.glob("*/model.json")):
            other = open_checkpoint(folder)
            if other.card.checkpoint_sha256 == wanted:
                return other
    return eager


def _read_tokens(path: Path, engine: Engine, steps: int) -> Tokens:
    tokens = Codec(engine.card.vocabulary).encode(read_text(path)[: steps + 1])
    if len(tokens) < 3:
        raise P2Error(f"{path} is too short to read: {len(tokens)} characters")
    return tokens


def _report(
    results: list[Parity],
    skipped: dict[str, str],
    checkpoint: Path,
    steps: int,
    characters: int,
    seed: int,
    text: Path | None,
) -> dict[str, Any]:
    return {
        "p2": __version__,
        "reference": "eager PyTorch, float32",
        "checkpoint": str(checkpoint),
        "machine": machine(),
        "settings": {
            "steps": steps,
            "characters": characters,
            "seed": seed,
            "text": str(text) if text else None,
        },
        "engines": [result.to_dict() for result in results],
        "not_run": skipped,
        "passed": not any(result.failures for result in results),
    }


def _picture(results: list[Parity]) -> bytes:
    """Logit error over the teacher-forced steps, on a logarithmic scale, as SVG."""
    import numpy as np

    from ..trainer.drawing import alone, canvas, legend, plain_log, svg

    with canvas(7, 3.4) as figure:
        axes = figure.add_subplot()
        for result in results:
            errors = np.maximum(result.errors, 1e-12)
            label = printable(f"{Path(result.path).name} ({result.engine})")
            axes.plot(np.arange(1, len(errors) + 1), errors, label=label, lw=1)
        axes.set(yscale="log", xlabel="recurrent steps", ylabel="RMS logit error")
        axes.set_title("Distance from eager PyTorch while reading the same text")
        plain_log(axes.yaxis)
        legend(figure)
        return alone(svg(figure, "parity")).encode()
