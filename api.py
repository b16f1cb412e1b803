"""The Python API: the functions that the commands call, with the same names and the same settings.

    import p2

    model = p2.load("charlm.onnx")
    print(model.generate("The ", length=300, tau=2, seed=7))

`load` and `Model` need no PyTorch; `train`, `import_model`, `export` and `parity` do. Everything raises
`P2Error` (a `UsageError` where a value cannot be meant) with the sentence that the command would print.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .runtime.model import Model as Model
from .runtime.model import State as State
from .runtime.model import request as request

if TYPE_CHECKING:
    from .evaluation.run import Evaluation
    from .export.exporter import Exported
    from .importing.importer import Imported
    from .parity.report import Outcome
    from .trainer.run import Result
    from .trainer.tokenizing import Tokenized

Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]


def load(engine: str | os.PathLike[str], *, backend: str | None = None, threads: int | None = None) -> Model:
    """Open a model.

    Args:
        engine: a ``.onnx`` or ``.plan`` file or a checkpoint folder; a bare name is looked for in the
            working folder, then under ``artifacts/``, as ``p2 generate --engine`` does.
        backend: what runs it, as ``--backend``; None takes what is fastest here.
        threads: processor threads; None measures what is best, once.

    Raises:
        P2Error: it is missing, damaged, breaks the contract, or cannot run here.
        UsageError: no such backend, one for another kind of file, or `threads` out of 1 to 256.
    """
    from .runtime.opening import open_engine

    return Model(open_engine(os.fspath(engine), threads, backend))


def train(texts: Paths = (), *, resume: bool = False, quiet: bool = True, **options: Any) -> Result:
    """Train a model, as ``p2 train``.

    Args:
        texts: files, folders, patterns; none is the documentation inside Python.
        resume: go on with the run in ``out``.
        quiet: show nothing; False shows what the command shows. Of the processes that torchrun has started,
            only the first shows and writes anything.
        options: fields of `trainer.options.TrainOptions`, such as ``hidden=512, out="artifacts/big"``, and
            ``preset``, which gives way to them.

    Returns:
        the run folder and the record of the run.

    Raises:
        P2Error: the text does not fit, the device is not there, the file system refuses, or the training
            diverges.
        UsageError: an option is unknown or out of its range.
    """
    from .render.terminal import needing
    from .trainer.options import named

    given = named(options)
    with needing("train"):
        from .trainer import display, loop
        from .trainer.ranks import joined

        with joined() as ranks:
            shown = display.for_stdout() if ranks.first and not quiet else display.Silent()
            if resume:
                return loop.resume(given, _names(texts), shown, ranks=ranks)
            return loop.begin(given, _names(texts), shown, ranks)


def tokenize(
    texts: Paths,
    out: str | os.PathLike[str] = "artifacts/text.tokens",
    *,
    encoding: str | None = None,
    encoding_errors: str = "strict",
    column: str | None = None,
    quiet: bool = True,
) -> Tokenized:
    """Make a text of any size a file that `train` maps into memory, as ``p2 tokenize``.

    Args:
        texts: files, folders, patterns or ``-``.
        out: the token file; one that is there is replaced.
        encoding: of the texts; None is UTF-8.
        encoding_errors: what becomes of bytes that cannot be read: ``strict``, ``replace`` or ``skip``.
        column: the texts are tables, and this column of theirs holds the text.
        quiet: show nothing; False shows on stderr how far it is.

    Returns:
        the file and what it holds.

    Raises:
        P2Error: a text cannot be read, there is none, or the file cannot be written.
        UsageError: an option's value is unknown.
    """
    from .render.progress import Progress
    from .render.terminal import needing
    from .trainer.tokenizing import tokenize as write_tokens

    with needing("train"), Progress(quiet) as progress:
        progress.phase("reading")

        def advanced(done: int, size: int | None) -> None:
            if size is None:
                progress.now(f"{done >> 20:,} MiB")
            else:
                progress.part("MiB", done >> 20, size >> 20)

        return write_tokens(_names(texts), Path(out), encoding, encoding_errors, column, advanced)


def import_model(
    source: str | os.PathLike[str],
    *,
    out: str | os.PathLike[str] = "artifacts/imported",
    vocab: str | os.PathLike[str] | None = None,
    vocab_from: str | os.PathLike[str] | None = None,
    mapping: str | os.PathLike[str] | None = None,
) -> Imported:
    """Make a checkpoint of a model trained elsewhere, as ``p2 import``.

    Args:
        source: a PyTorch state_dict, .onnx, .keras or .h5.
        out: the checkpoint: a new or an empty folder.
        vocab: a file of the characters in the model's order.
        vocab_from: the training text instead, whose characters are sorted.
        mapping: which tensor is what, a JSON file; None recognises torch.nn's names.

    Returns:
        the checkpoint's folder and card, which tensor became what, and how far p2's logits are from those of
        the source.

    Raises:
        P2Error: see `importing.importer.import_checkpoint`; nothing was written.
        UsageError: not just one of `vocab` and `vocab_from`.
    """
    from .render.terminal import needing

    with needing("train"):
        from .importing.importer import import_checkpoint

        given = (None if path is None else Path(path) for path in (vocab, vocab_from, mapping))
        return import_checkpoint(Path(source), Path(out), *given)


def export(
    checkpoint: str | os.PathLike[str] = "artifacts/charlm", *, quiet: bool = True, **options: Any
) -> Exported:
    """Turn a checkpoint into a ``.onnx``, and a ``.plan`` where TensorRT is installed, as ``p2 export``.

    Args:
        checkpoint: a checkpoint, or a training run's folder.
        quiet: show nothing; False shows what the command shows.
        options: the command's, as `export.exporter.named` takes them, such as ``precision="float16"``.

    Returns:
        the files, how well the graph agreed with the eager model, and why there is no plan if there is none.

    Raises:
        P2Error: see `export.exporter.export_checkpoint`.
        UsageError: an option is unknown or out of its range.
    """
    from .export.exporter import export_checkpoint, named
    from .render.terminal import needing, say

    given = named(options)
    with needing("train"):
        from .render.progress import Progress

        with Progress(quiet) as progress:
            return export_checkpoint(
                Path(checkpoint),
                **given,
                say=(lambda _: None) if quiet else say,
                stage=progress.phase,
                progress=progress.part,
            )


def parity(
    engines: Paths = (),
    checkpoint: str | os.PathLike[str] = "artifacts/charlm",
    *,
    steps: int = 1000,
    characters: int = 2000,
    seed: int = 0,
    text: str | os.PathLike[str] | None = None,
    json: str | os.PathLike[str] | None = None,
    backend: str | None = None,
    on_unknown: str = "error",
    quiet: bool = True,
) -> Outcome:
    """Compare engines with their eager checkpoint and write the report, as ``p2 parity``.

    Args:
        engines: names or paths; none is every engine in the checkpoint's folder.
        checkpoint: the reference, a checkpoint or a run's folder.
        steps: teacher-forced steps.
        characters: sampled characters at each tau.
        seed: of the text and of the sampling.
        text: a UTF-8 file to read, instead of text that the model writes.
        json: where the report goes; ``parity.json`` in the checkpoint's folder if not given.
        backend: what runs the engines; None is everything here that can.
        on_unknown: ``error`` or ``skip`` characters of `text` that the model does not know.
        quiet: show nothing; False shows on stderr what is being done.

    Returns:
        what each engine was found to do (`Outcome.results`; `Parity.failures` is empty where it is within
        tolerance), what could not run, and where the report is.

    Raises:
        P2Error: an engine that was named cannot be opened, or none could be compared.
    """
    from .render.terminal import needing

    with needing("train"):
        from .parity.report import run_parity
        from .render.progress import Progress

        with Progress(quiet) as progress:
            return run_parity(
                _names(engines),
                Path(checkpoint),
                steps=steps,
                characters=characters,
                seed=seed,
                text=None if text is None else Path(text),
                json_path=None if json is None else Path(json),
                backend=backend,
                on_unknown=on_unknown,
                progress=progress,
            )


def evaluate(
    engines: Paths,
    text: str | os.PathLike[str],
    *,
    window: int | None = None,
    on_unknown: str = "error",
    encoding: str | None = None,
    encoding_errors: str = "strict",
    column: str | None = None,
    backend: str | None = None,
    threads: int | None = None,
    quiet: bool = True,
) -> Evaluation:
    """Let engines predict a text of any length, in constant memory, as ``p2 eval``.

    Args:
        engines: names or paths, as `load` takes them; the others are compared with the first.
        text: a file, folder or pattern, or ``-`` for standard input.
        window: begin at a zero state again after so many characters; None reads the text in one go.
        on_unknown: ``error`` or ``skip`` characters that one of the models does not know.
        encoding: of the text; None is UTF-8.
        encoding_errors: ``strict`` refuses bytes that cannot be read, ``replace`` and ``skip`` do that.
        column: the text is tables, Parquet or lines of JSON, and this column or key holds the texts.
        backend: what runs the engines of its kind; the others run as they usually do.
        threads: processor threads; None measures what is best, once.
        quiet: show nothing; False shows on stderr what is being done.

    Returns:
        bits per character, perplexity and accuracy of each engine (`Evaluation.engines`), over all characters
        but the first, by position and by class of character.

    Raises:
        P2Error: an engine cannot be opened or predicts NaN, or the text cannot be read or is too short.
        UsageError: a value is out of its range, or the text holds a character that a model does not know.
    """
    from .render.terminal import needing

    with needing("train"):
        from .evaluation.run import run_evaluation
        from .render.progress import Progress

        with Progress(quiet) as progress:
            return run_evaluation(
                _names(engines),
                os.fspath(text),
                window=window,
                on_unknown=on_unknown,
                encoding=encoding,
                encoding_errors=encoding_errors,
                column=column,
                backend=backend,
                threads=threads,
                progress=progress,
            )


def _names(texts: Paths) -> list[str]:
    if isinstance(texts, str | os.PathLike):
        return [os.fspath(texts)]
    return [os.fspath(text) for text in texts]
