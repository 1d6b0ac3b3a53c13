"""`make run` on commands that answer at once: its other task, and what its last table says."""

import importlib.util

import pytest
from conftest import tool

from alexnet_tf.data import datasets, shapes


@pytest.fixture
def quickstart(tmp_path, monkeypatch):
    spec = importlib.util.spec_from_file_location("quickstart", tool("quickstart.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(module, "_OF_A_TEXTURE", {"train": 3, "test": 2})
    monkeypatch.setattr(module, "_precision", lambda: "float32")
    return module


def test_the_last_table_says_what_the_other_task_cost_and_how_right_it_is(
    quickstart, monkeypatch, capsys
):
    ran = []

    def run(command, *arguments):
        ran.append((command, *arguments))
        pictures = [one for one in arguments if one.endswith(".jpg")]
        # by hand, for paper and ten classes: a forward pass, its weights' gradients, and those of
        # its inputs, but of conv1; 3 epochs of 4400 pictures
        forward = 724_406_816 - 4096 * 990
        work = 3 * 4400 * (3 * forward - 2 * 55 * 55 * 48 * 363)
        return {
            "train": {"train_images_per_s": 50.0},
            "evaluate": {"top_1": 0.987, "examples": 1000, "images_per_s": 90.0},
            "finetune": {
                "top_1": 0.9,
                "examples": 10,
                "seconds": 7.4,
                "multiply_adds": work / 400,
            },
        }.get(command, {one: [["plain disc", 0.9]] for one in pictures})

    monkeypatch.setattr(quickstart, "_run", run)
    quickstart.main()
    lines = capsys.readouterr().out.splitlines()
    (right,) = [line for line in lines if "five textures" in line]
    assert "90.0 % of 10 pictures, on shapes it has not seen" in right
    (cost,) = [line for line in lines if "their cost" in line]
    assert cost.split("cost")[1].strip() == (
        "7 s, against 264 s for the training; 0.25% of its multiply-adds"
    )
    assert [command for command, *_ in ran][-1] == "finetune"
    assert (
        "--pretrained=models/shapes" in ran[-1] and f"--data_dir={quickstart._TEXTURES}" in ran[-1]
    )

    dataset = datasets.open_dataset("folder", quickstart._TEXTURES)
    assert dataset.class_names == shapes.TEXTURES
    assert (dataset.train.examples, dataset.test.examples) == (15, 10)
