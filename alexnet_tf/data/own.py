"""A data set from two of tf.data, in memory or read by the user's own code."""

import hashlib
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from alexnet_tf import bounds, decoding, picture_files
from alexnet_tf.data.copies import also_in, of_several_labels
from alexnet_tf.data.pictures import identity, reason
from alexnet_tf.data.splits import (
    Dataset,
    Split,
    Tensors,
    as_it_is,
    not_evaluated,
    shuffled_range,
)
from alexnet_tf.errors import UserError

_COMPARED = 16  # first records of a second reading, which have to be those of the first
_SHUFFLED = 10_000  # records in memory at a time


def from_tf_data(
    train: tf.data.Dataset, evaluation: tf.data.Dataset, class_names: Sequence
) -> Dataset:
    """A Dataset of records (image, label), not batched, in an order that is the same each time.

    An image is uint8 [height, width, 1 or 3] in 0..255, of any size, or a scalar string, the bytes
    of a picture file; a label is an integer, the place of its class in `class_names`. Training
    shuffles and crops by itself: from all the records where there are up to 10,000, else within a
    window of so many. Both are read once here, to be counted and checked.

    Raises UserError for records that are none of these, for none at all or without end, for an
    order that changes between two readings, and for names that are not of two classes or more. So
    do the splits where they are read and give more records than here, or fewer.
    """
    class_names = _names(class_names)
    counts, digests, known, splits, notes = [], [], [], [], []
    in_order = tf.data.Options()
    in_order.deterministic = True  # whatever the user's options say: records are known by place
    for name, records in (("train", train), ("evaluation", evaluation)):
        _check_kind(name, records)
        records = records.with_options(in_order)
        labels, digest, identities = _read(name, records, len(class_names))
        records = records.apply(tf.data.experimental.assert_cardinality(len(labels)))
        counts.append(np.bincount(labels, minlength=len(class_names)))
        digests.append(digest)
        known.append(identities)
        splits.append(_split(name, records, len(labels), identities))
        notes += of_several_labels(name, labels, identities, splits[-1].name_of)
    notes += not_evaluated(class_names, labels, name)
    if both := np.isin(known[1], known[0]).sum():
        notes.append(also_in(both, len(known[1]), "evaluation", "train"))
    return Dataset(
        "tf.data",
        class_names,
        splits[0],
        splits[1],
        hashlib.sha256("".join(digests).encode()).hexdigest(),
        tuple(notes),
        class_counts=tuple(counts[0].tolist()),
        opened_with={"dataset": None, "data_dir": None, "seed": 0},
    )


def _names(class_names: Any) -> tuple[str, ...]:
    """`class_names` as a tuple of str. Raises UserError for names that cannot be told apart."""
    names = bounds.in_order(class_names, "class_names") if np.iterable(class_names) else ()
    try:
        if not all(isinstance(name, str | int | np.integer) for name in names):
            raise ValueError("a name that is not a string")
        told = tuple(map(str, names))
        bounds.check_class_names(told)
    except ValueError as error:
        raise UserError(
            f"class_names={class_names!r}: {error}; pass a list of at least two different names,"
            " each a string of one line."
        ) from None
    return told


def _check_kind(name: str, records: Any) -> None:
    if not isinstance(records, tf.data.Dataset):
        raise UserError(f"{name} is a {type(records).__name__}; pass a tf.data.Dataset.")
    if records.cardinality() == tf.data.INFINITE_CARDINALITY:
        raise UserError(f"{name} never ends; leave out repeat(): the training repeats it itself.")
    spec = records.element_spec
    wanted = (
        "each record has to be (image, label): uint8 [height, width, 1 or 3] or the bytes of a "
        "picture file, and an integer; not batched"
    )
    if not isinstance(spec, tuple) or len(spec) != 2:
        raise UserError(f"{name}={spec} does not fit: {wanted}.")
    image, label = spec
    if not (isinstance(image, tf.TensorSpec) and isinstance(label, tf.TensorSpec)):
        raise UserError(f"{name}={spec} does not fit: {wanted}.")
    # a shape is None for what tf.py_function made: not known before it is read
    is_file = image.dtype == tf.string and image.shape.rank in (0, None)
    has_levels = image.dtype == tf.uint8 and image.shape.rank in (3, None)
    is_image = has_levels and image.shape[-1] in (1, 3, None)
    is_label = label.dtype.is_integer and label.shape.rank in (0, None)
    if not (is_file or is_image) or not is_label:
        raise UserError(
            f"{name} has records of {image.dtype.name} {image.shape} and "
            f"{label.dtype.name} {label.shape}; {wanted}."
        )


