"""Each part of the benchmark reads what it is told, and refuses what it does not read."""

import sys
import types

import pytest
from binaries import call

from alexnet_tf.commands import benchmark
from alexnet_tf.data import datasets, shapes
from alexnet_tf.errors import UserError
from alexnet_tf.exports import artifacts


def test_every_flag_is_read_by_a_part():
    read = {name for part in benchmark._PARTS.values() for name in part.READS}
    assert set(benchmark.FLAGS) - read == {"part", "json"} and read <= set(benchmark.FLAGS)


@pytest.mark.parametrize(
    "part,flag,others",
    [
        ("input", "--xla=both", "training"),
        ("input", "--operator_threads=9", "operators"),
        ("serving", "--rounds=3", "inference, input, operators, training"),
        ("training", "--tflite=nothing.tflite", "inference, operators"),
        ("operators", "--data_dir=here", "input, training"),
    ],
)
def test_a_flag_that_a_part_does_not_read_is_refused(part, flag, others):
    refused = f"^{flag}: --part={part} does not use it; omit it, or time {others}.$"
    with pytest.raises(UserError, match=refused):
        call(benchmark, f"--part={part}", flag)


def test_what_does_not_answer_with_classes_is_not_served_to_be_timed(tmp_path, monkeypatch):
    (tmp_path / "1").mkdir()
    (tmp_path / "1/saved_model.pb").touch()
    timed = "--part=serving", f"--served_model={tmp_path}"
    with pytest.raises(UserError, match="/1 is not a version that alexnet export wrote"):
        call(benchmark, *timed)
    part = types.SimpleNamespace(labels=())
    monkeypatch.setattr(artifacts, "read_manifest", lambda version: part)
    with pytest.raises(UserError, match="/1 gives features of a part of a network, and no classes"):
        call(benchmark, *timed)


def test_pytorch_times_the_network_that_it_is_compared_with():
    refused = f"^--torch_python={sys.executable} knows the variant paper alone, not --variant=half;"
    with pytest.raises(UserError, match=refused):
        call(benchmark, "--variant=half", f"--torch_python={sys.executable}", "--data_dir=gone")


@pytest.mark.parametrize("part", ["input", "training"])
def test_splits_are_those_that_are_named(part, monkeypatch):
    def opened(name, data_dir, names):
        raise UserError(f"{name} {data_dir} {names.train}")

    monkeypatch.setattr(datasets, "open_dataset", opened)
    with pytest.raises(UserError, match=r"^folder here \.$"):
        call(benchmark, f"--part={part}", "--dataset=folder", "--data_dir=here", "--train_split=.")


def test_a_damaged_picture_of_the_input_is_named(tmp_path):
    for number, where in enumerate(("train/a", "train/b", "test/a", "test/b")):
        folder = tmp_path / where
        folder.mkdir(parents=True)
        picture = shapes.draw_jpeg("train", number)
        damaged = picture[:300] + picture[-12:]  # which is found when it is decoded
        (folder / f"{number}.jpg").write_bytes(damaged if number == 1 else picture)
    with pytest.raises(UserError, match=r"train/b/1\.jpg \(.*\) cannot be read; replace it or"):
        call(benchmark, "--part=input", "--dataset=folder", f"--data_dir={tmp_path}")
