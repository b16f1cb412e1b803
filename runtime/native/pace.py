"""Which of several settings is the fastest now, asked again and again while work goes on.

On a machine that is shared, processors move closer together and farther apart: a message from one to the
other takes four times as long a second later, and two threads that were faster than one are slower then.
What was measured when a model was loaded does not hold for long.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

# Another setting is tried for one call after so long, and then ever less often as long as it is slower.
REVIEW_SECONDS, LONGEST_SECONDS = 0.25, 1.0

# It has to be faster by this share, twice in turn.
MARGIN = 0.05


class Pace:
    """A setting for each call, from how long the calls before took.

    Args:
        options: the settings; at least one.
        first: the one to begin with.
        clock: seconds, monotonic.
    """

    def __init__(
        self, options: Sequence[int], first: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.now = first
        self._others = [option for option in options if option != first]
        self._clock = clock
        self._pause = REVIEW_SECONDS
        self._review_at = clock() + self._pause
        self._own: float | None = None  # seconds of a step with `now`, in the call before this one
        self._faster = False  # whether the first of the others was so when it was last tried

    def choose(self) -> int:
        """The setting for the next call."""
        due = bool(self._others) and self._own is not None and self._clock() >= self._review_at
        return self._others[0] if due else self.now

    def took(self, option: int, seconds: float) -> None:
        """Learn what a step of the last call took.

        Args:
            option: what `choose` said.
            seconds: of one step.
        """
        if option == self.now:
            self._own = seconds
            return
        own, self._own = self._own, None  # measured anew before the next comparison
        if own is not None and seconds * (1 + MARGIN) < own:
            if not self._faster:
                self._faster = True  # once may be a disturbance: the same again at the next chance
                return
            self._others[0], self.now = self.now, option
            self._pause = REVIEW_SECONDS
        else:
            self._pause = min(2 * self._pause, LONGEST_SECONDS)
        self._faster = False
        self._others.append(self._others.pop(0))
        self._review_at = self._clock() + self._pause
