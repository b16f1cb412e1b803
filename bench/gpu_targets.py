"""The promises about a GPU, judged as those of `targets`: against others on the same GPU in the same run."""

from __future__ import annotations

from collections.abc import Sequence

from ..contract.card import CPU_PRECISIONS
from ..contract.precisions import TABLE
from ..render.numbers import percent, ratio, seconds
from .document import Document, Entry, Target
from .entries import paired
from .figures import EAGERS, at_batch, fastest, rate, times, times_reading

COMPILED = "cuda-compile"  # the loop that p2 is compared with: torch.compile's step in a CUDA graph
CUDNN = EAGERS["cuda"]  # reads a prompt with cuDNN's layers

# Precision -> times `COMPILED` in float32, with one text.
ONE_TEXT = {"float32": 3.0, "float16": 4.0, "int8": 4.0}
ONE_TEXT_HIDDEN = (128, 1024)

STREAMS = 64
STREAMS_OVER = 2.0

# Precision -> share of the rate at which the GPU copies its memory, where no cache holds the weights.
COPY_SHARE = {key: 0.95 if TABLE[key].bits >= 8 else 0.8 for key in CPU_PRECISIONS}
COPY_HIDDEN = 4096

FIRST_CHARACTER_SECONDS = 0.6

TRAINING_TFLOPS = 350.0
TRAINING_HIDDEN = 4096  # two LSTM layers, embedding 2,048, 128 windows of 30: the seed's own scale


def for_gpu(hidden: int, entries: Sequence[Entry]) -> list[Target]:
    """Judge one model; nothing where no contender ran on a GPU.

    Args:
        hidden: width of its layers.
        entries: of all contenders.
    """
    on_gpu = [entry for entry in entries if entry["device"] == "cuda"]
    if not any(map(rate, on_gpu)):
        return []
    compiled, cudnn = (_of(on_gpu, key) for key in (COMPILED, CUDNN))
    rows = []
    if ONE_TEXT_HIDDEN[0] <= hidden <= ONE_TEXT_HIDDEN[1]:
        rows += [_one_text(on_gpu, precision, compiled) for precision in ONE_TEXT]
    if hidden >= COPY_HIDDEN:
        rows += [_copy_share(on_gpu, precision) for precision in COPY_SHARE]
    return [*rows, _streams(on_gpu, compiled), _prompt(on_gpu, cudnn)]


def first_character(found: float | None, note: str = "") -> Target:
    """Judge how long a person waits for the first character.

    Args:
        found: seconds, with every cache warm; None if that was not timed.
        note: of what, or why it was not timed.
    """
    what = "GPU, first character of a small model, caches warm"
    reached = None if found is None else found <= FIRST_CHARACTER_SECONDS
    measured = "not measured" if found is None else seconds(found)
    return _target(what, f"≤ {FIRST_CHARACTER_SECONDS:g} s", measured, reached, note)


def training(hidden: int, tflops: float | None, note: str = "") -> list[Target]:
    """Judge p2's rate of training; nothing at other widths than the seed's.

    Args:
        hidden: width of the layers.
        tflops: 1e12 operations a second; None if that was not measured.
        note: why not.
    """
    if hidden != TRAINING_HIDDEN:
        return []
    goal, reached = f"≥ {TRAINING_TFLOPS:g} TFLOP/s", None if tflops is None else tflops >= TRAINING_TFLOPS
    measured = "not measured" if tflops is None else f"{tflops:.0f} TFLOP/s"
    return [_target("GPU, training, two LSTM layers of 4,096", goal, measured, reached, note)]


def of_run(document: Document) -> Target:
    """The same, of a whole run of `p2 bench`: its smallest model, p2's fastest way in float32."""
    on_gpu = [e for m in document["models"] for e in m["entries"] if e["device"] == "cuda"]
    if not any(map(rate, on_gpu)):
        skipped = (entry["skipped"] for entry in on_gpu if entry["skipped"])
        return first_character(None, next(skipped, "nothing ran on a GPU"))
    smallest = min(document["models"], key=lambda m: m["weights"])
    mine = _ours(smallest["entries"], "float32")
    if mine is None:
        return first_character(None, _why(smallest["entries"], "float32"))
    if document["settings"].get("first_characters", 0) < 3:
        return first_character(None, "the only start that was timed may have filled the caches")
    return first_character(mine["first_character_s"], f"{smallest['name']}: {mine['title']}")


