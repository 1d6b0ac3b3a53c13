"""The pages once more, at full size and without what make test leaves out or makes smaller: `make
run` first, then every block.

It runs in a copy of the checkout, with this environment. Prints what `make run` ended with.
"""

import pathlib
import shutil
import subprocess
import sys

import journeys
import numpy as np
import pytest
import weights_files
from networks_of_others import CAFFE_SHAPES

from alexnet_tf.data import shapes

ROOT = pathlib.Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def world(run, tmp_path_factory):
    """A checkout with pictures and a file of weights in it, whose reader has followed README.md,
    `make run` included.
    """
    world = tmp_path_factory.mktemp("proof") / "checkout"
    shutil.copytree(
        ROOT,
        world,
        ignore=shutil.ignore_patterns(
            ".git", ".venv*", "models", "[0-9]*", "node_modules", "__pycache__", "*.egg-info"
        ),
    )
    (world / ".venv").symlink_to(pathlib.Path(sys.prefix))
    # newer than the copies of what it is made from
    subprocess.run(["touch", world / ".venv/installed"], check=True)
    for split, first in (("train", 1), ("test", 2)):
        journeys.draw(
            world / "pictures" / split, {"daisy": 0, "iris": 6}, range(first, first + 80, 2)
        )
    (world / "flower.jpg").write_bytes(shapes.draw_jpeg("test", 0))
    rng = np.random.default_rng(2012)
    weights = {
        name: [
            rng.normal(0, 1.4 / np.prod(shape[1:]) ** 0.5, shape).astype(np.float32),
            rng.normal(0, 0.2, shape[0]).astype(np.float32),
        ]
        for name, shape in CAFFE_SHAPES.items()
    }
    (world / "bvlc_alexnet.caffemodel").write_bytes(
        weights_files.caffemodel(weights_files.caffe_layers(), weights)
    )
    with journeys.Journey(world, run.programs.folder, proof=True) as journey:
        for block in journeys.BLOCKS["README.md"]:
            journey.run(block)
    return world


@pytest.mark.parametrize(
    "page",
    [
        "README.md",
        *(
            page
            for page, blocks in journeys.BLOCKS.items()
            if page != "README.md"
            and any(block.language != "text" and not block.not_run for block in blocks)
        ),
    ],
)
def test_page(run, world, page):
    with journeys.Journey(world, run.programs.folder, proof=True) as journey:
        for block in journeys.BLOCKS[page] if page != "README.md" else ():
            journey.run(block)
    assert (
        list(world.glob("models/tuned/checkpoints/*/weights.npz"))
        and (world / "mine.tflite").exists()
    )
