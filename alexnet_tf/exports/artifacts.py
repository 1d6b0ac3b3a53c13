"""Finished artifacts, opened for use: what `export` and `alexnet convert` wrote, without any of the
model's code.
"""

import contextlib
import os
import pathlib
import re
from collections.abc import Sequence
from typing import Any

import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from alexnet_tf import bounds, disk, picture_files
from alexnet_tf.bounds import LABELS, MANIFEST, parse
from alexnet_tf.classifiers import BATCH_SIZES
from alexnet_tf.data import record
from alexnet_tf.edge import tflite
from alexnet_tf.errors import UserError, one_line, words
from alexnet_tf.exports import card
from alexnet_tf.manifest import Manifest, batch_sizes, not_of_ours

SUMS = disk.SUMS
# The folders within a SavedModel in which TensorFlow, and TensorFlow Serving, look for files beside
# the graph, and of those what a server answers to itself before it serves.
ASSETS, EXTRA, _VARIABLES = "assets", "assets.extra", "variables"
WARMUP = "tf_serving_warmup_requests"
# TensorFlow takes a path for a pattern of paths, which then has to match itself.
_PATTERN = re.compile(r"\[[^/]+\]|\\")
# What alexnet export writes, and by which file its versions are known.
FORMATS = {
    "saved_model": "saved_model.pb",
    "safetensors": "model.safetensors",
    "onnx": "model.onnx",
    "keras": "model.keras",
}


def newest_version(path: str | os.PathLike) -> pathlib.Path | None:
    """`path` itself if it is a version, else the version with the highest number in it, or None."""
    path = pathlib.Path(path)
    if format_of(path):
        return path
    versions = disk.numbered(path)
    return versions[max(versions)] if versions else None


def saved_models(
    folder: str | os.PathLike, parameter: str = "saved_model"
) -> dict[int, pathlib.Path]:
    """The versions in `folder` that are SavedModels, by number. Raises UserError, naming
    `parameter`, where there is none.
    """
    versions = disk.numbered(folder)
    found = {number: path for number, path in versions.items() if format_of(path) == "saved_model"}
    if not found:
        check_formats(versions)
        raise no_version(folder, parameter)
    return found


def check_formats(versions: dict[int, pathlib.Path]) -> None:
    """Raises UserError where none of `versions`, by number, is a SavedModel, and the newest is of
    another format.
    """
    if versions and "saved_model" not in map(format_of, versions.values()):
        check_saved_model(versions[max(versions)])


def no_version(
    folder: str | os.PathLike, parameter: str = "saved_model", reason: str = ""
) -> UserError:
    """The error for a `folder` without a version, or without one that is usable: the `reason`."""
    return UserError(
        f"{parameter}={folder} holds no version{reason}; pass the folder that holds the versions"
        " that alexnet export wrote."
    )


def unwritable(path: str | os.PathLike, error: Exception) -> UserError:
    """The error for a version that could not be written because of `error`."""
    reason = getattr(error, "strerror", None) or getattr(error, "message", None) or error
    return UserError(f"{path} cannot be written ({reason}); make room, or pass another output.")


def format_of(version: str | os.PathLike) -> str | None:
    """The key of FORMATS for the folder of a version; None if it is not a version."""
    found = (form for form, file in FORMATS.items() if (pathlib.Path(version) / file).is_file())
    return next(found, None)


def check_saved_model(version: str | os.PathLike) -> None:
    """Raises UserError for the folder of a version in another format."""
    if (form := format_of(version)) not in (None, "saved_model"):
        raise UserError(
            f"{version} has format={form}; pass an export with format=saved_model, which alexnet "
            "export writes from the same model directory."
        )


def check_path(version: str | os.PathLike) -> None:
    """Raises UserError for a path that TensorFlow takes for a pattern of other paths: whatever lies
    there, it reads no weights from it.
    """
    if found := _PATTERN.search(os.fspath(version)):
        raise UserError(
            f"{version} has {found[0]} in its path, which TensorFlow takes for a pattern that"
            " matches other names; rename the folder, or use another one."
        )


