"""Data sets of TFDS, prepared on first use, and stored ones that TFDS reads."""

import contextlib
import dataclasses
import functools
import hashlib
import os
import pathlib
import re
import shlex
import sys
import tarfile
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf
from google.protobuf.json_format import ParseError

from alexnet_tf import decoding, disk
from alexnet_tf.bounds import plain
from alexnet_tf.data import imagenet, prepared
from alexnet_tf.data.copies import also_in
from alexnet_tf.data.held_out import HELD_OUT, NOTHING_CHOOSES, AllSeenError
from alexnet_tf.data.names import HELD_OUT_SPLIT, SplitNames, role_of
from alexnet_tf.data.pictures import identity
from alexnet_tf.data.record import Record
from alexnet_tf.data.splits import OPEN_FILES, Dataset, Split, Tensors, as_it_is, shuffled_range
from alexnet_tf.errors import UserError, one_line

if TYPE_CHECKING:
    from tensorflow_datasets.core import DatasetBuilder
    from tensorflow_datasets.core.utils.shard_utils import FileInstruction

_NONE = np.zeros(0, np.uint64)  # identities
_LOOKED_AT = 32  # pictures of a split, for one that has a label
_SHUFFLE_WINDOW = 4096  # encoded pictures: about 0.4 GiB of ImageNet


def named_builder(
    name: str, data_dir: str | os.PathLike | None, training: bool = True
) -> "DatasetBuilder":
    """The builder of a data set of TFDS, prepared.

    Raises UserError where it cannot be; `training` needs all its archives.
    """
    import tensorflow_datasets as tfds  # two seconds that a folder need not wait for

    if name == "shapes":
        import alexnet_tf.data.shapes  # noqa: F401  registers the builder
    if data_dir is not None:
        path = pathlib.Path(os.path.abspath(data_dir))  # to be found again from any other folder
        own = path.name == re.split("[:/]", name)[0] and any(path.glob("*/*.*.*/dataset_info.json"))
        # below the folder of its configurations TFDS would prepare it once more
        data_dir = path.parent if own else path
    try:
        builder = tfds.builder(name, data_dir=data_dir)
    except ImportError as error:  # those of other catalogues, as huggingface:beans
        raise UserError(
            f"dataset={name} cannot be opened ({one_line(error)}); install that, or pass another"
            " data set."
        ) from None
    # the last ones: a name of odd form or version, and with what its builder does not take
    except (tfds.core.registered.DatasetNotFoundError, ValueError, AssertionError, TypeError):
        where = "see https://www.tensorflow.org/datasets/catalog"
        if data_dir is None and os.path.isdir(name):
            where = f"to read the folder {name}, pass dataset=folder and data_dir={name}"
        raise UserError(
            f"dataset={name} is neither shapes, folder nor a data set that TFDS knows; {where}."
        ) from None
    _check_features(name, builder)
    if builder.name == "imagenet2012" and not builder.is_prepared():
        archives = pathlib.Path(builder.data_dir_root) / "downloads/manual"
        imagenet.check_archives(archives, shlex.join(sys.orig_argv), training)
        disk.check_free_space(
            builder.data_dir_root,
            sum(
                (archives / name).stat().st_size
                for name in imagenet.ARCHIVES
                if (archives / name).is_file()
            ),
        )
    try:
        # TFDS prints its progress; standard output is for results
        with contextlib.redirect_stdout(sys.stderr):
            builder.download_and_prepare()
    except (
        AssertionError,
        ImportError,
        OSError,
        tfds.download.DownloadError,
        tfds.download.download_manager.NonMatchingChecksumError,
        tarfile.TarError,
        tf.errors.OpError,
    ) as error:
        builder = tfds.builder(name, data_dir=data_dir)
        if builder.is_prepared():  # by another process, which was quicker
            return builder
        reason = one_line(error, None)  # AssertionError: files to place by hand
        raise UserError(
            f"dataset={name} could not be prepared in {builder.data_dir}: {reason}"
        ) from None
    return builder


