"""Checkpoints that are written beside the training: the loop waits for a copy of the weights."""

import concurrent.futures
import os
from collections.abc import Callable
from types import TracebackType

import keras
import numpy as np

from alexnet_tf import console
from alexnet_tf.errors import UserError
from alexnet_tf.training import checkpoints
from alexnet_tf.training.optimizer import SGD2012
from alexnet_tf.training.state import TrainingState


class Saver:
    """Writes the checkpoints of a model directory in a thread, one at a time.

    For a `with` block, whose end waits for the last one. Memory holds weights and velocities once
    more while one is being written: 488 MB for the network of the paper with 1000 classes.
    """

    def __init__(
        self, model_dir: str | os.PathLike, note: Callable[[str], None] = console.note
    ) -> None:
        self._model_dir, self._note = model_dir, note
        self._thread = concurrent.futures.ThreadPoolExecutor(1, "checkpoint")
        self._writing: concurrent.futures.Future[None] | None = None  # of the last one

    def __enter__(self) -> "Saver":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self.wait()
        except UserError as failure:
            if error is None:
                raise
            self._note(str(failure))  # the other error came first, and is raised
        finally:
            self._thread.shutdown()

    def save(
        self,
        model: keras.Model,
        optimizer: SGD2012,
        state: TrainingState,
        keep: int | None = None,
        last: dict[str, np.ndarray] | None = None,
    ) -> None:
        """checkpoints.write, of what the variables hold now, and of the `last` weights where these
        are others. Waits until the one before is written.

        Raises UserError where that one could not be; where this one cannot be, `check` and `wait`
        do.
        """
        self.wait()
        arrays = checkpoints.copy_of(model, optimizer, last)
        self._writing = self._thread.submit(checkpoints.write, self._model_dir, arrays, state, keep)

    def check(self) -> None:
        """Raises UserError if what was being written could not be; does not wait."""
        if self._writing and self._writing.done():
            self.wait()

    def wait(self) -> None:
        """Returns when the last checkpoint is whole and on disk; raises UserError if it cannot be
        written.
        """
        writing, self._writing = self._writing, None
        if writing:
            writing.result()