def _read(name: str, records: tf.data.Dataset, classes: int) -> tuple[np.ndarray, str, np.ndarray]:
    """(labels, digest over all records, pictures.identity of each image). Raises UserError."""
    labels: list[int] = []
    first: list[bytes] = []
    digest, identities, highest = hashlib.sha256(), [], -1  # of files
    heads: list[bytes] = []  # of files
    for image, label in _read_by_user(name, records):
        if isinstance(image, bytes):
            heads.append(image[: picture_files.HEAD])
        else:
            if image.ndim != 3 or image.size == 0 or image.shape[-1] not in (1, 3):
                raise UserError(
                    f"{name} has an image of shape {image.shape} in record {len(labels)}; each has"
                    " to be [height, width, 1 or 3]."
                )
            highest = max(highest, image.max())
        if np.ndim(label):
            raise UserError(
                f"{name} has a label of shape {label.shape} in record {len(labels)}; each has to be"
                " one number."
            )
        digest.update(content := _content(image, label))
        labels.append(int(label))
        # a file is the same one wherever its bytes come from
        identities.append(identity(image if isinstance(image, bytes) else _content(image, 0)))
        if len(first) < _COMPARED:
            first.append(content)
    if not labels:
        raise UserError(f"{name} has no records; pass at least one.")
    if heads and not any(map(picture_files.format_of, heads)):
        raise UserError(
            f"{name} has no picture file among its {len(heads)} records of bytes: the first is"
            f" {picture_files.foreign(heads[0])}; pass the contents of files, as"
            " tf.io.read_file(path) gives them, not their paths."
        )
    if 0 <= highest <= 1:
        raise UserError(
            f"{name} has images with no levels but 0 and 1; levels of uint8 go from 0 to 255:"
            " multiply before you round."
        )
    if not 0 <= min(labels) <= max(labels) < classes:
        raise UserError(
            f"{name} has labels from {min(labels)} to {max(labels)} for {classes} class names; "
            f"labels are 0 to {classes - 1}."
        )
    again = itertools.starmap(_content, records.take(_COMPARED).as_numpy_iterator())
    if list(again) != first:
        raise UserError(
            f"{name} gives another order, or other images, each time it is read; leave out shuffle "
            "and random changes: the training shuffles by itself, and takes augment= and crop=."
        )
    return np.array(labels), digest.hexdigest(), np.array(identities, np.uint64)


def _read_by_user(name: str, records: tf.data.Dataset) -> Iterator[tuple]:
    """Yields `records`. Raises UserError where what its user wrote fails."""
    number = 0
    try:
        for record in records.as_numpy_iterator():
            yield record
            number += 1
    except tf.errors.OpError as error:
        raise UserError(
            f"{name} cannot be read at record {number}: {reason(error)}; leave out what cannot be"
            " read, or pass the contents of picture files: the training passes over bad ones."
        ) from error


def _content(image: bytes | np.ndarray, label: int) -> bytes:
    shape = getattr(image, "shape", ())
    return repr((shape, int(label))).encode() + (
        image if isinstance(image, bytes) else image.tobytes()
    )


def split_of_contents(name: str, contents: list[bytes]) -> Split:
    """A Split of picture files in memory, without labels (0)."""
    records = tf.data.Dataset.from_tensor_slices((contents, tf.zeros(len(contents), tf.int64)))
    return _split(name, records, len(contents))


def _split(
    name: str, records: tf.data.Dataset, examples: int, identities: np.ndarray | None = None
) -> Split:
    is_file = records.element_spec[0].dtype == tf.string

    @as_it_is
    def record(picture: tf.Tensor, image_and_label: tuple[tf.Tensor, tf.Tensor]) -> Tensors:
        image, label = image_and_label
        # Losslessly, and as fast as PNG is written: what follows reads pictures in files.
        content = image if is_file else tf.io.encode_png(image, compression=1)
        image, label = (tf.ensure_shape(one, []) for one in (content, tf.cast(label, tf.int64)))
        return {"image": image, "label": label, "picture": picture}

    def stubs(epoch_seed: tf.Tensor | None) -> tf.data.Dataset:
        numbered = records.enumerate().map(record, num_parallel_calls=tf.data.AUTOTUNE)
        if epoch_seed is None:
            return numbered

        # Not Dataset.shuffle, whose order depends on TensorFlow's global seed as well, and which
        # takes no tensor for a seed where that is 0.
        @as_it_is
        def shuffled(window: tf.Tensor, several: Tensors) -> Tensors:
            order = shuffled_range(tf.size(several["picture"]), epoch_seed, window)
            return tf.nest.map_structure(lambda values: tf.gather(values, order), several)

        return numbered.batch(_SHUFFLED).enumerate().map(shuffled).unbatch()

    def stub_of(picture: tf.Tensor) -> tf.data.Dataset:
        return records.enumerate().skip(picture).take(1).map(record)

    def load(stub: Tensors) -> Tensors:
        return stub | {"image": decoding.within_bounds(stub["image"])} if is_file else stub

    return Split(
        name,
        examples,
        stubs,
        load,
        stub_of,
        lambda picture: picture_files.shown(f"record {picture} of {name}"),
        identities,
        rewritten=True,
        one_reader=True,
    )
