"""What the report says about the toy problem (sections 1.3 and 1.4), beside what was measured.

Each claim is judged by a rule on the results; one whose trainings are not there is not measured.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..document import Claim
from ..judging import Judged, Rule, judge, yes
from .results import Group, Results, data_for, find, is_core
from .settings import MAGNITUDES, NAMES
from .training import PERFECT

LSTM_RANGE = (600, 1000)
GRU_ABOUT = (500, 700)
"""What `approximately 600` is taken as."""
MINUTE = 100
"""Updates that are a minute difference, and a tenth of the range that the report's axes show."""
PLATEAU = 0.1
"""Nats within which an early loss is the entropy's."""
LEFT = 3
"""Balanced classes must leave at most this part (one in so many) of the differences between early losses."""
CLOSE = 0.98
"""What `close to 1.00` is taken as."""


def claims_of(results: Results) -> list[Claim]:
    """Every claim, in the order of the report."""
    return judge(_CLAIMS, results, "The trainings that it needs were not part of this run.")


def _core(results: Results, cell: str) -> dict[int, Group] | None:
    """The cell's groups with the documented samples by T; None unless all are there and all runs"
    " converged."""
    groups = {g["magnitude"]: g for g in results["groups"] if g["cell"] == cell and is_core(g, results)}
    return groups if sorted(groups) == list(MAGNITUDES) else None


def _controls(results: Results, cell: str) -> dict[int, Group] | None:
    groups = {
        g["magnitude"]: g
        for g in results["groups"]
        if g["cell"] == cell and g["sampling"] == "balanced" and g["magnitude"] in MAGNITUDES
    }
    return groups if sorted(groups) == list(MAGNITUDES) else None


def _means(groups: dict[int, Group]) -> str:
    """Updates until convergence by T, in words."""
    parts = []
    for magnitude, group in groups.items():
        if group["converged_mean"] is None:
            parts.append(f"T = {magnitude}: not in every run")
        else:
            spread = f" ± {group['converged_std']:.0f}" if len(group["seeds"]) > 1 else ""
            parts.append(f"T = {magnitude}: {group['converged_mean']:.0f}{spread}")
    return ", ".join(parts)


def _all_converged(groups: dict[int, Group]) -> bool:
    return all(g["converged_mean"] is not None for g in groups.values())


def _range(cell: str, low: float, high: float) -> Rule:
    def rule(results: Results) -> Judged | None:
        groups = _core(results, cell)
        if not groups:
            return None
        inside = _all_converged(groups) and all(low <= g["converged_mean"] <= high for g in groups.values())
        return f"Updates until the 21-step mean accuracy is 0.99: {_means(groups)}.", yes(inside)

    return rule


def _perfect(cell: str) -> Rule:
    def rule(results: Results) -> Judged | None:
        groups = _core(results, cell)
        if not groups:
            return None
        shown = ", ".join(f"T = {m}: {g['final_accuracy']['mean']:.3f}" for m, g in groups.items())
        holds = all(g["final_accuracy"]["mean"] >= PERFECT for g in groups.values())
        return f"Mean accuracy of the last 21 updates: {shown}.", yes(holds)

    return rule


def _lstm_five(results: Results) -> Judged | None:
    groups = _core(results, "lstm")
    if not groups or not _all_converged(groups):
        return None
    means = {m: g["converged_mean"] for m, g in groups.items()}
    others = [means[4], means[6]]
    gap = means[5] - max(others)
    holds = gap > MINUTE and abs(others[0] - others[1]) <= MINUTE
    seeds = max(g["converged_std"] for g in groups.values())
    return (
        f"{_means(groups)}. T = 5 is {gap:+.0f} updates from the slower of the others, seeds of one T spread"
        f" by up to {seeds:.0f} (one standard deviation).",
        yes(holds),
    )


def _lstm_no_relation(results: Results) -> Judged | None:
    groups, judged = _core(results, "lstm"), _plateaus(results, "lstm")
    if not groups or not judged:
        return None
    controls = _controls(results, "lstm")
    balanced = f"; with the classes balanced: {_means(controls)}" if controls else ""
    return f"Updates until convergence: {_means(groups)}{balanced}. {judged[0]}", judged[1]


