"""The promises about speed, and whether the figures of a run keep them.

Every verdict is computed from what was measured. Where a figure is missing, or a promise is about
other models, nothing is judged and the note says why.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..contract.cells import CELLS
from ..contract.precisions import TABLE
from ..render.numbers import number, percent, ratio, seconds, size
from . import gpu_targets
from .document import Document, Entry, Measured, Target
from .entries import paired
from .figures import (
    EAGER,
    acceptable,
    at_batch,
    best,
    closest,
    fastest,
    find,
    float32_bytes,
    growth,
    judged,
    l3_cache,
    matmul_share,
    ours,
    peers,
    reading_over_writing,
    rivals,
    times,
    times_reading,
)
from .quality import DIFFERENCE_LIMITS

FLOAT32_OVER_EAGER = 10.0
BEST_OVER_EAGER = 100.0
BEST_OVER_EAGER_HIDDEN = 2048

BANDWIDTH_SHARE = 0.9

# Precision -> times float32, from this hidden size up; `quality` knows what it may cost.
QUANTISED = {one.key: one.gain for one in TABLE.values() if one.gain}
QUANTISED_HIDDEN = 1024

STREAMS = 64
STREAMS_HIDDEN = (512, 2048)
STREAMS_FLOAT32 = 0.8
STREAMS_BEST = 2.0

BATCH_TOLERANCE = 0.05

PROMPT_LENGTH = 10_000
PROMPT_LEAST = 256  # a model that reads slowly is judged by as much, and the note says so
PROMPT_OVER_WRITING = 2.0

HELP_SECONDS = 0.2
FIRST_CHARACTER_SECONDS = 0.35

NOT_MEASURED = "not measured"
NO_PEER = "no other float32 contender ran"
SPEED_ONLY = "speed only: weights not trained"


def for_model(measured: Measured, machine: Mapping[str, Any] | None = None) -> list[Target]:
    """Judge one model.

    Args:
        measured: the model with its entries; its own ``targets`` are not read.
        machine: the document's machine, for the size of its L3 cache (``caches.L3``, bytes).
    """
    hidden = measured["card"]["hidden"]
    rows = [_over_eager(measured), _over_peers(measured), _batches_over_peers(measured)]
    rows += [_prompt_over_peers(measured), _bandwidth(measured, machine or {})]
    if hidden >= QUANTISED_HIDDEN:
        rows += [_quantised(measured, precision) for precision in QUANTISED]
    if hidden == BEST_OVER_EAGER_HIDDEN:
        rows.append(_best_over_eager(measured))
    if hidden in STREAMS_HIDDEN:
        rows += [_streams_float32(measured), _streams_best(measured)]
    rows += [_batches(measured), *_prompts(measured), _texts(measured)]
    return rows + gpu_targets.for_gpu(hidden, measured["entries"])


def overall(document: Document) -> list[Target]:
    """Judge what concerns the run as a whole: start-up, training, the GPU."""
    start_up = document["settings"].get("start_up") or {}
    return [
        _at_most("p2 --help, from the shell", start_up.get("help_s"), HELP_SECONDS),
        _at_most(
            "p2 generate, from the shell to the first character, small model",
            start_up.get("generate_first_character_s"),
            FIRST_CHARACTER_SECONDS,
        ),
        _training(document["settings"].get("training")),
        gpu_targets.of_run(document),
    ]


def _over_eager(measured: Measured) -> Target:
    what, goal = "float32, times eager PyTorch", f"≥ {FLOAT32_OVER_EAGER:g}×"
    mine, eager = fastest(ours(measured, "float32")), find(measured, EAGER)
    gain = times(mine, eager)
    if gain is None:
        return _unknown(what, goal, _why(measured, "float32") if mine is None else _why_not(eager, EAGER))
    return _target(what, goal, ratio(gain), gain >= FLOAT32_OVER_EAGER)


def _over_peers(measured: Measured) -> Target:
    what, goal = "float32, times the fastest other float32", "> 1×"
    mine = fastest(ours(measured, "float32"))
    found = closest(mine, peers(measured))
    if found is None:
        why = _why(measured, "float32") if mine is None else NO_PEER
        return _unknown(what, goal, why)
    gain, other = found
    return _target(what, goal, ratio(gain), gain > 1, f"fastest other: {other['title']}")


def _batches_over_peers(measured: Measured) -> Target:
    """The batch at which another contender comes closest; p2's float32 against the others' float32."""
    what, goal = "float32 in batches, times the fastest other float32", "> 1×"
    mine = fastest(ours(measured, "float32"))
    gains = [
        (paired(point["values"], theirs["values"]), point["batch"], other)
        for point in (mine["batches"] if mine else [])
        for other in rivals(measured)
        if point["batch"] > 1 and (theirs := at_batch(other, point["batch"]))
    ]
    if not gains:
        return _unknown(what, goal, _why(measured, "float32") if mine is None else NO_PEER)
    gain, batch, other = min(gains, key=lambda found: found[:2])
    return _target(what, goal, ratio(gain), gain > 1, f"least with {batch} texts: {other['title']}")


def _prompt_over_peers(measured: Measured) -> Target:
    what, goal = "reading a prompt, float32, times the fastest other float32", "> 1×"
    mine = fastest(ours(measured, "float32"))
    gains = [(gain, other) for other in rivals(measured) if mine and (gain := times_reading(mine, other))]
    if not gains:
        return _unknown(what, goal, _why(measured, "float32") if mine is None else NO_PEER)
    gain, other = min(gains, key=lambda found: found[0])
    return _target(what, goal, ratio(gain), gain > 1, f"fastest other: {other['title']}")


def _bandwidth(measured: Measured, machine: Mapping[str, Any]) -> Target:
    what, goal = "float32, share of the memory bandwidth", f"≥ {100 * BANDWIDTH_SHARE:g} %"
    mine = fastest(ours(measured, "float32"))
    share = mine["bandwidth_share"] if mine else None
    shown = NOT_MEASURED if share is None else percent(share)
    cache, weights = l3_cache(machine), float32_bytes(measured)
    if cache is None:
        return _target(what, goal, shown, None, "the size of the L3 cache is not known")
    if weights <= cache:
        return _target(
            what, goal, shown, None, f"weights of {size(weights)} fit the L3 cache of {size(cache)}"
        )
    if share is None:
        return _unknown(what, goal, _why(measured, "float32"))
    return _target(what, goal, shown, share >= BANDWIDTH_SHARE)


def _quantised(measured: Measured, precision: str) -> Target:
    least, limit = QUANTISED[precision], DIFFERENCE_LIMITS[precision]
    what = f"{precision}, times float32"
    goal = f"≥ {least:g}×, within {limit:g} bits/char"
    mine, base = fastest(ours(measured, precision)), fastest(ours(measured, "float32"))
    gain = times(mine, base)
    if mine is None or gain is None:
        return _unknown(what, goal, _why(measured, precision if mine is None else "float32"))
    quality = mine["quality"]
    if quality is None and judged(measured):
        return _target(what, goal, ratio(gain), None, "its bits per character were not measured")
    if quality is None:
        return _target(what, goal, ratio(gain), gain >= least, SPEED_ONLY)
    difference = quality["difference"]
    reached = gain >= least and difference <= limit
    return _target(what, goal, f"{ratio(gain)}, {difference:+.4f} bits/char", reached)


def _best_over_eager(measured: Measured) -> Target:
    what, goal = "best precision, times eager PyTorch", f"≥ {BEST_OVER_EAGER:g}×"
    mine, eager = best(measured), find(measured, EAGER)
    gain = times(mine, eager)
    if mine is None or gain is None:
        return _unknown(what, goal, _why(measured, None) if mine is None else _why_not(eager, EAGER))
    return _target(what, goal, ratio(gain), gain >= BEST_OVER_EAGER, _choice(measured, mine))


def _streams_float32(measured: Measured) -> Target:
    what = f"{STREAMS} texts, float32, share of the matrix-product rate"
    goal = f"≥ {100 * STREAMS_FLOAT32:g} %"
    mine = fastest(ours(measured, "float32"))
    point = at_batch(mine, STREAMS) if mine else None
    if point is None:
        return _unknown(what, goal, _why(measured, "float32", f"batch {STREAMS} was not measured"))
    share = matmul_share(measured, point)
    return _target(what, goal, percent(share), share >= STREAMS_FLOAT32)


def _streams_best(measured: Measured) -> Target:
    what = f"{STREAMS} texts, best precision, times the float32 matrix-product rate"
    goal = f"≥ {STREAMS_BEST:g}×"
    shares = [
        (matmul_share(measured, point), entry)
        for entry in ours(measured)
        if acceptable(measured, entry) and (point := at_batch(entry, STREAMS))
    ]
    if not shares:
        return _unknown(what, goal, _why(measured, None, f"batch {STREAMS} was not measured"))
    share, entry = max(shares, key=lambda pair: pair[0])
    return _target(what, goal, ratio(share), share >= STREAMS_BEST, _choice(measured, entry))


def _batches(measured: Measured) -> Target:
    """The time per character must not grow with the batch; compared with the best smaller batch."""
    what = "time per character, against the best smaller batch"
    goal = f"≤ 1×, {100 * BATCH_TOLERANCE:g} % allowed for noise"
    found = [(*one, entry["title"]) for entry in ours(measured) for one in growth(entry)]
    worst = max(found, default=None)
    if worst is None:
        return _unknown(what, goal, _why(measured, None, "fewer than two batch sizes were measured"))
    times_best, batch, smaller, title = worst
    sizes = {point["batch"] for entry in ours(measured) for point in entry["batches"]}
    note = f"worst: {title}, batch {batch} against batch {smaller};"
    note += f" batches {min(sizes)} to {max(sizes)} measured"
    return _target(what, goal, ratio(times_best), times_best <= 1 + BATCH_TOLERANCE, note)


def _prompts(measured: Measured) -> list[Target]:
    """float32, and the best precision where that is another one."""
    rows = [_prompt(measured, "float32", fastest(ours(measured, "float32")))]
    top = best(measured)
    if top is None or top["precision"] != "float32":
        rows.append(_prompt(measured, "best precision", top))
    return rows


def _prompt(measured: Measured, name: str, entry: Entry | None) -> Target:
    what = f"reading a prompt of {PROMPT_LENGTH:,} characters, {name}, times writing"
    goal = f"≥ {PROMPT_OVER_WRITING:g}×"
    gain = reading_over_writing(entry) if entry else None
    if entry is None or gain is None or entry["prompt"] is None:
        return _unknown(what, goal, _why(measured, "float32" if name == "float32" else None))
    length = entry["prompt"]["length"]
    notes = [] if name == "float32" else [_choice(measured, entry)]
    if length < PROMPT_LENGTH:
        notes.append(f"the prompt had {length:,} characters only")
    reached = gain >= PROMPT_OVER_WRITING if length >= PROMPT_LEAST else None
    if reached is False:
        share = _recurrent_weights(measured) / measured["weights"]
        notes.append(f"{percent(share)} of the weights meet the state of the character before")
    return _target(what, goal, ratio(gain), reached, "; ".join(notes))


def _recurrent_weights(measured: Measured) -> int:
    """Weights that no way of reading can apply to several characters of a text at once."""
    card = measured["card"]
    return int(card["layers"] * len(CELLS[card["cell"]].gates) * card["hidden"] ** 2)


def _texts(measured: Measured) -> Target:
    what, goal = "texts of all float32 paths for the same noise", "identical"
    compared = [
        (entry, entry["text"]["identical"])
        for entry in measured["entries"]
        if entry["precision"] == "float32" and entry["text"] and entry["text"]["identical"] is not None
    ]
    if len(compared) < 2:
        return _unknown(what, goal, "fewer than two float32 paths wrote the common text")
    others = [entry["title"] for entry, identical in compared if not identical]
    shown = f"{len(compared) - len(others)} of {len(compared)}"
    return _target(what, goal, shown, not others, f"other text: {', '.join(others)}" if others else "")


def _at_most(what: str, value: float | None, limit: float) -> Target:
    goal = f"≤ {limit:g} s"
    if value is None:
        return _unknown(what, goal, "this run did not time it")
    return _target(what, goal, seconds(value), value <= limit)


def _training(training: Mapping[str, Any] | None) -> Target:
    what, goal = "training on the CPU, times a hand-written loop over nn.LSTM", "≥ 1×"
    if not training:
        return _unknown(what, goal, "this run did not time it")
    mine, other = training["p2_characters_per_second"], training["hand_written_characters_per_second"]
    gain = training["times_hand_written"]
    note = f"{number(mine)} against {number(other)} characters/s, {training['precision']}"
    return _target(what, goal, ratio(gain), gain >= 1, note)


def _choice(measured: Measured, entry: Entry) -> str:
    """Which precision was taken as the best, and whether its quality is known."""
    speed_only = entry["precision"] != "float32" and not judged(measured)
    return f"{entry['precision']}, {SPEED_ONLY}" if speed_only else entry["precision"]


def _why(measured: Measured, precision: str | None, otherwise: str = "this run did not measure it") -> str:
    """Why p2 has no figure: the reason that its entries were skipped, if there is one."""
    entries = ours(measured, precision)
    if not entries:
        return f"no p2 {precision or 'entry'} on the CPU in this run"
    if all(entry["skipped"] for entry in entries):
        return entries[0]["skipped"] or otherwise
    return otherwise


def _why_not(entry: Entry | None, key: str) -> str:
    if entry is None:
        return f"no {key} in this run"
    return entry["skipped"] or f"{entry['title']} was not measured"


def _unknown(what: str, goal: str, note: str) -> Target:
    return _target(what, goal, NOT_MEASURED, None, note)


def _target(what: str, goal: str, measured: str, reached: bool | None, note: str = "") -> Target:
    return Target(what=what, goal=goal, measured=measured, reached=reached, note=note)
