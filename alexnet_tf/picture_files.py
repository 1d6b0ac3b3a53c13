"""Picture files by their names and first bytes: which there are in a folder, and of which format.

Names of files are bytes throughout, as the system has them: they need not be text.
"""

import collections
import os
import pathlib
import re
import stat
from collections.abc import Callable, Iterable, Sequence

from alexnet_tf import console, disk
from alexnet_tf.errors import UserError, check_kind

SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".dib", ".gif", ".webp")
# Only `alexnet prepare` reads these, by Pillow; HEIC by a plugin, the extra "pictures" of setup.py.
READ_BY_PREPARE = (
    ".avif",
    ".heic",
    ".heif",
    ".hif",
    ".tif",
    ".tiff",
    ".jp2",
    ".j2c",
    ".j2k",
    ".jpf",
    ".jpx",
)

HEAD = 16  # bytes of a file that tell its format
# Formats that are read, as Pillow calls them: the usual ending, and how such a file begins.
_FORMATS = {
    "JPEG": (".jpg", rb"\xff\xd8\xff"),
    "PNG": (".png", rb"\x89PNG\r\n\x1a\n(?!.{4}CgBI)"),
    "GIF": (".gif", rb"GIF8"),
    "BMP": (".bmp", rb"BM"),
    "WEBP": (".webp", rb"RIFF.{4}WEBP"),
}
PREPARED_ALONE = "which only alexnet prepare reads; elsewhere save it as JPEG or PNG"
SAVE = "which is not read; save it as JPEG or PNG"
_READ = "JPEG, PNG, GIF, BMP"
FORMATS, UNKNOWN = f"{_READ} or WebP", f"neither {_READ} nor WebP"  # that are read; that is not
# How other files begin, by their first HEAD bytes, and what is said of them. \C is any byte, as RE2
# writes it.
FOREIGN = {
    r"": "an empty file; fetch it again, or remove it",
    r"\C{4}ftypavi[fs]\C*": f"AVIF, {PREPARED_ALONE}",
    r"\C{4}ftyp(hei[cmsx]|hev[cmsx])\C*": f"HEIC, {PREPARED_ALONE}",
    r"\C{4}ftyp(mif1|msf1)\C*": f"HEIC or AVIF, {PREPARED_ALONE}",
    r"\C{4}ftyp\C*": f"a video, or a raw file of a camera, {SAVE}",
    r"(II[*+]\x00|MM\x00[*+])\C*": f"TIFF, {PREPARED_ALONE}",
    r"(\x00\x00\x00\x0cjP  |\CO\CQ)\C*": f"JPEG 2000, {PREPARED_ALONE}",
    r"\x00\x00\x00\x0cJXL \C*": f"JPEG XL, {SAVE}",
    r"\x00\x00[\x01\x02]\x00[^\x00]\x00\C*": f"a Windows icon, {SAVE}",
    r"\CPNG\C{8}CgBI": f"a PNG that was converted for iPhones, {SAVE}",
    r"8BPS\C*": f"a Photoshop file, {SAVE}",
    r"%PDF\C*": f"PDF, {SAVE}",
    r"(\C{3})?\s*(<svg|<!DOCTYPE svg)\C*": f"SVG, {SAVE}",
    r"(\C{3})?\s*<\?xml\C*": f"SVG, {SAVE}, or fetch it again if a server sent XML in its place",
    r"(?i)(\C{3})?\s*<(!doctype h|html)\C*": "a web page; fetch the picture again",
    r"version https://": "a pointer of Git LFS; git lfs pull fetches the picture",
    r"\x00\x05\x16\x07\C*": "metadata of macOS on another file; remove it",
}
# Endings that say nothing, or what programs disagree on: the content says what the file is.
_BY_CONTENT = ("", ".jfif", ".jif", ".pjpeg", ".pjp")
# archivers and file servers lay them down
_NOBODYS_FOLDERS = (
    b"__MACOSX",
    b"@eaDir",
    b"@Recycle",
    b"@Recently-Snapshot",
    b"#recycle",
    b"#snapshot",
    b"$RECYCLE.BIN",
    b"System Volume Information",
    b"lost+found",
    b".git",
    b".dvc",
)
# Windows and macOS lay them down, and whatever copies folders takes them along
_NOBODYS_FILES = (b"desktop.ini", b"ehthumbs.db", b"icon\r", b"thumbs.db")
_IN_THE_CLOUD = b".icloud"  # .1.jpg.icloud stands for 1.jpg, which macOS has not fetched


