"""Pictures to their most probable classes, by a network in whatever form, or by a server.

    alexnet classify --model=saved_models/alexnet flower.jpg
    alexnet classify --model=alexnet.tflite flower.jpg
    alexnet classify --server=http://127.0.0.1:8501 flower.jpg  # or grpc://127.0.0.1:8500

Prints the five most probable classes of each picture, or all where there are fewer.
"""

import pathlib

import tensorflow as tf
from absl import flags

from alexnet_tf import console, networks
from alexnet_tf.commands import app
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

ARGUMENTS = "PICTURE..."


def main(pictures):
    if not pictures:
        raise UserError("No picture given; pass the paths of JPEG, PNG, GIF, BMP or WebP files.")
    contents = [_read(picture) for picture in pictures]
    classify = (
        client.open_server(_SERVER.value, _MODEL_NAME.value)
        if _SERVER.value
        else networks.load(_MODEL.value).answer
    )
    answers = {}
    for picture, content in zip(pictures, contents):
        try:
            answers[picture] = classify(content)
        except tf.errors.InvalidArgumentError as error:
            raise UserError(
                f"{picture} does not decode as a picture ({picture_files.reason(error)}); pass"
                " JPEG, PNG, GIF, BMP or WebP files."
            ) from None
        except ServingError as error:
            raise UserError(
                f"{picture} is refused by --server={_SERVER.value}: {error.message}"
            ) from None
        console.result(picture)
        for name, probability in answers[picture]:
            console.result(f"  {probability:.4f}  {name}")
    app.write_json(answers, _JSON.value)


def _read(picture):
    try:
        return pathlib.Path(picture).read_bytes()
    except OSError as error:
        raise UserError(f"{picture} cannot be read ({error.strerror}).") from None
