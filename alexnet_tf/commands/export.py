"""A trained model to a SavedModel that serves, converts and classifies without this package.

    python -m alexnet_tf.export --model_dir=models/alexnet --output=saved_models/alexnet

Signatures, all over one set of weights, and all for any number N >= 1 of pictures: a server merges requests of several clients
into one batch, whatever the signature, so that none may be for one picture alone.

    serving_default  image_bytes: string [N], JPEG or PNG files of any size
                     -> probabilities float32 [N, classes]; class_ids int32, names string, scores float32, each [N, 5],
                        best first (fewer than 5 where there are fewer classes)
    features         image_bytes, as above -> features float32 [N, units], what the last hidden layer (fc7) puts out: whoever
                     compares or indexes pictures has files, and they go through the same pixels as for an answer
    images           images: float32 [N, image_size, image_size, channels], RGB 0..255, scaled and cropped already
                     -> probabilities float32 [N, classes]
    images_uint8     the same for uint8: a quarter of the bytes on the wire
    edge             as `images`, in operators that small runtimes execute fast: tools/convert_tflite.py reads it

One picture of a batch that does not decode fails the batch: an answer made up for it could not be told from a true one.
The pixels go through alexnet_tf/preprocessing.py as they do in evaluation. Beside the graph lie
    assets/labels.txt           a class name a line, in the order of the probabilities
    assets.extra/manifest.json  variant, preprocessing, accuracy, training settings, versions, sha256 of the weights
    assets.extra/pictures.npz    digests of the pictures that it was trained on, by which evaluate knows them
    assets.extra/tf_serving_warmup_requests  what TensorFlow Serving answers to itself before it serves
    assets.extra/SHA256SUMS     of all other files; `sha256sum -c assets.extra/SHA256SUMS` reads it in the version's folder
"""

import pathlib

from absl import flags

from alexnet_tf import console
from alexnet_tf.commands import app
from alexnet_tf.data import record
from alexnet_tf.errors import UserError
from alexnet_tf.exports import artifacts, saved_model
from alexnet_tf.preprocessing import Preprocessing
from alexnet_tf.training import checkpoints

FLAGS = flags.FlagValues()
_JSON = app.define_json(FLAGS)
_MODEL_DIR = app.define_model_dir(FLAGS)
_OUTPUT = flags.DEFINE_string("output", "saved_models/alexnet", "The folder that holds the versions.", flag_values=FLAGS)
_VERSION = flags.DEFINE_string("version", "1", "Number of the version's folder; next: one more than the highest there is.", flag_values=FLAGS)















def main():
    model, settings, state = checkpoints.load_model(_MODEL_DIR.value, console.note)
    output = pathlib.Path(_OUTPUT.value)
    path = output / _version(output)
    digest = checkpoints.weights_digest(model)
    there = path.exists()
    manifest = {
        "variant": settings["variant"], "preprocessing": settings["preprocessing"], "classes": len(settings["class_names"]),
        "step": state["step"], "evaluation": state["figures"], "weights_sha256": digest,
        "training": {key: settings[key] for key in ("flags", "versions", "commit")}, "export": app.provenance()}
    if there:
        stored = artifacts.read_manifest(path)
        other = [name for name in artifacts.IDENTITY if stored[name] != manifest[name]]
        if artifacts.read_labels(path) != settings["class_names"]:
            other.append("class names")
        if other:
            raise UserError(f"{path} is there already, with other {', '.join(other)}; pass --version=next, or remove it.")
    else:
        saved_model.write(model, Preprocessing(**settings["preprocessing"]), settings["class_names"], manifest, path,
                          record.read(_MODEL_DIR.value))
    print(f"{path}{' is there already, from the same weights' * there}:")
    size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    app.report({"parameters": model.count_params(), "megabytes": size / 1e6,
                "signatures": "serving_default, features, images, images_uint8, edge"}, _JSON.value)


def _version(output):
    if _VERSION.value == "next":
        return str(1 + max((int(path.name) for path in output.glob("*") if path.name.isdecimal()), default=0))
    if not _VERSION.value.isdecimal() or int(_VERSION.value) < 1:
        raise UserError(f"--version={_VERSION.value}: a server knows versions by number; use 1, 2, ... or next.")
    return str(int(_VERSION.value))
