"""What people install: an sdist that is whole, and the two wheels of it, used far from any
checkout.
"""

import email
import importlib.metadata
import json
import os
import pathlib
import re
import resource
import shutil
import subprocess
import sys
import tarfile
import zipfile

import pytest
from packaging import requirements, utils
from PIL import Image
from tflite_files import colour_content

from alexnet_tf.__main__ import COMMANDS

ROOT = pathlib.Path(__file__).parent.parent
_LEFT_OUT = shutil.ignore_patterns(
    ".*", "build", "dist", "*.egg-info", "node_modules", "__pycache__"
)
# What commands write there unless they are told otherwise.
_WRITTEN = {ROOT: {"models", "exports"}, ROOT / "saved_models": {"alexnet"}}

# Runs every command's --help, each in a child of one process that has imported TensorFlow once.
_ALL_HELPS = """
import contextlib, io, json, os, sys
from alexnet_tf.__main__ import COMMANDS, main
from alexnet_tf.console import tensorflow_quiet
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
    shutil.copytree(
        ROOT,
        folder / "checkout",
        ignore=lambda at, names: _LEFT_OUT(at, names) | _WRITTEN.get(pathlib.Path(at), set()),
    )
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
    for folder in ("alexnet_tf", "edge", "tools", "tests", "docs", "examples"):
        there = {
            path.relative_to(ROOT)
            for path in (ROOT / folder).rglob("*")
            if path.is_file()
            and not {"__pycache__", "node_modules", "build"} & set(path.parts)
            and not any(part.endswith(".egg-info") for part in path.parts)
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
        "requirements.txt",
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
    assert metadata["Requires-Python"] == ">=3.11,<3.14"
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


@pytest.mark.long
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


def needed_by(wheel):
    """The names of the distributions that a wheel needs, and those that they need, as this
    environment has them.
    """
    with zipfile.ZipFile(wheel) as archive:
        (path,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        waiting = email.message_from_bytes(archive.read(path)).get_all("Requires-Dist")
    names = set()
    while waiting:
        needed = requirements.Requirement(waiting.pop())
        here = needed.marker is None or needed.marker.evaluate({"extra": ""})
        if here and needed.name not in names:
            names.add(needed.name)
            waiting += importlib.metadata.requires(needed.name) or []
    return names


@pytest.fixture(scope="session")
def edge_wheel(sdist, tmp_path_factory):
    return build("wheel", sdist / "edge", tmp_path_factory.mktemp("edge_wheel"))


@pytest.fixture(scope="session")
def on_a_device(edge_wheel, tmp_path_factory):
    """The programs of an environment that has alexnet-tf-edge and what it says that it needs, and
    nothing else.
    """
    folder = tmp_path_factory.mktemp("device")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    packages = next(folder.glob("lib/python3*/site-packages"))
    for name in needed_by(edge_wheel):
        distribution = importlib.metadata.distribution(name)
        for top in {path.parts[0] for path in distribution.files} - {"..", "__pycache__"}:
            if not (packages / top).exists():
                (packages / top).symlink_to(distribution.locate_file(top))
    pip = [sys.executable, "-m", "pip", "--python", folder, "install", "--quiet"]
    subprocess.run([*pip, "--no-deps", "--no-index", edge_wheel], check=True)
    return folder / "bin"


def test_the_edge_wheel_holds_the_modules_of_the_large_one(edge_wheel, wheel):
    with zipfile.ZipFile(edge_wheel) as small, zipfile.ZipFile(wheel) as large:
        modules = [name for name in small.namelist() if name.startswith("alexnet_tf/")]
        assert "alexnet_tf/commands/classify.py" in modules
        for name in modules:
            assert small.read(name) == large.read(name), name
        licence = [name for name in small.namelist() if name.endswith("licenses/LICENSE")]
        assert small.read(licence[0]) == (ROOT / "LICENSE").read_bytes()
    needed = needed_by(edge_wheel)
    assert {"absl-py", "ai-edge-litert", "numpy", "pillow"} <= needed
    assert not {"tensorflow", "keras", "tensorflow-datasets", "matplotlib", "h5py"} & needed


# What it prints on standard error at the end: the modules of this package that were imported.
_IMPORTED = """
import atexit, sys
atexit.register(lambda: print(*sorted(name for name in sys.modules if name.split(".")[0] in (
    "alexnet_tf", "tensorflow", "keras", "tqdm", "matplotlib")), file=sys.stderr))
