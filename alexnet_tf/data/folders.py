"""Class folders of picture files: which are splits, which are classes, and whose each file is."""

import dataclasses
import functools
import hashlib
import os
import pathlib
import re
import shlex
import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

import numpy as np

from alexnet_tf import console, picture_files
from alexnet_tf.bounds import is_one_line, plain
from alexnet_tf.data import imagenet, pictures, record
from alexnet_tf.data.names import (
    HELD_OUT,
    HELD_OUT_SPLIT,
    USUAL,
    SplitNames,
    also_in,
    role_of,
    split_place,
    suggested_role,
)
from alexnet_tf.data.splits import Dataset, Split, not_evaluated, split_of_files
from alexnet_tf.errors import UserError

_UNLABELLED = (
    "holds pictures and no class folders; to be judged by, pictures lie in folders that are called"
    " as their classes"
)
_SAVED_ANEW = (
    " New is also what was trained on and has been saved anew: turned, tagged, compressed."
)
# How sets for segmentation and detection call the folders of their pictures and of what is in them.
_OF_IMAGES = {"image", "images", "img", "imgs", "jpegimages", "original", "originals"}
_OF_MASKS = {
    *("mask", "masks", "label", "labels", "annotation", "annotations", "gt", "ground_truth"),
    *("segmentation", "segmentations", "segmentationclass", "segmentationobject", "trimaps"),
}
# What makes that the evaluation decides nothing: training/plan.py.
NOTHING_CHOOSES = "patience=0, a schedule= other than plateau and no callback that may choose"
_LAYOUT = "pass one with train/ and test/, a folder a class in each"


