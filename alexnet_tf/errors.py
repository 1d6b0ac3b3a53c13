"""What is raised for a mistake: of a user at a command, and of a client of a server."""

import re
from collections.abc import Iterable
from typing import Any


def one_line(said: object, most: int | None = 200) -> str:
    """What an error, or another program, says, in one line of at most so many characters."""
    return " ".join(str(said).split())[:most]


def words(message: str) -> str:
    """An error of TensorFlow's runtime in the kernel's own words, without names of nodes and
    Python's wrapping of it.
    """
    message = (
        message.rpartition("<stack traces unavailable>\n")[2]
        .partition(" [Op:")[0]
        .partition("\n\t [[")[0]
    )
    return re.sub(r"\[?\[?\{\{[^{}]*\}\}\]?\]? *", "", message).strip()


class UserError(ValueError):
    """One line that says what was passed, what was expected and what to do.

    Binaries print it without a traceback and exit with `status`.
    """

    status = 2


def check_kind(kind: Any, value: Any, name: str, wanted: str) -> None:
    """Raises UserError, which says what is `wanted` as the parameter `name`, for another type."""
    if not isinstance(value, kind):
        raise UserError(f"{name}= is of the type {type(value).__name__}; pass {wanted}.")


class TryAgain(UserError):
    """A UserError that may pass: the same command, started again, goes on where it was."""

    status = 75  # sysexits.h: a temporary failure


class NotFinite(UserError):
    """The loss of a training is no longer finite: its steps are too large."""


class ServingError(Exception):
    """What a server answers to a request that it cannot fulfil: `code` is the name of a gRPC
    status.

    A `message` of more than 480 characters, which cites what a client has sent, is shortened in its
    middle: gRPC puts it into a header of 8 kB at most, in up to 12 bytes a character, and answers
    RESOURCE_EXHAUSTED to a longer one.
    """

    def __init__(self, code: str, message: str) -> None:
        if len(message) > 480:
            message = f"{message[:300]} ... {message[-175:]}"
        super().__init__(message)
        self.code, self.message = code, message


def first_few(names: Iterable[str], count: int = 3) -> str:
    """The first `count` of `names`, and how many more there are."""
    all_names = list(names)
    more = f" and {len(all_names) - count:,} more" * (len(all_names) > count)
    return ", ".join(all_names[:count]) + more
