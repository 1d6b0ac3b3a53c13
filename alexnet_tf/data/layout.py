"""Which of the folders below a folder are splits, and which are classes."""

import functools
import os
import pathlib
import re
import shlex
from collections.abc import Collection, Iterable, Iterator, Sequence

from alexnet_tf import picture_files
from alexnet_tf.bounds import plain
from alexnet_tf.data.class_folders import is_folder, subfolders
from alexnet_tf.data.names import SplitNames, role_of, suggested_role
from alexnet_tf.errors import UserError, first_few

UNLABELLED = (
    "holds pictures but no class folders; sort the pictures into folders named after their classes"
)


class Layout:
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
        self.root, self.suffixes = root, suffixes
        self.unused = picture_files.Unused(root)
        self.splits: dict[str, pathlib.Path] = {}
        self.told: list[str] = []
        self.holds_picture = functools.cache(
            lambda path: bool(picture_files.walk(path, suffixes)[0])
        )
        self._find(subfolders(root), names)

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
                        f"{role}_split={self.shown(path)} lies in a class folder of {other}_split="
                        f"{self.shown(outer)}; move it out."
                    )
        rest = [path for path in folders if path not in _around(named.values())]
        usual = {} if names.train == "." else self._usual(rest, named)
        if not any(vars(names).values()):
            self._refuse_unclear(folders, usual)
        splits = named | usual
        for role, path in splits.items():
            if not self.holds_picture(path):
                raise UserError(
                    f"{role}_split={path.name}: {path} holds no picture "
                    f"({', '.join(self.suffixes)})."
                )
            if self._holds_classes(path):
                self.splits[role] = path
            elif role != "test":
                raise UserError(f"{role}_split={path.name}: {path} {UNLABELLED}.")
        rest = [path for path in rest if path not in usual.values()]
        # Next to splits, a folder with a split's name holds pictures without labels.
        classes = (
            rest
            if not splits or names.train == "."
            else [path for path in rest if role_of(path.name) in (None, "train")]
        )
        if (
            names.train == "."
            or "train" not in self.splits
            and (not splits or any(map(self.holds_picture, classes)))
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
        apart = set(map(os.fsencode, taken - {self.root}))  # in which all of them lie
        for path in left:
            why = (
                "holds no class folders" if path in self.unlabelled else "is not one of the splits"
            )
            for file in sum(picture_files.walk(path, self.suffixes), []):
                if apart.isdisjoint(_parents(file)):
                    self.unused.add(
                        file, f"file{{s}} in {picture_files.braced(path.name)}/, which {why}"
                    )
        if not bare:
            self.add_beside(self.root)
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
                    f"{self.root} holds both {found[role].name}/ and {path.name}/; say which is"
                    f" meant: {role}_split={found[role].name} or {role}_split={path.name}."
                )
            found[role] = path
        return found

    def _refuse_unclear(self, folders: list[pathlib.Path], splits: dict[str, pathlib.Path]) -> None:
        """`splits` are those by the usual names. Raises UserError where they may be none, or where
        others may be some.
        """
        here = [path for path in folders if path not in splits.values()]
        here = list(filter(self.holds_picture, here))
        bare = [(role, path) for path in here if (role := role_of(path.name)) and role != "train"]
        others = [path for path in here if role_of(path.name) in (None, "train")]
        like = {role: path for path in here[::-1] if (role := suggested_role(path.name))}
        flags = {role: path for role, path in like.items() if self._holds_classes(path)} | splits
        classes, they = "it is a class", "it is"
        if splits and others and ("train" not in splits or len(splits) + len(bare) == 1):
            path = next(iter(splits.values()))
            doubt = f"is {path.name}/ a split, or a class like {others[0].name}/ next to it?"
        elif not splits and "train" in like and len(like) > 1:
            names = " and ".join(f"{one.name}/" for one in sorted(like.values()))
            doubt, classes, they = (
                f"are {names} splits, or classes?",
                "they are classes",
                "they are",
            )
        elif not splits and bare and len(others) >= 2:
            flags = dict(bare[:1])
            doubt = f"is {bare[0][1].name}/ a class, or does it hold pictures without labels?"
        else:
            return
        if not flags:
            raise UserError(
                f"{self.root}: {doubt} Pass train_split=. if they are classes; if they are splits, "
                "sort the pictures of each into folders named after their classes."
            )
        named = " and ".join(
            f"{role}_split={self.shown(self.innermost(flags[role]))}"
            for role in ("train", "validation", "test")
            if role in flags
        )
        raise UserError(
            f"{self.root}: {doubt} Pass train_split=. if {classes}, or {named} if {they} not."
        )

    def innermost(self, path: pathlib.Path) -> pathlib.Path:
        """The first folder from `path` down in which several folders hold pictures, or one has the
        name of a split; `path` if there is none.
        """
        here = path
        while len(inner := list(filter(self.holds_picture, subfolders(here)))) == 1:
            if role_of(inner[0].name) in ("validation", "test"):
                break
            here = inner[0]
        return here if inner else path

    def shown(self, path: pathlib.Path) -> str:
        """A folder below `root` as a shell takes it in a flag."""
        return shlex.quote(str(path.relative_to(self.root)))

    def _note_alike(self, classes: list[pathlib.Path]) -> None:
        """Notes where `classes` may be splits with unusual names. Raises UserError where they look
        like those of a cross-validation, whose names differ only in their numbers.
        """
        inner = [
            {
                plain(path.name)
                for path in subfolders(one)
                # splits within are told in check_names
                if self.holds_picture(path) and not role_of(path.name)
            }
            for one in classes
        ]
        common = sorted(set.intersection(*inner)) if len(inner) > 1 else []
        if len(common) < 2:
            return
        names = first_few(path.name for path in classes)
        if len({re.sub(r"\d+", "", plain(path.name)) for path in classes}) == 1:
            first, second = (shlex.quote(path.name) for path in classes[:2])
            raise UserError(
                f"{self.root}: are {names} classes, or parts of one data set? All hold the folders "
                f"{first_few(common)}. Pass train_split=. if they are classes, or "
                f"train_split={first} and test_split={second}, or others, if they are not."
            )
        self.told.append(
            f"{self.root}: {names} are taken as the classes, although all hold the folders"
            f" {first_few(common)}. If those are the classes, name the splits, such as"
            f" train_split={classes[0].name}."
        )

    def _holds_classes(self, path: pathlib.Path) -> bool:
        return any(map(self.holds_picture, subfolders(path)))

    def add_beside(self, folder: pathlib.Path) -> None:
        """Notes the files in `folder` itself, where only folders count, and hidden pictures."""
        for entry in sorted(os.scandir(os.fsencode(folder)), key=lambda entry: entry.name):
            for file in picture_files.hidden_pictures(entry):
                self.unused.add(file)
            if not picture_files.is_hidden(entry.name) and not is_folder(entry):
                suffix = picture_files.ending(entry.path)
                self.unused.add(
                    entry.path,
                    "picture{s} outside the class folders" if suffix in self.suffixes else None,
                )

    def classes_in(self, folder: pathlib.Path) -> list[pathlib.Path]:
        """The class folders in `folder`, a split, sorted by name."""
        apart = set(self.splits.values())  # which may lie in one another
        return sorted(
            self._classes
            if folder == self.root
            else [path for path in subfolders(folder) if path not in apart],
            key=lambda path: plain(path.name),
        )

    def notes(self) -> list[str]:
        """A line on what is not used, if there is anything."""
        unused = self.unused.describe()
        return self.told + ([f"{self.root}: not used: {unused}."] if unused else [])


def _named(root: pathlib.Path, folders: list[pathlib.Path], role: str, name: str) -> pathlib.Path:
    """The folder that a user calls `name`, which may lie in others below `root`."""
    for path in folders:
        if plain(path.name) == plain(name.rstrip("/")):
            return path
    inner = pathlib.PurePath(name)
    if (root / inner).is_dir() and not inner.is_absolute() and ".." not in inner.parts:
        return root / inner
    raise UserError(
        f"{role}_split={name}: {root} has no such folder; it has "
        f"{', '.join(path.name for path in folders[:9]) or 'none'}."
    )


def _around(paths: Iterable[pathlib.Path]) -> set[pathlib.Path]:
    """The set of `paths` and all the folders that they lie in."""
    return {around for path in paths for around in (path, *path.parents)}


def _parents(file: bytes) -> Iterator[bytes]:
    """The folders that a file lies in, the innermost first; all names are bytes."""
    while (above := os.path.dirname(file)) != file:
        yield above
        file = above
