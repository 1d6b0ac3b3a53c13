"""Class folders of picture files: which are splits, which are classes, and whose each file is."""

import collections
import dataclasses
import functools
import hashlib
import os
import pathlib

import numpy as np

from alexnet_tf import picture_files
from alexnet_tf.data import imagenet, pictures, record
from alexnet_tf.data.names import HELD_OUT, HELD_OUT_SPLIT, USUAL, plain, role_of
from alexnet_tf.data.splits import Dataset, split_of_files
from alexnet_tf.errors import UserError

_UNLABELLED = (
    "holds pictures and no class folders; to be judged by, pictures lie in folders that are called"
    " as their classes"
)
_LAYOUT = "pass one with train/ and test/, a folder a class in each"


class AllSeenError(UserError):
    """Nothing can be held out: the network was trained on all of it."""


def open_folder(
    data_dir, seed, names=USUAL, choosing=False, seen=None, suffixes=picture_files.SUFFIXES
):
    """The Dataset of a folder, to train on: see datasets.open_dataset."""
    root = _root(data_dir)
    layout = _Layout(root, names, suffixes)
    if not layout.train:
        there = " and ".join(
            f"{folder.name}/" for folder in (layout.validation, layout.test) if folder
        )
        raise UserError(
            f"{root} has nothing to train on, but {there or 'nothing'} to evaluate on; {_LAYOUT}."
        )
    train = layout.read(layout.train)
    imagenet.refuse_background(train.class_names)
    validation, test = (
        layout.read(folder, train.class_names) if folder else None
        for folder in (layout.validation, layout.test)
    )
    notes = []
    if not validation and (not test or choosing or (seen and seen.divides(train.identities))):
        train, validation = _divide(root, train, test, seed, seen, notes)
    class_names = imagenet.readable(train.class_names)
    evaluation = (validation or test).split()
    reported = evaluation if test and not validation else test and test.split()
    for part in filter(None, (validation, test)):
        notes += _not_evaluated(class_names, part)
        if part.name != HELD_OUT_SPLIT:
            notes += _also_trained_on(train, part)
    notes += layout.notes()
    return Dataset(
        "folder",
        class_names,
        train.split(),
        evaluation,
        _fingerprint(train, validation, test),
        tuple(notes),
        tuple(layout.bad_pictures),
        class_counts=tuple(np.bincount(train.labels, minlength=len(class_names)).tolist()),
        test=reported,
        unused=tuple(layout.unused.lines()),
    )


def open_evaluation(data_dir, class_names, seen, names=USUAL):
    """The Dataset of a folder that is to judge networks of these classes: see
    datasets.open_evaluation.
    """
    root = _root(data_dir)
    layout = _Layout(root, names)
    folder = layout.test or layout.validation
    if layout.unlabelled and names.test and not layout.test:
        raise UserError(f"test_split={names.test}: {layout.unlabelled[0]} {_UNLABELLED}.")
    part = layout.read(folder or layout.train, class_names)
    notes = []
    if not folder:
        part = part.named("pictures" if layout.train == root else plain(layout.train.name))
        trained_on = seen.has_seen(part.identities)
        if trained_on.all():
            raise UserError(
                f"{root} has no evaluation split, and all of its {len(trained_on)} pictures were "
                "trained on; pass pictures that were not."
            )
        if trained_on.any():
            known = np.isin(part.identities, seen.held_out) & ~trained_on
            fresh = (~trained_on & ~known).sum()
            part = part.where(~trained_on).named(HELD_OUT_SPLIT)
            notes.append(
                f"{root} has no evaluation split: {trained_on.sum()} of its {len(trained_on)}"
                f" pictures were trained on and are left out; {known.sum()} that were held out and"
                f" {fresh} that are new are judged."
            )
    notes += _not_evaluated(class_names, part) + layout.notes()
    return Dataset(
        "folder",
        tuple(class_names),
        None,
        part.split(),
        _fingerprint(part),
        tuple(notes),
        tuple(layout.bad_pictures),
    )