def _one_text(entries: Sequence[Entry], precision: str, compiled: Entry | None) -> Target:
    least = ONE_TEXT[precision]
    what = f"GPU, one text, {precision}, times torch.compile in a CUDA graph"
    mine = _ours(entries, precision)
    gain = times(mine, compiled)
    if mine is None or gain is None:
        return _unknown(what, f"≥ {least:g}×", entries, precision, mine, COMPILED)
    note = f"{mine['title']}, against that in float32, whose noise is drawn on the GPU too"
    return _target(what, f"≥ {least:g}×", ratio(gain), gain >= least, note)


def _copy_share(entries: Sequence[Entry], precision: str) -> Target:
    least = COPY_SHARE[precision]
    what = f"GPU, one text, {precision}, weights read, share of the rate of copying"
    goal = f"≥ {100 * least:g} %"
    mine = _ours(entries, precision)
    if mine is None:
        return _unknown(what, goal, entries, precision)
    share = mine["bandwidth_share"]
    if share is None:
        return _target(what, goal, "not measured", None, "the rate of copying was not measured")
    return _target(what, goal, percent(share), share >= least, mine["title"])


def _streams(entries: Sequence[Entry], compiled: Entry | None) -> Target:
    what = f"GPU, {STREAMS} texts, float32, times torch.compile in a CUDA graph"
    goal = f"≥ {STREAMS_OVER:g}×"
    points = [(entry, at_batch(entry, STREAMS)) for entry in _all_ours(entries, "float32")]
    gains = [
        (paired(point["values"], theirs["values"]), entry["title"])
        for entry, point in points
        if point and compiled and (theirs := at_batch(compiled, STREAMS))
    ]
    if not gains:
        mine = next((entry for entry, point in points if point), None)
        return _unknown(what, goal, entries, "float32", mine, COMPILED)
    gain, title = max(gains)
    return _target(what, goal, ratio(gain), gain >= STREAMS_OVER, title)


def _prompt(entries: Sequence[Entry], cudnn: Entry | None) -> Target:
    what = "GPU, reading a prompt, float32, times cuDNN"
    gains = [
        (gain, entry["title"])
        for entry in _all_ours(entries, "float32")
        if cudnn and (gain := times_reading(entry, cudnn))
    ]
    if not gains:
        mine = next((entry for entry in _all_ours(entries, "float32") if entry["prompt"]), None)
        return _unknown(what, "> 1×", entries, "float32", mine, CUDNN)
    gain, title = max(gains)
    return _target(what, "> 1×", ratio(gain), gain > 1, title)


def _all_ours(entries: Sequence[Entry], precision: str) -> list[Entry]:
    """p2's entries of a precision; not those whose predictions were found to cost too much."""
    return [
        entry
        for entry in entries
        if (entry["group"], entry["device"], entry["precision"]) == ("p2", "cuda", precision)
        and (entry["quality"] is None or entry["quality"]["passes"])
    ]


def _ours(entries: Sequence[Entry], precision: str) -> Entry | None:
    return fastest(_all_ours(entries, precision))


def _of(entries: Sequence[Entry], key: str) -> Entry | None:
    return next((entry for entry in entries if entry["key"] == key), None)


def _why(entries: Sequence[Entry], precision: str) -> str:
    reasons = [entry["skipped"] for entry in _all_ours(entries, precision) if entry["skipped"]]
    return reasons[0] if reasons else f"no p2 {precision} on the GPU in this run"


def _unknown(
    what: str,
    goal: str,
    entries: Sequence[Entry],
    precision: str,
    mine: Entry | None = None,
    other: str = "",
) -> Target:
    """Why it cannot be judged: for lack of p2's figure, or else of the other's."""
    if mine is None:
        return _target(what, goal, "not measured", None, _why(entries, precision))
    found = _of(entries, other)
    if found is None:
        return _target(what, goal, "not measured", None, f"no {other} in this run")
    note = found["skipped"] or f"{found['title']} was not measured"
    return _target(what, goal, "not measured", None, note)


def _target(what: str, goal: str, measured: str, reached: bool | None, note: str) -> Target:
    return Target(what=what, goal=goal, measured=measured, reached=reached, note=note)
