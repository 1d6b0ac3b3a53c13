"""The curves of trainings: loss and error by epoch, beside a published one."""

import dataclasses
import os
import pathlib
from collections.abc import Callable, Sequence

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from alexnet_tf.errors import UserError
from alexnet_tf.training import metrics


@dataclasses.dataclass(frozen=True)
class Reference:
    """The course of a training on ImageNet that others have published."""

    what: str
    every: int  # epochs between two figures, the first after as many
    top_1: tuple[float, ...]  # % of validation pictures right


REFERENCES = {
    # github.com/borisgin/nvcaffe, the log of BVLC's network with groups and LRN: batch 1024 on
    # 8 x P100, the rate falling from 0.02 as (1 - progress)^2, 100 epochs; of 6,400 pictures of
    # validation.
    "caffe": Reference(
        "nvcaffe's on ImageNet, 100 epochs",
        4,
        # fmt: off
        (
            33.0,
            40.1,
            44.3,
            45.4,
            47.3,
            49.9,
            50.0,
            52.5,
            51.5,
            53.1,
            54.1,
            53.6,
            54.6,
            54.8,
            55.2,
            56.7,
            55.8,
            56.3,
            57.6,
            56.6,
            57.1,
            58.1,
            57.5,
            57.6,
            58.6,
        ),
        # fmt: on
    )
}


def _evaluations(rows: Sequence[dict]) -> list[dict]:
    """The rows that end an epoch, with their epochs numbered one after the other.

    Earlier versions numbered them by the pictures that there were at the time: after some were
    added or removed, a number came twice, went back or leapt. They also logged an evaluation twice
    that was made twice.
    """
    found = list({row["step"]: row for row in rows if "loss" in row}.values())
    first = max(1, found[0]["epoch"]) if found else 1
    return [row | {"epoch": number} for number, row in enumerate(found, first)]


def _epoch_of(epochs: Sequence[dict]) -> Callable[[int], float]:
    """The function from a step to epochs, whose number of steps changes with the pictures."""
    steps, numbers = ([row[name] for row in epochs] for name in ("step", "epoch"))
    last = steps[-1] - steps[-2] if len(steps) > 1 else steps[0] / numbers[0]
    steps, numbers = [0, *steps, steps[-1] + last], [0, *numbers, numbers[-1] + 1]
    return lambda step: float(np.interp(step, steps, numbers))


def _labels(model_dirs: Sequence[str | os.PathLike]) -> list[str]:
    """The ends of the paths, just long enough to tell them apart."""
    paths = [pathlib.Path(os.path.abspath(one)).parts for one in model_dirs]
    for count in range(1, max(map(len, paths), default=0) + 1):
        labels = [str(pathlib.Path(*parts[-count:])) for parts in paths]
        if len(set(labels)) == len(set(paths)):
            return labels
    return []


def draw_curves(model_dirs: Sequence[str | os.PathLike], reference: str | None = None) -> Figure:
    """Loss and error of training and evaluation by epoch, and the errors of REFERENCES[reference].

    Raises UserError for a directory without a log, and for more than there are colours.
    """
    colours = matplotlib.color_sequences["tab10"]
    if len(model_dirs) > len(colours):
        raise UserError(
            f"model_dir= names {len(model_dirs)} trainings, but there are colours for"
            f" only {len(colours)}; draw fewer at a time."
        )
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    loss, error = figure.subplots(1, 2)
    for colour, model_dir, called in zip(colours, model_dirs, _labels(model_dirs)):
        rows = metrics.read_log(model_dir)
        epochs = _evaluations(rows)
        if not epochs:
            raise UserError(
                f"model_dir={model_dir} has no log of an epoch; pass the model directory of a"
                " training that has finished one."
            )
        epoch_of = _epoch_of(epochs)
        fine = [row for row in rows if "loss" not in row] or epochs  # a head writes no others
        label = f"{called}, " if len(model_dirs) > 1 else ""
        for axes, measure in (
            (loss, lambda row, split: row[f"{split}loss"]),
            (error, lambda row, split: 100 * (1 - row[f"{split}top_1"])),
        ):
            axes.plot(
                [epoch_of(row["step"]) for row in fine],
                [measure(row, "train_") for row in fine],
                color=colour,
                alpha=0.35,
                linewidth=1,
                marker="." if len(fine) == 1 else "",  # a line through one point shows nothing
                label=f"{label}training",
            )
            axes.plot(
                [row["epoch"] for row in epochs],
                [measure(row, "") for row in epochs],
                color=colour,
                marker="o",
                markersize=4,
                label=f"{label}evaluation",
            )
    if reference:
        published = REFERENCES[reference]
        error.plot(
            [published.every * (place + 1) for place in range(len(published.top_1))],
            [100 - right for right in published.top_1],
            color="black",
            linestyle="dashed",
            linewidth=1,
            marker=".",
            label=published.what,
        )
    for axes, name in ((loss, "cross-entropy, nats"), (error, "top-1 error, %")):
        axes.set(xlabel="epoch", ylabel=name)
        axes.grid(alpha=0.3)
        axes.update_datalim([(0, 0)])  # else the margin at the top is one of the data's own range
        axes.autoscale_view()
        axes.set_xlim(left=0)
        axes.set_ylim(bottom=0)
        axes.xaxis.get_major_locator().set_params(integer=True)
    # By name: of itself Matplotlib leaves out what begins with an underscore.
    error.legend(error.lines, [str(line.get_label()) for line in error.lines])
    return figure
