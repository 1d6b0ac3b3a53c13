"""Where the time of a training goes, by a clock that is set by hand."""

import time

from alexnet_tf.training.clock import Clock


def test_pauses_are_no_training_and_each_lap_counts_from_the_last(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    def after(seconds):
        now[0] += seconds

    clock = Clock(first_step=7)
    after(2.0)
    with clock.waiting:
        after(3.0)
    with clock.paused:
        after(50.0)
    assert (clock.training_s, clock.unsaved_s) == (5.0, 55.0)
    assert clock.lap(17) == (5.0, 3.0, 10)
    clock.has_saved()
    after(4.0)
    with clock.waiting:
        after(1.0)
    assert clock.lap(20) == (5.0, 1.0, 3)
    assert (clock.training_s, clock.unsaved_s) == (10.0, 5.0)