def format_of(head: bytes) -> str | None:
    """By the first HEAD bytes of a file: JPEG, PNG, GIF, BMP or WEBP; None for others."""
    return next(
        (name for name, (_, start) in _FORMATS.items() if re.match(start, head, re.DOTALL)), None
    )


def no_picture(reason: object) -> str:
    """What is said of a file that does not decode, to follow its name."""
    return f"does not decode as a picture ({reason}); pass {FORMATS} files."


def foreign(head: bytes) -> str:
    """What is said of a file of another format, by its first HEAD bytes."""
    for start, words in FOREIGN.items():
        if re.fullmatch(start.replace(r"\C", ".").encode(), head, re.DOTALL):
            return words
    return UNKNOWN


def is_hidden(name: bytes) -> bool:
    """Whether a file or folder of this name is not one of the user's."""
    return name.startswith(b".") or name in _NOBODYS_FOLDERS


def is_nobodys(name: bytes) -> bool:
    """Whether a file of this name is hidden, or, in upper or lower case, one that systems put into
    any folder.
    """
    return is_hidden(name) or name.lower() in _NOBODYS_FILES


def ending(file: str | bytes | os.PathLike) -> str:
    """What the name of a file ends in, in small letters: ".jpg", or "" where it has no ending."""
    return os.path.splitext(os.fsdecode(file))[1].lower()


def shown(file: str | bytes | os.PathLike) -> str:
    """The name of a file for a message: as it is if it can be printed, else quoted."""
    name = os.fsdecode(file)
    return name if name.isprintable() else repr(os.fsencode(name))


def content(picture: str | os.PathLike | bytes) -> tuple[bytes, str]:
    """(the bytes, what to call them in a message) of a picture, a path or the bytes of a file.

    Raises UserError for anything else, and for a file that cannot be read.
    """
    if isinstance(picture, bytes):
        return picture, "What was passed"
    check_kind(str | os.PathLike, picture, "picture", "a path, or the bytes of a file")
    try:
        return disk.read_bytes(disk.local(picture)), shown(picture)
    except OSError as error:
        raise UserError(f"{shown(picture)} cannot be read ({error.strerror}).") from None


def walk(
    folder: str | bytes | os.PathLike, suffixes: Sequence[str] = SUFFIXES
) -> tuple[list[bytes], list[bytes]]:
    """(the pictures anywhere below `folder`, what else lies there), names as bytes, each sorted.

    Links are followed, but for those to a folder that has been seen or that `folder` lies in. A
    picture is what has one of the `suffixes`; a file whose ending says nothing is looked at. Of
    what is hidden, pictures are among what else lies there, and all else is left out. Raises
    OSError for a folder that cannot be read.
    """
    found: list[bytes] = []
    others: list[bytes] = []
    # a link may lead back up
    been = set(map(os.fsencode, pathlib.Path(os.path.realpath(os.fsdecode(folder))).parents))

    def refuse(error: OSError) -> None:
        raise error

    for here, inner, files in os.walk(os.fsencode(folder), onerror=refuse, followlinks=True):
        been.add(os.path.realpath(here))
        inner[:] = unseen(here, inner, been)
        for name in files:
            path = os.path.join(here, name)
            if not is_within_hidden(path, folder):
                (found if is_picture(path, suffixes) else others).append(path)
            elif _hides_picture(path):
                others.append(path)
    return sorted(found), sorted(others)


def unseen(here: bytes, names: list[bytes], been: set[bytes]) -> list[bytes]:
    """Those of the folders in `here` that lead to places not in `been`, each to a different one;
    the places of those that are not hidden are added to `been`. A folder goes before links to it,
    and hidden ones come last: what they hold counts if a link that is not hidden leads there.
    """

    def last(name: bytes) -> tuple[bool, bool, bytes]:
        return is_hidden(name), os.path.islink(os.path.join(here, name)), name

    unseen = []
    for name in sorted(names, key=last):
        real = os.path.realpath(os.path.join(here, name))
        if name not in _NOBODYS_FOLDERS and real not in been:
            unseen.append(name)
            if not is_hidden(name):
                been.add(real)
    return unseen


