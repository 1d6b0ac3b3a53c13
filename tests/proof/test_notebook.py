"""examples/fine_tune_your_pictures.ipynb from a clean environment: the package as pip installs it,
and Jupyter.

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
NOTEBOOK = "fine_tune_your_pictures.ipynb"


def executed(folder, pictures):
    """(the text that the cells printed, the pictures that they show, seconds)."""
    shutil.copy(ROOT / "examples" / NOTEBOOK, folder)
    begin = time.monotonic()
    done = subprocess.run(
        [
            ROOT / ".venv-notebook/bin/jupyter",
            "nbconvert",
            "--to=notebook",
            "--execute",
            "--output=run.ipynb",
            NOTEBOOK,
        ],
        cwd=folder,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        | {"PICTURES": str(pictures)},
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
    text, shown, seconds = executed(tmp_path, pictures)
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
