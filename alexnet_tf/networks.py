"""Opens a network, whatever holds it: the one home of that.

    network = load("models/flowers")            # what a training wrote
    network = load("models/bvlc_alexnet.npz")   # what alexnet import-weights wrote
    network = load("saved_models/flowers")      # what alexnet export wrote: its newest version
    network = load("flowers_int8.tflite")       # what alexnet convert wrote
    network.classify("daisy.jpg")               # [("daisy", 0.97), ...]

Whatever the form, it is a Network with the same methods.
"""

import abc
import contextlib
import dataclasses
import functools
import os
import pathlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from alexnet_tf import console, picture_files, preprocessing
from alexnet_tf.classifiers import LEAST_FLOAT, Classifier, best_classes
from alexnet_tf.data import pictures, record
from alexnet_tf.edge import tflite
from alexnet_tf.errors import UserError
from alexnet_tf.exports import artifacts
from alexnet_tf.preprocessing import Preprocessing
from alexnet_tf.settings import Settings
from alexnet_tf.training import checkpoints, evaluation

_TELLS_RATE = 0.05  # nats: another dropout rate would change the odds of classes by more


@dataclasses.dataclass(frozen=True, eq=False)
class Network(abc.ABC):
    """A trained network with what its pixels and answers mean."""

    path: str  # what it was opened from; of a folder of versions, the newest
    settings: Settings  # with its class names, its preprocessing and how it was trained
    step: int  # of its training; 0 where that is not known
    figures: dict | None  # of its last evaluation, or those that were published with it
    record: record.Record | None  # of the pictures that it was trained on; None: it has none

    @property
    @abc.abstractmethod
    def model(self) -> keras.Model:
        """The Keras model: float [batch, s, s, c] as preprocessing.to_network_input gives them to
        logits. Raises UserError where there are no weights in float32 to make it of.
        """

    @abc.abstractmethod
    def classifier(self) -> Classifier:
        """For batches, in tf.functions: what evaluation judges."""

    def check_whole(self) -> None:
        """Raises UserError for a part of a network, which is not a classifier yet."""
        if self.settings.missing:
            there = [layer.name for layer in self.model.layers if layer.weights]
            raise UserError(
                f"{self.path} holds {there[0]} to {there[-1]} of a network, without "
                f"{', '.join(self.settings.missing)}: it is not a classifier yet; alexnet "
                f"finetune --pretrained={self.path} makes one of it."
            )

    def answer(self, picture: bytes) -> list[tuple[str, float]]:
        """As `classify`, of the bytes of a file. Raises tf.errors.InvalidArgumentError for bytes
        that are no picture.
        """
        image = preprocessing.decode(picture, self.preprocessing.resize)
        crop = preprocessing.central_crop(image, self.preprocessing)
        return best_classes(self.probabilities(crop[None])[0], self.class_names)

    @property
    def class_names(self) -> tuple:
        """In the order of the outputs."""
        return self.settings.class_names

    @property
    def preprocessing(self) -> Preprocessing:
        """What has to be done to the pixels of a picture."""
        return self.settings.preprocessing

    def prepare(self, picture: str | os.PathLike | bytes) -> np.ndarray:
        """What the network sees of a picture, a path or the bytes of a file: uint8 [s, s, c].

        Raises UserError for what is no picture.
        """
        content, name = _content(picture)
        with _naming(name):
            image = preprocessing.decode(content, self.preprocessing.resize)
            return preprocessing.central_crop(image, self.preprocessing).numpy()

    def probabilities(self, images: Any) -> np.ndarray:
        """float32 [n, classes] of uint8 [n, s, s, c], such as `prepare` makes them."""
        images = tf.convert_to_tensor(images)
        return np.asarray(self._classifier.probabilities(images), np.float32)

    def classify(self, picture: str | os.PathLike | bytes) -> list[tuple[str, float]]:
        """The most probable classes of a picture, a path or the bytes of a file, best first.

        Five (name, probability), or all where there are fewer. Raises UserError for what is no
        picture.
        """
        content, name = _content(picture)
        with _naming(name):
            return self.answer(content)

    @functools.cached_property
    def _classifier(self) -> Classifier:
        return self.classifier()


def load(path: str | os.PathLike, note: Callable[[str], None] = console.note) -> Network:
    """The Network in `path`: a model directory, a weights file, an export's folder (a version, or
    the folder of versions, of which the newest is taken) or a .tflite file.

    A checkpoint that is damaged is told by `note`, and the one before it taken. Raises UserError
    for what holds no trained network.
    """
    path = pathlib.Path(path)
    if path.is_file():
        if path.suffix == ".keras":
            raise UserError(
                f"{path} holds neither class names nor preprocessing; open it by "
                "keras.saving.load_model, or name the model directory."
            )
        return _of_tflite(path) if tflite.is_tflite(path) else _in_training(path, note)
    if not path.is_dir():
        raise UserError(
            f"There is no {path}; name a model directory, a weights file, an export "
            "or a .tflite file."
        )
    version = artifacts.newest_version(path)
    return _exported(version) if version else _in_training(path, note)


@dataclasses.dataclass(frozen=True, eq=False)
class _Trained(Network):
    model: keras.Model = None

    def classifier(self) -> Classifier:
        self.check_whole()
        probabilities = evaluation.model_probabilities(self.model, self.preprocessing)
        return Classifier(
            f"{self.path}, step {self.step}",
            probabilities,
            self.preprocessing,
            self.class_names,
            self.settings.flags,
            record=self.record,
        )


def _in_training(path: pathlib.Path, note: Callable[[str], None]) -> Network:
    model, settings, state = checkpoints.load_model(path, note)
    return of_model(path, model, settings, state["step"], state["figures"])


