"""From a checkpoint to files that can be deployed: trace, check, write, build."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..contract.agreement import LIMITS, Agreement
from ..contract.card import canonical_precision
from ..contract.errors import BuilderRefused, P2Error, UsageError
from ..contract.files import locked, write_atomically
from ..contract.plan import FLAVOURS, TENSORRT, TENSORRT_RTX, runs_on
from ..contract.shell import install
from ..contract.stamp import PROBE_TOKENS
from ..runtime import nvidia
from .targets import PORTABLE, Options, parse_targets

Say = Callable[[str], None]

ENGINES = ("auto", "none", "tensorrt", "tensorrt-rtx")
FOR_A_PLAN = ("batch", "target", "version_compatible", "hardware_compatible")
NAMED = ("precision", "opset", "out", "engine", "triton", "web", "ort_web", *FOR_A_PLAN)


@dataclass(frozen=True)
class Exported:
    """What an export made.

    Attributes:
        onnx: the step graph.
        agreement: how well it agreed with the eager model.
        plan: the TensorRT engine, or None.
        plan_note: which engine it is, or why there is none.
        triton: folders of the models in the Triton repository, if one was asked for.
        web: the folder of the page, if one was asked for.
    """

    onnx: Path
    agreement: Agreement
    plan: Path | None
    plan_note: str
    triton: tuple[Path, ...] = ()
    web: Path | None = None


def parse_batch(text: str) -> tuple[int, int, int]:
    """``min,opt,max`` as three ascending integers; one number is all three.

    Raises:
        UsageError: it is something else.
    """
    try:
        numbers = [int(part) for part in text.split(",")]
        low, best, high = numbers * 3 if len(numbers) == 1 else numbers
    except ValueError as error:
        raise UsageError(f"--batch takes min,opt,max (such as 1,8,64) or one number, not {text!r}") from error
    if not 1 <= low <= best <= high:
        raise UsageError(f"--batch needs 1 <= min <= opt <= max, not {text}")
    return low, best, high


def named(options: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of `export_checkpoint` from options as a caller names them; None and False are not named.

    Args:
        options: of `NAMED`. Paths may be texts, `batch` and `target` as on the command line
            (``"1,8,64"``, ``"sm89,sm120"``) or a sequence of the same.

    Raises:
        UsageError: there is no such option, one cannot be read, or one is for a plan that is not built.
    """
    for name in options:
        if name not in NAMED:
            raise UsageError(f"there is no option {name!r}: choose from {', '.join(sorted(NAMED))}")
    given = {name: value for name, value in options.items() if value is not None and value is not False}
    useless = ", ".join("--" + name.replace("_", "-") for name in FOR_A_PLAN if name in given)
    if useless and given.get("engine") == "none":
        raise UsageError(f"{useless}: for a .plan, and --engine none builds none")
    if "ort_web" in given and "web" not in given:
        raise UsageError("--ort-web is for a page, and --web names none")
    for name in ("out", "triton", "web", "ort_web"):
        if name in given:
            given[name] = Path(given[name])
    if "batch" in given:
        given["batch"] = parse_batch(_words(given["batch"]))
    if "target" in given:
        given["targets"] = parse_targets(_words(given.pop("target")))
    return given


def _words(value: Any) -> str:
    several = isinstance(value, Iterable) and not isinstance(value, str)
    return ",".join(map(str, value)) if several else str(value)


