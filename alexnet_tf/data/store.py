"""A data set stored once at 256 x 256, as the 2012 nets read theirs; and every picture of a data
set looked at.

What is written is a prepared TFDS data set (prepared.py). Pictures are scaled and cropped by
`preprocessing` itself, so that training reads the pixels that it would have made of the originals,
but for the JPEG compression. They are shuffled once, as in
2012. A run that was killed goes on with the first shard that is missing; the directory gets its
name when all is there.
"""

import collections
import concurrent.futures
import dataclasses
import functools
import hashlib
import itertools
import json
import os
import pathlib
import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from alexnet_tf import archives, console, disk, picture_files, preprocessing
from alexnet_tf.data import pictures, pipeline, prepared
from alexnet_tf.data.splits import Dataset, Split, Tensors
from alexnet_tf.errors import UserError, one_line
from alexnet_tf.pixels import Preprocessing

SIDE = 256  # pixels, in the paper and in its source
SHARD_PICTURES = 4096  # about 85 MB: what a run that is killed loses at most
PIXELS = Preprocessing(image_size=SIDE, resize=SIDE, channels=3, mean=(0.0,) * 3, std=1.0)
_ORDER_SEED = tf.constant(2012, tf.int64)
_SAMPLE = 32  # pictures encoded to foretell the size of all
_SOURCE = "source.json"


@dataclasses.dataclass
class _Tally:
    """What is stored of a split so far; written beside its shards after each."""

    lengths: list  # pictures in each shard
    sizes: list  # bytes of records in each
    bad: list  # a line for each picture that could not be stored
    moments: np.ndarray  # pipeline.pixel_moments of all
    image_sum: np.ndarray  # int64 [SIDE, SIDE, 3]
    numbers: list  # of the pictures in their split, in the order in which they are stored

    @classmethod
    def read(cls, path: pathlib.Path) -> "_Tally":
        if not path.exists():
            return cls([], [], [], np.zeros([4, 4]), np.zeros([SIDE, SIDE, 3], np.int64), [])
        try:
            with open(path, "rb") as stream:
                stored = archives.arrays(stream)
            return cls(
                stored["lengths"].tolist(),
                stored["sizes"].tolist(),
                json.loads(str(stored["bad"])),
                stored["moments"],
                stored["image_sum"],
                stored["numbers"].tolist(),
            )
        except (ValueError, KeyError) as error:
            raise UserError(
                f"{path} is damaged ({one_line(error, 160)}); remove {path.parent}, and all of it "
                "is stored again."
            ) from None

    def write(self, path: pathlib.Path) -> None:
        with disk.appearing(path) as unfinished, open(unfinished.path, "wb") as stream:
            np.savez(stream, **vars(self) | {"bad": json.dumps(self.bad)})


def write(
    dataset: Dataset, directory: str | os.PathLike, quality: int, max_bad_pictures: int = 0
) -> dict:
    """Stores `dataset` in `directory`, named by a version ("1.0.0"), as JPEG of `quality`. Returns
    what prepared.STATISTICS holds.

    Raises UserError if the disk is too small, if another process writes there, if what is there was
    made of other pictures, or if more than `max_bad_pictures` cannot be read; the shards written by
    then stay for the next run.
    """
    directory = pathlib.Path(directory)
    source = {
        "dataset": dataset.name,
        "fingerprint": dataset.fingerprint,
        "side": SIDE,
        "quality": quality,
        "shard_pictures": SHARD_PICTURES,
    }
    if directory.exists():
        return _already_stored(directory, source, dataset)
    _check_count(len(dataset.bad_pictures), max_bad_pictures)
    beginning = directory.with_name(f".{directory.name}.beginning")
    try:
        foretold = _foretold_bytes(dataset, quality)
        console.note(f"{directory} will take about {foretold / 1e9:.2g} GB")
        disk.check_free_space(
            directory.parent, foretold - sum(path.stat().st_size for path in beginning.glob("*"))
        )
        with disk.locked(beginning, "output", "written"):
            _keep_to_source(beginning / _SOURCE, source)
            statistics = _write_splits(
                dataset, beginning, directory.name, quality, max_bad_pictures, source
            )
            tallied = [f"{_prefix(dataset, name)}.npz" for name in dataset.roles()]
            for path in beginning.iterdir():
                if path.name.startswith(".") or path.name == _SOURCE or path.name in tallied:
                    path.unlink()
            beginning.rename(directory)
    except (OSError, tf.errors.OpError) as error:
        why = error.strerror if isinstance(error, OSError) else pictures.reason(error)
        raise UserError(
            f"{directory} cannot be written ({why}); what was stored stays for the next run."
        ) from None
    return statistics


