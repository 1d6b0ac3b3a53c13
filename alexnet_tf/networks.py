"""Opens a network, whatever holds it: the one home of that.

    network = load("models/flowers")            # what a training wrote
    network = load("models/bvlc_alexnet.npz")   # what alexnet import-weights wrote
    network = load("saved_models/flowers")      # what alexnet export wrote: its newest version
    network = load("exports/flowers/1/model.onnx")  # or .safetensors, .keras, which it wrote
    network = load("flowers_int8.tflite")       # what alexnet convert wrote
    network.classify("daisy.jpg")               # [("daisy", 0.97), ...]

Whatever the form, it is a Network with the same methods.
"""

import abc
import contextlib
import copy
import dataclasses
import functools
import math
import os
import pathlib
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from alexnet_tf import bounds, console, disk, picture_files, preprocessing
from alexnet_tf.classifiers import LEAST_FLOAT, Classifier, best_classes, check_probability
from alexnet_tf.data import pictures, record
from alexnet_tf.edge import tflite
from alexnet_tf.errors import UserError, check_kind, first_few
from alexnet_tf.exports import artifacts, files, onnx
from alexnet_tf.manifest import DEFAULT_SIGNATURE, IMAGES
from alexnet_tf.network import surgery
from alexnet_tf.network.layers import PixelNormalization
from alexnet_tf.network.model import VARIANTS
from alexnet_tf.pixels import Preprocessing, default_resize
from alexnet_tf.provenance import origin
from alexnet_tf.settings import OWN, Settings
from alexnet_tf.training import ancestry, checkpoints, devices, evaluation, run_settings

_NO_WEIGHTS = {artifacts.Tflite: "no weights in float32", onnx.Onnx: "a graph, and no weights"}
_OF_RUN = ("step", "train_images_per_s")  # among figures: not what an evaluation measures
_TELLS_RATE = 0.05  # nats: another dropout rate would change the odds of classes by more


