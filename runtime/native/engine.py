"""The compiled decoder as an engine (`contract.engine.Engine`)."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ...contract.arguments import (
    check_decode,
    check_draw,
    check_draws,
    check_known,
    check_state,
    check_threads,
    check_tokens,
)
from ...contract.card import bytes_per_step
from ...contract.codec import Tokens
from ...contract.engine import Draw
from ...contract.errors import BackendMissing, P2Error
from ...contract.finite import check_computed, top_state
from ...contract.noise import Address
from ...contract.sampling import Floats, Sampling
from .. import tuning
from ..host_states import HostStates, State
from ..processor import cpu_name, processors
from ..step_file import StepFile
from ..tuning import Setting
from . import CPU, binding, level, packing, problem
from .binding import Job
from .pace import Pace

# Another layout of the weights has to be faster by this share: 28 bits are slower for many texts.
LAYOUT_MARGIN = 0.03

# With less to read a step is over before two threads have met.
ONE_THREAD_BYTES = 1 << 15

# With more, times the texts, one thread is not worth trying: it wins where the measurement was disturbed, and
# costs half of the speed from then on.
TRIED_BYTES = 1 << 20

# With more, times the texts, threads wait long for one another in any step.
SHARED_BYTES = 8 << 20

# A call that reads less is over before a second thread has begun.
LITTLE_BYTES = 8 << 20

# Where in more than this share of the steps a thread waited long for another, some other program has its
# processor, and for so many seconds one thread alone is faster. So many steps are needed to tell: two
# waits in a call of 16 say nothing.
DISTURBED_SHARE, ALONE_SECONDS, JUDGED_STEPS = 0.05, 0.25, 256

# A thread reads with a layer of its own where the recurrent weights of one take no more than this, so that
# they stay in its cache, up to so many texts. It writes at least so many texts, or all write them together.
OWN_LAYER_BYTES, PASSED_TEXTS, TEXTS_EACH = 512 << 10, 16, 4

# A call reads text of at most this many gate inputs, so that Ctrl-C is heard in between.
FEED_NUMBERS = 1 << 23


def why_not(step: StepFile) -> str | None:
    """Why the decoder cannot run a step here; None if it can.

    Raises:
        UsageError: as `level` does.
    """
    level()
    if found := problem():
        return found
    return packing.why_not(step)


class NativeEngine(HostStates):
    """`contract.engine.Engine` on the compiled decoder.

    A text does not depend on the batch it is written in, nor on how its prompt was cut, to the last bit.

    Args:
        step: a checked step graph.
        threads: None measures what is best, once, and remembers it (`tuning`).

    Raises:
        BackendMissing: the decoder cannot run it here; `why_not` says why.
        UsageError: as `level` does.
    """

    def __init__(self, step: StepFile, threads: int | None = None) -> None:
        reason = why_not(step)
        if reason:
            raise BackendMissing(f"the compiled decoder cannot run {step.path}: {reason}")
        self.card = step.card
        self.name = f"native {step.card.precision} (CPU)"
        self.path = step.path
        self._given = check_threads(threads)
        # The number goes up where the decoder changes so much that settings found before no longer hold.
        where = f"{cpu_name()} x {processors()}, {level()}, 6"
        self._memory = tuning.Memory(step.card, where, processors())
        self._alone_until = 0.0
        self._steps, self._waits = 0, 0  # since they were last judged
        self._paces: dict[int, Pace] = {}  # by size class
        self._packed: packing.Packed | None = None
        self._packed = self._pack(step)
        self.threads = self.setting(1).threads

    def setting(self, batch: int) -> Setting:
        """How a batch of this size is run."""
        size = tuning.size_class(batch)
        if self._given is not None:
            return Setting(self._given, size)
        counts = self._counts(size)
        if len(counts) == 1:
            return Setting(counts[0], size)
        setting = self._memory.get(size)
        if setting is None:
            setting = tuning.choose([Setting(count, size) for count in counts], self._seconds)
            self._memory.put(size, setting)
        return setting

    def _counts(self, size: int) -> list[int]:
        """Numbers of threads that may be the best for a batch of a size class."""
        weight, available = bytes_per_step(self.card), processors()
        if available == 1 or (weight < ONE_THREAD_BYTES and size == 1):
            return [1]
        return tuning.thread_counts(available, least=2 if size * weight >= TRIED_BYTES else 1)

    def feed(self, state: State, tokens: Tokens, *, logits: bool = False) -> Floats | None:
        """Advance over known tokens, int64 ``[batch, length]``; see `Engine.feed`."""
        card, batch = self.card, check_state(self.card, state)
        length = check_tokens(card, tokens, batch).shape[1]
        pieces = [np.zeros((batch, 0, card.vocab), np.float32)]
        piece = max(1, FEED_NUMBERS // (batch * card.gates * card.hidden))
        for start in range(0, length, piece):
            part = np.ascontiguousarray(tokens[:, start : start + piece], np.int64)
            predicted = np.empty((batch, part.shape[1], card.vocab), np.float32) if logits else None
            threads = self._reading_threads(batch, length)  # anew: a disturbance is over sooner than a prompt
            self._run("p2_feed", state, threads, part, part.shape[1], logits=predicted)
            if predicted is not None:
                pieces.append(predicted)
        found = np.concatenate(pieces, axis=1) if logits else None
        check_computed(card, state[top_state(card)], self.name, found)
        return found

    def decode(self, state: State, last: Tokens, noise: Floats, sampling: Sampling) -> Tokens:
        """Write ``len(noise)`` characters per stream; see `Engine.decode`."""
        batch = check_state(self.card, state)
        check_decode(self.card, batch, last, noise, sampling)
        how = _choosing([Draw(0, 0, 0, sampling)] * batch, self.card.vocab)
        return self._decode(state, last, len(noise), how, noise=np.ascontiguousarray(noise))

    def draw(self, state: State, last: Tokens, address: Address, count: int, sampling: Sampling) -> Tokens:
        """Write `count` characters per stream with noise that is made here; see `DrawingEngine.draw`.

        Noise is computed exactly, as `contract.noise` says, for those characters only that an
        approximation of known error does not rule out.
        """
        batch = check_state(self.card, state)
        address, count = check_draw(self.card, batch, last, address, count, sampling)
        seed, streams, position = address
        how = _choosing([Draw(seed, stream, position, sampling) for stream in streams], self.card.vocab)
        return self._decode(state, last, count, how)

    def draw_each(self, state: State, last: Tokens, draws: Sequence[Draw], count: int) -> Tokens:
        """The same for texts of different seeds, positions and settings; see `MixedEngine.draw_each`."""
        batch = check_state(self.card, state)
        draws, count = check_draws(self.card, batch, last, draws, count)
        return self._decode(state, last, count, _choosing(draws, self.card.vocab))

    def write_each(
        self, state: State, last: Tokens, known: Sequence[Tokens], draws: Sequence[Draw], count: int
    ) -> Tokens:
        """The same after tokens that are known; see `PromptedEngine.write_each`."""
        batch = check_state(self.card, state)
        draws, count = check_draws(self.card, batch, last, draws, count)
        known = check_known(self.card, batch, known, count)
        return self._decode(state, last, count, _choosing(draws, self.card.vocab), known=known)

    def close(self) -> None:
        """Drop the weights."""
        self._packed = None

    def _pack(self, step: StepFile) -> packing.Packed:
        """The weights in the layout that is read fastest here: measured once where nothing else tells."""
        options, known = packing.layouts(step.card), self._memory.layout()
        if known in options:
            options = [known]
        if len(options) == 1:
            return packing.Packed(step, options[0])
        made: dict[bool, packing.Packed] = {}

        def take(layout: int) -> packing.Packed:
            compact = packing.is_compact(layout)
            if compact not in made:
                made[compact] = packing.Packed(step, layout)
            made[compact].ask_ahead(layout)
            return made[compact]

        def seconds(layout: int) -> float:
            self._packed = take(layout)
            return self._seconds(Setting(self._given or processors(), 1))

        fastest = tuning.choose(options, seconds, LAYOUT_MARGIN)
        self._memory.put_layout(fastest)
        return take(fastest)

    def _division(self, name: str, batch: int, threads: int) -> int:
        """What the threads divide. Of small models each takes whole layers, or texts: nobody waits then.

        The sums are the same in the same order, so a text is the same to the last bit.
        """
        assert self._packed is not None
        packed = self._packed
        if threads == 1 or packed.place != binding.OWN:
            return binding.PANELS
        if name == "p2_feed" and batch <= PASSED_TEXTS and packed.recurrent_bytes <= OWN_LAYER_BYTES:
            return binding.LAYERS
        return binding.TEXTS if batch >= TEXTS_EACH * threads else binding.PANELS

    def _threads(self, batch: int, length: int) -> int:
        """Threads for the next call: the setting's, or one."""
        return 1 if self._alone(batch, length) else self.setting(batch).threads

    def _pace(self, batch: int, length: int) -> Pace | None:
        """What keeps the setting for a batch up to date; None where the next call has nothing to choose."""
        size = tuning.size_class(batch)
        large = size * bytes_per_step(self.card) >= TRIED_BYTES  # a trial would take long, and teach little
        if large or self._given is not None or self._alone(batch, length):
            return None
        if size not in self._paces:
            self._paces[size] = Pace(self._counts(size), self.setting(batch).threads)
        return self._paces[size]

    def _alone(self, batch: int, length: int) -> bool:
        """Whether one thread does a call, whatever the setting says: a short one, as starting another takes a
        tenth of a millisecond, and any while another program disturbs two.
        """
        little = batch * length * bytes_per_step(self.card) < LITTLE_BYTES
        return self._given is None and (little or time.monotonic() < self._alone_until)

    def _reading_threads(self, batch: int, length: int) -> int:
        """Threads that read: also where one writes faster alone, two with a layer each may read faster."""
        threads, passing = self._threads(batch, length), min(processors(), self.card.layers)
        if self._given is not None or self._alone(batch, length):
            return threads
        layers = self._division("p2_feed", batch, passing) == binding.LAYERS
        return max(threads, passing) if layers else threads

    def _decode(
        self,
        state: State,
        last: Tokens,
        count: int,
        how: npt.NDArray[np.void],
        noise: Floats | None = None,
        known: Sequence[Tokens] = (),
    ) -> Tokens:
        written = self._write(state, last, count, how, noise=noise, known=known)
        check_computed(self.card, state[top_state(self.card)], self.name, written)
        return written

    def _write(
        self,
        state: State,
        last: Tokens,
        count: int,
        how: npt.NDArray[np.void],
        threads: int | None = None,
        noise: Floats | None = None,
        known: Sequence[Tokens] = (),
    ) -> Tokens:
        """Write on `threads`, or as many as are planned, with the noise given or the one that `how` names."""
        written = np.zeros((len(last), count), np.int64)
        if not count:
            return written
        for row, tokens in zip(written, known, strict=False):
            row[: len(tokens)] = tokens
        lengths = np.array([len(tokens) for tokens in known], np.int64) if known else None
        pace = None if threads else self._pace(len(last), count)
        threads = threads or (pace.choose() if pace else self._threads(len(last), count))
        newest = np.array(last, np.int64)  # the decoder leaves the newest tokens in it
        started = time.perf_counter()
        given = {"choosing": how, "noise": noise, "known": lengths, "written": written}
        self._run("p2_decode", state, threads, newest, count, **given)
        if pace:
            pace.took(threads, (time.perf_counter() - started) / count)
        return written

    def _run(self, name: str, state: State, threads: int, tokens: Tokens, count: int, **given: Any) -> None:
        """One call of the decoder, with arrays for addresses; the state is advanced in place."""
        assert self._packed is not None
        card, packed, batch = self.card, self._packed, len(tokens)
        if packed.level != binding.used():
            raise P2Error(
                f"{self.path} was opened for {packed.level}, and this process runs on {binding.used()} now: "
                f"open it again, and leave {CPU} as it is"
            )
        arrays: dict[str, npt.NDArray[Any]] = {"tokens": tokens}
        places: State = {}  # of every state among the padded ones
        for field, prefix in (("states", "h"), ("cells", "c")):
            names = [name for name in card.state_names if name.startswith(prefix)]
            if names:
                arrays[field] = np.zeros((card.layers, batch, packed.width), np.float32)
                places |= {
                    own: wide[:, : card.hidden] for own, wide in zip(names, arrays[field], strict=True)
                }
        for own, place in places.items():
            _copy(state[own], place)
        job = Job(batch, threads, self._division(name, batch, threads), count)
        for field, value in (arrays | given).items():
            if value is not None:
                setattr(job, field, value.ctypes.data if isinstance(value, np.ndarray) else value)
        binding.run(name, packed.model, job)
        self._judge(batch, threads, count, job.waits)
        for own, place in places.items():
            state[own] = np.ascontiguousarray(place)  # a copy only where rows are padded

    def _judge(self, batch: int, threads: int, steps: int, waits: int) -> None:
        """Whether another program disturbs the threads, from how often they waited long in the latest steps.

        Those of a large step do so without anybody's fault, and in every call once until the other one runs.
        """
        if self._given is not None or threads == 1 or batch * bytes_per_step(self.card) >= SHARED_BYTES:
            return
        self._steps += steps
        self._waits += max(0, waits - 1)
        if self._steps < JUDGED_STEPS:
            return
        if self._waits > DISTURBED_SHARE * self._steps:
            self._alone_until = time.monotonic() + ALONE_SECONDS
        self._steps = self._waits = 0

    def _seconds(self, setting: Setting) -> float:
        """The time of one character of one stream in a batch of ``setting.group``, in one turn."""
        last, state = np.zeros(setting.group, np.int64), self.zero_state(setting.group)
        how = _choosing([Draw(0, stream, 0, Sampling()) for stream in range(setting.group)], self.card.vocab)

        def steps(count: int) -> None:
            self._write(state, last, count, how, setting.threads)

        return tuning.seconds_per_step(steps) / setting.group


def _choosing(draws: Sequence[Draw], vocab: int) -> npt.NDArray[np.void]:
    """What a job is told of each of its texts, of `binding.CHOOSING`."""
    filters = {
        sampling: (1, sampling.kept(vocab), 1.0 / sampling.temperature, sampling.top_p, sampling.min_p)
        if sampling.filters
        else (0, 0, 1.0, 1.0, 0.0)
        for sampling in {one.sampling for one in draws}
    }
    rows = [(*one[:3], one.sampling.temperature, *filters[one.sampling]) for one in draws]
    return np.array(rows, binding.CHOOSING)


def _copy(source: Floats, target: Floats) -> None:
    """Copy float32 numbers. numpy would let other threads run meanwhile, and a busy one keeps us waiting."""
    if source.flags.c_contiguous and target.flags.c_contiguous:
        target.data.cast("B")[:] = source.data.cast("B")
    else:
        target[...] = source
