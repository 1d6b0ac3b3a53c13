"""A SavedModel to the bytes of a .tflite file, and how far the two agree."""

import itertools
import math
import os
import re
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import tensorflow as tf
from tensorflow.lite.python.convert import ConverterError, mlir_quantize

from alexnet_tf import bounds, console
from alexnet_tf.classifiers import LEAST_FLOAT
from alexnet_tf.data import pipeline
from alexnet_tf.data.splits import Split
from alexnet_tf.errors import UserError
from alexnet_tf.exports import artifacts
from alexnet_tf.manifest import EDGE, IMAGES
from alexnet_tf.pixels import Preprocessing
from alexnet_tf.preprocessing import LESS_MEAN

# The largest difference of a probability that is accepted; the integer forms are judged by their
# top-1 answers.
_LARGEST_DIFFERENCE = {"none": 1e-4, "float16": 1e-3}
# Of the features of a picture, in lengths of them: of a part of a network there is nothing else.
_LARGEST_DISTANCE = {"none": 1e-4, "float16": 1e-2, "dynamic": 0.2, "int8": 0.2}
_LARGEST_DISAGREEMENT = 0.02  # of the top-1 answers
_ROUNDING = 1e-9  # of shares of pictures

QUANTIZATIONS = "none", "float16", "dynamic", "int8"
# pictures: those of which each number tells, and those of which the best answers alone do
COMPARED, COMPARED_ANSWERS = 100, 2000
NOT_ACCURACY = "its pictures are compared, the accuracy is not"
LARGEST_DROP = 0.003  # of top-1 accuracy


# What int8 files leave in float32. Normalisation: 8 bits hold no sum of squares well, and RSQRT and
# SQRT of integers are slow. What comes before it: pixels less their mean do not fit into 8 bits,
# and conv1 takes no longer in float32. Operators are known by the names of layers
# (network/model.py) and of LESS_MEAN, which exports of before called sub.
_IN_FLOAT = re.compile(
    rf"\b(?:({LESS_MEAN}|sub|conv1)[ab]?(?:_\d+)?\b|(lrn\d|spatial_norm\d))"  # not conv10
)


def convert(
    saved_model: str | os.PathLike, quantization: str, calibration: Sequence[np.ndarray]
) -> bytes:
    """Returns the bytes of the converted `edge` signature, for one picture. `calibration` holds
    uint8 images [s, s, c].

    Raises UserError if `saved_model` has no such signature, or cannot be converted.
    """
    try:
        return _converted(saved_model, quantization, calibration)
    except ConverterError as error:
        first, _, reason = str(error).partition("error: ")  # and pages of MLIR
        told = (reason or first).partition("\n")[0][:120]
        raise UserError(
            f"{saved_model} cannot be converted ({told}); alexnet export --format=onnx writes a "
            "file for other runtimes."
        ) from None


def _converted(
    saved_model: str | os.PathLike, quantization: str, calibration: Sequence[np.ndarray]
) -> bytes:
    loaded = artifacts.load(saved_model)
    if EDGE not in loaded.signatures:
        raise UserError(
            f"{saved_model} has no signature named {EDGE}, only {', '.join(loaded.signatures)};"
            " export the model again."
        )
    artifacts.check_finite(loaded)
    bounds.check_single_precision(artifacts.variables(loaded))
    edge = loaded.signatures[EDGE]
    shape = edge.structured_input_signature[1]["images"].shape
    one = tf.function(
        lambda images: edge(images=images),
        [tf.TensorSpec([1, *shape[1:]], tf.float32, name="images")],
        autograph=False,
    ).get_concrete_function()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([one], loaded)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    if quantization != "none":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if quantization == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if quantization != "int8":
        return converter.convert()
    # The range of the input is that of the pixels seen: dim pictures alone would have a client's
    # levels, which are passed as they are, taken for others.
    first = calibration[0].copy()
    first[0, 0], first[-1, -1] = 0, 255
    converter.representative_dataset = lambda: (
        {"images": image[None].astype(np.float32)} for image in (first, *calibration[1:])
    )
    # In two steps, as tf.lite.experimental.QuantizationDebugger does it: the second is told what to
    # leave in float32.
    converter._experimental_calibrate_only = True
    calibrated = converter.convert()
    in_float = [name for name in artifacts.operator_outputs(calibrated) if kept_in_float(name)]
    return mlir_quantize(
        calibrated,
        input_data_type=tf.uint8,
        output_data_type=tf.uint8,
        denylisted_nodes=in_float or None,
    )


