"""Features: what the layers below the projection make of pictures. Computed once, kept on disk,
used many times.

    FOLDER/
      key.json             what they were computed from, in how many seconds, and the numbers of
                           the pictures that could not be read and have no row; features of
                           another key are computed again
      train.npy            float32 [views, pictures, units]; view 0 is the central crop, the others
                           are crops as in training
      evaluation.npy       float32 [1, pictures, units]
      train_labels.npy, evaluation_labels.npy
                           int64 [pictures]
      SHA256SUMS           of the five: features that differ from it are computed again

The folder appears when it is complete (`disk.appearing`).
"""

import dataclasses
import functools
import hashlib
import itertools
import json
import math
import os
import pathlib
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

import keras
import numpy as np
import tensorflow as tf

from alexnet_tf import disk, preprocessing
from alexnet_tf.data import bad_pictures, pipeline
from alexnet_tf.data.splits import Dataset, Split
from alexnet_tf.errors import UserError
from alexnet_tf.network import surgery
from alexnet_tf.pixels import Preprocessing
from alexnet_tf.training import checkpoints, devices, stopping

# What `extractor` returns: (outputs, labels, numbers of bad pictures) of a split, batch by batch.
Extract = Callable[..., Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]]
_BATCH = 128  # pictures at a time, about: no result depends on it
_SUMMED = ("evaluation.npy", "evaluation_labels.npy", "key.json", "train.npy", "train_labels.npy")
# left free on the disk beside the features: the model itself has to be written too
_SPARE_BYTES = 2**30


@dataclasses.dataclass(frozen=True)
class Features:
    """The files of a folder of features, mapped into memory."""

    train: np.ndarray
    train_labels: np.ndarray
    evaluation: np.ndarray
    evaluation_labels: np.ndarray
    seconds: float  # that it took to compute them
    # "train" and "evaluation": numbers of the pictures that cannot be read and have no row
    bad_pictures: dict
    left_out: int = 0  # evaluation pictures that cannot be read and have no number
    is_stored: bool = False  # whether an earlier run computed them


def extractor(
    strategy: tf.distribute.Strategy, model: keras.Model, pixels: Preprocessing, seed: int = 0
) -> Extract:
    """Returns a function (Split, view=0) that yields (outputs of `model` as float32 [pictures,
    ...], labels int64 [pictures], numbers int64 [bad]), batch by batch, for all pictures of the
    split in fixed order.

    `view` and `seed` are those of pipeline.evaluation_batches. Nothing is dropped out. The numbers
    are those of pictures that cannot be read; they have neither output nor label.
    """

    def replica_step(batch: Any) -> tuple:
        outputs = model(preprocessing.to_network_input(batch["image"], pixels), training=False)
        return tf.cast(outputs, tf.float32), batch["label"], batch["weight"], batch["bad"]

    @tf.function(autograph=False)
    def step(batch: Any) -> list[tf.Tensor]:
        return [
            devices.rows_of_all(strategy, value)
            for value in strategy.run(replica_step, args=(batch,))
        ]

    def extract(split: Split, view: int = 0) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        replicas, count = strategy.num_replicas_in_sync, math.ceil(split.examples / _BATCH)
        # next to nothing is left to fill up in the last
        batch_size = math.ceil(split.examples / count / replicas) * replicas
        batches = pipeline.EvaluationBatches(
            strategy,
            split,
            functools.partial(
                pipeline.evaluation_batches, split, pixels, batch_size, view=view, seed=seed
            ),
        )
        for batch in itertools.islice(batches, math.ceil(split.examples / batch_size)):
            outputs, labels, weights, bad = (value.numpy() for value in step(batch))
            yield outputs[weights > 0], labels[weights > 0], np.unique(bad[bad >= 0])

    return extract


def _digest_of_layers(model: keras.Model) -> str:
    """A digest that tells apart networks with the same weights that compute differently."""
    computed = surgery.computed({"config": model.get_config()})
    return hashlib.sha256(json.dumps(computed, sort_keys=True).encode()).hexdigest()