def _write_splits(
    dataset: Dataset,
    folder: pathlib.Path,
    version: str,
    quality: int,
    max_bad_pictures: int,
    source: dict,
) -> dict:
    tallies, bad_so_far = {}, len(dataset.bad_pictures)
    for name, split in dataset.roles().items():
        prefix = _prefix(dataset, name)
        tallies[name] = _Tally.read(folder / f"{prefix}.npz")
        _write_split(split, folder, prefix, tallies[name], quality, bad_so_far, max_bad_pictures)
        bad_so_far += len(tallies[name].bad)
    _check_classes(dataset, tallies["train"])
    return _write_metadata(dataset, folder, version, tallies, source)


def _check_classes(dataset: Dataset, tally: _Tally) -> None:
    """Raises UserError for a class of which no training picture could be stored, where stubs tell
    the classes, as those of a folder do.
    """
    split = dataset.to_train()
    stubs = split.stubs(None)
    if not tally.bad or "label" not in stubs.element_spec:
        return
    labels = np.concatenate([batch["label"].numpy() for batch in stubs.batch(SHARD_PICTURES)])
    empty = set(labels.tolist()) - set(labels[tally.numbers].tolist())
    if empty:
        raise UserError(
            f"{split.name}: the class {dataset.class_names[min(empty)]} holds no picture that can "
            "be read; replace some, or take the class out."
        )


def stored_alone(dataset: Dataset) -> list[str]:
    """A line for each picture of a folder that a training leaves out and `write` stores."""
    return [
        f"{split.name_of(number)}: not used in training; alexnet prepare stores it as a JPEG"
        for split in dataset.roles().values()
        for number in sorted(_passed_over(split))
    ]


def _passed_over(split: Split) -> set[int]:
    """The numbers of the files of `split` that a training does not look at, by their endings."""
    stubs = split.stubs(None)
    if "file" not in stubs.element_spec:
        return set()
    return {
        int(stub["picture"])
        for stub in stubs.as_numpy_iterator()
        if picture_files.ending(stub["file"]) in picture_files.READ_BY_PREPARE
    }


def check(dataset: Dataset) -> tuple[list[str], list[list[str]]]:
    """Reads every picture. Returns (a line for each that cannot be read, or that a training finds
    and only `write` reads, lists of names of identical files).

    Identical files count if they stand in several classes or splits: there they mislead the
    training, or tell it what it will be evaluated on.
    """
    bad, files = list(dataset.bad_pictures), collections.defaultdict(list)
    for role, split in dataset.roles().items():
        passed_over = _passed_over(split)
        with console.progress(split.examples, f"check {split.name}") as bar:
            for number, answer, fault in _in_order(split, split.stubs(None), _known):
                bar.update()
                if fault:
                    bad.append(fault)
                    continue
                label, digest, in_training = answer
                files[digest].append((role, label, split.name_of(number)))
                if in_training and number not in passed_over:
                    name = split.name_of(number)
                    bad.append(f"{name} cannot be read in training ({in_training})")
    groups = [
        group for group in files.values() if len({(role, label) for role, label, _ in group}) > 1
    ]
    return bad, [[name for _, _, name in group] for group in groups]


def _write_split(
    split: Split,
    folder: pathlib.Path,
    prefix: str,
    tally: _Tally,
    quality: int,
    bad_before: int,
    allowed: int,
) -> None:
    """Writes the shards of `split` that are missing in `folder` and adds them to `tally`; up to
    `allowed` pictures may be bad, of which there were `bad_before`.
    """
    shards, done = _shards(split, prefix), len(tally.lengths)
    pictures_done = min(done * SHARD_PICTURES, split.examples)
    with console.progress(split.examples, f"store {split.name}", initial=pictures_done) as bar:
        encoded = _in_order(
            split, split.stubs(_ORDER_SEED).skip(pictures_done), functools.partial(encode, quality)
        )
        for shard in shards[done:]:
            path = folder / shard
            beside = path.with_name(f".{path.name}")
            sizes, numbers = [], []
            with tf.io.TFRecordWriter(str(beside)) as writer:
                for number, answer, fault in itertools.islice(encoded, SHARD_PICTURES):
                    bar.update()
                    if fault:
                        _leave_out(fault, tally, bad_before, allowed)
                        continue
                    example, crop, moments = answer
                    writer.write(example)
                    sizes.append(len(example))
                    numbers.append(number)
                    tally.moments += moments
                    tally.image_sum += crop
            beside.rename(path)
            tally.lengths.append(len(sizes))
            tally.sizes.append(sum(sizes))
            tally.numbers += numbers
            tally.write(folder / f"{prefix}.npz")


