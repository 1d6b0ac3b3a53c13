"""What a person sees: results on standard output, a progress bar and notes on standard error.

All that the package writes to a terminal goes through here, because much of it is text of others:
names of files, of classes, of layers, answers of servers.
"""

import contextlib
import os
import sys
import threading
import unicodedata
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    import tqdm

# seconds; a log file gets a line now and then instead of a moving bar
INTERVAL = 0.2 if sys.stderr and sys.stderr.isatty() else 10.0
# Categories of Unicode that act on a terminal, end a line, or cannot be encoded.
_ACTIVE = {"Cc", "Cs", "Zl", "Zp"}
# They turn the direction of what follows: a name could show another ending than it has.
_TURNING = set("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def printable(text: str, encoding: str | None = "utf-8") -> str:
    r"""`text` as one line that acts on no terminal: a character that would, or that `encoding`
    lacks, is written as Python writes it in a string, "\x1b" or "\n".
    """
    if not text.isprintable():
        text = "".join(
            ascii(character)[1:-1]
            if character in _TURNING or unicodedata.category(character) in _ACTIVE
            else character
            for character in text
        )
    encoding = encoding or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def result(line: Any = "") -> None:
    """Writes a line of results to standard output.

    Ends the process if it cannot be written, or if nobody reads it any more.
    """
    try:
        print(printable(str(line), sys.stdout.encoding), flush=True)
    except OSError as error:
        # or Python fails at its end over what it could not write
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):  # whoever read has seen enough: `| head`
            sys.exit(141)
        note(f"Results cannot be written to standard output: {error.strerror}; make room.")
        sys.exit(2)


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
        disable=hidden or not sys.stderr,
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
    if not sys.stderr:
        return
    line = printable(_wording(line), sys.stderr.encoding)
    if "tqdm" in sys.modules:  # there may be a bar, which the line must not cut
        sys.modules["tqdm"].tqdm.write(line, file=sys.stderr)
    else:
        print(line, file=sys.stderr)


def silence(line: str) -> None:
    """A `note` that tells nothing: workers other than the chief would repeat it."""


class _Patient:
    """A stream that raises nothing when it cannot be written to any more, its disk full or its
    reader gone: what was to be told is lost.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def make_sure_of_streams() -> None:
    """Lets a process run on if its standard streams are closed, or standard error is full.

    A closed descriptor would be given to the next file that is opened, a checkpoint perhaps, which
    would then hold the messages of libraries.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:  # the lowest that is free is taken, and those below are open
            os.open(os.devnull, os.O_RDWR)
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.dup(number), "w" if number else "r"))
    if not isinstance(sys.stderr, _Patient):
        sys.stderr = _Patient(sys.stderr)


_quiet = threading.Lock()  # of the two below
_inside = 0  # how many blocks of `tensorflow_quiet` run, in whatever threads
_stderr: int | None = None  # a descriptor of what the first of them has closed


@contextlib.contextmanager
def tensorflow_quiet() -> Iterator[None]:
    """Closes standard error, unless the user has set a log level: TensorFlow's notes on the CPU and
    on absent GPUs, and LiteRT's on what it runs with, are no news, and some heed no level.

    It is closed for the whole process: of several threads in here, the last one opens it again.
    """
    if os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3") != "3":  # somebody wants to see them
        yield
        return
    _enter_or_leave(1)
    try:
        yield
    finally:
        _enter_or_leave(-1)


def _enter_or_leave(step: int) -> None:
    global _inside, _stderr
    with _quiet:
        if _inside == 0:
            _stderr = _put_aside()
        _inside += step
        if _inside == 0 and _stderr is not None:
            os.dup2(_stderr, 2)
            os.close(_stderr)


def _put_aside() -> int | None:
    """Closes standard error; returns a descriptor of what it was, None if it was closed already."""
    try:
        stderr = os.dup(2)
    except OSError:
        return None
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    os.close(null)
    return stderr
