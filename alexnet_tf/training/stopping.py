"""Signals that end a training in good order."""

import signal
import threading

import numpy as np

from alexnet_tf.training import devices


class StopSignal:
    """Remembers SIGTERM or SIGINT until the loop asks; a second one stops at once.

    For a `with` block, on the main thread.
    """

    _CHECK_EVERY = 8  # steps, where workers have to agree

    def __init__(self, strategy):
        self._strategy, self._here, self._before = strategy, 0, {}

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():
            self._before = {
                number: signal.signal(number, self._remember)
                for number in (signal.SIGTERM, signal.SIGINT)
            }
        return self

    def __exit__(self, *error):
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _remember(self, number, frame):
        del frame
        self._here = number
        for either in self._before:
            signal.signal(either, signal.SIG_DFL)

    @property
    def alone(self) -> int:
        """The signal that this process got, or 0; always 0 where others would have to agree."""
        return self._here if devices.worker_count(self._strategy) == 1 else 0

    def agree(self, step: int, due: bool) -> tuple[int, bool]:
        """(the signal that any worker got, or 0; whether the chief is `due` to save), the same on
        all workers, which ask at the same steps.
        """
        if devices.worker_count(self._strategy) == 1:
            return self._here, due
        if step % self._CHECK_EVERY:
            return 0, False
        said = np.array(devices.over_workers(self._strategy, [self._here, due]))  # [workers, 2]
        return int(said[:, 0].max()), bool(said[0, 1])