def list_pictures(paths, class_names=()):
    """Returns a Split of the pictures that are, or lie anywhere below, `paths`, and their file
    names, in sorted order.

    A picture's label is the place in `class_names` of the nearest folder around it that is named
    there, no further up than
    `paths`; -1 where there is none. Raises UserError if there are no pictures, or if one is broken.
    """
    names, tops = [], []
    for path in paths:
        if not os.path.exists(path):
            raise UserError(f"{path} does not exist; pass pictures, or folders of pictures.")
        found = picture_files.walk(path)[0] if os.path.isdir(path) else [os.fsencode(path)]
        top = (
            os.path.abspath(path) if os.path.isdir(path) else os.path.dirname(os.path.abspath(path))
        )
        names += found
        tops += [top] * len(found)
    files = list(map(os.fsdecode, names))
    if not files:
        raise UserError(
            f"No picture ({', '.join(picture_files.SUFFIXES)}) in {', '.join(map(str, paths))}."
        )
    for name, fault in zip(names, pictures.examine(names)[1]):
        if fault:
            raise UserError(
                f"{picture_files.shown(name)} cannot be read ({fault}); replace it or take it out."
            )
    labels = np.array(
        [_label_around(os.path.abspath(file), top, class_names) for file, top in zip(files, tops)],
        np.int64,
    )
    return (
        split_of_files("pictures", np.array(names, object), labels, pictures.identities(names)),
        files,
    )


@dataclasses.dataclass(frozen=True)
class _Part:
    """The pictures of a split."""

    name: str
    class_names: tuple
    files: np.ndarray
    labels: np.ndarray
    identities: np.ndarray

    def where(self, mask):
        return dataclasses.replace(
            self, files=self.files[mask], labels=self.labels[mask], identities=self.identities[mask]
        )

    def named(self, name):
        return dataclasses.replace(self, name=name)

    def split(self):
        return split_of_files(self.name, self.files, self.labels, self.identities)


class _Unused:
    """Files that are not used, by the reason."""

    def __init__(self, root):
        self._root, self._files = root, {}

    def add(self, file, reason=None):
        """`reason` stands for the ending of the file."""
        if os.path.islink(file) and not os.path.exists(file):
            reason = "dead link{s}"
        suffix = picture_files.ending(file)
        kind = reason or (
            f"file{{s}} of {_braced(suffix)}" if suffix else "file{s} without an ending"
        )
        if suffix in picture_files.READ_BY_PREPARE and not reason:
            kind += ", which alexnet prepare reads"
        self._files.setdefault(os.fsencode(file), kind)

    def describe(self):
        """All of it in a few words, or ""."""
        kinds = collections.Counter(self._files.values())
        first = {kind: file for file, kind in sorted(self._files.items(), reverse=True)}
        return "; ".join(
            f"{count} {kind.format(s='s' * (count > 1))} (first "
            f"{picture_files.shown(os.path.relpath(first[kind], os.fsencode(self._root)))})"
            for kind, count in sorted(kinds.items(), key=lambda item: (-item[1], item[0]))
        )

    def lines(self):
        return [
            f"{picture_files.shown(file)} is not used ({kind.format(s='')})"
            for file, kind in sorted(self._files.items())
        ]


