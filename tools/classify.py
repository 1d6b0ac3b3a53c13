"""Pictures to their most probable classes, by a SavedModel or a .tflite file.

    python tools/classify.py --model=saved_models/alexnet/1 flower.jpg
    python tools/classify.py --model=alexnet.tflite flower.jpg
"""

import pathlib

from absl import flags

from alexnet_tf import app  # before TensorFlow, which it quiets

import tensorflow as tf

from alexnet_tf import artifacts
from alexnet_tf.errors import UserError

_MODEL = flags.DEFINE_string("model", "saved_models/alexnet/1", "A version's folder that export wrote, or a .tflite file.")


def main(pictures):
    if not pictures:
        raise UserError("No picture given; pass the paths of JPEG or PNG files.")
    contents = [_read(picture) for picture in pictures]
    classify = artifacts.open_classifier(_MODEL.value)
    answers = {}
    for picture, content in zip(pictures, contents):
        try:
            answers[picture] = classify(content)
        except tf.errors.InvalidArgumentError:
            raise UserError(f"{picture} does not decode as a picture; pass JPEG or PNG files.") from None
        print(picture)
        for name, probability in answers[picture]:
            print(f"  {probability:.4f}  {name}")
    app.write_json(answers)


def _read(picture):
    try:
        return pathlib.Path(picture).read_bytes()
    except OSError as error:
        raise UserError(f"{picture} cannot be read ({error.strerror}).") from None


if __name__ == "__main__":
    app.run(main, arguments=True)
