"""Pictures to their most probable classes, by a network in whatever form, or by a server.

    alexnet classify --model=saved_models/alexnet flower.jpg
    alexnet classify --model=alexnet.tflite flower.jpg pictures/test  # all that lie below a folder
    alexnet classify --server=http://127.0.0.1:8501 flower.jpg  # or grpc://127.0.0.1:8500

Prints the five most probable classes of each picture, or all where there are fewer. Where none
reaches --min_probability, that of the model by default, "none of these" stands before them, with
the probability that the first of them is wrong.
"""

import functools

import tensorflow as tf
from absl import flags

from alexnet_tf import console, networks
from alexnet_tf.commands import app
from alexnet_tf.data import folders
from alexnet_tf.data import pictures as picture_files
from alexnet_tf.errors import ServingError, UserError
from alexnet_tf.serving import client

FLAGS = flags.FlagValues()
_JSON = app.define_json(FLAGS)
_MODEL = flags.DEFINE_string(
    "model",
    "saved_models/alexnet",
    "An export (a version's folder, or the folder of versions: the "
    "newest), a .tflite file, a model directory or a weights file.",
    flag_values=FLAGS,
)
_SERVER = flags.DEFINE_string(
    "server",
    None,
    "Asks this server instead: http://HOST:8501 or grpc://HOST:8500.",
    flag_values=FLAGS,
)
_MODEL_NAME = flags.DEFINE_string(
    "model_name", "alexnet", "The model's name at the server.", flag_values=FLAGS
)
_MIN_PROBABILITY = app.define_min_probability(FLAGS, "that of the model")

ARGUMENTS = "PICTURE_OR_FOLDER..."


def main(pictures):
    if not pictures:
        raise UserError("No picture given; pass the paths of pictures, or of folders of pictures.")
    if _SERVER.value and _MIN_PROBABILITY.value is not None:
        raise UserError(
            f"--min_probability={_MIN_PROBABILITY.value}: a server answers by that of its export;"
            " leave it out, or export with alexnet export --min_probability."
        )
    files = [file for path in pictures for file in folders.pictures_below(path)]
    for file in files:
        _open(file).close()  # before any is answered
    if _SERVER.value:
        classify = client.open_server(_SERVER.value, _MODEL_NAME.value)
    else:
        network = networks.load(_MODEL.value)
        classify = functools.partial(network.answer, min_probability=_MIN_PROBABILITY.value)
    answers = {}
    for file in files:
        picture = name = picture_files.shown(file)
        with _open(file) as stream:
            content = stream.read()
        try:
            answers[picture] = classify(content)
        except tf.errors.InvalidArgumentError as error:
            raise UserError(
                f"{name} does not decode as a picture ({picture_files.reason(error)}); pass"
                " JPEG, PNG, GIF, BMP or WebP files."
            ) from None
        except ServingError as error:
            raise UserError(
                f"{name} is refused by --server={_SERVER.value}: {error.message}"
            ) from None
        console.result(name)
        for class_name, probability in answers[picture]:
            console.result(f"  {probability:.4f}  {class_name}")
    app.write_json(answers, _JSON.value)


def _open(file):
    try:
        return open(file, "rb")
    except OSError as error:
        raise UserError(f"{picture_files.shown(file)} cannot be read ({error.strerror}).") from None
