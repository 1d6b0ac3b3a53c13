"""What one watches: the log that survives kills, the running means, and the stall that is told."""

import json
import math

import numpy as np
import pytest

from alexnet_tf.classifiers import Answers
from alexnet_tf.network.model import stable_rate
from alexnet_tf.training import defaults
from alexnet_tf.training.loop import Plan
from alexnet_tf.training.metrics import Log, RunningMeans, Stall, read_log


def test_log_drops_what_comes_again_and_lines_half_written(tmp_path):
    log = Log(tmp_path, 0)
    for step in (50, 100, 150):
        log.write({"step": step, "epoch": 1, "train_loss": 1 / step})
    with open(tmp_path / "metrics.jsonl", "a") as stream:
        stream.write('{"step": 200, "ep')
    Log(tmp_path, 120).write({"step": 130, "epoch": 1, "train_loss": 0.5})
    assert [row["step"] for row in read_log(tmp_path)] == [50, 100, 130]
    assert [
        json.loads(line)["step"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()
    ] == [50, 100, 130]


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


CLASSES = [f"class {number}" for number in range(1000)]
FIGURES = {"examples": 50, "top_1": 0.001}
GUESSING = math.log(1000)


@pytest.mark.parametrize(
    "losses,step,last_step,told",
    [
        ([GUESSING], 2000, 10_000, True),
        ([GUESSING + 0.3], 5000, 10_000, True),
        ([GUESSING - 0.05], 5000, 10_000, False),
        ([GUESSING], 1999, 10_000, False),
        ([3 * GUESSING], 2000, 10_000, True),
        # at the end of a short run, a hundred steps of its rate are evidence
        ([GUESSING], 120, 120, True),
        ([GUESSING], 119, 119, False),
        ([GUESSING], 1, 1, False),
        # and so is a loss far from where networks begin, unless it is falling
        ([3 * GUESSING, 3 * GUESSING], 30, 30, True),
        ([3 * GUESSING, 3 * GUESSING], 29, 29, False),
        ([3 * GUESSING], 30, 30, False),
        ([9 * GUESSING, 3 * GUESSING], 30, 30, False),
        ([99 * GUESSING, 33 * GUESSING], 30, 30, True),
        ([9 * GUESSING, 3 * GUESSING], 3000, 10_000, False),
    ],
)
def test_a_stall_is_told_once_and_on_evidence(losses, step, last_step, told):
    stall, line = Stall(CLASSES, Plan(warmup_steps=20), last_step), None
    for number, loss in enumerate(losses, 1):
        line = stall.check(loss, FIGURES, step * number // len(losses))
        assert line is None or number == len(losses)
    assert bool(line) == told
    if told:
        assert f"loss is {loss:.3f}" in line and "6.908" in line
        assert stall.check(loss, FIGURES, step + 1000) is None


def advice(loss, figures=FIGURES, last=False, **settings):
    return Stall(CLASSES, Plan(**settings), 2000 if last else 10_000).check(loss, figures, 2000)


def test_a_warm_up_is_of_a_tenth_of_the_run_at_most():
    def line(steps, last_step):
        stall = Stall(CLASSES, Plan(warmup_steps=steps), last_step)
        return stall.check(GUESSING, FIGURES, last_step)

    assert "warmup_steps=100 instead of 0" in line(0, 4000)
    assert "warmup_steps=15 instead of 0" in line(0, 150)
    assert "warmup_steps" not in line(30, 150) and "learning_rate=" in line(30, 150)


def test_a_rate_that_is_never_reached_is_told():
    plan = Plan(warmup_steps=100, learning_rate=0.05)
    assert plan.never_reached(101) is None and Plan().never_reached(1) is None
    assert "warmup_steps=100, but the run has 40: its rate will not reach 0.05; a tenth of the" in (
        plan.never_reached(40)
    )
    assert "steps, 4," in plan.never_reached(40)
    assert Plan(learning_rate=0.0).never_reached(9) == "learning_rate=0: no weight will change"


def test_advice_is_of_settings_that_are_not_in_force():
    assert "init=source2012 instead of variant" in advice(GUESSING, init="variant")
    for init in ("source2012", ""):  # it is so already; other variants have no choice
        assert "init" not in advice(GUESSING, init=init)
    line = advice(GUESSING, seed=3, warmup_steps=400, learning_rate=0.05, epochs=20, last=True)
    for part in (
        "a seed other than 3",
        "learning_rate=0.025 or 0.1 instead of 0.05",
        "more epochs than 20",
    ):
        assert part in line
    assert "warmup_steps=100 instead of 0" in advice(GUESSING) and "letting it run on" in advice(
        GUESSING
    )
    assert "learning_rate=0.01 instead of 0," in advice(GUESSING, learning_rate=0.0)


def test_a_run_that_is_out_of_patience_is_at_its_end():
    def line(step, out_of_patience):
        stall = Stall(CLASSES, Plan(patience=5), 10_000)
        return stall.check(GUESSING, FIGURES, step, out_of_patience)

    assert "has not begun to learn" in line(100, True)
    assert "patience=10 instead of 5" in line(100, True) and "epochs" not in line(100, True)
    assert line(100, False) is line(99, True) is None


def test_a_rate_that_few_classes_do_not_stand_is_the_first_thing_to_change():
    two, loss = ["cat", "dog"], math.log(2)
    line = Stall(two, Plan(learning_rate=0.01), 2000, 0.002).check(loss, FIGURES, 2000)
    assert "learning_rate=0.002 instead of 0.01, too much for 2 classes" in line
    assert "0.005" not in line and "0.02" not in line
    line = Stall(two, Plan(learning_rate=0.001), 2000, 0.002).check(loss, FIGURES, 2000)
    assert "learning_rate=0.0005 or 0.002 instead of 0.001" in line


@pytest.mark.parametrize("variant,classes", [("paper", 2), ("paper", 10), ("caffenet", 10)])
def test_the_rate_by_default_is_never_told_to_be_too_much(variant, classes):
    plan = Plan(learning_rate=defaults.default_rate(variant, 128, classes))
    stall = Stall([str(one) for one in range(classes)], plan, 2000, stable_rate(variant, classes))
    assert "too much" not in stall.check(math.log(classes), FIGURES, 2000)


def test_advice_depends_on_where_the_loss_is():
    above, at = (
        advice(3 * GUESSING, learning_rate=0.01, init="variant"),
        advice(GUESSING, learning_rate=0.01, init="variant"),
    )
    assert "20.723, above that of guessing" in above and "too large" in above
    assert (
        "learning_rate=0.005 instead of 0.01" in above
        and "0.02" not in above
        and "seed" not in above
        and "run" not in above
    )
    assert "6.908, that of guessing" in at and "has not begun to learn" in at


def test_one_answer_to_all_pictures_is_told_even_below_guessing():
    one = FIGURES | {"only_answer": 7}
    line = advice(2.5, one)
    assert (
        "2.500, below that of guessing" in line
        and "Its answer to all 50 evaluation pictures is class 7." in line
    )
    assert (
        advice(2.5) is None
        and "class 7" in advice(GUESSING, one)
        and "class 7" in advice(30.0, one)
    )


@pytest.mark.parametrize(
    "labels,answers,only",
    [
        ([0, 1, 2], [1, 1, 1], 1),
        ([0, 1, 2], [1, 1, 0], None),
        ([1, 1, 1], [1, 1, 1], None),
        ([2, 2], [0, 0], 0),
    ],
)
def test_figures_name_the_only_answer(labels, answers, only):
    best = np.stack([answers, np.full(len(answers), 3)], 1).astype(np.int32)
    assert (
        Answers(np.array(labels), np.ones(len(labels)), best).figures().get("only_answer") == only
    )


def test_the_loss_of_guessing_is_neither_below_nor_above_it():
    stall = Stall([str(number) for number in range(10)], Plan(), 100)
    losses = (0.5, 2.27, 2.29, 2.303, 2.5, 2.53, 7.0, math.nan)
    assert [stall.is_guessing(loss) for loss in losses] == [
        False,
        False,
        True,
        True,
        True,
        False,
        False,
        False,
    ]
