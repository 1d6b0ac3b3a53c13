"""Section 3.3: what response normalisation is worth to a network of four layers."""

from typing import Any

import keras
import numpy as np
from matplotlib.figure import Figure

from alexnet_tf.data import pipeline
from alexnet_tf.data.splits import Dataset
from alexnet_tf.experiments.experiment import (
    CIFAR_10,
    Bench,
    Experiment,
    Results,
    Run,
    arms_of,
    by_arm,
    difference,
    errors_of,
    spread,
)
from alexnet_tf.figures import experiments as figures
from alexnet_tf.network import cuda_convnet
from alexnet_tf.pixels import Preprocessing

_SIDE = cuda_convnet.LOCAL_SIZE
_PIXELS = Preprocessing(_SIDE, 32, 3, (0.0,) * 3, 1.0)  # the network subtracts the mean picture
_RATE = 0.001
_ARMS = {
    f"{name}, {'with' if normalised else 'without'} normalisation": {
        "network": name,
        "normalised": normalised,
    }
    for name in cuda_convnet.PUBLISHED
    for normalised in (False, True)
}
_AS_PUBLISHED = ("13pct, without normalisation", "11pct, with normalisation")


def _runs(seeds: int, results: Results, dataset: Dataset | None) -> list[Run]:
    return [Run(arm, seed, _ARMS[arm]) for seed in range(seeds) for arm in _ARMS]


def rate(epochs: int, epoch: int) -> float:
    """The rate of `epoch`, from 0: it falls to a tenth before each of the last two eighths."""
    phase = min(max(1, round(epochs / 8)), (epochs - 1) // 2)
    return _RATE * 0.1 ** ((epoch >= epochs - 2 * phase) + (epoch >= epochs - phase))


def _mean_picture(dataset: Dataset) -> np.ndarray:
    """Of the training pictures' centres: float32 [24, 24, 3]."""
    split = dataset.to_train()
    total = np.zeros((_SIDE, _SIDE, 3))
    count = 0
    for crop, _ in pipeline.central_crops(split, split.stubs(None), _PIXELS):
        total, count = total + crop, count + 1
    return (total / count).astype(np.float32)


def _measure(run: Run, bench: Bench) -> dict[str, Any]:
    dataset = bench.given()
    epochs, mean = bench.epochs(dataset), _mean_picture(dataset)
    network = bench.train(
        run,
        lambda: cuda_convnet.local(
            run.settings["network"],
            len(dataset.class_names),
            mean,
            run.settings["normalised"],
        ),
        _PIXELS,
        learning_rate=_RATE,
        bias_rate=2.0,
        weight_decay=0.0,  # the network's regularizers have it
        schedule="constant",
        callbacks=[keras.callbacks.LearningRateScheduler(lambda epoch, _: rate(epochs, epoch))],
    )
    return errors_of(network, dataset)


def _tell(results: Results) -> dict[str, str]:
    arms = arms_of(results)
    rows = {}
    for arm, some in arms.items():
        errors = spread([one.measured["error"] for one in some], " %")
        centre = spread([one.measured["centre_error"] for one in some], " %")
        published = ", as published" if arm in _AS_PUBLISHED else ""
        rows[f"{arm}{published}"] = f"{errors} test error, ten views; centre {centre}"
    for name in cuda_convnet.PUBLISHED:
        without, with_it = (arms[f"{name}, {how} normalisation"] for how in ("without", "with"))
        worth = spread(difference(without, with_it, "error"), " points", 2)
        rows[f"normalisation in {name}"] = f"is worth {worth}"
    without, with_it = (arms[arm] for arm in _AS_PUBLISHED)
    both = spread(difference(without, with_it, "error"), " points", 2)
    rows["found"] = f"as published, 13pct to 11pct: {both}; the paper says 13 % to 11 %, 2 points"
    return rows


def _draw(results: Results) -> Figure:
    errors = by_arm(results, "error")
    return figures.draw_spread(
        {"": errors}, "test error from ten views, %", marked=_AS_PUBLISHED, mark="as published"
    )


EXPERIMENT = Experiment(
    "normalisation",
    "Section 3.3: a four-layer CNN has a test error of 13 % on CIFAR-10 without normalisation and "
    "of 11 % with it.",
    "The two networks of cuda-convnet that the footnote points to, which differ in more than the "
    "normalisation, each with and without it; 24 x 24 crops, ten views; the rate falls to a tenth "
    "twice, for the last two eighths of the training (the source: 500 epochs, then 10 and 10).",
    2.5,
    20 * CIFAR_10,
    2,
    _runs,
    _measure,
    _tell,
    _draw,
)
