r"""Figures of a trained network: how its training went, what its first layer looks for, and what it
makes of pictures.

    alexnet visualize --figure=curves --model_dir=models/alexnet --output=curves.png
    alexnet visualize --figure=curves --model_dir=models/lrn,models/plain --output=comparison.png
    alexnet visualize --figure=filters --model_dir=models/alexnet --output=filters.png
    alexnet visualize --figure=predictions --model_dir=models/alexnet --output=answers.png \
        pictures/test
    alexnet visualize --figure=neighbours --model_dir=models/alexnet --output=alike.png \
        pictures/test
    alexnet visualize --figure=confusions --model_dir=models/alexnet --output=confusions.png \
        pictures/test
    alexnet visualize --features=features.npz --model_dir=models/alexnet pictures/test
    alexnet visualize --features=features.npz --model_dir=saved_models/alexnet pictures/test

`curves`: loss and error of training and evaluation by epoch, of one training or several. `filters`:
the kernels of conv1, a row of blocks for each tower, as in Figure 3 of the paper. `predictions` and
`neighbours`: the two halves of its Figure 4, for pictures and folders of pictures: some of them
with the five most probable classes, the right one in another colour if its folder's name says it;
and some with those whose features, the last layer before the projection, are nearest. `confusions`:
what the pictures of each class are taken for.

--features writes the features of all the pictures for other programs: numpy.load gives "features"
float32 [pictures, 4096], "files", "labels" (int64, -1 where unknown), "class_names", "layer" and
"weights_sha256".
"""

import os
import pathlib

import keras
import matplotlib
import numpy as np
import tensorflow as tf
from absl import flags

from alexnet_tf import console, disk, networks, preprocessing
from alexnet_tf.commands import app
from alexnet_tf.data import folders
from alexnet_tf.data import pictures as picture_files
from alexnet_tf.errors import UserError
from alexnet_tf.network import surgery
from alexnet_tf.training import checkpoints, features, head, metrics

matplotlib.use("Agg")
matplotlib.rcParams["text.parse_math"] = False  # a dollar in a name is a dollar
from matplotlib import pyplot  # noqa: E402  chooses its window system when imported

FLAGS = flags.FlagValues()
_JSON = app.define_json(FLAGS)
_FIGURE = flags.DEFINE_enum(
    "figure",
    "curves",
    ["curves", "filters", "predictions", "neighbours", "confusions"],
    "What to draw.",
    flag_values=FLAGS,
)
_MODEL_DIR = flags.DEFINE_list(
    "model_dir",
    "models/alexnet",
    "A model directory; for curves one or several; for all else, a "
    "weights file or an export will do as well.",
    flag_values=FLAGS,
)
_OUTPUT = flags.DEFINE_string(
    "output",
    "figure.png",
    "The PNG file to write; it is replaced if it is there.",
    flag_values=FLAGS,
)
_FEATURES = flags.DEFINE_string(
    "features",
    None,
    "An .npz file to write the features of the pictures to, whatever is drawn; "
    "without --figure nothing is.",
    flag_values=FLAGS,
)
_PRECISION = flags.DEFINE_enum(
    "precision",
    "float32",
    ["float32", "mixed_bfloat16"],
    "Arithmetic of the network.",
    flag_values=FLAGS,
)

# As many as the paper's Figure 4 shows.
_ANSWERED, _QUERIES, _NEAREST = 8, 5, 6
_COUNTED = 30  # classes up to which a table of confusions shows its numbers