class AllSeenError(UserError):
    """Nothing can be held out: the network was trained on all of it."""


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
                f"{role}_split=.: the folders in {root} itself are trained on by train_split=., and"
                f" judge in an evaluation by test_split=.; name the folder of the {role} pictures."
            )
    layout = _Layout(root, names, suffixes)
    if "train" not in layout.splits:
        there = " and ".join(
            f"{layout.splits[role].name}/"
            for role in ("validation", "test")
            if role in layout.splits
        )
        raise UserError(
            f"{root} has nothing to train on, but {there or 'nothing'} to evaluate on; {_LAYOUT}."
        )
    train = layout.read(layout.splits["train"])
    imagenet.refuse_background(train.class_names)
    validation, test = (
        layout.read(layout.splits[role], train.class_names) if role in layout.splits else None
        for role in ("validation", "test")
    )
    notes = _in_several_classes(train)
    if not validation and (not test or choosing):
        train, validation = _divide(root, train, test, seed, seen, notes)
    elif not validation and not anew and seen and seen.keeps_apart(train.identities).any():
        train, validation = _kept_apart(root, train, seen, notes)
    class_names = imagenet.readable(train.class_names)
    judging = [part for part in (validation, test) if part]  # the first is looked at meanwhile
    splits = [part.split() for part in judging]
    for part in judging:
        notes += not_evaluated(class_names, part.labels, part.name)
        if not part.held_out:
            notes += _in_several_classes(part) + _also_in(train, part)
    if validation and test:
        notes += _also_in(validation, test)
    notes += layout.notes()
    return Dataset(
        "folder",
        class_names,
        train.split(),
        splits[0],
        _fingerprint(train, validation, test),
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
    layout = _Layout(_root(data_dir), names.of_folder(), suffixes)
    judging = [layout.splits[role] for role in ("validation", "test") if role in layout.splits]
    if "train" in layout.splits or not judging:
        return None
    class_names = sorted({plain(path.name) for one in judging for path in _subfolders(one)})
    parts = [layout.read(one, class_names) for one in judging]
    splits, notes = [part.split() for part in parts], sum(map(_in_several_classes, parts), [])
    if len(parts) > 1:
        notes += _also_in(*parts)
    return Dataset(
        "folder",
        tuple(class_names),
        None,
        splits[0],
        _fingerprint(*parts),
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
    if names == USUAL and _are_classes(_subfolders(root), class_names):
        names = SplitNames(train=".")  # even where they are called as splits are
    layout = _Layout(root, names)
    if layout.unlabelled and names.test and "test" not in layout.splits:
        raise UserError(f"test_split={names.test}: {layout.unlabelled[0]} {_UNLABELLED}.")
    role = next(role for role in ("test", "validation", "train") if role in layout.splits)
    folder, notes = layout.splits[role], []
    part = layout.read(folder, class_names or None)
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
                f" {fresh} that are new are judged." + _SAVED_ANEW * bool(fresh)
            )
        elif trained_here and len(seen.trained):
            notes.append(
                f"{root} is the folder that was trained on, and its pictures are others now, all"
                f" {len(trained_on)} judged." + _SAVED_ANEW
            )
    notes += _in_several_classes(part) + layout.notes()
    return Dataset(
        "folder",
        part.class_names,
        None,
        part.split(),
        _fingerprint(part),
        tuple(notes),
    )


def list_pictures(
    paths: Iterable[str | os.PathLike],
    class_names: Sequence[str] = (),
    note: Callable[[str], None] = console.note,
) -> tuple[Split, list[str]]:
    """Returns a Split of the pictures that are, or lie anywhere below, `paths`, and their file
    names, in sorted order.

    A picture's label is the place in `class_names` of the outermost folder around it that is named
    there, as in a training, no further up than `paths`; -1 where there is none. One of `paths`
    itself that is named there is no class where folders of several lie below it. A picture that
    lies below several of `paths` counts once. What else lies there, and what a folder with classes
    below it is taken for, is told by `note`. Raises UserError if there are no pictures, or if one
    is broken.
    """
    names: list[bytes] = []
    outermost: dict[str, str] = {}  # of `paths` around a picture, which may be below several
    for path in paths:
        there = os.path.abspath(path)
        top = there if os.path.isdir(path) else os.path.dirname(there)
        for name in picture_files.pictures_below(path, note):
            file = os.path.abspath(os.fsdecode(name))
            if file not in outermost:
                names.append(name)
            outermost[file] = min(outermost.get(file, top), top, key=len)
    files = list(map(os.fsdecode, names))
    _refuse_faults(names, pictures.examine(names)[1])
    identities, faults = pictures.know(names)
    _refuse_faults(names, faults)
    labels = np.array(_labels_around(outermost, class_names, note), np.int64)
    return (
        split_of_files("pictures", np.array(names, object), labels, identities),
        files,
    )


def _refuse_faults(names: Iterable[bytes], faults: Iterable[str | None]) -> None:
    for name, fault in zip(names, faults):
        if fault:
            raise UserError(
                f"{picture_files.shown(name)} cannot be read ({fault}); replace it or take it out."
            )


@dataclasses.dataclass(frozen=True)
class _Part:
    """The pictures of a split; `place`, `held_out` and `bad_pictures` as in Split."""

    name: str
    class_names: tuple
    files: np.ndarray
    labels: np.ndarray
    identities: np.ndarray
    place: str | None = None
    held_out: bool = False
    bad_pictures: tuple = ()

    def where(self, mask: np.ndarray) -> "_Part":
        return dataclasses.replace(
            self, files=self.files[mask], labels=self.labels[mask], identities=self.identities[mask]
        )

    def kept_apart(self) -> "_Part":
        return dataclasses.replace(self, name=HELD_OUT_SPLIT, place=None, held_out=True)

    def split(self) -> Split:
        return dataclasses.replace(
            split_of_files(self.name, self.files, self.labels, self.identities),
            place=self.place,
            held_out=self.held_out,
            bad_pictures=self.bad_pictures,
        )


class _Layout:
    """What the folders below `root` are: `splits` has those of "train", "validation" and "test"
    that are there.

    A folder is a split if its name says so and class folders lie in it, for a class may be called
    train. Where that leaves two readings, UserError says how to choose.
    """

    def __init__(
        self,
        root: pathlib.Path,
        names: SplitNames,
        suffixes: Sequence[str] = picture_files.SUFFIXES,
    ) -> None:
        self.root, self._suffixes = root, suffixes
        self.unused = picture_files.Unused(root)
        self.splits: dict[str, pathlib.Path] = {}
        self._told: list[str] = []
        self._holds_picture = functools.cache(
            lambda path: bool(picture_files.walk(path, suffixes)[0])
        )
        self._find(_subfolders(root), names)

    def _find(self, folders: list[pathlib.Path], names: SplitNames) -> None:
        named = {
            role: _named(self.root, folders, role, name)
            for role, name in vars(names).items()
            if name and name != "."
        }
        for role, path in named.items():
            for other, outer in named.items():
                if outer in path.parents and outer != path.parent:
                    raise UserError(
                        f"{role}_split={self._shown(path)} lies in a class of {other}_split="
                        f"{self._shown(outer)}; move it out."
                    )
        rest = [path for path in folders if path not in _around(named.values())]
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
                self.splits[role] = path
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
            or "train" not in self.splits
            and (not splits or any(map(self._holds_picture, classes)))
        ):
            self.splits["train"], self._classes = self.root, classes
        bare = self.splits.get("train") == self.root  # the class folders lie in `root` itself
        taken = {*self.splits.values(), *(classes if bare else ())}
        tops = set(folders) & _around(named.values()) - set(named.values())
        left = [path for path in (*splits.values(), *rest, *sorted(tops)) if path not in taken]
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
                if not set(map(os.fsencode, taken)) & set(_parents(file)):
                    self.unused.add(
                        file, f"file{{s}} in {picture_files.braced(path.name)}/, which {why}"
                    )
        if not bare:
            self._add_beside(self.root)
        elif names.train != ".":
            self._note_alike(classes)

    def _usual(
        self, folders: list[pathlib.Path], named: Collection[str]
    ) -> dict[str, pathlib.Path]:
        """{role: folder} of those that hold class folders and have the usual names of roles that
        are not `named`.
        """
        found: dict[str, pathlib.Path] = {}
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

    def _refuse_unclear(self, folders: list[pathlib.Path], splits: dict[str, pathlib.Path]) -> None:
        """`splits` are those by the usual names. Raises UserError where they may be none, or where
        others may be some.
        """
        here = [path for path in folders if path not in splits.values()]
        here = list(filter(self._holds_picture, here))
        bare = [(role, path) for path in here if (role := role_of(path.name)) and role != "train"]
        others = [path for path in here if role_of(path.name) in (None, "train")]
        like = {role: path for path in here[::-1] if (role := suggested_role(path.name))}
        flags = {role: path for role, path in like.items() if self._holds_classes(path)} | splits
        classes, they = "it is a class", "it is"
        if splits and others and ("train" not in splits or len(splits) + len(bare) == 1):
            path = next(iter(splits.values()))
            doubt = f"is {path.name}/ a split, or a class like {others[0].name}/ beside it?"
        elif not splits and "train" in like and len(like) > 1:
            names = " and ".join(f"{one.name}/" for one in sorted(like.values()))
            doubt, classes, they = (
                f"are {names} splits, or classes?",
                "they are classes",
                "they are",
            )
        elif not splits and bare and len(others) >= 2:
            flags = dict(bare[:1])
            doubt = f"is {bare[0][1].name}/ a class, or are its pictures some without labels?"
        else:
            return
        if not flags:
            raise UserError(
                f"{self.root}: {doubt} Pass train_split=. if they are classes; if they are splits, "
                "sort the pictures of each into folders that are called as their classes."
            )
        named = " and ".join(
            f"{role}_split={self._shown(self._innermost(flags[role]))}"
            for role in ("train", "validation", "test")
            if role in flags
        )
        raise UserError(
            f"{self.root}: {doubt} Pass train_split=. if {classes}, or {named} if {they} not."
        )

    def _innermost(self, path: pathlib.Path) -> pathlib.Path:
        """The first folder from `path` down in which several hold pictures, or one that is called
        as a split; `path` if there is none.
        """
        here = path
        while len(inner := list(filter(self._holds_picture, _subfolders(here)))) == 1:
            if role_of(inner[0].name) in ("validation", "test"):
                break
            here = inner[0]
        return here if inner else path

    def _shown(self, path: pathlib.Path) -> str:
        """A folder below `root` as a shell takes it in a flag."""
        return shlex.quote(str(path.relative_to(self.root)))

    def _note_alike(self, classes: list[pathlib.Path]) -> None:
        """Notes what would be splits that have names of their own. Raises UserError for those of a
        cross-validation, whose names differ in their numbers alone.
        """
        inner = [
            {
                plain(path.name)
                for path in _subfolders(one)
                # splits within are told in _check_names
                if self._holds_picture(path) and not role_of(path.name)
            }
            for one in classes
        ]
        common = sorted(set.intersection(*inner)) if len(inner) > 1 else []
        if len(common) < 2:
            return
        names = _first(path.name for path in classes)
        if len({re.sub(r"\d+", "", plain(path.name)) for path in classes}) == 1:
            first, second = (shlex.quote(path.name) for path in classes[:2])
            raise UserError(
                f"{self.root}: are {names} classes, or parts of one data set? All hold the folders "
                f"{_first(common)}. Pass train_split=. if they are classes, or "
                f"train_split={first} and test_split={second}, or others, if they are not."
            )
        self._told.append(
            f"{self.root}: {names} are taken for the classes, although all hold the"
            f" folders {_first(common)}. If these are the"
            f" classes, name the splits, as train_split={classes[0].name}."
        )

    def _note_astray(
        self, classes: list[pathlib.Path], places: Iterable[int], class_names: Sequence[str]
    ) -> None:
        """Notes the folders in those of `classes`, which are at `places` among `class_names`, that
        are called as another class.
        """
        place_of = _place_of(class_names)
        astray = [
            (inner, path)
            for place, path in zip(places, classes)
            for inner in _subfolders(path)
            if place_of(plain(inner.name)) not in (None, place) and self._holds_picture(inner)
        ]
        if astray:
            inner, path = astray[0]
            several = len(astray) > 1
            self._told.append(
                f"{len(astray)} folder{'s' * several} called as a class lie{'s' * (not several)} in"
                f" another, first {inner}: its pictures are taken for {plain(path.name)}; move it"
                " out if they are not."
            )

    def _holds_classes(self, path: pathlib.Path) -> bool:
        return any(map(self._holds_picture, _subfolders(path)))

    def _add_beside(self, folder: pathlib.Path) -> None:
        """Notes the files in `folder` itself, where only folders count, and hidden pictures."""
        for entry in sorted(os.scandir(os.fsencode(folder)), key=lambda entry: entry.name):
            for file in picture_files.hidden_pictures(entry):
                self.unused.add(file)
            if not picture_files.is_hidden(entry.name) and not _is_folder(entry):
                suffix = picture_files.ending(entry.path)
                self.unused.add(
                    entry.path,
                    "picture{s} beside the class folders" if suffix in self._suffixes else None,
                )

    def read(self, folder: pathlib.Path, class_names: Sequence[str] | None = None) -> _Part:
        """The _Part of a folder of class folders: `class_names` are those that it may have; None:
        its own, at least two.

        Raises UserError for other classes, and for one of its own without pictures.
        """
        apart = set(self.splits.values())  # which may lie in one another
        classes = sorted(
            self._classes
            if folder == self.root
            else [path for path in _subfolders(folder) if path not in apart],
            key=lambda path: plain(path.name),
        )
        own = class_names is None
        if class_names is None:
            self._check_several(folder, list(filter(self._holds_picture, classes)))
        if not classes:
            raise UserError(
                f"{folder} {_UNLABELLED}."
                if self._holds_picture(folder)
                else (
                    f"{folder} holds no picture"
                    f"{self._but_others(folder)}; pass a folder of class folders."
                )
            )
        if class_names is not None:
            classes = self._without_empty(classes, class_names)
        _check_names(folder, classes)
        own_names = tuple(plain(path.name) for path in classes)
        names = own_names if class_names is None else tuple(class_names)
        places = range(len(classes)) if own else _places(folder, classes, names)
        self._note_astray(classes, places, names)
        all_files: list[bytes] = []
        all_labels: list[int] = []
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
            all_files += found
            all_labels += [label] * len(found)
        self._add_beside(folder)
        by_pillow = set(self._suffixes) >= set(picture_files.READ_BY_PREPARE)
        _, faults = pictures.examine(all_files, by_pillow)
        sound = [place for place, fault in enumerate(faults) if fault is None]
        identities, of_headers = pictures.know([all_files[place] for place in sound])
        for place, fault in zip(sound, of_headers):
            faults[place] = fault
        files, labels = np.array(all_files, object), np.array(all_labels, np.int64)
        bad = [
            f"{picture_files.shown(file)} cannot be read ({fault})"
            for file, fault in zip(files, faults)
            if fault
        ]
        good = np.array([fault is None for fault in faults], bool)
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
        identities = identities[good[sound]]
        lies_at = split_place(str(folder.relative_to(self.root)))
        return _Part(
            plain(folder.name),
            names,
            files[good],
            labels[good],
            identities,
            lies_at,
            bad_pictures=tuple(bad),
        )

    def _without_empty(
        self, classes: list[pathlib.Path], class_names: Sequence[str]
    ) -> list[pathlib.Path]:
        """`classes` without the folders that hold no file and are called as none of `class_names`,
        which it notes; but for all of them.
        """
        place_of = _place_of(class_names)
        empty = [
            path
            for path in classes
            if place_of(plain(path.name)) is None
            and not any(picture_files.walk(path, self._suffixes))
        ]
        if not empty or empty == classes:
            return classes
        self._told.append(
            f"{empty[0].parent}: passed over, as no file is in them and no class is called so: "
            f"{_first(path.name for path in empty)}."
        )
        return [path for path in classes if path not in empty]

    def _check_several(self, folder: pathlib.Path, classes: list[pathlib.Path]) -> None:
        """Raises UserError unless there are at least two `classes`, folders of pictures."""
        if len(classes) >= 2:
            return
        inner, todo = self._innermost(folder), "sort the pictures into folders of their classes"
        if inner != folder and folder == self.root:
            todo = f"pass data_dir={shlex.quote(str(inner))}, which holds more"
        elif inner != folder:
            todo = f"pass train_split={self._shown(inner)}, which holds more"
        raise UserError(
            f"{folder} holds {len(classes)} folder{'s' * (len(classes) != 1)} of pictures"
            f"{f' ({classes[0].name}/)' if classes else ''}{self._but_others(folder)}; a classifier"
            f" needs at least 2 classes, a folder each: {todo}."
        )

    def _but_others(self, folder: pathlib.Path) -> str:
        """What there is in `folder` instead of pictures, for the end of a sentence."""
        of_it = picture_files.Unused(folder)
        for file in picture_files.walk(folder, self._suffixes)[1]:
            of_it.add(file)
        return f", but {there}" if (there := of_it.describe()) else ""

    def notes(self) -> list[str]:
        """A line on what is not used, if there is anything."""
        unused = self.unused.describe()
        return self._told + ([f"{self.root}: not used: {unused}."] if unused else [])