def load(version: str | os.PathLike, tags: Sequence[str] | None = None) -> Any:
    """What tf.saved_model.load makes of the folder of a SavedModel; of several meta graphs it takes
    the one with these `tags`.

    Raises UserError for one that is not loaded, and for one of ours whose files are not those that
    export wrote: a damaged graph, or cut labels, may well load, and answer otherwise.
    """
    check_path(version)
    check_if_listed(version)
    try:
        return tf.saved_model.load(os.fspath(version), tags)
    except Exception as error:  # a damaged graph can raise anything
        raise damaged(version, f"{type(error).__name__}: {error}") from None


def check_whole(version: str | os.PathLike) -> None:
    """Raises UserError for a SavedModel of ours that lacks what tells of it: it is still being
    copied, or was never copied whole.
    """
    for name in (MANIFEST, SUMS):
        if not _beside(version, EXTRA, name).exists():
            raise damaged(version, f"{EXTRA}/{name} is missing")
    read_manifest(version)


def damaged(version: str | os.PathLike, reason: str) -> UserError:
    """The error for a version whose files are not those that were written."""
    for file in _files_of(version):
        with contextlib.suppress(OSError), open(pathlib.Path(version, file), "rb") as stream:
            if stream.read(len(disk.LFS)) == disk.LFS:
                reason = f"{file} is {disk.OF_LFS}"
    return UserError(
        f"{version} is damaged or incomplete ({one_line(words(reason))}); copy it again, or remove "
        "it and export again."
    )


def _beside(version: str | os.PathLike, of_saved_model: str, name: str) -> pathlib.Path:
    """A file that stands in a folder of its own in a SavedModel."""
    path = pathlib.Path(version)
    if format_of(path) in (None, "saved_model"):
        path /= of_saved_model
    return path / name


def read_manifest(saved_model: str | os.PathLike) -> Manifest:
    """The manifest of a version, with its labels.

    Raises UserError where there is none, or one that makes no sense.
    """
    labels = read_labels(saved_model)
    try:
        content = disk.read_bytes(_beside(saved_model, EXTRA, MANIFEST))
        return Manifest.from_json(content, labels)
    except (OSError, ValueError) as error:
        raise not_of_ours(saved_model, error, "version") from None


def allowed_batch_sizes(saved_model: str | os.PathLike) -> tuple[int, ...]:
    """The sizes, increasing, to which a server may fill up what it merges: those of the manifest,
    or BATCH_SIZES where there is none, as in exports of other programs.

    Raises UserError for a manifest that makes no sense.
    """
    path = _beside(saved_model, EXTRA, MANIFEST)
    if not path.exists():
        return BATCH_SIZES
    try:
        return batch_sizes(parse(disk.read_bytes(path)))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is not valid ({error}).") from None


def read_record(saved_model: str | os.PathLike) -> record.Record | None:
    """The data.record.Record that export wrote beside the graph, or None.

    Raises UserError if it is damaged.
    """
    path = _beside(saved_model, EXTRA, record.FILE)
    return record.Record.from_bytes(path.read_bytes(), path) if path.is_file() else None


def read_labels(saved_model: str | os.PathLike) -> list[str]:
    """The class names of a version, in the order of its probabilities; none of a part of a network,
    and where they are missing, of which `read_manifest` knows whether there should be any.

    Raises UserError where they cannot be read.
    """
    try:
        return disk.read_bytes(_beside(saved_model, ASSETS, LABELS)).decode().splitlines()
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise not_of_ours(saved_model, error, "version") from None


def variables(loaded: Any) -> dict[str, Any]:
    """{"conv1a/kernel": tf.Variable, ...}: the weights of a version that tf.saved_model.load has
    loaded.
    """
    return dict(in_order(loaded))


def in_order(loaded: Any) -> list[tuple[str, Any]]:
    """The same, in the order of the weights of the model: several may have one name."""
    return [(variable.name.removesuffix(":0"), variable) for variable in loaded._variables]


