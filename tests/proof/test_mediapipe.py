"""MediaPipe's ImageClassifier, which knows nothing of this project, opens the files and answers as
we do.
"""

import pathlib
import subprocess
import sys

import journeys
import numpy as np
import pytest

from alexnet_tf import preprocessing
from alexnet_tf.data import shapes
from alexnet_tf.exports import artifacts, saved_model
from alexnet_tf.manifest import Manifest
from alexnet_tf.network.model import build_model
from alexnet_tf.preprocessing import Preprocessing
from alexnet_tf.settings import Settings
from alexnet_tf.training import checkpoints

ROOT = pathlib.Path(__file__).parent.parent.parent

# The client's part is the crop alone: MediaPipe would scale a whole picture to the square that the
# network reads.
_MEDIAPIPE = """
import mediapipe
from mediapipe.tasks.python import BaseOptions, vision
options = vision.ImageClassifierOptions(base_options=BaseOptions(model_asset_path={path!r}))
with vision.ImageClassifier.create_from_options(options) as classifier:
    for number, pixels in enumerate(arrays["images"]):
        image = mediapipe.Image(
            image_format=mediapipe.ImageFormat.SRGB, data=np.ascontiguousarray(pixels))
        categories = classifier.classify(image).classifications[0].categories
        answer[f"names{{number}}"] = np.array([category.category_name for category in categories])
        answer[f"scores{{number}}"] = np.array([category.score for category in categories])
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("export")
    for split, first in (("train", 0), ("test", 40)):
        for number in range(first, first + 40):
            path = folder / "pictures" / split / shapes.CLASS_NAMES[number % 10] / f"{number}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(shapes.draw_jpeg("train", number))
    pixels = Preprocessing(227, 256, 3, (120.0, 115.0, 105.0), 1.0)
    model = build_model("paper", 10)
    model.get_layer("fc8").bias.assign(np.linspace(0, 3, 10))
    flags = {"dataset": "folder", "data_dir": str(folder / "pictures"), "seed": 0}
    settings = Settings("paper", pixels, tuple(sorted(shapes.CLASS_NAMES)), flags=flags)
    manifest = Manifest(settings, weights_sha256=checkpoints.weights_digest(model))
    saved_model.write(model, manifest, folder / "exports/1")
    return folder


@pytest.mark.parametrize("quantization", ["none", "float16", "dynamic", "int8"])
def test_mediapipe_agrees(folder, witness, quantization):
    path = folder / f"{quantization}.tflite"
    subprocess.run(
        [
            sys.executable,
            ROOT / "tools/convert_tflite.py",
            "--saved_model=exports/1",
            f"--output={path}",
            f"--quantization={quantization}",
        ],
        cwd=folder,
        check=True,
    )
    tflite = artifacts.Tflite(path.read_bytes())
    images = np.stack(
        [
            preprocessing.central_crop(
                preprocessing.decode(shapes.draw_jpeg("test", number)), tflite.pixels
            )
            for number in range(8)
        ]
    )
    answer = witness(
        _MEDIAPIPE.format(path=str(path)), environment=".venv-mediapipe", images=images
    )
    for number, image in enumerate(images):
        ours = dict(zip(tflite.labels, tflite.probabilities(image)))
        names, scores = answer[f"names{number}"], answer[f"scores{number}"]
        assert len(names) == 10
        np.testing.assert_allclose(scores, [ours[name] for name in names], atol=1e-4)
    print(f"MediaPipe on {quantization}: {len(images)} pictures, the same names and scores")


def test_the_block_of_the_page_answers_as_we_do(folder, witness, tmp_path):
    path, picture = folder / "block.tflite", tmp_path / "flower.jpg"
    picture.write_bytes(shapes.draw_jpeg("test", 3))
    subprocess.run(
        [
            sys.executable,
            ROOT / "tools/convert_tflite.py",
            "--saved_model=exports/1",
            f"--output={path}",
        ],
        cwd=folder,
        check=True,
    )
    (block,) = (
        block.text for block in journeys.BLOCKS["docs/edge.md"] if "import mediapipe" in block.text
    )
    block = block.replace("mine.tflite", str(path)).replace("flower.jpg", str(picture))
    block = block.replace("print(", "printed.append(")
    answer = witness(
        f"printed = []\n{block}\nanswer['printed'] = np.array(printed)",
        environment=".venv-mediapipe",
    )
    best = artifacts.Tflite(path).classify(picture.read_bytes())
    for line, (name, probability) in zip(answer["printed"], best, strict=True):
        score, label = str(line).split(maxsplit=1)
        assert label == name and abs(float(score) - probability) < 2e-3  # a level here and there
