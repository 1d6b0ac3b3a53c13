"""Converts other people's pretrained weights to a file that works wherever a model directory does.

    alexnet import-weights --source=bvlc_alexnet.caffemodel --output=models/bvlc_alexnet.npz
    alexnet export --model_dir=models/bvlc_alexnet.npz --output=saved_models/bvlc_alexnet
    alexnet finetune --pretrained=models/bvlc_alexnet.npz --dataset=folder --data_dir=pictures

Reads Caffe's .caffemodel (bvlc_alexnet, bvlc_reference_caffenet), Toronto's bvlc_alexnet.npy,
torchvision's weights as .pth or .safetensors, and our own: a model directory, or the weights.npz of
one of its checkpoints. None of those frameworks is needed, and nothing in a file is run. The output
holds the weights by variable path, the variant, the class names, and what the network expects of
its pixels.

A file is read whole, or refused if it has other layers than the network, or describes them
differently. Flags say what a file does not, and a line says what is assumed without them.
"""

import dataclasses
import pathlib
import re

import numpy as np
from absl import flags

from alexnet_tf import console, networks, pretrained
from alexnet_tf.bounds import MANIFEST, check_class_names
from alexnet_tf.commands import app
from alexnet_tf.data import imagenet
from alexnet_tf.errors import UserError
from alexnet_tf.training import checkpoints
from alexnet_tf.weights import conversion, formats, published, statements

FLAGS = flags.FlagValues()
_JSON = app.define_json(FLAGS)
_SOURCE = flags.DEFINE_string(
    "source",
    None,
    "A .caffemodel, .npy, .npz, .pth or .safetensors file, a model directory, or an export of any"
    " format but onnx.",
    required=True,
    flag_values=FLAGS,
)
_OUTPUT = flags.DEFINE_string(
    "output",
    None,
    "The .npz file to write; an existing one is replaced.",
    required=True,
    flag_values=FLAGS,
)
_LABELS = flags.DEFINE_string(
    "labels",
    None,
    "A text file with one class name a line, in the order of the outputs; or "
    "imagenet, for ImageNet's names. Default: ImageNet's for a published file that is "
    "known by its digest, otherwise the names that the file has, or class 0, class 1, "
    "...",
    flag_values=FLAGS,
)
_VARIANT = flags.DEFINE_enum(
    "variant",
    None,
    ["caffe", "caffenet"],
    "Which of the two it is, if the layers of the file do not tell: caffe normalises "
    "and then pools, caffenet pools and then normalises.",
    flag_values=FLAGS,
)
_MEAN = flags.DEFINE_list(
    "mean",
    None,
    "What the network subtracts from its pixels: levels of 0..255, one, or one a "
    "channel in the order of --channel_order; default: what the file says, or the "
    "usual.",
    flag_values=FLAGS,
)
_STD = flags.DEFINE_list(
    "std",
    None,
    "What the difference is divided by, also in 0..255: 58.395 for 0.229 of 0..1; 256 "
    "for a scale of 1/256.",
    flag_values=FLAGS,
)
_RESIZE = flags.DEFINE_integer(
    "resize",
    None,
    "To how many pixels the shorter side of a picture is scaled before the centre is "
    "cropped; default: what the file says, or 256.",
    lower_bound=1,
    flag_values=FLAGS,
)
_CHANNEL_ORDER = flags.DEFINE_enum(
    "channel_order",
    None,
    ["rgb", "bgr"],
    "The order in which the network reads its channels; default: bgr for networks of "
    "Caffe's layers, rgb for torchvision's.",
    flag_values=FLAGS,
)
_WEIGHTS = flags.DEFINE_string(
    "weights",
    None,
    "Which network, if the file has several: model, ema (its moving average), or the "
    "name of the entry; default: model.",
    flag_values=FLAGS,
)


