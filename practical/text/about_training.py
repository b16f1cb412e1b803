"""Claims about the training: accuracy, epochs, the ceiling."""

from __future__ import annotations

from ..document import Verdict
from ..judging import Judged, Results, yes
from . import seed


def overfits(results: Results) -> Judged:
    """Confirmed if the highest accuracy was reached."""
    training, model = results["training"], results["model"]
    best = training["best_accuracy"]
    reached = next(
        (c for c in results["checkpoints"] if c["asked"] and abs(c["asked"] - seed.HIGH) < 0.011), None
    )
    measured = (
        f"{model['layers']} x {model['hidden']} ({model['parameters']:,} parameters): running accuracy"
        f" {best:.3f} at best in {training['updates']:,} batches"
        + (f", {seed.HIGH:g} after {reached['step']:,}." if reached else f", {seed.HIGH:g} not reached.")
    )
    return measured, yes(reached is not None)


def epochs(results: Results) -> Judged:
    """Explained: an epoch counts windows, not characters read."""
    training, book = results["training"], results["book"]
    windows = training["updates"] * training["batch_size"]
    characters = book["characters"]
    return (
        f"{seed.EPOCHS} epochs fit if an epoch is as many windows as the text has characters:"
        f" {seed.BATCHES:,} x {seed.BATCH} / {seed.EPOCHS} = {seed.BATCHES * seed.BATCH / seed.EPOCHS:,.0f},"
        f" about that book's length. But a window holds {training['window']} characters, so each was seen"
        f" {seed.EPOCHS * training['window']:.0f} times. Here: {windows / characters:.2f} such epochs, every"
        f" character {windows * training['window'] / characters:.0f} times.",
        "explained",
    )


def ceiling(results: Results) -> Judged:
    """Explained if the end of a window is predicted with 0.9 or better, its beginning with 0.75 or worse."""
    last, ceiling = results["checkpoints"][-1], results["ceiling"]
    positions = last["windows"]["by_position"]
    early, late = sum(positions[:5]) / 5, sum(positions[-10:]) / 10
    verdict: Verdict = "explained" if late >= 0.9 and early <= 0.75 else "not confirmed"
    return (
        f"At {last['running_accuracy']:.2f} the first 5 characters of a window are predicted with"
        f" {early:.3f}, the last 10 with {late:.3f}: a window starts from a zero state, and its first"
        f" characters cannot be known. On this book no model can exceed {ceiling['mean']:.3f} over windows of"
        f" {len(positions)} ({ceiling['by_position'][0]:.3f} for the first character,"
        f" {ceiling['by_position'][-1]:.3f} for the last).",
        verdict,
    )


def late_gain(results: Results) -> Judged:
    """Confirmed if nine tenths of the gain came in the first three quarters of the batches."""
    steps, values = results["curve"]["step"], results["curve"]["running_accuracy"]
    first, last = values[0], values[-1]
    until = 0.75 * steps[-1]
    early = max(value for step, value in zip(steps, values, strict=True) if step <= max(until, steps[0]))
    share = (early - first) / (last - first) if last > first else 0.0
    return (
        f"{share:.0%} of the gain in accuracy came in the first three quarters of {steps[-1]:,} batches.",
        yes(share >= 0.9),
    )
