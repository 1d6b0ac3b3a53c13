"""Signals that end a training in good order."""

import signal
import threading
import time
from types import FrameType
from typing import Any

import numpy as np
import tensorflow as tf

from alexnet_tf.training import devices


class StopSignal:
    """Remembers SIGTERM or SIGINT until the loop asks; a second one stops at once.

    For a `with` block, on the main thread.
    """

    # Workers have to agree, which costs a little: not at every step where steps are short, and
    # often enough that a signal is answered within seconds where they are long.
    _AT_MOST_STEPS, _AT_MOST_SECONDS = 8, 2.0

    def __init__(self, strategy: tf.distribute.Strategy) -> None:
        self._strategy, self._here = strategy, 0
        self._before: dict[int, Any] = {}  # handlers by the numbers of their signals
        self._asked, self._interval, self._agreed = 0, 1, time.monotonic()

    def __enter__(self) -> "StopSignal":
        if threading.current_thread() is threading.main_thread():
            self._before = {
                number: signal.signal(number, self._remember)
                for number in (signal.SIGTERM, signal.SIGINT)
            }
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        del frame
        self._here = number
        for either in self._before:
            signal.signal(either, signal.SIG_DFL)

    def agree(self, due: bool = False) -> tuple[int, bool]:
        """(the signal that any worker got, or 0; whether the chief is `due` to save), the same on
        all workers, which ask equally often: after each step of training and of evaluation.
        """
        if devices.worker_count(self._strategy) == 1:
            return self._here, due
        self._asked += 1
        if self._asked % self._interval:
            return 0, False
        now = time.monotonic()
        step_seconds = (now - self._agreed) / self._asked
        said = np.array(
            devices.over_workers(self._strategy, [self._here, due, step_seconds])
        )  # [workers, 3]
        # of the slowest, so that all of them take the same
        self._interval = self._steps_in_time(said[:, 2].max())
        self._asked, self._agreed = 0, now
        return int(said[:, 0].max()), bool(said[0, 1])

    def _steps_in_time(self, step_seconds: float) -> int:
        """Steps until workers agree again."""
        return int(np.clip(self._AT_MOST_SECONDS / step_seconds, 1, self._AT_MOST_STEPS))