def stored_builder(name: str, directory: str | os.PathLike) -> "DatasetBuilder":
    """The builder of the prepared data set in `directory`.

    Raises UserError if that is not `name`, or is damaged.
    """
    import tensorflow_datasets as tfds

    try:
        # its files are to be found again from any other folder
        builder = tfds.builder_from_directory(os.path.abspath(directory))
    except (ValueError, OSError, tf.errors.OpError, ParseError) as error:
        raise UserError(
            f"{directory}: TFDS cannot read dataset_info.json ({one_line(error)})."
        ) from None
    if re.split("[:/]", name)[0] not in (builder.name, "folder"):  # a store has no configuration
        raise UserError(
            f"{directory} holds the data set {builder.name}, not {name}; pass"
            f" dataset={builder.name}."
        )
    of, config, version = prepared.made_of(builder)
    if not _is_called(name, config, version):
        called = f"{of}/{config}" if config else of
        raise UserError(
            f"{directory} holds {called}/{version}, not {name}; pass dataset={called}, or the"
            f" data_dir= of {name}."
        )
    _check_features(name, builder)
    return builder


def _is_called(name: str, config: str | None, version: str | None) -> bool:
    """Whether a data set of this configuration and version is what `name` says, as "mine/a:1.*.*";
    None stands for one that is not known.
    """
    import tensorflow_datasets as tfds

    for part in re.split("[:/,]", name)[1:]:
        argument, _, value = part.rpartition("=")
        if argument not in ("", "config", "version"):
            continue  # of another builder than the one that reads
        if not re.fullmatch(r"[\d*]+(\.[\d*]+){2}", value):
            is_so = config in (None, value)
        else:
            is_so = version is None or tfds.core.Version(version).match(value)
        if not is_so:
            return False
    return True


def _check_features(name: str, builder: "DatasetBuilder") -> None:
    import tensorflow_datasets as tfds

    features = (
        dict(builder.info.features)
        if isinstance(builder.info.features, tfds.features.FeaturesDict)
        else {}
    )
    if not (
        isinstance(features.get("image"), tfds.features.Image)
        and isinstance(features.get("label"), tfds.features.ClassLabel)
    ):
        raise UserError(
            f"dataset={name} has no features named image and label, of tfds.features.Image and"
            f" ClassLabel, only {', '.join(map(_described, features.items())) or 'unnamed ones'};"
            " a data set has to be of image classification."
        )
    form = builder.info.file_format.value
    if form not in ("tfrecord", "parquet"):
        raise UserError(
            f"{builder.data_dir}: its records are stored as {form}, which TensorFlow does not read;"
            " have TFDS prepare it in another folder with file_format=tfrecord."
        )
    levels = tf.as_dtype(features["image"].dtype)
    if levels not in (tf.uint8, tf.uint16):
        raise UserError(
            f"dataset={name} has images of {levels.name}; only levels of 8 or 16 bits are read."
        )
    if features["label"].num_classes < 2:
        raise UserError(f"dataset={name} has 1 class; a classifier needs at least 2.")
    names = features["label"].names
    there = (pathlib.Path(builder.data_dir) / prepared.CLASS_NAMES).is_file()
    if len(names) != features["label"].num_classes or not there and prepared.source_of(builder):
        raise UserError(
            f"{builder.data_dir}: {prepared.CLASS_NAMES} does not name its"
            f" {features['label'].num_classes} classes; copy the whole data set, or prepare it"
            " again."
        )
    imagenet.refuse_background(names)


def _described(named_feature: tuple[str, Any]) -> str:
    name, feature = named_feature
    return f"{name} ({type(feature).__name__})"


