"""A figure to a PNG file."""

import os
from collections.abc import Callable

import matplotlib
from matplotlib.figure import Figure


def write(draw: Callable[[], Figure], path: str | os.PathLike) -> None:
    """Writes what `draw` draws to `path`. Raises OSError where that cannot be written."""
    with matplotlib.rc_context({"text.parse_math": False}):  # a dollar in a name is a dollar
        draw().savefig(path, dpi=130, format="png")