class _Layout:
    """What the folders below `root` are: `train`, `validation` and `test`, each a path or None.

    A folder is a split if its name says so and class folders lie in it, for a class may be called
    train. Where that leaves two readings, UserError says how to choose.
    """

    def __init__(self, root, names, suffixes=picture_files.SUFFIXES):
        self.root, self._suffixes = root, suffixes
        self.unused, self.bad_pictures = _Unused(root), []
        self.train = self.validation = self.test = None
        self._holds_picture = functools.cache(
            lambda path: bool(picture_files.walk(path, suffixes)[0])
        )
        self._find(_subfolders(root), names)

    def _find(self, folders, names):
        named = {
            role: _named(self.root, folders, role, name)
            for role, name in vars(names).items()
            if name and name != "."
        }
        rest = [path for path in folders if path not in named.values()]
        usual = {} if names.train == "." else self._usual(rest, named)
        if not any(vars(names).values()):
            self._refuse_unclear(folders, usual)
        splits = named | usual
        for role, path in splits.items():
            if not self._holds_picture(path):
                raise UserError(
                    f"{role}_split={path.name}: {path} holds no picture "
                    f"({', '.join(self._suffixes)})."
                )
            if self._holds_classes(path):
                setattr(self, role, path)
            elif role != "test":
                raise UserError(f"{role}_split={path.name}: {path} {_UNLABELLED}.")
        rest = [path for path in rest if path not in usual.values()]
        # Beside splits, a folder that is called like one holds pictures without labels.
        classes = (
            rest
            if not splits or names.train == "."
            else [path for path in rest if role_of(path.name) in (None, "train")]
        )
        if (
            names.train == "."
            or not self.train
            and (not splits or any(map(self._holds_picture, classes)))
        ):
            self.train, self._classes = self.root, classes
        taken = (
            self.train,
            self.validation,
            self.test,
            *(classes if self.train == self.root else ()),
        )
        left = [path for path in (*splits.values(), *rest) if path not in taken]
        self.unlabelled = [
            path
            for path in left
            if path in splits.values() or role_of(path.name) and not self._holds_classes(path)
        ]
        for path in left:
            why = (
                "holds no class folders" if path in self.unlabelled else "is not one of the splits"
            )
            for file in sum(picture_files.walk(path, self._suffixes), []):
                self.unused.add(file, f"file{{s}} in {_braced(path.name)}/, which {why}")
        if self.train != self.root:
            self._add_beside(self.root)

    def _usual(self, folders, named):
        """{role: folder} of those that hold class folders and have the usual names of roles that
        are not `named`.
        """
        found = {}
        for path in folders:
            role = role_of(path.name)
            if not role or role in named or not self._holds_classes(path):
                continue
            if role in found:
                raise UserError(
                    f"{self.root} holds both {found[role].name}/ and {path.name}/; say which is "
                    "meant: "
                    f"{role}_split={found[role].name} or {role}_split={path.name}."
                )
            found[role] = path
        return found

    def _refuse_unclear(self, folders, splits):
        bare = [
            path
            for path in folders
            if role_of(path.name) not in (None, "train")
            and path not in splits.values()
            and self._holds_picture(path)
        ]
        others = [
            path
            for path in folders
            if role_of(path.name) in (None, "train")
            and path not in splits.values()
            and self._holds_picture(path)
        ]
        if splits and others and ("train" not in splits or len(splits) + len(bare) == 1):
            role, path = next(iter(splits.items()))
            doubt = f"is {path.name}/ a split, or a class like {others[0].name}/ beside it?"
        elif not splits and bare and len(others) >= 2:
            path, role = bare[0], role_of(bare[0].name)
            doubt = f"is {path.name}/ a class, or are its pictures some without labels?"
        else:
            return
        raise UserError(
            f"{self.root}: {doubt} Pass train_split=. if it is a class, or "
            f"{role}_split={path.name} if it is not."
        )

    def _holds_classes(self, path):
        return any(map(self._holds_picture, _subfolders(path)))

    def _add_beside(self, folder):
        """Notes the files in `folder` itself, where only folders count."""
        for entry in sorted(os.scandir(os.fsencode(folder)), key=lambda entry: entry.name):
            if not picture_files.is_hidden(entry.name) and not entry.is_dir():
                suffix = picture_files.ending(entry.path)
                self.unused.add(
                    entry.path,
                    "picture{s} beside the class folders" if suffix in self._suffixes else None,
                )

    def read(self, folder, class_names=None):
        """The _Part of a folder of class folders: `class_names` are those that it may have; None:
        its own, at least two.

        Raises UserError for other classes, and for one of its own without pictures.
        """
        classes = sorted(
            self._classes if folder == self.root else _subfolders(folder),
            key=lambda path: plain(path.name),
        )
        own = class_names is None
        if len(classes) < 2 and own:
            raise UserError(
                f"{folder} holds {len(classes)} class folder{'s' * (len(classes) != 1)}; a "
                "classifier needs at least 2. "
                "Is data_dir= one level too high or too low?"
            )
        if not classes:
            raise UserError(
                f"{folder} {_UNLABELLED}."
                if self._holds_picture(folder)
                else (
                    f"{folder} holds no picture"
                    f"{self._but_others(folder)}; pass a folder of class folders."
                )
            )
        _check_names(folder, classes)
        places = range(len(classes)) if own else _places(folder, classes, class_names)
        files, labels = [], []
        for label, path in zip(places, classes):
            found, others = picture_files.walk(path, self._suffixes)
            for file in others:
                self.unused.add(file)
            if not found and own:
                raise UserError(
                    f"{path} holds no picture "
                    f"({', '.join(self._suffixes)}){self._but_others(path)}; remove the folder "
                    "or fill it."
                )
            files += found
            labels += [label] * len(found)
        self._add_beside(folder)
        by_pillow = set(self._suffixes) >= set(picture_files.READ_BY_PREPARE)
        _, faults = pictures.examine(files, by_pillow)
        bad = [
            f"{picture_files.shown(file)} cannot be read ({fault})"
            for file, fault in zip(files, faults)
            if fault
        ]
        self.bad_pictures += bad
        good = np.array([fault is None for fault in faults], bool)
        files, labels = np.array(files, object), np.array(labels, np.int64)
        empty = set(range(len(classes))) - set(labels[good].tolist()) if own else set()
        if empty or not good.any():
            path = classes[min(empty)] if empty else folder
            first = next(
                (
                    f": {line}"
                    for line in bad
                    if line.startswith(picture_files.shown(os.fsencode(path)))
                ),
                self._but_others(path),
            )
            raise UserError(f"{path} holds no picture that can be read{first}.")
        names = tuple(plain(path.name) for path in classes) if own else tuple(class_names)
        return _Part(
            plain(folder.name), names, files[good], labels[good], pictures.identities(files[good])
        )

    def _but_others(self, folder):
        """What there is in `folder` instead of pictures, for the end of a sentence."""
        of_it = _Unused(folder)
        for file in picture_files.walk(folder, self._suffixes)[1]:
            of_it.add(file)
        return f", but {there}" if (there := of_it.describe()) else ""

    def notes(self):
        """A line on what is not used, if there is anything."""
        unused = self.unused.describe()
        return [f"{self.root}: not used: {unused}."] if unused else []


