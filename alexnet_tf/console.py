"""What a person sees while something runs, on standard error: a progress bar and notes."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tqdm

# seconds; a log file gets a line now and then instead of a moving bar
INTERVAL = 0.2 if sys.stderr.isatty() else 10.0


def progress(
    total: int, description: str, initial: int = 0, hidden: bool = False, unit: str = "img"
) -> "tqdm.tqdm":
    """A bar that counts pictures, or bytes as `unit` B: rate and time left."""
    import tqdm

    return tqdm.tqdm(
        total=total,
        initial=initial,
        desc=description,
        unit=unit,
        unit_scale=unit == "B",
        mininterval=INTERVAL,
        maxinterval=INTERVAL,
        disable=hidden,
        dynamic_ncols=True,
        bar_format=(
            "{desc}: {percentage:3.0f}%|{bar:20}| {n_fmt}/{total_fmt} "
            "[{elapsed}, {remaining} left, {rate_fmt}{postfix}]"
        ),
    )


_wording: Callable[[str], str] = str


@contextlib.contextmanager
def worded(wording: Callable[[str], str]) -> Iterator[None]:
    """Has every `note` go through `wording`: a command makes flags of the parameters in it."""
    global _wording
    before, _wording = _wording, wording
    try:
        yield
    finally:
        _wording = before


def note(line: str) -> None:
    """Tells the user something beside the results."""
    line = _wording(line)
    if "tqdm" in sys.modules:  # there may be a bar, which the line must not cut
        sys.modules["tqdm"].tqdm.write(line, file=sys.stderr)
    else:
        print(line, file=sys.stderr)


def silence(line: str) -> None:
    """A `note` that tells nothing: workers other than the chief would repeat it."""


@contextlib.contextmanager
def tensorflow_quiet() -> Iterator[None]:
    """Closes standard error, unless the user has set a log level: TensorFlow's notes on the CPU and
    on absent GPUs, and LiteRT's on what it runs with, are no news, and some heed no level.
    """
    if os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3") != "3":  # somebody wants to see them
        yield
        return
    stderr, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, 2)
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(null)
