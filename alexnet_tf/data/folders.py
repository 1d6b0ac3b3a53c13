"""A folder of class folders as a data set: to train on, to check, to judge by."""

import dataclasses
import os
import pathlib
from collections.abc import Sequence

import numpy as np

from alexnet_tf import picture_files
from alexnet_tf.bounds import plain
from alexnet_tf.data import held_out, imagenet, record
from alexnet_tf.data.class_folders import are_classes, subfolders
from alexnet_tf.data.copies import in_both, in_several_classes
from alexnet_tf.data.layout import UNLABELLED, Layout
from alexnet_tf.data.names import USUAL, SplitNames
from alexnet_tf.data.part import fingerprint, read_part
from alexnet_tf.data.splits import Dataset, not_evaluated
from alexnet_tf.errors import UserError

_SAVED_ANEW = (
    " A picture that was trained on and saved again (turned, tagged, compressed) counts as new."
)
_LAYOUT = "pass one with train/ and test/, with one folder per class in each"


def open_folder(
    data_dir: str | os.PathLike | None,
    seed: int,
    names: SplitNames = USUAL,
    choosing: bool = False,
    seen: record.Record | None = None,
    suffixes: Sequence[str] = picture_files.SUFFIXES,
    anew: bool = False,
) -> Dataset:
    """The Dataset of a folder, to train on: see datasets.open_dataset."""
    root, names = _root(data_dir), names.of_folder()
    for role in ("validation", "test"):
        if getattr(names, role) == ".":
            raise UserError(
                f"{role}_split=.: the folders in {root} itself can be train_split=. of a training"
                f" or test_split=. of an evaluation; name the folder of the {role} pictures."
            )
    layout = Layout(root, names, suffixes)
    if "train" not in layout.splits:
        there = " and ".join(
            f"{layout.splits[role].name}/"
            for role in ("validation", "test")
            if role in layout.splits
        )
        only = f", only {there} to evaluate on" if there else ""
        raise UserError(f"{root} has nothing to train on{only}; {_LAYOUT}.")
    train = read_part(layout, layout.splits["train"])
    imagenet.refuse_background(train.class_names)
    validation, test = (
        read_part(layout, layout.splits[role], train.class_names) if role in layout.splits else None
        for role in ("validation", "test")
    )
    notes = in_several_classes(train)
    if not validation and (not test or choosing):
        train, validation = held_out.divide(root, train, test, seed, seen, notes)
    elif not validation and not anew and seen and seen.keeps_apart(train.identities).any():
        train, validation = held_out.kept_apart(root, train, seen, notes)
    class_names = imagenet.readable(train.class_names)
    judging = [part for part in (validation, test) if part]  # the first is looked at meanwhile
    splits = [part.split() for part in judging]
    for part in judging:
        notes += not_evaluated(class_names, part.labels, part.name)
        if not part.held_out:
            notes += in_several_classes(part) + in_both(train, part)
    if validation and test:
        notes += in_both(validation, test)
    notes += layout.notes()
    return Dataset(
        "folder",
        class_names,
        train.split(),
        splits[0],
        fingerprint(train, validation, test),
        tuple(notes),
        class_counts=tuple(np.bincount(train.labels, minlength=len(class_names)).tolist()),
        test=splits[-1] if test else None,
        unused=tuple(layout.unused.lines()),
    )


def open_to_check(
    data_dir: str | os.PathLike | None,
    names: SplitNames = USUAL,
    suffixes: Sequence[str] = picture_files.SUFFIXES,
) -> Dataset | None:
    """The Dataset of a folder that has pictures to judge by, and none to train on, whose classes
    are those that it has; None for others: see datasets.open_to_check.
    """
    layout = Layout(_root(data_dir), names.of_folder(), suffixes)
    judging = [layout.splits[role] for role in ("validation", "test") if role in layout.splits]
    if "train" in layout.splits or not judging:
        return None
    class_names = sorted({plain(path.name) for one in judging for path in subfolders(one)})
    parts = [read_part(layout, one, class_names) for one in judging]
    splits, notes = [part.split() for part in parts], sum(map(in_several_classes, parts), [])
    if len(parts) > 1:
        notes += in_both(*parts)
    return Dataset(
        "folder",
        tuple(class_names),
        None,
        splits[0],
        fingerprint(*parts),
        tuple(notes + layout.notes()),
        test=splits[-1] if "test" in layout.splits else None,
        unused=tuple(layout.unused.lines()),
    )


def open_evaluation(
    data_dir: str | os.PathLike | None,
    class_names: Sequence[str],
    seen: record.Record,
    names: SplitNames = USUAL,
    trained_here: bool = False,
) -> Dataset:
    """The Dataset of a folder that is to judge networks of these classes: see
    datasets.open_evaluation.
    """
    root, names = _root(data_dir), names.of_folder()
    whole = names.test == "."
    if whole:
        names = SplitNames(train=".")
    if names == USUAL and are_classes(subfolders(root), class_names):
        names = SplitNames(train=".")  # even where they are called as splits are
    layout = Layout(root, names)
    if layout.unlabelled and names.test and "test" not in layout.splits:
        raise UserError(f"test_split={names.test}: {layout.unlabelled[0]} {UNLABELLED}.")
    role = next(role for role in ("test", "validation", "train") if role in layout.splits)
    folder, notes = layout.splits[role], []
    part = read_part(layout, folder, class_names or None)
    if role == "train" and not whole:
        if folder == root:
            part = dataclasses.replace(part, name="pictures")
        trained_on = seen.has_seen(part.identities)
        if trained_on.all():
            raise UserError(
                f"{root} has no evaluation split, and all of its {len(trained_on)} pictures were "
                "trained on; pass pictures that were not."
            )
        if trained_on.any():
            known = np.isin(part.identities, seen.held_out) & ~trained_on
            fresh = (~trained_on & ~known).sum()
            part = part.where(~trained_on).kept_apart()
            notes.append(
                f"{root} has no evaluation split: {trained_on.sum()} of its {len(trained_on)}"
                f" pictures were trained on and are left out; {known.sum()} that were held out and"
                f" {fresh} that are new are evaluated." + _SAVED_ANEW * bool(fresh)
            )
        elif trained_here and len(seen.trained):
            notes.append(
                f"{root} is the folder that was trained on, but its pictures have changed: all"
                f" {len(trained_on)} are evaluated." + _SAVED_ANEW
            )
    notes += in_several_classes(part) + layout.notes()
    return Dataset(
        "folder",
        part.class_names,
        None,
        part.split(),
        fingerprint(part),
        tuple(notes),
    )


def _root(data_dir: str | os.PathLike | None) -> pathlib.Path:
    if not data_dir:
        raise UserError(
            "dataset=folder reads the class folders below data_dir=; pass data_dir=DIR."
        )
    root = pathlib.Path(data_dir)
    if root.is_file():
        raise UserError(
            f"data_dir={data_dir} is a file; unpack it if it is an archive, and {_LAYOUT}."
        )
    if not root.is_dir():
        raise UserError(f"data_dir={data_dir} is not a folder; {_LAYOUT}.")
    return root