def export_checkpoint(
    source: Path,
    *,
    precision: str = "float32",
    opset: int | None = None,
    out: Path | None = None,
    engine: str = "auto",
    batch: tuple[int, int, int] = (1, 8, 64),
    targets: tuple[str, ...] = (),
    version_compatible: bool = False,
    hardware_compatible: bool = False,
    triton: Path | None = None,
    web: Path | None = None,
    ort_web: Path | None = None,
    say: Say = lambda _: None,
    stage: Say = lambda _: None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Exported:
    """Export one step of a checkpoint, and build its TensorRT engine where one can be built.

    Args:
        source: a checkpoint, or a training run's folder (its best checkpoint is taken).
        precision: one of `contract.card.PRECISIONS`.
        opset: ONNX operator set, for runtimes that are older than p2's; None is `opset.OPSET`.
        out: the .onnx file; by default the run folder's name inside it
            (``artifacts/charlm/charlm.onnx``). The plan lies beside it. What is there of another precision or
            another checkpoint is kept under another name (`aside`).
        engine: ``auto`` takes the TensorRT that is installed, and keeps the .onnx if that refuses the
            graph; ``none`` builds no plan.
        batch: smallest, usual and largest batch the plan has to serve.
        targets, version_compatible, hardware_compatible: see `export.targets.Options`.
        triton: a Triton model repository, which the models are put into (`triton.repository`).
        web: a folder, which a page that runs the step in a browser is put into (`web.page`).
        ort_web: files of onnxruntime-web for that page; None asks npm (`web.ort_web`).
        say: receives a line about each thing done.
        stage: receives a few words about each thing that is begun and may take long.
        progress: how far the plan's builder is: phase, steps done, steps in all.

    Raises:
        P2Error: the checkpoint is missing or damaged, the graph is out of tolerance or a reader does not
            open it, the engine asked for is not installed or refuses the graph, a file at the target is not
            p2's or being written by another p2, or one cannot be written.
    """
    from ..trainer import checkpoint as checkpoints
    from ..trainer.eager import open_checkpoint
    from . import builder
    from .aside import Place, make_room
    from .fold import fold
    from .graph import add_probe, step_graph
    from .opset import OPSET, check_opset
    from .triton.repository import Repository
    from .verify import BATCH, STEPS, read_back, verify
    from .web.ort_web import PACKAGE
    from .web.page import Page

    if engine not in ENGINES:
        raise UsageError(f"unknown engine {engine!r}: choose one of {', '.join(ENGINES)}")
    precision = canonical_precision(precision)
    opset = OPSET if opset is None else opset
    check_opset(opset, precision)
    flavour, note = _choose_builder(engine)
    options = Options(targets, version_compatible, hardware_compatible)
    if flavour is not None:
        options.check(FLAVOURS[flavour])
    elif options != PORTABLE:
        raise UsageError(f"--target and --*-compatible are for a plan, and there will be none: {note}")

    if out is not None and out.suffix != ".onnx":
        raise UsageError(f"--out names the .onnx file to write, not {out}")
    if not source.exists():
        raise P2Error(f"there is no checkpoint {source}: `p2 train` makes one")
    loaded = checkpoints.load(source)
    path = out or _output(source)
    with contextlib.ExitStack() as held:
        for lock, what, option in _locks(path, triton, web):
            held.enter_context(locked(lock, what, option))
        Place(path).held()  # refuse what is not p2's before any work is done
        repository = None if triton is None else Repository(triton, path.stem)
        if repository is not None:
            repository.check()
            if batch[0] > 2 and flavour == TENSORRT.name:
                raise UsageError(
                    f"--batch {batch[0]},...: Triton makes batches of every size, so min must be 1 or 2"
                )
        page = None if web is None else Page(web, ort_web)
        if page is not None:
            stage(f"looking for {PACKAGE}")
            page.check()
        card = loaded.card.with_(precision=precision)
        say(f"{card.cell}, {card.layers} x {card.hidden}, {card.vocab} characters, from {loaded.folder}")
        stage("tracing one step")
        model = step_graph(card, fold(card, loaded.model_state), opset)
        stage("comparing with eager PyTorch")
        verified = verify(model.SerializeToString(), open_checkpoint(loaded.folder), precision)
        add_probe(model, verified.tokens[0, :PROBE_TOKENS], verified.logits[0, PROBE_TOKENS - 1])
        data = model.SerializeToString()
        measured, limits = verified.agreement, LIMITS[precision]
        say(
            f"{precision} agrees with eager PyTorch over {BATCH} x {STEPS} recurrent steps: largest logit"
            f" error {measured.max_abs:.2g}, relative {measured.relative:.2g} (limit {limits.relative:g}),"
            f" KL {measured.kl:.2g} nats (limit {limits.kl:g})"
        )

        def ready(finished: Path) -> None:
            stage("opening the file with every reader")
            read_back(finished, verified, precision)
            make_room(path, card, finished, say)

        write_atomically(path, lambda file: file.write(data), ready)
        say(f"wrote {path} ({path.stat().st_size / 1e6:.1f} MB)")

        def made(plan: Path | None, note: str) -> Exported:
            placed = () if repository is None else repository.put(path, plan, say)
            if page is not None:
                page.put(path, say)
            return Exported(path, measured, plan, note, placed, web)

        plan = path.with_suffix(".plan")
        if flavour is None:
            return made(None, note)
        stage(f"building {plan.name}")
        try:
            header = builder.build_plan(
                path,
                card,
                plan,
                engine=flavour,
                batch=batch,
                options=options,
                say=say,
                progress=progress,
            )
        except BuilderRefused as error:
            if engine != "auto":
                raise
            return made(None, f"no .plan: {error}")
        say(f"wrote {plan} ({plan.stat().st_size / 1e6:.1f} MB, {header})")
        return made(plan, str(header))


def _locks(onnx: Path, triton: Path | None, web: Path | None) -> Iterator[tuple[Path, Path, str]]:
    """What another export may not write meanwhile: a lock, the place, and the option that names it."""
    yield onnx.with_name(f".{onnx.name}.lock"), onnx, "--out"
    if triton is not None and not triton.is_file():
        yield triton / ".p2.lock", triton, "--triton"
    if web is not None:
        yield web.absolute().with_name(f".{web.absolute().name}.lock"), web, "--web"


def _choose_builder(engine: str) -> tuple[str | None, str]:
    """Which builder to use, known before any work is done, or None and why."""
    from . import builder

    if engine == "none":
        return None, "no plan was asked for"
    if engine == "auto":
        found = builder.available()
        if found:
            return found[0], ""
        return None, f"no .plan: no TensorRT is installed that can build here; {_which_builder()}"
    library = nvidia.library(FLAVOURS[engine])
    builder.require_gpu(library)
    return engine, ""


def _which_builder() -> str:
    """Which builder to install, by what the GPU of this machine runs."""
    portable = f"{install(TENSORRT_RTX.extra)} brings a builder that needs no GPU"
    devices = nvidia.gpus().devices
    if not devices:
        return portable
    gpu = devices[0]
    own = f"{install(TENSORRT.extra)} brings the builder for this {gpu.name}"
    if runs_on(TENSORRT_RTX, gpu.capability):
        return f"{own}, {portable}"
    major, minor = gpu.capability
    return f"{own} (TensorRT-RTX does not run on compute capability {major}.{minor})"


def _output(source: Path) -> Path:
    # A checkpoint inside a run folder (artifacts/charlm/best) is exported beside the run's others.
    run = (
        source.parent
        if (source / "model.json").exists() and (source.parent / "log.jsonl").exists()
        else source
    )
    return run / f"{run.resolve().name}.onnx"
