"""Two networks side by side: of other variants, or of one with another projection."""

import io
import json
import os
import subprocess

import numpy as np
import pytest
from binaries import call
from conftest import little_room, tool
from PIL import Image

from alexnet_tf.commands import describe
from alexnet_tf.errors import UserError
from alexnet_tf.figures import blocks
from alexnet_tf.network.model import build_model


def test_one_network_and_the_same_with_its_projection_replaced(run, tmp_path):
    printed = run(
        tool("describe.py"),
        "--variant=half,half",
        "--num_classes=1000,10",
        "--image_size=67",
        "--json=layers.json",
        "--picture=replaced.png",
        cwd=tmp_path,
    )
    layers = json.loads((tmp_path / "layers.json").read_text())
    assert list(layers) == ["half, 1000 classes", "half, 10 classes"]
    above, below = layers.values()
    assert above[:-1] == below[:-1]
    assert [of[-1]["parameters"] for of in (above, below)] == [2049 * 1000, 2049 * 10]
    assert "half, 1000 classes:" in printed and "half, 10 classes:" in printed
    with Image.open(tmp_path / "replaced.png") as picture:
        assert picture.width == 2 * 1020


def test_what_was_replaced_has_a_colour_of_its_own():
    def replaced(*models):
        picture = np.asarray(blocks.draw_comparison(*models))
        return np.argwhere((picture == (0xFC, 0xA5, 0xA5)).all(-1))

    above, below, other = (
        build_model(variant, classes)
        for variant, classes in (("lenet5", 10), ("lenet5", 4), ("half", 10))
    )
    rows, columns = replaced(above, below).T
    # the last box of the second column: its middle half, in units of two pixels
    last = 66 + 46 * (len([s for s in blocks.stages(below) if s.kind != "norm"]) - 1)
    assert 2 * last < rows.min() and rows.max() < 2 * (last + 36) and columns.min() > 2 * 500
    assert not len(replaced(above, other))


def test_a_picture_that_cannot_be_written_leaves_the_one_before(tmp_path, capsys):
    path = tmp_path / "net.png"
    path.write_text("the one before")
    with (
        little_room(1000),
        pytest.raises(UserError, match="--picture=.*net.png cannot be written .File too larg"),
    ):
        call(describe, "--variant=lenet5", f"--picture={path}")
    assert path.read_text() == "the one before" and len(list(tmp_path.iterdir())) == 1
    capsys.readouterr()
    with pytest.raises(UserError, match="--picture=.*none/net.png cannot be written; name a file"):
        call(describe, "--variant=lenet5", f"--picture={tmp_path}/none/net.png")
    assert capsys.readouterr().out == ""  # before anything is drawn
    os.mkfifo(tmp_path / "pipe.png")
    with subprocess.Popen(["cat", tmp_path / "pipe.png"], stdout=subprocess.PIPE) as reader:
        call(describe, "--variant=lenet5", f"--picture={tmp_path}/pipe.png")
        assert Image.open(io.BytesIO(reader.stdout.read())).format == "PNG"


@pytest.mark.parametrize(
    "arguments,message",
    [
        (["--variant=half,half"], "--variant=half,half names the same network twice; name one"),
        (["--variant=half,half", "--num_classes=10"], "the same network twice"),
        (["--variant=half", "--num_classes=10,20"], "2 numbers for 1 network; pass one"),
        (["--variant=half,paper", "--num_classes=1,2,3"], "'1' is not a number of classes"),
        (["--variant=half,paper", "--num_classes=3,2,3"], "3 numbers for 2 networks"),
        (
            ["--num_classes=ten"],
            "--num_classes=ten: 'ten' is not a number of classes; pass 2 or more",
        ),
    ],
)
def test_what_cannot_be_drawn_is_refused(run, tmp_path, arguments, message):
    assert message in run(
        tool("describe.py"), *arguments, "--picture=a.png", cwd=tmp_path, status=2
    )
    assert not list(tmp_path.iterdir())
