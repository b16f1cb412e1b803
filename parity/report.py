"""The parity suite as a command: find engines, compare, show a table, keep JSON and a picture."""

from __future__ import annotations

import errno
import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..contract.agreement import LIMITS
from ..contract.codec import Codec, Tokens
from ..contract.engine import Engine
from ..contract.errors import BackendMissing, P2Error, UsageError
from ..contract.files import locked, make_folder, read_text, write_bytes, write_json, writing
from ..contract.shell import command
from ..render.machine import machine
from ..render.numbers import printable
from ..render.progress import Progress
from ..runtime.locate import locate
from ..runtime.opening import kind_for, open_checkpoint, open_engine, usable_backends
from ..version import __version__
from .compare import TAUS, Parity, Reference

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True)
class Outcome:
    """What a comparison came to.

    Attributes:
        results: of the engines that were compared.
        skipped: the engines that could not run here, with the reason.
        files: the report and its picture; none where nothing could be written.
        notes: what else a person should know, a sentence each.
    """

    results: list[Parity]
    skipped: dict[str, str]
    files: list[Path]
    notes: list[str]


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
    on_unknown: str = "error",
    progress: Progress,
) -> Outcome:
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
        backend: what runs the engines (`runtime.backends`); none of another kind can then take part. With
            None, a .onnx is run by everything on the processor that can.
        on_unknown: ``error`` or ``skip`` characters of `text` that the model does not know.
        progress: shows what is being done.

    Raises:
        P2Error: an engine that was asked for by name cannot be opened or run, or none could be compared.
    """
    if on_unknown not in ("error", "skip"):
        raise UsageError(f"on-unknown takes error or skip, not {on_unknown!r}")
    if json_path is not None:  # refused before anything is compared
        with writing(json_path):
            if json_path.is_dir():
                raise IsADirectoryError(errno.EISDIR, "")
        make_folder(json_path.parent)
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
            backends = usable_backends(path, gpu=True) if kind == "onnx" and backend is None else [backend]
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
    if not opened:
        raise P2Error(f"nothing was compared: {'; '.join(skipped.values())}")
    reading_text, notes = None, []
    if text:
        reading_text, left_out = _read_tokens(text, eager, steps, on_unknown)
        if left_out:
            notes.append(f"skipped {left_out:,} characters of {text} that the model does not know")
    reference = Reference(eager, steps, characters, seed, reading_text, progress.phase)
    results = [_compare(reference, path, engine, progress) for path, engine in opened]
    target = json_path or checkpoint / "parity.json"
    files = [target, target.with_suffix(".svg")]
    picture = _picture(results)
    try:
        with locked(
            target.with_name(f".{target.name}.lock"), target, "--json"
        ):  # its picture is no other report's
            write_json(target, _report(results, skipped, checkpoint, steps, characters, seed, text))
            write_bytes(files[1], picture)
    except P2Error as error:
        if json_path is not None:
            raise
        files = []  # the table is the answer: a model may lie where nothing can be written
        notes.append(f"no report: {error}; --json names another place for it")
    return Outcome(results, skipped, files, notes)


def _engines_in(checkpoint: Path, backend: str | None) -> list[str]:
    """The engines that are compared when none is named."""
    kind = kind_for(backend)
    if kind == "checkpoint":
        return [str(checkpoint)]
    kinds = [kind] if kind else ["onnx", "plan"]
    return [str(path) for kind in kinds for path in sorted(checkpoint.glob(f"*.{kind}"))]


def _compare(reference: Reference, path: Path, engine: Engine, progress: Progress) -> Parity:
    return reference.compare(engine, str(path), lambda stage: progress.phase(f"{path.name}: {stage}"))


def table(results: list[Parity], skipped: dict[str, str]) -> Table:
    """The results as a rich table that reads at any width: one engine below the other."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    shown = Table(
        title="Parity with eager PyTorch", title_justify="left", show_header=False, box=box.HORIZONTALS
    )
    shown.add_column(overflow="fold")
    shown.add_column(overflow="fold", justify="right")
    for result in results:
        verdict = Text("out of tolerance", "red") if result.failures else Text("parity", "green")
        shown.add_row(Text(printable(Path(result.path).name), "bold"), verdict)
        for what, value in _lines(result):
            shown.add_row(what, value)
        shown.add_section()
    for name in skipped:
        shown.add_row(Text(printable(Path(name).name), "bold"), "not run", end_section=True)
    return shown


def _lines(result: Parity) -> list[tuple[str, str]]:
    """What is shown of an engine; a line fits into 50 columns."""
    limits, forced = LIMITS[result.precision], result.forced
    differs = {tau: result.first_difference[f"{tau:g}"] for tau in TAUS}
    places = [f"{at:,} (tau {tau:g})" for tau, at in differs.items() if at is not None]
    return [
        ("run by", printable(result.engine)),
        ("logit error, one step", f"{result.single.max_abs:.1e}"),
        (f"logit error, {forced.steps:,} steps", f"{forced.max_abs:.1e}"),
        ("relative error", f"{forced.relative:.1e} (limit {limits.relative:.0e})"),
        ("KL, nats", f"{forced.kl:.1e} (limit {limits.kl:.0e})"),
        ("bits per character", f"{result.bits:.4f} (eager {result.bits_reference:.4f})"),
        ("text differs from", ", ".join(places) or "nowhere"),
        ("rows of a batch", f"{result.rows.max_abs:.1e}" if result.rows else "takes one text"),
        ("as its logits choose", f"{result.written:.2%}"),
        ("from a snapshot", "the same" if result.restored else "other"),
    ]


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


def _read_tokens(path: Path, engine: Engine, steps: int, on_unknown: str) -> tuple[Tokens, int]:
    """The first tokens of a text, at most ``steps + 1``, and how many characters were left out."""
    text, left_out = read_text(path), 0
    if on_unknown == "skip":
        known = set(engine.card.vocabulary)
        places = list(itertools.islice((i for i, c in enumerate(text) if c in known), steps + 1))
        left_out = (places[-1] + 1 if len(places) > steps else len(text)) - len(places)
        text = "".join(text[i] for i in places)
    tokens = Codec(engine.card.vocabulary).encode(text[: steps + 1])
    if len(tokens) < 3:
        raise P2Error(f"{path} is too short to read: {len(tokens)} characters that the model knows")
    return tokens, left_out


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
    """Logit error over the teacher-forced steps, on a logarithmic scale, as SVG; see `Parity.drift`."""
    import numpy as np

    from ..trainer.drawing import alone, canvas, legend, plain_log, svg

    with canvas(7, 3.4) as figure:
        axes = figure.add_subplot()
        for result in results:
            found, each = result.drift()
            errors = np.maximum(found, 1e-12)
            label = printable(f"{Path(result.path).name} ({result.engine})")
            axes.plot(np.arange(1, len(errors) + 1) * each, errors, label=label, lw=1)
        axes.set(yscale="log", xlabel="recurrent steps", ylabel="RMS logit error")
        axes.set_title("Distance from eager PyTorch while reading the same text")
        plain_log(axes.yaxis)
        legend(figure)
        return alone(svg(figure, "parity")).encode()