def _root(data_dir):
    if not data_dir:
        raise UserError(
            "dataset=folder reads the class folders below data_dir=; pass data_dir=DIR."
        )
    root = pathlib.Path(data_dir)
    if not root.is_dir():
        raise UserError(f"data_dir={data_dir} is not a folder; {_LAYOUT}.")
    return root


def _braced(text):
    """`text`, printable, to come out of str.format as it is."""
    return picture_files.shown(text).replace("{", "{{").replace("}", "}}")


def _subfolders(folder):
    paths = [
        path
        for path in folder.iterdir()
        if not picture_files.is_hidden(os.fsencode(path.name)) and path.is_dir()
    ]
    return sorted(paths, key=lambda path: os.fsencode(path.name))


def _named(root, folders, role, name):
    """The folder that a user calls `name`."""
    for path in folders:
        if plain(path.name) == plain(name.rstrip("/")):
            return path
    raise UserError(
        f"{role}_split={name}: {root} has no such folder, but "
        f"{', '.join(path.name for path in folders[:9]) or 'none'}."
    )


def _check_names(folder, classes):
    """Raises UserError for folders that cannot be classes: their names are not text or the same, or
    splits lie in them.
    """
    alike = {}
    for path in classes:
        if (
            not plain(path.name) or not plain(path.name).isprintable()
        ):  # a surrogate stands for a byte that is no UTF-8
            raise UserError(
                f"{folder}: the class folder {os.fsencode(path.name)!r} has a name that cannot be "
                "printed; rename it."
            )
        other = alike.setdefault(plain(path.name).casefold(), path)
        if other is not path:
            raise UserError(
                f"{folder}: the class folders {os.fsencode(other.name)!r} and "
                f"{os.fsencode(path.name)!r} differ in nothing "
                "but case, blanks or Unicode form; if they are one class, move the pictures into "
                "one, else rename one."
            )
        roles = {role_of(inner.name) for inner in _subfolders(path)}
        if "train" in roles and len(roles - {None}) > 1:
            raise UserError(f"{path} holds splits; turn them round, as {folder}/train/{path.name}.")


