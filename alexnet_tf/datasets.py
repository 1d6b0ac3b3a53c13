"""Where pictures come from: the embedded shapes, a folder of class folders, or any TFDS image-classification data set.

`open_dataset` checks what can be checked before any long work and returns a `Dataset`, from which `input_pipeline` reads.
A record is {"image": bytes of a JPEG or PNG file, "label": int64 in 0..classes-1, "picture": int64 number within its split}.
"""

import contextlib
import dataclasses
import functools
import hashlib
import itertools
import os
import pathlib
import shlex
import sys
import tarfile

import numpy as np
import tensorflow as tf

from alexnet_tf import disk, imagenet, pictures, prepared
from alexnet_tf.errors import UserError

EVALUATION_SPLITS = ("val", "validation", "test")  # the first of these that a data set has is the one evaluated
HELD_OUT_SPLIT = "held out"  # name of the one that --seed draws from a folder that has none of these
_HELD_OUT = 0.1  # share of the pictures that is kept for evaluation where a data set has no such split
_SHUFFLE_WINDOW = 4096  # encoded pictures: about 0.4 GiB of ImageNet
_OPEN_FILES = 16


@dataclasses.dataclass(frozen=True)
class Split:
    """One split of `examples` pictures.

    `stubs(epoch_seed)` is a tf.data.Dataset of what `load` turns into records: cheap to skip, and without errors, whatever is
    wrong with the files. Without a seed (None) the order is fixed; with one (an int64 scalar tensor) it is a shuffle that
    depends on the seed alone. `load` raises a tf.errors.OpError for a picture that is gone or damaged in its record.
    """

    name: str
    examples: int
    stubs: callable
    load: callable
    stub_of: callable  # picture number -> a tf.data.Dataset of its stub
    name_of: callable  # picture number -> what to call the picture in a message

    def read(self, epoch_seed):
        """A tf.data.Dataset of records, in the order of `stubs`."""
        return self.stubs(epoch_seed).map(self.load, num_parallel_calls=_OPEN_FILES)

    def describe_fault(self, picture):
        """The name of the picture of that number and what is wrong with it."""
        return f"{self.name_of(picture)} ({self.fault_of(picture) or 'nothing is wrong with it now'})"

    def fault_of(self, picture):
        """What is wrong with the picture of that number, or None."""
        def image():
            return self.load(next(iter(self.stub_of(tf.constant(picture, tf.int64)))))["image"]

        return pictures.fault_of(image)


@dataclasses.dataclass(frozen=True)
class Dataset:
    name: str
    class_names: tuple
    train: Split
    evaluation: Split
    fingerprint: str  # changes with the pictures: sha256 over their names and sizes, or the name and size of a TFDS data set
    notes: tuple = ()  # what a user should be told: a split made here, files passed over
    bad_pictures: tuple = ()  # a line for each picture that is left out, with its name and what is wrong with it
    statistics: dict | None = None  # {"mean": [3], "colour_pca": [3, 3]} of the training pixels, if stored with the data
    class_counts: tuple = ()  # training pictures per class; empty where that is not known without reading them


def open_dataset(name, data_dir=None, seed=0, by_pillow=False):
    """Opens data set `name`: "folder" reads `data_dir`, anything else is a TFDS name, prepared on first use.

    `by_pillow`: with pictures in a folder that Pillow alone reads, for tools/prepare_dataset.py.
    If `data_dir` holds a prepared data set, such as tools/prepare_dataset.py writes, that is read. Raises UserError, before any
    long work, if there is nothing to read. Pictures of a folder that cannot be read are left out.
    """
    stored = prepared.find(data_dir) if data_dir else None
    if stored:
        return _open_prepared(name, stored)
    if name == "folder":
        try:
            return _open_folder(data_dir, seed, by_pillow)
        except OSError as error:
            raise UserError(f"{error.filename} cannot be read ({error.strerror}).") from None
    some_files = itertools.islice(pathlib.Path(data_dir).glob("*/*"), 1000) if data_dir else ()
    if any(path.suffix.lower() in pictures.SUFFIXES for path in some_files):
        raise UserError(f"--data_dir={data_dir} holds class folders of pictures; pass --dataset=folder with it.")
    return _open_tfds(name, data_dir)


