"""Where pictures come from: the embedded shapes, a folder of class folders, or any TFDS image-classification data set.

`open_dataset` checks what can be checked before any long work and returns a `Dataset`, from which `input_pipeline` reads.
A record is {"image": bytes of a JPEG or PNG file, "label": int64 in 0..classes-1, "picture": int64 number within its split}.
"""

import concurrent.futures
import contextlib
import dataclasses
import functools
import hashlib
import itertools
import pathlib
import shlex
import sys
import tarfile

import numpy as np
import tensorflow as tf

from alexnet_tf import imagenet, prepared, preprocessing
from alexnet_tf.errors import UserError

PICTURE_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".png", ".bmp", ".gif")
EVALUATION_SPLITS = ("val", "validation", "test")  # the first of these that a data set has is the one evaluated
_HELD_OUT = 0.1  # share of the pictures that is kept for evaluation where a data set has no such split
_SHUFFLE_WINDOW = 4096  # encoded pictures: about 0.4 GiB of ImageNet
_OPEN_FILES = 16


@dataclasses.dataclass(frozen=True)
class Split:
    """One split: `examples` pictures and `read(epoch_seed)`, a tf.data.Dataset of records.

    Without a seed (None) the order is fixed; with one (an int64 scalar tensor) it is a shuffle that depends on the seed alone.
    """

    name: str
    examples: int
    read: callable
    name_of: callable  # picture number -> what to call the picture in a message


@dataclasses.dataclass(frozen=True)
class Dataset:
    name: str
    class_names: tuple
    train: Split
    evaluation: Split
    fingerprint: str  # changes with the pictures: sha256 over their names and sizes, or the name and size of a TFDS data set
    notes: tuple = ()  # what a user should be told: a split made here, files passed over
    statistics: dict | None = None  # {"mean": [3], "colour_pca": [3, 3]} of the training pixels, if stored with the data


def open_dataset(name, data_dir=None, seed=0):
    """Opens data set `name`: "folder" reads `data_dir`, anything else is a TFDS name, prepared on first use.

    If `data_dir` holds a prepared data set, such as tools/prepare_dataset.py writes, that is read. Raises UserError, before any
    long work, if there is nothing to read or if a picture of a folder is broken.
    """
    stored = prepared.find(data_dir) if data_dir else None
    if stored:
        return _open_prepared(name, stored)
    if name == "folder":
        try:
            return _open_folder(data_dir, seed)
        except OSError as error:
            raise UserError(f"{error.filename} cannot be read ({error.strerror}).") from None
    some_files = itertools.islice(pathlib.Path(data_dir).glob("*/*"), 1000) if data_dir else ()
    if any(path.suffix.lower() in PICTURE_SUFFIXES for path in some_files):
        raise UserError(f"--data_dir={data_dir} holds class folders of pictures; pass --dataset=folder with it.")
    return _open_tfds(name, data_dir)


@contextlib.contextmanager
def naming_bad_pictures(split):
    """Turns the error of a picture of `split` that does not decode, or is gone, into a UserError that names it."""
    try:
        yield
    except tf.errors.NotFoundError as error:
        raise UserError(f"A picture is gone: {reason(error)}.") from None
    except tf.errors.InvalidArgumentError as error:
        name, why = _first_bad_picture(split) or (split.name, reason(error))
        raise UserError(f"{name} does not decode as a picture ({why}); replace it or take it out.") from None


def _first_bad_picture(split):
    """Reads `split` until a picture does not decode; returns (its name, the reason), or None if all of them do."""
    for record in split.read(None):
        try:
            preprocessing.decode(record["image"])
        except tf.errors.InvalidArgumentError as error:
            return split.name_of(int(record["picture"])), reason(error)
    return None


# Folders --------------------------------------------------------------------------------------------------------------