@dataclasses.dataclass(frozen=True, eq=False)
class Network(abc.ABC):
    """A trained network with what its pixels and answers mean."""

    path: str  # what it was opened from; of a folder of versions, the newest
    # with its class names, its preprocessing and how it was trained; too long for a repr, of which
    # a notebook shows all
    settings: Settings = dataclasses.field(repr=False)
    step: int  # of its training; 0 where that is not known
    figures: dict | None  # of its last evaluation, or those that were published with it
    # of the pictures that it was trained on; None: it has none
    record: "record.Record | None" = dataclasses.field(repr=False)
    # checkpoints.weights_digest of `model` once it is there, which its user may change afterwards
    opened_with: str = dataclasses.field(default="", init=False, repr=False)

    @property
    @abc.abstractmethod
    def model(self) -> keras.Model:
        """The Keras model: float [batch, s, s, c] as preprocessing.to_network_input gives them to
        logits. Raises UserError where there are no weights in float32 to make it of.
        """

    @abc.abstractmethod
    def classifier(self) -> Classifier:
        """For batches, in tf.functions: what evaluation judges."""

    def __deepcopy__(self, memo: dict) -> "Network":
        """With a model of its own, whose weights may change; what never does is shared."""
        made = copy.copy(self)
        if is_handed_out(self):
            model = surgery.copied(self.model)
            ancestry.inherit(model, self.model)
            object.__setattr__(made, "model", model)
        return made

    def __getstate__(self) -> dict:
        """For pickle, without what is built anew when it is asked for."""
        return {name: value for name, value in vars(self).items() if name != "_classifier"}

    def __setstate__(self, state: dict) -> None:
        vars(self).update(state)
        if not is_handed_out(self):
            return
        if self.settings.variant != OWN:  # which Keras does not store
            self.model.variant, self.model.dropout_rate = (
                self.settings.variant,
                self.settings.dropout_rate,
            )
        if ancestry.of(self.model) == ancestry.Ancestry():  # it was stored, and not copied
            ancestry.note(self.model, self.path, self.record, self.settings.descent)

    def check_whole(self) -> None:
        """Raises UserError for a part of a network, which is not a classifier yet."""
        if self.settings.missing:
            there = [layer.name for layer in self.model.layers if layer.weights]
            raise UserError(
                f"{self.path} holds {there[0]} to {there[-1]} of a network, without "
                f"{', '.join(self.settings.missing)}: it is not a classifier yet; alexnet "
                f"finetune --pretrained={self.path} makes one of it."
            )

    def answer(
        self, picture: bytes, min_probability: float | None = None
    ) -> list[tuple[str, float]]:
        """As `classify`, of the bytes of a file. Raises tf.errors.InvalidArgumentError for bytes
        that are no picture.
        """
        pictures.check_header(picture)
        least = self._least(min_probability)
        return best_classes(self._of_file(picture), self.class_names, least)

    def _least(self, min_probability: float | None) -> float:
        """What a class has to reach. Raises UserError for what the network's answers never do."""
        return self.settings.min_probability if min_probability is None else min_probability

    def _of_file(self, picture: bytes) -> np.ndarray:
        crop = preprocessing.decode_central_crop(picture, self.preprocessing)
        return self.probabilities(crop[None])[0]

    @property
    def step_of_weights(self) -> int:
        """The step that its weights are those after: that of the best, if a training kept these."""
        return (self.figures or {}).get("step", self.step)

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
        content, name = picture_files.content(picture)
        with _naming(name):
            pictures.check_header(content)
            return preprocessing.decode_central_crop(content, self.preprocessing).numpy()

    def probabilities(self, images: Any) -> np.ndarray:
        """float32 [n, classes] of uint8 [n, s, s, c], such as `prepare` makes them, or of the same
        levels of 0..255 in another type; NaN for an image that holds a number which is not finite.
        Raises UserError for others.
        """
        images = bounds.array(images, "images")
        bounds.check_images(images, self.preprocessing)
        answers = np.array(self._classifier.probabilities(tf.constant(images)), np.float32)
        # Not by the network: a pool takes NaN for the smallest of all numbers, and tanh infinity
        # for 1.
        if images.dtype.kind == "f":
            answers[~np.isfinite(images).all((1, 2, 3))] = math.nan
        return answers

    def classify(
        self, picture: str | os.PathLike | bytes, min_probability: float | None = None
    ) -> list[tuple[str, float]]:
        """The most probable classes of a picture, a path or the bytes of a file, best first.

        Five (name, probability), or all where there are fewer. Where the best is below
        `min_probability`, in 0..1, by default that of the settings, the first name is
        classifiers.NONE, "none of these", with the probability that the best class is wrong.
        Raises UserError for what is no picture, and where the network answers NaN.
        """
        content, name = picture_files.content(picture)
        with _naming(name):
            return self.answer(content, min_probability)

    @functools.cached_property
    def _classifier(self) -> Classifier:
        return self.classifier()

    def _classifier_of(
        self, probabilities: Callable, least: float = LEAST_FLOAT, name: str | None = None
    ) -> Classifier:
        return Classifier(
            name or self.path,
            probabilities,
            self.preprocessing,
            self.class_names,
            self.settings.flags,
            least,
            self.record,
        )

    def _classifier_of_model(self, name: str | None = None) -> Classifier:
        return self._classifier_of(
            evaluation.model_probabilities(self.model, self.preprocessing),
            sys.float_info.min,  # it answers in float64
            name,
        )


