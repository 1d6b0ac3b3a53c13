"""A SavedModel to a .tflite file, refused when the two disagree on real pictures.

    python tools/convert_tflite.py --saved_model=saved_models/alexnet/1 --output=alexnet.tflite

Reads the SavedModel alone, and pictures of the data set that the model was trained on: of its evaluation split to compare the
answers, of its training split to calibrate int8. Built-in operators only. Labels, normalisation and what goes in and out stand
in the file as other programs expect it (alexnet_tf/tflite_metadata.py); `unzip` reads labels.txt and manifest.json.
"""

import os
import pathlib

import numpy as np
from absl import flags

from alexnet_tf.commands import app
from alexnet_tf.data import datasets
from alexnet_tf.errors import UserError
from alexnet_tf.exports import artifacts, tflite, tflite_metadata
from alexnet_tf.preprocessing import Preprocessing

FLAGS = flags.FlagValues()
_JSON = app.define_json(FLAGS)
app.define_dataset(FLAGS)
_SAVED_MODEL = flags.DEFINE_string("saved_model", "saved_models/alexnet/1", "The version's folder that export wrote.", flag_values=FLAGS)
_OUTPUT = flags.DEFINE_string("output", "alexnet.tflite", "The file to write; it is replaced if it is there.", flag_values=FLAGS)
_QUANTIZATION = flags.DEFINE_enum(
    "quantization", "none", ["none", "float16", "dynamic", "int8"],
    "none: float32; float16: weights; dynamic: weights in 8 bits; int8: weights and activations, uint8 in and out.", flag_values=FLAGS)
_PICTURES = flags.DEFINE_integer(
    "pictures", 0, "How many pictures of the evaluation split to compare on; 0: 100, and 2000 for dynamic and int8.", lower_bound=0, flag_values=FLAGS)

_CALIBRATION_PICTURES = 200








def main():
    output = pathlib.Path(_OUTPUT.value)
    if output.is_dir() or not os.access(output.absolute().parent, os.W_OK):
        raise UserError(f"--output={output} cannot be written; name a file in a folder that exists.")
    manifest = artifacts.read_manifest(_SAVED_MODEL.value) | {"quantization": _QUANTIZATION.value}
    class_names = artifacts.read_labels(_SAVED_MODEL.value)
    if _is_there(output, manifest, class_names):
        print(f"{output} is there already, from the same weights:")
        app.report({"quantization": _QUANTIZATION.value, "megabytes": output.stat().st_size / 1e6}, _JSON.value)
        return
    artifacts.check_sums(_SAVED_MODEL.value)
    pixels = Preprocessing(**manifest["preprocessing"])
    seen = artifacts.read_record(_SAVED_MODEL.value)
    dataset = datasets.open_dataset(*app.dataset_or(FLAGS, manifest["training"]["flags"]), seen=seen)
    if list(dataset.class_names) != class_names:
        raise UserError(f"--dataset={dataset.name} has other classes than {_SAVED_MODEL.value}; pass pictures like those that it "
                        "was trained on.")

    int8 = _QUANTIZATION.value == "int8"
    calibration = [image for image, _ in tflite.images_of(dataset.train, pixels, _CALIBRATION_PICTURES)] if int8 else []
    content = tflite.convert(_SAVED_MODEL.value, _QUANTIZATION.value, calibration)
    content = tflite_metadata.complete(content, pixels, "".join(f"{name}\n" for name in class_names), manifest, seen)
    figures = tflite.compare(_SAVED_MODEL.value, content, dataset.evaluation, pixels, _QUANTIZATION.value, _PICTURES.value)
    unfinished = output.with_name(f".{output.name}.{os.getpid()}")
    try:
        unfinished.write_bytes(content)
        unfinished.replace(output)
    except OSError as error:
        raise UserError(f"--output={output} cannot be written ({error.strerror}).") from None
    finally:
        unfinished.unlink(missing_ok=True)
    print(f"{output}:")
    if int8:
        in_float = set().union(*map(tflite.kept_in_float, artifacts.operator_outputs(content, np.float32)))
        figures["in float32"] = ", ".join(sorted(in_float)) or "nothing"
    app.report({"quantization": _QUANTIZATION.value, "megabytes": len(content) / 1e6} | figures, _JSON.value)


def _is_there(output, manifest, class_names):
    try:
        there = artifacts.Tflite(output.read_bytes())
    except (OSError, UserError):
        return False
    same = all(there.manifest[key] == manifest[key] for key in (*artifacts.IDENTITY, "quantization"))
    return same and there.labels == class_names
