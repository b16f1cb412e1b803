"""Characters per second of several engines, measured side by side.

The engines take turns, round after round, so that a machine that slows down slows all of them;
the median of the rounds is what counts.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

from ..contract.engine import Engine
from ..contract.sampling import Sampling
from ..runtime.decoder import Decoder

ROUNDS = 5
ROUND_SECONDS = 0.3
WARM_UP = 64
# Worker threads spin for a while after their last task; the next contender must not pay for that.
REST_SECONDS = 0.2


@dataclass(frozen=True)
class Speed:
    """How fast an engine writes one text.

    Attributes:
        characters_per_second: median of the rounds, sampling and noise included.
        slowest: of the rounds.
        fastest: of the rounds.
        characters: written in each round.
    """

    characters_per_second: float
    slowest: float
    fastest: float
    characters: int


def measure(engines: Sequence[Engine], rounds: int = ROUNDS, seconds: float = ROUND_SECONDS) -> list[Speed]:
    """Time batch-1 sampling at temperature 1.

    Args:
        engines: to be compared.
        rounds: turns that each engine gets.
        seconds: about how long a turn lasts.
    """
    decoders = [Decoder(engine, Sampling()) for engine in engines]
    counts = []
    for decoder in decoders:
        _rate(decoder, WARM_UP)
        counts.append(max(WARM_UP, int(_rate(decoder, WARM_UP) * seconds)))
    rates: list[list[float]] = [[] for _ in engines]
    for _ in range(rounds):
        for decoder, count, seen in zip(decoders, counts, rates, strict=True):
            time.sleep(REST_SECONDS)
            _rate(decoder, WARM_UP)
            seen.append(_rate(decoder, count))
    return [
        Speed(statistics.median(seen), min(seen), max(seen), count)
        for seen, count in zip(rates, counts, strict=True)
    ]


def _rate(decoder: Decoder, count: int) -> float:
    started = time.perf_counter()
    decoder.write(count)
    return count / (time.perf_counter() - started)