def load(path: str | os.PathLike, note: Callable[[str], None] = console.note) -> Network:
    """The Network in `path`: a model directory, a weights file, an export's folder (a version, or
    the folder of versions, of which the newest is taken), or the .safetensors, .keras or .onnx file
    in it, or a .tflite file.

    A checkpoint that is damaged is told by `note`, and the one before it taken. Raises UserError
    for what holds no trained network.
    """
    path = disk.local(path)
    if path.is_file():
        if (path.parent / bounds.MANIFEST).is_file() and path.name in artifacts.FORMATS.values():
            artifacts.check_if_listed(path.parent)
        disk.check_fetched(path)
        if path.suffix.lower() == ".keras":
            return _in_keras(path)
        if path.suffix.lower() == ".onnx":
            return _for_runtime(path, onnx.Onnx(path.read_bytes(), path, os.cpu_count() or 1))
        if tflite.is_tflite(path):
            return _for_runtime(path, artifacts.Tflite(path, path, threads=0))
        return _in_training(path, note)
    if not path.is_dir():
        raise UserError(
            f"There is no {path}; name a model directory, a weights file, an export "
            "or a .tflite file."
        )
    version = artifacts.newest_version(path)
    if version is None:
        if not checkpoints.holds_model(path) and (inside := _networks_in(path)):
            raise UserError(f"{path} is not a model, but holds {inside}; pass one of these.")
        return _in_training(path, note)
    form = artifacts.format_of(version)
    if form and form != "saved_model":
        return load(version / artifacts.FORMATS[form], note)
    return _exported(version)


def _networks_in(folder: pathlib.Path) -> str:
    """The first few paths in `folder` that look like something that load opens."""
    found = [
        str(path)
        for path in sorted(folder.iterdir())
        if path.suffix.lower() in (".tflite", ".keras", ".onnx", ".safetensors", ".npz")
        or path.is_dir()
        and (checkpoints.holds_model(path) or artifacts.newest_version(path))
    ]
    return first_few(found)


def with_min_probability(network: Network, min_probability: float) -> Network:
    """`network`, which answers "none of these" where no class reaches `min_probability`. Raises
    UserError for what is not in 0..1, and for a part of a network.
    """
    network.check_whole()
    least = check_probability(min_probability)
    # A copy, for the model of an export is built once, and may have been changed since.
    changed = copy.copy(network)
    settings = dataclasses.replace(network.settings, min_probability=least)
    object.__setattr__(changed, "settings", settings)
    return changed


def of_weights(network: Network, digest: str, note: Callable[[str], None]) -> Network:
    """`network`, whose weights have this `digest`. If it was opened with others, without its step
    and figures, which belong to those, but with their descent; `note` says so.
    """
    if network.opened_with == digest:
        return network
    told, settings = network.settings.others, network.settings
    if network.step or network.figures or "metrics" in told:
        note(
            f"{network.path} no longer has the weights that it was opened with: their step and "
            "figures are not passed on"
        )
    others = {name: value for name, value in told.items() if name != "metrics"}
    if settings.descent:
        others["pretrained"] = settings.descent
    settings = dataclasses.replace(settings, source=None, others=others)
    return Trained(network.path, settings, 0, None, network.record, network.model)


@dataclasses.dataclass(frozen=True, eq=False)
class Trained(Network):
    """With its weights in float32 at hand."""

    model: keras.Model = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "opened_with", checkpoints.weights_digest(self.model))

    def is_as_opened(self) -> bool:
        """Whether the weights of `model` are those that it was opened with."""
        return self.opened_with == checkpoints.weights_digest(self.model)

    def classifier(self) -> Classifier:
        self.check_whole()
        return self._classifier_of_model(f"{self.path}, step {self.step_of_weights}")


def _in_training(path: pathlib.Path, note: Callable[[str], None]) -> Network:
    loaded = checkpoints.load_model(path, note)
    settings = loaded.settings
    model, seen = loaded.model, loaded.record
    network = Trained(str(path), settings, loaded.step, loaded.figures, seen, model)
    if path.is_dir() and (metrics := checkpoints.read_evaluation(path, network.opened_with)):
        settings = dataclasses.replace(settings, others=settings.others | {"metrics": metrics})
        object.__setattr__(network, "settings", settings)
        # the checkpoint has those of the pictures that were looked at, and may have chosen
        stays = {name: value for name, value in (loaded.figures or {}).items() if name in _OF_RUN}
        measured = metrics["figures"] | {"evaluated_on": metrics["split"]}
        object.__setattr__(network, "figures", stays | measured)
    ancestry.note(model, path, seen, settings.descent)
    return network


