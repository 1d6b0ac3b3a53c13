"""A prepared TFDS data set as a directory, and what `alexnet prepare` lays beside its records:

dataset_info.json, features.json, label.labels.txt
    TFDS's own; tfds.builder_from_directory reads the directory
NAME-SPLIT.tfrecord-00000-of-00007
    records {"image": a JPEG file of 256 x 256, "label": int64}
statistics.json
    of the training split's pixels, all counted once, in 0..255, R G B:
    "mean" [3]; "colour_pca" [3, 3], rows: eigenvector times standard deviation, as
    pipeline.colour_statistics gives them
identities.npz
    uint64 by split, of the picture that each record was made of: record.py
mean_image.npy
    float32 [256, 256, 3], the mean picture of the training split
"""

import itertools
import json
import math
import os
import pathlib
import re
from typing import TYPE_CHECKING

import numpy as np

from alexnet_tf import archives
from alexnet_tf.errors import UserError

if TYPE_CHECKING:
    from tensorflow_datasets.core import DatasetBuilder

STATISTICS, MEAN_IMAGE, IDENTITIES = "statistics.json", "mean_image.npy", "identities.npz"
CLASS_NAMES = "label.labels.txt"  # as TFDS calls it


def is_version(name: str) -> bool:
    """Whether TFDS takes it for a version: three numbers without leading zeros, as 1.0.0."""
    return re.fullmatch(r"(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*)){2}", name) is not None


def find(data_dir: str | os.PathLike) -> pathlib.Path | None:
    """The directory of a prepared data set: `data_dir`, or the folder of its newest version;
    None if there is neither.
    """
    root = pathlib.Path(data_dir)
    versions = [path for path in root.glob("*.*.*") if is_version(path.name)]
    newest_first = sorted(
        versions, key=lambda path: tuple(map(int, path.name.split("."))), reverse=True
    )
    return next(
        (path for path in (root, *newest_first) if (path / "dataset_info.json").is_file()), None
    )


def has_identities(builder: "DatasetBuilder") -> bool:
    """Whether `alexnet prepare` has written this data set."""
    return (pathlib.Path(builder.data_dir) / IDENTITIES).is_file()


def read_identities(builder: "DatasetBuilder") -> dict[str, np.ndarray]:
    """{split: uint64 [pictures]}, empty where the data set does not bring them. Raises UserError
    where they are damaged.
    """
    if not has_identities(builder):
        return {}
    path = pathlib.Path(builder.data_dir) / IDENTITIES
    try:
        with open(path, "rb") as stream:
            found = archives.arrays(stream)
    except (OSError, ValueError):
        found = {}
    if {name: array.shape for name, array in found.items()} != {
        name: (split.num_examples,) for name, split in builder.info.splits.items()
    }:
        raise UserError(
            f"{path} does not hold a number for each picture of each split; prepare the data set"
            " again."
        )
    return found


def shard_starts(builder: "DatasetBuilder") -> dict[str, tuple[str, int]]:
    """{name of a file: (its split, the place in the split of its first record)}."""
    starts: dict[str, tuple[str, int]] = {}
    for name, split in builder.info.splits.items():
        begins = np.cumsum([0, *split.shard_lengths])
        starts |= {
            pathlib.Path(file).name: (name, int(begin))
            for file, begin in zip(split.filenames, begins)
        }
    return starts


def source_of(builder: "DatasetBuilder") -> dict:
    """What `alexnet prepare` says of what it stored: the "fingerprint" of the pictures and their
    classes, the "side" of what it made of them in pixels, ...; {} where it does not say.
    """
    try:
        stored = json.loads((pathlib.Path(builder.data_dir) / STATISTICS).read_text())
        return dict(stored["source"])
    except (OSError, ValueError, TypeError, KeyError):
        return {}


def made_of(builder: "DatasetBuilder") -> tuple[str, str | None, str | None]:
    """(name, configuration, version) of the data set that it is, or that `alexnet prepare` has
    stored it from: "" where it has no configuration, None where nothing is known.
    """
    full_name = builder.info.full_name
    if has_identities(builder):
        # tfds.fingerprint_of begins with it. One of two parts may itself be that of a store, which
        # has no configuration and a version of its own.
        full_name = str(source_of(builder).get("fingerprint")).partition(",")[0]
        if full_name.count("/") != 2:
            return builder.name, None, None
    name, *config, version = full_name.split("/")
    return name, "".join(config), version


def read_statistics(directory: pathlib.Path) -> dict | None:
    """{"mean": [3], "colour_pca": [3, 3]} of a data set that brings them, or None. Raises UserError
    for other numbers.
    """
    path = directory / STATISTICS
    if not path.is_file():
        return None
    try:
        stored = json.loads(path.read_text())
        mean = [float(level) for level in stored["mean"]]
        colour_pca = [[float(level) for level in row] for row in stored["colour_pca"]]
    except (OSError, ValueError, TypeError, KeyError):
        mean, colour_pca = [], []
    rows = [mean, *colour_pca]
    if [len(row) for row in rows] != [3] * 4 or not all(map(math.isfinite, itertools.chain(*rows))):
        raise UserError(
            f"{path} does not hold a mean of 3 and a colour_pca of 3 x 3 numbers; prepare the data"
            " set again."
        )
    return {"mean": mean, "colour_pca": colour_pca}
