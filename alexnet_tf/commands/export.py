"""Exports a trained model: as a SavedModel, which can be served, converted and used without this
package, or as an ONNX, Keras or safetensors file.

    alexnet export --model_dir=models/alexnet --output=saved_models/alexnet
    alexnet export --model_dir=models/alexnet --format=onnx --output=exports/onnx
    alexnet export --pretrained=imagenet --output=saved_models/features

The signatures of a SavedModel take any number of files (serving_default, and features, the output
of the last hidden layer) or of pixels (images, images_uint8, and edge, which alexnet convert
reads). Beside the graph are the labels, a manifest (variant, preprocessing, accuracy, training
settings, versions, digest of the weights), digests of the pictures that it was trained on, and
SHA256SUMS. alexnet_tf/exports/saved_model.py describes all of it.

A part of a network, such as imagenet, the convolutions of torchvision's AlexNet, is not a
classifier: all signatures give its features. It can be exported as a SavedModel or as safetensors.

In the other formats a version's folder holds one file, with labels and manifest in it. An ONNX file
is compared with the network on pictures. Every export comes with a model card, README.md, of what
is recorded of the network, so the folder can be put on a hub as it is.
"""

import pathlib

from absl import flags

from alexnet_tf import console, disk, networks
from alexnet_tf.commands import app
from alexnet_tf.exports import artifacts
from alexnet_tf.jobs.export import export
from alexnet_tf.manifest import FEATURES, SIGNATURES

FLAGS = flags.FlagValues()
_JSON = app.define_json(FLAGS)
_MODEL_DIR = app.define_model_dir(FLAGS)
app.define_pretrained(FLAGS)
_OUTPUT = flags.DEFINE_string(
    "output",
    None,
    f"The folder that holds the versions, all of one format; default: {app.SAVED_MODEL}, or "
    "exports/FORMAT.",
    flag_values=FLAGS,
)
_FORMAT = flags.DEFINE_enum(
    "format",
    "saved_model",
    list(artifacts.FORMATS),
    "saved_model: a folder for TensorFlow, servers and alexnet convert; safetensors: the weights; "
    "onnx: a graph for ONNX Runtime; keras: a .keras file, from pixels to probabilities.",
    flag_values=FLAGS,
)
_VERSION = flags.DEFINE_string(
    "version",
    "1",
    "Number of the version's folder; next: one more than the highest that exists.",
    flag_values=FLAGS,
)
_MIN_PROBABILITY = app.define_min_probability(FLAGS)


def main():
    form = _FORMAT.value
    default = app.SAVED_MODEL if form == "saved_model" else f"exports/{form}"
    output = pathlib.Path(_OUTPUT.value or default)
    before = set(disk.numbered(output))
    network = networks.load(app.fetched(FLAGS) or _MODEL_DIR.value)
    path = export(network, output, _VERSION.value, form, min_probability=_MIN_PROBABILITY.value)
    there = int(path.name) in before
    console.result(f"{path}{' already exists, from the same weights' * there}:")
    size = sum(file.stat().st_size for file in disk.files_below(path))
    signatures = SIGNATURES
    if form == "saved_model" and not artifacts.read_manifest(path).features:
        signatures = tuple(name for name in SIGNATURES if name != FEATURES)
    app.report(
        {
            "parameters": network.model.count_params(),
            "megabytes": size / 1e6,
            "format": form,
        }
        | ({"signatures": ", ".join(signatures)} if form == "saved_model" else {}),
        _JSON.value,
    )