def _in_keras(path: pathlib.Path) -> Network:
    model, manifest, seen = files.read_keras(path)
    ancestry.note(model, path, seen, manifest.settings.descent)
    return Trained(str(path), manifest.settings, manifest.step, manifest.evaluation, seen, model)


def as_network(network: Network | str | os.PathLike) -> Network:
    """`network` itself, or what lies at the path that it is. Raises UserError for anything else."""
    wanted = "what alexnet_tf.train or load gives, or a path"
    check_kind(Network | str | os.PathLike, network, "network", wanted)
    return network if isinstance(network, Network) else load(network)


def of_model(
    path: str | os.PathLike, model: keras.Model, settings: Settings, step: int, figures: dict | None
) -> Network:
    """The Network of a Keras model that is in memory already; `path` is where it is stored."""
    seen = record.read(path)
    ancestry.note(model, path, seen, settings.descent)
    return Trained(str(path), settings, step, figures, seen, model)


@dataclasses.dataclass(frozen=True, eq=False)
class _Exported(Network):
    loaded: Any  # kept, for a signature does not keep its variables
    rate_is_known: bool = True

    def classifier(self) -> Classifier:
        self.check_whole()
        if is_handed_out(self):  # its weights and layers may be others than those of the graph
            return self._classifier_of_model()
        artifacts.check_finite(self.loaded)

        def probabilities(images: tf.Tensor) -> tf.Tensor:
            return self._ask(IMAGES, images=tf.cast(images, tf.float32))

        return self._classifier_of(probabilities)

    def _ask(self, name: str, **asked: tf.Tensor) -> tf.Tensor:
        """The probabilities that a signature gives."""
        signature = self.loaded.signatures[name]
        return devices.outside_scopes(lambda: signature(**asked)["probabilities"])()

    def _of_file(self, picture: bytes) -> np.ndarray:
        self.check_whole()
        if is_handed_out(self):
            return super()._of_file(picture)
        return self._ask(DEFAULT_SIGNATURE, image_bytes=tf.constant([picture]))[0].numpy()

    @functools.cached_property
    def model(self) -> keras.Model:
        arrays = artifacts.variables(self.loaded)
        try:
            model = self.settings.build()
            # Of the scopes that tell weights of one path apart Keras keeps none.
            if checkpoints.of_one_path(model):
                found = [variable for _, variable in artifacts.in_order(self.loaded)]
                values = list(zip(model.weights, found, strict=True))
            else:
                values = [
                    (one, arrays[checkpoints.stored_as(one.path, arrays)]) for one in model.weights
                ]
            surgery.give_weights(model, values)
        except UserError:
            raise
        except (ValueError, KeyError) as error:
            raise UserError(
                f"The weights of {self.path} do not match its manifest ({error}); export it again."
            ) from None
        if not self.settings.missing:
            self._check_answers(model)
        object.__setattr__(self, "opened_with", checkpoints.weights_digest(model))
        ancestry.note(model, self.path, self.record, self.settings.descent)
        vars(self).pop("_classifier", None)  # that of the graph
        return model

    def _check_answers(self, model: keras.Model) -> None:
        """Raises UserError for a `model` that answers otherwise than the graph: exports once did
        not say with which dropout rate outputs are multiplied, and lenet5 had sigmoids.
        """
        pixels = self.preprocessing
        shape = [1, pixels.image_size, pixels.image_size, pixels.channels]
        images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
        own = evaluation.model_probabilities(model, pixels)(images)
        exported = np.asarray(self.classifier().probabilities(images), np.float64)
        expected, found = (np.log(np.maximum(one, LEAST_FLOAT)) for one in (exported, own))
        if not np.abs(found - expected).max() < _TELLS_RATE:
            if self.settings.variant == OWN:
                raise UserError(
                    f"{self.path} was exported by an earlier version, and Keras now builds a "
                    "network from it that answers differently; pass the model that it was "
                    "exported from to alexnet_tf.export, which says why."
                )
            reason = f"by an earlier version, whose {self.settings.variant} was another network"
            if not self.rate_is_known:
                reason = f"without its dropout rate, which is not {self.settings.dropout_rate}"
            raise UserError(f"{self.path} was exported {reason}; export the model again.")