def dataset_to_train_on(
    name: str,
    builder: "DatasetBuilder",
    statistics: dict | None,
    names: SplitNames,
    choosing: bool,
    seen: Record | None,
    anew: bool,
) -> Dataset:
    """The Dataset of a prepared TFDS data set: see datasets.open_dataset."""
    roles = _roles(name, builder, names)
    if "train" not in roles:
        again = ""
        if builder.name == "imagenet2012":
            again = (
                f"; it was prepared without its training archive: remove {builder.data_dir} and run"
                " again"
            )
        usual = next((split for split in builder.info.splits if role_of(split) == "train"), None)
        if not usual:
            why = f"no split named train, only {', '.join(builder.info.splits)}"
        elif builder.info.splits[usual].num_examples and _is_labelled(builder, usual):
            why = f"all pictures of {usual} in splits that are named for something else"
        else:
            why = f"no pictures with labels in {usual}"
        raise UserError(
            f"dataset={name} has {why}{again or '; pass train_split= to train on another one'}."
        )
    _refuse_parts_of_usual(name, builder, names, roles)
    _refuse_missing(builder, roles.values())
    splits = {role: _split(builder, part) for role, part in roles.items()}
    train, evaluation, test = splits["train"], splits.get("validation"), splits.get("test")
    notes = []
    stays_apart = seen and not anew and seen.keeps_apart(train.known()).any()
    if not evaluation and (not test or choosing or stays_apart):
        if train.examples == 1:
            raise UserError(f"dataset={name} has only 1 picture, and none left to evaluate on.")
        usual = min(round((1 - HELD_OUT) * train.examples), train.examples - 1)
        first = _first_held_out(train, usual, seen, anew)
        missing = "no validation split" if test else "no validation or test split"
        if seen and (choosing or not test):  # else it need only be kept from training
            otherwise = (
                f"pass {NOTHING_CHOOSES}, so that nothing is chosen on them, or " if test else ""
            )
            _refuse_seen(f"{name} has {missing}", train, first, seen, anew, otherwise)
        what = (
            "chooses the weights and the rate; test does not" if test else "is kept for evaluation"
        )
        tail = f"the last tenth of {train.name}"
        if first < usual:
            tail = f"all of {train.name} after its first {first} pictures"
        elif "[" not in train.name:
            tail = f"{train.name}[{round(100 * (1 - HELD_OUT))}%:]"
        notes.append(f"{name} has {missing}: {tail} {what}.")
        train = _split(builder, roles["train"], 0, first, train.name)
        evaluation = _held_out(builder, roles["train"], first)
    judging = [split for split in (evaluation, test) if split]
    for split in judging:
        both = np.isin(split.known(), train.known()).sum()
        if both and not prepared.has_identities(builder):
            raise UserError(
                f"dataset={name}: {both} of the pictures of {split.name} are also in {train.name};"
                " pass train_split= and the others so that they share none."
            )
        if both:
            notes.append(also_in(both, split.examples, split.name, train.name))
    if evaluation and test and (both := np.isin(test.known(), evaluation.known()).sum()):
        notes.append(also_in(both, test.examples, test.name, evaluation.name))
    notes += _missing(builder, roles.values()) + _unused(name, builder, roles.values())
    return Dataset(
        name,
        _class_names(builder),
        train,
        judging[0],
        fingerprint_of(builder, train, judging[0], test),
        tuple(notes),
        statistics=statistics,
        side=prepared.source_of(builder).get("side"),
        test=test,
    )


def _first_held_out(train: Split, usual: int, seen: Record | None, anew: bool) -> int:
    """The number of the first picture to hold out of `train`: `usual`, or the first that `seen` has
    held out, if it was trained on none after that.
    """
    if not seen or anew:
        return usual
    before = np.flatnonzero(seen.keeps_apart(train.known()))
    earlier = len(before) and 0 < before[0] < usual
    return int(before[0]) if earlier and not _is_seen(train, seen)[before[0] :].any() else usual


def _is_seen(train: Split, seen: Record) -> np.ndarray:
    """Mask of the pictures that were trained on, but for copies of what was held out."""
    return seen.has_seen(train.known()) & ~np.isin(train.known(), seen.held_out)


def _refuse_seen(
    lacks: str, train: Split, first: int, seen: Record, anew: bool, otherwise: str
) -> None:
    """Raises UserError if what is to be held out, from `first` on, was trained on, or if `seen` has
    held out more before it; where a training begins `anew`, only if all that is to be held out was
    trained on. `lacks` and `otherwise` are for the message.
    """
    apart = seen.keeps_apart(train.known())[:first].sum()
    if apart and not anew:
        raise UserError(
            f"{lacks}, and {apart} pictures of {train.name} that are not its last were held out"
            " from this training; pass the data that it began with, or another model_dir= to start"
            " over."
        )
    trained_on = _is_seen(train, seen)[first:]
    if trained_on.all() or trained_on.any() and not anew:
        raise AllSeenError(
            f"{lacks}, and {trained_on.sum()} of the last {len(trained_on)} pictures of"
            f" {train.name}, which would be held out, were trained on already; {otherwise}pass a"
            " validation_split= of others."
        )


