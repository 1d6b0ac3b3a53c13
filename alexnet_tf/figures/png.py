"""A figure to a PNG file."""

import os
import warnings
from collections.abc import Callable
from typing import IO

import matplotlib
from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.ft2font import FT2Font
from matplotlib.text import Text

from alexnet_tf import console

_DRAWN = b"Source", b"a figure of alexnet-tf"  # a text within the file, by which it is known


def write(
    draw: Callable[[], Figure],
    file: str | os.PathLike | IO[bytes],
    note: Callable[[str], None] = console.note,
) -> None:
    """Writes what `draw` draws to `file`. Letters that Matplotlib's font lacks, such as those of
    Chinese, are taken from other fonts of the system; those that none has are told by `note`.

    Raises OSError where that cannot be written.
    """
    with matplotlib.rc_context({"text.parse_math": False}):  # a dollar in a name is a dollar
        figure = draw()
        if missing := _use_fonts(figure):
            letters = " ".join(missing[:5]) + " ..." * (len(missing) > 5)
            note(
                f"No font on this system has {letters}, drawn as boxes; install one that does, such"
                " as Noto Sans CJK for Chinese, Japanese and Korean (on Debian and Ubuntu:"
                " fonts-noto-cjk)."
            )
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)
            key, text = (part.decode() for part in _DRAWN)
            figure.savefig(file, dpi=130, format="png", metadata={key: text})


def is_figure(path: str | bytes | os.PathLike) -> bool:
    """Whether `write` has written the file. Raises OSError where it cannot be read."""
    with open(path, "rb") as stream:
        return b"tEXt%s\0%s" % _DRAWN in stream.read(1024)  # such texts stand at the beginning


def _use_fonts(figure: Figure) -> list[str]:
    """Gives the texts of `figure` fonts that have their letters; returns those that none has."""
    texts = figure.findobj(Text)
    letters = {letter for text in texts for letter in text.get_text() if letter.isprintable()}
    missing = _lacks(font_manager.findfont(font_manager.FontProperties()), letters)
    families = list(matplotlib.rcParams["font.family"])
    # The files themselves: Matplotlib's own list does not know those installed after it was made.
    lacking = {path: _lacks(path, missing) for path in _system_fonts() if missing}
    while missing and lacking:
        best = min(lacking, key=lambda path: (len(missing & lacking[path]), path))
        if not missing - lacking[best]:
            break
        missing &= lacking[best]
        font_manager.fontManager.addfont(best)
        families.append(font_manager.FontProperties(fname=best).get_name())
    if len(families) > len(matplotlib.rcParams["font.family"]):
        for text in texts:
            text.set_fontfamily(families)
    return sorted(missing)


def _system_fonts() -> list[str]:
    # macOS has one that draws every letter as a box
    return [path for path in font_manager.findSystemFonts() if "LastResort" not in path]


def _lacks(path: str, letters: set[str]) -> set[str]:
    """Those of `letters` that the font in the file does not have."""
    try:
        font = FT2Font(path)
        return {letter for letter in letters if not font.get_char_index(ord(letter))}
    except (OSError, RuntimeError):  # no font, or one that FreeType cannot open
        return letters