def draw_curves(model_dirs):
    """A matplotlib figure. Raises UserError for a directory without a log."""
    figure, (loss, error) = pyplot.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    for colour, model_dir in zip(pyplot.cm.tab10.colors, model_dirs):
        rows = metrics.read_log(model_dir)
        epochs = [row for row in rows if "loss" in row]
        if not epochs:
            raise UserError(f"--model_dir={model_dir} has no log of an epoch; train there first.")
        steps_per_epoch = epochs[0]["step"] / epochs[0]["epoch"]
        fine = [row for row in rows if "loss" not in row] or epochs  # a head writes no others
        label = f"{pathlib.Path(model_dir).name}, " if len(model_dirs) > 1 else ""
        for axes, measure in (
            (loss, lambda row, split: row[f"{split}loss"]),
            (error, lambda row, split: 100 * (1 - row[f"{split}top_1"])),
        ):
            axes.plot(
                [row["step"] / steps_per_epoch for row in fine],
                [measure(row, "train_") for row in fine],
                color=colour,
                alpha=0.35,
                linewidth=1,
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
    for axes, name in ((loss, "cross-entropy, nats"), (error, "top-1 error, %")):
        axes.set(xlabel="epoch", ylabel=name)
        axes.grid(alpha=0.3)
        axes.set_ylim(bottom=0)
        axes.xaxis.get_major_locator().set_params(integer=True)
    error.legend()
    return figure


class Network:
    """What is drawn of a network, whether it is in training or deployed. Raises UserError where
    networks.load does, and for a .tflite file.
    """

    def __init__(self, path):
        keras.config.set_dtype_policy(_PRECISION.value)
        network = networks.load(path)
        model, self.pixels, self.step = network.model, network.preprocessing, network.step
        self.variant, self.class_names = network.settings.variant, network.class_names
        self.record, self.check_whole = network.record, network.check_whole
        self._trunk = surgery.trunk(model)
        self._projection = surgery.projection(model) if surgery.has_projection(model) else None
        # Of conv1, by tower: float32 [height, width, channels, filters].
        self.kernels = [
            layer.kernel.numpy()
            for layer in model.layers
            if layer.name in ("conv1", "conv1a", "conv1b")
        ]
        self.layer = self._trunk.layers[-1].name  # the one whose outputs are the features
        self.weights_sha256 = checkpoints.weights_digest(model)

    def extract(self, split):
        """Yields (features float32 [pictures, units], labels int64) of `split`, batch by batch."""
        extract = features.extractor(tf.distribute.get_strategy(), self._trunk, self.pixels)
        for outputs, labels, bad in extract(split):
            if len(bad):
                raise UserError(
                    f"{split.describe_fault(bad[0])} cannot be read; replace it or take it out."
                )
            yield outputs, labels

    def probabilities(self, outputs):
        """float32 [pictures, classes] of features."""
        return tf.nn.softmax(head.logits(self._projection, outputs)).numpy()


def draw_filters(network):
    """A matplotlib figure of conv1's kernels, each stretched to the full range of colours."""
    kernels = network.kernels
    columns, rows = 16, [-(-kernel.shape[-1] // 16) for kernel in kernels]
    figure, axes = pyplot.subplots(
        sum(rows),
        columns,
        figsize=(0.62 * columns, 0.64 * sum(rows) + 0.5),
        layout="constrained",
        squeeze=False,
    )
    for axis in axes.flat:
        axis.axis("off")
    for block, kernel in enumerate(kernels):
        for index in range(kernel.shape[-1]):
            weights = kernel[..., index]
            low, high = weights.min(), weights.max()
            axes[sum(rows[:block]) + index // columns, index % columns].imshow(
                np.squeeze((weights - low) / max(high - low, 1e-12)),
                cmap="gray",
                interpolation="nearest",
            )
    towers = "; tower a above, tower b below" if len(kernels) == 2 else ""
    figure.suptitle(f"conv1 of {network.variant} after step {network.step}{towers}", fontsize=10)
    return figure


class Seen:
    """What a Network makes of the pictures below `paths`.

    Raises UserError if there are none, or one cannot be read.
    """

    def __init__(self, network, paths):
        split, self.files = folders.list_pictures(paths, network.class_names)
        self.network, parts = network, []
        trained_on = network.record.has_seen(split.identities).sum() if network.record else 0
        if trained_on:
            console.note(
                f"The network was trained on {trained_on} of these {split.examples} pictures: what"
                " is right of them says little."
            )
        with console.progress(split.examples, "features") as bar:
            for part in network.extract(split):
                parts.append(part)
                bar.update(len(part[0]))
        self.features, self.labels = map(np.concatenate, zip(*parts))

    def image(self, number):
        """What the network reads of a picture: uint8 [image_size, image_size, channels]."""
        content, pixels = tf.io.read_file(os.fsencode(self.files[number])), self.network.pixels
        return preprocessing.central_crop(
            preprocessing.decode(content, pixels.resize), pixels
        ).numpy()

    def name(self, number):
        """The picture's class, if it is known, or its file."""
        label = self.labels[number]
        return (
            self.network.class_names[label]
            if label >= 0
            else picture_files.shown(os.path.basename(self.files[number]))
        )

    def some(self, count):
        """Numbers of `count` pictures, or of all where there are fewer, spread evenly."""
        return np.unique(np.linspace(0, len(self.files) - 1, count).round().astype(int))


def draw_predictions(seen):
    """A matplotlib figure: pictures, and bars of their five most probable classes."""
    numbers = seen.some(_ANSWERED)
    probabilities = seen.network.probabilities(seen.features[numbers])
    columns, rows = min(4, len(numbers)), -(-len(numbers) // 4)
    figure, axes = pyplot.subplots(
        2 * rows,
        columns,
        figsize=(2.6 * columns, 3.9 * rows),
        layout="constrained",
        squeeze=False,
        height_ratios=[2.4, 1.3] * rows,
    )
    for axis in axes.flat:
        axis.axis("off")
    for place, (number, of_picture) in enumerate(zip(numbers, probabilities)):
        row, column = divmod(place, columns)
        picture, bars = axes[2 * row : 2 * row + 2, column]
        _show(picture, seen.image(number), seen.name(number))
        best = np.argsort(-of_picture, kind="stable")[:5]
        bars.barh(
            range(len(best)),
            of_picture[best],
            color=[
                "lightcoral" if label == seen.labels[number] else "lightsteelblue" for label in best
            ],
        )
        for place_of_class, label in enumerate(best):
            bars.text(
                0.02, place_of_class, seen.network.class_names[label], va="center", fontsize=8
            )
        bars.set(xlim=(0, 1), ylim=(4.6, -0.6))
    return figure


def draw_neighbours(seen):
    """A matplotlib figure: pictures in the first column, and in their rows those whose features are
    nearest (Euclid).
    """
    if len(seen.files) < 2:
        raise UserError("One picture has no neighbours; pass more.")
    queries, nearest = seen.some(_QUERIES), min(_NEAREST, len(seen.files) - 1)
    figure, axes = pyplot.subplots(
        len(queries),
        1 + nearest,
        figsize=(1.5 * (1 + nearest), 1.75 * len(queries)),
        squeeze=False,
        layout="constrained",
    )
    for row, query in zip(axes, queries):
        distances = np.linalg.norm(seen.features - seen.features[query], axis=1)
        distances[query] = -1.0  # a picture is its own nearest, even where another is the same
        for axis, number in zip(row, np.argsort(distances, kind="stable")):
            _show(axis, seen.image(number), seen.name(number))
            for spine in axis.spines.values():
                spine.set(visible=number == query, linewidth=3, color="tab:red")
    figure.suptitle(
        f"framed: a picture; beside it the nearest by {seen.network.layer} of"
        f" {seen.network.variant}",
        fontsize=9,
    )
    return figure


def draw_confusions(seen):
    """A matplotlib figure: rows for what the pictures are, columns for what they are taken for, in
    shares of the row.
    """
    known, class_names = np.flatnonzero(seen.labels >= 0), seen.network.class_names
    if not len(known):
        raise UserError(
            "No picture lies in a folder that is named after one of the network's classes"
            f" ({', '.join(class_names[:5])}{', ...' * (len(class_names) > 5)}); pass folders"
            " that do."
        )
    best = seen.network.probabilities(seen.features[known]).argmax(1)
    counts = np.zeros([len(class_names)] * 2, int)
    np.add.at(counts, (seen.labels[known], best), 1)
    there = np.flatnonzero(counts.sum(0) + counts.sum(1))  # classes that occur
    counts = counts[np.ix_(there, there)]
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    side = min(3 + 0.4 * len(there), 30)
    figure, axes = pyplot.subplots(figsize=(side, side), layout="constrained")
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    size = 9 if len(there) <= _COUNTED else max(2, 270 / len(there))
    names = [class_names[label] for label in there]
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
    axes.set_title(
        f"{seen.network.variant}: {np.trace(counts)} of {len(known)} pictures right", fontsize=10
    )
    return figure


def _show(axis, image, title):
    axis.axis("on")
    axis.set(xticks=[], yticks=[])
    axis.imshow(np.squeeze(image), cmap="gray", vmin=0, vmax=255)
    axis.set_title(title if len(title) <= 24 else f"{title[:23]}…", fontsize=9)


def write_features(seen, path):
    """Writes the .npz file.

    Raises UserError if it cannot be written; what was there is then untouched.
    """
    try:
        with disk.appearing(path) as unfinished, open(unfinished.path, "wb") as stream:
            np.savez(
                stream,
                features=seen.features,
                files=np.array(seen.files),
                labels=seen.labels,
                layer=seen.network.layer,
                class_names=np.array(seen.network.class_names, str),
                weights_sha256=seen.network.weights_sha256,
            )
    except OSError as error:
        raise UserError(f"--features={path} cannot be written ({error.strerror}).") from None
    console.result(path)


ARGUMENTS = "PICTURE_OR_FOLDER..."


def main(pictures):
    output, kind, model_dirs = pathlib.Path(_OUTPUT.value), _FIGURE.value, _MODEL_DIR.value
    if output.suffix.lower() != ".png":
        raise UserError(f"--output={output}: name a .png file.")
    if _FEATURES.value and not _FEATURES.value.endswith(".npz"):
        raise UserError(f"--features={_FEATURES.value}: name an .npz file.")
    sees = bool(_FEATURES.value) or kind in ("predictions", "neighbours", "confusions")
    if len(model_dirs) > 1 and (sees or kind == "filters"):
        raise UserError(f"--model_dir={','.join(model_dirs)}: one model at a time, but for curves.")
    if pictures and not sees:
        raise UserError(f"{pictures[0]}: --figure={kind} takes no pictures.")
    if sees and not pictures:
        raise UserError("No picture given; pass the paths of pictures, or of folders of pictures.")
    network = Network(model_dirs[0]) if sees or kind == "filters" else None
    if kind in ("predictions", "confusions"):
        network.check_whole()
    seen = Seen(network, pictures) if sees else None
    if _FEATURES.value:
        write_features(seen, pathlib.Path(_FEATURES.value))
        if not _FIGURE.present:
            return
    figure = {
        "curves": lambda: draw_curves(model_dirs),
        "filters": lambda: draw_filters(network),
        "predictions": lambda: draw_predictions(seen),
        "neighbours": lambda: draw_neighbours(seen),
        "confusions": lambda: draw_confusions(seen),
    }[kind]()
    try:
        figure.savefig(output, dpi=130)
    except OSError as error:
        raise UserError(f"--output={output} cannot be written ({error.strerror}).") from None
    console.result(output)
