"""From trainings to figures: groups of the same kind, their convergence, curves and accuracies."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from .counts import class_counts, entropy, length_only, majority, prior
from .problem import ONE, PAD, ZERO, BaumSweet, Symbols
from .runs import Record
from .settings import MAGNITUDES
from .training import AFTER, CONVERGED, WINDOW, running_mean

Group = dict[str, Any]
Results = dict[str, Any]

EARLY = (20, 100)
"""Updates over which the early loss is taken, first and one behind the last."""
AT = 600
"""Updates after which the report compares its models."""
CURVE_EVERY = 10
CUE_SAMPLES = 20_000

_KIND = ("cell", "magnitude", "sampling", "withheld", "embedding", "gain", "fan", "hidden", "updates")


def results_of(records: Sequence[Record]) -> Results:
    """``data``: the samples of every kind; ``groups``: the trainings; ``rules``: the words' meaning."""
    groups: dict[tuple[Any, ...], list[Record]] = {}
    for record in records:
        groups.setdefault(tuple(record["options"][key] for key in _KIND), []).append(record)
    kinds = dict.fromkeys((one["options"]["magnitude"], one["options"]["sampling"]) for one in records)
    documented = [(magnitude, "rejection") for magnitude in (10, 15, 30)]
    return {
        "rules": {"window": WINDOW, "converged": CONVERGED, "after": AFTER, "early": list(EARLY), "at": AT},
        "data": [data_of(BaumSweet(*kind), kind in kinds) for kind in sorted({*kinds, *documented})],
        "groups": [group_of(of_kind) for of_kind in groups.values()],
    }


def data_of(data: BaumSweet, trained: bool = True) -> dict[str, Any]:
    """What can be said of samples before any training; the cue, which needs some, only where one is."""
    counts = class_counts(data.magnitude)
    share = prior(data)
    return {
        "magnitude": data.magnitude,
        "sampling": data.sampling,
        "steps": data.steps,
        "integers": sum(map(sum, counts.values())),
        "positives": sum(positive for _, positive in counts.values()),
        "prior": share,
        "entropy": entropy(share),
        "majority": majority(data),
        "length_only": length_only(data),
        "cue": cue_accuracy(data) if trained else None,
    }


def cue_accuracy(data: BaumSweet, samples: int = CUE_SAMPLES) -> float:
    """Accuracy of seeing nothing but single zeros: class 0 if the digits hold 101 or end with 10."""
    symbols, labels = data.batch(samples, 0, 0)
    return float(np.mean(~has_single_zero(symbols) == labels))


def has_single_zero(symbols: Symbols) -> npt.NDArray[np.bool_]:
    """Which numbers have a block of exactly one zero."""
    before = np.pad(symbols, ((0, 0), (1, 0)), constant_values=PAD)[:, :-1]
    after = np.pad(symbols, ((0, 0), (0, 1)), constant_values=ONE)[:, 1:]
    alone = (symbols == ZERO) & (before != ZERO) & (after != ZERO)
    found: npt.NDArray[np.bool_] = alone.any(axis=1)
    return found


def group_of(records: Sequence[Record]) -> Group:
    """Trainings that differ in nothing but the seed."""
    options = {key: records[0]["options"][key] for key in _KIND}
    converged = [one["converged"] for one in records]
    complete = [c for c in converged if c is not None]
    updates = sum(len(one["loss"]) for one in records)
    return options | {
        "seeds": [one["options"]["seed"] for one in records],
        "parameters": records[0]["parameters"],
        "converged": converged,
        "converged_mean": statistics.mean(complete) if len(complete) == len(converged) else None,
        "converged_std": statistics.pstdev(complete) if len(complete) == len(converged) else None,
        "updates_done": [len(one["loss"]) for one in records],
        "early_loss": _spread(_early(one["loss"]) for one in records),
        "accuracy_at": _spread(float(_held(one["accuracy"], AT)[-1]) for one in records),
        "final_accuracy": _spread(float(running_mean(one["accuracy"])[-1]) for one in records),
        "tests": _tests(records),
        "ms_per_update": 1e3 * sum(one["seconds"]["cpu"] for one in records) / updates,
        "curves": _curves(records),
    }


def _early(loss: Sequence[float]) -> float:
    """The mean over `EARLY`; of a training that ends before it, the last loss."""
    return float(np.mean(loss[EARLY[0] : EARLY[1]] or loss[-1:]))


def _spread(values: Iterable[float]) -> dict[str, float]:
    """Mean and standard deviation (of the seeds there are, not an estimate for others)."""
    found = list(values)
    return {"mean": statistics.fmean(found), "std": statistics.pstdev(found)}


def _held(values: Sequence[float], length: int) -> npt.NDArray[np.float64]:
    """The running mean over `length` updates; where a run has stopped, its last value holds."""
    means = running_mean(values)
    return means[np.minimum(np.arange(length), len(means) - 1)]


def _curves(records: Sequence[Record]) -> dict[str, Any]:
    longest = max(len(one["loss"]) for one in records)
    places = np.arange(CURVE_EVERY - 1, longest, CURVE_EVERY)
    curves: dict[str, Any] = {"update": (places + 1).tolist()}
    for what in ("loss", "accuracy"):
        rows = np.array([_held(one[what], longest) for one in records])[:, places]
        curves[f"{what}_mean"] = [round(float(v), 4) for v in rows.mean(axis=0)]
        curves[f"{what}_std"] = [round(float(v), 4) for v in rows.std(axis=0)]
    return curves


def _tests(records: Sequence[Record]) -> dict[str, Any]:
    """Tests of all seeds together: per kind and class ``numbers`` (mean), ``tested`` and ``right``."""
    found: dict[str, Any] = {}
    for kind in (name for name in records[0]["tests"] if all(name in one["tests"] for one in records)):
        found[kind] = {}
        for y in ("0", "1"):
            ones = [record["tests"][kind][y] for record in records]
            numbers = [one["numbers"] for one in ones]
            found[kind][y] = {
                "numbers": None if None in numbers else statistics.fmean(numbers),
                "tested": sum(one["tested"] for one in ones),
                "right": sum(one["right"] for one in ones),
            }
    return found


def is_core(group: Group, results: Results) -> bool:
    """Whether a group has the setting of the report that is reproduced."""
    first = results["groups"][0]
    same = all(group[key] == first[key] for key in ("embedding", "gain", "fan", "hidden"))
    return same and group["sampling"] == "rejection" and group["magnitude"] in MAGNITUDES


def find(results: Results, **wanted: Any) -> Group | None:
    """The first group with these values, or None."""
    for group in results["groups"]:
        if all(group[key] == value for key, value in wanted.items()):
            found: Group = group
            return found
    return None


def data_for(results: Results, magnitude: int, sampling: str) -> dict[str, Any]:
    """What is said of such samples."""
    return next(
        one for one in results["data"] if (one["magnitude"], one["sampling"]) == (magnitude, sampling)
    )
