"""Finished artifacts, opened for use: what `export` and `alexnet convert` wrote, without any of the
model's code.
"""

import json
import pathlib

from ai_edge_litert.interpreter import Interpreter, OpResolverType

from alexnet_tf import disk
from alexnet_tf.data import record
from alexnet_tf.edge import tflite
from alexnet_tf.errors import UserError

SUMS = "SHA256SUMS"
# of a manifest: with the labels, what decides every answer
IDENTITY = "weights_sha256", "variant", "preprocessing"


def newest_version(path):
    """The folder of the version that `path` is, or of the highest number that it holds; None where
    it holds none.
    """
    path = pathlib.Path(path)
    if (path / "saved_model.pb").is_file():
        return path
    versions = disk.numbered(path)
    return versions[max(versions)] if versions else None


def read_manifest(saved_model):
    """The manifest that export wrote beside the graph. Raises UserError where there is none."""
    try:
        return json.loads((pathlib.Path(saved_model) / "assets.extra/manifest.json").read_text())
    except (OSError, ValueError) as error:
        raise UserError(
            f"{saved_model} is not a version that alexnet export wrote ({error})."
        ) from None


def read_record(saved_model):
    """The data.record.Record that export wrote beside the graph, or None.

    Raises UserError if it is damaged.
    """
    path = pathlib.Path(saved_model) / "assets.extra" / record.FILE
    return record.Record.from_bytes(path.read_bytes(), path) if path.is_file() else None


def read_labels(saved_model):
    """The class names of a version, in the order of its probabilities.

    Raises UserError where there are none.
    """
    try:
        return (pathlib.Path(saved_model) / "assets/labels.txt").read_text().splitlines()
    except (OSError, ValueError) as error:
        raise UserError(
            f"{saved_model} is not a version that alexnet export wrote ({error})."
        ) from None


def variables(loaded):
    """The weights of a version that tf.saved_model.load has loaded:

    {"conv1a/kernel": tf.Variable, ...}.
    """
    return {variable.name.removesuffix(":0"): variable for variable in loaded._variables}


def sums(saved_model):
    """sha256 of each file of a version but the list itself, as `sha256sum` prints them."""
    root = pathlib.Path(saved_model)
    return disk.sums(
        root,
        sorted(
            file.relative_to(root)
            for file in root.rglob("*")
            if file.is_file() and file.name != SUMS
        ),
    )


def check_sums(saved_model):
    """Raises UserError unless the files of a version are those that export wrote, bit for bit."""
    try:
        whole = (pathlib.Path(saved_model) / "assets.extra" / SUMS).read_text() == sums(saved_model)
    except OSError as error:
        raise UserError(f"{saved_model} cannot be read ({error}).") from None
    if not whole:
        raise UserError(
            f"{saved_model} is damaged: its files differ from assets.extra/{SUMS}; export it again."
        )


class Tflite(tflite.Tflite):
    """A .tflite file with its labels, the manifest of the export that it was made from, and the
    record of the pictures that the network was trained on, or None.
    """

    def __init__(self, file, name="", threads=2):
        super().__init__(file, name, threads)
        try:
            stored = self.member(record.FILE)
        except KeyError:
            self.record = None
        else:
            self.record = record.Record.from_bytes(stored, name or "content")


def operator_outputs(content, dtype=None):
    """The names of what the operators of a .tflite file put out; with `dtype`, of the tensors of
    that type alone.
    """
    interpreter = Interpreter(
        model_content=content,
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    tensors = {tensor["index"]: tensor for tensor in interpreter.get_tensor_details()}
    outputs = [
        tensors[index]
        for operator in interpreter._get_ops_details()
        for index in operator["outputs"]
    ]
    return [tensor["name"] for tensor in outputs if dtype in (None, tensor["dtype"])]
