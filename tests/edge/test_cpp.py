"""The program in C++ answers as the one in Python does. It counts as not run where there is no
compiler.
"""

import io
import pathlib
import shutil
import subprocess

import ai_edge_litert
import numpy as np
import pytest
from PIL import Image
from tflite_files import colour_content

from alexnet_tf.edge import tflite
from alexnet_tf.preprocessing import Preprocessing

ROOT = pathlib.Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(not shutil.which("g++"), reason="not run: there is no g++")


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """Built as the head of the source says."""
    (folder,) = ai_edge_litert.__path__
    path = tmp_path_factory.mktemp("cpp") / "classify"
    library = [f"{folder}/libLiteRt.so", f"-Wl,-rpath,{folder}"]
    flags = ["-std=c++17", "-O2", "-Wall", "-Wextra", "-Werror"]
    subprocess.run(
        ["g++", *flags, ROOT / "examples/cpp/classify.cc", "-o", path, *library], check=True
    )
    return path


def as_ppm(image, folder):
    """P6, of a grey image P5."""
    image.save(folder / "picture.ppm")
    return (folder / "picture.ppm").read_bytes()


def check_answers(program, path, picture, image):
    """The program says of `picture` what Python says of `image`."""
    stream = io.BytesIO()
    image.save(stream, "PNG")
    expected = tflite.Tflite(path).classify(stream.getvalue())
    done = subprocess.run([program, path], input=picture, capture_output=True, check=True)
    answers = [line.split(maxsplit=1) for line in done.stdout.decode().splitlines()]
    assert [name for _, name in answers] == [name for name, _ in expected]
    for (probability, _), (_, ours) in zip(answers, expected, strict=True):
        assert float(probability) == pytest.approx(ours, abs=1e-2)  # a level is 1/64 nats


@pytest.mark.parametrize("quantized", [False, True])
@pytest.mark.parametrize("size", [(90, 120), (500, 375), (67, 30), (77, 77)])
def test_answers_are_those_of_python(program, tmp_path, rng, size, quantized):
    levels = rng.integers(0, 256, (*size[::-1], 3), np.uint8)
    levels[: size[1] // 2] //= 3
    levels[:, : size[0] // 2, 1] = 255
    image = Image.fromarray(levels)
    path = tmp_path / "net.tflite"
    path.write_bytes(colour_content(quantized=quantized))
    check_answers(program, path, as_ppm(image, tmp_path), image)


@pytest.mark.parametrize("network", ["of colour", "grey"])
@pytest.mark.parametrize("mode,magic", [("RGB", b"P6"), ("L", b"P5")])
def test_grey(program, tmp_path, rng, network, mode, magic):
    pixels = Preprocessing(28, 32, 1, (0.0,), 1.0)
    path = tmp_path / "net.tflite"
    path.write_bytes(
        colour_content(("dark", "light"), pixels) if network == "grey" else colour_content()
    )
    image = Image.fromarray(rng.integers(0, 256, (40, 50, 3), np.uint8)).convert(mode)
    picture = as_ppm(image, tmp_path)
    assert picture.startswith(magic)
    check_answers(program, path, picture, image)


def test_a_header_may_hold_comments(program, tmp_path):
    path = tmp_path / "net.tflite"
    path.write_bytes(colour_content())
    image = Image.new("RGB", (50, 40), (0, 200, 90))
    head, picture = b"P6\n50 40\n255\n", as_ppm(image, tmp_path)
    assert picture.startswith(head)
    for said in (b"P6\n# by GIMP\n50 40\n255\n", b"P6 50\n#1\n# 2\n40 # 3\n255\n"):
        check_answers(program, path, said + picture[len(head) :], image)


@pytest.mark.parametrize(
    "least,answered", [(None, False), (0.0, False), (0.2, False), (0.999, True)]
)
def test_none_of_these(program, tmp_path, least, answered):
    path = tmp_path / "net.tflite"
    flags = {"min_probability": 0.9999, "resize": 9}  # what a fine-tuning may say of itself
    content = colour_content(flags=flags, min_probability=least or 0.0)
    path.write_bytes(content)
    image = Image.new("RGB", (90, 120), (200, 40, 30))
    image.save(tmp_path / "picture.png")
    expected = tflite.Tflite(path).classify((tmp_path / "picture.png").read_bytes())
    if least is None:  # as in files of before, which had no such entry
        path.write_bytes(content.replace(b'"min_probability": 0.0', b'"min_probabilit_": 0.0'))
        assert path.read_bytes() != content
    done = subprocess.run(
        [program, path], input=as_ppm(image, tmp_path), capture_output=True, check=True
    )
    assert done.stdout.decode().splitlines() == [f"{value:.4f}  {name}" for name, value in expected]
    assert (expected[0][0] == "none of these") == answered


def test_mistakes(program, tmp_path):
    path = tmp_path / "net.tflite"
    path.write_bytes(colour_content())
    picture = as_ppm(Image.new("RGB", (90, 120)), tmp_path)
    for file, given, message in (
        (path, b"P3 1 1 255 0 0 0", "standard input is not an 8-bit PPM or PGM"),
        (path, b"P5 1 1 65535 \0\0", "standard input is not an 8-bit PPM or PGM"),
        (path, b"P6 # and no more", "standard input is not an 8-bit PPM or PGM"),
        (path, b"", "standard input is not an 8-bit PPM or PGM"),
        (path, picture[:-1], "the picture ends early"),
        (tmp_path / "gone", picture, "it cannot be read"),
        (tmp_path / "picture.ppm", picture, "alexnet convert did not write it"),
    ):
        done = subprocess.run([program, file], input=given, capture_output=True)
        assert done.returncode == 2 and done.stdout == b""
        assert message in done.stderr.decode().splitlines()[-1]