def main():
    source, output = pathlib.Path(_SOURCE.value), pathlib.Path(_OUTPUT.value)
    stated = statements.Stated(
        _VARIANT.value,
        _numbers(_MEAN),
        _numbers(_STD),
        _RESIZE.value,
        _CHANNEL_ORDER.value,
        _WEIGHTS.value,
    )
    if output.suffix != ".npz":
        raise UserError(f"--output={output}: name a .npz file.")
    arrays, settings, figures, pictures = (
        _from_network(source, stated)
        if source.is_dir() or source.suffix.lower() in (".tflite", ".keras", ".onnx")
        else _from_file(source, stated)
    )
    checkpoints.write_weights_file(output, arrays, settings, pictures)
    pixels = settings["preprocessing"]
    console.result(f"{output}:")
    app.report(
        figures
        | {
            "variant": settings["variant"],
            "classes": len(settings["class_names"]),
            "parameters": sum(array.size for array in arrays.values()),
            "pixels": (
                f"{'RGB' if pixels['channels'] == 3 else 'grey'} in 0..255 minus "
                f"({', '.join(f'{level:.4g}' for level in pixels['mean'])}), divided by "
                f"{pixels['std']:g}; {pixels['image_size']} x {pixels['image_size']} from a "
                f"shorter side of {pixels['resize']}"
            ),
            "megabytes": output.stat().st_size / 1e6,
        },
        _JSON.value,
    )


def _numbers(flag):
    """The flag's list as floats, or None. Raises UserError if they are no numbers."""
    if flag.value is None:
        return None
    try:
        return tuple(float(text) for text in flag.value)
    except ValueError:
        raise statements.no_levels(f"--{flag.name}={','.join(flag.value)}") from None


def _check_nothing_stated(source, stated):
    """Raises UserError if the flags say of a file of ours what it says itself."""
    for name, value in dataclasses.asdict(stated).items():
        if value is not None:
            raise UserError(
                f"--{name} is for files from elsewhere, but {source} holds a network of this "
                f"project, with its settings; omit --{name}."
            )


def _from_network(source, stated):
    """(arrays, settings, what to report, record of its pictures) of a network of ours, in whatever
    form it lies there.
    """
    _check_nothing_stated(source, stated)
    network = networks.load(source)
    arrays = {variable.path: np.asarray(variable.value) for variable in network.model.weights}
    settings, figures = network.settings.to_json(), network.figures or {}
    if _LABELS.value:
        names = _class_names(len(settings["class_names"]), None)
        _refuse_other_order(source, settings["class_names"], names)
        settings |= {"class_names": names}
        settings.pop("metrics", None)  # which tell of classes by other names
    if "sha256" not in (network.settings.source or {}):  # weights of others stay those of others
        told = ("top_1", "top_5", "evaluated_on")
        shares = {name: figures[name] for name in told if name in figures}
        settings |= {"source": {"file": str(source), "published": shares or None}}
    return arrays, settings, {"step": network.step}, network.record


def _refuse_other_order(source, own, names):
    """Raises UserError if `names` are the network's `own` in another order, which is that of its
    outputs. Those of ImageNet are known by their ids, whatever else stands beside them.
    """
    ids, own_ids = map(_by_ids, (names, own))
    if ids != own_ids and sorted(ids) == sorted(own_ids):
        place = next(place for place, (one, two) in enumerate(zip(own_ids, ids)) if one != two)
        raise UserError(
            f"--labels={_LABELS.value} has the names that {source} holds, in another order: "
            f"output {place} is {own[place]!r} there, not {names[place]!r}; omit --labels."
        )


def _by_ids(names):
    """The synset ids in `names`, or these where one has none, or several."""
    found = [re.findall(r"\bn\d{8}\b", name) for name in names]
    return [ids[0] for ids in found] if all(len(ids) == 1 for ids in found) else list(names)


def _from_file(source, stated):
    content = formats.read_content(source)
    weights = formats.parse(content, source)
    ours = checkpoints.SETTINGS in weights.arrays or MANIFEST in weights.metadata
    if ours or checkpoints.is_of_checkpoint(source, weights.arrays):
        return _from_network(source, stated)
    known, sha256 = published.recognise(content)
    found = conversion.convert(weights, source.name, stated, known)
    if found.missing and _LABELS.value:
        raise UserError(
            f"--labels={_LABELS.value}, but {source} lacks {', '.join(found.missing)} and so has "
            "no classes; omit --labels."
        )
    origin = pretrained.origin_of(source.name, sha256, known)
    figures = {"sha256": sha256}
    if known:
        figures |= {
            "recognised as": known.name,
            "claimed top-1, top-5": f"{known.top_1}, {known.top_5}",
            "licence": known.licence,
        }
    else:
        console.note(
            f"{source.name} is not a published file that is known by its digest; read as "
            f"{found.variant}."
        )
    for line in found.notes:
        console.note(line)
    if found.missing:
        figures |= {
            "missing": ", ".join(found.missing) + ": alexnet finetune makes a classifier of it"
        }
    names = []
    if not found.missing:
        names = _class_names(len(found.arrays["fc8/bias"]), known, weights.class_names)
    return found.arrays, pretrained.settings_of(found, names, origin), figures, None


