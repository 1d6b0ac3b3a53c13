"""What arithmetic in bfloat16 costs in accuracy, beside what it gains in speed."""

import statistics
from typing import Any

from matplotlib.figure import Figure

from alexnet_tf.data.splits import Dataset
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
    made_otherwise,
    spread,
)
from alexnet_tf.figures import experiments as figures

_FULL, _HALF = "float32", "mixed_bfloat16"


def _runs(seeds: int, results: Results, dataset: Dataset | None) -> list[Run]:
    return [Run(arm, seed) for seed in range(seeds) for arm in (_FULL, _HALF)]


def _measure(run: Run, bench: Bench) -> dict[str, Any]:
    network = small_alexnet.train(bench, run, "paper", precision=run.arm)
    assert network.figures
    return {
        "error": 100 * (1 - network.figures["top_1"]),
        "images_per_s": network.figures["train_images_per_s"],
    }


def _tell(results: Results) -> dict[str, str]:
    arms = arms_of(results)
    rows = {}
    for arm, some in arms.items():
        errors = spread([one.measured["error"] for one in some], " %")
        speeds = spread([one.measured["images_per_s"] for one in some], " images/s", 0)
        rows[arm] = f"{errors} test error; {speeds} in training"
    worse = spread(difference(arms[_HALF], arms[_FULL], "error"), " points", 2)
    speed = {
        arm: statistics.mean(one.measured["images_per_s"] for one in some)
        for arm, some in arms.items()
    }
    rows["found"] = (
        f"bfloat16 against float32: {worse} of error, at {speed[_HALF] / speed[_FULL]:.2f} times "
        "its speed; nvcaffe lost 3.7 points to float16 throughout"
    )
    if others := made_otherwise(results):
        rows["found"] += (
            f"; not due to the arithmetic alone: the runs also differ in {', '.join(others)}"
        )
    return rows


def _draw(results: Results) -> Figure:
    return figures.draw_spread(
        {
            label: by_arm(results, name)
            for name, label in (("error", "test error, %"), ("images_per_s", "training, images/s"))
        }
    )


EXPERIMENT = Experiment(
    "precision",
    "Not the paper's: networks like this one have been trained in lower precision; nvcaffe lost "
    "3.7 points of top-1 on ImageNet with all arithmetic in float16.",
    "paper of 67 x 67 in float32, and in bfloat16 with weights and the last layer in float32; "
    "accuracy beside speed.",
    0.6,
    3 * CIFAR_10,
    3,
    _runs,
    _measure,
    _tell,
    _draw,
)