from alexnet_tf.__main__ import main
main()
"""


@pytest.fixture(scope="session")
def colours(tmp_path_factory):
    """net.tflite and pictures: a folder."""
    folder = tmp_path_factory.mktemp("colours")
    (folder / "net.tflite").write_bytes(colour_content())
    (folder / "pictures").mkdir()
    for name in ("red", "blue"):
        Image.new("RGB", (90, 120), name).save(folder / f"pictures/{name}.webp", lossless=True)
    return folder


def test_a_device_classifies_without_tensorflow(on_a_device, edge_wheel, colours):
    listed = run(on_a_device / "alexnet", "--help", cwd=colours).stdout
    assert "\n  classify " in listed and "\n  train " not in listed
    for code, message in (
        ("import tensorflow", "No module named 'tensorflow'"),
        ("import alexnet_tf; alexnet_tf.train", "alexnet_tf.train needs TensorFlow"),
    ):
        assert message in run(on_a_device / "python", "-c", code, cwd=colours).stderr
    classify = on_a_device / "alexnet", "classify", "--model=net.tflite"
    done = run(*classify, "--json_lines", "--threads=1", "pictures", cwd=colours)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(line["picture"], line["classes"][0][0]) for line in lines] == [
        ("pictures/blue.webp", "blue"),
        ("pictures/red.webp", "red"),
    ]
    done = subprocess.run(
        [*classify, "-"], cwd=colours, input=b"pictures/red.webp\n", check=True, capture_output=True
    )
    assert done.stdout.splitlines()[0] == b"pictures/red.webp" and done.stderr == b""
    for arguments, message in (
        (["train"], "alexnet: train needs TensorFlow, which alexnet-tf-edge does not have"),
        (["classify", "--model=pictures", "pictures"], "--model=pictures needs TensorFlow"),
        (["classify", "--server=http://127.0.0.1:1", "pictures"], "--server=http://127.0.0.1:1 ne"),
    ):
        done = run(on_a_device / "alexnet", *arguments, cwd=colours)
        assert done.returncode == 2 and done.stdout == "" and message in done.stderr
        assert len(done.stderr.splitlines()) == 1
    version = edge_wheel.name.split("-")[1]
    assert run(on_a_device / "alexnet", "--version", cwd=colours).stdout == (
        f"alexnet-tf-edge {version}\n"
    )


@pytest.mark.parametrize("environment", ["on_a_device", "installed"])
def test_what_is_imported_to_classify_is_the_edge_wheel(request, environment, edge_wheel, colours):
    python = request.getfixturevalue(environment) / "python"
    arguments = "classify", "--model=net.tflite", "pictures/red.webp"
    done = run(python, "-c", _IMPORTED, *arguments, cwd=colours)
    assert done.returncode == 0
    with zipfile.ZipFile(edge_wheel) as archive:
        held = {
            name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
            for name in archive.namelist()
            if name.endswith(".py")
        }
    assert set(done.stderr.split()) == held


def test_two_versions_of_the_two_wheels_in_one_place_are_refused(
    on_a_device, colours, tmp_path, edge_wheel
):
    shutil.copytree(on_a_device.parent, tmp_path / "both", symlinks=True)
    program = tmp_path / "both/bin/python", "-m", "alexnet_tf"
    packages = next(tmp_path.glob("both/lib/python3*/site-packages"))
    version = edge_wheel.name.split("-")[1]
    other = packages / f"alexnet_tf-{version}.dist-info"
    other.mkdir()
    assert run(*program, "--version", cwd=colours).returncode == 0
    other.rename(packages / "alexnet_tf-9.9.dist-info")
    done = run(*program, "--version", cwd=colours)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
    assert f"alexnet-tf 9.9 and alexnet-tf-edge {version} are both installed" in done.stderr


def test_every_file_that_make_installs_has_a_hash_that_pip_checks():
    pins = {}
    for line in (ROOT / "requirements.txt").read_text().replace("\\\n", "").splitlines():
        if not line.startswith("#"):
            pin, *hashes = line.split()
            name, _, version = pin.partition("==")
            pins[utils.canonicalize_name(name)] = version
            assert hashes and all(re.fullmatch("--hash=sha256:[0-9a-f]{64}", one) for one in hashes)
    versions, _, _ = (ROOT / "constraints.txt").read_text().partition("# Of the proofs alone")
    assert pins == {
        utils.canonicalize_name(name): version
        for name, version in re.findall(r"^([^#\s]+)==(\S+)$", versions, re.MULTILINE)
    }
    for text in importlib.metadata.requires("alexnet-tf"):
        asked = requirements.Requirement(text)
        if not asked.marker or any(
            asked.marker.evaluate({"extra": extra}) for extra in ("serving", "onnx", "test")
        ):
            assert asked.specifier.contains(pins[utils.canonicalize_name(asked.name)]), asked
    recipe = (
        (ROOT / "Makefile").read_text().partition("$(VENV)/installed: ")[2].partition("\n\n")[0]
    )
    installs = [line for line in recipe.splitlines() if "pip install" in line]
    assert len(installs) == 3
    assert all("--require-hashes" in line or "--no-deps" in line for line in installs)