def dataset_to_evaluate(
    name: str, builder: "DatasetBuilder", names: SplitNames, seen: Record
) -> Dataset:
    """The Dataset of a prepared TFDS data set: see datasets.open_evaluation."""
    roles, notes = _roles(name, builder, names), []
    role = next((role for role in ("test", "validation") if role in roles), None)
    _refuse_missing(builder, [roles[one] for one in (role or "train",) if one in roles])
    if role:
        split = _split(builder, roles[role])
    elif "train" in roles:
        split = _split(builder, roles["train"])
        trained_on = seen.has_seen(split.known())
        if trained_on.any():
            first = int(np.flatnonzero(trained_on)[-1]) + 1
            if first == split.examples:
                raise UserError(
                    f"dataset={name} has no evaluation split, and its pictures were trained on;"
                    " pass others."
                )
            split = _held_out(builder, roles["train"], first)
            notes.append(
                f"{name} has no validation or test split: its last {split.examples} pictures were"
                " not trained on and are evaluated."
            )
        elif len(seen.trained):
            notes.append(
                f"{name} has no validation or test split: all {split.examples} pictures of"
                f" {split.name} in {builder.info.full_name} are evaluated; none is known to have"
                " been trained on, but pictures of another version cannot be recognised."
            )
    else:
        raise UserError(
            f"dataset={name} has no split to evaluate on, only {', '.join(builder.info.splits)};"
            " pass test_split=."
        )
    return Dataset(
        name,
        _class_names(builder),
        None,
        split,
        fingerprint_of(builder, split),
        tuple(notes + _missing(builder, [roles[role]] if role else [])),
        side=prepared.source_of(builder).get("side"),
    )


def _class_names(builder: "DatasetBuilder") -> tuple[str, ...]:
    return imagenet.readable([plain(name) for name in builder.info.features["label"].names])


def _missing(builder: "DatasetBuilder", splits: Collection[str]) -> list[str]:
    """Lines on what ImageNet lacks here."""
    return [
        f"imagenet2012: only {builder.info.splits[split].num_examples} of its {whole} {split}"
        " pictures are here."
        for split, whole in imagenet.PICTURES.items()
        if builder.name == "imagenet2012"
        and split in splits
        and builder.info.splits[split].num_examples != whole
    ]


def _unused(name: str, builder: "DatasetBuilder", specs: Iterable[str]) -> list[str]:
    """A line on the splits, and parts of splits, that are in none of `specs`, if there are any."""
    used = np.concatenate([_places(builder, spec) for spec in specs])
    others = []
    for split, info in builder.info.splits.items():
        left = int((~np.isin(_places(builder, split), used)).sum())
        if left == info.num_examples > 0:
            others.append(f"{split} ({left} pictures)")
        elif left:
            others.append(f"{left} of the {info.num_examples} pictures of {split}")
    return [f"{name}: not used: {', '.join(others)}."] if others else []


def fingerprint_of(builder: "DatasetBuilder", *splits: Split | None) -> str:
    """What alexnet prepare has stored is known by its pictures, in their order, and their classes.
    What TFDS prepares is known by name, version and size alone: records that were changed in place
    are not seen.
    """
    parts = [f"{split.name} {split.examples}" for split in splits if split]
    if prepared.has_identities(builder):
        digest = hashlib.sha256(b"|".join(split.known().tobytes() for split in splits if split))
        parts += [digest.hexdigest(), str(prepared.source_of(builder).get("fingerprint"))]
    return f"{builder.info.full_name}, {builder.info.dataset_size} bytes: {', '.join(parts)}"


def _roles(name: str, builder: "DatasetBuilder", names: SplitNames) -> dict[str, str]:
    """{"train": split, ...}: those that the user names, and otherwise those with the usual names
    that have labels and pictures that are in none of the named ones.
    """
    roles = {role: split for role, split in vars(names).items() if split}
    for role, split in roles.items():
        try:
            examples = builder.info.splits[split].num_examples
        except (KeyError, ValueError, AssertionError, NotImplementedError):
            examples = 0
        if examples <= 0 or not _is_labelled(builder, split):
            why = "holds no pictures with labels" if examples > 0 else "is not one of its splits"
            raise UserError(
                f"{role}_split={split} {why}; dataset={name} has {', '.join(builder.info.splits)}."
            )
    named = np.concatenate([_NONE, *(_places(builder, split) for split in roles.values())])
    for split, info in builder.info.splits.items():
        usual = role_of(split)
        if (
            usual
            and not vars(names)[usual]
            and info.num_examples
            and not np.isin(_places(builder, split), named).all()
            and _is_labelled(builder, split)
        ):
            if usual in roles:
                raise UserError(
                    f"dataset={name} has both {roles[usual]} and {split}; say which is meant:"
                    f" {usual}_split={roles[usual]} or {usual}_split={split}."
                )
            roles[usual] = split
    return roles


