"""Class folders of picture files."""

import hashlib
import os
import pathlib

import numpy as np

from alexnet_tf.data import imagenet, pictures
from alexnet_tf.data.splits import EVALUATION_SPLITS, HELD_OUT, HELD_OUT_SPLIT, Dataset, split_of_files
from alexnet_tf.errors import UserError


def open_folder(data_dir, seed, by_pillow=False):
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
    """Mask of the pictures to hold out: `HELD_OUT` of each class, at least one where it has two or more."""
    rng = np.random.default_rng(seed)
    held = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        of_class = np.flatnonzero(labels == label)
        count = min(max(1, round(HELD_OUT * len(of_class))), len(of_class) - 1)
        held[rng.permutation(of_class)[:count]] = True
    return held



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
