"""What people install: an sdist that is whole, and a wheel of it, used far from any checkout."""

import email
import json
import os
import pathlib
import resource
import shutil
import subprocess
import sys
import tarfile
import zipfile

import pytest

from alexnet_tf.__main__ import COMMANDS

ROOT = pathlib.Path(__file__).parent.parent
_LEFT_OUT = shutil.ignore_patterns(
    ".*", "models", "build", "dist", "*.egg-info", "node_modules", "__pycache__", "[0-9]*"
)

# Runs every command's --help, each in a child of one process that has imported TensorFlow once.
_ALL_HELPS = """
import contextlib, io, json, os, sys
from alexnet_tf.__main__ import COMMANDS, main, tensorflow_quiet
with tensorflow_quiet():
    import tensorflow
helps = {}
for name in COMMANDS:
    read, write = os.pipe()
    if os.fork() == 0:
        os.dup2(write, 1)
        with contextlib.suppress(SystemExit):
            main([name, "--help"])
        import importlib
        module = importlib.import_module(f"alexnet_tf.commands.{name.replace('-', '_')}")
        print("\\n" + json.dumps(sorted(module.FLAGS)))
        sys.stdout.flush()
        os._exit(0)
    os.close(write)
    helps[name] = open(read).read()
    os.wait()
from alexnet_tf.commands import serve_page
package = __import__("alexnet_tf").__file__
json.dump({"helps": helps, "page": str(serve_page.PAGE), "package": package}, sys.stdout)
"""


def build(kind, source, folder):
    """Builds `source` as pip would without isolation; returns the path.

    `kind` is "sdist" or "wheel".
    """
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            f"from setuptools import build_meta; print(build_meta.build_{kind}({str(folder)!r}))",
        ],
        cwd=source,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return folder / done.stdout.splitlines()[-1]


@pytest.fixture(scope="session")
def sdist(tmp_path_factory):
    """The sdist, unpacked."""
    folder = tmp_path_factory.mktemp("sdist")
    shutil.copytree(ROOT, folder / "checkout", ignore=_LEFT_OUT)
    shutil.copy(ROOT / "examples/browser/.npmrc", folder / "checkout/examples/browser")
    with tarfile.open(build("sdist", folder / "checkout", folder)) as archive:
        archive.extractall(folder, filter="data")
    return next(folder.glob("alexnet_tf-*/"))


@pytest.fixture(scope="session")
def wheel(sdist, tmp_path_factory):
    return build("wheel", sdist, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="session")
def installed(wheel, tmp_path_factory):
    """The programs of an environment that has the wheel, and all else from this environment."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "--python",
            folder,
            "install",
            "--quiet",
            "--no-deps",
            "--no-index",
            wheel,
        ],
        check=True,
    )
    packages = next(folder.glob("lib/python3*/site-packages"))
    (packages / "others.pth").write_text(str(pathlib.Path(pytest.__file__).parent.parent) + "\n")
    return folder / "bin"


def run(*command, cwd):
    """A command without anything that the tests' own environment says."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in ("PYTHONPATH", "TF_CPP_MIN_LOG_LEVEL")
    }
    return subprocess.run(
        command, cwd=cwd, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )


def test_the_sdist_is_whole(sdist):
    for folder in ("alexnet_tf", "tools", "tests", "docs", "examples"):
        there = {
            path.relative_to(ROOT)
            for path in (ROOT / folder).rglob("*")
            if path.is_file() and not {"__pycache__", "node_modules"} & set(path.parts)
        }
        assert not [path for path in there if not (sdist / path).exists()]
    for name in (
        "BUILD_NOTES.md",
        "CHANGELOG.md",
        "CITATION.cff",
        "CONTRIBUTING.md",
        "LICENSE",
        "Makefile",
        "README.md",
        "SECURITY.md",
        "constraints.txt",
        "mypy.ini",
        "pyproject.toml",
        "pytest.ini",
        "ruff.toml",
        "setup.py",
    ):
        assert (sdist / name).read_bytes() == (ROOT / name).read_bytes()


def test_metadata(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (path,) = [name for name in names if name.endswith(".dist-info/METADATA")]
        metadata = email.message_from_bytes(archive.read(path))
    assert metadata["License-Expression"] == "Apache-2.0" and metadata["License-File"] == "LICENSE"
    assert path.replace("METADATA", "licenses/LICENSE") in names and "alexnet_tf/py.typed" in names
    assert {
        "Programming Language :: Python :: 3.11",
        "Typing :: Typed",
        "Operating System :: POSIX :: Linux",
    } <= set(metadata.get_all("Classifier"))
    required = metadata.get_all("Requires-Dist")
    assert [
        one
        for one in required
        if one.startswith("tensorflow[and-cuda]") and 'extra == "cuda"' in one
    ]
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata.get_payload().startswith("# AlexNet for TensorFlow and Keras")


def test_the_list_of_commands_comes_without_tensorflow_in_less_than_a_second(installed, tmp_path):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    listed = run(installed / "alexnet", "--help", cwd=tmp_path)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert listed.returncode == 0 and listed.stderr == ""
    assert all(f"  {name} " in listed.stdout for name in COMMANDS)
    # of the processor, not of the clock
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1
    imported = run(
        installed / "python", "-X", "importtime", "-m", "alexnet_tf", "--help", cwd=tmp_path
    ).stderr
    assert "alexnet_tf" in imported and not [
        name for name in ("tensorflow", "keras", "numpy") if name in imported
    ]


def test_every_help_lists_every_flag(installed, tmp_path):
    done = run(installed / "python", "-c", _ALL_HELPS, cwd=tmp_path)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    answer = json.loads(done.stdout)
    # the wheel's, no checkout's
    assert pathlib.Path(answer["package"]).is_relative_to(installed.parent)
    assert answer["helps"].keys() == COMMANDS.keys()
    for name, text in answer["helps"].items():
        text, _, flags = text.rstrip().rpartition("\n")
        assert f"usage: alexnet {name} " in text
        for flag in json.loads(flags):
            assert f"  --{flag}" in text or f"  --[no]{flag}" in text, (name, flag)
    page = pathlib.Path(answer["page"])
    assert page.is_relative_to(installed.parent)
    for path in (ROOT / "examples/browser").iterdir():
        assert path.is_dir() or (page / path.name).read_bytes() == path.read_bytes()


def test_an_answer_in_a_process_of_its_own(installed, tmp_path):
    done = run(installed / "alexnet", "describe", "--variant=lenet5", cwd=tmp_path)
    assert done.returncode == 0 and done.stderr == ""  # none of TensorFlow's notes
    assert "conv1" in done.stdout
    done = run(installed / "alexnet", "serve-page", cwd=tmp_path)
    assert done.returncode == 2
    assert (
        done.stderr
        == "alexnet serve-page: --model=models/shapes/alexnet.tflite cannot be read (No such file"
        " or directory); alexnet convert writes one.\n"
    )