def describe_balance(class_names, counts):
    """Lines for a user: how many training pictures there are of each class, and whether that is much out of balance."""
    if len(counts) <= 20:
        lines = ["training pictures: " + ", ".join(f"{name} {count}" for name, count in zip(class_names, counts))]
    else:
        lines = [f"training pictures: {min(counts)} to {max(counts)} a class, {len(counts)} classes"]
    fewest, most = np.argmin(counts), np.argmax(counts)
    if counts[most] > 3 * counts[fewest]:
        lines.append(f"The classes are out of balance: {counts[most]} pictures of {class_names[most]}, {counts[fewest]} of "
                     f"{class_names[fewest]}. Rare classes will be guessed too seldom; add pictures of them.")
    return lines


def list_pictures(paths, class_names=()):
    """Returns a Split of the pictures that are, or lie anywhere below, `paths`, and their file names, in sorted order.

    A picture's label is its folder's place in `class_names`, -1 where it is not among them. Raises UserError if there are none,
    or if one is broken.
    """
    names = []
    for path in paths:
        if not os.path.exists(path):
            raise UserError(f"{path} does not exist; pass pictures, or folders of pictures.")
        names += _pictures_below(path) if os.path.isdir(path) else [os.fsencode(path)]
    files = list(map(os.fsdecode, names))
    if not files:
        raise UserError(f"No picture ({', '.join(pictures.SUFFIXES)}) in {', '.join(map(str, paths))}.")
    for name, fault in zip(names, pictures.examine(names)[1]):
        if fault:
            raise UserError(f"{pictures.shown(name)} cannot be read ({fault}); replace it or take it out.")
    numbers = {name: label for label, name in enumerate(class_names)}
    folders = [os.path.basename(os.path.dirname(os.path.abspath(file))) for file in files]
    labels = np.array([numbers.get(folder, numbers.get(imagenet.readable([folder])[0], -1)) for folder in folders], np.int64)
    return split_of_files("pictures", np.array(names, object), labels), files


def _pictures_below(folder):
    """Names of the pictures anywhere below `folder`, sorted. As in training, links are followed and hidden files left out."""
    found, been = [], set()
    for here, inner, _ in os.walk(folder, followlinks=True):
        been.add(os.path.realpath(here))  # a link may lead back up
        inner[:] = [name for name in inner if not name.startswith(".") and os.path.realpath(os.path.join(here, name)) not in been]
        found += [file for file in pictures.list_pictures(here)[0] if not os.path.isdir(file)]
    return sorted(found)


@contextlib.contextmanager
def naming_bad_pictures(split):
    """Turns the error of a picture of `split` that does not decode, or is gone, into a UserError that names it."""
    try:
        yield
    except (tf.errors.NotFoundError, tf.errors.InvalidArgumentError) as error:
        for picture in range(split.examples):
            if fault := split.fault_of(picture):
                raise UserError(f"{split.name_of(picture)} cannot be read ({fault}); replace it or take it out.") from None
        raise UserError(f"{split.name} cannot be read ({pictures.reason(error)}).") from None


# Folders --------------------------------------------------------------------------------------------------------------