def cached(
    folder: str | os.PathLike,
    strategy: tf.distribute.Strategy,
    model: keras.Model,
    pixels: Preprocessing,
    dataset: Dataset,
    views: int,
    seed: int,
    progress: Callable,
    note: Callable[[str], None],
    max_bad_pictures: int = 0,
) -> Features:
    """The Features of `dataset` by `model`, a trunk: read from `folder` if they are there, else
    computed and written there.

    Raises UserError, before anything is computed, if the disk has no room or `folder` holds
    anything else; and if more than `max_bad_pictures` of the training pictures cannot be read, all
    those of a class, or all of a split.
    """
    folder = pathlib.Path(folder).resolve()
    _check_ours(folder)
    key = {
        "variant": model.name,
        "weights_sha256": checkpoints.weights_digest(model),
        "layer": model.layers[-1].name,
        "layers": _digest_of_layers(model),
        "precision": keras.config.dtype_policy().name,
        "preprocessing": dataclasses.asdict(pixels),
        "data_fingerprint": dataset.fingerprint,
        "views": views,
        "seed": seed,
    }
    key = json.loads(json.dumps(key))  # as it is read back: tuples are lists there
    disk.remove_unfinished(folder)
    found = _read(folder, key, dataset, note)
    if found:
        note(
            f"{folder}: features of {len(found.train_labels)} + {len(found.evaluation_labels)} "
            "pictures already exist"
        )
        _tell_bad(found, dataset, max_bad_pictures, note)
        return found
    extract, units = extractor(strategy, model, pixels, seed), model.outputs[0].shape[-1]
    train, evaluation = dataset.to_train(), dataset.evaluation
    pictures = views * train.examples + evaluation.examples
    what = f"{views} x {train.examples} + {evaluation.examples} pictures"
    _check_room(folder, 4 * units * pictures, what, note)
    begin = time.monotonic()
    try:
        with (
            disk.appearing(folder, folder=True, next_free=_remove) as unfinished,
            stopping.StopSignal(strategy) as stop,
            progress(pictures, "features") as bar,
        ):

            def count(done: int) -> None:
                bar.update(done)
                signalled, _ = stop.agree()
                if signalled:
                    note(f"stopped by {signal.Signals(signalled).name}; {folder} is not written")
                    sys.exit(128 + signalled)

            bad = {
                name: _write(unfinished.path / name, split, units, of_each, extract, count)
                for name, split, of_each in (
                    ("train", train, views),
                    ("evaluation", evaluation, 1),
                )
            }
            of_run = {"seconds": time.monotonic() - begin, "bad_pictures": bad}
            (unfinished.path / "key.json").write_text(json.dumps(key | of_run, indent=1) + "\n")
            (unfinished.path / disk.SUMS).write_text(disk.sums(unfinished.path, _SUMMED))
    except OSError as error:
        raise UserError(
            f"The features could not be written to {folder} ({error.strerror or error}); make room,"
            " or pass another features_dir."
        ) from None
    found = _open(folder, of_run, dataset)
    _tell_bad(found, dataset, max_bad_pictures, note)
    return found


def _check_ours(folder: pathlib.Path) -> None:
    """Raises UserError unless `folder` may be replaced: it is not there, or holds nothing but
    features.
    """
    if folder.exists():
        foreign = (
            [path.name for path in folder.iterdir() if path.name not in (*_SUMMED, disk.SUMS)]
            if folder.is_dir()
            else [folder.name]
        )
        if foreign:
            raise UserError(
                f"{folder} is not a folder of features ({foreign[0]}); pass a features_dir that "
                "does not exist yet, or one that a fine-tuning has written."
            )


def _tell_bad(found: Features, dataset: Dataset, most: int, note: Callable[[str], None]) -> None:
    for split, numbers in (
        (dataset.to_train(), found.bad_pictures["train"]),
        (dataset.evaluation, found.bad_pictures["evaluation"]),
    ):
        faults = bad_pictures.tell_bad_pictures(split, numbers, note)
        if split is dataset.train:
            bad_pictures.refuse_bad_pictures(
                len(dataset.bad_pictures) + len(numbers), most, [*dataset.bad_pictures, *faults]
            )
            there = set(np.unique(found.train_labels).tolist())
            empty = [one for label, one in enumerate(dataset.class_names) if label not in there]
            if numbers and empty:
                raise UserError(
                    f"{split.name}: the class {empty[0]} holds no picture that can be read;"
                    f" {len(numbers)} of the split cannot, such as {faults[0]}."
                )


def _remove(folder: pathlib.Path) -> pathlib.Path:
    """Makes room for features in the place of others."""
    shutil.rmtree(folder)
    return folder