def _open_folder(data_dir, seed):
    if not data_dir:
        raise UserError("--dataset=folder reads the class folders below --data_dir; pass --data_dir=DIR.")
    root = pathlib.Path(data_dir)
    if not root.is_dir():
        raise UserError(f"--data_dir={data_dir} is not a folder; pass one with train/ and test/, a folder a class in each.")
    notes = []
    if (root / "train").is_dir():
        held_out = next((root / name for name in EVALUATION_SPLITS if (root / name).is_dir()), None)
        class_names, files, labels = _list_classes(root / "train", notes)
        if held_out:
            evaluation_names, evaluation_files, evaluation_labels = _list_classes(held_out, notes)
            if evaluation_names != class_names:
                odd = sorted(set(class_names) ^ set(evaluation_names))
                raise UserError(f"{root}: train/ and {held_out.name}/ differ in classes: {', '.join(odd[:5])}.")
    else:
        held_out = None
        class_names, files, labels = _list_classes(root, notes)
    if not held_out:
        held = _stratified(labels, seed)
        if not held.any():
            raise UserError(f"{root} has no val/, validation/ or test/, and no class with a second picture to keep for evaluation.")
        notes.append(f"{root} has no val/, validation/ or test/: {held.sum()} of its {len(held)} pictures, drawn per class with "
                     f"--seed={seed}, are kept for evaluation.")
        evaluation_files, evaluation_labels = files[held], labels[held]
        files, labels = files[~held], labels[~held]
    imagenet.refuse_background(class_names)
    every_file = np.concatenate([files, evaluation_files])
    sizes = _check_pictures(every_file)
    names_and_sizes = "".join(f"{pathlib.Path(file).relative_to(root)}\0{size}\n" for file, size in zip(every_file, sizes))
    return Dataset("folder", imagenet.readable(class_names), _folder_split("train", files, labels),
                   _folder_split(held_out.name if held_out else "held out", evaluation_files, evaluation_labels),
                   hashlib.sha256(names_and_sizes.encode(errors="surrogateescape")).hexdigest(), tuple(notes))


def _list_classes(folder, notes):
    """Returns (class names, file names, labels) of the class folders in `folder`, in sorted order."""
    classes = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if len(classes) < 2:
        raise UserError(f"{folder} holds {len(classes)} class folder{'s' * (len(classes) != 1)}; a classifier needs at least 2. "
                           "Is --data_dir one level too high or too low?")
    files, labels, passed_over = [], [], []
    for label, path in enumerate(classes):
        entries = sorted(entry for entry in path.iterdir() if not entry.name.startswith("."))
        pictures = [entry for entry in entries if entry.suffix.lower() in PICTURE_SUFFIXES and entry.is_file()]
        passed_over += sorted(set(entries) - set(pictures))
        if not pictures:
            raise UserError(f"Class folder {path} holds no picture ({', '.join(PICTURE_SUFFIXES)}); fill it or remove it.")
        files += map(str, pictures)
        labels += [label] * len(pictures)
    if passed_over:
        notes.append(f"{folder}: {len(passed_over)} files passed over that are not named as pictures, first {passed_over[0]}.")
    return tuple(path.name for path in classes), np.array(files), np.array(labels, np.int64)


def _stratified(labels, seed):
    """Mask of the pictures to hold out: `_HELD_OUT` of each class, at least one where it has two or more."""
    rng = np.random.default_rng(seed)
    held = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        of_class = np.flatnonzero(labels == label)
        count = min(max(1, round(_HELD_OUT * len(of_class))), len(of_class) - 1)
        held[rng.permutation(of_class)[:count]] = True
    return held


def _folder_split(name, files, labels):
    def read(epoch_seed):
        order = tf.data.Dataset.from_tensor_slices(_shuffled_range(len(files), epoch_seed))
        names, targets = tf.constant(files), tf.constant(labels)
        return order.map(
            lambda picture: {"image": tf.io.read_file(names[picture]), "label": targets[picture], "picture": picture},
            num_parallel_calls=_OPEN_FILES)

    return Split(name, len(files), read, lambda picture: files[picture])