def _first(names: Iterable[str]) -> str:
    """The first three of `names`, and whether there are more."""
    all_names = list(names)
    return ", ".join(all_names[:3]) + ", ..." * (len(all_names) > 3)


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


def _is_folder(entry: os.DirEntry) -> bool:
    """Whether it is one, or a link to one; entry.is_dir() is an error for a link to itself."""
    return os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir()


def _subfolders(folder: pathlib.Path) -> list[pathlib.Path]:
    with os.scandir(folder) as entries:  # which knows folders without another look at each file
        names = [
            entry.name
            for entry in entries
            if not picture_files.is_hidden(os.fsencode(entry.name)) and _is_folder(entry)
        ]
    return [folder / name for name in sorted(names, key=os.fsencode)]


def _parents(file: bytes) -> Iterator[bytes]:
    """The folders around a file, all names being bytes."""
    while (above := os.path.dirname(file)) != file:
        yield above
        file = above


def _around(paths: Iterable[pathlib.Path]) -> set[pathlib.Path]:
    """The set of `paths` and of all folders around them."""
    return {around for path in paths for around in (path, *path.parents)}


def _named(root: pathlib.Path, folders: list[pathlib.Path], role: str, name: str) -> pathlib.Path:
    """The folder that a user calls `name`, which may lie in others below `root`."""
    for path in folders:
        if plain(path.name) == plain(name.rstrip("/")):
            return path
    inner = pathlib.PurePath(name)
    if (root / inner).is_dir() and not inner.is_absolute() and ".." not in inner.parts:
        return root / inner
    raise UserError(
        f"{role}_split={name}: {root} has no such folder, but "
        f"{', '.join(path.name for path in folders[:9]) or 'none'}."
    )