def _exported(version: pathlib.Path) -> Network:
    loaded = artifacts.load(version)  # first: of a damaged one it says so
    manifest = artifacts.read_manifest(version)
    return _Exported(
        str(version),
        manifest.settings,
        manifest.step,
        manifest.evaluation,
        artifacts.read_record(version),
        loaded,
        manifest.rate_is_known,
    )


@dataclasses.dataclass(frozen=True, eq=False)
class _ForRuntime(Network):
    """In a file for small runtimes, which answer for one picture at a time."""

    opened: artifacts.Tflite | onnx.Onnx

    def check_whole(self) -> None:
        if isinstance(self.opened, artifacts.Tflite):  # the other form has no parts
            self.opened.check_whole()

    @property
    def model(self) -> keras.Model:
        raise UserError(
            f"{self.path} holds {_NO_WEIGHTS[type(self.opened)]} that could be trained, drawn or "
            "exported; pass the model directory or the export that it was made from."
        )

    def _least(self, min_probability: float | None) -> float:
        least = super()._least(min_probability)
        if isinstance(self.opened, artifacts.Tflite):
            self.opened.check_reachable(check_probability(least))
        return least

    def classifier(self) -> Classifier:
        self.check_whole()

        def one_by_one(images: np.ndarray) -> np.ndarray:
            return np.stack([self.opened.probabilities(image) for image in images])

        def probabilities(images: tf.Tensor) -> tf.Tensor:
            answers = tf.numpy_function(one_by_one, [images], tf.float32)
            return tf.ensure_shape(answers, [None, len(self.class_names)])

        return self._classifier_of(probabilities, self.opened.least)


def _for_runtime(path: pathlib.Path, opened: artifacts.Tflite | onnx.Onnx) -> Network:
    return _ForRuntime(
        str(path),
        opened.settings,
        opened.manifest.step,
        opened.manifest.evaluation,
        opened.record,
        opened,
    )


def check_precision(network: Network, precision: str) -> None:
    """Raises UserError where `precision` is not float32 and `network` computes as it was exported,
    or, as a model of its user's own, as its description says, whatever is asked for.
    """
    if precision != "float32" and not isinstance(network, Trained):
        raise UserError(
            f"precision={precision} is for model directories and weights files; {network.path} "
            "computes as it was exported: omit it."
        )
    check_own_precision(network, precision)


def check_own_precision(network: Network, precision: str) -> None:
    """Raises UserError where `precision` is not float32 and `network` is of its user's own."""
    if precision != "float32" and network.settings.variant == OWN:
        raise UserError(
            f"precision={precision} is for the variants; {network.path} is a model of your own, "
            "which computes in float32 here: omit it."
        )


