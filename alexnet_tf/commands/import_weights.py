"""Other people's pretrained weights to one file that goes wherever a model directory goes.

    alexnet import-weights --source=bvlc_alexnet.caffemodel --output=models/bvlc_alexnet.npz
    alexnet export --model_dir=models/bvlc_alexnet.npz --output=saved_models/bvlc_alexnet
    alexnet finetune --pretrained=models/bvlc_alexnet.npz --dataset=folder --data_dir=pictures

Reads Caffe's .caffemodel (bvlc_alexnet, bvlc_reference_caffenet), Toronto's bvlc_alexnet.npy, torchvision's weights as .pth or
.safetensors, and our own: a model directory, or the weights.npz of one of its checkpoints. None of those frameworks is needed, and
nothing in a file is run. The output holds the weights by variable path, the variant, the class names, and what the network expects
of its pixels.
"""

import dataclasses
import pathlib

import numpy as np
from absl import flags

from alexnet_tf import console
from alexnet_tf.commands import app
from alexnet_tf.data import imagenet
from alexnet_tf.errors import UserError
from alexnet_tf.training import checkpoints
from alexnet_tf.weights import formats, published

FLAGS = flags.FlagValues()
_JSON = app.define_json(FLAGS)
_SOURCE = flags.DEFINE_string("source", None, "A .caffemodel, .npy, .npz, .pth or .safetensors file, or a model directory.",
                              required=True, flag_values=FLAGS)
_OUTPUT = flags.DEFINE_string("output", None, "The .npz file to write; it is replaced if it is there.", required=True, flag_values=FLAGS)
_LABELS = flags.DEFINE_string("labels", None, "A text file with a class name a line, in the order of the outputs; default: those "
                              "of ImageNet for 1000 outputs.", flag_values=FLAGS)
_VARIANT = flags.DEFINE_enum("variant", None, ["caffe", "caffenet"], "Which of the two a Caffe file holds whose layers do not "
                             "tell; default: caffe.", flag_values=FLAGS)


def main():
    source, output = pathlib.Path(_SOURCE.value), pathlib.Path(_OUTPUT.value)
    if output.suffix != ".npz" or not output.absolute().parent.is_dir():
        raise UserError(f"--output={output}: name a .npz file in a folder that exists.")
    arrays, settings, figures = _from_model_dir(source) if source.is_dir() else _from_file(source)
    checkpoints.write_weights_file(output, arrays, settings)
    pixels = settings["preprocessing"]
    print(f"{output}:")
    app.report(figures | {
        "variant": settings["variant"], "classes": len(settings["class_names"]),
        "parameters": sum(array.size for array in arrays.values()),
        "pixels": f"RGB in 0..255 less ({', '.join(f'{level:.4g}' for level in pixels['mean'])}), over {pixels['std']:g}; "
                  f"{pixels['image_size']} x {pixels['image_size']} of a shorter side of {pixels['resize']}",
        "megabytes": output.stat().st_size / 1e6}, _JSON.value)


def _from_model_dir(source):
    """(arrays, settings, what to report) of a model directory of ours, its newest checkpoint, or of a weights file."""
    model, settings, state = checkpoints.load_model(source, console.note)
    arrays = {variable.path: np.asarray(variable.value) for variable in model.weights}
    if _LABELS.value:
        settings = settings | {"class_names": _class_names(len(settings["class_names"]))}
    return arrays, settings | {"source": {"file": str(source), "published": state["figures"]}}, {"step": state["step"]}


def _from_file(source):
    content = formats.read_content(source)
    weights = formats.parse(content, source)
    if "settings.json" in weights.arrays:  # a weights file already
        return _from_model_dir(source)
    if source.name == "weights.npz":  # of a checkpoint of ours, which knows nothing of its pixels
        settings = checkpoints.read_settings(source.absolute().parent.parent.parent)
        if settings is None:
            raise UserError(f"{source} lies in no model directory, which would tell of its pixels; pass the model directory.")
        return weights.arrays, settings | {"source": {"file": str(source), "published": None}}, {}
    known, sha256 = published.recognise(content)
    variant, arrays, pixels = published.convert(weights, source, _VARIANT.value or known and known.variant)
    origin = {"file": source.name, "sha256": sha256, "published": None}
    figures = {"sha256": sha256}
    if known:
        origin |= {"published": {"top_1": known.top_1, "top_5": known.top_5}, **dataclasses.asdict(known)}
        figures |= {"recognised as": known.name, "claimed top-1, top-5": f"{known.top_1}, {known.top_5}", "licence": known.licence}
    else:
        console.note(f"{source.name} is none of the published files that are known by their digests; read as {variant}.")
    settings = {"variant": variant, "image_size": pixels.image_size, "class_names": _class_names(len(arrays["fc8/bias"])),
                "preprocessing": dataclasses.asdict(pixels), "dropout_rate": 0.5, "source": origin,
                "flags": {"dataset": "imagenet2012", "data_dir": None, "seed": 0}}
    return arrays, settings | app.provenance(), figures


def _class_names(outputs):
    """--labels, or the classes of ImageNet, or numbers. Raises UserError unless there is one for each of `outputs`."""
    if _LABELS.value:
        try:
            names = pathlib.Path(_LABELS.value).read_text().splitlines()
        except (OSError, ValueError) as error:
            raise UserError(f"--labels={_LABELS.value} cannot be read as text ({error}).") from None
        if len(names) != outputs or not all(name.strip() for name in names):
            raise UserError(f"--labels={_LABELS.value} has {len(names)} lines for {outputs} outputs; give each output one name.")
        imagenet.refuse_background(names)
        return list(imagenet.readable(names))
    synsets = tuple(imagenet.names_by_synset())
    if outputs == len(synsets) + 1:
        raise UserError(f"{_SOURCE.value} has 1001 outputs, which are not ImageNet's 1000 classes; one of them may be a background "
                        "class, and which one the file does not say. Pass --labels, or weights with 1000 outputs.")
    if outputs != len(synsets):
        console.note(f"{outputs} outputs are not the classes of ImageNet: they are called by their numbers; --labels names them.")
        return [str(number) for number in range(outputs)]
    return list(imagenet.readable(synsets))