def _check_pictures(files):
    """Returns the sizes of the files in bytes. Raises UserError naming the first that is no picture or that ends early.

    Looks at each file's first and last bytes only, which takes about 30 microseconds a file; a file that looks odd is decoded.
    """
    with concurrent.futures.ThreadPoolExecutor(_OPEN_FILES) as pool:
        sizes = []
        for file, (size, odd) in zip(files, pool.map(_look_at, files)):
            sizes.append(size)
            if not odd:
                continue
            try:
                preprocessing.decode(tf.io.read_file(file))
            except tf.errors.OpError as error:
                raise UserError(f"{file} does not decode as a picture ({reason(error)}); replace it or take it out.") from None
    return sizes


def _look_at(file):
    """(size in bytes, whether it looks unlike a whole JPEG or PNG file)."""
    with open(file, "rb") as stream:
        head = stream.read(4)
        size = stream.seek(0, 2)
        stream.seek(max(0, size - 12))
        tail = stream.read()
    whole_jpeg = head.startswith(b"\xff\xd8\xff") and tail.endswith(b"\xff\xd9")
    whole_png = head == b"\x89PNG" and tail[4:8] == b"IEND"
    return size, not (whole_jpeg or whole_png)


def reason(error):
    """What TensorFlow's error says, without the operation that says it: one short line."""
    return error.message.split("[Op:")[0].strip().splitlines()[0].split("{{")[0].strip()[:160]


# TFDS -----------------------------------------------------------------------------------------------------------------


def _open_tfds(name, data_dir):
    import tensorflow_datasets as tfds  # two seconds that a folder need not wait for

    if name == "shapes":
        import alexnet_tf.shapes  # noqa: F401  registers the builder
    try:
        builder = tfds.builder(name, data_dir=data_dir)
    except (tfds.core.registered.DatasetNotFoundError, ValueError, AssertionError):  # the last two: a name of odd form or version
        raise UserError(f"--dataset={name} is neither shapes, folder nor a data set that TFDS knows "
                           "(https://www.tensorflow.org/datasets/catalog).") from None
    _check_features(name, builder)
    if builder.name == "imagenet2012" and not builder.is_prepared():
        archives = pathlib.Path(builder.data_dir_root) / "downloads/manual"
        imagenet.check_archives(archives, shlex.join(sys.orig_argv))
        prepared.check_free_space(builder.data_dir_root, sum((archives / name).stat().st_size for name in imagenet.ARCHIVES))
    try:
        with contextlib.redirect_stdout(sys.stderr):  # TFDS prints its progress; standard output is for results
            builder.download_and_prepare()
    except (AssertionError, ImportError, OSError, tfds.download.DownloadError, tarfile.TarError, tf.errors.OpError) as error:
        reason = " ".join(str(error).split())  # AssertionError: files to place by hand
        raise UserError(f"--dataset={name} could not be prepared in {builder.data_dir}: {reason}") from None
    return _tfds_dataset(name, builder)


def _open_prepared(name, directory):
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder_from_directory(directory)
    except (ValueError, OSError, tf.errors.OpError) as error:
        raise UserError(f"{directory}: TFDS cannot read dataset_info.json ({' '.join(str(error).split())[:200]}).") from None
    if name not in (builder.name, "folder"):
        raise UserError(f"{directory} holds the data set {builder.name}, not {name}; pass --dataset={builder.name}.")
    _check_features(name, builder)
    return _tfds_dataset(name, builder, prepared.read_statistics(directory))


def _check_features(name, builder):
    import tensorflow_datasets as tfds

    features = dict(builder.info.features) if isinstance(builder.info.features, tfds.features.FeaturesDict) else {}
    if not (isinstance(features.get("image"), tfds.features.Image) and isinstance(features.get("label"), tfds.features.ClassLabel)):
        raise UserError(f"--dataset={name} has no features named image and label; only image classification can be trained.")
    imagenet.refuse_background(features["label"].names)


