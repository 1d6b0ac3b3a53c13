"""What one watches: the log that survives kills, the running means, and the stall that is told."""

import json
import math

import numpy as np
import pytest

from alexnet_tf.training.metrics import Log, RunningMeans, Stall, read_log


def test_log_drops_what_comes_again_and_lines_half_written(tmp_path):
    log = Log(tmp_path, 0)
    for step in (50, 100, 150):
        log.write({"step": step, "epoch": 1, "train_loss": 1 / step})
    with open(tmp_path / "metrics.jsonl", "a") as stream:
        stream.write('{"step": 200, "ep')
    Log(tmp_path, 120).write({"step": 130, "epoch": 1, "train_loss": 0.5})
    assert [row["step"] for row in read_log(tmp_path)] == [50, 100, 130]
    assert [json.loads(line)["step"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()] == [50, 100, 130]


def test_running_means_and_the_step_that_was_not_finite():
    means = RunningMeans(4, [8.0, 2.0, 8])
    for loss, correct in ((4.0, 1.0), (8.0, 3.0)):
        means.add((np.float32(loss), np.float32(correct)))
    assert means.fold() is None
    assert means.take_recent() == (1.5, 0.5) and means.epoch_sums() == [20.0, 6.0, 16]
    assert means.take_epoch() == (1.25, 6 / 16) and means.epoch_sums() == [0.0, 0.0, 0]
    for loss in (1.0, math.nan, math.inf, 1.0):
        means.add((np.float32(loss), np.float32(0)))
    assert means.fold() == 2


@pytest.mark.parametrize("loss,step,last,told", [
    (math.log(1000), 2000, False, True), (math.log(1000) + 0.3, 5000, False, True), (math.log(1000) - 0.05, 5000, False, False),
    (math.log(1000), 1999, False, False), (math.log(1000), 30, True, True)])
def test_a_stall_is_told_once(loss, step, last, told):
    stall = Stall(1000)
    line = stall.check(loss, step, last)
    assert bool(line) == told
    if told:
        assert "6.908" in line and "--init" in line
        assert stall.check(loss, step + 1000, last) is None
