"""Large batches: whether LARS holds the accuracy that plain momentum loses."""

import math
from typing import Any

from matplotlib.figure import Figure

from alexnet_tf.data.splits import Dataset
from alexnet_tf.errors import NotFinite
from alexnet_tf.experiments import small_alexnet
from alexnet_tf.experiments.experiment import (
    CIFAR_10,
    Bench,
    Experiment,
    Results,
    Run,
    arms_of,
    by_arm,
    difference,
    spread,
)
from alexnet_tf.figures import experiments as figures
from alexnet_tf.training.optimizer import LARS, SGD2012, lars_rate

_SMALL, _LARGE = 128, 8192
_RATE = 0.01  # of momentum at the small batch
_WARM = 0.04  # of the run: its author's 600 steps at 8192 are so much of 100 epochs of ImageNet
_WARM_STEPS = 5  # at least, or short runs would begin at their highest rate
_GUESSING = 2.0  # points of error: an arm so near to guessing has not begun to learn


def _batches(dataset: Dataset) -> tuple[int, int]:
    """(small, large): as far as there are pictures for a few steps an epoch."""
    examples = dataset.to_train().examples
    large = min(_LARGE, 2 ** int(math.log2(max(examples / 6, 2))))
    return min(_SMALL, max(large // 4, 1)), large


def _runs(seeds: int, results: Results, dataset: Dataset | None) -> list[Run]:
    assert dataset is not None
    small, large = _batches(dataset)
    times = large / small
    arms = [
        ("momentum", small, _RATE),
        ("momentum, the same rate", large, _RATE),
        ("momentum, rate times the root", large, _RATE * math.sqrt(times)),
        ("momentum, rate in proportion", large, _RATE * times),
        ("LARS", large, lars_rate(large)),
    ]
    return [
        Run(
            f"{rule}, batch {batch}",
            seed,
            {"rule": rule.partition(",")[0], "batch": batch, "rate": rate},
        )
        for seed in range(seeds)
        for rule, batch, rate in arms
    ]


def _measure(run: Run, bench: Bench) -> dict[str, Any]:
    dataset, batch, rate = bench.given(), run.settings["batch"], run.settings["rate"]
    guessing = 100 * (1 - 1 / len(dataset.class_names))
    kind = LARS if run.settings["rule"] == "LARS" else SGD2012
    try:
        network = bench.train(
            run,
            lambda: small_alexnet.build("half", len(dataset.class_names)),
            small_alexnet.pixels("half", dataset),
            batch_size=batch,
            optimizer=kind(rate),
            learning_rate=rate,
            schedule="poly",
            warmup_steps=max(_WARM_STEPS, round(_WARM * bench.steps(dataset, batch))),
        )
        assert network.figures
        error, diverged = 100 * (1 - network.figures["top_1"]), False
    except NotFinite:
        error, diverged = guessing, True
    return {
        "error": error,
        "diverged": diverged,
        "steps": bench.steps(dataset, batch),
        "guessing": guessing,
    }


def _tell(results: Results) -> dict[str, str]:
    arms = arms_of(results)
    base = next(iter(arms))
    rows = {}
    for arm, some in arms.items():
        errors = spread([one.measured["error"] for one in some], " %")
        rows[arm] = f"{errors} test error after {some[0].measured['steps']:,} steps"
        if arm != base:
            rows[arm] += (
                f"; {spread(difference(some, arms[base], 'error'), ' points')} against the first"
            )
        measured = [one.measured for one in some if not one.measured["diverged"]]
        if still := sum(one["error"] > one["guessing"] - _GUESSING for one in measured):
            rows[arm] += f"; {still} still guessed, which says nothing about the batch"
        if diverged := sum(one.measured["diverged"] for one in some):
            rows[arm] += f"; {diverged} diverged, which counts as guessing"
    return rows


def _draw(results: Results) -> Figure:
    errors = by_arm(results, "error")
    return figures.draw_spread(
        {"": errors}, "test error, %", marked=tuple(errors)[:1], mark="the small batch"
    )


EXPERIMENT = Experiment(
    "large_batch",
    "Not the paper's: plain momentum loses accuracy above a batch of 1024, and LARS (You, Gitman, "
    "Ginsburg 2017) keeps it on AlexNet up to 8192.",
    f"half of 67 x 67 with momentum at batch {_SMALL}, then with momentum at three rates and with "
    f"LARS at its author's rate, at batch {_LARGE} or, for few pictures, the largest power of two "
    "that leaves six steps an epoch; the same epochs, the rate falling as (1 - progress)^2.",
    1.2,
    12 * CIFAR_10,
    2,
    _runs,
    _measure,
    _tell,
    _draw,
)