def _tfds_dataset(name, builder, statistics=None):
    """The Dataset of a prepared TFDS data set."""
    import tensorflow_datasets as tfds

    if "train" not in builder.info.splits:
        raise UserError(f"--dataset={name} has no split named train, but {', '.join(builder.info.splits)}.")
    notes, train = [], "train"
    evaluation = next((split for split in EVALUATION_SPLITS if split in builder.info.splits), None)
    if not evaluation:
        percent = round(100 * (1 - _HELD_OUT))
        train, evaluation = f"train[:{percent}%]", f"train[{percent}%:]"
        notes.append(f"{name} has no validation or test split: {evaluation} is kept for evaluation.")
    for split, pictures in imagenet.PICTURES.items() if builder.name == "imagenet2012" else ():
        here = builder.info.splits[split].num_examples if split in builder.info.splits else 0
        if here != pictures:
            notes.append(f"imagenet2012: {here} of its {pictures} {split} pictures are here.")
    decoders = {"image": tfds.decode.SkipDecoding()}
    return Dataset(name, imagenet.readable(builder.info.features["label"].names),
                   *(_tfds_split(builder, split, decoders) for split in (train, evaluation)),
                   f"{builder.info.full_name}, {builder.info.dataset_size} bytes", tuple(notes), statistics)


def _tfds_split(builder, name, decoders):
    """A split of a prepared TFDS data set. The shards are read here, because TFDS shuffles with one seed for all epochs.

    Shuffled: the shards, then 16 of them interleaved, then windows of records.
    """
    import tensorflow_datasets as tfds

    split = builder.info.splits[name]
    shards = split.file_instructions
    adapter = tfds.core.file_adapters.ADAPTER_FOR_FORMAT[builder.info.file_format]
    first = np.cumsum([0] + [shard.examples_in_shard for shard in shards])
    files, skips, takes = ([getattr(shard, key) for shard in shards] for key in ("filename", "skip", "take"))

    def read_shard(shard):
        takes_all = tf.constant(takes, tf.int64)[shard]
        records = adapter.make_tf_data(tf.constant(files)[shard]).enumerate(tf.constant(first[:-1], tf.int64)[shard])
        return records.skip(tf.constant(skips, tf.int64)[shard]).take(takes_all)

    def read(epoch_seed):
        order = tf.data.Dataset.from_tensor_slices(_shuffled_range(len(files), epoch_seed))
        records = order.interleave(read_shard, cycle_length=_OPEN_FILES, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        if epoch_seed is not None:
            records = records.batch(_SHUFFLE_WINDOW).enumerate(1).map(functools.partial(_shuffle_window, epoch_seed)).unbatch()
        return records.map(functools.partial(_parse, builder.info.features, decoders), num_parallel_calls=tf.data.AUTOTUNE)

    return Split(name, split.num_examples, read, lambda picture: f"{builder.info.full_name} {name}, picture {picture}")


def _shuffled_range(size, epoch_seed, window=0):
    """0..size-1, int64, in an order that depends on the seeds alone; in place where `epoch_seed` is None."""
    numbers = tf.range(tf.cast(size, tf.int64))
    if epoch_seed is None:
        return numbers
    return tf.random.experimental.stateless_shuffle(numbers, seed=tf.stack([epoch_seed, window]))


def _shuffle_window(epoch_seed, window, records):
    # Dataset.shuffle would do, were its seed not mixed with a global one that anybody may set.
    pictures, serialized = records
    order = _shuffled_range(tf.size(pictures), epoch_seed, window)
    return tf.gather(pictures, order), tf.gather(serialized, order)


def _parse(features, decoders, picture, serialized):
    example = features.deserialize_example(serialized, decoders=decoders)
    return {"image": example["image"], "label": example["label"], "picture": picture}