def hidden_pictures(entry: os.DirEntry[bytes]) -> list[bytes]:
    """The pictures that are hidden because of the name of `entry`: it, or those below it."""
    if not is_hidden(entry.name) or entry.name in _NOBODYS_FOLDERS:
        return []
    if os.path.isdir(entry.path):
        return walk(entry.path)[0]
    return [entry.path] if _hides_picture(entry.path) else []


def _hides_picture(path: bytes) -> bool:
    """Whether a hidden file is a picture, or stands for one that is elsewhere."""
    return path.endswith(_IN_THE_CLOUD) or _kind_by_content(path) is not None


def is_within_hidden(path: bytes, folder: str | bytes | os.PathLike) -> bool:
    """Whether `path`, or a folder between it and `folder`, is hidden."""
    return any(map(is_hidden, os.path.relpath(path, os.fsencode(folder)).split(b"/")))


def is_picture(path: bytes, suffixes: Sequence[str] = SUFFIXES) -> bool:
    """Whether the name of a file ends in one of `suffixes`, or, where its ending says nothing, its
    content is of such a format.
    """
    suffix = ending(path)
    if suffix in suffixes:
        return True
    if suffix[1:].isalpha() and suffix not in _BY_CONTENT:
        return False
    return _kind_by_content(path) in suffixes


def _kind_by_content(path: bytes) -> str | None:
    """The ending that suits what `path` holds, or None."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return None
        with open(path, "rb") as stream:
            name = format_of(stream.read(HEAD))
    except OSError:
        return None
    return None if name is None else _FORMATS[name][0]


class Unused:
    """Files that are not used, by the reason."""

    def __init__(self, root: str | bytes | os.PathLike) -> None:
        self._root = root
        self._files: dict[bytes, str] = {}

    def add(self, file: str | bytes | os.PathLike, reason: str | None = None) -> None:
        """`reason` stands for the ending of the file."""
        if os.path.islink(file) and not os.path.exists(file):
            reason = "dead link{s}"
        elif os.fsencode(file).endswith(_IN_THE_CLOUD):
            reason = "picture{s} left in iCloud, which Download Now in the Finder fetches"
        elif is_within_hidden(os.fsencode(file), self._root):
            reason = "hidden picture{s}"
        suffix = ending(file)
        kind = reason or (
            f"file{{s}} of {braced(suffix)}" if suffix else "file{s} without an ending"
        )
        if suffix in READ_BY_PREPARE and not reason:
            kind += ", which alexnet prepare reads"
        self._files.setdefault(os.fsencode(file), kind)

    def describe(self) -> str:
        """All of it in a few words, or ""."""
        kinds = collections.Counter(self._files.values())
        first = {kind: file for file, kind in sorted(self._files.items(), reverse=True)}
        return "; ".join(
            f"{count} {kind.format(s='s' * (count > 1))} (first "
            f"{shown(os.path.relpath(first[kind], os.fsencode(self._root)))})"
            for kind, count in sorted(kinds.items(), key=lambda item: (-item[1], item[0]))
        )

    def lines(self) -> list[str]:
        """One of each file."""
        return [
            f"{shown(file)} is not used ({kind.format(s='')})"
            for file, kind in sorted(self._files.items())
        ]


def pictures_below(
    path: str | os.PathLike, note: Callable[[str], None] = console.note
) -> list[bytes]:
    """The pictures that `path` is, or that lie anywhere below it, sorted: names as bytes.

    What else lies in a folder is told by `note`. Raises UserError where there is no picture,
    or a folder that cannot be read.
    """
    if not os.path.exists(path):
        raise UserError(f"{path} does not exist; pass pictures, or folders of pictures.")
    if not os.path.isdir(path):
        return [os.fsencode(path)]
    try:
        found, others = walk(path)
    except OSError as error:
        raise UserError(f"{shown(error.filename)} cannot be read ({error.strerror}).") from None
    there = describe_unused(path, others)
    if not found:
        raise UserError(
            f"No picture ({', '.join(SUFFIXES)}) in {path}."
            + f" {path}: not used: {there}." * bool(there)
        )
    if there:
        note(f"{path}: not used: {there}.")
    return found


def describe_unused(folder: str | os.PathLike, files: Iterable[bytes]) -> str:
    """What the `files` of `folder` are that are not used; empty if there are none."""
    unused = Unused(folder)
    for file in files:
        unused.add(file)
    return unused.describe()


def braced(text: str | bytes | os.PathLike) -> str:
    """`text`, printable, with braces doubled so that str.format gives them back as they were."""
    return shown(text).replace("{", "{{").replace("}", "}}")