def kept_in_float(name: str) -> set[str]:
    """Which of `_IN_FLOAT` the operator is part of whose output has this name, such as {"lrn1"};
    none for a later convolution, which takes in the ReLU of the normalisation behind it.
    """
    if re.search(r"/conv[2-9]", name):
        return set()
    return {one or other for one, other in _IN_FLOAT.findall(name)}


def compare_features(
    saved_model: str | os.PathLike,
    content: bytes,
    split: Split,
    pixels: Preprocessing,
    quantization: str,
    pictures: int = 0,
    note: Callable[[str], None] | None = None,
) -> dict:
    """As `compare`, of a part of a network: the features of a picture may differ by a share of
    their length, which what is learnt from them has to bear.
    """
    tflite = artifacts.Tflite(content, threads=0)
    loaded = artifacts.load(saved_model)  # kept, for a signature does not keep its variables
    distances, count = [], min(split.examples, pictures or COMPARED)
    with console.progress(count, "compare") as bar:
        for image, _ in images_of(split, pixels, count, note or console.note):
            one = image[None].astype(np.float32)
            expected = loaded.signatures[IMAGES](images=one)["features"][0].numpy()
            distance = np.linalg.norm(tflite.features(image) - expected)
            length = max(float(np.linalg.norm(expected)), LEAST_FLOAT)
            distances.append(float(distance / length))
            bar.update()
    most = max(distances)
    if not most <= _LARGEST_DISTANCE[quantization]:
        raise UserError(
            f"The converted model differs from {saved_model}: the features of a picture by "
            f"{most:.2g} of their length, where {_LARGEST_DISTANCE[quantization]:g} is allowed, on "
            f"{len(distances)} pictures ({split.name}); nothing was written."
        )
    return {
        "pictures compared": len(distances),
        "compared on": split.name,
        "largest difference": most,
        "mean difference": float(np.mean(distances)),
    }


def compare(
    saved_model: str | os.PathLike,
    content: bytes,
    split: Split,
    pixels: Preprocessing,
    quantization: str,
    pictures: int = 0,
    labelled: bool = True,
    max_accuracy_drop: float | None = None,
    note: Callable[[str], None] = console.note,
) -> dict:
    """Returns the figures of a comparison on pictures of `split`; "by class" is `by_class` of them.

    Where they are not `labelled`, with labels of this network, the accuracies are not compared.
    Raises UserError if the two disagree more than `advice` allows.
    """
    tflite = artifacts.Tflite(content, "the file", threads=0)
    tflite.check_reachable(tflite.min_probability)
    loaded = artifacts.load(saved_model)  # kept, for a signature does not keep its variables
    expected_each, answer_each, label_each = [], [], []
    exact = quantization in _LARGEST_DIFFERENCE
    count = min(split.examples, pictures or (COMPARED if exact else COMPARED_ANSWERS))
    with console.progress(count, "compare") as bar:
        for image, label in images_of(split, pixels, count, note):
            one = image[None].astype(np.float32)
            expected_each.append(loaded.signatures[IMAGES](images=one)["probabilities"][0])
            answer_each.append(tflite.probabilities(image))
            label_each.append(label)
            bar.update()
    expected, answers, labels = map(np.stack, (expected_each, answer_each, label_each))
    agreement = float(np.mean(expected.argmax(1) == answers.argmax(1)))
    difference = float(np.abs(expected - answers).max())
    figures = {
        "pictures compared": len(labels),
        "compared on": split.name,
        "top-1 agreement": agreement,
        "largest difference": difference,
    }
    found = f"top-1 agreement {agreement:.3f}, largest difference in a probability {difference:.2g}"
    if labelled:
        accuracy, reference = (float(np.mean(of.argmax(1) == labels)) for of in (answers, expected))
        figures |= {"accuracy": accuracy, "accuracy of the SavedModel": reference}
        figures["by class"] = by_class(labels, answers, expected, tflite.labels)
        found += f", accuracy {accuracy:.4f} instead of {reference:.4f}"
    else:
        figures["accuracy"] = (
            "not checked: the pictures are not labelled with this network's classes"
        )
    if refused := advice(quantization, figures, max_accuracy_drop):
        raise UserError(
            f"The converted model differs from {saved_model}: {found} on {len(labels)} "
            f"pictures ({split.name}); nothing was written. {refused}"
        )
    return figures


