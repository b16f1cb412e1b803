"""Checks of an engine through the one protocol: they know nothing of GPUs.

Each looks for a way in which recurrent engines on a GPU have gone wrong: a capture that advances the
state, a replay that reads another batch's buffers, a snapshot that does not hold everything.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..contract.agreement import LIMITS, agreement
from ..contract.codec import Tokens
from ..contract.engine import Engine, Snapshot, predictions
from ..contract.noise import gumbel
from ..contract.sampling import Sampling, scale_noise
from ..parity.compare import Reference
from ..runtime.decoder import Decoder
from .check import CheckFailed

Open = Callable[[], Engine]

SEED = 0
STEPS = 1000
CHARACTERS = 2000
RUNS = 10
MANY = 100  # texts, more than any kernel has at once; and characters of each
BATCHES = (1, 3, 8, 2, 64, 1)
PROMPT = 50
WRITTEN = 130  # several captured graphs, and a remainder


def parity(open_engine: Open, reference: Engine) -> dict[str, Any]:
    """The parity suite: known text is read and new text written, in launches where it has them."""
    engine = open_engine()
    try:
        result = Reference(reference, STEPS, CHARACTERS, SEED).compare(engine, engine.name)
    finally:
        engine.close()
    details = result.to_dict()
    del details["errors"]
    if result.failures:
        raise CheckFailed("; ".join(result.failures), details)
    return details


def capture(open_engine: Open, _reference: Engine) -> dict[str, Any]:
    """Writing for the first time, which may capture a graph, changes no state but as writing does."""
    engine = open_engine()
    try:
        prompt = _text(engine, 2, PROMPT)
        bystander = engine.zero_state(2)
        engine.feed(bystander, prompt)
        begun = engine.snapshot(bystander)
        noise = scale_noise(gumbel(SEED, range(2), 0, WRITTEN, engine.card.vocab), Sampling())
        last = np.ascontiguousarray(prompt[:, -1])
        texts, ends = [], []
        for _ in range(2):  # with the capture, and without
            state = engine.restore(begun)
            texts.append(engine.decode(state, last, noise, Sampling()))
            ends.append(engine.snapshot(state))
        fed = engine.restore(begun)
        engine.feed(fed, np.concatenate([last[:, None], texts[0][:, :-1]], axis=1))
        distance = state_distance(engine.snapshot(fed), ends[0])
        details = {
            "characters": WRITTEN,
            "bystander_untouched": _same(begun, engine.snapshot(bystander)),
            "same_text_again": bool(np.array_equal(texts[0], texts[1])),
            "same_state_again": _same(*ends),
            "distance_from_reading": distance,
        }
        limit = LIMITS[engine.card.precision].relative
    finally:
        engine.close()
    wrong = {
        "another state changes": not details["bystander_untouched"],
        "the first launch writes another text than the second": not details["same_text_again"],
        "the first launch leaves another state than the second": not details["same_state_again"],
        f"the state after writing is {distance:.1g} from that after reading the same text (limit {limit:g})":
            not distance <= limit,
    }  # fmt: skip
    return verdict(wrong, details)


def snapshot(open_engine: Open, reference: Engine) -> dict[str, Any]:
    """A state moves to eager PyTorch and back, and to another state of the same engine, bit for bit."""
    engine = open_engine()
    try:
        prompt, rest = np.split(_text(engine, 2, 2 * PROMPT), 2, axis=1)
        here, there = engine.zero_state(2), reference.zero_state(2)
        engine.feed(here, prompt)
        reference.feed(there, prompt)
        kept, expected = engine.snapshot(here), reference.snapshot(there)
        first, again = (predictions(engine, rest, engine.restore(kept)) for _ in range(2))
        moved = predictions(reference, rest, reference.restore(kept))
        came = predictions(engine, rest, engine.restore(expected))
        whole = predictions(reference, rest, reference.restore(expected))
        limits = LIMITS[engine.card.precision]
    finally:
        engine.close()
    to, back = agreement(whole, moved), agreement(whole, came)
    details = {
        "same_from_a_snapshot": bool(np.array_equal(first, again)),
        "to_eager": to.to_dict(),
        "from_eager": back.to_dict(),
    }
    wrong = {
        "going on twice from one snapshot gives two results": not details["same_from_a_snapshot"],
        f"its state in eager PyTorch is out of tolerance ({to.relative:.2g})": not to.within(limits),
        f"eager PyTorch's state in it is out of tolerance ({back.relative:.2g})": not back.within(limits),
    }
    return verdict(wrong, details)


def batches(open_engine: Open, _reference: Engine) -> dict[str, Any]:
    """Batches of changing size, one text going on through all of them, rows leaving a batch."""
    engine = open_engine()
    try:
        card, limits = engine.card, LIMITS[engine.card.precision]
        undisturbed = Decoder(engine, Sampling(), SEED, range(3)).write(WRITTEN)
        going_on = Decoder(engine, Sampling(), SEED, range(3))
        share = WRITTEN // (len(BATCHES) + 1)
        pieces, rows = [going_on.write(share)], {}
        for batch in BATCHES:
            texts = _text(engine, batch, PROMPT)
            together, alone = predictions(engine, texts), predictions(engine, texts[-1:])
            rows[batch] = agreement(alone, together[-1:])
            Decoder(engine, Sampling(), SEED, range(batch)).write(share)
            pieces.append(going_on.write(share))
        pieces.append(going_on.write(WRITTEN - share * len(pieces)))
        text = np.concatenate(pieces, axis=1)
        leaving = Decoder(engine, Sampling(), SEED, range(3))
        leaving.write(PROMPT)
        kept = leaving.snapshot()["state"]
        leaving.keep([2])
        same_row = _same({name: values[2:] for name, values in kept.items()}, leaving.snapshot()["state"])
        left = leaving.write(1)
    finally:
        engine.close()
    worst = max(rows.values(), key=lambda row: row.relative)
    details = {
        "batches": list(BATCHES),
        "undisturbed": bool(np.array_equal(text, undisturbed)),
        "rows": {str(batch): row.to_dict() for batch, row in rows.items()},
        "kept_row_is_the_same": same_row and bool(0 <= left[0, 0] < card.vocab),
    }
    wrong = {
        "a text is another one when other batches are written in between": not details["undisturbed"],
        f"a row of a batch is out of tolerance ({worst.relative:.2g})":
            not all(row.within(limits) for row in rows.values()),
        "a row that stays when others leave has another state": not details["kept_row_is_the_same"],
    }  # fmt: skip
    return verdict(wrong, details)


def determinism(open_engine: Open, _reference: Engine, on_processor: Open | None = None) -> dict[str, Any]:
    """Engines that are opened one after the other write one text.

    Args:
        open_engine: opens what is checked.
        on_processor: opens the engine that has to write the same text; None: there is none.
    """
    texts = [_write(open_engine) for _ in range(RUNS)]
    details: dict[str, Any] = {
        "runs": RUNS,
        "characters": texts[0].size,
        "texts": len({text.tobytes() for text in texts}),
    }
    wrong = {f"{RUNS} runs wrote {details['texts']} texts": details["texts"] > 1}
    if on_processor:
        same = np.array_equal(texts[0], _write(on_processor))
        many = np.array_equal(_write(open_engine, MANY, MANY), _write(on_processor, MANY, MANY))
        details["same_on_processor"] = bool(same and many)
        wrong["the processor writes another text with the same integers"] = not details["same_on_processor"]
    return verdict(wrong, details)


def _write(open_engine: Open, texts: int = 3, most: int = CHARACTERS) -> Tokens:
    engine = open_engine()
    try:
        return Decoder(engine, Sampling(), SEED, range(texts)).write(min(most, CHARACTERS))
    finally:
        engine.close()


def state_distance(a: Snapshot, b: Snapshot) -> float:
    """Root-mean-square difference of two states over their root mean square."""
    first, second = (np.concatenate([s[name].ravel() for name in sorted(a)]).astype(float) for s in (a, b))
    scale = float(np.sqrt((first**2).mean()))
    error = float(np.sqrt(((first - second) ** 2).mean()))
    return error / scale if scale else error


def verdict(wrong: dict[str, bool], details: dict[str, Any]) -> dict[str, Any]:
    """The details; `CheckFailed` with them if anything is wrong."""
    found = [what for what, is_so in wrong.items() if is_so]
    if found:
        raise CheckFailed("; ".join(found), details)
    return details


def _same(a: Snapshot, b: Snapshot) -> bool:
    return all(np.array_equal(a[name], b[name]) for name in a)


def _text(engine: Engine, batch: int, length: int) -> Tokens:
    """Random known text, int64 ``[batch, length]``."""
    tokens: Tokens = np.random.default_rng(SEED).integers(0, engine.card.vocab, (batch, length), np.int64)
    return tokens