@contextlib.contextmanager
def under_policy(policy: str) -> Iterator[None]:
    """Layers that are made here compute by that dtype policy, whatever it is outside."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def in_float32(network: Network) -> Network:
    """`network`; one whose layers were made under a mixed dtype policy, of the same weights made in
    float32. Raises UserError for a policy whose weights are in half precision.
    """
    policies = {layer.dtype_policy.name for layer in network.model._flatten_layers()}
    for policy in policies & {"bfloat16", "float16"}:
        raise UserError(
            f"{network.path} has layers of the dtype policy {policy}, but exports are in float32; "
            f"make them in float32, or under mixed_{policy}."
        )
    if not any(policy.startswith("mixed_") for policy in policies):
        return network
    try:
        with under_policy("float32"):
            model = network.settings.build()
    except ValueError as error:
        raise UserError(f"{network.path} is not exported: {error}.") from None
    surgery.give_weights(model, zip(model.weights, network.model.get_weights(), strict=True))
    told = network.settings, network.step, network.figures, network.record
    made = Trained(network.path, *told, model)
    object.__setattr__(made, "opened_with", network.opened_with)  # the weights may be others since
    return made


def is_handed_out(network: Network) -> bool:
    """Whether its model is there already, so that somebody may have changed it."""
    return "model" in vars(network)


def check_unchanged(network: Network) -> None:
    """Raises UserError where the layers of network.model compute something else than its settings
    say: they can be changed in Python.
    """
    if not is_handed_out(network):
        return
    settings, of = network.settings, network.model
    own = settings.variant == OWN  # layers of anybody may need what a description lacks
    try:
        other = settings.build() if own else surgery.without_weights(settings.build)
    except UserError:
        raise
    except ValueError:  # of a class that is not registered: there is nothing to compare with
        return
    if not surgery.computes_as(of, other):
        raise UserError(
            f"The layers of {network.path} were changed in its model; pass the model itself, with "
            "class_names=network.class_names and preprocessing=network.preprocessing, to export "
            "them as they are."
        )


def pixels_of(model: keras.Model, given: Preprocessing | None) -> Preprocessing:
    """What is done to the pixels of a Keras model of one input: what was `given`, or, for a model
    that alexnet_tf.AlexNet made or is part of, which subtracts its mean itself, no more than to
    scale and crop.

    Raises UserError where neither, or both, would do.
    """
    check_kind(
        Preprocessing | None, given, "preprocessing", "an alexnet_tf.Preprocessing, or omit it"
    )
    if given:
        try:
            bounds.check_pixels(given)
        except ValueError as error:
            raise UserError(f"preprocessing= makes no sense: {error}.") from None
    own = surgery.pixels_of(model)
    if given and (0 < max(given.mean, default=0) <= 1 or 0 < given.std < 1):
        raise UserError(
            f"preprocessing= has mean={given.mean} and std={given.std:g}; give levels in 0..255, "
            "255 times those in 0..1."
        )
    if given:
        side, channels, shape = given.image_size, given.channels, tuple(model.inputs[0].shape[1:])
        if len(shape) != 3 or any(
            there not in (None, made) for there, made in zip(shape, (side, side, channels))
        ):
            raise UserError(
                f"preprocessing= makes images of {side} x {side} x {channels}, but the model "
                f"reads the shape {shape}; give it the model's."
            )
        if reads_integers(model) and given.changes_levels:
            raise UserError(
                f"preprocessing= subtracts {given.mean} and divides by {given.std:g}, but the "
                f"model reads whole numbers ({model.inputs[0].dtype}), to which that would be "
                "truncated; build it on keras.Input(shape) in float32, or pass mean=(0.0, ...) "
                "and std=1.0."
            )
    if own is None:
        if given is None:
            raise UserError(
                "preprocessing= is missing: a model of your own does not say what its pixels are; "
                "pass an alexnet_tf.Preprocessing."
            )
        return given
    if given and given.changes_levels:
        todo = "omit preprocessing="
        if own.variant not in VARIANTS:
            todo = f"pass mean={(0.0,) * given.channels} and std=1.0"
        if not any(given.mean):
            shape = given.image_size, given.image_size, given.channels
            todo += (
                f", and, if it was trained on pixels divided by {given.std:g}, pass "
                f"keras.Sequential([keras.Input({shape}), keras.layers.Rescaling(1 / "
                f"{given.std:g}), model])"
            )
        raise UserError(
            f"preprocessing= subtracts {given.mean} and divides by {given.std:g}, and so does the "
            f"model, in {own.name}; {todo}."
        )
    if given:
        return given
    side, _, channels = _square(model)
    if own.variant not in VARIANTS:
        raise UserError(
            "preprocessing= is missing: the model subtracts its mean itself, but does not say "
            f"which part of a picture it sees; pass alexnet_tf.Preprocessing({side}, RESIZE, "
            f"{channels}, {(0.0,) * channels}, 1.0), RESIZE being what the shorter side is scaled "
            "to before the crop."
        )
    resize = default_resize(VARIANTS[own.variant], side)
    return Preprocessing(side, resize, channels, (0.0,) * channels, 1.0)


def bare(model: keras.Model) -> tuple[keras.Model, PixelNormalization] | None:
    """(the network of a variant, of the layers of `model` themselves, and what comes before it) of
    what alexnet_tf.AlexNet made with its top, ending in logits; None of any other model.
    """
    built = surgery.as_built(model)
    if built is None:
        return None
    same, _ = built
    network = keras.Model(model.layers[1].output, model.outputs[0], name=same.name)
    network.variant, network.dropout_rate = same.variant, same.dropout_rate
    return network, model.layers[1]


def reads_integers(model: keras.Model) -> bool:
    """Whether what is passed to a Keras model of one input is cut to whole numbers."""
    return not tf.as_dtype(model.inputs[0].dtype).is_floating


def _square(model: keras.Model) -> tuple[int, int, int]:
    """The shape of the images that a Keras model reads. Raises UserError unless they are squares of
    one size.
    """
    shape = tuple(model.inputs[0].shape[1:])
    if len(shape) != 3 or shape[0] != shape[1] or None in shape:
        raise UserError(
            f"The model reads images of the shape {shape}; it needs squares of one size: build it "
            "on keras.Input((s, s, channels)), or with input_shape=."
        )
    return shape


def of_keras(
    model: keras.Model,
    class_names: Sequence[str] | None,
    pixels: Preprocessing | None,
    note: Callable[[str], None] = console.silence,
) -> Network:
    """The Network of a Keras model of pixels or network input to logits or probabilities.

    `pixels` may be None for one that alexnet_tf.AlexNet made or is part of, which reads 0..255:
    which part of a picture it is taken to see is told by `note`. Raises UserError for one that does
    not tell enough.
    """
    if class_names is None:
        raise UserError(
            "class_names= is missing: a Keras model does not know its classes; pass them in the "
            "order of its outputs."
        )
    class_names = bounds.in_order(class_names, "class_names")
    whole = surgery.logits_of(model)
    _square(whole)
    batch, *shape = whole.outputs[0].shape
    if len(shape) != 1:
        raise UserError(
            f"The model outputs {(batch, *shape)}, not one number for each class, "
            f"{(batch, len(class_names))}; put keras.layers.Flatten() or GlobalAveragePooling2D() "
            "before its last layer."
        )
    (classes,) = shape
    if len(class_names) != classes:
        raise UserError(f"class_names= has {len(class_names)} names for {classes} outputs.")
    built = surgery.as_built(whole)
    is_given, pixels = pixels is not None, pixels_of(whole, pixels)
    surgery.check_logits(whole, pixels)
    if not is_given:
        size, side = pixels.image_size, pixels.resize
        note(
            f"preprocessing= is left out: the shorter side of a picture becomes {side}, and the "
            f"model sees the central {size} x {size} of it, in 0..255; if it was trained on whole "
            f"squares, pass alexnet_tf.Preprocessing({size}, {size}, {pixels.channels}, "
            f"{(0.0,) * pixels.channels}, 1.0)"
        )
    if built:
        pixels = dataclasses.replace(pixels, mean=built[1].mean, std=built[1].std)
    network = built[0] if built else surgery.as_it_is(whole)
    variant = getattr(network, "variant", OWN)
    descent = ancestry.of(model).descent
    try:
        settings = Settings(
            variant,
            pixels,
            class_names,
            0.0 if variant == OWN else network.dropout_rate,
            architecture=run_settings.architecture(network, pixels) if variant == OWN else None,
            others=origin() | ({"pretrained": descent} if descent else {}),
        )
    except ValueError as error:
        raise UserError(f"The model cannot be exported: {error}.") from None
    return Trained("the Keras model", settings, 0, None, None, network)


@contextlib.contextmanager
def _naming(name: str) -> Iterator[None]:
    """Turns the error of bytes that do not decode into a UserError that names them."""
    try:
        yield
    except tf.errors.InvalidArgumentError as error:
        raise UserError(f"{name} {picture_files.no_picture(pictures.reason(error))}") from None
