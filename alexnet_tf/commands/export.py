"""Exports a trained model as a SavedModel: it serves, converts, classifies without this package.

    alexnet export --model_dir=models/alexnet --output=saved_models/alexnet

Its signatures take files (serving_default, and features, the output of the last hidden layer) or
pixels (images, images_uint8, and edge, which alexnet convert reads), any number at once. Beside the
graph lie the labels, a manifest (variant, preprocessing, accuracy, training settings, versions,
digest of the weights), digests of the pictures that it was trained on, and SHA256SUMS.
alexnet_tf/exports/saved_model.py describes all of it.
"""

import pathlib

from absl import flags

from alexnet_tf import console, disk, jobs, networks
from alexnet_tf.commands import app

FLAGS = flags.FlagValues()
_JSON = app.define_json(FLAGS)
_MODEL_DIR = app.define_model_dir(FLAGS)
_OUTPUT = flags.DEFINE_string(
    "output", "saved_models/alexnet", "The folder that holds the versions.", flag_values=FLAGS
)
_VERSION = flags.DEFINE_string(
    "version",
    "1",
    "Number of the version's folder; next: one more than the highest there is.",
    flag_values=FLAGS,
)


def main():
    output = pathlib.Path(_OUTPUT.value)
    before = set(disk.numbered(output))
    network = networks.load(_MODEL_DIR.value)
    path = jobs.export(network, output, _VERSION.value)
    there = int(path.name) in before
    console.result(f"{path}{' is there already, from the same weights' * there}:")
    size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    app.report(
        {
            "parameters": network.model.count_params(),
            "megabytes": size / 1e6,
            "signatures": "serving_default, features, images, images_uint8, edge",
        },
        _JSON.value,
    )
