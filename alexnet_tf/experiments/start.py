"""The lottery at the start: which initial weights leave the loss of guessing, and how soon."""

import contextlib
import dataclasses
import functools
import io
import math
import pathlib
import statistics
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure
from PIL import Image

from alexnet_tf.data import own
from alexnet_tf.data.splits import Dataset
from alexnet_tf.experiments import small_alexnet
from alexnet_tf.experiments.experiment import BATCH, Bench, Experiment, Results, Run, arms_of
from alexnet_tf.figures import experiments as figures

_STARTS = {  # name: (variant, init)
    "0.01, as printed": ("paper", "variant"),
    "0.03 in conv3 to conv5, as was run": ("paper", "source2012"),
    "Caffe's": ("caffe", "variant"),
}
_CLASSES = (10, 100, 500)
_TOGETHER, _BELOW = 50, 0.1  # left: the mean loss of 50 steps is 0.1 nats below ln(classes)
_STEPS = 1000  # at length 1
_EVALUATED = 128  # pictures: accuracy on others is not the question here
_DRAWN, _SIDE = 12_800, 48  # pictures of a drawn data set, and their pixels


class Leaving(keras.callbacks.Callback):
    """Ends a training whose loss has left that of guessing; `step` is then when.

    It keeps the loss of each step in the file `path`: a training that goes on from a checkpoint
    finds what came before.
    """

    def __init__(self, path: pathlib.Path, classes: int, steps_per_epoch: int) -> None:
        super().__init__()
        self._path, self._bound = path, math.log(classes) - _BELOW
        self._per_epoch, self._epoch = steps_per_epoch, 0
        self._losses: dict[int, float] = {}  # by step, 1 on
        self.step: int | None = None
        for line in path.read_text().splitlines() if path.exists() else ():
            with contextlib.suppress(ValueError):  # of a process that was killed as it wrote
                step, loss = line.split()
                self._add(int(step), float(loss))

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        step, loss = self._epoch * self._per_epoch + batch + 1, (logs or {})["loss"]
        with open(self._path, "a") as stream:
            stream.write(f"\n{step} {loss}")
        self._add(step, loss)
        if self.step is not None:
            self.model.stop_training = True

    def _add(self, step: int, loss: float) -> None:
        self._losses[step] = loss
        recent = [self._losses.get(step - back) for back in range(_TOGETHER)]
        known = [one for one in recent if one is not None]
        left = len(known) == _TOGETHER and statistics.mean(known) < self._bound
        if self.step is None and left:
            self.step = step


@functools.cache
def drawn_classes(classes: int, pictures: int = _DRAWN) -> Dataset:
    """Pictures of any number of classes: a class is a smooth field of colours, of which each
    picture has its own part, contrast and noise, and another field laid over it.
    """
    rng = np.random.default_rng([2012, classes])
    fields = [_field(rng, _SIDE + 12) for _ in range(classes)]

    def draw(number: int) -> bytes:
        own_rng = np.random.default_rng([2012, classes, number])
        top, left = own_rng.integers(0, 13, 2)
        field = fields[number % classes][top : top + _SIDE, left : left + _SIDE]
        image = 128 + own_rng.uniform(0.4, 0.8) * field + 0.4 * _field(own_rng, _SIDE)
        image += own_rng.normal(0, 10, image.shape)
        stream = io.BytesIO()
        Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(stream, "JPEG", quality=90)
        return stream.getvalue()

    def records(first: int, count: int) -> tf.data.Dataset:
        contents = [draw(number) for number in range(first, first + count)]
        labels = [number % classes for number in range(first, first + count)]
        return tf.data.Dataset.from_tensor_slices((contents, labels))

    names = [f"class {number}" for number in range(classes)]
    return own.from_tf_data(records(0, pictures), records(pictures, _EVALUATED), names)


def _field(rng: np.random.Generator, side: int) -> np.ndarray:
    coarse = rng.uniform(0, 255, (6, 6, 3)).astype(np.uint8)
    scaled = Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)
    return np.asarray(scaled, np.float64) - 128


def hardly_evaluated(dataset: Dataset) -> Dataset:
    """`dataset` with only the first _EVALUATED of its evaluation pictures."""
    split = dataset.evaluation
    few = min(_EVALUATED, split.examples)
    first = dataclasses.replace(
        split,
        examples=few,
        stubs=lambda seed: split.stubs(seed).take(few),
        identities=None if split.identities is None else split.identities[:few],
        place=None,
    )
    return dataclasses.replace(dataset, evaluation=first, test=None)


def _runs(seeds: int, results: Results, dataset: Dataset | None) -> list[Run]:
    """The fewest classes first: most is known soonest."""
    counts = (len(dataset.class_names),) if dataset else _CLASSES
    return [
        Run(f"{classes} classes, {start}", seed, {"classes": classes, "start": start})
        for classes in counts
        for seed in range(seeds)
        for start in _STARTS
    ]


def _measure(run: Run, bench: Bench) -> dict[str, Any]:
    classes = run.settings["classes"]
    variant, init = _STARTS[run.settings["start"]]
    dataset = hardly_evaluated(bench.dataset or drawn_classes(classes))
    per_epoch = dataset.to_train().examples // BATCH
    leaving = Leaving(bench.model_dir(run) / "losses.txt", classes, per_epoch)
    bench.train(
        run,
        lambda: small_alexnet.build(variant, classes, init=init),
        small_alexnet.pixels(variant, dataset),
        dataset,
        schedule="constant",
        callbacks=[leaving],
    )
    return {"left_after": leaving.step, "steps": bench.steps(dataset)}


def _tell(results: Results) -> dict[str, str]:
    rows = {}
    for arm, some in arms_of(results).items():
        left = sorted(at for one in some if (at := one.measured["left_after"]) is not None)
        steps = some[0].measured["steps"]
        rows[arm] = f"{len(left)} of {len(some)} seeds left ln(classes) within {steps} steps"
        if left:
            rows[arm] += f": after {left[0]} to {left[-1]}, median {statistics.median(left):g}"
    return rows


def _draw(results: Results) -> Figure:
    panels: dict[str, dict[str, list[int | None]]] = {}
    for arm, some in arms_of(results).items():
        classes, _, start = arm.partition(", ")
        panels.setdefault(classes, {})[start] = [one.measured["left_after"] for one in some]
    return figures.draw_departures(panels, max(one.measured["steps"] for one in results))


EXPERIMENT = Experiment(
    "start",
    "Section 5 prints initial weights of standard deviation 0.01 in every layer. The released "
    "source ran 0.03 in conv3 to conv5; others report that nets of a thousand classes often stay "
    "at the loss of guessing from 0.01.",
    f"paper and caffe of 67 x 67 from their initial weights, rate 0.01, batch {BATCH}, on drawn "
    f"data sets of {', '.join(map(str, _CLASSES))} classes, or on yours; a run has left when the "
    f"mean loss of {_TOGETHER} steps is {_BELOW} below ln(classes).",
    3.5,
    _STEPS * BATCH,
    10,
    _runs,
    _measure,
    _tell,
    _draw,
    draws_pictures=True,
)