def _open_folder(data_dir, seed, by_pillow):
    if not data_dir:
        raise UserError("--dataset=folder reads the class folders below --data_dir; pass --data_dir=DIR.")
    root = pathlib.Path(data_dir)
    if not root.is_dir():
        raise UserError(f"--data_dir={data_dir} is not a folder; pass one with train/ and test/, a folder a class in each.")
    notes, bad_pictures = [], []
    if (root / "train").is_dir():
        held_out = next((root / name for name in EVALUATION_SPLITS if (root / name).is_dir()), None)
        class_names, files, labels, sizes = _list_classes(root / "train", notes, bad_pictures, by_pillow)
        if held_out:
            evaluation_names, evaluation_files, evaluation_labels, more = _list_classes(held_out, notes, bad_pictures, by_pillow)
            sizes += more
            if evaluation_names != class_names:
                odd = sorted(set(class_names) ^ set(evaluation_names))
                raise UserError(f"{root}: train/ and {held_out.name}/ differ in classes: {', '.join(odd[:5])}.")
    else:
        held_out = None
        class_names, files, labels, sizes = _list_classes(root, notes, bad_pictures, by_pillow)
    names_and_sizes = b"".join(b"%b\0%d\n" % (os.path.relpath(file, os.fsencode(root)), size) for file, size in sizes)
    if not held_out:
        held = _stratified(labels, seed)
        if not held.any():
            raise UserError(f"{root} has no val/, validation/ or test/, and no class with a second picture to keep for evaluation.")
        notes.append(f"{root} has no val/, validation/ or test/: {held.sum()} of its {len(held)} pictures, drawn per class with "
                     f"--seed={seed}, are kept for evaluation.")
        evaluation_files, evaluation_labels = files[held], labels[held]
        files, labels = files[~held], labels[~held]
    imagenet.refuse_background(class_names)
    return Dataset("folder", imagenet.readable(class_names), split_of_files("train", files, labels),
                   split_of_files(held_out.name if held_out else HELD_OUT_SPLIT, evaluation_files, evaluation_labels),
                   hashlib.sha256(names_and_sizes).hexdigest(), tuple(notes), tuple(bad_pictures),
                   class_counts=tuple(np.bincount(labels, minlength=len(class_names)).tolist()))


def _list_classes(folder, notes, bad_pictures, by_pillow=False):
    """Returns (class names, file names, labels, [(file name, size)]) of the class folders in `folder`, in sorted order.

    Adds to `notes` what is passed over, and to `bad_pictures` what is named as a picture and cannot be read.
    """
    classes = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if len(classes) < 2:
        raise UserError(f"{folder} holds {len(classes)} class folder{'s' * (len(classes) != 1)}; a classifier needs at least 2. "
                           "Is --data_dir one level too high or too low?")
    files, labels, passed_over = [], [], []
    for label, path in enumerate(classes):
        if not path.name.isprintable():  # a surrogate stands for a byte that is no UTF-8
            raise UserError(f"{folder}: the class folder {os.fsencode(path.name)!r} has a name that cannot be printed; rename it.")
        named, others = pictures.list_pictures(path, pictures.SUFFIXES + pictures.PILLOW_SUFFIXES * by_pillow)
        passed_over += others
        if not named:
            raise UserError(f"{path} holds no picture ({', '.join(pictures.SUFFIXES)}); remove the folder or fill it.")
        files += named
        labels += [label] * len(named)
    if passed_over:
        notes.append(f"{folder}: {len(passed_over)} files passed over that are not named as pictures, first "
                     f"{pictures.shown(passed_over[0])}.")
    sizes, faults = pictures.examine(files, by_pillow)
    bad_pictures += [f"{pictures.shown(file)} cannot be read ({fault})" for file, fault in zip(files, faults) if fault]
    good = np.array([fault is None for fault in faults])
    files, labels = np.array(files, object), np.array(labels, np.int64)
    empty = set(range(len(classes))) - set(labels[good].tolist())
    if empty:
        raise UserError(f"{classes[min(empty)]} holds no picture that can be read: {bad_pictures[-1]}.")
    return tuple(path.name for path in classes), files[good], labels[good], list(zip(files, sizes))


def _stratified(labels, seed):
    """Mask of the pictures to hold out: `_HELD_OUT` of each class, at least one where it has two or more."""
    rng = np.random.default_rng(seed)
    held = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        of_class = np.flatnonzero(labels == label)
        count = min(max(1, round(_HELD_OUT * len(of_class))), len(of_class) - 1)
        held[rng.permutation(of_class)[:count]] = True
    return held


