"""Which of the two distributions of this package is installed.

`alexnet-tf` is all of it. `alexnet-tf-edge`, for devices that have no TensorFlow, holds the modules
that classify by a .tflite file: the very same files, so that one of the two is to be installed.
"""

import importlib.metadata
import importlib.util
import pathlib
import re

from alexnet_tf.errors import UserError

EDGE = "alexnet-tf-edge"


def is_whole() -> bool:
    """Whether this is alexnet-tf, rather than alexnet-tf-edge."""
    return importlib.util.find_spec("alexnet_tf.networks") is not None


def name() -> str:
    """What pip calls this one."""
    return "alexnet-tf" if is_whole() else EDGE


def how_to_install(extra: str) -> str:
    """The command that installs the packages of an extra of setup.py."""
    required = importlib.metadata.requires(name()) or []
    of_extra = (text.partition(";") for text in required)
    packages = [f"'{what.strip()}'" for what, _, when in of_extra if f'extra == "{extra}"' in when]
    return f"pip install {' '.join(packages)}"


def missing(package: str | None, extra: str) -> str:
    """The message for a missing `package` that an extra of setup.py installs."""
    return f"{package} is not installed; run {how_to_install(extra)}"


def needs_tensorflow(what: str) -> str:
    """The message for `what`, which alexnet-tf-edge cannot do."""
    return f"{what} needs TensorFlow, which {EDGE} does not have"


def check() -> None:
    """Raises UserError if both are installed here in different versions: then some files are of
    the one and some of the other. In one version they are the same, whoever wrote them last.
    """
    packages = pathlib.Path(__file__).parent.parent
    found = {
        match[1].replace("_", "-"): match[2]
        for path in packages.glob("alexnet_tf*.dist-info")
        if (match := re.fullmatch(r"(alexnet_tf(?:_edge)?)-(.+)\.dist-info", path.name))
    }
    if len(set(found.values())) > 1:
        both = " and ".join(f"{name} {version}" for name, version in sorted(found.items()))
        raise UserError(
            f"{both} are both installed in {packages}, and share files; run pip uninstall"
            " alexnet-tf-edge, then pip install --force-reinstall --no-deps alexnet-tf."
        )