def _write(
    path: pathlib.Path,
    split: Split,
    units: int,
    views: int,
    extract: Extract,
    count: Callable[[int], None],
) -> list[int]:
    """Writes the features of a split; returns the numbers of the pictures that cannot be read,
    which have no rows.

    Raises UserError if none can be read, or others in another view.
    """
    of_first_view: set[int] = set()
    with open(f"{path}.npy", "wb") as stream:
        _write_header(stream, (views, split.examples, units))
        for view in range(views):
            labels: list[np.ndarray] = []
            bad: set[int] = set()
            for outputs, of_batch, numbers in extract(split, view):
                stream.write(np.ascontiguousarray(outputs).data)
                labels.append(of_batch)
                bad.update(numbers.tolist())
                count(len(outputs))
            if view == 0:
                of_first_view = bad
            elif bad != of_first_view:
                other = split.name_of(min(bad ^ of_first_view))
                raise UserError(
                    f"{other} could be read at one time and not at another; check the disk"
                    " and start again."
                )
        of_all = np.concatenate(labels)
        if not len(of_all):
            split.refuse_unreadable(min(bad))
        stream.seek(0)
        # of the same length: NumPy fills it up to 128 bytes
        _write_header(stream, (views, len(of_all), units))
    np.save(f"{path}_labels.npy", of_all)
    return sorted(bad)


def _write_header(stream: BinaryIO, shape: tuple[int, ...]) -> None:
    np.lib.format.write_array_header_1_0(
        stream, {"descr": "<f4", "fortran_order": False, "shape": shape}
    )


def _read(
    folder: pathlib.Path, key: dict, dataset: Dataset, note: Callable[[str], None]
) -> Features | None:
    """The Features in `folder`, or None, told why, where they are not those of `key`, lack pictures
    of `dataset` that can be read now, or cannot be read.
    """
    if not folder.exists():
        return None
    try:
        stored = json.loads(disk.read_bytes(folder / "key.json"))
        odd = [name for name in key if stored.get(name) != key[name]]
        if odd:
            note(f"{folder} holds features of other {' and '.join(odd)}: they are replaced")
            return None
        disk.check_sums(folder, _SUMMED)
        found = _open(folder, stored, dataset)
        if json.loads(disk.read_bytes(folder / "key.json")) != stored:  # they share a features_dir
            raise ValueError("another fine-tuning has replaced it meanwhile")
        if mended := _mended(found, dataset):
            note(f"{folder} lacks {mended}, which can be read now: it is replaced")
            return None
        if (found.train.shape[1], found.evaluation.shape[1]) == (
            len(found.train_labels),
            len(found.evaluation_labels),
        ):
            return dataclasses.replace(found, is_stored=True)
        raise ValueError("wrong shapes")
    except (OSError, EOFError, ValueError, AttributeError, IndexError, KeyError) as error:
        note(f"{folder} cannot be read ({error}): it is replaced")
        return None


def _mended(found: Features, dataset: Dataset) -> str | None:
    """The name of a picture without features that can be read now, or None."""
    for name, split in (("train", dataset.to_train()), ("evaluation", dataset.evaluation)):
        for number in found.bad_pictures[name]:
            if split.fault_of(number) is None:
                return split.name_of(number)
    return None


def _check_room(folder: pathlib.Path, size: int, what: str, note: Callable[[str], None]) -> None:
    free = disk.free_bytes(folder)
    if size + _SPARE_BYTES > free:
        raise UserError(
            f"The features of {what} need {size / 1e9:.1f} GB in {folder}, and {free / 1e9:.1f} GB"
            " are free; make room, or pass another features_dir or fewer augment_views."
        )
    note(f"features of {what}: {size / 1e6:.0f} MB to {folder} ({free / 1e9:.0f} GB free)")


def _open(folder: pathlib.Path, of_run: dict, dataset: Dataset) -> Features:
    """The Features of `dataset` in `folder`, whose run took what `of_run` says."""
    arrays = {
        name: np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
        for name in ("train", "train_labels", "evaluation", "evaluation_labels")
    }
    return Features(
        **arrays,
        seconds=of_run["seconds"],
        bad_pictures=of_run["bad_pictures"],
        left_out=len(dataset.evaluation.bad_pictures),
    )