def check_finite(loaded: Any) -> None:
    """Raises UserError for a weight of such a version that is not finite."""
    bounds.check_finite(in_order(loaded))


def sums(saved_model: str | os.PathLike) -> str:
    """sha256 of each file of a version but the list itself and the card, on which its owner may
    write, as `sha256sum` prints them.
    """
    return disk.sums(pathlib.Path(saved_model), _files_of(saved_model))


def _files_of(saved_model: str | os.PathLike) -> list[pathlib.Path]:
    """Paths within the folder of a version, sorted; what systems and hubs lay there is none."""
    root = pathlib.Path(saved_model)
    return [
        file
        for file in sorted(file.relative_to(root) for file in disk.files_below(root))
        if file.name not in (SUMS, card.FILE)
        and not any(map(picture_files.is_nobodys, map(os.fsencode, file.parts)))
    ]


def check_if_listed(version: str | os.PathLike) -> None:
    """`check_sums` of a version that has such a list."""
    if _beside(version, EXTRA, SUMS).exists():
        check_sums(version)


def check_sums(saved_model: str | os.PathLike) -> None:
    """Raises UserError unless the files of a version are those that export wrote, bit for bit; it
    names the first that is not.

    Other files are allowed wherever nothing looks for a part of the version, such as a .tflite
    file that was made from it, or pictures for the card.
    """
    root, list_of_sums = pathlib.Path(saved_model), _beside(saved_model, EXTRA, SUMS)
    name_of_list = list_of_sums.relative_to(root)
    try:
        stored = disk.read_bytes(list_of_sums).decode()
        listed = {
            line.rstrip("\n").partition("  ")[2]: line for line in stored.splitlines(keepends=True)
        }
        listed.pop(card.FILE, None)  # that of an earlier version has it
        files = {str(file): file for file in _files_of(saved_model)}
        for name, line in listed.items():
            if not name:
                raise damaged(saved_model, f"{name_of_list} has a line that names no file")
            if name not in files:
                raise damaged(saved_model, f"{picture_files.shown(name)} is missing")
            if line != disk.sums(root, [name]):
                raise damaged(
                    saved_model, f"{picture_files.shown(name)} differs from {name_of_list}"
                )
    except OSError as error:
        raise UserError(f"{saved_model} cannot be read ({error}).") from None
    except UnicodeDecodeError as error:
        raise damaged(saved_model, f"{name_of_list}: {error}") from None
    form = format_of(saved_model)
    for name, file in files.items():
        if name not in listed and _is_looked_for(file, form):
            raise UserError(
                f"{saved_model} holds {picture_files.shown(name)}, which {name_of_list} does not"
                " list; remove that file, or, if alexnet export wrote it, copy the version again."
            )


def _is_looked_for(file: pathlib.Path, form: str | None) -> bool:
    """Whether what loads versions of the format `form` might take `file` for a part of one."""
    if form == "saved_model" and len(file.parts) > 1:
        return file.parts[0] in (ASSETS, EXTRA, _VARIABLES)
    return str(file) in (FORMATS.get(form or ""), "fingerprint.pb")


class Tflite(tflite.Tflite):
    """As on devices, with the settings of the network and the record of the pictures that it was
    trained on, or None.
    """

    def __init__(
        self, file: str | os.PathLike | bytes, name: str | os.PathLike = "", threads: int = 2
    ) -> None:
        super().__init__(file, name, threads)
        try:
            # it may come from anywhere, and is to name no folder that its user did not name
            manifest = Manifest.from_json(self.members[MANIFEST], self.labels).without_folder()
        except ValueError as error:
            raise self._not_of_ours(error) from None
        self.manifest, self.settings = manifest, manifest.settings
        self.record = record.stored(self.members.get(record.FILE), self.name)


def operator_outputs(content: bytes, dtype: type | None = None) -> list[str]:
    """The names of the outputs of a .tflite file's operators; with `dtype`, only of those that have
    this type.
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
