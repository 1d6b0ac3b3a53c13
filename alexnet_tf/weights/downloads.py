"""Downloads of others' files: in pieces that a broken connection does not lose, and checked by
their digests.

keras.utils.get_file begins again from nothing after each break, and knows neither sha1 nor the
beginning of a digest, which is all that some publishers state.
"""

import dataclasses
import hashlib
import pathlib
import urllib.parse
import urllib.request
from collections.abc import Callable

import requests

from alexnet_tf import console, disk
from alexnet_tf.errors import UserError, one_line

_PIECE = 2**16  # bytes: what a break may lose
_ATTEMPTS = 3  # in a row that bring nothing
_TIMEOUT = 60.0  # seconds of silence


class Unreachable(Exception):
    """Why a file cannot be had from an address, in a few words."""


class Refused(Unreachable):
    """The server has answered, and would answer the same again."""


@dataclasses.dataclass(frozen=True)
class Digest:
    """Of a whole file: sha1 (40 digits), or sha256 or its beginning (any other number of them)."""

    digits: str

    def is_of(self, path: pathlib.Path) -> bool:
        """Whether the file has it."""
        with open(path, "rb") as stream:
            kind = "sha1" if len(self.digits) == 40 else "sha256"
            return hashlib.file_digest(stream, kind).hexdigest().startswith(self.digits)


def fetch(
    url: str,
    path: pathlib.Path,
    digest: Digest,
    progress: Callable = console.progress,
    session: requests.Session | None = None,
    timeout: float = _TIMEOUT,
    largest: int = 2**30,
) -> None:
    """Fetches `url` (http, https or file) to `path`, whose name it gets when its digest is right.

    What an earlier call left unfinished beside `path` is not fetched again; no other process may
    write there meanwhile. `timeout` is how many seconds a server may be silent, `largest` how many
    bytes it may send. Raises Unreachable, also for a file that does not have `digest`, which is
    removed; UserError if the file cannot be written.
    """
    session, part = session or requests.Session(), path.with_name(f"{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        resumed = part.exists()
        _fill(part, url, progress, session, timeout, largest)
        if resumed and not digest.is_of(part):  # what lay there was the beginning of another
            part.unlink()
            _fill(part, url, progress, session, timeout, largest)
        if not digest.is_of(part):
            size = part.stat().st_size
            part.unlink()
            raise Unreachable(
                f"{shown(url)} gives a file ({size:,} bytes) that does not have "
                f"the digest {digest.digits}"
            )
        disk.flush(part)
        part.replace(path)
    except OSError as error:
        raise UserError(
            f"{path} cannot be written ({error.strerror or error}); pass another cache_dir."
        ) from None


def _fill(
    part: pathlib.Path,
    url: str,
    progress: Callable,
    session: requests.Session,
    timeout: float,
    largest: int,
) -> None:
    if urllib.parse.urlsplit(url).scheme == "file":
        _copy(local_path(url), part, largest)
    else:
        _download(url, part, progress, session, timeout, largest)


def local_path(url: str) -> pathlib.Path:
    """Of a file: URL."""
    return pathlib.Path(urllib.request.url2pathname(urllib.parse.urlsplit(url).path))


def get(
    url: str, session: requests.Session, timeout: float = _TIMEOUT, **headers: str
) -> requests.Response:
    """The answer to a request, its body not yet read. Raises Unreachable."""
    try:
        answer = session.get(
            url, headers={"Accept-Encoding": "identity"} | headers, stream=True, timeout=timeout
        )
    except (requests.RequestException, ValueError) as error:
        raise Unreachable(f"{shown(url)}: {_reason(error)}") from None
    if answer.status_code not in (200, 206, 416):
        answer.close()
        raise Refused(f"{shown(url)}: the server answers {answer.status_code}")
    return answer


def shown(url: str) -> str:
    """An address without the password that may stand in it."""
    parts = urllib.parse.urlsplit(url)
    return urllib.parse.urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _reason(error: BaseException) -> str:
    while error.args and isinstance(error.args[0], Exception):  # requests wraps urllib3's
        error = error.args[0]
    error = getattr(error, "reason", error)
    return one_line(str(error).split(": ")[-1], 120) or type(error).__name__


def _copy(source: pathlib.Path, part: pathlib.Path, largest: int) -> None:
    try:
        if source.stat().st_size > largest:
            raise Unreachable(f"{source} has more than {largest:,} bytes")
        part.write_bytes(source.read_bytes())
    except FileNotFoundError:
        raise Unreachable(f"{source} does not exist") from None


def _download(
    url: str,
    part: pathlib.Path,
    progress: Callable,
    session: requests.Session,
    timeout: float,
    largest: int,
) -> None:
    fruitless, most = 0, part.stat().st_size if part.exists() else 0
    while True:
        try:
            if _go_on(url, part, progress, session, timeout, largest):
                return
            reason = "the connection broke"
        except Refused:
            raise
        except Unreachable as error:
            reason = str(error)
        size = part.stat().st_size if part.exists() else 0
        # more than ever: what is begun anew and breaks again at the same place brings nothing
        fruitless, most = (0, size) if size > most else (fruitless + 1, most)
        if fruitless == _ATTEMPTS:
            raise Unreachable(reason)


def _go_on(
    url: str,
    part: pathlib.Path,
    progress: Callable,
    session: requests.Session,
    timeout: float,
    largest: int,
) -> bool:
    """Fetches what is missing; returns whether nothing is any more."""
    begin = part.stat().st_size if part.exists() else 0
    with get(url, session, timeout, **({"Range": f"bytes={begin}-"} if begin else {})) as answer:
        if answer.status_code == 416:  # nothing is beyond what is there: whole, or of another file
            return True
        # Some servers pack all that they send: lengths and ranges are then of what is packed.
        packed = answer.headers.get("Content-Encoding", "identity") != "identity"
        if answer.status_code == 200:  # a server that knows no ranges
            begin = 0
        elif packed or not answer.headers.get("Content-Range", "").startswith(f"bytes {begin}-"):
            part.unlink()
            return False
        length = answer.headers.get("Content-Length", "")
        total = begin + int(length) if length.isdecimal() and not packed else None
        if total and total > largest:
            raise Refused(f"{shown(url)} has {total:,} bytes, more than {largest:,}")
        got = begin
        with (
            open(part, "ab" if begin else "wb") as stream,
            progress(total, part.name.removesuffix(".part"), begin, total is None, "B") as bar,
        ):
            try:
                for piece in answer.iter_content(_PIECE):
                    got += len(piece)
                    if got > largest:
                        raise Refused(f"{shown(url)}: the server answers without end")
                    stream.write(piece)
                    bar.update(len(piece))
            except requests.RequestException:
                return False
        return total is None or got >= total
