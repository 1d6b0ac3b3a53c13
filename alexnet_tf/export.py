"""A trained model to a SavedModel that serves, converts and classifies without this package.

    python -m alexnet_tf.export --model_dir=models/alexnet --output=saved_models/alexnet

Signatures, all over one set of weights:

    serving_default  image_bytes: string [N], JPEG or PNG files of any size
                     -> probabilities float32 [N, classes]; class_ids int32, names string, scores float32, each [N, 5],
                        best first (fewer than 5 where there are fewer classes)
    images           images: float32 [N, image_size, image_size, 3], RGB 0..255, scaled and cropped already
                     -> probabilities float32 [N, classes]
    image            the same for exactly one image: fixed shapes, which converters for small devices want

The pixels go through alexnet_tf/preprocessing.py as they do in evaluation. Beside the graph lie
    assets/labels.txt           a class name a line, in the order of the probabilities
    assets.extra/manifest.json  variant, preprocessing, accuracy, training settings, versions, sha256 of the weights
"""

import json
import os
import pathlib
import shutil

from absl import flags

from alexnet_tf import app  # before TensorFlow, which it quiets

import numpy as np
import tensorflow as tf

from alexnet_tf import artifacts, checkpoints, console, preprocessing
from alexnet_tf.errors import UserError
from alexnet_tf.preprocessing import Preprocessing

_MODEL_DIR = app.define_model_dir()
_OUTPUT = flags.DEFINE_string("output", "saved_models/alexnet", "The folder that holds the versions.")
_VERSION = flags.DEFINE_string("version", "1", "Number of the version's folder; next: one more than the highest there is.")


class _Classifier(tf.Module):
    """The functions behind the signatures. Holds the Keras model's variables, each once."""

    def __init__(self, model, pixels, labels_file):
        super().__init__()
        self._variables = [variable.value for variable in model.variables]
        # Not the model itself: tracked as a Keras object as well, its weights would be written twice.
        self._logits = lambda images: model(preprocessing.to_network_input(images, pixels), training=False)
        self._pixels = pixels
        # The path becomes an asset: the table is read again wherever the SavedModel is loaded.
        self._names = tf.lookup.StaticHashTable(tf.lookup.TextFileInitializer(
            labels_file, tf.int64, tf.lookup.TextFileIndex.LINE_NUMBER, tf.string, tf.lookup.TextFileIndex.WHOLE_LINE), "?")

    def _probabilities(self, images):
        return tf.nn.softmax(self._logits(images))

    @tf.function
    def images(self, images):
        return {"probabilities": self._probabilities(images)}

    @tf.function
    def image_bytes(self, image_bytes):
        def prepare(picture):
            return preprocessing.central_crop(preprocessing.decode(picture, self._pixels.resize), self._pixels)

        size, channels = self._pixels.image_size, self._pixels.channels
        images = tf.map_fn(prepare, image_bytes, fn_output_signature=tf.TensorSpec([size, size, channels], tf.uint8))
        probabilities = self._probabilities(images)
        scores, class_ids = tf.math.top_k(probabilities, min(artifacts.TOP, probabilities.shape[-1]))
        return {"probabilities": probabilities, "class_ids": class_ids, "scores": scores,
                "names": self._names.lookup(tf.cast(class_ids, tf.int64))}


def write_saved_model(model, pixels, class_names, manifest, path):
    """Writes the SavedModel to `path`, which appears only when it is complete. Raises UserError if it cannot be written."""
    path = pathlib.Path(path).absolute()
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")  # no number, so that a watching server passes it over
    try:
        unfinished.mkdir(parents=True)
        labels_file = unfinished / "labels.txt"
        labels_file.write_text("".join(f"{name}\n" for name in class_names))
        module = _Classifier(model, pixels, str(labels_file))
        shape = [pixels.image_size, pixels.image_size, pixels.channels]
        signatures = {
            "serving_default": module.image_bytes.get_concrete_function(tf.TensorSpec([None], tf.string, name="image_bytes")),
            # Before `images`: a trace for any number of pictures would be taken for one picture as well.
            "image": module.images.get_concrete_function(tf.TensorSpec([1, *shape], tf.float32, name="images")),
            "images": module.images.get_concrete_function(tf.TensorSpec([None, *shape], tf.float32, name="images")),
        }
        tf.saved_model.save(module, str(unfinished), signatures)
        labels_file.unlink()  # a copy is among the assets
        (unfinished / "assets.extra").mkdir()
        (unfinished / "assets.extra/manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")
        _check(unfinished, model, pixels)
        unfinished.rename(path)
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror or error}); pass another --output.") from None
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _check(path, model, pixels):
    """Loads what was written and compares it with the Keras model. Raises UserError if they differ by more than 1e-5."""
    shape = [2, pixels.image_size, pixels.image_size, pixels.channels]
    images = np.random.default_rng(0).uniform(0, 255, shape).astype(np.float32)
    expected = tf.nn.softmax(model(preprocessing.to_network_input(images, pixels), training=False))
    answer = tf.saved_model.load(str(path)).signatures["images"](images=tf.constant(images))["probabilities"]
    difference = float(tf.reduce_max(tf.abs(answer - expected)))
    if not difference < 1e-5:
        raise UserError(f"The SavedModel differs from the Keras model by {difference:.2g} in a probability; nothing is exported.")


def main():
    model, settings, state = checkpoints.load_model(_MODEL_DIR.value, console.note)
    output = pathlib.Path(_OUTPUT.value)
    path = output / _version(output)
    digest = checkpoints.weights_digest(model)
    there = path.exists()
    if there and artifacts.read_manifest(path)["weights_sha256"] != digest:
        raise UserError(f"{path} is there already, from other weights; pass --version=next, or remove it.")
    manifest = {
        "variant": settings["variant"], "preprocessing": settings["preprocessing"], "classes": len(settings["class_names"]),
        "evaluation": state["figures"], "weights_sha256": digest,
        "training": {key: settings[key] for key in ("flags", "versions", "commit")}, "export": app.provenance()}
    if not there:
        write_saved_model(model, Preprocessing(**settings["preprocessing"]), settings["class_names"], manifest, path)
    print(f"{path}{' is there already, from the same weights' * there}:")
    size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    app.report({"parameters": model.count_params(), "megabytes": size / 1e6, "signatures": "serving_default, images, image"})


def _version(output):
    if _VERSION.value == "next":
        return str(1 + max((int(path.name) for path in output.glob("*") if path.name.isdecimal()), default=0))
    if not _VERSION.value.isdecimal() or int(_VERSION.value) < 1:
        raise UserError(f"--version={_VERSION.value}: a server knows versions by number; use 1, 2, ... or next.")
    return str(int(_VERSION.value))


def run():
    app.run(main)


if __name__ == "__main__":
    run()
