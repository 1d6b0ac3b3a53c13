"""What it takes to trace a result: versions, machine, time, and the git commit of this project."""

import importlib.metadata
import os
import pathlib
import platform
import subprocess
import time

import alexnet_tf


def provenance() -> dict:
    """Versions, machine and time, and the git commit if the package lies in its own checkout."""
    names = ("tensorflow", "keras", "numpy")
    # of the code that runs, which an installation that is older would tell otherwise
    versions = {"alexnet-tf": alexnet_tf.__version__}
    versions |= {name: importlib.metadata.version(name) for name in names}
    commit = commit_of(pathlib.Path(__file__).resolve().parent.parent)
    return {
        "versions": versions,
        **({"commit": commit} if commit else {}),
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs",
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def origin() -> dict:
    """What of `provenance` is the same each time that the same is made here: versions, commit."""
    return {name: value for name, value in provenance().items() if name in ("versions", "commit")}


def commit_of(folder: pathlib.Path) -> str | None:
    """The git commit of `folder` if it is a checkout of this project, else None: an installed
    package may lie within a repository of its user, which says nothing about it.
    """
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("GIT_")
    }  # a hook's

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()

    here = pathlib.Path(__file__)
    try:
        git("ls-files", "--error-unmatch", "setup.py", f"{here.parent.name}/{here.name}")
        if pathlib.Path(git("rev-parse", "--show-toplevel")).resolve() == folder:
            return git("describe", "--always", "--dirty")
    except (OSError, subprocess.CalledProcessError):  # no git, or nothing of it here
        pass
    return None
