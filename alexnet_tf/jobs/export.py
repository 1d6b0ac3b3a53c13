"""Exports a network: a SavedModel, or a file of another format, with a model card."""

import os
import pathlib
from collections.abc import Callable, Sequence

import keras
import numpy as np

from alexnet_tf import bounds, console, disk, networks
from alexnet_tf.classifiers import never_answers, refuse_class_none
from alexnet_tf.errors import UserError
from alexnet_tf.exports import artifacts, card, files, onnx, saved_model, tflite
from alexnet_tf.jobs import comparison
from alexnet_tf.manifest import Manifest
from alexnet_tf.network import surgery
from alexnet_tf.pixels import Preprocessing
from alexnet_tf.provenance import origin
from alexnet_tf.settings import OWN
from alexnet_tf.training import checkpoints, devices, evaluation


@networks.under_policy("float32")
@devices.full_float32()
def export(
    network: networks.Network | keras.Model | str | os.PathLike,
    output: str | os.PathLike,
    version: int | str = 1,
    format: str = "saved_model",  # as Keras has it
    *,
    min_probability: float | None = None,
    class_names: Sequence[str] | None = None,
    preprocessing: Preprocessing | None = None,
    note: Callable[[str], None] = console.note,
) -> pathlib.Path:
    """Writes `network`, a Network or what networks.load opens, in `format`: saved_model,
    safetensors, onnx or keras, with a model card, README.md, beside it. A part of a network, which
    is no classifier, goes out as saved_model, which gives its features, and safetensors alone.

    Or a Keras model, from pixels (as alexnet_tf.AlexNet makes them) to probabilities or logits: it
    needs `class_names`, and, where it does not tell what its pixels are, `preprocessing`.

    Returns its folder, `output`/`version`; the version "next" is one more than the highest there
    is. It computes in float32, also where the network was made under a mixed dtype policy. Where no
    class reaches `min_probability`, in 0..1, by default that of the network, it answers "none of
    these". One of the same weights, labels and least probability that is there already is left as
    it is. An ONNX file is compared with the network on pictures. Raises UserError for another, or
    if it cannot be written, or differs.
    """
    bounds.check_one_of(format, "format", artifacts.FORMATS)
    if format == "onnx":
        onnx.check_installed()
    output = disk.local(output, "output")
    if isinstance(network, keras.Model):
        whole, network = network, networks.of_keras(network, class_names, preprocessing, note)
        if line := surgery.scaled_twice(whole, network.preprocessing):
            note(line)
    elif class_names is not None or preprocessing is not None:
        raise UserError(
            "class_names= and preprocessing= are for a Keras model; a Network has its own."
        )
    network = networks.as_network(network)
    networks.check_unchanged(network)
    network = networks.in_float32(network)
    if min_probability is not None:
        network = networks.with_min_probability(network, min_probability)
        if line := never_answers(min_probability, len(network.class_names)):
            note(line)
    if format in ("onnx", "keras"):
        network.check_whole()
    refuse_class_none(network.class_names, f"{network.path} is not exported")
    _check_format(output, format)
    evaluation.check_finite(network.model)
    if not hasattr(network.model, "variant"):
        surgery.check_same_answers(network.model, network.preprocessing)
    bounds.check_single_precision({one.path: one for one in network.model.weights})
    _check_trained(network)
    number = _version(output, version)
    path = disk.numbered(output).get(int(number), output / number)
    digest = checkpoints.weights_digest(network.model)
    network = networks.of_weights(network, digest, note)
    manifest = Manifest(network.settings, network.step, network.figures, digest, origin())
    if version != "next" and path.exists():
        _check_same(path, manifest, note)
        return path

    def next_free(taken: pathlib.Path) -> pathlib.Path:  # by another export at the same time
        return taken.with_name(_version(output, "next"))

    if format == "saved_model":
        return saved_model.write(
            network.model,
            manifest,
            path,
            next_free if version == "next" else None,
            network.record,
        )
    content = _content(network, manifest, format, note)
    return files.write(
        path,
        artifacts.FORMATS[format],
        content,
        manifest,
        network.record,
        card.text(manifest, format),
        next_free if version == "next" else None,
    )


def _check_trained(network: networks.Network) -> None:
    """Raises UserError for a kernel whose numbers are all the same, which readers of weights files
    refuse; in a network of the user's own that may be intended.
    """
    if network.settings.variant == OWN:
        return
    try:
        for variable in network.model.weights:
            bounds.check_trained(variable.path, np.asarray(variable.value))
    except ValueError as error:
        raise UserError(f"{network.path} is not exported: {error}.") from None


