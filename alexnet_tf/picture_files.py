"""Picture files by their names and first bytes: which there are in a folder, and of which format.

Names of files are bytes throughout, as the system has them: they need not be text.
"""

import os
import pathlib
import re
import stat
from collections.abc import Sequence

SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".dib", ".gif", ".webp")
# Only `alexnet prepare` reads these, by Pillow; HEIC by a plugin, the extra "pictures" of setup.py.
READ_BY_PREPARE = (".avif", ".heic", ".heif", ".tif", ".tiff", ".jp2", ".j2k", ".jpf", ".jpx")

HEAD = 16  # bytes of a file that tell its format
# Formats that are read, as Pillow calls them: the usual ending, and how such a file begins.
_FORMATS = {
    "JPEG": (".jpg", rb"\xff\xd8\xff"),
    "PNG": (".png", rb"\x89PNG\r\n\x1a\n"),
    "GIF": (".gif", rb"GIF8"),
    "BMP": (".bmp", rb"BM"),
    "WEBP": (".webp", rb"RIFF.{4}WEBP"),
}
PREPARED_ALONE = "which only alexnet prepare reads; elsewhere save it as JPEG or PNG"
SAVE = "which is not read; save it as JPEG or PNG"
UNKNOWN = "neither JPEG, PNG, GIF, BMP nor WebP"
# How files of other formats begin, and what is said of them. \C is any byte, as RE2 writes it.
FOREIGN = {
    r"\C{4}ftypavi[fs]\C*": f"AVIF, {PREPARED_ALONE}",
    r"\C{4}ftyp(hei[cmsx]|hev[cmsx]|mif1|msf1)\C*": f"HEIC, {PREPARED_ALONE}",
    r"(II[*+]\x00|MM\x00[*+])\C*": f"TIFF, {PREPARED_ALONE}",
    r"(\x00\x00\x00\x0cjP  |\CO\CQ)\C*": f"JPEG 2000, {PREPARED_ALONE}",
    r"\x00\x00\x00\x0cJXL \C*": f"JPEG XL, {SAVE}",
    r"8BPS\C*": f"a file of Photoshop, {SAVE}",
    r"%PDF\C*": f"PDF, {SAVE}",
    r"\s*(<\?xml|<svg|<!DOCTYPE svg)\C*": f"SVG, {SAVE}",
}
# Endings that say nothing, or what programs disagree on: the content says what the file is.
_BY_CONTENT = ("", ".jfif", ".jif", ".pjpeg", ".pjp")
# archivers and file servers lay them down
_NOBODYS_FOLDERS = (b"__MACOSX", b"@eaDir", b"lost+found", b"$RECYCLE.BIN")


def format_of(head: bytes) -> str | None:
    """By the first HEAD bytes of a file: JPEG, PNG, GIF, BMP or WEBP; None for others."""
    return next(
        (name for name, (_, start) in _FORMATS.items() if re.match(start, head, re.DOTALL)), None
    )


def foreign(head: bytes) -> str:
    """What is said of a file of another format, by its first HEAD bytes."""
    for start, words in FOREIGN.items():
        if re.fullmatch(start.replace(r"\C", ".").encode(), head, re.DOTALL):
            return words
    return UNKNOWN


def is_hidden(name: bytes) -> bool:
    """Whether a file or folder of this name is not one of the user's."""
    return name.startswith(b".") or name in _NOBODYS_FOLDERS


def ending(file: str | bytes | os.PathLike) -> str:
    """What the name of a file ends in, in small letters: ".jpg", or "" where it has no ending."""
    return os.path.splitext(os.fsdecode(file))[1].lower()


def shown(file: str | bytes | os.PathLike) -> str:
    """The name of a file for a message: as it is if it can be printed, else quoted."""
    name = os.fsdecode(file)
    return name if name.isprintable() else repr(os.fsencode(name))


def walk(
    folder: str | bytes | os.PathLike, suffixes: Sequence[str] = SUFFIXES
) -> tuple[list[bytes], list[bytes]]:
    """(the pictures anywhere below `folder`, what else lies there), names as bytes, each sorted.

    Links are followed, but for those to a folder that has been seen or that `folder` lies in, and
    what is hidden is left out. A picture is what has one of the `suffixes`; a
    file whose ending says nothing is looked at. Raises OSError for a folder that cannot be read.
    """
    found: list[bytes] = []
    others: list[bytes] = []
    # a link may lead back up
    been = set(map(os.fsencode, pathlib.Path(os.path.realpath(os.fsdecode(folder))).parents))

    def refuse(error: OSError) -> None:
        raise error

    for here, inner, files in os.walk(os.fsencode(folder), onerror=refuse, followlinks=True):
        been.add(os.path.realpath(here))
        inner[:] = sorted(
            name
            for name in inner
            if not is_hidden(name) and os.path.realpath(os.path.join(here, name)) not in been
        )
        for name in files:
            if not is_hidden(name):
                path = os.path.join(here, name)
                (found if _is_picture(path, suffixes) else others).append(path)
    return sorted(found), sorted(others)


def _is_picture(path: bytes, suffixes: Sequence[str]) -> bool:
    suffix = ending(path)
    if suffix in suffixes:
        return True
    if suffix[1:].isalpha() and suffix not in _BY_CONTENT:
        return False
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return False
        with open(path, "rb") as stream:
            head = stream.read(HEAD)
    except OSError:
        return False
    name = format_of(head)
    return name is not None and _FORMATS[name][0] in suffixes
