"""Where pictures come from: the embedded shapes, a folder of class folders, or any TFDS
image-classification data set.

`open_dataset` and `open_evaluation` check what can be checked before any long work and return a
`Dataset`, from which `pipeline` reads.
"""

import dataclasses
import itertools
import os
import pathlib
import re
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from alexnet_tf import bounds, disk, picture_files
from alexnet_tf.data import folders, prepared, record, tfds
from alexnet_tf.data.names import USUAL, SplitNames, of_flags
from alexnet_tf.data.splits import Dataset
from alexnet_tf.errors import UserError

if TYPE_CHECKING:
    from tensorflow_datasets.core import DatasetBuilder

_LOOKED_AT = 3000  # files of a folder that may be one of pictures
_SHARD = re.compile(rb"-\d{5,}-of-\d{5,}$")  # as TFDS calls the files of its records


def open_dataset(
    name: str,
    data_dir: str | os.PathLike | None = None,
    seed: int = 0,
    names: SplitNames = USUAL,
    choosing: bool = False,
    seen: record.Record | None = None,
    suffixes: tuple = picture_files.SUFFIXES,
    anew: bool = False,
) -> Dataset:
    """Opens data set `name` to train on: "folder" reads `data_dir`, anything else is a TFDS name,
    prepared on first use.

    If `data_dir` holds a prepared data set, such as `alexnet prepare` writes, that is read. A data
    set without an evaluation split keeps a tenth of its training pictures for that, drawn with
    `seed`; one with a test split alone does so where something is `choosing` by the evaluation.
    Whatever `seen` knows, the record of the same or an earlier training, stays where it was; where
    a training begins `anew`, only if some have to be held out again. Pictures of a folder, files
    that end in `suffixes`, are left out where they cannot be read. Raises UserError, before any
    long work, if there is nothing to read.
    """
    if not isinstance(name, str) or not isinstance(names, SplitNames):
        odd = name if isinstance(names, SplitNames) else names
        raise UserError(
            f"open_dataset takes no {type(odd).__name__} here ({str(odd)[:80]}); pass a name, such "
            'as "folder", then data_dir=DIR, and names= as an alexnet_tf.data.names.SplitNames.'
        )
    data_dir = None if data_dir is None else disk.local(data_dir, "data_dir")
    seed = bounds.whole(seed, "seed")
    opened = _open(
        name,
        data_dir,
        lambda: folders.open_folder(data_dir, seed, names, choosing, seen, suffixes, anew),
        lambda builder, statistics: tfds.dataset_to_train_on(
            name, builder, statistics, names, choosing, seen, anew
        ),
    )
    # The folder is to be found again from any other.
    folder = str(pathlib.Path(data_dir).absolute()) if data_dir else None
    return _telling_what_chooses(
        dataclasses.replace(
            opened,
            opened_with={"dataset": name, "data_dir": folder, "seed": seed}
            | {f"{role}_split": called for role, called in vars(names).items() if called},
        ),
        choosing,
    )


def open_to_check(
    name: str,
    data_dir: str | os.PathLike | None,
    seed: int,
    names: SplitNames,
    suffixes: tuple,
) -> Dataset:
    """As open_dataset, for looking at its pictures alone: a folder needs none to train on."""
    return _open(
        name,
        data_dir if data_dir is None else disk.local(data_dir, "data_dir"),
        lambda: (
            folders.open_to_check(data_dir, names, suffixes)
            or folders.open_folder(data_dir, seed, names, suffixes=suffixes)
        ),
        lambda builder, statistics: tfds.dataset_to_train_on(
            name, builder, statistics, names, False, None, False
        ),
    )


def divided_for(
    dataset: Dataset,
    choosing: bool = False,
    seen: record.Record | None = None,
    anew: bool = False,
) -> Dataset:
    """`dataset` as a training wants it divided: with some of its training pictures to choose by
    where something is `choosing`, and with all that an earlier training has `seen` where it was,
    as open_dataset has it where this one begins `anew`; itself where that is so, or where it is of
    the user's own splits.

    It is opened again for that. Raises UserError if other pictures are found there now.
    """
    told = dataset.opened_with
    undivided = choosing and dataset.test is dataset.evaluation
    if told.get("dataset") is None or not (undivided or seen):
        return _telling_what_chooses(dataset, choosing)
    again = open_dataset(
        told["dataset"],
        told["data_dir"],
        told["seed"],
        of_flags(told),
        choosing or dataset.chose(),
        seen,
        anew=anew,
    )
    if (again.class_names, _examples(again)) != (dataset.class_names, _examples(dataset)):
        raise UserError(
            f"The pictures of {dataset.name} have changed since it was opened; open it again."
        )
    return again