def _content(
    network: networks.Network,
    manifest: Manifest,
    form: str,
    note: Callable[[str], None],
) -> bytes:
    """The bytes of the file of an export that is no SavedModel."""
    own = network.settings.variant == OWN
    if form == "safetensors" or form == "keras" and not own:
        try:
            network.settings.of_a_stranger()  # as which it is read
        except ValueError as error:
            other = " or keras" * own
            raise UserError(f"format={form}: {error}; use format=saved_model{other}.") from None
    if form == "safetensors":
        return files.safetensors(network.model, manifest, network.record)
    if form == "keras":
        return files.keras_file(network.model, manifest, network.record)
    pixels = network.preprocessing
    content = onnx.convert(network.model, pixels, manifest, network.record)
    split = comparison.choose(None, None, manifest, network.record, note).split
    count = min(tflite.COMPARED, split.examples)
    figures = onnx.compare(
        content,
        evaluation.model_probabilities(network.model, pixels),
        tflite.images_of(split, pixels, count, note),
        count,
    )
    note(
        f"The ONNX file was compared on {figures['pictures compared']} pictures ({split.name}): no "
        f"probability differs by more than {figures['largest difference']:.1g}"
    )
    return content


def _check_format(output: pathlib.Path, form: str) -> None:
    """Raises UserError if `output` is called as a file, is a model directory or a version, or holds
    versions in another format: a server of one reads them all.
    """
    if disk.is_called_as_a_file(output):
        more = "; alexnet convert makes a .tflite file from that" * (output.suffix == ".tflite")
        raise UserError(
            f"output={output} is named like a file, but format={form} writes a folder of "
            f"versions, each with {artifacts.FORMATS[form]} in it; pass "
            f"output={output.with_suffix('')}{more}."
        )
    if checkpoints.holds_model(output):
        raise UserError(
            f"output={output} is a model directory, and from then on only the export in it would "
            "be opened; pass another output."
        )
    versions = disk.numbered(output)
    name = output.absolute().name
    # A folder of versions may be called by a number, but not among versions.
    beside = disk.numbered(output.parent).values() if disk.is_version(name) else ()
    if artifacts.format_of(output) or not versions and any(map(artifacts.format_of, beside)):
        of_them = output.parent if disk.is_version(name) else "another folder"
        number = int(name) if disk.is_version(name) and int(name) else "next"
        raise UserError(
            f"output={output} is "
            f"{'a version itself' if output.exists() else 'named like a version'}; pass the "
            f"folder that holds them, output={of_them}, and "
            f"version={number}{', or next' * (number != 'next')}."
        )
    if form == "saved_model":
        artifacts.check_path(output.absolute())
    for version in versions.values():
        there = artifacts.format_of(version)
        if there not in (None, form):
            raise UserError(
                f"output={output} holds versions of format={there}; pass another output for "
                f"format={form}."
            )


def _check_same(path: pathlib.Path, manifest: Manifest, note: Callable[[str], None]) -> None:
    """Notes where the version in `path` tells other figures. Raises UserError unless it is of this
    network, and whole.
    """
    stored = artifacts.read_manifest(path)
    if other := stored.differences(manifest):
        raise UserError(
            f"{path} already exists, with different {', '.join(other)}; pass version=next, or "
            "remove it."
        )
    artifacts.check_sums(path)
    if stored.settings.others.get("metrics") != manifest.settings.others.get("metrics"):
        note(
            f"{path} was written before the latest evaluation, which its card lacks; pass "
            "version=next for a card that has it"
        )
    told, known = (
        [(source.get("file"), source.get("licence")) for source in one.settings.sources]
        for one in (stored, manifest)
    )
    if told != known:
        note(
            f"{path} does not name the published weights that the network started from, and their "
            "licence, as they are known now; pass version=next for a card that does"
        )


def _version(output: pathlib.Path, version: int | str) -> str:
    number: int | str = version
    if version == "next":
        number = max(disk.numbered(output), default=0) + 1
    if not disk.is_version(str(number)) or not int(number):
        raise UserError(
            f"version={str(version)[:40]}: a server knows versions by number, below 2**63; use 1, "
            "2, ... or next."
        )
    return str(int(number))