def split_of_files(name, files, labels):
    """A Split of picture files: `files` names them as bytes, `labels` are int64; both are arrays."""
    with tf.device("CPU:0"):  # once, here: in the functions below they would be part of each function's graph
        names, targets = tf.constant(files.tolist(), tf.string), tf.constant(labels)

    def stub(picture):
        return {"file": names[picture], "label": targets[picture], "picture": picture}

    def stubs(epoch_seed):
        return tf.data.Dataset.from_tensor_slices(_shuffled_range(len(files), epoch_seed)).map(stub)

    def load(stub):
        return {"image": tf.io.read_file(stub["file"]), "label": stub["label"], "picture": stub["picture"]}

    return Split(name, len(files), stubs, load, lambda picture: tf.data.Dataset.from_tensors(picture).map(stub),
                 lambda picture: pictures.shown(files[picture]))


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
        disk.check_free_space(builder.data_dir_root, sum((archives / name).stat().st_size for name in imagenet.ARCHIVES))
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
    for split, whole in imagenet.PICTURES.items() if builder.name == "imagenet2012" else ():
        here = builder.info.splits[split].num_examples if split in builder.info.splits else 0
        if here != whole:
            notes.append(f"imagenet2012: {here} of its {whole} {split} pictures are here.")
    decoders = {"image": tfds.decode.SkipDecoding()}
    return Dataset(name, imagenet.readable(builder.info.features["label"].names),
                   *(_tfds_split(builder, split, decoders) for split in (train, evaluation)),
                   f"{builder.info.full_name}, {builder.info.dataset_size} bytes", tuple(notes), statistics=statistics)


def _tfds_split(builder, name, decoders):
    """A split of a prepared TFDS data set. The shards are read here, because TFDS shuffles with one seed for all epochs.

    Shuffled: the shards, then 16 of them interleaved, then windows of records.
    """
    import tensorflow_datasets as tfds

    split = builder.info.splits[name]
    shards = split.file_instructions
    adapter = tfds.core.file_adapters.ADAPTER_FOR_FORMAT[builder.info.file_format]
    files, skips, lengths = ([getattr(shard, key) for shard in shards] for key in ("filename", "skip", "examples_in_shard"))
    counts = [shard.take if shard.take >= 0 else shard.examples_in_shard - shard.skip for shard in shards]
    first = np.cumsum([0] + counts)

    def stubs_of(shard):
        files_here, skips_here, lengths_here, counts_here, first_here = (
            tf.constant(values)[shard] for values in (files, *(np.array(v, np.int64) for v in (skips, lengths, counts, first))))
        # TensorFlow reads a file up to its first damage. Empty records stand for the rest, so that all others keep their places.
        records = adapter.make_tf_data(files_here).ignore_errors().concatenate(
            tf.data.Dataset.from_tensors(b"").repeat(lengths_here))
        return records.skip(skips_here).take(counts_here).enumerate(first_here)

    def stubs(epoch_seed):
        order = tf.data.Dataset.from_tensor_slices(_shuffled_range(len(files), epoch_seed))
        records = order.interleave(stubs_of, cycle_length=_OPEN_FILES, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        if epoch_seed is not None:
            records = records.batch(_SHUFFLE_WINDOW).enumerate(1).map(functools.partial(_shuffle_window, epoch_seed)).unbatch()
        return records.map(_stub)

    def stub_of(picture):
        shard = tf.searchsorted(tf.constant(first), tf.reshape(picture, [1]), side="right")[0] - 1
        return stubs_of(shard).skip(picture - tf.constant(first)[shard]).take(1).map(_stub)

    def load(stub):
        there = tf.debugging.Assert(tf.strings.length(stub["serialized"]) > 0, ["the file is damaged there, or before"])
        with tf.control_dependencies([there] if there is not None else []):
            example = builder.info.features.deserialize_example(stub["serialized"], decoders=decoders)
        return {"image": example["image"], "label": example["label"], "picture": stub["picture"]}

    def name_of(picture):
        file = files[np.searchsorted(first, picture, side="right") - 1]
        return f"{builder.info.full_name} {name}, picture {picture} in {file}"

    return Split(name, split.num_examples, stubs, load, stub_of, name_of)


def _stub(picture, serialized):
    return {"serialized": serialized, "picture": picture}


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
