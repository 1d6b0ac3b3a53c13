"""Cells of the notebooks, without Jupyter: which pictures they draw, and which they judge by.

tests/proof/test_notebook.py runs them whole.
"""

import json
import pathlib
import sys
import types

import numpy as np
import pytest
import tensorflow as tf
from conftest import write_lenet5

from alexnet_tf import networks
from alexnet_tf.data import shapes
from alexnet_tf.errors import UserError

EXAMPLES = pathlib.Path(__file__).parent.parent / "examples"


@pytest.fixture
def run_cells(monkeypatch, tmp_path):
    """Runs cells of a notebook in `tmp_path`, up to where the text `until` stands in one."""
    display = types.ModuleType("IPython.display")
    display.Image = bytes
    monkeypatch.setitem(sys.modules, "IPython", types.ModuleType("IPython"))
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")
    monkeypatch.chdir(tmp_path)

    def run_cells(notebook, cells, until=None):
        names = {}
        for cell in json.loads((EXAMPLES / notebook).read_text())["cells"]:
            if cell["id"] in cells:
                exec("".join(cell["source"]).partition(until or "\0")[0], names)
        return names

    return run_cells


def write(folder, numbers):
    folder.mkdir(parents=True)
    for number in numbers:
        (folder / f"{number} 3.14.05\u202fPM.jpg").write_bytes(shapes.draw_jpeg("test", number))


def test_pictures_are_drawn_whole_and_only_where_none_are_named(run_cells, tmp_path, monkeypatch):
    fine_tune = "fine_tune_your_pictures.ipynb"
    for name in ("train/daisy", "train/iris", "test/daisy", "test/iris"):
        write(tmp_path / "home/flowers" / name, [len(name)])
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PICTURES", "~/flowers")
    assert run_cells(fine_tune, ["cell-2"])["dataset"].class_names == ("daisy", "iris")
    monkeypatch.setenv("PICTURES", str(tmp_path / "pisc"))
    with pytest.raises(UserError, match="pisc"):
        run_cells(fine_tune, ["cell-2"])
    monkeypatch.delenv("PICTURES")
    draw, drawn = shapes.draw_texture_jpeg, []

    def interrupted(split, number):
        drawn.append(number)
        if len(drawn) == 7:
            raise KeyboardInterrupt
        return draw(split, number)

    monkeypatch.setattr(shapes, "draw_texture_jpeg", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_cells(fine_tune, ["cell-2"])
    assert [path.name for path in tmp_path.iterdir()] == ["home"]
    dataset = run_cells(fine_tune, ["cell-2"])["dataset"]
    assert (dataset.train.examples, dataset.reported().examples) == (100, 50)


def test_the_pictures_of_the_lesson_are_drawn_whole(run_cells, tmp_path, monkeypatch):
    def interrupted(split, number):
        if number > 20:
            raise KeyboardInterrupt
        return b"a picture"

    monkeypatch.setattr(shapes, "draw_jpeg", interrupted)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            run_cells("lesson.ipynb", ["cell-1", "cell-15"], until="recipe =")
        assert not list(tmp_path.iterdir())
    monkeypatch.setattr(shapes, "draw_jpeg", lambda split, number: b"a picture")
    run_cells("lesson.ipynb", ["cell-1", "cell-15"], until="recipe =")
    assert [path.name for path in tmp_path.iterdir()] == ["drawn"]
    assert len(list(tmp_path.glob("drawn/test/*/*.jpg"))) == 40 * len(shapes.CLASS_NAMES)


@pytest.mark.long
def test_figures_are_of_the_pictures_and_classes_that_evaluate_judges(
    run_cells, tmp_path, monkeypatch, capsys
):
    for name in ("train/daisy", "train/iris", "val/daisy", "val/iris"):
        write(tmp_path / "own" / name, [len(name)])
    write(tmp_path / "own/test/daisy/roll1", [1, 2, 3])
    write(tmp_path / "own/test/Iris", [4, 5])
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    content = bytearray(tf.io.encode_png(pixels).numpy())
    content[len(content) // 2] ^= 255  # which only decoding tells, and nobody is asked about it
    (tmp_path / "own/test/daisy/roll1/0.png").write_bytes(content)
    write_lenet5(tmp_path / "models/tuned", ["daisy", "iris"])
    monkeypatch.setenv("PICTURES", "own")
    cells = ["cell-2", "cell-6", "cell-7", "cell-9", "cell-11"]
    monkeypatch.setattr("subprocess.run", lambda *_, **__: types.SimpleNamespace(returncode=0))
    names = run_cells("fine_tune_your_pictures.ipynb", cells, until="\ndraw(")
    said = capsys.readouterr().out
    network = networks.load(tmp_path / "models/tuned")
    judged = sorted(tmp_path.glob("own/test/**/*.jpg"), key=lambda path: "Iris" in str(path))
    best = [network.classify(path)[0][0] for path in judged]
    right = np.mean([one == name for one, name in zip(best, ["daisy"] * 3 + ["iris"] * 2)])
    assert f"{right:.1%} of 5 pictures are right" in said
    (line,) = [line for line in said.splitlines() if line.split()[:1] == ["0.00"]]
    assert line.split() == ["0.00", "0%", "0%", f"{right:.1%}"]
    shown = pathlib.Path(names["judging"].name)
    assert sorted(str(path.parent.relative_to(shown)) for path in shown.rglob("*.jpg")) == [
        *["daisy"] * 3,
        *["iris"] * 2,
    ]
    names["judging"].cleanup()
