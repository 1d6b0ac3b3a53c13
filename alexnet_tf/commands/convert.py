"""Converts an export to a .tflite file; refuses if the two disagree on pictures.

    alexnet convert --saved_model=saved_models/alexnet --output=alexnet.tflite
    alexnet convert --saved_model=saved_models/caffe --data_dir=holidays --quantization=float16
    alexnet convert --saved_model=saved_models/caffe --calibration=holidays --quantization=int8

It needs only the SavedModel and pictures. The two are compared on the test pictures of the data
set, or on any that --data_dir names, or on drawn ones. The accuracy can be checked only on pictures
of the network's own classes, and the report says if it was not. For a part of a network, which
alexnet serve-page teaches classes, the features are compared. int8 is calibrated on the training
pictures, or on any in --calibration. The file has built-in operators only. It describes labels,
normalisation, inputs and outputs as other programs expect; `unzip` extracts labels.txt and
manifest.json.
"""

import pathlib

from absl import flags

from alexnet_tf import console
from alexnet_tf.commands import app
from alexnet_tf.data import datasets
from alexnet_tf.data.names import SplitNames
from alexnet_tf.errors import UserError
from alexnet_tf.exports import artifacts, tflite
from alexnet_tf.jobs import comparison
from alexnet_tf.jobs.convert import convert

_SHOWN = 5  # classes that lose most
FLAGS = flags.FlagValues()
_JSON = app.define_json(FLAGS)
app.define_dataset(FLAGS)
_SAVED_MODEL = flags.DEFINE_string(
    "saved_model",
    app.SAVED_MODEL,
    "What export wrote: one version, or the folder of versions, from which the newest is taken.",
    flag_values=FLAGS,
)
_OUTPUT = flags.DEFINE_string(
    "output",
    "alexnet.tflite",
    "The file to write; an existing one is replaced.",
    flag_values=FLAGS,
)
_QUANTIZATION = flags.DEFINE_enum(
    "quantization",
    "none",
    tflite.QUANTIZATIONS,
    "none: float32; float16: weights in float16; dynamic: weights in 8 bits; int8: "
    "weights and activations in 8 bits, uint8 in and out.",
    flag_values=FLAGS,
)
_PICTURES = flags.DEFINE_integer(
    "pictures",
    0,
    f"How many pictures to compare on; 0: {tflite.COMPARED}, and {tflite.COMPARED_ANSWERS} for "
    "dynamic and int8.",
    lower_bound=0,
    flag_values=FLAGS,
)
_CALIBRATION = flags.DEFINE_string(
    "calibration",
    None,
    "For int8: a folder of pictures, of any classes, from which the range of each "
    "activation is measured; default: the training pictures.",
    flag_values=FLAGS,
)
_MAX_ACCURACY_DROP = flags.DEFINE_float(
    "max_accuracy_drop",
    None,
    "How much lower the accuracy of dynamic and int8 may be, as a share of the compared pictures. "
    f"It replaces the usual limits: {tflite.LARGEST_DROP} ({100 * tflite.LARGEST_DROP:g} points), "
    "or one picture, and 98 % of answers that agree.",
    lower_bound=0.0,
    upper_bound=1.0,
    flag_values=FLAGS,
)


def main():
    pictures, calibration = _pictures()
    figures = convert(
        _SAVED_MODEL.value,
        _OUTPUT.value,
        _QUANTIZATION.value,
        pictures=pictures,
        calibration=calibration,
        count=_PICTURES.value,
        max_accuracy_drop=_MAX_ACCURACY_DROP.value,
    )
    by_class = figures.pop("by class", [])
    console.result(f"{_OUTPUT.value}:")
    app.report({"quantization": _QUANTIZATION.value} | figures, _JSON.value, {"by class": by_class})
    _print_drops([row for row in by_class if row["drop"] > 0])


def _print_drops(rows):
    if rows:
        console.result("Classes that lose most, in points of accuracy:")
    for row in rows[:_SHOWN]:
        console.result(f"  {100 * row['drop']:5.1f}  {row['class']} ({row['pictures']} pictures)")
    if len(rows) > _SHOWN:
        console.result(f"  and {len(rows) - _SHOWN} more, in --json")


def _pictures():
    """(what to compare on, what calibrates int8), each a Dataset, a Split or a folder of any
    pictures, or None: that of the network.

    Raises UserError for a split that would not be read.
    """
    splits = [name for name in FLAGS if name.endswith("_split") and FLAGS[name].present]
    if not splits and not FLAGS["dataset"].present and not FLAGS["data_dir"].present:
        return None, _CALIBRATION.value
    calibrates = _QUANTIZATION.value == "int8" and not _CALIBRATION.value
    if "train_split" in splits and not calibrates:
        raise UserError(
            f"--train_split={FLAGS['train_split'].value} only calibrates, for --quantization=int8 "
            "without --calibration; to compare on its pictures, pass it as --test_split."
        )
    version = artifacts.newest_version(_SAVED_MODEL.value) or _SAVED_MODEL.value
    trained_with = artifacts.read_manifest(version).settings.flags
    folder, seen = FLAGS["data_dir"].value, artifacts.read_record(version)
    labels = tuple(artifacts.read_labels(version))
    is_folder = folder and pathlib.Path(folder).is_dir() and not splits
    try:
        name, data_dir, seed, names = app.dataset_or(FLAGS, trained_with)
    except UserError as error:
        if not is_folder:
            raise
        return _as_any(folder, labels, error), _CALIBRATION.value
    judging = names
    if "validation_split" in splits and "test_split" not in splits:
        judging = SplitNames(names.train, test=names.validation)  # what is named is compared on
    try:
        compared = datasets.open_evaluation(name, data_dir, labels, [seen], judging)
    except UserError as error:
        if not is_folder:
            raise
        compared = _as_any(folder, labels, error)
    if not calibrates:
        return compared, _CALIBRATION.value
    try:
        return compared, datasets.open_dataset(name, data_dir, seed, names, seen=seen)
    except UserError:
        if "train_split" in splits:
            raise
        return compared, None  # it has none to train on


def _as_any(folder, labels, error):
    """`folder`, in which there are no classes of ours, or none at all: pictures they are."""
    if labels:
        console.note(f"{folder}: {tflite.NOT_ACCURACY} ({error})")
    return comparison.split_of(folder)
