"""The models that are measured: trained ones, or random weights of a wanted shape.

Files are made in a scratch folder; a person's own checkpoints and exports are only read.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..contract.card import Card, step_shapes
from ..contract.cells import FORMS
from ..contract.codec import Codec, Tokens, describe
from ..contract.errors import P2Error, UsageError
from ..contract.files import read_text, write_bytes
from ..render.progress import Progress
from ..trainer.display import Silent
from ..trainer.metrics import Report
from ..version import __version__
from .contender import Model
from .contenders import registry
from .options import shape_name

if TYPE_CHECKING:
    from torch import Tensor

    from ..trainer.checkpoint import Checkpoint
    from ..trainer.options import TrainOptions

# The spread of trained weights, times the square root of the width. A vanilla cell with a spectral
# radius above 1 is chaotic: no two roundings of it would write the same text for long.
SPREAD = {form.key: 1.2 if form.sigmoids else 0.8 for form in FORMS}
OUTPUT_SPREAD = 3.0  # times the others': logits as decided as a trained model's
SEED = 0
RANDOM = f"random weights, seed {SEED}"
MOST_HELD_OUT = 1 << 20
"""Characters of held-out text that are kept: far more than are read."""

TRAINED_STEPS = 300
TRAINED_HIDDEN = 128


@dataclass(frozen=True)
class Prepared:
    """A model, ready to be measured.

    Attributes:
        model: in every form that a contender may want.
        held_out: text that it was not trained on, int64 ``[length]``; None if there is none.
        note: why there is none; else empty.
    """

    model: Model
    held_out: Tokens | None
    note: str


def from_checkpoint(
    name: str, path: Path, precisions: Iterable[str], folder: Path, text: Path | None
) -> Prepared:
    """A trained model.

    Args:
        name: for the report.
        path: a checkpoint or a training run's folder.
        precisions: that step graphs are made of; float32 among them, which peers start from.
        folder: where they go.
        text: a file with held-out text; None takes what the training held out, if it can still be read.

    Raises:
        UsageError: the text holds a character that the model does not know.
        P2Error: there is no checkpoint, it is damaged, the text cannot be read, or the model is too large.
    """
    from ..trainer import checkpoint

    found = checkpoint.load(path)
    if text is None:
        held_out, note = held_out_text(found)
    else:
        held_out, note = _encode(text, path, found.card.vocabulary), ""
    if held_out is not None and len(held_out) < 2:
        held_out, note = None, f"{text or 'the held-out text'} is too short"
    steps = export_steps(found.card, found.model_state, precisions, folder)
    model = Model(name, found.card, found.folder, steps)
    prepare_peers(model)
    return Prepared(model, held_out, note)


def _encode(text: Path, path: Path, vocabulary: str) -> Tokens:
    content = read_text(text)
    unknown = next((character for character in content if character not in vocabulary), None)
    if unknown is not None:
        raise UsageError(f"--text {text} holds {describe(unknown)}, which the model in {path} does not know")
    return Codec(vocabulary).encode(content)


def from_shape(card: Card, precisions: Iterable[str], folder: Path) -> Prepared:
    """A model with random weights, the same for the same shape.

    Args:
        card: the shape.
        precisions: as in `from_checkpoint`.
        folder: where everything goes.

    Raises:
        P2Error: the model is too large.
    """
    model = random_model(card, precisions, folder)
    prepare_peers(model)
    return Prepared(model, None, "the weights are random and predict no text")


def random_model(card: Card, precisions: Iterable[str], folder: Path) -> Model:
    """The files of a model with random weights: ``checkpoint``, and a step graph for each precision.

    Raises:
        P2Error: a file cannot be written, or the model is too large.
    """
    from ..trainer import checkpoint
    from ..trainer.record import Record

    state = random_state(card)
    record = Record(options={}, corpus={}, software={})
    card = checkpoint.save(folder / "checkpoint", card.with_(producer=f"p2 {__version__}"), state, record)
    steps = export_steps(card, state, precisions, folder)
    return Model(shape_name(card), card, folder / "checkpoint", steps)


def random_state(card: Card, seed: int = SEED) -> dict[str, Tensor]:
    """Normally distributed weights of about the size that training gives, under PyTorch's names."""
    import torch

    from ..trainer.model import parameter_shapes

    generator = np.random.default_rng(seed)
    spread = SPREAD[card.cell] / math.sqrt(card.hidden)
    state = {}
    for name, shape in parameter_shapes(card).items():
        array = generator.standard_normal(shape, np.float32)
        array *= np.float32(spread * (OUTPUT_SPREAD if name == "output.weight" else 1.0))
        state[name] = torch.from_numpy(array)
    return state


