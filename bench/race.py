"""One model and its contenders, measured side by side.

Each contender has a process of its own. They take turns, round after round, with a rest before each
turn, so that a machine that slows down slows all of them and no turn pays for threads that still spin.
"""

from __future__ import annotations

import contextlib
import itertools
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack

import numpy as np
import numpy.typing as npt

from ..contract.card import Card, bytes_per_step
from ..contract.errors import P2Error
from ..contract.noise import first_tokens, gumbel
from ..render.machine import memory_available
from ..render.progress import Progress
from ..runtime.generate import PIECE_CHARACTERS
from . import entries
from .document import Beside, Entry
from .memory import fits, needed_bytes, too_large
from .models import Prepared
from .options import Effort
from .plugins import Entrant, is_reference
from .quality import assess
from .racer import Racer, compare_texts
from .remote import Failed, Remote
from .targets import PROMPT_LEAST

REST_SECONDS = 0.2
SEED = 0

LEAST_CHARACTERS = 16  # of one turn, however slow the contender is
LEAST_STEPS = 4  # of one turn with many texts
BATCH_LIMIT_SECONDS = 3.0  # a peer leaves the batches when its shortest turn takes longer
MOST_CHARACTERS = 1 << 16

# Latency is told for calls of so many characters; of one, where a character takes longer than this.
LATENCY_CHUNK = 16
LATENCY_CHUNK_SECONDS = 1e-3
LATENCY_CALLS = (4, 50)  # in one turn, fewest and most

LEAST_PROMPT = 64  # characters, however slowly a peer reads; of p2 as many as a verdict needs
LOGITS_NUMBERS = 1 << 26  # held-out text is read as far as its predictions are no more than this


