"""From a source to a checkpoint: read, map, prove, write."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ..contract.agreement import LIMITS, agreement
from ..contract.card import Card
from ..contract.codec import Tokens
from ..contract.engine import predictions
from ..contract.errors import P2Error, UsageError
from ..contract.files import locked, sha256_of
from ..contract.schema import shown
from ..trainer import checkpoint
from ..trainer.eager import EagerEngine
from ..trainer.model import CharModel
from ..trainer.record import Record
from ..trainer.takeover import lock_of
from ..version import __version__
from .found import Found, Row
from .mapping import apply, read_mapping
from .recognise import recognise
from .source import KERAS, ONNX, STATE_DICTS, kind_of_source
from .vocabulary import read_vocabulary, vocabulary_of_text
from .weights import read_weights

STEPS = 256


@dataclass(frozen=True)
class Imported:
    """What an import made.

    Attributes:
        folder: of the checkpoint.
        card: what the model is.
        rows: which tensor of the source became what.
        judge: what ran the source's own form.
        difference: the largest absolute difference of a logit.
        steps: characters over which it was looked for.
        notes: what else a person should know, a sentence each.
    """

    folder: Path
    card: Card
    rows: tuple[Row, ...]
    judge: str
    difference: float
    notes: tuple[str, ...]
    steps: int = STEPS


def import_checkpoint(
    source: Path, folder: Path, vocab: Path | None, vocab_from: Path | None, mapping: Path | None
) -> Imported:
    """Make a checkpoint of a model trained elsewhere, and prove that it says the same.

    Args:
        source: a PyTorch state_dict, an ONNX file or a whole model of Keras.
        folder: where the checkpoint goes: new, or empty.
        vocab: a file of the characters in the model's order.
        vocab_from: the training text instead, whose characters are sorted.
        mapping: which tensor is what; None recognises torch.nn's names.

    Raises:
        UsageError: not just one of `vocab` and `vocab_from`.
        P2Error: the source cannot be read or mapped, does not fit the vocabulary, or says something else than
            the checkpoint would, or another p2 is writing there; nothing was written.
    """
    if (vocab is None) == (vocab_from is None):
        raise UsageError("give --vocab FILE, the characters in the model's order, or --vocab-from TEXT")
    with locked(lock_of(folder), folder):
        _check_free(folder)
        return _import(source, folder, vocab, vocab_from, mapping)


def _import(
    source: Path, folder: Path, vocab: Path | None, vocab_from: Path | None, mapping: Path | None
) -> Imported:
    found = _found(source, mapping)
    listed = (
        read_vocabulary(vocab, found.vocab)
        if vocab is not None
        else vocabulary_of_text(Path(str(vocab_from)), found.vocab)
    )
    order = np.array(sorted(range(len(listed)), key=listed.__getitem__))
    state = _state(found, order)
    card = _card(found, "".join(sorted(listed)), len(state["embedding.weight"][0]))
    difference = _proved(found, card, state, order, source)
    notes = [*found.notes]
    if (order != np.arange(len(order))).any():
        notes.append("characters are sorted here: rows of embedding and output layer are in another order")
    record = Record(
        options={},
        corpus={},
        software={"p2": __version__, "torch": torch.__version__},
        imported={
            "source": source.name,
            "sha256": sha256_of(source),
            "mapped": [{"tensor": row.name, "shape": [*row.shape], "is": row.role} for row in found.rows],
            "notes": notes,
            "compared_with": found.judge,
            "steps": STEPS,
            "largest_difference": difference,
        },
    )
    card = checkpoint.save(folder, card, state, record)
    return Imported(folder, card, found.rows, found.judge, difference, tuple(notes))


def _check_free(folder: Path) -> None:
    if folder.is_dir():
        checkpoint.tidy(folder)  # what a killed import left
    if folder.exists() and (not folder.is_dir() or {*folder.iterdir()} - {folder / lock_of(folder).name}):
        raise P2Error(f"{folder} is there and not empty: name a new or an empty folder with --out")


def _found(source: Path, mapping: Path | None) -> Found:
    wanted = None if mapping is None else read_mapping(mapping)
    kind = kind_of_source(source)
    if wanted is not None and kind not in STATE_DICTS:
        raise P2Error(f"{source} is {kind}: a mapping is for a PyTorch state_dict")
    if kind == ONNX:
        from .onnx_graph import read_onnx

        return read_onnx(source)
    if kind in KERAS:
        from .keras_file import read_keras

        return read_keras(source)
    tensors, key = read_weights(source, kind)
    found = apply(wanted or recognise(tensors, str(source)), tensors, str(source))
    note = f"the weights are those under {shown(key)}"
    return dataclasses.replace(found, notes=(note, *found.notes)) if key else found


def _state(found: Found, order: Tokens) -> dict[str, torch.Tensor]:
    """The checkpoint's tensors, characters in p2's order."""
    first, embedding = found.layers[0].w_ih, found.embedding
    if embedding is None:
        # One-hot: whichever is smaller of the two, the table or the matrix, is the identity.
        vocab, wide = found.vocab, len(first)
        embedding = np.eye(vocab, dtype=np.float32) if vocab <= wide else first.T
        first = first if vocab <= wide else np.eye(wide, dtype=np.float32)
    arrays = {"embedding.weight": embedding[order]}
    for number, layer in enumerate(found.layers):
        arrays[f"rnn.weight_ih_l{number}"] = layer.w_ih if number else first
        arrays[f"rnn.weight_hh_l{number}"] = layer.w_hh
        arrays[f"rnn.bias_ih_l{number}"] = layer.b_ih
        arrays[f"rnn.bias_hh_l{number}"] = layer.b_hh
    arrays |= {"output.weight": found.w_out[order], "output.bias": found.b_out[order]}
    return {name: torch.from_numpy(np.array(array, np.float32, order="C")) for name, array in arrays.items()}


def _card(found: Found, vocabulary: str, embedding: int) -> Card:
    try:
        return Card(
            found.form.key,
            len(found.layers),
            embedding,
            found.w_out.shape[1],
            vocabulary,
            found.form.reset,
            producer=f"p2 {__version__}",
        )
    except UsageError as error:
        raise P2Error(str(error)) from error


def _proved(
    found: Found,
    card: Card,
    state: dict[str, torch.Tensor],
    order: Tokens,
    source: Path,
) -> float:
    """The largest difference of the logits; out of tolerance, there is no checkpoint."""
    model = CharModel(card)
    model.load_state_dict(state)
    tokens = np.random.default_rng(0).integers(0, card.vocab, STEPS)
    engine, window = EagerEngine(model), found.window or STEPS
    theirs, ours = [], []
    for start in range(0, STEPS, window):
        part = np.resize(tokens[start : start + window], window if found.window else STEPS)
        theirs.append(found.predict(order[part])[:, order].astype(np.float32))
        ours.append(predictions(engine, part[None])[0][-len(theirs[-1]) :])
    engine.close()
    how = agreement(np.concatenate(theirs), np.concatenate(ours))
    if not how.within(LIMITS["float32"]):
        raise P2Error(
            f"{source}: p2's logits differ from those of {found.judge} by up to {how.max_abs:.3g} over"
            f" {STEPS} steps, more than rounding does: nothing was written"
        )
    return how.max_abs
