"""A SavedModel to a .tflite file, refused when the two disagree on real pictures.

    python tools/convert_tflite.py --saved_model=saved_models/alexnet/1 --output=alexnet.tflite

Reads the SavedModel alone, and pictures of the data set that the model was trained on to compare the answers (and to calibrate
int8). Built-in operators only. The labels and the manifest are appended to the file as a zip archive (labels.txt, manifest.json),
which interpreters pass over and `unzip` reads.
"""

import os
import pathlib

from absl import flags

from alexnet_tf import app  # before TensorFlow, which it quiets

import numpy as np
import tensorflow as tf

from alexnet_tf import artifacts, datasets, preprocessing
from alexnet_tf.errors import UserError
from alexnet_tf.preprocessing import Preprocessing

app.define_dataset()
_SAVED_MODEL = flags.DEFINE_string("saved_model", "saved_models/alexnet/1", "The version's folder that export wrote.")
_OUTPUT = flags.DEFINE_string("output", "alexnet.tflite", "The file to write; it is replaced if it is there.")
_QUANTIZATION = flags.DEFINE_enum(
    "quantization", "none", ["none", "float16", "dynamic", "int8"],
    "none: float32; float16: weights; dynamic: weights in 8 bits; int8: weights and activations, uint8 in and out.")
_PICTURES = flags.DEFINE_integer("pictures", 100, "How many pictures to compare on, and to calibrate int8 with.", lower_bound=1)

# The largest difference of a probability that is accepted; the integer forms are judged by their top-1 answers.
_LARGEST_DIFFERENCE = {"none": 1e-4, "float16": 1e-3}
_LEAST_AGREEMENT = 0.98


def convert(saved_model, quantization, calibration):
    """Returns the bytes of the converted `image` signature. `calibration` holds uint8 images [s, s, c]."""
    converter = tf.lite.TFLiteConverter.from_saved_model(saved_model, signature_keys=["image"])
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    if quantization != "none":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if quantization == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if quantization == "int8":
        converter.representative_dataset = lambda: ({"images": image[None].astype(np.float32)} for image in calibration)
        converter.inference_input_type = converter.inference_output_type = tf.uint8
    return converter.convert()


def compare(saved_model, content, images, quantization):
    """Returns the figures of a comparison on `images`. Raises UserError if the two disagree beyond the bound."""
    tflite = artifacts.Tflite(content, threads=os.cpu_count())
    signature = tf.saved_model.load(saved_model).signatures["image"]
    expected = np.stack([signature(images=image[None].astype(np.float32))["probabilities"][0] for image in images])
    answers = np.stack([tflite.probabilities(image) for image in images])
    agreement = float(np.mean(expected.argmax(1) == answers.argmax(1)))
    difference = float(np.abs(expected - answers).max())
    bound = _LARGEST_DIFFERENCE.get(quantization)
    if not (difference <= bound if bound else agreement >= _LEAST_AGREEMENT):
        raise UserError(f"The converted model differs from {saved_model}: top-1 agreement {agreement:.3f}, largest "
                              f"difference of a probability {difference:.2g} on {len(images)} pictures; nothing was written.")
    return {"pictures compared": len(images), "top-1 agreement": agreement, "largest difference": difference}


def main():
    output = pathlib.Path(_OUTPUT.value)
    if not output.absolute().parent.is_dir():
        raise UserError(f"--output={output}: its folder does not exist; make it first.")
    manifest = artifacts.read_manifest(_SAVED_MODEL.value) | {"quantization": _QUANTIZATION.value}
    if _is_there(output, manifest):
        print(f"{output} is there already, from the same weights:")
        app.report({"quantization": _QUANTIZATION.value, "megabytes": output.stat().st_size / 1e6})
        return
    pixels = Preprocessing(**manifest["preprocessing"])
    dataset = datasets.open_dataset(*app.dataset_or(manifest["training"]["flags"]))

    calibration = _images(dataset.train, pixels) if _QUANTIZATION.value == "int8" else []
    content = convert(_SAVED_MODEL.value, _QUANTIZATION.value, calibration)
    labels = (pathlib.Path(_SAVED_MODEL.value) / "assets/labels.txt").read_text()
    content = artifacts.append_archive(content, labels, manifest)
    figures = compare(_SAVED_MODEL.value, content, _images(dataset.evaluation, pixels), _QUANTIZATION.value)
    unfinished = output.with_name(f".{output.name}.{os.getpid()}")
    try:
        unfinished.write_bytes(content)
        unfinished.replace(output)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        raise UserError(f"--output={output} cannot be written ({error.strerror}).") from None
    print(f"{output}:")
    app.report({"quantization": _QUANTIZATION.value, "megabytes": len(content) / 1e6} | figures)


def _is_there(output, manifest):
    try:
        there = artifacts.Tflite(output.read_bytes()).manifest
    except (OSError, UserError):
        return False
    return all(there[key] == manifest[key] for key in ("weights_sha256", "quantization"))


def _images(split, pixels):
    """What the network sees of `--pictures` pictures of a split: uint8 [s, s, c] each."""
    records = split.read(tf.constant(0, tf.int64)).take(_PICTURES.value)
    with datasets.naming_bad_pictures(split):
        return [preprocessing.central_crop(preprocessing.decode(record["image"], pixels.resize), pixels).numpy()
                for record in records]


if __name__ == "__main__":
    app.run(main)
