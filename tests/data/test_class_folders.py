"""Which class a folder is named after, and which names no class can have."""

import types
import unicodedata

import pytest
from flower_folders import BOTH, fill, flowers, judged, opened

from alexnet_tf.data import class_folders, datasets
from alexnet_tf.errors import UserError
from alexnet_tf.training import run_settings


@pytest.mark.parametrize(
    "holds,message",
    [
        (
            flowers("train", "val", "dev"),
            (
                "holds both dev/ and val/; say which is meant: validation_split=dev or "
                "validation_split=val"
            ),
        ),
        (
            {"daisy/train": 2, "daisy/test": 2, "iris/train": 2},
            "daisy holds splits; put the classes into the splits, as in .*/train/daisy",
        ),
        (
            {"train/Daisy": 2, "train/daisy": 2, "train/iris": 2},
            "b'Daisy' and b'daisy' differ only in case",
        ),
        (
            {f"train/{unicodedata.normalize(form, 'café')}": 2 for form in ("NFC", "NFD")},
            "differ only in .* Unicode form",
        ),
        ({"train/daisy": 2, "train/daisy ": 2}, "differ only in case, spaces"),
        ({"train/red rose": 2, "train/red\u00a0rose": 2}, "differ only in case, spaces"),
        ({"train/rose": 2, "train/ro\u200bse": 2}, "differ only in case, spaces"),
        ({"train/2\u00b2": 2, "train/22": 2}, "differ only in .* Unicode form"),
        ({"train/rose": 2, "train/\u200b": 2}, "has a name that cannot be printed"),
        (
            {"Images": 2, "masks": 2},
            "masks/ next to Images/ looks like the masks of its pictures, not like a class; ",
        ),
        ({"train/JPEGImages": 2, "train/SegmentationClass": 2}, "SegmentationClass/ next to JPEG"),
    ],
)
def test_what_would_be_mixed_up_is_refused(tmp_path, holds, message):
    fill(tmp_path, **holds)
    with pytest.raises(UserError, match=message) as error:
        datasets.open_dataset("folder", tmp_path)
    assert "\n" not in str(error.value)


def test_a_folder_that_may_be_either_of_two_classes_is_neither():
    """Classes of a network need not have been folders."""
    place_of = class_folders.place_finder(["Polish", "polish", "Rose"])
    found = [place_of(name) for name in ("Polish", "polish", "POLISH", "ROSE")]
    assert found == [0, 1, None, 2]


def test_names_that_are_two_words_are_two_classes(tmp_path):
    fill(tmp_path, **{"train/Masse": 2, "train/Maße": 2, "test/maße": 1, "test/MASSE": 1})
    dataset = datasets.open_dataset("folder", tmp_path)
    assert dataset.class_names == ("Masse", "Maße")
    labels = [int(one["label"]) for one in dataset.test.stubs(None)]
    names = [dataset.test.name_of(number) for number in range(2)]
    assert dict(zip(names, labels)) == {
        f"{tmp_path}/test/{name}/0.jpg": label for label, name in enumerate(("MASSE", "maße"))
    }


def test_names_are_written_as_their_languages_write_them(tmp_path):
    names = ("red\u00a0rose", "گل\u200cسرخ", "👩\u200d🌾")
    fill(tmp_path, **{f"train/{name}": 3 for name in names})
    assert opened(tmp_path)[0] == tuple(sorted(names))


def test_names_are_compared_in_one_form(tmp_path):
    fill(
        tmp_path,
        **{
            f"train/{unicodedata.normalize('NFD', 'café')} ": 3,
            "train/iris": 3,
            "test/\ufeffcafé": 2,
            "test/Iris": 1,
        },
    )
    classes, train, _, reported, notes = opened(tmp_path)
    assert (classes, train, reported, notes) == (("café", "iris"), 6, ("test", 3), [])
    test = datasets.open_dataset("folder", tmp_path).test
    assert [int(one["label"]) for one in test.read(None)] == [1] + [0, 0] or [
        int(one["label"]) for one in test.read(None)
    ] == [0, 0, 1]


@pytest.mark.parametrize("folder", ["red\u00a0rose", "Red  rose", "re\u200bd rose"])
def test_names_that_look_the_same_are_one_class(tmp_path, folder):
    """Or whoever reads the refusal sees one name twice."""
    fill(tmp_path, **{"train/iris": 2, "train/red rose": 2, f"test/{folder}": 1})
    test = datasets.open_dataset("folder", tmp_path).test
    assert [int(one["label"]) for one in test.read(None)] == [1]


def test_a_folder_one_level_too_high_is_said_when_it_judges(tmp_path):
    fill(tmp_path / "dataset", **flowers("."))
    with pytest.raises(UserError, match="but .*/dataset does; pass that folder"):
        judged(tmp_path)
    assert judged(tmp_path / "dataset") == ("pictures", 6)
    fill(tmp_path / "deep/x", **flowers("val"))
    with pytest.raises(UserError, match="but .*/deep/x does; pass that folder"):
        judged(tmp_path / "deep")
    assert judged(tmp_path / "deep/x") == ("val", 6)
    with pytest.raises(UserError, match="pass data_dir=.*/deep/x, which holds more"):
        datasets.open_dataset("folder", tmp_path / "deep")
    (tmp_path / "set.zip").write_bytes(b"PK")
    with pytest.raises(UserError, match="set.zip is a file; unpack it if it is an archive"):
        judged(tmp_path / "set.zip")


@pytest.mark.parametrize(
    "place,class_names",
    [
        ("n01440764", ("tench (n01440764)", "crane (n03126707)")),
        (unicodedata.normalize("NFD", "käfer"), ("käfer", "iris")),
        ("\ufeffdaisy ", BOTH),
    ],
)
def test_what_is_written_lies_among_no_classes_however_they_are_called(
    tmp_path, place, class_names
):
    (tmp_path / "pictures" / place).mkdir(parents=True)
    dataset = types.SimpleNamespace(
        class_names=class_names,
        opened_with={"dataset": "folder", "data_dir": str(tmp_path / "pictures")},
    )
    with pytest.raises(UserError, match="lies among the classes"):
        run_settings.check_apart(tmp_path / "pictures/model", dataset)
    run_settings.check_apart(tmp_path / "model", dataset)