def advice(quantization: str, figures: dict, max_accuracy_drop: float | None = None) -> str | None:
    """What to do about a file of these `figures`, of `compare`, or None if it is good.

    The forms in floating point are judged by their largest difference, those in integers by the
    answers that agree and, where it is known, the accuracy. A single picture is always let through:
    among few it is a large share and says little. `max_accuracy_drop` takes the place of both.
    """
    few = 1 / figures["pictures compared"]
    if quantization in _LARGEST_DIFFERENCE:
        if figures["largest difference"] <= _LARGEST_DIFFERENCE[quantization]:
            return None
        return "Use another quantization, or pictures like those that the network will see."
    labelled = "by class" in figures
    drop = figures["accuracy of the SavedModel"] - figures["accuracy"] if labelled else 0.0
    if max_accuracy_drop is not None:
        good = drop <= max_accuracy_drop + _ROUNDING
    else:
        good = (
            figures["top-1 agreement"] >= 1 - max(_LARGEST_DISAGREEMENT, few) - _ROUNDING
            and drop <= max(LARGEST_DROP, few) + _ROUNDING
        )
    if good:
        return None
    allowed = max(math.ceil((drop - _ROUNDING) * 1000), 0) / 1000
    accept = f", or accept the drop with max_accuracy_drop={allowed:g}" if labelled else ""
    like = (
        ""
        if labelled
        else " To compare the accuracy too, pass class folders of the network's classes."
    )
    return f"Use quantization=float16{accept}.{like}"


def by_class(
    labels: np.ndarray, answers: np.ndarray, expected: np.ndarray, class_names: Sequence[str]
) -> list[dict]:
    """A dict for each class that has pictures, the largest drop first: class, pictures, accuracy,
    accuracy of the SavedModel and drop, the difference of the two, in shares of its pictures.

    `labels` are int [pictures]; `answers` of the file and those `expected` of the SavedModel are
    probabilities, [pictures, classes].
    """
    right, right_before = (of.argmax(1) == labels for of in (answers, expected))
    rows = []
    for label in np.unique(labels):
        of_class = labels == label
        accuracy, before = (float(of[of_class].mean()) for of in (right, right_before))
        rows.append(
            {
                "class": class_names[label],
                "pictures": int(of_class.sum()),
                "accuracy": accuracy,
                "accuracy of the SavedModel": before,
                "drop": before - accuracy,
            }
        )
    return sorted(rows, key=lambda row: -row["drop"])


def images_of(
    split: Split, pixels: Preprocessing, count: int, note: Callable[[str], None]
) -> Iterator[tuple[np.ndarray, int]]:
    """What the network sees of `count` pictures of a split: (uint8 [s, s, c], label) each; fewer
    where some cannot be read, which is told by `note`.

    Raises UserError if there is none.
    """
    label, missing = None, min(count, split.examples)
    stubs = split.stubs(tf.constant(0, tf.int64))
    for image, label in itertools.islice(pipeline.central_crops(split, stubs, pixels), count):
        yield image, int(label)
        missing -= 1
    if label is None:
        split.refuse_unreadable(0)
    if missing:
        note(f"{split.cannot_be_read(missing)} and are passed over")
