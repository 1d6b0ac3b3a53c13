"""Requests of many clients to batches of the sizes that an export allows, on threads of their own.

A batch begins as soon as a thread is free: what has come in by then is merged, so that one request
alone never waits and a busy server finds its batches full. The queue holds a bounded number of
rows; what does not fit is refused at once.
"""

import collections
import concurrent.futures
import threading
import time
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from alexnet_tf.errors import ServingError

Arrays = dict[str, np.ndarray]  # by name, [rows, ...] each


class Function(Protocol):
    """What runs over merged requests."""

    sizes: Sequence[int]  # of batches that it allows, increasing

    def __call__(self, inputs: Arrays) -> Arrays: ...


def check_rows(rows: int, sizes: Sequence[int]) -> None:
    """Raises ServingError for more rows than the largest of `sizes`, increasing."""
    if rows > sizes[-1]:
        raise ServingError(
            "INVALID_ARGUMENT", f"Task size {rows} is larger than maximum batch size {sizes[-1]}"
        )


class _Request:
    """One client's rows on their way through a function."""

    def __init__(self, function: Function, inputs: Arrays, rows: int) -> None:
        self.function, self.inputs, self.rows = function, inputs, rows
        self.future: concurrent.futures.Future[Arrays] = concurrent.futures.Future()
        self.since = time.monotonic()


class Batcher:
    """Runs functions over merged requests."""

    def __init__(
        self,
        max_rows: Callable[[], int],
        threads: int,
        observe: Callable[[int, int, float], None] = lambda rows, size, waited: None,
    ) -> None:
        """At most `max_rows()` rows wait, which may change. `observe` is told of each batch: its
        rows, its size when padded, and the seconds that its first request waited.
        """
        self._max_rows, self._observe = max_rows, observe
        self._waiting: collections.deque[_Request] = collections.deque()
        self._rows, self._closed = 0, False
        self._changed = threading.Condition()
        self._threads = [
            threading.Thread(target=self._work, name=f"batch-{index}", daemon=True)
            for index in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def waiting_rows(self) -> int:
        return self._rows

    def require_room(self, rows: int = 1) -> None:
        """Raises ServingError if this many rows would be refused now. If nothing waits, none are:
        the request may be for the version that was served before, which took more rows.
        """
        if self._closed or self._rows and self._rows + rows > self._max_rows():
            # What TensorFlow Serving answers (shared_batch_scheduler.h): clients and proxies know
            # to try again.
            raise ServingError(
                "UNAVAILABLE", "The batch scheduling queue to which this task was submitted is full"
            )

    def submit(
        self, function: Function, inputs: Arrays, rows: int
    ) -> concurrent.futures.Future[Arrays]:
        """Returns a concurrent Future of the function's outputs for these rows; cancelled before
        its batch begins, it costs nothing. Raises ServingError if there are more rows than a batch
        may hold, or no room for them.
        """
        check_rows(rows, function.sizes)
        request = _Request(function, inputs, rows)
        with self._changed:
            self.require_room(rows)
            self._waiting.append(request)
            self._rows += rows
            self._changed.notify()
        return request.future

    def close(self, seconds: float = threading.TIMEOUT_MAX) -> bool:
        """Finishes what waits, and takes nothing more.

        Returns whether all of it was finished within `seconds`.
        """
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        deadline = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(min(max(0, deadline - time.monotonic()), threading.TIMEOUT_MAX))
        return not any(thread.is_alive() for thread in self._threads)

    def _work(self) -> None:
        while (batch := self._next()) is not None:
            if batch:
                self._run(batch)
            batch = None  # or an idle thread would keep a retired version in memory

    def _next(self) -> list[_Request] | None:
        """Waits for requests and takes those that make up the next batch:

        [] if all of them were cancelled, None at the end.
        """
        with self._changed:
            while not self._waiting:
                if self._closed:
                    return None
                self._changed.wait()
            taken = _largest_batch(self._waiting)
            self._waiting = collections.deque(
                request for request in self._waiting if request not in taken
            )
            self._rows -= sum(request.rows for request in taken)
        return [request for request in taken if request.future.set_running_or_notify_cancel()]

    def _run(self, batch: list[_Request]) -> None:
        """Answers every request of a batch. A picture that does not decode fails the whole call of
        the function: then each request runs alone, so that one client's mistake is no other's.
        """
        try:
            answers = self._call(batch)
        except Exception as error:
            if len(batch) == 1:
                batch[0].future.set_exception(error)
            else:
                for request in batch:
                    self._run([request])
        else:
            for request, answer in zip(batch, answers):
                request.future.set_result(answer)

    def _call(self, batch: list[_Request]) -> list[Arrays]:
        function, rows = batch[0].function, sum(request.rows for request in batch)
        size = next(size for size in function.sizes if size >= rows)
        self._observe(rows, size, time.monotonic() - batch[0].since)
        inputs = {
            name: (
                np.concatenate([request.inputs[name] for request in batch])
                if len(batch) > 1
                else batch[0].inputs[name]
            )
            for name in batch[0].inputs
        }
        if size > rows:  # with copies of the first row, as TensorFlow Serving does
            inputs = {
                name: np.concatenate([array, array[:1].repeat(size - rows, 0)])
                for name, array in inputs.items()
            }
        outputs = function(inputs)
        ends = np.cumsum([request.rows for request in batch])
        return [
            {name: array[end - request.rows : end] for name, array in outputs.items()}
            for request, end in zip(batch, ends)
        ]


def _largest_batch(waiting: Sequence[_Request]) -> list[_Request]:
    """The requests of the next batch: the first that waits, and others to the same function in
    their order, up to the largest allowed size that they can fill. (To pad 17 pictures to 32 would
    cost a CPU the time of 15.)
    """
    first = waiting[0]
    alike = [request for request in waiting if request.function is first.function]
    sizes = first.function.sizes
    available = min(sum(request.rows for request in alike), sizes[-1])
    room = (
        max(first.rows, *(size for size in sizes if size <= available)) - first.rows
        if available >= sizes[0]
        else 0
    )
    taken = [first]
    for request in alike[1:]:
        if request.rows <= room:
            taken.append(request)
            room -= request.rows
    return taken
