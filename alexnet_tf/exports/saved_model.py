"""A trained model to a SavedModel that serves, converts and classifies without this package.

Signatures, all over one set of weights, and all for any number N >= 1 of pictures: a server merges
requests of several clients into one batch, whatever the signature, so that none may be for one
picture alone.

    serving_default  image_bytes: string [N], JPEG or PNG files of any size
                     -> probabilities float32 [N, classes], and the best five, best first:
                        class_ids int32, names string, scores float32, each [N, 5]
                        (fewer where there are fewer classes). Where the best is below the
                        manifest's min_probability, -1, "none of these" and the probability that
                        the best is wrong stand before it, and the last goes
    features         image_bytes, as above
                     -> features float32 [N, units], the output of the last hidden layer (fc7),
                        a row of all its places where that is a map:
                        whoever compares or indexes pictures has files, and they go through the
                        same pixels as for an answer. Not where a network of its user's own ends
                        in something else than one layer that reads another, such as a mean
    images           images: float32 [N, image_size, image_size, channels], RGB 0..255, scaled and
                     cropped already
                     -> probabilities float32 [N, classes]
    images_uint8     the same for uint8: a quarter of the bytes on the wire
    edge             as `images`, in operators that small runtimes execute fast: alexnet convert
                     reads it

All of them give the features, and there are no labels, where the model is a part of a network that
ends below its projection.

One picture of a batch that does not decode fails the batch: an answer made up for it could not be
told from a true one. The pixels go through alexnet_tf/preprocessing.py as they do in evaluation.
Beside the graph lie

    assets/labels.txt           a class name a line, in the order of the probabilities
    assets.extra/manifest.json  variant, preprocessing, accuracy, training settings, versions,
                                sha256 of the weights
    assets.extra/pictures.npz   digests of the pictures that it was trained on, by which
                                alexnet evaluate knows them
    assets.extra/tf_serving_warmup_requests
                                what TensorFlow Serving answers to itself before it serves
    README.md                   the model card: exports/card.py
    assets.extra/SHA256SUMS     of all other files but the card, on which its owner may write;
                                `sha256sum -c assets.extra/SHA256SUMS` reads it in the version's
                                folder
"""

import dataclasses
import math
import os
import pathlib
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from alexnet_tf import bounds, disk, preprocessing
from alexnet_tf.classifiers import BATCH_SIZES, NONE, TOP
from alexnet_tf.data import record
from alexnet_tf.errors import UserError
from alexnet_tf.exports import artifacts, canonical, card
from alexnet_tf.manifest import (
    DEFAULT_SIGNATURE,
    EDGE,
    FEATURES,
    IMAGES,
    IMAGES_UINT8,
    Manifest,
)
from alexnet_tf.network import layers, surgery
from alexnet_tf.pixels import Preprocessing

PYTHON = sys.executable  # reads again what was written
_NAMELESS = "class without a name"  # where labels.txt was shortened after the export
_TOLERANCE = 1e-5  # of a probability; of a feature, relative to the largest
# Sums that are rounded differently in float32 differ in their last bits. With logits as large as
# this, that can amount to _TOLERANCE in a probability; with larger ones, to more.
_LOGITS = 32


def decoder(pixels: Preprocessing) -> Callable[[tf.Tensor], tf.Tensor]:
    """A function from the bytes of picture files, string [n], to what a network sees of them, uint8
    [n, image_size, image_size, channels].
    """
    size, channels = pixels.image_size, pixels.channels

    def decode(image_bytes: tf.Tensor) -> tf.Tensor:
        return tf.map_fn(
            lambda picture: preprocessing.decode_central_crop(picture, pixels),
            image_bytes,
            fn_output_signature=tf.TensorSpec([size, size, channels], tf.uint8),
        )

    # Signatures that call it share one graph of it, which is most of what there is to load.
    return tf.function(decode, [tf.TensorSpec([None], tf.string)], autograph=False)