def _telling_what_chooses(dataset: Dataset, choosing: bool) -> Dataset:
    """`dataset` with a note where something is `choosing` by the pictures that are reported on."""
    split = dataset.evaluation
    line = (
        f"The {split.examples} pictures of {split.name} choose the weights and the rate, and are"
        " also reported on: a test split, on which nothing is chosen, would tell more."
    )
    if not choosing or dataset.chose() or line in dataset.notes:
        return dataset
    return dataclasses.replace(dataset, notes=(*dataset.notes, line))


def _examples(dataset: Dataset) -> int:
    return sum(split.examples for split in (dataset.to_train(), *dataset.evaluations()))


def open_evaluation(
    name: str,
    data_dir: str | os.PathLike | None,
    class_names: tuple,
    records: Iterable[record.Record | None] = (),
    names: SplitNames = USUAL,
    trained_in: Iterable[str | os.PathLike | None] = (),
) -> Dataset:
    """Opens data set `name`, as open_dataset does, to judge networks of the classes `class_names`,
    or a part of a network, which has none: then any classes will do. It needs no training split.

    `evaluation` is the test split, else the validation split. Where there is neither, it is all
    that none of `records`, one for each network, has been trained on: the whole of a folder that
    they have not seen. `trained_in` are the folders that the networks were trained on, where the
    records may know none of the pictures, because all were saved anew. It may lack some of the
    classes. Raises UserError where nothing is left.
    """
    seen = record.union(records)
    data_dir = None if data_dir is None else disk.local(data_dir, "data_dir")
    here = data_dir and os.path.realpath(data_dir)
    trained_here = here in [os.path.realpath(folder) for folder in trained_in if folder]
    opened = _open(
        name,
        data_dir,
        lambda: folders.open_evaluation(data_dir, class_names, seen, names, trained_here),
        lambda builder, _: tfds.dataset_to_evaluate(name, builder, names, seen),
        training=False,
    )
    folder = str(data_dir.absolute()) if data_dir else None
    return dataclasses.replace(opened, opened_with={"dataset": name, "data_dir": folder})


def _open(
    name: str,
    data_dir: pathlib.Path | None,
    open_folder: Callable[[], Dataset],
    open_builder: Callable[["DatasetBuilder", dict | None], Dataset],
    training: bool = True,
) -> Dataset:
    stored = prepared.find(data_dir) if data_dir else None
    if stored:
        return open_builder(tfds.stored_builder(name, stored), prepared.read_statistics(stored))
    if name == "folder":
        try:
            return open_folder()
        except OSError as error:
            raise UserError(f"{error.filename} cannot be read ({error.strerror}).") from None
    if data_dir and (picture := _picture_below(data_dir)):
        raise UserError(
            f"data_dir={data_dir} holds pictures, such as {picture_files.shown(picture)}; pass"
            f" dataset=folder to read them, or another data_dir= for {name}."
        )
    return open_builder(tfds.named_builder(name, data_dir, training), None)


def _picture_below(folder: str | os.PathLike) -> str | None:
    """The name of a picture anywhere below `folder`, or None. Looks at the first _LOOKED_AT files,
    and not where TFDS keeps what it has downloaded.
    """
    known, top = picture_files.SUFFIXES + picture_files.READ_BY_PREPARE, os.fsencode(folder)
    real = pathlib.Path(os.path.realpath(folder))
    been = {os.fsencode(around) for around in (real, *real.parents)}  # a link may lead back up

    def files() -> Iterator[bytes]:
        for here, inner, names in os.walk(top, followlinks=True):
            yield from (
                os.path.join(here, name)
                for name in sorted(names)
                # a shard may begin like a BMP file: with the length of its first record
                if not _SHARD.search(name) and not picture_files.is_hidden(name)
            )
            inner[:] = [
                name
                for name in sorted(picture_files.unseen(here, inner, been))
                if not picture_files.is_hidden(name) and (here, name) != (top, b"downloads")
            ]

    some = itertools.islice(files(), _LOOKED_AT)
    picture = next((file for file in some if picture_files.is_picture(file, known)), None)
    return None if picture is None else os.fsdecode(os.path.relpath(picture, top))


def stranger_in(folder: str | os.PathLike, name: str) -> str | None:
    """The name of something in `folder`, where TFDS is to keep data set `name`, that is neither a
    data set of TFDS nor one of its downloads. None where there is no such thing, where the folder
    is one of pictures, which _open refuses, and where it holds what was prepared.
    """
    if not os.path.isdir(folder) or prepared.find(folder) or _picture_below(folder):
        return None
    _, inner, files = next(os.walk(os.fspath(folder)), ("", [], []))
    for entry in sorted(inner + files):
        ours = entry in ("downloads", re.split("[:/]", name)[0])
        if not ours and not picture_files.is_nobodys(os.fsencode(entry)):
            versions = ("*.*.*", "*/*.*.*")  # the second: of a configuration
            found = (
                pathlib.Path(folder, entry).glob(f"{one}/dataset_info.json") for one in versions
            )
            if not any(itertools.chain(*found)):
                return entry
    return None
