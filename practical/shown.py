"""What the page and its figures show of each experiment's document: types that it is checked against first.

Results hold more than this. What only the figures need may be missing: a page is made without drawing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, NotRequired, TypedDict

from ..contract.documents import check
from ..contract.schema import Count, Measure, Natural, Within
from . import document as documents
from .text.excerpts import Excerpt


class _Mean(TypedDict):
    mean: Measure


class _Tested(TypedDict):
    tested: Count
    right: Count


_Classes = TypedDict("_Classes", {"0": _Tested, "1": _Tested})
_Sampling = Literal["rejection", "balanced", "near-miss"]


class _Data(TypedDict):
    magnitude: Natural
    sampling: _Sampling
    steps: Count
    integers: Annotated[float, Within(0)]  # up to 10**30 of them
    positives: Annotated[float, Within(0)]
    prior: Measure
    entropy: Measure
    majority: Measure | None
    length_only: Measure | None
    cue: Measure | None


_Steps = Annotated[int, Within(1, 100_000)]  # each becomes a point of a figure


class _Curves(TypedDict):
    update: list[Measure]
    loss_mean: list[Measure]
    loss_std: list[Measure]
    accuracy_mean: list[Measure]
    accuracy_std: list[Measure]


class _Group(TypedDict):
    cell: Literal["lstm", "gru", "gru-before", "rnn"]
    magnitude: Natural
    sampling: _Sampling
    embedding: Natural
    gain: Measure
    fan: str
    hidden: Natural
    seeds: list[int]
    converged: list[int | None]
    converged_mean: Measure | None
    converged_std: Measure | None
    updates_done: list[int]
    early_loss: _Mean
    accuracy_at: _Mean
    final_accuracy: _Mean
    tests: Annotated[dict[str, _Classes], Within(1)]
    ms_per_update: Measure
    curves: NotRequired[_Curves]


class _Rules(TypedDict):
    window: int
    converged: Measure


class _BaumSweetResults(TypedDict):
    rules: _Rules
    data: list[_Data]
    groups: list[_Group]


class _BaumSweetSettings(TypedDict):
    embedding: Natural
    hidden: Natural
    seeds: Natural


class BaumSweet(TypedDict):
    """The toy problem."""

    settings: _BaumSweetSettings
    results: _BaumSweetResults


class _Share(TypedDict):
    share: list[Measure]


_Which = TypedDict("_Which", {"all": _Share, "0": _Share, "1": _Share})


class _When(TypedDict):
    h: _Which
    c: NotRequired[_Which]


# Three times as long: by a name that is no word of Python.
_Long = TypedDict("_Long", {"initial, long": NotRequired[_When]})
_Padding = TypedDict("_Padding", {"padding": NotRequired[Measure], "padding, long": NotRequired[Measure]})


class _Cell(_Long):
    initial: _When
    trained: _When


class _ByHand(TypedDict):
    w_hh: Measure
    w_ph: Measure
    terms: NotRequired[list[Measure]]
    jacobians: NotRequired[list[Measure]]


class _VanillaWhen(_When):
    by_hand: _ByHand


class _Vanilla(_Long):
    initial: _VanillaWhen
    trained: _VanillaWhen


class _Cells(TypedDict):
    rnn: _Vanilla
    lstm: NotRequired[_Cell]
    gru: NotRequired[_Cell]


class _Inspected(TypedDict):
    by_formula: Count
    as_stored: Count


class _Parameters(TypedDict):
    model: str
    formula: Count
    counted: Count
    embedding: Count
    inspect: NotRequired[_Inspected | None]


class _GradientResults(_Padding):
    steps: _Steps
    cells: _Cells
    parameters: list[_Parameters]


class _GradientSettings(TypedDict):
    magnitude: Natural
    hidden: Natural
    lr: Measure


class Gradients(TypedDict):
    """The gradients."""

    settings: _GradientSettings
    results: _GradientResults


class _Wording(TypedDict):
    real_words: Measure | None
    real_pairs: Measure | None
    marks_per_100: Measure | None
    quoted_marks_per_100: Measure | None
    sentence_characters: Measure | None


class _Book(TypedDict):
    sources: list[str]
    characters: Natural
    whole: Natural
    vocabulary: Natural
    repeats: Measure | None
    wording: _Wording


class _Written(TypedDict):
    loops_seen_after: NotRequired[list[Measure]]
    texts: Natural
    characters: Count
    loops: Measure
    different_loops: Count
    period: Measure | None
    copied: Measure
    longest_copy: Measure
    wording: _Wording
    excerpts: list[Excerpt]
    left_out: NotRequired[Count]


class _Windows(TypedDict):
    count: Count
    accuracy: Measure
    loss: Measure
    by_position: NotRequired[list[Measure]]


class _Curve(TypedDict):
    step: list[Measure]
    loss: list[Measure]
    accuracy: list[Measure]
    running_loss: list[Measure]
    running_accuracy: list[Measure]


class _Ceiling(TypedDict):
    mean: Measure
    by_position: list[Measure]


class _Prompt(TypedDict):
    excerpt: Excerpt


class _Checkpoint(TypedDict):
    asked: Measure | None
    step: Count
    seconds: Measure
    running_accuracy: Measure
    engine: str
    windows: _Windows
    greedy: _Written
    sampled: Annotated[dict[str, _Written], Within(1)]
    prompt: _Prompt
    completions: _Written | None


class _Model(TypedDict):
    layers: Natural
    embedding: Natural
    hidden: Natural
    parameters: Natural


class _Training(TypedDict):
    updates: Count
    batch_size: Natural
    window: Natural
    precision: str
    seconds: Measure


class _TextResults(TypedDict):
    book: _Book
    model: _Model
    training: _Training
    curve: NotRequired[_Curve]
    ceiling: NotRequired[_Ceiling]
    checkpoints: Annotated[list[_Checkpoint], Within(1)]


class _TextSettings(TypedDict):
    prompt: str


class Text(TypedDict):
    """Generated text."""

    settings: _TextSettings
    results: _TextResults


SHOWN = {"baum-sweet": BaumSweet, "gradients": Gradients, "text": Text}


def read(path: Path) -> documents.Document:
    """A document that has what is shown of it.

    Raises:
        ContractError: it has not: the sentence names the field.
        P2Error: as `document.read`.
    """
    document = documents.read(path)
    check(document, SHOWN[document["experiment"]], str(path))
    return document