def _as_seen(name: str) -> str:
    """`name` without what nobody sees in it: case, kinds of blanks, marks without width."""
    seen = "".join(letter for letter in name if unicodedata.category(letter) != "Cf")
    # Not casefold(), which makes ss of ß: Masse and Maße are two words.
    return " ".join(unicodedata.normalize("NFKC", seen).lower().split())


def _check_names(folder: pathlib.Path, classes: list[pathlib.Path]) -> None:
    """Raises UserError for folders that cannot be classes: their names are not text or the same,
    splits lie in them, or one has the masks of the other's pictures.
    """
    alike: dict[str, pathlib.Path] = {}
    for path in classes:
        name = plain(path.name)
        # A surrogate, which is in no line, stands for a byte that is no UTF-8.
        if not _as_seen(name) or not is_one_line(name):
            raise UserError(
                f"{folder}: the class folder {os.fsencode(path.name)!r} has a name that cannot be "
                "printed; rename it."
            )
        other = alike.setdefault(_as_seen(name), path)
        if other is not path:
            raise UserError(
                f"{folder}: the class folders {os.fsencode(other.name)!r} and "
                f"{os.fsencode(path.name)!r} differ in nothing "
                "but case, blanks or Unicode form; if they are one class, move the pictures into "
                "one, else rename one."
            )
        roles = {role_of(inner.name): inner for inner in _subfolders(path)}
        if "train" in roles and len(roles.keys() - {None}) > 1:
            todo = f"turn them round, as {folder}/train/{path.name}"
            if _subfolders(roles["train"]):
                todo = f"pass data_dir={path}"
            raise UserError(f"{path} holds splits; {todo}.")
    images, masks = sorted(alike.keys() & _OF_IMAGES), sorted(alike.keys() & _OF_MASKS)
    if images and masks:
        image, mask = (alike[names[0]].name for names in (images, masks))
        raise UserError(
            f"{folder}: {mask}/ beside {image}/ looks like what is drawn over its pictures, not"
            " like a class; sort the pictures into a folder a class, or rename the two if they are"
            " classes."
        )


