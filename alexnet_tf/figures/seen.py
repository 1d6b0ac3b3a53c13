"""What a network makes of pictures: their features, and its answers."""

import functools
import os
from collections.abc import Callable, Iterator, Sequence

import keras
import numpy as np
import tensorflow as tf

from alexnet_tf import console, disk, picture_files
from alexnet_tf.data import listing
from alexnet_tf.data.splits import Split
from alexnet_tf.errors import UserError
from alexnet_tf.figures import png
from alexnet_tf.network import surgery
from alexnet_tf.networks import Network
from alexnet_tf.training import checkpoints, evaluation, features, head


class Pictures:
    """The pictures that are, or lie anywhere below, `paths`, as `network` reads them.

    `files`: their names. `labels`: int64 [pictures], the classes that the folders around them name,
    or -1. Raises UserError if there are none, if one cannot be read, and if a figure of ours lies
    among those of a folder.
    """

    def __init__(
        self,
        network: Network,
        paths: Sequence[str | os.PathLike],
        note: Callable[[str], None] = console.note,
    ) -> None:
        self.network = network
        self._split, self.files = listing.list_pictures(paths, network.class_names, note)
        named = set(map(os.path.realpath, paths))
        for file in self.files:
            if os.path.realpath(file) not in named and png.is_figure(file):
                raise UserError(
                    f"{picture_files.shown(file)} is a figure that alexnet visualize drew, among"
                    " the pictures; move it out of their folder, and draw into another one"
                    " (output=)."
                )

    @functools.cached_property
    def labels(self) -> np.ndarray:
        return np.array([int(record["label"]) for record in self._split.read(None)], np.int64)

    def image(self, number: int) -> np.ndarray:
        """What the network reads of a picture: uint8 [image_size, image_size, channels].

        Raises UserError for one that cannot be read any more.
        """
        return self.network.prepare(self.files[number])

    def name(self, number: int) -> str:
        """The picture's class, if it is known, or its file."""
        label = self.labels[number]
        return (
            self.network.class_names[label]
            if label >= 0
            else picture_files.shown(os.path.basename(self.files[number]))
        )

    def some(self, count: int) -> np.ndarray:
        """Numbers of `count` pictures, or of all where there are fewer, spread evenly."""
        return np.unique(np.linspace(0, len(self.files) - 1, count).round().astype(int))


class Seen(Pictures):
    """Pictures, and what `network` makes of them.

    `features`: float32 [pictures, units], what the last layer before the projection puts out, a row
    of all its places where that is a map. Raises UserError as Pictures does, and for what has no
    weights, such as a .tflite file.
    """

    def __init__(
        self,
        network: Network,
        paths: Sequence[str | os.PathLike],
        note: Callable[[str], None] = console.note,
        progress: Callable = console.progress,
    ) -> None:
        surgery.check_chain(network.model)
        self._trunk = surgery.trunk(network.model)
        super().__init__(network, paths, note)
        split, parts = self._split, []
        trained_on = network.record.has_seen(split.known()).sum() if network.record else 0
        if trained_on:
            these = f"these {split.examples} pictures"
            note(evaluation.tell_seen("The network", trained_on, these))
        with progress(split.examples, "features") as bar:
            for part in self._extract(split):
                parts.append(part)
                bar.update(len(part[0]))
        outputs, self.labels = map(np.concatenate, zip(*parts))
        self.features, self._shape = outputs.reshape(len(outputs), -1), outputs.shape[1:]

    def _extract(self, split: Split) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        strategy = tf.distribute.get_strategy()
        extract = features.extractor(strategy, self._trunk, self.network.preprocessing)
        for outputs, labels, bad in extract(split):
            if len(bad):
                raise UserError(
                    f"{split.describe_fault(bad[0])} cannot be read; replace it or take it out."
                )
            yield outputs, labels

    @property
    def layer(self) -> str:
        """The one whose outputs are the features, as an export calls it."""
        return surgery.name_of_features(self.network.model)

    @functools.cached_property
    def _projection(self) -> keras.Model:
        return surgery.projection(self.network.model)

    def probabilities(self, numbers: np.ndarray) -> np.ndarray:
        """float32 [n, classes] of the pictures of these numbers."""
        outputs = self.features[numbers].reshape(-1, *self._shape)
        return tf.nn.softmax(head.logits(self._projection, outputs)).numpy()

    def write(self, path: str | os.PathLike) -> None:
        """Writes the features and what belongs to them to an .npz file.

        Raises UserError if it cannot be written; what was there is then untouched.
        """
        try:
            with disk.appearing(path) as unfinished, open(unfinished.path, "wb") as stream:
                np.savez(
                    stream,
                    features=self.features,
                    files=np.array(self.files),
                    labels=self.labels,
                    layer=np.array(self.layer),
                    class_names=np.array(self.network.class_names, str),
                    weights_sha256=np.array(checkpoints.weights_digest(self.network.model)),
                )
        except OSError as error:
            raise UserError(f"features={path} cannot be written ({error.strerror}).") from None
