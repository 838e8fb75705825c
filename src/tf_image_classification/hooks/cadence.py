"""Periodic triggers: every N steps or seconds.

>>> every = Every(steps=10)
>>> every.start(0)
>>> [step for step in (7, 14, 21, 28, 29, 35) if every.is_due(step)]
[14, 21, 35]
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable


def passes_multiple(last_step: int, step: int, num_steps: int) -> bool:
    """Whether a multiple of ``num_steps`` lies after ``last_step`` and not after ``step``.

    >>> passes_multiple(9, 10, 5), passes_multiple(10, 14, 5), passes_multiple(8, 23, 10)
    (True, False, True)
    """
    return step // num_steps > last_step // num_steps


@dataclasses.dataclass
class Every:
    """A trigger every N steps, or every N seconds; both 0 means never.

    Attributes:
        steps: it is due at multiples of this number of steps, also when calls skip over them.
        secs: seconds from one time to the next.
        clock: gives the time in seconds; an argument so that tests need not wait.
    """

    steps: int = 0
    secs: float = 0.0
    clock: Callable[[], float] = time.monotonic
    _last_step: int = 0
    _last_time: float = 0.0

    def start(self, step: int) -> None:
        """Begin to count at a step, now."""
        self._last_step, self._last_time = step, self.clock()

    def is_due(self, step: int) -> bool:
        """Whether it is time; counting restarts when it is."""
        if self.steps:
            due = passes_multiple(self._last_step, step, self.steps)
        else:
            due = bool(self.secs) and self.clock() - self._last_time >= self.secs
        if due:
            self.start(step)
        return due