def _places(
    folder: pathlib.Path, classes: list[pathlib.Path], class_names: Sequence[str]
) -> list[int]:
    """The place of each class folder among `class_names`.

    Raises UserError for one that is not there.
    """
    place_of = _place_of(class_names)
    found = [place_of(plain(path.name)) for path in classes]
    odd = [plain(path.name) for path, place in zip(classes, found) if place is None]
    if len(odd) == len(classes):
        for path in classes:
            inner = _subfolders(path)
            inner += [one for split in inner if role_of(split.name) for one in _subfolders(split)]
            if any(place_of(plain(one.name)) is not None for one in inner):
                raise UserError(
                    f"{folder} holds no folder that is called as a class, but there are some in"
                    f" {path}; pass that folder."
                )
    if odd:
        raise UserError(
            f"{folder}: {', '.join(odd[:5])}{', ...' * (len(odd) > 5)} "
            f"{'is not one' if len(odd) == 1 else 'are none'} of the "
            f"{len(class_names)} classes "
            f"({', '.join(class_names[:5])}{', ...' * (len(class_names) > 5)}); rename the "
            "folder as the class is called, or take it out."
        )
    return [place for place in found if place is not None]


def _place_of(class_names: Sequence[str]) -> Callable[[str], int | None]:
    """A function: the name of a folder to the place of its class, or None."""
    exact = {name: place for place, name in enumerate(class_names)}
    lowered = {plain(name).lower(): place for place, name in enumerate(class_names)}

    def place_of(name: str) -> int | None:
        ways = (exact, name), (exact, imagenet.readable([name])[0]), (lowered, name.lower())
        return next((table[key] for table, key in ways if key in table), None)

    return place_of


