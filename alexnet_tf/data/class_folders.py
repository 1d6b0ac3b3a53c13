"""Class folders: those that lie in a folder, and which class each is named after."""

import collections
import os
import pathlib
import unicodedata
from collections.abc import Callable, Sequence

from alexnet_tf import picture_files
from alexnet_tf.bounds import is_one_line, plain
from alexnet_tf.data import imagenet
from alexnet_tf.data.names import role_of
from alexnet_tf.errors import UserError, first_few

# How sets for segmentation and detection call the folders of their pictures and of what is in them.
_OF_IMAGES = {"image", "images", "img", "imgs", "jpegimages", "original", "originals"}
_OF_MASKS = {
    *("mask", "masks", "label", "labels", "annotation", "annotations", "gt", "ground_truth"),
    *("segmentation", "segmentations", "segmentationclass", "segmentationobject", "trimaps"),
}


def subfolders(folder: pathlib.Path) -> list[pathlib.Path]:
    with os.scandir(folder) as entries:  # which knows folders without another look at each file
        names = [
            entry.name
            for entry in entries
            if not picture_files.is_hidden(os.fsencode(entry.name)) and is_folder(entry)
        ]
    return [folder / name for name in sorted(names, key=os.fsencode)]


def is_folder(entry: os.DirEntry) -> bool:
    """Whether it is one, or a link to one; entry.is_dir() is an error for a link to itself."""
    return os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir()


def place_finder(class_names: Sequence[str]) -> Callable[[str], int | None]:
    """A function: the name of a folder to the place of its class among `class_names`, or None."""
    exact = {name: place for place, name in enumerate(class_names)}
    looks = [_as_seen(name) for name in class_names]
    counts = collections.Counter(looks)  # Polish and polish may be two of a network's classes
    seen = {look: place for place, look in enumerate(looks) if counts[look] == 1}

    def place_of(folder_name: str) -> int | None:
        name = plain(folder_name)
        ways = (exact, name), (exact, imagenet.readable([name])[0]), (seen, _as_seen(name))
        return next((table[key] for table, key in ways if key in table), None)

    return place_of


def holds_class(folder: str | os.PathLike, class_names: Sequence[str]) -> bool:
    """Whether a folder in `folder` is named after one of `class_names`, as place_finder knows."""
    place_of = place_finder(class_names)
    return any(place_of(path.name) is not None for path in subfolders(pathlib.Path(folder)))


def are_classes(folders: list[pathlib.Path], class_names: Sequence[str]) -> bool:
    """Whether all `folders` are named after classes, and none holds class folders itself."""
    place_of = place_finder(class_names)

    def names_one(path: pathlib.Path) -> bool:
        return place_of(path.name) is not None

    inner = [path for folder in folders for path in subfolders(folder)]
    return bool(folders) and all(map(names_one, folders)) and not any(map(names_one, inner))


def places_of(
    folder: pathlib.Path, classes: list[pathlib.Path], class_names: Sequence[str]
) -> list[int]:
    """The place of each class folder among `class_names`.

    Raises UserError for one that is not there.
    """
    place_of = place_finder(class_names)
    found = [place_of(path.name) for path in classes]
    odd = [plain(path.name) for path, place in zip(classes, found) if place is None]
    if len(odd) == len(classes):
        for path in classes:
            inner = subfolders(path)
            inner += [one for split in inner if role_of(split.name) for one in subfolders(split)]
            if any(place_of(one.name) is not None for one in inner):
                raise UserError(
                    f"{folder} holds no folder named after a class, but {path} does; pass that"
                    " folder."
                )
    if odd:
        raise UserError(
            f"{folder}: {first_few(odd, 5)} {'is not one of' if len(odd) == 1 else 'are not among'}"
            f" the {len(class_names)} classes ({first_few(class_names, 5)}); rename the folder"
            " after its class, or take it out."
        )
    return [place for place in found if place is not None]


def check_names(folder: pathlib.Path, classes: list[pathlib.Path]) -> None:
    """Raises UserError for folders that cannot be classes: because their names cannot be printed
    or look the same, because splits lie in them, or because one has the masks of another's
    pictures.
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
                f"{folder}: the class folders {os.fsencode(other.name)!r} and"
                f" {os.fsencode(path.name)!r} differ only in case, spaces or Unicode form; if they"
                " are one class, move the pictures into one folder, otherwise rename one."
            )
        roles = {role_of(inner.name): inner for inner in subfolders(path)}
        if "train" in roles and len(roles.keys() - {None}) > 1:
            todo = f"put the classes into the splits, as in {folder}/train/{path.name}"
            if subfolders(roles["train"]):
                todo = f"pass data_dir={path}"
            raise UserError(f"{path} holds splits; {todo}.")
    images, masks = sorted(alike.keys() & _OF_IMAGES), sorted(alike.keys() & _OF_MASKS)
    if images and masks:
        image, mask = (alike[names[0]].name for names in (images, masks))
        raise UserError(
            f"{folder}: {mask}/ next to {image}/ looks like the masks of its pictures, not like a"
            " class; sort the pictures into one folder per class, or rename the two if they are"
            " classes."
        )


def _as_seen(name: str) -> str:
    """`name` without what readers do not see: case, kinds of spaces, marks without width."""
    seen = "".join(letter for letter in name if unicodedata.category(letter) != "Cf")
    # Not casefold(), which makes ss of ß: Masse and Maße are two words.
    return " ".join(unicodedata.normalize("NFKC", seen).lower().split())
