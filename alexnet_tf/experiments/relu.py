"""Figure 1: how much sooner ReLU reaches a training error than tanh."""

import statistics
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure

from alexnet_tf import preprocessing
from alexnet_tf.data import pipeline
from alexnet_tf.data.splits import Dataset
from alexnet_tf.errors import NotFinite
from alexnet_tf.experiments.experiment import (
    BATCH,
    CIFAR_10,
    Bench,
    Experiment,
    Result,
    Results,
    Run,
    arms_of,
    spread,
)
from alexnet_tf.figures import experiments as figures
from alexnet_tf.network import cuda_convnet
from alexnet_tf.pixels import Preprocessing
from alexnet_tf.training import metrics

_ERROR = 0.25  # of the training pictures, which the paper's figure marks
_NEURONS = ("relu", "tanh")
RATES = (0.0003, 0.001, 0.003, 0.01, 0.03)


class StopAt(keras.callbacks.Callback):
    """Ends a training after the first epoch whose training error is not above `error`."""

    def __init__(self, error: float) -> None:
        super().__init__()
        self._error = error

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        if logs and 1 - logs["top_1"] <= self._error:
            self.model.stop_training = True


def _runs(seeds: int, results: Results, dataset: Dataset | None) -> list[Run]:
    """Every rate with the first seed; then each neuron's best rate with the other seeds."""
    search = [_run(neuron, rate, 0) for rate in RATES for neuron in _NEURONS]
    if len(results) < len(search):
        return search
    best = {neuron: _best_rate(results, neuron) for neuron in _NEURONS}
    return search + [
        _run(neuron, best[neuron], seed) for seed in range(1, seeds) for neuron in _NEURONS
    ]


def _run(neuron: str, rate: float, seed: int) -> Run:
    return Run(f"{neuron}, rate {rate:g}", seed, {"neuron": neuron, "rate": rate})


def _of(result: Result) -> tuple[str, float]:
    """(neuron, rate)."""
    neuron, _, rate = result.arm.partition(", rate ")
    return neuron, float(rate)


def _best_rate(results: Results, neuron: str) -> float:
    """The rate that reaches the error first or, if none does, comes nearest to it."""
    search = [one for one in results if one.seed == 0 and _of(one)[0] == neuron]
    best = min(search, key=lambda one: (_epochs(one) or np.inf, one.measured["lowest"]))
    return _of(best)[1]


def _measure(run: Run, bench: Bench) -> dict[str, Any]:
    dataset, side = bench.given(), cuda_convnet.PLAIN_SIZE
    pixels = Preprocessing(side, side, 3, (0.0,) * 3, 1.0)
    mean, _ = pipeline.channel_statistics(dataset.to_train(), pixels)
    pixels = Preprocessing(side, side, 3, tuple(mean), 1.0)
    diverged = False
    try:
        bench.train(
            run,
            lambda: cuda_convnet.plain(run.settings["neuron"], len(dataset.class_names)),
            pixels,
            learning_rate=run.settings["rate"],
            bias_rate=2.0,
            weight_decay=0.0,
            schedule="constant",
            crop=_whole,
            callbacks=[StopAt(_ERROR)],
        )
    except NotFinite:
        diverged = True
    per_epoch = dataset.to_train().examples // BATCH
    # training errors as they were met, without a pass of their own: every 50 steps
    rows = [row for row in metrics.read_log(bench.model_dir(run)) if "loss" not in row]
    course = [[row["step"] / per_epoch, round(1 - row["train_top_1"], 4)] for row in rows]
    reached = [at for at, error in course if error <= _ERROR]
    return {
        "epochs": reached[0] if reached else None,
        "lowest": min((error for _, error in course), default=1.0),
        "diverged": diverged,
        "course": course,
    }


def _whole(image: tf.Tensor, pixels: Preprocessing, seed: tf.Tensor) -> tf.Tensor:
    """Neither a random crop nor a mirror image: nothing that would regularise."""
    return preprocessing.central_crop(image, pixels)


def _epochs(result: Result) -> float | None:
    return result.measured["epochs"]


def _tell(results: Results) -> dict[str, str]:
    rows = {}
    for arm, some in arms_of(results).items():
        reached = [epochs for one in some if (epochs := _epochs(one)) is not None]
        rows[arm] = f"{spread(reached)} epochs to 25 % training error"
        if not reached:
            lowest = min(one.measured["lowest"] for one in some)
            how = "diverged" if some[0].measured["diverged"] else "did not get there"
            rows[arm] = f"{how}; lowest training error {lowest:.1%}"
        elif len(reached) < len(some):
            rows[arm] += f"; {len(some) - len(reached)} did not get there"
    relu, tanh = (_chosen(results, neuron) for neuron in _NEURONS)
    rows["found"] = "ReLU did not reach 25 % training error, so there is no ratio"
    reached = [epochs for one in relu if (epochs := _epochs(one)) is not None]
    if tanh and reached and len(reached) == len(relu):
        ratio = statistics.mean(map(_end, tanh)) / statistics.mean(reached)
        least = "" if all(map(_epochs, tanh)) else "more than "
        rows["found"] = (
            f"tanh takes {least}{ratio:.2f} times as many epochs as ReLU; the paper says 6"
            if ratio
            else "tanh diverged before its error was measured, so there is no ratio"
        )
    return rows


def _end(result: Result) -> float:
    """Epochs to the error, or those in which it was not reached: none where it diverged at once."""
    course = result.measured["course"]
    return _epochs(result) or (course[-1][0] if course else 0.0)


def _chosen(results: Results, neuron: str) -> list[Result]:
    """Of all seeds at the neuron's best rate."""
    best = _best_rate(results, neuron)
    return [one for one in results if _of(one) == (neuron, best)]


def _draw(results: Results) -> Figure:
    courses = []
    for neuron, name, colour, style in (
        ("relu", "ReLU", "tab:blue", "solid"),
        ("tanh", "tanh", "tab:red", "dashed"),
    ):
        for number, one in enumerate(_chosen(results, neuron)):
            label = f"{name}, rate {_of(one)[1]:g}" if not number else None
            courses.append((label, colour, style, one.measured["course"]))
    return figures.draw_courses(courses, _ERROR, "epochs", "training error rate")


EXPERIMENT = Experiment(
    "relu",
    "Figure 1: a network of four layers with ReLU reaches 25 % training error on CIFAR-10 six "
    "times sooner than an equivalent one with tanh.",
    "cuda-convnet's small network of four layers, without normalisation, decay, crops or mirror "
    f"images, at a constant rate, the best of {', '.join(f'{rate:g}' for rate in RATES)} for each "
    "neuron by itself; the error is that of the pictures as they are trained on.",
    1.5,
    30 * CIFAR_10,
    3,
    _runs,
    _measure,
    _tell,
    _draw,
)
