"""p2's own engines as contenders: what `p2 generate` does, through the one engine protocol."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ...contract.codec import Tokens
from ...contract.engine import Engine, predictions
from ...contract.sampling import Sampling
from ...runtime.decoder import Decoder


class EngineRunning:
    """`contender.Running` on any `contract.engine.Engine`.

    Args:
        engine: closed by `close`.
        threads: processor threads that it uses.
    """

    def __init__(self, engine: Engine, threads: int) -> None:
        self.threads = threads
        self._engine = engine
        self._decoder: Decoder | None = None

    def start(self, batch: int, seed: int) -> None:
        """See `Running.start`."""
        self._decoder = Decoder(self._engine, Sampling(), seed, range(batch))
        self._decoder.write(1)  # the first characters, which no step makes

    def write(self, count: int) -> Tokens:
        """See `Running.write`."""
        assert self._decoder is not None, "start comes first"
        return self._decoder.write(count)

    def follow(self, first: Tokens, noise: npt.NDArray[np.float32]) -> Tokens:
        """See `Running.follow`."""
        state = self._engine.zero_state(len(first))
        return self._engine.decode(state, first, noise, Sampling())

    def read(self, tokens: Tokens) -> None:
        """See `Running.read`."""
        self._engine.feed(self._engine.zero_state(len(tokens)), tokens)

    def logits(self, tokens: Tokens) -> npt.NDArray[np.float32]:
        """See `Running.logits`."""
        return predictions(self._engine, tokens)

    def close(self) -> None:
        """See `Running.close`."""
        self._decoder = None
        self._engine.close()
