"""A trained model to a SavedModel that serves, converts and classifies without this package.

    alexnet export --model_dir=models/alexnet --output=saved_models/alexnet

Signatures, all over one set of weights, and all for any number N >= 1 of pictures: a server merges
requests of several clients into one batch, whatever the signature, so that none may be for one
picture alone.

    serving_default  image_bytes: string [N], JPEG or PNG files of any size
                     -> probabilities float32 [N, classes]; class_ids int32, names string, scores float32, each [N, 5],
                        best first (fewer than 5 where there are fewer classes)
    features         image_bytes, as above -> features float32 [N, units], what the last hidden layer (fc7) puts out: whoever
                     compares or indexes pictures has files, and they go through the same pixels as for an answer
    images           images: float32 [N, image_size, image_size, channels], RGB 0..255, scaled and cropped already
                     -> probabilities float32 [N, classes]
    images_uint8     the same for uint8: a quarter of the bytes on the wire
    edge             as `images`, in operators that small runtimes execute fast: alexnet convert reads it

One picture of a batch that does not decode fails the batch: an answer made up for it could not be
told from a true one. The pixels go through alexnet_tf/preprocessing.py as they do in evaluation.
Beside the graph lie
    assets/labels.txt           a class name a line, in the order of the probabilities
    assets.extra/manifest.json  variant, preprocessing, accuracy, training settings, versions, sha256 of the weights
    assets.extra/pictures.npz    digests of the pictures that it was trained on, by which evaluate knows them
    assets.extra/tf_serving_warmup_requests  what TensorFlow Serving answers to itself before it serves
    assets.extra/SHA256SUMS     of all other files; `sha256sum -c assets.extra/SHA256SUMS` reads it in the version's folder
"""

import pathlib

from absl import flags

from alexnet_tf import disk, jobs, networks
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
    print(f"{path}{' is there already, from the same weights' * there}:")
    size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    app.report(
        {
            "parameters": network.model.count_params(),
            "megabytes": size / 1e6,
            "signatures": "serving_default, features, images, images_uint8, edge",
        },
        _JSON.value,
    )