def _plateaus(results: Results, cell: str) -> Judged | None:
    """The early losses beside the entropies, and beside those with balanced classes."""
    groups = _core(results, cell)
    if not groups:
        return None
    early = {m: g["early_loss"]["mean"] for m, g in groups.items()}
    entropies = {m: data_for(results, m, "rejection")["entropy"] for m in groups}
    shown = ", ".join(f"T = {m}: {early[m]:.3f} ({entropies[m]:.3f})" for m in groups)
    words = f"Loss of updates 21 to 100, with the entropy of the share of the classes: {shown}."
    holds = all(abs(early[m] - entropies[m]) <= PLATEAU for m in groups)
    controls = _controls(results, cell)
    if controls:
        balanced = {m: g["early_loss"]["mean"] for m, g in controls.items()}
        words += f" With balanced classes, where that entropy is {math.log(2):.3f}: " + ", ".join(
            f"T = {m}: {value:.3f}" for m, value in balanced.items()
        )
        words += "."
        holds &= _width(balanced) <= _width(early) / LEFT
    return words, "explained" if holds else "not confirmed"


def _width(values: dict[int, float]) -> float:
    return max(values.values()) - min(values.values())


def _gru_plateaus(results: Results) -> Judged | None:
    groups, judged = _core(results, "gru"), _plateaus(results, "gru")
    if not groups or not judged:
        return None
    early = [groups[m]["early_loss"]["mean"] for m in MAGNITUDES]
    order = "The order is the report's." if early == sorted(early) else "The order is another."
    return f"{order} {judged[0]}", judged[1]


def _gru_even(results: Results) -> Judged | None:
    groups = _core(results, "gru")
    if not groups:
        return None
    if not _all_converged(groups):
        return f"{_means(groups)}.", "not confirmed"
    means = [g["converged_mean"] for g in groups.values()]
    near = all(GRU_ABOUT[0] <= m <= GRU_ABOUT[1] for m in means) and max(means) - min(means) <= MINUTE
    return f"Updates until convergence: {_means(groups)}.", yes(near)


def _gru_trend(results: Results) -> Judged | None:
    groups, controls = _core(results, "gru"), _controls(results, "gru")
    if not groups or not controls or not _all_converged(controls):
        return None
    means = [g["converged_mean"] for g in controls.values()]
    grows = means == sorted(means) and means[-1] - means[0] > MINUTE
    words = f"Updates until convergence: {_means(groups)}; with the classes balanced: {_means(controls)}"
    long = find(results, cell="gru", magnitude=max(g["magnitude"] for g in results["groups"]))
    if long and long["magnitude"] > max(MAGNITUDES):
        words += f"; T = {long['magnitude']}, balanced, {_when(long)}"
    return f"{words}.", "confirmed" if grows else "explained"


def _better(results: Results) -> Judged | None:
    lstm, gru = _core(results, "lstm"), _core(results, "gru")
    if not lstm or not gru:
        return None
    at = results["rules"]["at"]
    shown = ", ".join(
        f"T = {m}: {gru[m]['accuracy_at']['mean']:.3f} against {lstm[m]['accuracy_at']['mean']:.3f}"
        for m in MAGNITUDES
    )
    ahead = [
        gru[m]["accuracy_at"]["mean"] >= CLOSE
        and lstm[m]["accuracy_at"]["mean"] < gru[m]["accuracy_at"]["mean"]
        for m in (4, 5)
    ]
    return f"Accuracy after {at} updates, GRU against LSTM: {shown}.", yes(all(ahead))


def _smaller(results: Results) -> Judged | None:
    counts = {
        cell: group["parameters"]["recurrent"] + group["parameters"]["output"]
        for cell in ("lstm", "gru", "gru-before")
        for group in results["groups"]
        if group["cell"] == cell and is_core(group, results)
    }
    times = {
        cell: group["ms_per_update"]
        for cell in ("lstm", "gru")
        for group in results["groups"]
        if group["cell"] == cell and is_core(group, results)
    }
    if not {"lstm", "gru"} <= set(counts):
        return None
    return (
        f"Recurrent and output layer: GRU {counts['gru']:,} (it has no biases here), LSTM"
        f" {counts['lstm']:,}; an update at the largest T takes {times['gru']:.0f} against"
        f" {times['lstm']:.0f} ms of a processor.",
        yes(counts["gru"] < counts["lstm"]),
    )