def holds_class(folder: str | os.PathLike, class_names: Sequence[str]) -> bool:
    """Whether a folder in `folder` is called as one of `class_names`, in any way that opens it."""
    place_of = _place_of(class_names)
    names = [plain(path.name) for path in _subfolders(pathlib.Path(folder))]
    return any(place_of(name) is not None for name in names)


def _are_classes(folders: list[pathlib.Path], class_names: Sequence[str]) -> bool:
    """Whether all `folders` are called as classes, and none holds class folders itself."""
    place_of = _place_of(class_names)

    def names_one(path: pathlib.Path) -> bool:
        return place_of(plain(path.name)) is not None

    inner = [path for folder in folders for path in _subfolders(folder)]
    return bool(folders) and all(map(names_one, folders)) and not any(map(names_one, inner))


def _labels_around(
    outermost: dict[str, str], class_names: Sequence[str], note: Callable[[str], None]
) -> list[int]:
    """The label of each file: `outermost` has the folder to begin at, as list_pictures does."""
    place_of = _place_of(class_names)
    inner: dict[str, list[int]] = {top: [] for top in outermost.values()}
    for file, top in outermost.items():
        around = os.path.relpath(os.path.dirname(file), top).split(os.sep)
        places = (place_of(plain(folder)) for folder in around)
        inner[top].append(next((place for place in places if place is not None), -1))
    labels = {}
    for top, found in inner.items():
        place, below = place_of(plain(os.path.basename(top))), set(found) - {-1}
        if place is not None and below - {place}:
            taken = "these are taken for classes, and it is not"
            if len(below) == 1:
                taken = f"its pictures are taken for {class_names[place]}"
            note(f"{top} is called as a class, and so are folders in it: {taken}.")
        if place is not None and len(below) < 2:
            found = [place] * len(found)
        labels[top] = iter(found)
    return [next(labels[top]) for top in outermost.values()]


