"""Workers agree on signals: at the same step, and soon, whatever a step takes."""

import concurrent.futures
import signal
import threading
import types

import pytest

from alexnet_tf.training import stopping


class Workers:
    """Two workers whose steps take `seconds` each; they exchange values as tf.distribute would."""

    def __init__(self, monkeypatch, seconds):
        self.seconds, self.said, self.exchanges = seconds, [None, None], 0
        self.met, self.clock = threading.Barrier(2, timeout=60), threading.local()
        monkeypatch.setattr(stopping.time, "monotonic", lambda: getattr(self.clock, "now", 0.0))
        monkeypatch.setattr(
            stopping,
            "devices",
            types.SimpleNamespace(worker_count=lambda worker: 2, over_workers=self.over_workers),
        )

    def over_workers(self, worker, value):
        self.said[worker] = value
        self.met.wait()
        said = list(self.said)
        self.met.wait()
        self.exchanges += worker == 0
        return said

    def train(self, worker, signal_step):
        """The step after which this worker stops, where worker 1 gets a signal in `signal_step`."""
        stop = stopping.StopSignal(worker)
        for step in range(100):
            self.clock.now = getattr(self.clock, "now", 0.0) + self.seconds[worker]
            if worker == 1 and step == signal_step:
                stop._remember(signal.SIGTERM, None)
            signalled, due = stop.agree(due=worker == 0 and step == 99)
            if signalled or due:
                return step, signalled, due
        return None


@pytest.mark.parametrize(
    "seconds,steps",
    [((10.0, 1.0), 0), ((0.5, 0.9), 1), ((0.01, 0.02), 7)],  # of the slower: 1, 2, 8 at most
)
@pytest.mark.parametrize("signal_step", range(20, 28))
def test_a_signal_to_one_ends_all_at_the_same_step_within_two_seconds(
    monkeypatch, seconds, steps, signal_step
):
    workers = Workers(monkeypatch, seconds)
    with concurrent.futures.ThreadPoolExecutor(2) as threads:
        one, other = threads.map(workers.train, (0, 1), (signal_step, signal_step))
    assert one == other and one[1:] == (signal.SIGTERM, False)
    assert signal_step <= one[0] <= signal_step + steps
    if steps == 7:
        assert workers.exchanges < 8  # not at every step


def test_the_chief_alone_says_when_to_save(monkeypatch):
    workers = Workers(monkeypatch, (10.0, 10.0))
    with concurrent.futures.ThreadPoolExecutor(2) as threads:
        answers = list(threads.map(workers.train, (0, 1), (None, None)))
    assert answers == [(99, 0, True)] * 2