def has_features(model: keras.Model) -> bool:
    """Whether what the last layer reads is what one other layer puts out."""
    try:
        surgery.check_chain(model)
    except UserError:
        return False
    return True


class _Network(tf.Module):
    """What is behind the signatures of a part of a network, which gives features. Holds the Keras
    model's variables, each once, and no function: that would be written beside the signature that
    is made of it, and loaded as well.
    """

    def __init__(self, model: keras.Model, pixels: Preprocessing) -> None:
        super().__init__()
        # Without the seeds of dropout, which is for training alone.
        self._variables = [one.value for one in model.variables if not layers.is_seed(one)]
        # Not the models themselves: tracked as Keras objects as well, their weights would be
        # written twice.
        self._outputs, self._edge_outputs, self._features = (
            lambda images, form=form, prepare=prepare: form(prepare(images, pixels), training=False)
            for form, prepare in (
                (model, preprocessing.to_network_input),
                (layers.for_small_devices(model), _to_edge_input),
                (_rows_of(surgery.trunk(model)), preprocessing.to_network_input),
            )
        )
        self._pixels, self._has_features = pixels, has_features(model)

    def signatures(self) -> dict[str, Any]:
        shape = [None, self._pixels.image_size, self._pixels.image_size, self._pixels.channels]
        files = tf.TensorSpec([None], tf.string, name="image_bytes")
        images, images_uint8 = (
            tf.TensorSpec(shape, dtype, name="images") for dtype in (tf.float32, tf.uint8)
        )
        decode = decoder(self._pixels)

        def answer(image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
            return self._answer(decode(image_bytes))

        def features(image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
            return {"features": self._features(decode(image_bytes))}

        return {
            name: tf.function(function, autograph=False).get_concrete_function(given)
            for name, function, given in (
                (DEFAULT_SIGNATURE, answer, files),
                (FEATURES, features, files),
                (IMAGES, self._of_images, images),
                (IMAGES_UINT8, self._of_images, images_uint8),
                (EDGE, self._of_edge_images, images),
            )
            if name != FEATURES or self._has_features
        }

    def _answer(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"features": self._features(images)}

    def _of_images(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"features": _nan_for_nan(images, self._outputs(images))}

    def _of_edge_images(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"features": self._edge_outputs(images)}


def _rows_of(trunk: keras.Model) -> keras.Model:
    """`trunk` with rows in the place of maps: [n, units], whatever the last layer reads."""
    (output,) = trunk.outputs
    if len(output.shape) == 2:
        return trunk
    return keras.Model(trunk.inputs[0], keras.layers.Flatten()(output))


def _to_edge_input(images: tf.Tensor, pixels: Preprocessing) -> tf.Tensor:
    """preprocessing.to_edge_input of numbers: in conversions there is nothing left of the check."""
    return preprocessing.to_edge_input(tf.debugging.check_numerics(images, "images"), pixels)


def _nan_for_nan(images: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
    """`outputs` [n, units], NaN for each of `images` that holds what is no number."""
    if images.dtype.is_floating:  # a pool takes NaN for the smallest of all numbers
        sound = tf.reduce_all(tf.math.is_finite(images), [1, 2, 3])
        outputs = tf.where(sound[:, None], outputs, math.nan)
    return outputs


class _Classifier(_Network):
    """Those of a whole network."""

    def __init__(
        self, model: keras.Model, pixels: Preprocessing, labels_file: str, min_probability: float
    ) -> None:
        super().__init__(model, pixels)
        self._min_probability = min_probability
        # The path becomes an asset: the table is read again wherever the SavedModel is loaded.
        self._names = tf.lookup.StaticHashTable(
            tf.lookup.TextFileInitializer(
                labels_file,
                tf.int64,
                tf.lookup.TextFileIndex.LINE_NUMBER,
                tf.string,
                tf.lookup.TextFileIndex.WHOLE_LINE,
            ),
            _NAMELESS,
        )

    def _of_images(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"probabilities": _nan_for_nan(images, tf.nn.softmax(self._outputs(images)))}

    def _of_edge_images(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"probabilities": tf.nn.softmax(self._edge_outputs(images))}

    def _answer(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        probabilities = tf.nn.softmax(self._outputs(images))
        scores, class_ids = tf.math.top_k(probabilities, min(TOP, probabilities.shape[-1]))
        names = self._names.lookup(tf.cast(class_ids, tf.int64))
        if self._min_probability:
            unknown = scores[:, :1] < self._min_probability
            scores, class_ids, names = (
                tf.where(unknown, tf.concat([first, best[:, :-1]], 1), best)
                for first, best in (
                    (1 - scores[:, :1], scores),
                    (tf.fill(tf.shape(unknown), -1), class_ids),
                    (tf.fill(tf.shape(unknown), NONE), names),
                )
            )
        return {
            "probabilities": probabilities,
            "class_ids": class_ids,
            "scores": scores,
            "names": names,
        }


def write(
    model: keras.Model,
    manifest: Manifest,
    path: str | os.PathLike,
    next_free: Callable[[pathlib.Path], pathlib.Path] | None = None,
    pictures: record.Record | None = None,
) -> pathlib.Path:
    """Writes the SavedModel to `path`, which appears only when it is complete and was read again by
    another process; returns where it is: `next_free(path)` where `path` was taken in the meantime.

    Without labels it is a part, which gives features. `pictures` is the data.record.Record
    of what the model was trained on, if there is one.

    Raises UserError if it cannot be written, or answers otherwise than `model`.
    """
    path = pathlib.Path(path).absolute()
    artifacts.check_path(path)
    manifest = dataclasses.replace(
        manifest,
        features=surgery.name_of_features(model) if has_features(model) else "",
        batch_sizes=manifest.batch_sizes or BATCH_SIZES,
    )
    pixels = manifest.settings.preprocessing
    try:
        with disk.appearing(path, folder=True, next_free=next_free) as appearing:
            unfinished = appearing.path
            if manifest.labels:
                labels_file = unfinished / bounds.LABELS
                labels_file.write_text(manifest.text_of_labels(), encoding="utf-8")
                least = manifest.settings.min_probability
                module = _Classifier(model, pixels, str(labels_file), least)
            else:
                module = _Network(model, pixels)
            tf.saved_model.save(module, str(unfinished), module.signatures())
            if manifest.labels:
                labels_file.unlink()  # a copy is among the assets
            canonical.rewrite(unfinished)
            extra = unfinished / artifacts.EXTRA
            extra.mkdir()
            (extra / bounds.MANIFEST).write_text(manifest.text())
            if pictures:
                (extra / record.FILE).write_bytes(pictures.to_bytes())
            warmup = extra / artifacts.WARMUP
            _write_warmup(warmup, pixels.resize, manifest.batch_sizes)
            _check(unfinished, model, pixels)
            card_text = card.text(manifest, "saved_model")
            (unfinished / card.FILE).write_text(card_text, encoding="utf-8")
            (extra / artifacts.SUMS).write_text(artifacts.sums(unfinished))
    except (OSError, tf.errors.OpError) as error:
        raise artifacts.unwritable(path, error) from None
    return appearing.path


def _write_warmup(path: pathlib.Path, side: int, sizes: Iterable[int]) -> None:
    """A TFRecord of tensorflow.serving.PredictionLog: one request of each size of a batch, of grey
    pictures `side` pixels wide.

    The messages are written by hand, because their package is not otherwise needed. Field numbers:
    prediction_log.proto, predict.proto and model.proto of tensorflow_serving/apis.
    """
    picture = tf.io.encode_jpeg(tf.fill([side, side, 3], tf.constant(128, tf.uint8))).numpy()
    with tf.io.TFRecordWriter(str(path)) as writer:
        for size in sizes:
            files = tf.make_tensor_proto([picture] * size).SerializeToString()
            spec = _field(1, b"alexnet") + _field(3, DEFAULT_SIGNATURE.encode())
            request = _field(1, spec) + _field(2, _field(1, b"image_bytes") + _field(2, files))
            writer.write(_field(6, _field(1, request)))


def _field(number: int, payload: bytes) -> bytes:
    """A field of a protocol buffer that holds bytes: tag, length, payload."""
    length, prefix = len(payload), bytearray([number << 3 | 2])
    while length > 127:
        prefix.append(length & 127 | 128)
        length >>= 7
    return bytes(prefix) + bytes([length]) + payload


# Runs in a process that has neither this package nor Keras: what was written, and nothing of this
# process, gives the answers.
_FRESH_PROCESS = """
import os, sys
sys.modules["alexnet_tf"] = sys.modules["keras"] = None
import numpy as np, tensorflow as tf
signatures, given = tf.saved_model.load(sys.argv[1]).signatures, np.load(sys.argv[2])
files = tf.map_fn(tf.io.encode_png, tf.constant(given["pictures"]), fn_output_signature=tf.string)
images = tf.constant(given["images"])
answers = {}
for name, dtype in (("images", tf.float32), ("images_uint8", tf.uint8), ("edge", tf.float32)):
    answers[name] = signatures[name](images=tf.cast(images, dtype))[sys.argv[3]]
answers["serving_default"] = signatures["serving_default"](image_bytes=files)[sys.argv[3]]
if "features" in signatures:
    answers["features"] = signatures["features"](image_bytes=files)["features"]
np.savez(sys.argv[2], **answers)
"""


def _check(path: pathlib.Path, model: keras.Model, pixels: Preprocessing) -> None:
    """Has another process load what was written and answer, and compares with the Keras model.

    Raises UserError if they differ.
    """
    rng = np.random.default_rng(0)
    images = rng.integers(
        0, 256, [2, pixels.image_size, pixels.image_size, pixels.channels], np.uint8
    )
    pictures = rng.integers(0, 256, [2, pixels.resize + 3, pixels.resize, 3], np.uint8)
    cropped = tf.stack([preprocessing.central_crop(picture, pixels) for picture in pictures])
    is_whole = surgery.has_projection(model)
    answer = "probabilities" if is_whole else "features"
    exchanged = path / ".check.npz"
    np.savez(exchanged, images=images, pictures=pictures)
    result = subprocess.run(
        # -P: or Python would import the user's random.py, say, from the current folder
        [PYTHON, "-P", "-c", _FRESH_PROCESS, path, exchanged, answer],
        env=os.environ | {"CUDA_VISIBLE_DEVICES": "-1"},  # all of a GPU's memory is taken here
        capture_output=True,
        text=True,
    )
    if result.returncode:
        lines = result.stderr.strip().splitlines()
        why = lines[-1] if lines else f"the process that loaded it exited with {result.returncode}"
        if result.returncode == -signal.SIGKILL:
            why = "the process that loaded it was killed, perhaps for lack of memory"
        raise UserError(f"What was written does not load ({why}); nothing was exported.")
    with np.load(exchanged) as answers:
        answers = dict(answers)
    exchanged.unlink()
    of_images, of_files = outputs = [
        np.asarray(model(preprocessing.to_network_input(batch, pixels), training=False))
        for batch in (images, cropped)
    ]
    rounding = 1.0
    if is_whole:
        rounding = max(1.0, np.abs(outputs).max() / _LOGITS)
        of_images, of_files = (tf.nn.softmax(logits).numpy() for logits in outputs)
    expected = dict.fromkeys((IMAGES, IMAGES_UINT8, EDGE), of_images)
    expected[DEFAULT_SIGNATURE] = of_files
    if has_features(model):
        expected[FEATURES] = _rows_of(surgery.trunk(model))(
            preprocessing.to_network_input(cropped, pixels), training=False
        ).numpy()
    for name, values in expected.items():
        difference = np.abs(answers[name] - values).max() / max(1, np.abs(values).max())
        if not difference < _TOLERANCE * (1.0 if name == FEATURES else rounding):
            raise UserError(
                f"The SavedModel differs from the Keras model by {difference:.2g} ({name}); nothing"
                " was exported."
            )