def _refuse_parts_of_usual(
    name: str, builder: "DatasetBuilder", names: SplitNames, roles: dict[str, str]
) -> None:
    """Raises UserError where the user names pictures of a split that has another of `roles` by its
    usual name.
    """
    for role, split in roles.items():
        whole = _places(builder, split)
        for other, named in vars(names).items():
            if not named or vars(names)[role]:
                continue
            if shared := np.isin(whole, _places(builder, named)).sum():
                raise UserError(
                    f"dataset={name}: {other}_split={named} has {shared} of the {len(whole)}"
                    f" pictures of {split}, which by its name is the {role} split; pass"
                    f" {role}_split= too."
                )


def _refuse_missing(builder: "DatasetBuilder", specs: Iterable[str]) -> None:
    """Raises UserError unless the files of the splits are all there."""
    shards = {
        shard.filename for spec in specs for shard in builder.info.splits[spec].file_instructions
    }
    missing = sorted(file for file in shards if not tf.io.gfile.exists(file))
    if missing:
        raise UserError(
            f"{builder.data_dir}: {len(missing)} of the {len(shards)} files of records are missing,"
            f" first {pathlib.Path(missing[0]).name}; copy the whole data set, or prepare it again."
        )


def _is_labelled(builder: "DatasetBuilder", split: str) -> bool:
    """Whether one of the first pictures has a label: those of a test split may all be -1."""
    for stub in _split(builder, split).stubs(None).take(_LOOKED_AT):
        try:
            if int(_example(builder, stub)["label"]) >= 0:
                return True
        except tf.errors.OpError:
            return True  # damaged: others will say so
    return False


def _example(builder: "DatasetBuilder", stub: Tensors) -> Tensors:
    """{"image": bytes, "label": int64} of a record; an error where it is damaged."""
    import tensorflow_datasets as tfds

    there = tf.debugging.Assert(
        tf.strings.length(stub["serialized"]) > 0,
        ["the file is damaged at this record or before it"],
    )
    with tf.control_dependencies([there] if there is not None else []):
        return builder.info.features.deserialize_example(
            stub["serialized"], decoders={"image": tfds.decode.SkipDecoding()}
        )


def _places(builder: "DatasetBuilder", spec: str) -> np.ndarray:
    """uint64 of the records of a split, by their places in the data set alone: copies differ."""
    shards = builder.info.splits[spec].file_instructions
    return _identities(
        builder,
        [shard.filename for shard in shards],
        [shard.skip for shard in shards],
        [_count(shard) for shard in shards],
        stored={},
    )


def _count(shard: "FileInstruction") -> int:
    """How many of the records of a file are read."""
    return shard.take if shard.take >= 0 else shard.examples_in_shard - shard.skip


def _identities(
    builder: "DatasetBuilder",
    files: Iterable[str],
    begins: Iterable[int],
    counts: Iterable[int],
    stored: dict[str, np.ndarray],
) -> np.ndarray:
    """uint64 of the records: what is `stored` of those of a split, else the place of each in the
    data set.
    """
    starts, parts = prepared.shard_starts(builder), []
    for file, begin, count in zip(files, begins, counts):
        split, start = starts[pathlib.Path(file).name]
        if split in stored:
            parts.append(stored[split][start + begin : start + begin + count])
        else:
            first = identity(
                f"{builder.info.full_name} {builder.info.dataset_size} {split}".encode()
            )
            parts.append(
                np.uint64(first) + np.arange(start + begin, start + begin + count, dtype=np.uint64)
            )
    return np.concatenate([*parts, _NONE])


