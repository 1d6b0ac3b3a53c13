"""The notebooks of examples/ from a clean environment: the package as pip installs it, and Jupyter.

Prints what it found, in how many seconds; `FLOWERS=folder make proof PART=notebook` runs it on a
folder of pictures besides.
"""

import json
import os
import pathlib
import re
import shutil
import subprocess
import time

import pytest

from alexnet_tf import networks
from alexnet_tf.data import shapes

ROOT = pathlib.Path(__file__).parent.parent.parent
FINE_TUNE, LESSON = "fine_tune_your_pictures.ipynb", "lesson.ipynb"


def executed(folder, notebook, **environment):
    """(the text that the cells printed, the pictures that they show, seconds)."""
    shutil.copy(ROOT / "examples" / notebook, folder)
    begin = time.monotonic()
    done = subprocess.run(
        [
            ROOT / ".venv-notebook/bin/jupyter",
            "nbconvert",
            "--to=notebook",
            "--execute",
            "--output=run.ipynb",
            notebook,
        ],
        cwd=folder,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        | environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    seconds = time.monotonic() - begin
    cells = json.loads((folder / "run.ipynb").read_text())["cells"]
    outputs = [output for cell in cells for output in cell.get("outputs", ())]
    text = "".join("".join(output.get("text", "")) for output in outputs)
    return text, [output for output in outputs if "image/jpeg" in output.get("data", {})], seconds


FOLDERS = ["pictures", *filter(None, [os.environ.get("FLOWERS")])]  # the first is drawn


@pytest.mark.parametrize("pictures", FOLDERS)
def test_from_a_folder_of_pictures_to_a_file_for_devices(tmp_path, pictures):
    text, shown, seconds = executed(tmp_path, FINE_TUNE, PICTURES=str(pictures))
    right = float(re.search(r"([\d.]+)% of (\d+) pictures are right", text)[1])
    assert right > 80 and len(shown) == 3  # answers, confusions, neighbours
    assert "none of these: pages" in text
    answers = re.findall(r"^\[\('(.+?)', ([\d.]+)\)", text, re.M)[-2:]
    assert answers[0][0] == answers[1][0]  # the network, and its file for devices
    assert float(answers[0][1]) == pytest.approx(float(answers[1][1]), abs=2e-3)
    on_device = networks.load(tmp_path / "tuned.tflite")
    assert on_device.settings.min_probability == 0.9
    if pictures == FOLDERS[0]:
        assert on_device.class_names == shapes.TEXTURES
    print(f"notebook on {pictures}: {right:.1f} % right, {seconds:.0f} s")


def test_a_lesson(tmp_path):
    text, shown, seconds = executed(tmp_path, LESSON)
    # both networks, the towers, curves, filters, all layers, Grad-CAM
    assert len(shown) == 6
    assert "60,965,224" in text and "61,706" in text and "conv2a: 128 kernels of 5 x 5 x 48" in text
    assert "(224 - 11) / 4 + 1 = 54.25" in text and "(227 - 11) / 4 + 1 = 55.0" in text
    assert float(re.search(r"largest difference: (\S+)", text)[1]) < 1e-4
    tanh, wide_tanh, relu, wide_relu = map(
        float, re.search(r"tanh (\S+), .* (\S+)\nReLU (\S+), .* (\S+): its", text).groups()
    )
    assert wide_tanh < 1e-2 * tanh and wide_relu == pytest.approx(relu, abs=2e-3)
    right = float(re.search(r"top_1 +([\d.]+)", text)[1])
    assert right > 0.8
    print(f"lesson: {right:.1%} right, {seconds:.0f} s")
