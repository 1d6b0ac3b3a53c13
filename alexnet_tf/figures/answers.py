"""What a network makes of pictures, drawn: answers, neighbours, confusions."""

from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from alexnet_tf import console, picture_files
from alexnet_tf.classifiers import TOP
from alexnet_tf.data import splits
from alexnet_tf.errors import UserError, first_few
from alexnet_tf.figures.seen import Seen

# As many as the paper's Figure 4 shows.
_ANSWERED, _QUERIES, _NEAREST = 8, 5, 6
_COUNTED = 30  # classes up to which a table of confusions shows its numbers


def draw_predictions(seen: Seen) -> Figure:
    """Pictures, and bars of their five most probable classes."""
    numbers = seen.some(_ANSWERED)
    probabilities = seen.probabilities(numbers)
    columns, rows = min(4, len(numbers)), -(-len(numbers) // 4)
    figure = Figure(figsize=(2.6 * columns, 3.9 * rows), layout="constrained")
    axes = figure.subplots(2 * rows, columns, squeeze=False, height_ratios=[2.4, 1.3] * rows)
    for axis in axes.flat:
        axis.axis("off")
    for place, (number, of_picture) in enumerate(zip(numbers, probabilities)):
        row, column = divmod(place, columns)
        picture, bars = axes[2 * row : 2 * row + 2, column]
        show(picture, seen.image(number), seen.name(number))
        chart(bars, of_picture, seen.network.class_names, seen.labels[number])
    return figure


def draw_neighbours(seen: Seen) -> Figure:
    """Pictures in the first column, and in their rows those whose features are nearest (Euclid).

    Raises UserError for one picture alone.
    """
    if len(seen.files) < 2:
        raise UserError("One picture has no neighbours; pass more.")
    queries, nearest = seen.some(_QUERIES), min(_NEAREST, len(seen.files) - 1)
    figure = Figure(figsize=(1.5 * (1 + nearest), 1.75 * len(queries)), layout="constrained")
    axes = figure.subplots(len(queries), 1 + nearest, squeeze=False)
    for row, query in zip(axes, queries):
        distances = np.linalg.norm(seen.features - seen.features[query], axis=1)
        distances[query] = -1.0  # a picture is its own nearest, even where another is the same
        for axis, number in zip(row, np.argsort(distances, kind="stable")):
            show(axis, seen.image(number), seen.name(number), size=7)
            for spine in axis.spines.values():
                spine.set(visible=number == query, linewidth=3, color="tab:red")
    figure.suptitle(
        f"framed: a picture; to its right the nearest by {seen.layer} of"
        f" {seen.network.settings.variant}",
        fontsize=9,
        wrap=True,
    )
    return figure


def draw_confusions(seen: Seen, note: Callable[[str], None] = console.note) -> Figure:
    """Rows for what the pictures are, columns for the answers, in shares of the row.

    Pictures whose folders name no class are left out, which the title and `note` say, and so does
    `note` of classes without a picture. Raises UserError if no folder is named after a class.
    """
    known, class_names = np.flatnonzero(seen.labels >= 0), seen.network.class_names
    if not len(known):
        raise UserError(
            "No picture is in a folder that is named after one of the network's classes"
            f" ({first_few(class_names, 5)}); pass folders"
            " that are."
        )
    unknown = np.flatnonzero(seen.labels < 0)
    if len(unknown):
        note(
            f"{len(unknown)} of the {len(seen.files)} pictures are in no folder that is named after"
            " one of the network's classes, and are left out: "
            f"{picture_files.shown(seen.files[unknown[0]])}{', ...' * (len(unknown) > 1)}"
        )
    for line in splits.not_evaluated(class_names, seen.labels, "what was passed"):
        note(line)
    best = seen.probabilities(known).argmax(1)
    counts = np.zeros([len(class_names)] * 2, int)
    np.add.at(counts, (seen.labels[known], best), 1)
    there = np.flatnonzero(counts.sum(0) + counts.sum(1))  # classes that occur
    counts = counts[np.ix_(there, there)]
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    side = min(3 + 0.4 * len(there), 30)
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    size = 9 if len(there) <= _COUNTED else max(2, 270 / len(there))
    names = [_cut(class_names[label]) for label in there]
    axes.set_xticks(range(len(there)), names, rotation=90, fontsize=size)
    axes.set_yticks(range(len(there)), names, fontsize=size)
    axes.set(xlabel="taken for", ylabel="is")
    for row, column in zip(*np.nonzero(counts)) if len(there) <= _COUNTED else ():
        axes.text(
            column,
            row,
            counts[row, column],
            ha="center",
            va="center",
            fontsize=9,
            color="white" if shares[row, column] > 0.5 else "black",
        )
    left_out = f"; {len(unknown)} of no class left out" if len(unknown) else ""
    figure.suptitle(
        f"{seen.network.settings.variant}: {np.trace(counts)} of {len(known)} pictures right"
        f"{left_out}",
        fontsize=10,
        wrap=True,
    )
    return figure


def chart(
    axis: Axes, probabilities: np.ndarray, class_names: Sequence[str], right: int = -1
) -> None:
    """Bars of the five most probable of float [classes], with their names and their numbers, that
    of the class `right` in another colour.
    """
    best = np.argsort(-probabilities, kind="stable")[:TOP]
    colours = ["lightcoral" if label == right else "lightsteelblue" for label in best]
    axis.barh(range(len(best)), probabilities[best], color=colours)
    for place, label in enumerate(best):
        axis.text(
            0.02,
            place,
            f"{_cut(class_names[label])} {100 * probabilities[label]:.1f} %",
            va="center",
            fontsize=8,
        )
    axis.set(xlim=(0, 1), ylim=(4.6, -0.6))
    axis.axis("off")


def show(axis: Axes, image: np.ndarray, title: str, more: str = "", size: int = 9) -> None:
    """An image below its title, cut where it is long, and what stands behind it whole."""
    axis.axis("on")
    axis.set(xticks=[], yticks=[])
    axis.imshow(np.squeeze(image), cmap="gray", vmin=0, vmax=255)
    axis.set_title(_cut(title) + more, fontsize=size)


def _cut(name: str) -> str:
    """`name`, or its beginning: names such as ImageNet's of 60 letters leave a figure no place."""
    return name if len(name) <= 24 else f"{name[:23]}…"