def _split(
    builder: "DatasetBuilder",
    spec: str,
    begin: int = 0,
    end: int | None = None,
    called: str | None = None,
) -> Split:
    """Records `begin` to `end` of a split of a prepared TFDS data set, as TFDS writes splits
    ("train[:80%]").

    The shards are read here, because TFDS shuffles with one seed for all epochs. Shuffled: the
    shards, then 16 of them interleaved, then windows of records.
    """
    import tensorflow_datasets as tfds

    adapter = tfds.core.file_adapters.ADAPTER_FOR_FORMAT[builder.info.file_format]
    files: list[str] = []
    skips: list[int] = []
    lengths: list[int] = []
    counts: list[int] = []
    done = 0
    for shard in builder.info.splits[spec].file_instructions:
        here = _count(shard)
        begins, ends = max(begin - done, 0), here if end is None else min(end - done, here)
        done += here
        if begins < ends:
            files.append(shard.filename)
            skips.append(shard.skip + begins)
            lengths.append(shard.examples_in_shard)
            counts.append(ends - begins)
    first = np.cumsum([0, *counts])

    @as_it_is
    def with_first(file: tf.Tensor) -> tf.Tensor:
        """-1, for take: all of `file`. An error where its first record cannot be read."""
        with tf.control_dependencies([adapter.make_tf_data(file).take(1).get_single_element()]):
            return tf.identity(tf.constant(-1, tf.int64))

    def readable(file: tf.Tensor) -> tf.Tensor:
        """-1, or 0 for a file that does not open: `ignore_errors` would try it without end."""
        all_of_it = tf.data.Dataset.from_tensors(file).map(with_first).ignore_errors()
        none = tf.data.Dataset.from_tensors(tf.constant(0, tf.int64))
        return all_of_it.concatenate(none).take(1).get_single_element()

    def stubs_of(shard: tf.Tensor) -> tf.data.Dataset:
        files_here, skips_here, lengths_here, counts_here, first_here = (
            tf.constant(values)[shard]
            for values in (files, *(np.array(v, np.int64) for v in (skips, lengths, counts, first)))
        )
        # TensorFlow reads a file up to its first damage. Empty records stand for the rest, so that
        # all others keep their places.
        records = (
            adapter.make_tf_data(files_here)
            .take(readable(files_here))
            .ignore_errors()
            .concatenate(tf.data.Dataset.from_tensors(b"").repeat(lengths_here))
        )
        return records.skip(skips_here).take(counts_here).enumerate(first_here)

    def stubs(epoch_seed: tf.Tensor | None) -> tf.data.Dataset:
        order = tf.data.Dataset.from_tensor_slices(shuffled_range(len(files), epoch_seed))
        records = order.interleave(
            stubs_of,
            cycle_length=OPEN_FILES,
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=True,
        )
        if epoch_seed is not None:
            records = (
                records.batch(_SHUFFLE_WINDOW)
                .enumerate(1)
                .map(functools.partial(_shuffle_window, epoch_seed))
                .unbatch()
            )
        return records.map(_stub)

    def stub_of(picture: tf.Tensor) -> tf.data.Dataset:
        shard = tf.searchsorted(tf.constant(first), tf.reshape(picture, [1]), side="right")[0] - 1
        return stubs_of(shard).skip(picture - tf.constant(first)[shard]).take(1).map(_stub)

    def load(stub: Tensors) -> Tensors:
        example = _example(builder, stub)
        label = example["label"]
        labelled = tf.debugging.Assert(label >= 0, ["it has no label"])
        with tf.control_dependencies([labelled] if labelled is not None else []):
            label = tf.identity(label)
        image = decoding.within_bounds(example["image"])
        return {"image": image, "label": label, "picture": stub["picture"]}

    def name_of(picture: int) -> str:
        file = files[np.searchsorted(first, picture, side="right") - 1]
        return f"{builder.info.full_name} {called or spec}, picture {picture} in {file}"

    return Split(
        called or spec,
        int(first[-1]),
        stubs,
        load,
        stub_of,
        name_of,
        _identities(builder, files, skips, counts, prepared.read_identities(builder)),
        rewritten=True,
        place=spec if begin == 0 and end is None else None,
    )


def _held_out(builder: "DatasetBuilder", spec: str, begin: int) -> Split:
    """What is kept from the training on a split: its records from `begin` on."""
    return dataclasses.replace(_split(builder, spec, begin, None, HELD_OUT_SPLIT), held_out=True)


@as_it_is
def _stub(picture: tf.Tensor, serialized: tf.Tensor) -> Tensors:
    return {"serialized": serialized, "picture": picture}


@as_it_is
def _shuffle_window(
    epoch_seed: tf.Tensor, window: tf.Tensor, records: tuple[tf.Tensor, tf.Tensor]
) -> tuple[tf.Tensor, tf.Tensor]:
    # Dataset.shuffle would do, were its seed not mixed with a global one that anybody may set.
    pictures, serialized = records
    order = shuffled_range(tf.size(pictures), epoch_seed, window)
    return tf.gather(pictures, order), tf.gather(serialized, order)