def export_steps(
    card: Card, state: Mapping[str, Tensor], precisions: Iterable[str], folder: Path
) -> dict[str, Path]:
    """Write one step graph for each precision.

    Not through `export_checkpoint`, which refuses a graph that is out of tolerance: here its quality is
    measured and told.
    """
    from ..export.fold import fold
    from ..export.graph import step_graph

    folded = fold(card, state)
    steps = {}
    for precision in precisions:
        path = folder / f"charlm-{precision}.onnx"
        graph = step_graph(card.with_(precision=precision), folded)
        write_bytes(path, graph.SerializeToString())
        steps[precision] = path
    return steps


def prepare_peers(model: Model) -> None:
    """Make the files that peers load, as their users would have done before.

    Where one cannot be made, those that need it say why when they are loaded.
    """
    with contextlib.suppress(P2Error):
        registry.prepare(model)


def held_out_text(found: Checkpoint) -> tuple[Tokens | None, str]:
    """The tail that the training held out, int64 ``[length]``, or None and why it cannot be had.

    Of one that is longer than `MOST_HELD_OUT` it is the beginning.
    """
    from ..trainer.corpus import BUILT_IN
    from ..trainer.loop import read
    from ..trainer.options import TrainOptions
    from ..trainer.sources import STDIN
    from ..trainer.windows import split

    sources = found.record.sources
    if not sources or STDIN in sources:
        return None, "the training text cannot be read again: give held-out text with --text"
    try:
        options = TrainOptions.from_dict(found.record.options, found.folder, str(found.folder))
        if not options.val_fraction:
            return None, "the training held no text out: give some with --text"
        corpus = read([] if sources == [BUILT_IN] else sources, options, found.card.vocabulary)
        if corpus.sha256 != found.card.corpus_sha256:
            return (
                None,
                f"the training text ({corpus.describe()}) has changed: give held-out text with --text",
            )
        tokens = corpus.encode(found.card.vocabulary)
        tail = split(tokens, options.val_fraction, options.seq_len)[1]
        return np.array(tail[:MOST_HELD_OUT], np.int64), ""
    except P2Error as error:
        return None, f"{error}: give held-out text with --text"


def count_weights(card: Card) -> int:
    """Numbers in the step's matrices; each costs a character one multiplication and one addition."""
    return sum(math.prod(shape) for name, shape in step_shapes(card).items() if name.startswith("w_"))


def small_model(folder: Path, progress: Progress) -> Path:
    """A small model of the text that Python carries: trained in `folder`, as far as it is not there already.

    Raises:
        KeyboardInterrupt: the training was interrupted.
    """
    from ..trainer import corpus, loop
    from ..trainer.options import TrainOptions

    text = corpus.load([])
    options = TrainOptions(hidden=TRAINED_HIDDEN, steps=TRAINED_STEPS, device="cpu", out=folder)
    done = _trained_before(folder, options, text.sha256)
    if done == options.steps:
        progress.say(f"the small model that an earlier benchmark trained: {folder}")
        return folder
    progress.say(
        f"no model was named and there is none in {TrainOptions.out}: training a small one on"
        f" {text.describe()} first, about half a minute"
    )
    progress.phase("training", TRAINED_STEPS)
    display = _Forwarded(progress)
    result = loop.resume({"out": folder}, [], display) if done else loop.train(options, text, display)
    if result.interrupted:
        raise KeyboardInterrupt
    return folder


class _Forwarded(Silent):
    """A training's display that only advances the benchmark's own."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def update(self, report: Report) -> None:  # noqa: ARG002 - the protocol's signature
        """See `Display.update`."""
        self._progress.done()


def _trained_before(folder: Path, options: TrainOptions, corpus_sha256: str) -> int:
    """How many updates of the same training an earlier benchmark has done."""
    from ..trainer import checkpoint
    from ..trainer.options import TrainOptions
    from ..trainer.runfolder import RunFolder

    try:
        found = checkpoint.load(RunFolder(folder).last)
        before = TrainOptions.from_dict(found.record.options, folder, str(folder))
    except P2Error:
        return 0
    same = dataclasses.replace(before, precision=options.precision) == options
    return found.record.step if same and found.card.corpus_sha256 == corpus_sha256 else 0
