"""alexnet-tf-edge in an environment of its own, installed from the package index: what it brings,
how soon it answers, and what it adds to LiteRT alone. `make proof PART=edge`.
"""

import json
import os
import pathlib
import statistics
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from alexnet_tf.exports import artifacts, saved_model, tflite, tflite_metadata
from alexnet_tf.manifest import Conversion, Manifest
from alexnet_tf.network.model import build_model
from alexnet_tf.preprocessing import Preprocessing
from alexnet_tf.settings import Settings

ROOT = pathlib.Path(__file__).parent.parent.parent
_ROUNDS = 200
# of the interpreter that the converter calibrates with
pytestmark = pytest.mark.filterwarnings("ignore:.*Interpreter is deprecated:UserWarning")

# One picture in turn: by LiteRT alone, on pixels that are decoded already, and by us. By one
# interpreter: two of them differ by a tenth, by where their weights came to lie in memory.
_IN_TURN = """
import sys, time, json
import numpy as np
from alexnet_tf.edge.tflite import Tflite
path, picture, rounds = sys.argv[1], open(sys.argv[2], "rb").read(), int(sys.argv[3])
ours = Tflite(path, threads=1)
bare = ours.interpreter.get_signature_runner("image")
image = ours.prepare(picture)
pixels = image[None].astype(bare.get_input_details()["images"]["dtype"])
seconds = {"bare": [], "ours": [], "ours, with the picture": []}
for _ in range(rounds):
    begin = time.perf_counter()
    bare(images=pixels)
    seconds["bare"].append(time.perf_counter() - begin)
    begin = time.perf_counter()
    ours.probabilities(image)
    seconds["ours"].append(time.perf_counter() - begin)
    begin = time.perf_counter()
    ours.classify(picture)
    seconds["ours, with the picture"].append(time.perf_counter() - begin)
json.dump(seconds, sys.stdout)
"""


@pytest.fixture(scope="module")
def device(tmp_path_factory):
    """The programs of an environment with alexnet-tf-edge alone."""
    folder = tmp_path_factory.mktemp("device")
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    pip = folder / "bin/python", "-m", "pip", "install", "--quiet"
    subprocess.run([*pip, "--constraint", ROOT / "constraints.txt", ROOT / "edge"], check=True)
    return folder / "bin"


@pytest.fixture(scope="module")
def int8(tmp_path_factory):
    """A full-size network in int8, and a photograph's size of noise as JPEG."""
    folder = tmp_path_factory.mktemp("net")
    pixels = Preprocessing(227, 256, 3, (122.0, 116.0, 104.0), 1.0)
    labels = [f"class {number}" for number in range(1000)]
    (folder / "labels.txt").write_text("".join(f"{label}\n" for label in labels))
    module = saved_model._Classifier(build_model("paper"), pixels, str(folder / "labels.txt"), 0.0)
    tf.saved_model.save(module, str(folder / "1"), module.signatures())
    noise = np.random.default_rng(0).integers(0, 256, (8, 227, 227, 3), np.uint8)
    content = tflite.convert(str(folder / "1"), "int8", noise)
    manifest = Manifest(Settings("paper", pixels, labels), conversion=Conversion("int8"))
    path = folder / "int8.tflite"
    path.write_bytes(tflite_metadata.complete(content, manifest))
    image = Image.fromarray(noise[0]).resize((500, 375), Image.Resampling.BICUBIC)
    image.save(folder / "picture.jpg", quality=90)
    return path, folder / "picture.jpg"


def test_nothing_of_tensorflow_is_there(device):
    listed = subprocess.run(
        [device / "python", "-m", "pip", "list", "--format=json"], capture_output=True, check=True
    ).stdout
    names = {package["name"].lower() for package in json.loads(listed)}
    assert "alexnet-tf-edge" in names
    assert not {"tensorflow", "keras", "tensorflow-datasets", "alexnet-tf"} & names
    print(f"\nalexnet-tf-edge brings {', '.join(sorted(names - {'pip', 'setuptools'}))}")


def test_the_first_answer_comes_soon(device, int8):
    path, picture = int8
    walls, processors = [], []
    for _ in range(11):
        begin = os.times().elapsed
        with subprocess.Popen(
            [device / "alexnet", "classify", f"--model={path}", picture],
            stdout=subprocess.PIPE,
        ) as process:
            assert process.stdout.read().startswith(os.fsencode(picture))
            walls.append(os.times().elapsed - begin)
            _, status, used = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0
        processors.append(used.ru_utime + used.ru_stime)
    wall, processor = map(statistics.median, (walls, processors))
    repeated = [device / "alexnet", "classify", f"--model={path}", "--json_lines", "--repeat=1"]
    told = subprocess.run([*repeated, picture], capture_output=True, check=True).stdout
    memory = json.loads(told.splitlines()[-1])["times"]["most memory, MB"]
    load = os.getloadavg()[0]
    print(f"\nfrom start to the first answer, int8: {wall:.2f} s, {processor:.2f} s of processors,")
    print(f"{memory} MB at most; medians of 11, the load of the machine {load:.1f}")
    assert processor < 0.7


def test_a_warm_picture_takes_what_litert_takes(device, int8):
    path, picture = int8
    done = subprocess.run(
        [device / "python", "-c", _IN_TURN, path, picture, str(_ROUNDS)],
        capture_output=True,
        check=True,
    )
    seconds = {name: np.array(values) for name, values in json.loads(done.stdout).items()}
    print(f"\n{_ROUNDS} rounds in turn, 1 thread, median and 99th percentile in ms:")
    for name, values in seconds.items():
        print(f"  {name:22} {1e3 * np.median(values):6.2f} {1e3 * np.quantile(values, 0.99):6.2f}")
    ratio = np.median(seconds["ours"] / seconds["bare"])
    print(f"  ours / bare, median of the rounds: {ratio:.3f}")
    assert ratio < 1.05


def test_both_installations_answer_alike(device, int8):
    path, picture = int8
    done = subprocess.run(
        [device / "alexnet", "classify", f"--model={path}", "--json_lines", picture],
        capture_output=True,
        check=True,
    )
    here = artifacts.Tflite(path).classify(picture.read_bytes())
    assert json.loads(done.stdout)["classes"] == [list(pair) for pair in here]
