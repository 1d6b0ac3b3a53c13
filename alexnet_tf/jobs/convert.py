"""Converts an export to a .tflite file, and compares the two."""

import dataclasses
import math
import os
import pathlib
from collections.abc import Callable

import numpy as np

from alexnet_tf import bounds, console, disk
from alexnet_tf.data import bad_pictures
from alexnet_tf.data.splits import Dataset, Split
from alexnet_tf.errors import UserError
from alexnet_tf.exports import artifacts, tflite, tflite_metadata
from alexnet_tf.jobs import comparison
from alexnet_tf.manifest import Conversion, Manifest
from alexnet_tf.training import devices

_CALIBRATION_PICTURES = 200


@devices.outside_scopes
@devices.full_float32()
def convert(
    version: str | os.PathLike,
    output: str | os.PathLike,
    quantization: str = "none",
    *,
    pictures: Dataset | Split | str | os.PathLike | None = None,
    calibration: Dataset | Split | str | os.PathLike | None = None,
    count: int = 0,
    max_accuracy_drop: float | None = None,
    note: Callable[[str], None] = console.note,
) -> dict:
    """Writes a .tflite file of an export (a version, or the folder of versions: the newest), and
    returns the figures of the comparison of the two.

    `quantization`: none (float32), float16, dynamic (weights in 8 bits) or int8. They are compared
    on `count` of `pictures` (0: 100, or 2000 for dynamic and int8): the test split of a Dataset,
    else its evaluation split, or a folder of any pictures; by default those of the network's own
    data set if they are at hand, else drawn ones. Only pictures of the network's own classes, of a
    folder those that all lie in folders of their names, tell accuracies, which may drop by
    `max_accuracy_drop`; tflite.advice says what is allowed without it. int8 needs `calibration`,
    likewise: by default the training pictures of the Dataset, else those of the network.

    Of a part of a network the features are compared, and there is no accuracy that may drop.

    A file that is there already is left if it is of the same weights, made and compared with the
    same pictures and bound, and tells the same figures of the network. Raises UserError, and writes
    nothing, if the two disagree, or where pictures for int8 are missing.
    """
    output, version = disk.local(output, "output"), disk.local(version)
    bounds.check_one_of(quantization, "quantization", tflite.QUANTIZATIONS)
    count = bounds.whole(count, "count")
    if max_accuracy_drop is not None:
        if not bounds.number(max_accuracy_drop, "max_accuracy_drop") <= 1:
            raise UserError(
                f"max_accuracy_drop={max_accuracy_drop}: pass a share, at most 1; 0.003 is 0.3 "
                "points."
            )
        if quantization in ("none", "float16"):
            raise UserError(
                f"max_accuracy_drop={max_accuracy_drop} is for quantization=dynamic and int8; "
                "omit it: for the others every probability is compared."
            )
    if calibration is not None and quantization != "int8":
        name = calibration.name if isinstance(calibration, Dataset | Split) else calibration
        raise UserError(f"calibration={name} is for quantization=int8; omit it.")
    disk.check_place(output, "output")
    if disk.is_called_as_a_file(output) and output.suffix.lower() != ".tflite":
        raise UserError(
            f"output={output} is named like a file of another format, but alexnet convert writes "
            f".tflite files; pass output={output.with_suffix('.tflite')}, or use alexnet export."
        )
    path = artifacts.newest_version(version)
    if path is None:
        raise UserError(
            f"{version} is not a version that alexnet export wrote, or a folder of them."
        )
    artifacts.check_saved_model(path)
    manifest, seen = artifacts.read_manifest(path), artifacts.read_record(path)
    chosen, ranges = comparison.opened(pictures, manifest.labels), comparison.opened(calibration)
    if not manifest.labels and max_accuracy_drop is not None:
        raise UserError(
            f"max_accuracy_drop={max_accuracy_drop}: {path} gives features, which have no "
            "accuracy; omit it."
        )
    told: list[str] = []  # of pictures that a file which is there already may not need
    compared = comparison.choose(chosen, ranges, manifest, seen, told.append)
    calibrating = None
    if quantization == "int8":
        calibrating = ranges or comparison.calibrating(
            compared.dataset, manifest, seen, told.append
        )
        if isinstance(calibrating, Dataset):  # its notes are of what is held out, of no use here
            opened = dataclasses.replace(calibrating, notes=())
            bad_pictures.tell_of_opening(opened, math.inf, told.append)
    conversion = Conversion(
        quantization,
        comparison.digest(calibrating) if calibrating else None,
        compared.digest,
        count or None,
        None if max_accuracy_drop is None else float(max_accuracy_drop),
    )
    manifest = dataclasses.replace(manifest, conversion=conversion)
    if _is_there(output, manifest):
        return {
            "already exists": "from the same weights",
            "megabytes": output.stat().st_size / 1e6,
        }
    for line in dict.fromkeys(told):  # both may have the same bad picture
        note(line)
    artifacts.check_sums(path)
    pixels = manifest.settings.preprocessing
    if max_accuracy_drop is not None and not compared.labelled:
        raise UserError(
            f"max_accuracy_drop={max_accuracy_drop}: {compared.split.name} has no labels of this "
            "network, so there is no accuracy; compare on folders of its classes, or omit it."
        )
    images, ranged = [], comparison.to_calibrate(calibrating) if calibrating else None
    if ranged:
        found = tflite.images_of(ranged, pixels, _CALIBRATION_PICTURES, note)
        images = [image for image, _ in found]
    content = tflite.convert(str(path), quantization, images)
    content = tflite_metadata.complete(content, manifest, seen)
    how = str(path), content, compared.split, pixels, quantization, count
    figures = (
        tflite.compare(*how, compared.labelled, max_accuracy_drop, note)
        if manifest.labels
        else tflite.compare_features(*how, note)
    )
    try:
        disk.replace_bytes(output, content)
    except OSError as error:
        raise UserError(f"output={output} cannot be written ({error.strerror}).") from None
    figures = {"megabytes": len(content) / 1e6} | figures
    if ranged:
        names = artifacts.operator_outputs(content, np.float32)
        in_float = set().union(*map(tflite.kept_in_float, names))
        figures["in float32"] = ", ".join(sorted(in_float)) or "nothing"
        figures["calibrated on"] = f"{len(images)} of {ranged.name}"
        figures["compared on"] += _in_common(compared.split, ranged)
    return figures


def _in_common(compared: Split, calibrating: Split) -> str:
    """What to say about pictures that are in both, as far as is known."""
    if compared.identities is None or calibrating.identities is None:
        return ""
    both = np.isin(compared.identities, calibrating.identities)
    if not both.any():
        return ""
    which = "the pictures it was" if both.all() else f"{both.sum()} of which it was also"
    return f", {which} calibrated on: others would tell more"


def _is_there(output: pathlib.Path, manifest: Manifest) -> bool:
    try:
        there = artifacts.Tflite(output.read_bytes()).manifest
    except (OSError, UserError):
        return False
    if not there.conversion or not there.conversion.flatbuffer_sha256:
        return False  # of an earlier version, and nobody knows whether it is whole
    same_figures = _figures_told(there) == _figures_told(manifest)
    return (
        there.conversion == manifest.conversion and same_figures and not there.differences(manifest)
    )


def _figures_told(manifest: Manifest) -> tuple:
    """What it says about the network's accuracy: an evaluation changes it without new weights."""
    return manifest.evaluation, manifest.settings.others.get("metrics")
