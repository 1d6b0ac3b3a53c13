"""What splits are called."""

import dataclasses
import pathlib
import re

from alexnet_tf.bounds import plain
from alexnet_tf.errors import UserError, check_kind

# What splits are called, in any case.
USUAL_NAMES = {
    "train": ("train", "training"),
    "test": ("test", "testing"),
    "validation": ("validation", "val", "valid", "eval", "evaluation", "dev"),
}
HELD_OUT_SPLIT = "held out"  # name of the part of the training pictures that is kept from training


def role_of(name: str) -> str | None:
    """ "train", "validation" or "test" for a usual name of such a split, else None."""
    folded = plain(name).casefold()
    return next((role for role, names in USUAL_NAMES.items() if folded in names), None)


def suggested_role(name: str) -> str | None:
    """Like role_of, but by a word within `name`: train_set, val2017, seg_test, trainA."""
    words = re.split(r"[^A-Za-z]+|(?<=[a-z])(?=[A-Z])", plain(name))
    endings = r"(?i)(set|data|images|imgs?|pictures|split)$"
    bare = (re.sub(endings, "", word) for word in words)
    return next(filter(None, map(role_of, bare)), None)


@dataclasses.dataclass(frozen=True)
class SplitNames:
    """The splits by the names that a user gives them: folders below data_dir, or splits of TFDS.

    None: by the usual names. `train` may be ".", for class folders that lie in data_dir itself.
    Raises UserError for anything that is not a name.
    """

    train: str | None = None
    validation: str | None = None
    test: str | None = None

    def __post_init__(self) -> None:
        for role, name in vars(self).items():
            check_kind(str | None, name, f"{role}_split", "the name of a split")
            if name == "":
                raise UserError(f"{role}_split= is empty; pass the name of a split, or omit it.")

    def of_folder(self) -> "SplitNames":
        """These names, with "." where one means data_dir but is written in another way, as "./"."""
        return SplitNames(
            **{
                role: "." if name and split_place(name) == "." else name
                for role, name in vars(self).items()
            }
        )

    def is_test(self, place: str | None) -> bool:
        """Whether the split at `place`, as splits.Split has it, is their test split."""
        if self.test:
            return place == split_place(self.test)
        others = {split_place(name) for name in (self.train, self.validation) if name}
        return role_of(place or "") == "test" and others.isdisjoint({place, "."})


def split_place(name: str) -> str:
    """The place of a split that a user calls `name`, "./images/judge/", as splits.Split has it."""
    return "/".join(map(plain, pathlib.PurePath(name).parts)) or "."


def of_flags(flags: dict) -> SplitNames:
    """The SplitNames in the flags of a training."""
    return SplitNames(**{role: flags.get(f"{role}_split") for role in USUAL_NAMES})


USUAL = SplitNames()
