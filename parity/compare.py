"""Prove that engines say what eager PyTorch says, over a thousand steps and not just one.

Each check looks for a way in which deployed recurrent models have gone wrong: a step that is right
once and drifts, states wired to the wrong input, rows of a batch mixed up, a state that a snapshot
does not hold, sampling that ignores its seed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..contract.agreement import LIMITS, Agreement, agreement, bits_per_character
from ..contract.codec import Tokens
from ..contract.engine import Engine, largest_batch, predictions
from ..contract.errors import P2Error
from ..contract.noise import gumbel
from ..contract.sampling import Floats, Sampling, scale_noise
from ..runtime.decoder import Decoder

TAUS = (0.5, 1.0, 2.0)
STREAMS = 4
BATCH_CHARACTERS = 200
# Rounding differs a little between reading and writing, so a close call may fall the other way.
WRITTEN = 0.98
SHORT, POINTS = 1000, 250  # steps of a text whose errors are all told; of a longer one at most so many


@dataclass(frozen=True)
class Parity:
    """What one engine was found to do.

    Attributes:
        engine: its name.
        path: the file.
        precision: number format of its weights.
        single: one step from a zero state, for every character of the vocabulary.
        forced: the teacher-forced steps, each on the engine's own state.
        bits: bits per character of the teacher-forced text under this engine.
        bits_reference: the same under eager PyTorch.
        first_difference: for each tau, the index of the first sampled character that differs from
            eager PyTorch's for the same seed, or None if all are the same.
        rows: rows of a batch against each stream alone, on the same engine; None if it takes one text only.
        written: share of the characters it wrote, alone and in a batch, that its own logits choose:
            reading and writing may be different graphs, and must be the same model.
        restored: whether going on from a snapshot gave bit for bit the same logits, and the same text.
        errors: root-mean-square logit error of every teacher-forced step.
        failures: what is out of tolerance, in words; empty means parity.
    """

    engine: str
    path: str
    precision: str
    single: Agreement
    forced: Agreement
    bits: float
    bits_reference: float
    first_difference: dict[str, int | None]
    rows: Agreement | None
    written: float
    restored: bool
    errors: list[float]
    failures: list[str]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        values, (errors, each) = dict(vars(self)), self.drift()
        values |= {"errors": [float(f"{error:.3e}") for error in errors], "steps_of_an_error": each}
        for name in ("single", "forced", "rows"):
            measured = getattr(self, name)
            values[name] = measured and measured.to_dict()
        return values | {"limits": vars(LIMITS[self.precision]), "passed": not self.failures}

    def drift(self) -> tuple[list[float], int]:
        """The errors along the text, and of how many steps each is the largest: one, if there are few."""
        each = 1 if len(self.errors) <= SHORT else -(-len(self.errors) // POINTS)
        return [max(self.errors[at : at + each]) for at in range(0, len(self.errors), each)], each


class Reference:
    """Eager PyTorch's answers, worked out once for any number of engines.

    Args:
        engine: the eager engine.
        steps: teacher-forced steps.
        characters: sampled characters per tau.
        seed: of the text and of the sampling.
        text: tokens to read, int64 ``[length]``; by default text that the model itself writes.
        said: called with a few words before each stage.
    """

    def __init__(
        self,
        engine: Engine,
        steps: int,
        characters: int,
        seed: int,
        text: Tokens | None = None,
        said: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.card = engine.card
        self.characters, self.seed = characters, seed
        said("eager PyTorch reads")
        if text is None:
            text = Decoder(engine, Sampling(), seed).write(steps + 1)[0]
        self.text = text[: steps + 1]
        self.single = _single_steps(engine)
        self.forced = predictions(engine, self.text[None, :-1])
        self.samples = {}
        for tau in TAUS:
            said(f"eager PyTorch writes at tau {tau:g}")
            self.samples[tau] = Decoder(engine, Sampling.from_tau(tau), seed).write(characters)[0]

    def compare(self, engine: Engine, path: str, said: Callable[[str], None] = lambda _: None) -> Parity:
        """Put an engine through every check.

        Args:
            engine: any backend with the same model.
            path: its file, for the report.
            said: called with a few words before each stage.

        Raises:
            P2Error: the engine holds another model.
        """
        if engine.card.checkpoint_sha256 != self.card.checkpoint_sha256:
            raise P2Error(
                f"{path} was exported from another checkpoint than the one it is compared with:"
                " export that one again, or name the right one with --checkpoint"
            )
        said("one step")
        single = agreement(self.single, _single_steps(engine))
        said(f"{len(self.text) - 1:,} steps")
        forced_logits = predictions(engine, self.text[None, :-1])
        difference, shares, texts_restored = {}, [], []
        for tau in TAUS:
            said(f"writes at tau {tau:g}")
            text, restored = self._write(engine, Sampling.from_tau(tau), [0], self.characters)
            difference[f"{tau:g}"] = first_difference(self.samples[tau], text[0])
            shares.append(self._chosen(engine, text, Sampling.from_tau(tau), [0]))
            texts_restored.append(restored)
        rows, streams = None, largest_batch(engine, STREAMS)
        if streams > 1:
            said("writes in a batch")
            text, _ = self._write(engine, Sampling(), range(streams), min(BATCH_CHARACTERS, self.characters))
            shares.append(self._chosen(engine, text, Sampling(), range(streams)))
            said("rows of a batch")
            rows = self._rows(engine, streams)
        said("snapshot")
        precision = engine.card.precision
        targets = self.text[None, 1:]
        result = Parity(
            engine=engine.name,
            path=path,
            precision=precision,
            single=single,
            forced=agreement(self.forced, forced_logits),
            bits=bits_per_character(forced_logits, targets),
            bits_reference=bits_per_character(self.forced, targets),
            first_difference=difference,
            rows=rows,
            written=min(shares),
            restored=all(texts_restored) and self._restored(engine),
            errors=np.sqrt(((forced_logits - self.forced) ** 2).mean(axis=-1))[0].tolist(),
            failures=[],
        )
        result.failures.extend(_failures(result))
        return result

    def _rows(self, engine: Engine, streams: int) -> Agreement:
        """Logits of so many different texts, together against one by one."""
        length = max(1, min(100, len(self.text) // streams))
        texts = np.stack([np.resize(np.roll(self.text, -i * length), length) for i in range(streams)])
        alone = np.concatenate([predictions(engine, row[None]) for row in texts])
        return agreement(alone, predictions(engine, texts))

    def _write(
        self, engine: Engine, sampling: Sampling, streams: Sequence[int], count: int
    ) -> tuple[Tokens, bool]:
        """Text, int64 ``[batch, count]``, and whether its second half is the same from a snapshot."""
        decoder = Decoder(engine, sampling, self.seed, streams)
        first = decoder.write(count // 2)
        kept = decoder.snapshot()
        second = decoder.write(count - count // 2)
        decoder.restore(kept)
        same = bool(np.array_equal(second, decoder.write(count - count // 2)))
        return np.concatenate([first, second], axis=1), same

    def _chosen(self, engine: Engine, text: Tokens, sampling: Sampling, streams: Sequence[int]) -> float:
        """Share of a text's characters that the engine's logits choose, given the ones before."""
        if text.shape[1] < 2:
            return 1.0
        logits = predictions(engine, text[:, :-1])
        noise = scale_noise(gumbel(self.seed, streams, 1, text.shape[1] - 1, self.card.vocab), sampling)
        return float((np.argmax(logits + noise.transpose(1, 0, 2), axis=-1) == text[:, 1:]).mean())

    def _restored(self, engine: Engine) -> bool:
        """Read half, keep a snapshot, read the rest; then the rest again from the snapshot."""
        half = len(self.text) // 2
        state = engine.zero_state(1)
        engine.feed(state, self.text[None, :half])
        kept = engine.snapshot(state)
        first = predictions(engine, self.text[None, half:], state)
        again = predictions(engine, self.text[None, half:], engine.restore(kept))
        return bool(np.array_equal(first, again))


def first_difference(a: Tokens, b: Tokens) -> int | None:
    """Index of the first element that differs, or None."""
    different = np.nonzero(a != b)[0]
    return int(different[0]) if len(different) else None


def _single_steps(engine: Engine) -> Floats:
    """Logits after each character of the vocabulary alone, float32 ``[vocab, 1, vocab]``.

    One by one: a plan need not take as many texts at once as there are characters.
    """
    return np.concatenate([predictions(engine, np.array([[token]])) for token in range(engine.card.vocab)])


def _failures(result: Parity) -> list[str]:
    limits = LIMITS[result.precision]
    failures = [
        f"{what} is off by {measured.relative:.2g} (limit {limits.relative:g}), KL {measured.kl:.2g} nats"
        f" (limit {limits.kl:g})"
        for what, measured in (
            ("a single step", result.single),
            (f"the text of {result.forced.steps:,} steps", result.forced),
            ("a row of a batch", result.rows),
        )
        if measured is not None and not measured.within(limits)
    ]
    if result.written < WRITTEN:
        failures.append(
            f"only {result.written:.1%} of what it writes is what its own logits choose"
            f" (at least {WRITTEN:.0%})"
        )
    if not result.restored:
        failures.append("going on from a snapshot gives something else")
    if result.precision == "float32":
        failures += [
            f"at tau {tau} the text differs from character {index} on"
            for tau, index in result.first_difference.items()
            if index is not None
        ]
    return failures