def _places(folder, classes, class_names):
    """The place of each class folder among `class_names`.

    Raises UserError for one that is not there.
    """
    places = {name: place for place, name in enumerate(class_names)}
    folded = {plain(name).casefold(): place for place, name in enumerate(class_names)}
    found = []
    for path in classes:
        name = plain(path.name)
        found.append(
            next(
                (
                    table[key]
                    for table, key in (
                        (places, name),
                        (places, imagenet.readable([name])[0]),
                        (folded, name.casefold()),
                    )
                    if key in table
                ),
                None,
            )
        )
    odd = [plain(path.name) for path, place in zip(classes, found) if place is None]
    if odd:
        raise UserError(
            f"{folder}: {', '.join(odd[:5])}{', ...' * (len(odd) > 5)} "
            f"{'is not one' if len(odd) == 1 else 'are none'} of the "
            f"{len(class_names)} classes "
            f"({', '.join(class_names[:5])}{', ...' * (len(class_names) > 5)}); rename the "
            "folder as the class is called, or take it out."
        )
    return found


def _label_around(file, top, class_names):
    folder = os.path.dirname(file)
    by_name = {plain(name): place for place, name in enumerate(class_names)}
    while True:
        name = plain(os.path.basename(folder))
        label = by_name.get(name, by_name.get(imagenet.readable([name])[0], -1))
        if label >= 0 or folder == top or folder == os.path.dirname(folder):
            return label
        folder = os.path.dirname(folder)


def _divide(root, train, test, seed, seen, notes):
    """(the _Part to train on, the one held out).

    Raises UserError if there is nothing to hold out.
    """
    held = record.divide(train.labels, train.identities, HELD_OUT, seed, seen)
    missing = "no validation split" if test else "no evaluation split (val/, validation/, test/)"
    if not held.any() and seen and seen.has_seen(train.identities).all():
        raise AllSeenError(
            f"{root} has {missing}, and all its pictures were trained on already; pass patience=0 "
            "and a schedule= other than plateau, so that nothing is chosen by them, or add a "
            "folder val/."
        )
    if not held.any():
        raise UserError(
            f"{root} has {missing}, and no class with a second picture to keep for evaluation."
        )
    empty = set(train.labels.tolist()) - set(train.labels[~held].tolist())
    if empty:
        raise UserError(
            f"{root}: all pictures of {train.class_names[min(empty)]} were held out from the "
            "training and none is left to "
            "train on; add some, or pass another model_dir=."
        )
    what = "choose the weights and the rate; test/ does not" if test else "are kept for evaluation"
    notes.append(
        f"{root} has {missing}: {held.sum()} of {len(held)} pictures, drawn per class with "
        f"seed={seed}, {what}."
    )
    return train.where(~held), train.where(held).named(HELD_OUT_SPLIT)


def _not_evaluated(class_names, part):
    """A line on the classes of which `part` has no picture, if there are any."""
    missing = [
        name for label, name in enumerate(class_names) if label not in set(part.labels.tolist())
    ]
    if not missing:
        return []
    more = f" and {len(missing) - 5} more" * (len(missing) > 5)
    return [f"Not evaluated, as {part.name} has no picture of it: {', '.join(missing[:5])}{more}."]


def _also_trained_on(train, part):
    """A line on pictures of `part` that are in `train` too, if there are any."""
    both = np.flatnonzero(np.isin(part.identities, train.identities))
    if not len(both):
        return []
    return [
        f"{len(both)} of the {len(part.files)} pictures of {part.name} are in {train.name} too, "
        "first "
        f"{picture_files.shown(part.files[both[0]])}: what is right of them says little."
    ]


def _fingerprint(*parts):
    digest = hashlib.sha256()
    for part in parts:
        digest.update(
            b"".join((part.labels.tobytes(), b"|", part.identities.tobytes())) if part else b"-"
        )
    return digest.hexdigest()