def _leave_out(fault: str, tally: _Tally, bad_before: int, allowed: int) -> None:
    console.note(f"{fault}: left out")
    tally.bad.append(fault)
    _check_count(bad_before + len(tally.bad), allowed)


def _check_count(bad_pictures: int, allowed: int) -> None:
    if bad_pictures > allowed:
        raise UserError(
            f"More than max_bad_pictures={allowed} pictures cannot be read; alexnet prepare --check"
            " lists them all."
        )


def _read(picture: tf.Tensor, function: Callable[[tf.Tensor], Any]) -> Any:
    """`function` of a picture that TensorFlow reads, or of what Pillow makes of it."""
    pictures.check_header(picture.numpy())
    try:
        return function(picture)
    except tf.errors.InvalidArgumentError as error:
        try:
            readable = pictures.through_pillow(picture.numpy())
        except ValueError:
            raise error from None
        return function(tf.constant(readable))


def _in_order(
    split: Split, stubs: tf.data.Dataset, function: Callable[[tf.Tensor, int], Any]
) -> Iterator[tuple[int, Any, str | None]]:
    """(picture number, function(bytes, label), None) of each of `stubs`, or (number, None, a line
    on it) if it cannot be read.

    In order, by as many threads as there are cores, with few pictures in memory.
    """
    load = tf.function(split.load, [stubs.element_spec], autograph=False).get_concrete_function()

    def one(stub: Tensors) -> tuple[int, Any, str | None]:
        number = int(stub["picture"])
        try:
            record = load(stub)
            return number, function(record["image"], int(record["label"])), None
        except tf.errors.OpError as error:
            fault = pictures.fault_of(lambda: load(stub)["image"], by_pillow=True)
            fault = fault or pictures.reason(error)
            return number, None, f"{split.name_of(number)} cannot be read ({fault})"

    cores = os.cpu_count() or 1
    with concurrent.futures.ThreadPoolExecutor(cores) as pool:
        pending: collections.deque[concurrent.futures.Future] = collections.deque()
        for stub in stubs:
            pending.append(pool.submit(one, stub))
            if len(pending) > 4 * cores:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def _known(picture: tf.Tensor, label: int) -> tuple[int, bytes, str | None]:
    """(its label, a digest of it, what is wrong with it where Pillow does not help, or None)."""
    _read(picture, _decoded_size)
    content, fault = picture.numpy(), None
    if picture_files.format_of(content[: picture_files.HEAD]) in (None, "BMP"):
        fault = pictures.fault_of(lambda: picture)
    return label, hashlib.blake2b(content, digest_size=16).digest(), fault


def encode(quality: int, picture: tf.Tensor, label: int) -> tuple[bytes, np.ndarray, np.ndarray]:
    """(serialized tf.train.Example to store, uint8 [SIDE, SIDE, 3], its moments)."""
    crop, jpeg = (
        tensor.numpy()
        for tensor in _read(picture, lambda readable: _crop_and_compress(readable, quality))
    )
    return _example(jpeg, label), crop, pipeline.pixel_moments(crop)


@tf.function(input_signature=[tf.TensorSpec([], tf.string)], autograph=False)
def _decoded_size(picture: tf.Tensor) -> tf.Tensor:
    return tf.shape(preprocessing.decode(picture))


