"""Where the time of a training goes."""

import time


class Stopwatch:
    """Seconds that pass in its `with` blocks."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __enter__(self) -> None:
        self._begin = time.monotonic()

    def __exit__(self, *error: object) -> None:
        self.seconds += time.monotonic() - self._begin


class Clock:
    """Runs from when it is made, in front of step `first_step`."""

    def __init__(self, first_step: int) -> None:
        self.waiting = Stopwatch()  # for pictures
        self.paused = Stopwatch()  # for evaluation and saving
        self._began = self._saved = time.monotonic()
        self._lap = (0.0, 0.0, first_step)

    @property
    def training_s(self) -> float:
        """Seconds so far, pauses left out."""
        return time.monotonic() - self._began - self.paused.seconds

    def lap(self, step: int) -> tuple[float, float, int]:
        """(seconds of training, of which waiting, steps) since the last lap; `step` is the present
        step.
        """
        before, self._lap = self._lap, (self.training_s, self.waiting.seconds, step)
        training_s, waiting_s, steps = (now - then for now, then in zip(self._lap, before))
        return training_s, waiting_s, int(steps)

    def has_saved(self) -> None:
        """A checkpoint has been written now."""
        self._saved = time.monotonic()

    @property
    def unsaved_s(self) -> float:
        """Seconds since the newest checkpoint, or since it was made."""
        return time.monotonic() - self._saved
