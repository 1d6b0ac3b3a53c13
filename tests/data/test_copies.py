"""One picture in several classes or splits is told."""

import json
import os
import shutil

import pytest
from binaries import call
from conftest import CLASS_NAMES
from flower_folders import BOTH, fill, flowers, opened

from alexnet_tf.commands import prepare
from alexnet_tf.data import datasets, record


def test_one_picture_in_several_classes_or_splits_is_told(tmp_path):
    fill(tmp_path, **flowers("train", "val", "test"))
    first, second = tmp_path / "train/daisy/0.jpg", tmp_path / "train/iris/copy.png"
    shutil.copy(first, second)
    os.link(tmp_path / "train/daisy/1.jpg", tmp_path / "val/daisy/other name.jpg")
    (tmp_path / "test/iris/link.jpg").symlink_to(tmp_path / "val/iris/2.jpg")
    notes = opened(tmp_path)[-1]
    assert notes == [
        "2 pictures of train are in more than one class, first ROOT/train/daisy/0.jpg and "
        "ROOT/train/iris/copy.png: keep each in only one.",
        "1 of the 7 pictures of val are also in train, first ROOT/val/daisy/other name.jpg: "
        "correct answers on those say little.",
        "1 of the 7 pictures of test are also in val, first ROOT/test/iris/link.jpg: correct "
        "answers on those say little.",
    ]
    shutil.copy(tmp_path / "test/daisy/0.jpg", tmp_path / "test/iris/same.jpg")
    dataset = datasets.open_evaluation("folder", tmp_path, BOTH)
    assert dataset.notes[0].startswith("2 pictures of test are in more than one class")


def test_copies_in_splits_whose_folders_have_one_name_are_listed(tmp_path, capsys):
    fill(tmp_path / "pictures", **flowers("a/images", "b/images"))
    shutil.copy(
        tmp_path / "pictures/a/images/iris/0.jpg", tmp_path / "pictures/b/images/iris/9.jpg"
    )
    given = ("--dataset=folder", f"--data_dir={tmp_path}/pictures", f"--json={tmp_path}/c.json")
    with pytest.raises(SystemExit):
        call(prepare, *given, "--train_split=a/images", "--test_split=b/images", "--check")
    assert len(json.loads((tmp_path / "c.json").read_text())["identical"]) == 1
    capsys.readouterr()


def test_pictures_that_are_in_two_splits_are_told(picture_folder):
    name = f"test/{CLASS_NAMES[0]}/again.jpg"
    shutil.copy(picture_folder / "train" / CLASS_NAMES[0] / "1.jpg", picture_folder / name)
    dataset = datasets.open_dataset("folder", picture_folder)
    assert dataset.notes == (
        (
            f"1 of the 10 pictures of test are also in train, first {picture_folder / name}:"
            " correct answers on those say little."
        ),
    )
    # They are no reason to refuse to go on.
    assert record.check_goes_on("model", record.of(dataset), dataset) is None