@tf.function(
    input_signature=[tf.TensorSpec([], tf.string), tf.TensorSpec([], tf.int32)], autograph=False
)
def _crop_and_compress(picture: tf.Tensor, quality: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    crop = preprocessing.decode_central_crop(picture, PIXELS)
    return crop, tf.raw_ops.EncodeJpegVariableQuality(images=crop, quality=quality)


def _example(jpeg: bytes, label: int) -> bytes:
    return tf.train.Example(
        features=tf.train.Features(
            feature={
                "image": tf.train.Feature(bytes_list=tf.train.BytesList(value=[jpeg])),
                "label": tf.train.Feature(int64_list=tf.train.Int64List(value=[label])),
            }
        )
    ).SerializeToString()


def _foretold_bytes(dataset: Dataset, quality: int) -> int:
    """About how much disk the store of `dataset` takes, from some of its pictures."""
    train = dataset.to_train()
    stubs = train.stubs(_ORDER_SEED).take(_SAMPLE)
    some = _in_order(train, stubs, functools.partial(encode, quality))
    sizes = [len(answer[0]) for _, answer, _ in some if answer]
    mean = sum(sizes) / max(len(sizes), 1)
    # and mean images
    return (
        int(1.05 * mean * sum(split.examples for split in dataset.roles().values()))
        + 10 * SIDE**2 * 3 * 8
    )


def _write_metadata(
    dataset: Dataset, folder: pathlib.Path, version: str, tallies: dict[str, _Tally], source: dict
) -> dict:
    """Writes what TFDS and training read beside the records; returns the statistics."""
    import tensorflow_datasets as tfds

    splits = [
        tfds.core.SplitInfo(
            name=name,
            shard_lengths=tally.lengths,
            num_bytes=sum(tally.sizes),
            filename_template=(
                tfds.core.ShardedFileTemplate(
                    folder, dataset_name=_tfds_name(dataset), split=name, filetype_suffix="tfrecord"
                )
            ),
        )
        for name, tally in tallies.items()
    ]
    tfds.folder_dataset.write_metadata(
        data_dir=folder,
        split_infos=splits,
        version=version,
        check_data=False,
        supervised_keys=("image", "label"),
        description=f"{dataset.name}, stored once at {SIDE} x {SIDE}.",
        features=tfds.features.FeaturesDict(
            {
                "image": tfds.features.Image(shape=(SIDE, SIDE, 3), encoding_format="jpeg"),
                "label": tfds.features.ClassLabel(names=dataset.class_names),
            }
        ),
    )
    roles = dataset.roles()
    if all(split.identities is not None for split in roles.values()):
        known: dict[str, Any] = {
            name: roles[name].known()[tally.numbers] for name, tally in tallies.items()
        }
        np.savez(folder / prepared.IDENTITIES, **known)
    train = tallies["train"]
    mean, colour_pca = pipeline.colour_statistics(train.moments)
    np.save(folder / prepared.MEAN_IMAGE, (train.image_sum / sum(train.lengths)).astype(np.float32))
    statistics = {
        "mean": mean,
        "colour_pca": colour_pca,
        "pictures": {name: sum(tally.lengths) for name, tally in tallies.items()},
        "bad_pictures": [
            *dataset.bad_pictures,
            *(fault for tally in tallies.values() for fault in tally.bad),
        ],
        "source": source,
    }
    (folder / prepared.STATISTICS).write_text(json.dumps(statistics, indent=1) + "\n")
    return statistics


def _already_stored(directory: pathlib.Path, source: dict, dataset: Dataset) -> dict:
    """The statistics in a finished `directory`.

    Raises UserError if it was not made from `source`, has other class names, or has lost some of
    its records.
    """
    try:
        statistics = json.loads(disk.read_bytes(directory / prepared.STATISTICS))
        called = (directory / prepared.CLASS_NAMES).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        statistics, called = {}, []
    if not _is_of(statistics.get("source"), source) or called != list(dataset.class_names):
        raise UserError(
            f"{directory} already exists and holds something else; pass another output=, or a"
            " higher version=."
        )
    for name, split in dataset.roles().items():
        for shard in _shards(split, _prefix(dataset, name)):
            if not (directory / shard).is_file():
                raise UserError(
                    f"{directory} already exists but is incomplete: it lacks {shard}; remove it,"
                    " and run again."
                )
    return statistics


def _is_of(stored: dict | None, source: dict) -> bool:
    """Whether what was stored is of `source`, whatever else it says."""
    return stored is not None and all(stored.get(name) == source[name] for name in source)


def _keep_to_source(path: pathlib.Path, source: dict) -> None:
    """Notes at `path` what is being stored.

    Raises UserError if something else has been begun there.
    """
    try:
        begun = json.loads(disk.read_bytes(path)) if path.exists() else source
    except ValueError:
        begun = None
    if not _is_of(begun, source):
        raise UserError(
            f"{path.parent} holds the beginning of something else (see {path.name}); remove it, or"
            " pass another output=."
        )
    disk.replace_bytes(path, json.dumps(source).encode())


def _shards(split: Split, prefix: str) -> list[str]:
    """The names of the files of its records."""
    count = -(-split.examples // SHARD_PICTURES)
    return [f"{prefix}.tfrecord-{shard:05}-of-{count:05}" for shard in range(count)]


def _prefix(dataset: Dataset, split: str) -> str:
    return f"{_tfds_name(dataset)}-{split}"


def _tfds_name(dataset: Dataset) -> str:
    return re.split("[/:]", dataset.name)[0]  # without configuration and version