def _divide(
    root: pathlib.Path,
    train: _Part,
    test: _Part | None,
    seed: int,
    seen: record.Record | None,
    notes: list[str],
) -> tuple[_Part, _Part]:
    """(the _Part to train on, the one held out).

    Raises UserError if there is nothing to hold out.
    """
    held = record.divide(train.labels, train.identities, HELD_OUT, seed, seen)
    missing = "no validation split" if test else "no evaluation split (val/, validation/, test/)"
    if not held.any() and seen and seen.has_seen(train.identities).all():
        todo = "add pictures, of which some will be held out"
        if test:
            todo = f"pass {NOTHING_CHOOSES}, so that nothing is chosen by them"
        raise AllSeenError(
            f"{root} has {missing}, and all its pictures were trained on already; {todo}, or add a"
            " folder val/."
        )
    if not held.any():
        todo = "add pictures, or a folder val/"
        if test:
            todo += f", or pass {NOTHING_CHOOSES}: then nothing chooses"
        raise UserError(
            f"{root} has {missing}, and no class with a second picture that is no copy, to keep for"
            f" evaluation; {todo}."
        )
    what = "choose the weights and the rate; test/ does not" if test else "are kept for evaluation"
    before = int((held & (seen or record.Record()).keeps_apart(train.identities)).sum())
    how = f"drawn per class with seed={seed}"
    if before == held.sum():
        how = "held out before"
    elif before:
        how = f"{before} held out before and {held.sum() - before} {how}"
    notes.append(f"{root} has {missing}: {held.sum()} of {len(held)} pictures, {how}, {what}.")
    return _parted(root, train, held)


def _kept_apart(
    root: pathlib.Path, train: _Part, seen: record.Record, notes: list[str]
) -> tuple[_Part, _Part]:
    """As _divide, where nothing is chosen any more: what `seen` held out stays held out."""
    held = seen.keeps_apart(train.identities)
    notes.append(
        f"{root}: {held.sum()} of its {len(held)} training pictures were held out when the training"
        " began, and stay so; one that begins in another model directory trains on them."
    )
    return _parted(root, train, held)


def _parted(root: pathlib.Path, train: _Part, held: np.ndarray) -> tuple[_Part, _Part]:
    """(the _Part to train on, the one `held` out). Raises UserError for a class of which nothing is
    left to train on.
    """
    empty = set(train.labels.tolist()) - set(train.labels[~held].tolist())
    if empty:
        raise UserError(
            f"{root}: all pictures of {train.class_names[min(empty)]} were held out from the "
            "training and none is left to "
            "train on; add some, or train in another model directory."
        )
    return train.where(~held), train.where(held).kept_apart()


def _in_several_classes(part: _Part) -> list[str]:
    """A line on pictures of `part` of which copies lie in another class, if there are any."""
    order = np.lexsort((part.labels, part.identities))
    identities, labels = part.identities[order], part.labels[order]
    pairs = np.flatnonzero((identities[1:] == identities[:-1]) & (labels[1:] != labels[:-1]))
    if not len(pairs):
        return []
    count = np.isin(identities, identities[pairs]).sum()
    first, second = (picture_files.shown(part.files[order[pairs[0] + after]]) for after in (0, 1))
    return [
        f"{count} pictures of {part.name} are the same in several classes, first {first} and"
        f" {second}: leave each in one."
    ]


def _also_in(earlier: _Part, part: _Part) -> list[str]:
    """A line on pictures of `part` that are in the `earlier` one too, if there are any."""
    both = np.flatnonzero(np.isin(part.identities, earlier.identities))
    if not len(both):
        return []
    first = picture_files.shown(part.files[both[0]])
    return [also_in(len(both), len(part.files), part.name, earlier.name, first)]


def _fingerprint(*parts: _Part | None) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(
            b"".join((part.labels.tobytes(), b"|", part.identities.tobytes())) if part else b"-"
        )
    return digest.hexdigest()
