"""Finished artifacts, opened for use: what `export` and `tools/convert_tflite.py` wrote, without any of the model's code."""

import io
import json
import os
import pathlib
import threading
import zipfile

import numpy as np
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from alexnet_tf import disk, preprocessing
from alexnet_tf.classifiers import TOP, Classifier
from alexnet_tf.data import record
from alexnet_tf.errors import UserError
from alexnet_tf.preprocessing import Preprocessing

LEAST_FLOAT = float(np.finfo(np.float32).tiny)
SUMS = "SHA256SUMS"
IDENTITY = "weights_sha256", "variant", "preprocessing"  # of a manifest: with the labels, what decides every answer


def open_classifier(path):
    """Returns a function from the bytes of one picture to its best classes, [(name, probability), ...], best first.

    `path` is a version's folder that export wrote, or a .tflite file. Raises UserError if it is neither; the function
    raises tf.errors.InvalidArgumentError for bytes that are no picture.
    """
    path = pathlib.Path(path)
    if path.is_file():
        return Tflite(path.read_bytes(), path).classify
    read_manifest(path)
    signature = tf.saved_model.load(str(path)).signatures["serving_default"]

    def classify(picture):
        answer = signature(image_bytes=tf.constant([picture]))
        return [(name.decode(), float(score)) for name, score in zip(answer["names"][0].numpy(), answer["scores"][0])]

    return classify


def open_for_batches(path):
    """Returns the Classifier of a .tflite file, of a version's folder that export wrote, or of the newest version in a folder.

    To be called in strategy.scope(), which decides where the weights go. Raises UserError if `path` is none of these.
    """
    path = pathlib.Path(path)
    if path.is_file():
        return _tflite_for_batches(path)
    versions = [folder for folder in path.glob("*/") if folder.name.isdecimal()]
    path = max(versions, key=lambda folder: int(folder.name), default=path)
    manifest = read_manifest(path)
    loaded = tf.saved_model.load(str(path))  # kept, for a signature does not keep its variables

    def probabilities(images):
        return loaded.signatures["images"](images=tf.cast(images, tf.float32))["probabilities"]

    return Classifier(str(path), probabilities, Preprocessing(**manifest["preprocessing"]),
                      tuple(read_labels(path)), manifest["training"]["flags"], LEAST_FLOAT, read_record(path))


def _tflite_for_batches(path):
    tflite = Tflite(path.read_bytes(), path, threads=os.cpu_count())
    alone = threading.Lock()  # an interpreter has one set of buffers, and replicas call from threads of their own

    def one_by_one(images):
        with alone:
            return np.stack([tflite.probabilities(image) for image in images])

    def probabilities(images):
        return tf.ensure_shape(tf.numpy_function(one_by_one, [images], tf.float32), [None, len(tflite.labels)])

    return Classifier(str(path), probabilities, tflite.pixels, tuple(tflite.labels), tflite.manifest["training"]["flags"],
                      tflite.least, tflite.record)


def read_manifest(saved_model):
    """The manifest that export wrote beside the graph. Raises UserError where there is none."""
    try:
        return json.loads((pathlib.Path(saved_model) / "assets.extra/manifest.json").read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{saved_model} is no version that python -m alexnet_tf.export wrote ({error}).") from None


def read_record(saved_model):
    """The data.record.Record that export wrote beside the graph, or None. Raises UserError if it is damaged."""
    path = pathlib.Path(saved_model) / "assets.extra" / record.FILE
    return record.Record.from_bytes(path.read_bytes(), path) if path.is_file() else None


def read_labels(saved_model):
    """The class names of a version, in the order of its probabilities. Raises UserError where there are none."""
    try:
        return (pathlib.Path(saved_model) / "assets/labels.txt").read_text().splitlines()
    except (OSError, ValueError) as error:
        raise UserError(f"{saved_model} is no version that python -m alexnet_tf.export wrote ({error}).") from None


def variables(loaded):
    """The weights of a version that tf.saved_model.load has loaded: {"conv1a/kernel": tf.Variable, ...}."""
    return {variable.name.removesuffix(":0"): variable for variable in loaded._variables}


def sums(saved_model):
    """sha256 of each file of a version but the list itself, as `sha256sum` prints them."""
    root = pathlib.Path(saved_model)
    return disk.sums(root, sorted(file.relative_to(root) for file in root.rglob("*") if file.is_file() and file.name != SUMS))


def check_sums(saved_model):
    """Raises UserError unless the files of a version are those that export wrote, bit for bit."""
    try:
        whole = (pathlib.Path(saved_model) / "assets.extra" / SUMS).read_text() == sums(saved_model)
    except OSError as error:
        raise UserError(f"{saved_model} cannot be read ({error}).") from None
    if not whole:
        raise UserError(f"{saved_model} is damaged: its files differ from assets.extra/{SUMS}; export it again.")


class Tflite:
    """A .tflite file with its labels and the manifest of the export that it was made from."""

    def __init__(self, content, name="content", threads=2):
        """`content` is the bytes of the file. Raises UserError if tools/convert_tflite.py did not write it."""
        try:
            with zipfile.ZipFile(io.BytesIO(content)) as files:
                self.labels = files.read("labels.txt").decode().splitlines()
                self.manifest = json.loads(files.read("manifest.json"))
                stored = files.read(record.FILE) if record.FILE in files.namelist() else None
            self.pixels = Preprocessing(**self.manifest["preprocessing"])
            self._run = Interpreter(model_content=content, num_threads=threads).get_signature_runner("image")
        except (ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
            raise UserError(f"{name} is not a file that tools/convert_tflite.py wrote ({error}).") from None
        self.record = None if stored is None else record.Record.from_bytes(stored, name)
        self._dtype = self._run.get_input_details()["images"]["dtype"]
        self._scale, self._zero_point = self._run.get_output_details()["probabilities"]["quantization"]
        self.least = self._scale / 2 or LEAST_FLOAT  # what it rounds to 0 is below that

    def probabilities(self, image):
        """float32 [classes] for one uint8 image [image_size, image_size, channels]."""
        answer = self._run(images=image[None].astype(self._dtype))["probabilities"][0]
        # A quantised output says so by a scale; a float one has scale 0.
        return (answer.astype(np.float32) - self._zero_point) * np.float32(self._scale) if self._scale else answer

    def classify(self, picture):
        image = preprocessing.decode(picture, self.pixels.resize)
        answer = self.probabilities(preprocessing.central_crop(image, self.pixels).numpy())
        return [(self.labels[index], float(answer[index])) for index in np.argsort(-answer, kind="stable")[:TOP]]


def operator_outputs(content, dtype=None):
    """The names of what the operators of a .tflite file put out; with `dtype`, of the tensors of that type alone."""
    interpreter = Interpreter(model_content=content, experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES)
    tensors = {tensor["index"]: tensor for tensor in interpreter.get_tensor_details()}
    outputs = [tensors[index] for operator in interpreter._get_ops_details() for index in operator["outputs"]]
    return [tensor["name"] for tensor in outputs if dtype in (None, tensor["dtype"])]
