"""Every experiment from its command to its picture, in a tiny form, and one that is stopped.

.venv/bin/python -m pytest -s tests/proof/test_reproduce.py
"""

import json
import os
import signal
import subprocess
import sys

import pytest
from conftest import ROOT
from PIL import Image

from alexnet_tf.data import shapes
from alexnet_tf.experiments.reproduce import EXPERIMENTS

# seeds, and how many results they leave; three nets together take three seeds
_RUNS = {
    "relu": (2, 5 * 2 + 2),  # a search, and the other seed of the best rates
    "normalisation": (1, 4),
    "specialisation": (1, 2),
    "start": (1, 3),
    "ablations": (3, 6 * 3 + 1),
    "precision": (2, 4),
    "large_batch": (1, 5),
}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """16 and 4 pictures of each of ten classes."""
    folder = tmp_path_factory.mktemp("pictures")
    for split, count in (("train", 16), ("test", 4)):
        for index in range(10 * count):
            path = folder / split / shapes.CLASS_NAMES[index % 10] / f"{index}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(shapes.draw_jpeg(split, index))
    return folder


def command(name, pictures, output):
    return [
        *(sys.executable, "-m", "alexnet_tf", "reproduce", name),
        *("--dataset=folder", f"--data_dir={pictures}", f"--output={output}"),
        *(f"--seeds={_RUNS[name][0]}", "--length=1e-6", f"--json={output}.json"),
    ]


def start(*arguments):
    return subprocess.Popen(
        *arguments,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_from_its_command_to_its_picture(name, pictures, tmp_path):
    running = start(command(name, pictures, tmp_path / "out"))
    printed, errors = running.communicate()
    assert running.returncode == 0, errors[-3000:]
    print(f"\n{printed}")
    results = sorted((tmp_path / f"out/{name}").glob("*.json"))
    assert len(results) == _RUNS[name][1]
    assert all(json.loads(path.read_text())["measured"] for path in results)
    assert not [path for path in (tmp_path / f"out/{name}").iterdir() if path.is_dir()]
    with Image.open(tmp_path / f"out/{name}.png") as picture:
        assert picture.width > 400
    told = json.loads((tmp_path / "out.json").read_text())
    assert told["seeds"] == str(_RUNS[name][0]) and len(told["results"]) == len(results)


def test_an_experiment_that_is_stopped_goes_on(pictures, tmp_path):
    results = tmp_path / "out/precision"
    running = start(command("precision", pictures, tmp_path / "out"))
    begun = (line for line in running.stderr if line.startswith("precision: "))
    assert next(begun) != next(begun)  # the second run
    running.send_signal(signal.SIGTERM)
    _, errors = running.communicate()
    # A shell sees 143 for either: before the first step of a training the signal ends it itself.
    assert running.returncode in (143, -signal.SIGTERM), errors[-3000:]
    made = {path: path.read_bytes() for path in results.glob("*.json")}
    assert 1 <= len(made) < _RUNS["precision"][1]
    running = start(command("precision", pictures, tmp_path / "out"))
    _, errors = running.communicate()
    assert running.returncode == 0, errors[-3000:]
    assert len(list(results.glob("*.json"))) == _RUNS["precision"][1]
    assert all(path.read_bytes() == content for path, content in made.items())