def of_model(
    path: str | os.PathLike, model: keras.Model, settings: Settings, step: int, figures: dict | None
) -> Network:
    """The Network of a Keras model that is in memory already; `path` is where it is stored."""
    return _Trained(str(path), settings, step, figures, record.read(path), model)


@dataclasses.dataclass(frozen=True, eq=False)
class _Exported(Network):
    loaded: Any  # kept, for a signature does not keep its variables
    rate_is_known: bool = True

    def classifier(self) -> Classifier:
        def probabilities(images: tf.Tensor) -> tf.Tensor:
            answer = self.loaded.signatures["images"](images=tf.cast(images, tf.float32))
            return answer["probabilities"]

        return Classifier(
            self.path,
            probabilities,
            self.preprocessing,
            self.class_names,
            self.settings.flags,
            LEAST_FLOAT,
            self.record,
        )

    def answer(self, picture: bytes) -> list[tuple[str, float]]:
        answer = self.loaded.signatures["serving_default"](image_bytes=tf.constant([picture]))
        return [
            (name.decode(), float(score))
            for name, score in zip(answer["names"][0].numpy(), answer["scores"][0])
        ]

    @functools.cached_property
    def model(self) -> keras.Model:
        arrays = artifacts.variables(self.loaded)
        try:
            model = self.settings.build()
            for variable in model.weights:
                variable.assign(arrays[variable.path])
        except (ValueError, KeyError) as error:
            raise UserError(
                f"The weights of {self.path} are not those of its manifest ({error}); "
                "export it again."
            ) from None
        if not self.rate_is_known:
            self._check_rate(model)
        return model

    def _check_rate(self, model: keras.Model) -> None:
        """Exports once did not say with which dropout rate outputs are multiplied."""
        pixels = self.preprocessing
        shape = [1, pixels.image_size, pixels.image_size, pixels.channels]
        images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
        own = evaluation.model_probabilities(model, pixels)(images)
        exported = np.asarray(self.classifier().probabilities(images), np.float64)
        odds = np.log(np.maximum(exported, LEAST_FLOAT))
        if not np.abs(np.log(own) - odds).max() < _TELLS_RATE:
            raise UserError(
                f"{self.path} was exported without its dropout rate, which is not "
                f"{self.settings.dropout_rate}; export the model again."
            )


def _exported(version: pathlib.Path) -> Network:
    manifest = artifacts.read_manifest(version)
    training = manifest.get("training", {"flags": {}})
    rate = manifest.get("dropout_rate", training["flags"].get("dropout_rate"))
    settings = _settings(
        version, manifest, artifacts.read_labels(version), 0.5 if rate is None else rate
    )
    return _Exported(
        str(version),
        settings,
        manifest.get("step", 0),
        manifest.get("evaluation"),
        artifacts.read_record(version),
        tf.saved_model.load(str(version)),
        rate is not None,
    )


def _settings(
    path: pathlib.Path, manifest: dict, labels: list[str], dropout_rate: float
) -> Settings:
    training = manifest.get("training", {"flags": {}})
    stored = {
        name: manifest[name]
        for name in ("variant", "preprocessing", "architecture")
        if name in manifest
    }
    stored |= {name: training[name] for name in ("flags", "versions", "commit") if name in training}
    try:
        return Settings.from_json(stored | {"class_names": labels, "dropout_rate": dropout_rate})
    except ValueError as error:
        raise UserError(f"The manifest of {path} makes no sense: {error}.") from None


@dataclasses.dataclass(frozen=True, eq=False)
class _OfTflite(Network):
    tflite: artifacts.Tflite

    @property
    def model(self) -> keras.Model:
        raise UserError(
            f"{self.path} holds no weights in float32 that could be trained, drawn or "
            "exported; pass the model directory or the export that it was made from."
        )

    def classifier(self) -> Classifier:
        alone = threading.Lock()  # an interpreter has one set of buffers; replicas have threads

        def one_by_one(images: np.ndarray) -> np.ndarray:
            with alone:
                return np.stack([self.tflite.probabilities(image) for image in images])

        def probabilities(images: tf.Tensor) -> tf.Tensor:
            answers = tf.numpy_function(one_by_one, [images], tf.float32)
            return tf.ensure_shape(answers, [None, len(self.class_names)])

        return Classifier(
            self.path,
            probabilities,
            self.preprocessing,
            self.class_names,
            self.settings.flags,
            self.tflite.least,
            self.record,
        )


def _of_tflite(path: pathlib.Path) -> Network:
    file = artifacts.Tflite(path, path, threads=0)
    settings = _settings(path, file.manifest, file.labels, 0.0)
    return _OfTflite(
        str(path),
        settings,
        file.manifest.get("step", 0),
        file.manifest.get("evaluation"),
        file.record,
        file,
    )


def _content(picture: str | os.PathLike | bytes) -> tuple[bytes, str]:
    """(the bytes, what to call them in a message). Raises UserError if the file cannot be read."""
    if isinstance(picture, bytes):
        return picture, "What was passed"
    try:
        return pathlib.Path(picture).read_bytes(), picture_files.shown(picture)
    except OSError as error:
        raise UserError(
            f"{picture_files.shown(picture)} cannot be read ({error.strerror})."
        ) from None


@contextlib.contextmanager
def _naming(name: str) -> Iterator[None]:
    """Turns the error of bytes that do not decode into a UserError that names them."""
    try:
        yield
    except tf.errors.InvalidArgumentError as error:
        raise UserError(
            f"{name} does not decode as a picture ({pictures.reason(error)})."
        ) from None