def _class_names(outputs, known=None, told=()):
    """--labels, or the classes of ImageNet for a file that is `known` to have them, or what the
    file has `told`, or numbers.

    Raises UserError unless there is one for each of `outputs`.
    """
    synsets = tuple(imagenet.names_by_synset())
    if _LABELS.value == "imagenet" or known and not _LABELS.value:
        if outputs == len(synsets) + 1:
            raise UserError(
                f"--labels=imagenet, but {_SOURCE.value} has 1001 outputs: one of them may be a "
                "background class, and the file does not say which. Pass --labels=FILE, or "
                "weights with 1000 outputs."
            )
        if outputs != len(synsets):
            raise UserError(
                f"--labels=imagenet, but {_SOURCE.value} has {outputs} outputs, not "
                f"{len(synsets)}; pass --labels=FILE with their names."
            )
        return list(imagenet.readable(synsets))
    if _LABELS.value:
        try:
            names = pathlib.Path(_LABELS.value).read_text(encoding="utf-8-sig").splitlines()
        except OSError as error:
            raise UserError(
                f"--labels={_LABELS.value} cannot be read ({error.strerror})."
            ) from None
        except ValueError:  # such as UTF-16, which some editors write
            raise UserError(
                f"--labels={_LABELS.value} is not UTF-8 text; save it in UTF-8."
            ) from None
        names = [name.strip() for name in names]
        if names and names[0][:1] in ("[", "{") and names[-1][-1:] in ("]", "}"):
            raise UserError(
                f"--labels={_LABELS.value} holds a list or a dict, as JSON or Python write them;"
                " give a text file with one class name a line, in the order of the outputs."
            )
        if len(names) != outputs or not all(names):
            raise UserError(
                f"--labels={_LABELS.value} has {len(names)} lines for {outputs} outputs; give each"
                " output one name."
            )
        names = _without_numbers(names)
        own = imagenet.readable(synsets) if known else told
        if len(own) == outputs:
            _refuse_other_order(_SOURCE.value, own, names)
        try:
            check_class_names(tuple(names))
        except ValueError as error:
            raise UserError(f"--labels={_LABELS.value}: {error}.") from None
        return list(imagenet.readable(names))
    if len(told) == outputs:
        try:
            check_class_names(told)
        except ValueError as error:
            raise UserError(
                f"{_SOURCE.value}: its names for the outputs cannot be used ({error}); pass "
                "--labels=FILE."
            ) from None
        console.note(f"The outputs have the names in the file: {told[0]} to {told[-1]}.")
        return list(imagenet.readable(told))
    more = "; --labels=imagenet says that they are ImageNet's" * (outputs == len(synsets))
    says = f"does not say what its {outputs} outputs are called"
    if told:
        says = f"names {len(told)} classes, and its network has {outputs} outputs"
    console.note(
        f"The file {says}; they are named "
        f"class 0 to class {outputs - 1}. --labels=FILE names them{more}."
    )
    return [f"class {number}" for number in range(outputs)]


def _without_numbers(names):
    """`names` without the number of its output that each line begins or ends with, if each does:
    "0 cat", "1: cat" or "cat,0". Where they leave no other name for each, as "type 10" and
    "type 2", or "10" and "2", they are part of the names, which may come in any order.

    Raises UserError where the lines do not go by their numbers.
    """
    for pattern in (r"(\d+)\b[\s.,:;)]*(.*)", r"(.*?)[\s.,:;(]*\b(\d+)"):
        parts = [found.groups() for name in names if (found := re.fullmatch(pattern, name))]
        if pattern.startswith("(.*"):
            parts = [(number, rest) for rest, number in parts]
        numbers = [int(number) for number, _ in parts]
        first = min(numbers, default=0)
        in_order = list(range(first, first + len(names)))
        if first not in (0, 1) or sorted(numbers) != in_order:
            continue
        rest = [name for _, name in parts]
        if not all(rest) or len(set(rest)) < len(rest):
            continue
        if numbers != in_order:
            raise UserError(
                f"--labels={_LABELS.value} has numbered lines that are out of order; sort them: "
                "the first line names the first output."
            )
        console.note(
            f"--labels={_LABELS.value}: the number on each line is dropped from the name: "
            f"{names[0]!r} becomes {rest[0]!r}"
        )
        return rest
    return names
