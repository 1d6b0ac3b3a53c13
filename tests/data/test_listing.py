"""Pictures at paths are those that a training finds there, of the classes around them."""

import shutil

import pytest
from conftest import CLASS_NAMES
from flower_folders import BOTH, fill

from alexnet_tf.data import datasets, listing


def test_pictures_are_listed_as_training_lists_them(picture_folder, tmp_path, monkeypatch):
    (tmp_path / "linked").mkdir()
    for name in CLASS_NAMES[:2]:
        (tmp_path / "linked" / name).symlink_to(picture_folder / "train" / name)
    (tmp_path / "linked/around").symlink_to(tmp_path / "linked")
    (picture_folder / "train" / CLASS_NAMES[0] / "._1.jpg").write_bytes(b"no picture")
    split, files = listing.list_pictures([tmp_path / "linked"], CLASS_NAMES)
    assert len(files) == 16
    assert [int(record["label"]) for record in split.read(None)] == [0] * 8 + [1] * 8
    monkeypatch.chdir(picture_folder / "train" / CLASS_NAMES[1])
    assert {
        int(record["label"]) for record in listing.list_pictures(["."], CLASS_NAMES)[0].read(None)
    } == {1}


@pytest.mark.parametrize(
    "class_names", [("n01440764", "other"), ("tench (n01440764)", "shark (n01484850)")]
)
def test_labels_of_listed_pictures_are_found_by_synset_or_by_name(
    picture_folder, tmp_path, class_names
):
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked/n01440764").symlink_to(picture_folder / "train" / CLASS_NAMES[0])
    split, _ = listing.list_pictures([tmp_path / "linked"], class_names)
    assert {int(record["label"]) for record in split.read(None)} == {0}


def test_what_lies_below_two_of_the_paths_counts_once(tmp_path):
    fill(tmp_path, **{"daisy/inner": 3, "iris": 2})
    for paths in (["daisy", "."], [".", "daisy/inner"], ["daisy/inner", "."]):
        split, files = listing.list_pictures([tmp_path / path for path in paths], BOTH)
        assert len(files) == 5
        assert sorted(int(one["label"]) for one in split.read(None)) == [0] * 3 + [1] * 2


@pytest.mark.parametrize(
    "path,labels",
    [
        (".", [0, 0, 0, 0, 1]),
        ("iris", [0, 0, 0, 0, 1]),  # named after a class, and several lie below it
        ("iris/daisy", [0, 0, 0, 0]),
        ("iris/daisy/iris", [1, 1, 1]),
        ("iris/daisy/iris/0.jpg", [1]),
        ("iris/daisy/0.jpg", [0]),
    ],
)
def test_pictures_are_of_the_outermost_class_around_them(tmp_path, path, labels, capsys):
    fill(tmp_path / "iris", **{"daisy": 1, "daisy/iris": 3, "iris/daisy": 1})
    if path == ".":
        tmp_path /= "iris"
    split, _ = listing.list_pictures([tmp_path / path], BOTH)
    assert [int(one["label"]) for one in split.read(None)] == labels
    told = {"iris/daisy": "its pictures are taken as daisy", "iris": "these are taken as classes"}
    told["."] = told["iris"]
    assert told.get(path, "") in (said := capsys.readouterr().err) and (path in told) == bool(said)
    if path == ".":
        dataset = datasets.open_evaluation("folder", tmp_path, BOTH)
        assert sorted(int(one["label"]) for one in dataset.evaluation.read(None)) == labels


def test_a_class_with_folders_of_one_other_in_it_is_still_a_class(tmp_path):
    fill(tmp_path, **{"daisy/iris": 2, "daisy/more": 1})
    for _ in range(2):
        split, _ = listing.list_pictures([tmp_path / "daisy"], BOTH)
        assert {int(one["label"]) for one in split.read(None)} == {0}
        shutil.rmtree(tmp_path / "daisy/more", ignore_errors=True)


def test_a_class_in_a_folder_of_its_own_name_is_no_other(tmp_path):
    fill(tmp_path, **{"iris/iris": 2})
    told: list[str] = []
    split, _ = listing.list_pictures([tmp_path / "iris"], BOTH, told.append)
    assert [int(one["label"]) for one in split.read(None)] == [1, 1] and not told


def test_a_folder_of_class_folders_may_be_called_as_a_class(tmp_path):
    fill(tmp_path, **{"iris": 1, "iris/daisy": 2, "iris/iris": 1})
    split, _ = listing.list_pictures([tmp_path / "iris"], BOTH)
    assert [int(one["label"]) for one in split.read(None)] == [-1, 0, 0, 1]  # one beside them
