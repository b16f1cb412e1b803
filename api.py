"""The Python API: the functions that the commands call, with the same names and the same settings.

    import p2

    model = p2.load("charlm.onnx")
    print(model.generate("The ", length=300, tau=2, seed=7))

`load` and `Model` need no PyTorch; `train`, `import_model`, `export` and `parity` do. Everything raises
`P2Error` (a `UsageError` where a value cannot be meant) with the sentence that the command would print.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .contract.agreement import log_softmax
from .contract.codec import Codec
from .contract.engine import predictions
from .contract.errors import UsageError
from .contract.sampling import Sampling

if TYPE_CHECKING:
    from .contract.card import Card
    from .contract.engine import Engine
    from .evaluation.run import Evaluation
    from .export.exporter import Exported
    from .importing.importer import Imported
    from .parity.report import Outcome
    from .runtime.generate import Request
    from .runtime.streams import Text
    from .trainer.run import Result
    from .trainer.tokenizing import Tokenized

Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]

# Characters read at a time where predictions are kept: 32 MiB of logits for a vocabulary of 2,000.
_PIECE = 4096


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

    if threads is not None and not 1 <= threads <= 256:
        raise UsageError(f"threads must be 1 to 256, not {threads}")
    return Model(open_engine(os.fspath(engine), threads, backend))


def request(
    prompt: str = "",
    *,
    length: int = 500,
    seed: int | None = None,
    num_samples: int = 1,
    first_stream: int = 0,
    temperature: float | None = None,
    tau: float | None = None,
    greedy: bool = False,
    top_k: int = 0,
    top_p: float = 1.0,
    min_p: float = 0.0,
    stop: Iterable[str] = (),
    on_unknown: str = "error",
) -> Request:
    """What to write, in the words of ``p2 generate``'s options.

    Args:
        prompt: text to continue; empty starts from a random character.
        length: characters to write.
        seed: the same seed writes the same text; None draws one.
        num_samples: texts for each prompt, each with noise of its own.
        first_stream: noise stream of the first text.
        temperature: divides the logits; at most one of this, `tau` and `greedy` may be given.
        tau: multiplies the logits.
        greedy: always the most probable character.
        top_k: only the k most probable characters; 0 is off.
        top_p: only the fewest characters that together reach this probability; 1 is off.
        min_p: only characters at least this share as probable as the best; 0 is off.
        stop: the text ends before the first of these.
        on_unknown: ``error`` or ``skip`` characters of the prompt that the model does not know.

    Raises:
        UsageError: a value is out of its range.
    """
    from .runtime.generate import Request, random_seed, sampling_of

    return Request(
        prompt=prompt,
        length=length,
        seed=random_seed() if seed is None else seed,
        num_samples=num_samples,
        first_stream=first_stream,
        sampling=sampling_of(temperature, tau, greedy, top_k, top_p, min_p),
        stop=(stop,) if isinstance(stop, str) else tuple(stop),
        on_unknown=on_unknown,
    )


class Model:
    """A loaded model. It may be used as a context manager, which closes it.

    Attributes:
        engine: the backend behind it (`contract.engine.Engine`).
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._codec = Codec(engine.card.vocabulary)

    @property
    def card(self) -> Card:
        """What the model is: cell, sizes, vocabulary, precision, hashes."""
        return self.engine.card

    def __repr__(self) -> str:
        card = self.card
        sizes = f"{card.cell} {card.layers} x {card.hidden}, {card.vocab} characters"
        return f"<p2.Model {sizes}, {self.engine.name}>"

    def generate(self, prompt: str = "", **settings: Any) -> str:
        """The text that follows `prompt` (without it); settings as `request` takes them, for one text."""
        return "".join(self.stream(prompt, **settings))

    def stream(self, prompt: str = "", **settings: Any) -> Iterator[str]:
        """The same piece by piece, as it is written, in constant memory."""
        from .runtime.generate import generate

        wanted = request(prompt, **settings)
        if wanted.num_samples != 1:
            raise UsageError("generate and stream write one text: texts() writes several")
        return (piece for piece in generate(self.engine, wanted) if piece)

    def texts(self, prompts: Iterable[str] = ("",), **settings: Any) -> Iterator[Text]:
        """``num_samples`` texts for every prompt, in order, each as soon as its group is done.

        Prompts are read as they are needed; each `Text` has `prompt_index`, `sample`, `stream`, `prompt`,
        `text` and `stopped`, and does not depend on the texts beside it.
        """
        from .runtime.streams import write_texts

        if isinstance(prompts, str):
            raise UsageError("texts() takes a list of prompts; for one prompt there is generate()")
        return write_texts(self.engine, request(**settings), prompts)

    def logprobs(self, text: str, *, on_unknown: str = "error") -> npt.NDArray[np.float32]:
        """Natural logarithms of the probability of each character but the first, float32 ``[length - 1]``.

        Number i is that of ``text[i + 1]`` after ``text[: i + 1]``, from a zero state.

        Raises:
            UnknownCharacter: the text holds a character that the model does not know.
        """
        tokens = self._codec.encode(text, on_unknown)
        found = [np.zeros(0, np.float32)]
        state = self.engine.zero_state(1)
        for start in range(0, len(tokens) - 1, _PIECE):
            piece = tokens[start : start + _PIECE + 1]
            logits = predictions(self.engine, piece[None, :-1], state)
            known = log_softmax(logits[0])[np.arange(len(piece) - 1), piece[1:]]
            found.append(known.astype(np.float32))
        return np.concatenate(found)

    def bits_per_character(self, text: str, *, on_unknown: str = "error") -> float:
        """The mean of ``-log2 p`` over all characters but the first.

        Raises:
            UsageError: there are fewer than two characters.
            UnknownCharacter: the text holds a character that the model does not know.
        """
        found = self.logprobs(text, on_unknown=on_unknown)
        if not len(found):
            raise UsageError("bits per character need a text of two characters or more")
        return float(-found.mean(dtype=np.float64) / np.log(2))

    def state(self, text: str = "", *, seed: int = 0, stream: int = 0, **sampling: Any) -> State:
        """A text in progress, after reading `text`; sampling settings as `request` takes them."""
        wanted = request(seed=seed, first_stream=stream, **sampling)
        made = State(self.engine, self._codec, wanted.sampling, wanted.seed, wanted.first_stream)
        if text:
            made.read(text)
        return made

    def close(self) -> None:
        """Give back what the engine holds."""
        self.engine.close()

    def __enter__(self) -> Model:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class State:
    """A text in progress: it reads, predicts, writes, and can be taken up again elsewhere.

    What it writes does not depend on how the writing is cut into calls.
    """

    def __init__(self, engine: Engine, codec: Codec, sampling: Sampling, seed: int, stream: int) -> None:
        from .runtime.decoder import Decoder

        self._codec = codec
        self._decoder = Decoder(engine, sampling, seed, [stream])

    def read(self, text: str, *, on_unknown: str = "error") -> None:
        """Read known text.

        Raises:
            UnknownCharacter: the text holds a character that the model does not know.
        """
        tokens = self._codec.encode(text, on_unknown)
        if len(tokens):
            self._decoder.prompt(tokens[None])

    def write(self, length: int) -> str:
        """The next `length` characters."""
        return self._codec.decode(self._decoder.write(length)[0])

    def logprobs(self) -> npt.NDArray[np.float32]:
        """Natural logarithms of the next character's probabilities, float32 ``[vocab]``; nothing is advanced.

        Raises:
            UsageError: nothing has been read or written yet.
        """
        return log_softmax(self._decoder.predict()[0]).astype(np.float32)

    def snapshot(self) -> dict[str, Any]:
        """Everything needed to go on from here: plain numpy arrays, that any backend of the model takes."""
        return self._decoder.snapshot()

    def restore(self, snapshot: Mapping[str, Any]) -> State:
        """Go on from a snapshot, with this one's seed and settings; returns itself.

        Raises:
            P2Error: the snapshot is not of a model of this shape.
        """
        self._decoder.restore(dict(snapshot))
        return self


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