class Race:
    """Measures every contender with one model.

    Attributes:
        notes: sentences about what could not be measured or was done differently.
        bandwidths: bytes per second of the memory of each device, before each turn on it.

    Args:
        prepared: the model.
        effort: how long and how often.
        threads: of every contender; None lets each choose.
        progress: shows what is going on.
        bandwidth: by device, tells the bytes per second of its memory now; without it shares are left out.
        open_remote: starts a contender's process.
        available: bytes of memory that are free; None where the system does not tell.
        pause: waits so many seconds.
        clock: seconds, for the time to the first character.
    """

    def __init__(
        self,
        prepared: Prepared,
        effort: Effort,
        threads: int | None,
        progress: Progress,
        bandwidth: Mapping[str, Callable[[], float]] | None = None,
        open_remote: Callable[[str], Remote] = Remote,
        available: Callable[[], int | None] = memory_available,
        pause: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.notes: list[str] = []
        self.bandwidths: dict[str, list[float]] = {}
        self._prepared, self._model = prepared, prepared.model
        self._effort, self._threads = effort, threads
        self._progress = progress
        self._bandwidth, self._available = dict(bandwidth or {}), available
        self._open, self._pause, self._clock = open_remote, pause, clock
        self._reference: npt.NDArray[np.float32] | None = None
        self._first: Racer | None = None  # p2's float32

    def run(self, entrants: Sequence[Entrant]) -> list[Entry]:
        """Measure all that can run here.

        Args:
            entrants: p2's float32 first.

        Returns:
            an entry for each, in their order.
        """
        racers = [Racer(entrant) for entrant in entrants]
        for racer in racers:
            racer.entry["skipped"] = racer.contender.missing(self._model.card)
        able = [racer for racer in racers if racer.entry["skipped"] is None]
        self._first = next((racer for racer in able if is_reference(racer.contender)), None)
        parts: list[list[Racer]] = []
        waiting: Sequence[Racer] = able
        while waiting:
            with ExitStack() as processes:
                part, waiting = self._gather(waiting, processes)
                self._race(part)
            for racer in part:
                racer.remote = None
            parts += [part] if part else []
        if len(parts) > 1:
            told = "; ".join(", ".join(racer.contender.key for racer in part) for part in parts)
            self._note(f"memory does not hold all contenders at once, so they ran in groups: {told}")
        compare_texts(able, self._model.card.vocabulary)
        self._first_characters([racer for racer in able if racer.firsts_s])
        return [racer.entry for racer in racers]

    def _gather(self, waiting: Sequence[Racer], processes: ExitStack) -> tuple[list[Racer], Sequence[Racer]]:
        """Load as many as memory holds: those, and the others. Who would not fit alone is neither."""
        part: list[Racer] = []
        need = needed_bytes(self._model.card)
        self._progress.phase(f"{self._model.name}: loading", len(waiting))
        for index, racer in enumerate(waiting):
            available = self._available()
            if not fits(need, available):
                if part:
                    return part, waiting[index:]
                racer.entry["skipped"] = too_large(need, available)
                self._progress.done()
                continue
            self._progress.now(racer.contender.title)
            part.append(racer)
            with self._surviving(racer, "loading"):
                self._load(racer, processes)
            self._progress.done()
        return part, []

    def _race(self, racers: Sequence[Racer]) -> None:
        self._each(racers, "writing for the first time", self._calibrate)
        self._rounds(racers, "one text, written and read", self._effort.rounds, self._turn)
        for before, batch in itertools.pairwise((0, *self._effort.batches)):
            self._batch(racers, batch, before)
        self._each(racers, "writing with common noise", self._text)
        if self._prepared.held_out is not None:
            mine = [racer for racer in racers if racer.contender.group == "p2"]
            self._each(mine, "reading held-out text", self._quality)

    def _each(self, racers: Sequence[Racer], phase: str, action: Callable[[Racer], None]) -> None:
        """Something that everyone does once."""
        self._rounds(racers, phase, 1, lambda racer, _: action(racer))

    def _rounds(
        self, racers: Sequence[Racer], phase: str, rounds: int, turn: Callable[[Racer, int], None]
    ) -> None:
        """Everyone who is still there in turn, round after round."""
        self._progress.phase(f"{self._model.name}: {phase}", rounds * len(racers))
        for index in range(rounds):
            for racer in racers:
                if racer.remote is not None:
                    self._progress.now(racer.contender.title)
                    self._pause(REST_SECONDS)
                    with self._surviving(racer, phase):
                        turn(racer, index)
                self._progress.done()

    @contextlib.contextmanager
    def _surviving(self, racer: Racer, phase: str) -> Iterator[None]:
        """Turn a failure into the contender's own affair.

        Who has lost its process, or cannot even write one text, is out; who merely cannot do one
        of the later things keeps its figures.
        """
        try:
            yield
        except Failed as error:
            if racer.speeds and not error.gone:
                self._note(f"{racer.contender.key}, {phase}: {error}")
                return
            if racer.remote is not None:
                racer.remote.kill()
            reason = f"{phase}: {error}"
            racer.remote, racer.text, racer.firsts_s = None, None, []
            racer.entry = entries.blank(racer.contender, reason)
            self._progress.say(f"{self._model.name}: {racer.contender.key} is out, {reason}")

    def _note(self, text: str) -> None:
        self.notes.append(f"{self._model.name}: {text}")
        self._progress.say(self.notes[-1])

    def _load(self, racer: Racer, processes: ExitStack) -> None:
        """Start a process, load, write a character: the time to the first one comes with it."""
        started = self._clock()
        racer.remote = processes.enter_context(self._open(racer.entrant.address))
        racer.entry["load_s"], racer.entry["threads"] = racer.remote.load(self._model, self._threads)
        racer.remote.write(1, SEED, warm=0, chunk=1, chunks=1)
        racer.firsts_s.append(self._clock() - started)
        racer.entry["bytes_per_step"] = bytes_per_step(self._card_of(racer))

    def _calibrate(self, racer: Racer) -> None:
        for chunk in (LEAST_CHARACTERS, 16 * LEAST_CHARACTERS):
            (seconds,) = racer.process.write(1, SEED, warm=1, chunk=chunk, chunks=1)
            racer.character_s = seconds / chunk
            if racer.character_s > LATENCY_CHUNK_SECONDS:
                break  # the longer call would only cost time
        racer.chunk = 1 if racer.character_s > LATENCY_CHUNK_SECONDS else LATENCY_CHUNK

    def _turn(self, racer: Racer, index: int) -> None:
        """One text: what can be set against one another is measured close together in time."""
        if index % 2:
            self._beside(racer, index)
        self._alone(racer, index)
        if not index % 2:
            self._beside(racer, index)

    def _beside(self, racer: Racer, index: int) -> None:
        """p2's float32 beside a peer in float32, in the peer's turn."""
        mine, contender = self._first, racer.contender
        if (contender.group, contender.precision, contender.device) != ("peer", "float32", "cpu"):
            return
        if mine is None or mine.remote is None or not mine.speeds or racer.remote is None:
            return
        there = racer.entry["beside"] or Beside(key=mine.contender.key, written=[], read=[])
        racer.entry["beside"] = there
        self._pause(REST_SECONDS)
        with self._surviving(mine, f"writing beside {contender.key}"):
            chunk, chunks = pieces(self._effort.turn_seconds, mine.character_s, LEAST_CHARACTERS)
            there["written"].append(self._speed(mine, 1, index, chunk, chunks, mine.character_s))
            if mine.reads and racer.reads:
                there["read"].append(self._reading(mine))

    def _alone(self, racer: Racer, index: int) -> None:
        bandwidth = self._bandwidth_of(racer.contender.device)
        self._write(racer, index)
        if bandwidth is not None:
            racer.shares.append(bytes_per_step(self._card_of(racer)) * racer.speeds[-1] / bandwidth)
            racer.entry["bandwidth_share"] = statistics.median(racer.shares)
        if index == 0:
            with self._surviving(racer, "asking for its memory"):
                racer.entry["peak_memory_bytes"] = racer.process.peak_memory()
        if racer.reads and racer.remote is not None:
            racer.reads = False
            with self._surviving(racer, "reading a prompt"):
                self._read(racer)
                racer.reads = True

    def _bandwidth_of(self, device: str) -> float | None:
        """What a device's memory does now. Where that cannot be told any more, the others go on."""
        if device not in self._bandwidth:
            return None
        try:
            now = self._bandwidth[device]()
        except P2Error as error:
            del self._bandwidth[device]
            self._note(str(error))
            return None
        self.bandwidths.setdefault(device, []).append(now)
        return now

    def _write(self, racer: Racer, seed: int) -> None:
        """Long calls for the speed, then short ones for the latency."""
        chunk, chunks = pieces(self._effort.turn_seconds, racer.character_s, LEAST_CHARACTERS)
        racer.speeds.append(self._speed(racer, 1, seed, chunk, chunks, racer.character_s))
        racer.character_s = 1 / statistics.median(racer.speeds)
        calls = int(self._effort.latency_seconds / (racer.chunk * racer.character_s))
        calls = min(max(calls, LATENCY_CALLS[0]), LATENCY_CALLS[1])
        seconds = racer.process.write(
            1,
            seed,
            warm=racer.chunk,
            chunk=racer.chunk,
            chunks=calls,
            expected=(calls + 1) * racer.chunk * racer.character_s,
        )
        racer.calls_s += [value / racer.chunk for value in seconds]
        racer.entry["characters_per_second"] = entries.spread(racer.speeds)
        racer.entry["latency"] = entries.latency(racer.calls_s, racer.chunk)

    def _speed(self, racer: Racer, batch: int, seed: int, chunk: int, chunks: int, step_s: float) -> float:
        """Characters per second of a turn, all texts counted, after an eighth of it untimed."""
        warm = max(1, min(PIECE_CHARACTERS, chunk * chunks // 8))
        expected = (warm + chunk * chunks) * step_s
        seconds = racer.process.write(batch, seed, warm=warm, chunk=chunk, chunks=chunks, expected=expected)
        return batch * chunk * chunks / sum(seconds)

    def _read(self, racer: Racer) -> None:
        racer.prompts.append(self._reading(racer))
        racer.entry["prompt"] = entries.prompt(racer.prompt, racer.prompts)

    def _reading(self, racer: Racer) -> float:
        """Characters per second of random ones: what they are makes no difference to the speed."""
        effort, vocab = self._effort, self._model.card.vocab
        tokens = np.random.default_rng(SEED).integers(0, vocab, (1, effort.prompt_length), np.int64)
        each = racer.character_s
        if not racer.prompt:
            probe = tokens[:, :LEAST_PROMPT]
            for _ in range(2):  # the first may build what reading needs
                each = racer.process.read(probe, probe.size * each) / probe.size
            least = PROMPT_LEAST if racer.contender.group == "p2" else LEAST_PROMPT
            racer.prompt = min(effort.prompt_length, max(least, int(effort.prompt_seconds / each)))
        return racer.prompt / racer.process.read(tokens[:, : racer.prompt], racer.prompt * each)

    def _batch(self, racers: Sequence[Racer], batch: int, before: int) -> None:
        """`batch` texts side by side, everyone in turn; p2 writes `before` as well in its turn."""
        speeds: dict[str, list[float]] = {racer.entrant.address: [] for racer in racers}
        growths: dict[str, list[float]] = {racer.entrant.address: [] for racer in racers}
        able = set(speeds)

        def turn(racer: Racer, index: int) -> None:
            if racer.entrant.address in able:
                able.remove(racer.entrant.address)  # who fails is not asked again
                steps(racer, index)
                able.add(racer.entrant.address)

        def steps(racer: Racer, index: int) -> None:
            seen = speeds[racer.entrant.address]
            # More texts never make a step shorter, so the one before bounds it from below.
            step_s = racer.step_s.get(batch, racer.step_s.get(before, 0.0))
            if not seen and not _too_slow(racer, step_s):
                (seconds,) = racer.process.write(batch, SEED, warm=1, chunk=2, chunks=1)
                step_s = max(step_s, seconds / 2)
            racer.step_s[batch] = step_s
            if _too_slow(racer, step_s):
                return
            seen.append(self._steps(racer, batch, index))
            racer.step_s[batch] = batch / statistics.median(seen)
            if before and racer.contender.group == "p2":
                smaller = self._steps(racer, before, index)
                again = self._steps(racer, batch, index)  # a processor that has rested begins slowly
                growths[racer.entrant.address].append(2 * smaller / (seen[-1] + again))

        self._rounds(racers, f"writing in batches of {batch}", self._effort.batch_rounds, turn)
        for racer in racers:
            seen = speeds[racer.entrant.address]
            if seen and racer.remote is not None:
                racer.entry["batches"].append(entries.point(batch, seen, growths[racer.entrant.address]))

    def _steps(self, racer: Racer, batch: int, seed: int) -> float:
        """Characters per second of a turn with a batch."""
        step_s = racer.step_s[batch]
        chunk, chunks = pieces(self._effort.batch_seconds, step_s, LEAST_STEPS)
        return self._speed(racer, batch, seed, chunk, chunks, step_s)

    def _card_of(self, racer: Racer) -> Card:
        return self._model.card.with_(precision=racer.contender.precision)

    def _text(self, racer: Racer) -> None:
        vocab = self._model.card.vocab
        count = int(self._effort.text_seconds / racer.character_s)
        count = min(self._effort.text_length, max(LEAST_CHARACTERS, count))
        first, noise = first_tokens(SEED, [0], vocab), gumbel(SEED, [0], 1, count, vocab)
        racer.text = racer.process.follow(first, noise, count * racer.character_s)[0]

    def _quality(self, racer: Racer) -> None:
        assert self._prepared.held_out is not None
        most = min(self._effort.quality_characters, LOGITS_NUMBERS // self._model.card.vocab)
        tokens = self._prepared.held_out[None, : most + 1]
        logits = racer.process.logits(tokens[:, :-1], tokens.size * racer.character_s)
        if not np.isfinite(logits).all():
            raise Failed("its predictions are not finite numbers", gone=False)
        if is_reference(racer.contender):
            self._reference = logits
        if self._reference is not None:
            precision = racer.contender.precision
            racer.entry["quality"] = assess(self._reference, logits, tokens[:, 1:], precision)

    def _first_characters(self, racers: Sequence[Racer]) -> None:
        """More new processes up to their first character, one at a time, with all others gone."""
        more = self._effort.first_characters - 1
        if more:
            self._progress.phase(f"{self._model.name}: first characters", more * len(racers))
        for racer in racers:
            self._progress.now(racer.contender.title)
            try:
                for _ in range(more):
                    self._pause(REST_SECONDS)
                    racer.firsts_s.append(self._first_character(racer.entrant.address))
                    self._progress.done()
            except Failed as error:
                self._note(f"{racer.contender.key}, first character: {error}")
            racer.entry["first_character_s"] = statistics.median(racer.firsts_s)

    def _first_character(self, address: str) -> float:
        started = self._clock()
        with self._open(address) as remote:
            remote.load(self._model, self._threads)
            remote.write(1, SEED, warm=0, chunk=1, chunks=1)
            return self._clock() - started


def pieces(seconds: float, step_s: float, least: int) -> tuple[int, int]:
    """Steps of a call and number of calls that together take about so many seconds.

    Calls are as long as those of `p2 generate`, which is what people run.
    """
    count = max(least, min(MOST_CHARACTERS, int(seconds / step_s)))
    chunk = min(count, PIECE_CHARACTERS)
    return chunk, max(1, round(count / chunk))


def _too_slow(racer: Racer, step_s: float) -> bool:
    return racer.contender.group != "p2" and LEAST_STEPS * step_s > BATCH_LIMIT_SECONDS
