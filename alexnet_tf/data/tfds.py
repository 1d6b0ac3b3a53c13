"""Data sets of TFDS, prepared on first use, and stored ones that TFDS reads."""

import contextlib
import functools
import pathlib
import shlex
import sys
import tarfile

import numpy as np
import tensorflow as tf

from alexnet_tf import disk
from alexnet_tf.data import imagenet, prepared
from alexnet_tf.data.splits import EVALUATION_SPLITS, HELD_OUT, OPEN_FILES, Dataset, Split, shuffled_range
from alexnet_tf.errors import UserError

_SHUFFLE_WINDOW = 4096  # encoded pictures: about 0.4 GiB of ImageNet


def open_named(name, data_dir):
    import tensorflow_datasets as tfds  # two seconds that a folder need not wait for

    if name == "shapes":
        import alexnet_tf.data.shapes  # noqa: F401  registers the builder
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



def open_prepared(name, directory):
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
        percent = round(100 * (1 - HELD_OUT))
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
        order = tf.data.Dataset.from_tensor_slices(shuffled_range(len(files), epoch_seed))
        records = order.interleave(stubs_of, cycle_length=OPEN_FILES, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
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



def _shuffle_window(epoch_seed, window, records):
    # Dataset.shuffle would do, were its seed not mixed with a global one that anybody may set.
    pictures, serialized = records
    order = shuffled_range(tf.size(pictures), epoch_seed, window)
    return tf.gather(pictures, order), tf.gather(serialized, order)
