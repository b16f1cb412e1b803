"""The Baum-Sweet sequence, and the toy problem made of it: classify a number by its binary digits.

b(n) is 1 if the binary expansion of n has no maximal block of consecutive zeros of odd length, else 0;
b(0) is 1 (Baum and Sweet, 1976; OEIS A086747). No torch here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from ...contract.errors import UsageError

Bools = npt.NDArray[np.bool_]
Bits = npt.NDArray[np.bool_]
"""``[numbers, width]``, the most significant digit first, leading zeros included."""
Symbols = npt.NDArray[np.uint8]
"""``[numbers, steps]`` of `PAD`, `ZERO` and `ONE`."""

PAD, ZERO, ONE = 0, 1, 2
SYMBOLS, CLASSES = 3, 2

LEAST = 10
"""The smallest number that is drawn."""
KEEP = 0.016724
"""How probably the documented data set keeps a number with b(n) = 0 that it has drawn."""

Sampling = Literal["rejection", "balanced", "near-miss"]
SAMPLINGS: tuple[Sampling, ...] = ("rejection", "balanced", "near-miss")

MOST_MAGNITUDE = 60
TABLE_MAGNITUDE = 7  # up to here every number is in a table: those withheld, those drawn

MOST_WITHHELD = 0.5
_TRIES = 8


def baum_sweet(numbers: npt.ArrayLike) -> Bools:
    """b(n) of each number.

    Args:
        numbers: integers from 0 to 2**63 - 1, any shape.

    Returns:
        Of the same shape.
    """
    rest = np.array(numbers, dtype=np.int64)
    if (rest < 0).any():
        raise UsageError("b(n) is defined for n >= 0")

    def digits() -> Iterable[Bools]:
        while rest.any():
            yield (rest & 1).astype(bool)
            np.right_shift(rest, 1, out=rest)

    found: Bools = odd_blocks(digits(), rest.shape) == 0
    return found


def odd_blocks(digits: Iterable[Bools], shape: tuple[int, ...]) -> npt.NDArray[np.int64]:
    """How many maximal blocks of zeros of odd length each number has.

    Args:
        digits: of all numbers, the least significant first. A block counts when the one above it comes,
            so leading zeros never do.
        shape: of each of `digits`.
    """
    count, odd = np.zeros(shape, np.int64), np.zeros(shape, bool)
    for one in digits:
        count += one & odd
        odd = ~(one | odd)  # a one ends the block, a zero changes its parity
    return count


def encode(bits: Bits, steps: int) -> Symbols:
    """Numbers as the model reads them: digits, most significant first, padded on the left.

    Args:
        bits: ``[numbers, width]``, width <= steps. Zero is the one digit 0.
        steps: of a sequence.
    """
    started = np.logical_or.accumulate(bits, axis=1)
    started[:, -1] = True
    symbols = np.full((len(bits), steps), PAD, np.uint8)
    symbols[:, steps - bits.shape[1] :] = np.where(started, np.where(bits, ONE, ZERO), PAD)
    return symbols


def to_bits(numbers: npt.ArrayLike, width: int) -> Bits:
    """int64 ``[numbers]`` as their lowest `width` digits."""
    array = np.asarray(numbers, dtype=np.int64)
    return (array[:, None] >> np.arange(width - 1, -1, -1) & 1).astype(bool)


def to_numbers(symbols: Symbols) -> npt.NDArray[np.int64]:
    """The numbers that symbols spell; they must be below 2**63."""
    ones = (symbols == ONE)[:, -63:]
    numbers: npt.NDArray[np.int64] = ones @ (1 << np.arange(ones.shape[1] - 1, -1, -1, dtype=np.int64))
    return numbers


def labels_of(symbols: Symbols) -> npt.NDArray[np.int64]:
    """b(n) of the numbers that symbols spell, of any length: int64 ``[numbers]``, 0 or 1."""
    columns = (symbols[:, step] == ONE for step in range(symbols.shape[1] - 1, -1, -1))
    labels: npt.NDArray[np.int64] = (odd_blocks(columns, (len(symbols),)) == 0).astype(np.int64)
    return labels


class Batch(NamedTuple):
    """Samples: ``symbols`` uint8 ``[size, steps]`` and ``labels`` int64 ``[size]``, 1 for b(n) = 1."""

    symbols: Symbols
    labels: npt.NDArray[np.int64]


@dataclass(frozen=True)
class BaumSweet:
    """The toy problem's samples: fresh ones for ever, each batch from (seed, index) alone.

    A number n is drawn from 10 ... 10**T inclusive, and its class is b(n). T, the *decimal magnitude*,
    is what the problem calls sequence length; the sequence has 4 T steps. How n is drawn:

    - ``rejection``, the documented data set: uniformly; a number with b(n) = 0 is kept with probability
      `KEEP`, else drawn again. That balances the classes at T = 6 only.
    - ``balanced``: the class by a fair coin, then n uniformly from the numbers of that class. Since
      Baum-Sweet numbers are rare among long ones, they are not searched for but spelt by the automaton
      that accepts them, each digit with the share of the words that go on with it.
    - ``near-miss``: the same, but a number of class 0 has *exactly one* block of odd length, and as many
      digits as a number of class 1 would have: uniformly from the numbers of that length. Neither the
      length nor one of many odd blocks tells the class.

    Attributes:
        magnitude: T.
        sampling: see above.
        withheld: share of the integers that is never drawn (chosen once, the same for every seed); only
            where all of them fit a table, and not from near-miss samples, of which some lengths have few.

    Raises:
        UsageError: a value that cannot be meant.
    """

    magnitude: int
    sampling: Sampling = "rejection"
    withheld: float = 0.0

    def __post_init__(self) -> None:
        if not 2 <= self.magnitude <= MOST_MAGNITUDE:
            raise UsageError(f"a magnitude T must be 2 to {MOST_MAGNITUDE}, not {self.magnitude}")
        if self.sampling not in SAMPLINGS:
            raise UsageError(f"samples are {', '.join(SAMPLINGS)}, not {self.sampling!r}")
        if not 0 <= self.withheld <= MOST_WITHHELD:
            raise UsageError(f"the share that is withheld must be 0 to {MOST_WITHHELD}, not {self.withheld}")
        if self.withheld and (self.magnitude > TABLE_MAGNITUDE or self.sampling == "near-miss"):
            raise UsageError(
                f"integers can be withheld up to T = {TABLE_MAGNITUDE}, and not from near-miss samples"
            )

    @property
    def steps(self) -> int:
        """Of a sequence: 4 T."""
        return 4 * self.magnitude

    @property
    def most(self) -> int:
        """The largest number: 10**T."""
        return int(10**self.magnitude)

    @property
    def width(self) -> int:
        """Binary digits of the largest number."""
        return self.most.bit_length()

    def batch(self, size: int, seed: int, index: int) -> Batch:
        """`size` samples; always the same for the same (seed, index)."""
        rng = np.random.default_rng([seed, index])
        if self.sampling == "rejection":
            bits = self._collect(size, lambda count: self._uniform(count, rng), self._kept(rng))
        else:
            classes = rng.random(size) < 0.5
            bits = np.empty((size, self.width), bool)
            bits[classes] = self._positives(int(classes.sum()), rng)
            negatives = self._near_misses if self.sampling == "near-miss" else self._negatives
            bits[~classes] = negatives(int((~classes).sum()), rng)
        symbols = encode(bits, self.steps)
        return Batch(symbols, labels_of(symbols))

    @cached_property
    def withheld_table(self) -> Bools:
        """Which of 0 ... 10**T are never drawn, ``[10**T + 1]``."""
        return np.random.default_rng(self.magnitude).random(self.most + 1) < self.withheld

    def _collect(self, size: int, draw: Callable[[int], Bits], keep: Callable[[Bits], Bools]) -> Bits:
        """Draw until `size` numbers are kept that are in range and not withheld; in the order drawn."""
        parts = [np.empty((0, self.width), bool)]
        have, count = 0, size
        while have < size:
            drawn = draw(count)
            parts.append(drawn[keep(drawn) & self._allowed(drawn)])
            have += len(parts[-1])
            missing, share = size - have, max(len(parts[-1]), 1) / count
            count = min(int(missing / share * 1.2) + 16, 1 << 15)
        return np.concatenate(parts)[:size]

    def _uniform(self, count: int, rng: np.random.Generator) -> Bits:
        """Uniform over 0 ... 2**width - 1."""
        packed = rng.integers(0, 256, (count, -(-self.width // 8)), dtype=np.uint8)
        return np.unpackbits(packed, axis=1, count=self.width).view(bool)

    @staticmethod
    def _kept(rng: np.random.Generator) -> Callable[[Bits], Bools]:
        return lambda bits: (_odd_blocks_of(bits) == 0) | (rng.random(len(bits)) < KEEP)

    def _negatives(self, count: int, rng: np.random.Generator) -> Bits:
        return self._collect(count, lambda n: self._uniform(n, rng), lambda bits: _odd_blocks_of(bits) > 0)

    def _positives(self, count: int, rng: np.random.Generator) -> Bits:
        words = np.array([completions(length - 1, 0)[0] for length in self._lengths], dtype=float)

        def draw(n: int) -> Bits:
            lengths = rng.choice(self._lengths, size=n, p=words / words.sum())
            return _spell(lengths, self.width, 0, rng)

        return self._collect(count, draw, lambda bits: np.ones(len(bits), bool))

    def _near_misses(self, count: int, rng: np.random.Generator) -> Bits:
        """One odd block, and lengths as those of positives."""
        lengths = self.width - self._positives(count, rng).argmax(axis=1)
        bits = np.empty((count, self.width), bool)
        open_rows = np.arange(count)
        while len(open_rows):
            # Few of the longest are small enough, so each row has several tries at once.
            tries = _spell(np.repeat(lengths[open_rows], _TRIES), self.width, 1, rng)
            allowed = self._allowed(tries).reshape(-1, _TRIES)
            found, first = allowed.any(axis=1), allowed.argmax(axis=1)
            bits[open_rows[found]] = tries.reshape(-1, _TRIES, self.width)[found, first[found]]
            open_rows = open_rows[~found]
        return bits

    def _allowed(self, bits: Bits) -> Bools:
        """Which numbers are in range and not withheld."""
        allowed = ~_below(bits, LEAST) & _below(bits, self.most + 1)
        if self.withheld:
            allowed &= ~self.withheld_table[to_numbers(encode(bits, self.width)).clip(max=self.most)]
        return allowed

    @cached_property
    def _lengths(self) -> npt.NDArray[np.int64]:
        return np.arange(LEAST.bit_length(), self.width + 1)


@cache
def completions(digits: int, odd: int) -> tuple[int, ...]:
    """How many ways there are to go on with `digits` more digits to a number with `odd` odd blocks.

    Returns:
        For each state ``2 * k + parity``: k odd blocks are complete, and the zeros just read are of that
        parity. State 0 is the one behind the leading one.
    """
    states = range(2 * (odd + 1))
    if not digits:
        return tuple(int(state // 2 + state % 2 == odd) for state in states)
    ways = completions(digits - 1, odd)
    return tuple(sum(ways[s] for s in (after_one(state), state ^ 1) if s in states) for state in states)


def after_one(state: int) -> int:
    """The state that a one leads to; a zero leads to ``state ^ 1``."""
    return state + 1 if state % 2 else state


@cache
def _shares_of_one(digits: int, odd: int) -> npt.NDArray[np.float64]:
    """Of the ways to go on with `digits` digits, those that begin with a one; for each state."""
    then = (*completions(digits - 1, odd), 0, 0)
    return np.array([then[after_one(s)] / max(ways, 1) for s, ways in enumerate(completions(digits, odd))])


def _spell(lengths: npt.NDArray[np.int64], width: int, odd: int, rng: np.random.Generator) -> Bits:
    """Numbers of given lengths with `odd` odd blocks, each of them equally probable (to float64)."""
    bits = np.zeros((len(lengths), width), bool)
    states = np.zeros(len(lengths), np.int64)
    for column in range(width):
        left = width - column
        one = lengths == left
        spelling = lengths > left
        if spelling.any():
            one |= spelling & (rng.random(len(lengths)) < _shares_of_one(left, odd)[states])
            states[spelling] = np.where(one, (states + 1) // 2 * 2, states ^ 1)[spelling]
        bits[:, column] = one
    return bits


def _odd_blocks_of(bits: Bits) -> npt.NDArray[np.int64]:
    return odd_blocks((bits[:, column] for column in range(bits.shape[1] - 1, -1, -1)), (len(bits),))


def _below(bits: Bits, bound: int) -> Bools:
    """Whether each number is smaller than a positive `bound`."""
    width = bits.shape[1]
    if bound >> width:
        return np.ones(len(bits), bool)
    limit = np.array([bound >> place & 1 for place in range(width - 1, -1, -1)], bool)
    differs = bits != limit
    first = differs.argmax(axis=1)
    smaller: Bools = differs.any(axis=1) & limit[first]
    return smaller