def _long(results: Results) -> Sequence[Group]:
    return [g for g in results["groups"] if g["magnitude"] >= 10]


def _dramatic(results: Results) -> Judged | None:
    groups = _long(results)
    if not groups:
        return None
    parts = []
    for magnitude, sampling in dict.fromkeys((g["magnitude"], g["sampling"]) for g in groups):
        data = data_for(results, magnitude, sampling)
        of_kind = [g for g in groups if (g["magnitude"], g["sampling"]) == (magnitude, sampling)]
        each = ", ".join(f"{NAMES[g['cell']]} {_when(g)}" for g in of_kind)
        parts.append(f"T = {magnitude}, {data['steps']} steps, {sampling}: {each}")
    balanced = [g for g in groups if g["sampling"] == "balanced" and g["cell"] in ("lstm", "gru")]
    if not balanced:
        return f"{'; '.join(parts)}.", "not measured"
    longest = max(g["magnitude"] for g in balanced)
    hindered = any(g["converged_mean"] is None for g in balanced if g["magnitude"] == longest)
    return f"{'; '.join(parts)}.", yes(hindered)


def _when(group: Group) -> str:
    if group["converged_mean"] is not None:
        return f"converges after {group['converged_mean']:.0f}"
    return f"is at {group['final_accuracy']['mean']:.2f} after {max(group['updates_done'])}"


def _sustained(results: Results) -> Judged | None:
    entropies = {
        one["magnitude"]: one["entropy"] for one in results["data"] if one["sampling"] == "rejection"
    }
    beyond = {m: e for m, e in entropies.items() if m > max(MAGNITUDES)}
    trained = [
        g for g in results["groups"] if g["sampling"] == "rejection" and g["magnitude"] > max(MAGNITUDES)
    ]
    if not beyond or max(MAGNITUDES) not in entropies:
        return None
    at_six = entropies[max(MAGNITUDES)]
    shown = ", ".join(f"T = {m}: {e:.2g}" for m, e in sorted(beyond.items()))
    words = f"The entropy of the share of the classes is {at_six:.3f} at T = 6, and beyond: {shown}"
    for group in trained:
        words += f"; early loss of the {NAMES[group['cell']]} at T = {group['magnitude']}"
        words += f": {group['early_loss']['mean']:.3f}"
    grows = all(e >= at_six for e in beyond.values())
    return f"{words}.", yes(grows)


_CLAIMS: Sequence[tuple[str, str, Rule]] = (
    ("1.3, figure 1", "Every LSTM converges within 600 to 1000 updates.", _range("lstm", *LSTM_RANGE)),
    ("1.3, figure 1", "The LSTM reaches an accuracy of 1.00.", _perfect("lstm")),
    (
        "1.3, figure 1",
        "Lengths converge alike, but for T = 5: after 800 updates, the others near 600.",
        _lstm_five,
    ),
    (
        "1.3",
        "No noticeable relation between length and convergence or loss; initial losses differ a little, by"
        " the difficulty of the problem.",
        _lstm_no_relation,
    ),
    (
        "1.3",
        "Vanishing gradients and long dependencies might show when the length grows dramatically.",
        _dramatic,
    ),
    (
        "1.4, figure 2",
        "The GRU converges after about 600 updates for all lengths, with minute differences.",
        _gru_even,
    ),
    ("1.4, figure 2", "The GRU reaches an accuracy of 1.00 for all lengths.", _perfect("gru")),
    (
        "1.4, figure 2",
        "The initial loss is lowest at T = 4 (0.4) and highest at T = 6 (0.6), so longer sequences are the"
        " harder task.",
        _gru_plateaus,
    ),
    (
        "1.4",
        "This agrees with LSTM-like networks doing worse as sequences grow, because of vanishing gradients.",
        _gru_trend,
    ),
    (
        "1.4",
        "Initial loss and number of updates are to be expected to go on growing with the length.",
        _sustained,
    ),
    (
        "1.4",
        "The GRU is slightly ahead: at T = 4 and 5 near 1.00 after 600 updates, where the LSTM is near 0.90.",
        _better,
    ),
    ("1.4", "The GRU has fewer parameters than the LSTM and is more efficient.", _smaller),
)
