"""What a folder holds: splits, classes, pictures, and what is not used and told."""

import itertools
import json
import os
import pathlib
import re
import shlex
import shutil
import struct

import pytest
from binaries import call
from flower_folders import BOTH, fill, flowers, judged, opened
from tiny_pictures import TinyPictures

from alexnet_tf.commands import prepare
from alexnet_tf.data import datasets, listing, pictures, record, shapes, store
from alexnet_tf.data.names import SplitNames
from alexnet_tf.errors import UserError


@pytest.mark.parametrize(
    "splits,chosen_by,reported",
    [
        (("Train", "Test"), "Test", "Test"),
        (("training", "testing"), "testing", "testing"),
        (("train", "valid"), "valid", "valid"),
        (("train", "Val"), "Val", "Val"),
        (("train", "eval", "test"), "eval", "test"),
        (("train", "dev", "test"), "dev", "test"),
        (("TRAIN", "Validation", "TEST"), "Validation", "TEST"),
        (("train", "val", "testing"), "val", "testing"),
        (("train", "evaluation"), "evaluation", "evaluation"),
    ],
)
def test_splits_are_known_by_their_usual_names_in_any_case(tmp_path, splits, chosen_by, reported):
    fill(tmp_path, **flowers(*splits))
    for choosing in (False, True) if chosen_by != reported else (False,):
        assert opened(tmp_path, choosing=choosing) == (BOTH, 6, (chosen_by, 6), (reported, 6), [])
    assert judged(tmp_path) == (reported, 6)


def test_flags_name_splits_otherwise(tmp_path):
    fill(tmp_path, **flowers("train", "quiz", "hard"), **flowers("test", count=2))
    other = SplitNames(validation="hard", test="quiz")
    assert opened(tmp_path, names=other) == (
        BOTH,
        6,
        ("hard", 6),
        ("quiz", 6),
        [
            "ROOT: not used: 4 files in test/, which is not one of the splits "
            "(first test/daisy/0.jpg)."
        ],
    )
    assert judged(tmp_path, names=other) == ("quiz", 6)
    assert judged(tmp_path, names=SplitNames(test="train/")) == ("train", 6)
    for names, message in (
        (
            SplitNames(test="exam"),
            "test_split=exam: .* has no such folder; it has hard, quiz, test, train",
        ),
        (SplitNames(train="bare"), "train_split=bare: .*/bare holds pictures but no class folders"),
        (SplitNames(test="void"), "test_split=void: .*/void holds no picture"),
    ):
        (
            fill(tmp_path, bare="bare" in message and 1)
            if "bare" in message
            else (tmp_path / "void").mkdir(exist_ok=True)
        )
        with pytest.raises(UserError, match=message):
            datasets.open_dataset("folder", tmp_path, names=names)


@pytest.mark.parametrize(
    "called,others",
    [
        ("judge/", ("judge", "./judge")),
        ("images/judge", ("images/judge/", "./images//judge")),
        ("test/test", ("test/test/",)),
        (None, ("test", "test/")),
    ],
)
def test_the_test_split_is_known_by_its_place_however_it_is_called(tmp_path, called, others):
    places = [
        "judge",
        "images/judge",
        "images/test",
        "test/test" if called == "test/test" else "test",
    ]
    fill(tmp_path, **flowers("learn", *places))
    names = SplitNames(train="learn/", test=called)
    assert names.is_test(datasets.open_dataset("folder", tmp_path, names=names).test.place)
    for place in (*places, *others):
        again = datasets.open_evaluation("folder", tmp_path, BOTH, (), SplitNames(test=place))
        assert names.is_test(again.evaluation.place) == (place in (called or "test", *others))


def test_what_is_called_test_may_be_another_split_or_a_class():
    assert SplitNames().is_test("Testing")
    for names in (SplitNames(train="."), SplitNames(validation="test/"), SplitNames(train="test")):
        assert not names.is_test("test")
    assert not SplitNames(test="judge").is_test("test")
    assert not any(names.is_test(None) for names in (SplitNames(), SplitNames(test="judge")))


def test_an_empty_text_and_a_path_name_no_split():
    """The first stood for the usual names without a word."""
    with pytest.raises(UserError, match="^test_split= is empty; pass the name of a split"):
        SplitNames(test="")
    with pytest.raises(UserError, match="^train_split= is of the type PosixPath; pass the name of"):
        SplitNames(train=pathlib.Path("learn"))


@pytest.mark.parametrize("dot", [".", "./", "././"])
def test_the_folder_itself_may_be_written_in_several_ways(tmp_path, dot):
    fill(tmp_path, **{"test/daisy": 3, "test/iris": 5, "rose/more": 2})
    classes, *_ = opened(tmp_path, names=SplitNames(train=dot))
    assert classes == ("rose", "test")
    assert judged(tmp_path / "test", names=SplitNames(test=dot)) == ("test", 8)
    for role in ("validation", "test"):
        with pytest.raises(UserError, match=f"^{role}_split=.: the folders in {tmp_path} itself"):
            opened(tmp_path, names=SplitNames(**{role: dot}))


def test_a_split_that_is_called_held_out_is_compared_as_any_other(tmp_path):
    fill(tmp_path, **flowers("train"))
    shutil.copytree(tmp_path / "train", tmp_path / "held out")
    dataset = datasets.open_dataset("folder", tmp_path, names=SplitNames(test="held out"))
    assert "6 of the 6 pictures of held out are also in train" in dataset.notes[0]
    assert record.check_goes_on("model", None, dataset) is None  # nothing was held out from train


@pytest.mark.parametrize("splits", [("val",), ("test",), ("Testing",), ("dev",)])
def test_an_evaluation_split_alone_is_enough_to_evaluate(tmp_path, splits):
    fill(tmp_path, **flowers(*splits))
    assert judged(tmp_path) == (splits[0], 6)
    with pytest.raises(
        UserError, match=f"has nothing to train on, only {splits[0]}/ to evaluate on"
    ):
        datasets.open_dataset("folder", tmp_path)


def test_a_plain_folder_is_judged_whole_and_may_lack_classes(tmp_path):
    assert judged(fill(tmp_path / "plain", daisy=5, iris=4)) == ("pictures", 9)
    dataset = datasets.open_evaluation("folder", fill(tmp_path / "part", iris=4), BOTH)
    assert [int(one["label"]) for one in dataset.evaluation.read(None)] == [1] * 4
    with pytest.raises(
        UserError, match=r"rose is not one of the 2 classes \(daisy, iris\); rename"
    ):
        judged(fill(tmp_path / "strange", iris=1, rose=1))


def test_classes_may_be_called_as_splits_are(tmp_path):
    assert opened(fill(tmp_path / "vehicles", car=4, train=4, plane=4))[0] == (
        "car",
        "plane",
        "train",
    )
    assert opened(fill(tmp_path / "trial", control=4, test=4))[0] == ("control", "test")
    # but not all of them, unless one says so, or the network has these classes
    both = fill(tmp_path / "both", train=4, test=4)
    with pytest.raises(
        UserError,
        match=r"are test/ and train/ splits, or classes\? Pass train_split=\. if they are",
    ):
        datasets.open_dataset("folder", both)
    assert opened(both, names=SplitNames(train="."))[0] == ("test", "train")
    assert judged(both, ("test", "train")) == ("pictures", 8)
    assert judged(fill(tmp_path / "nested", **flowers("test")), (*BOTH, "test")) == ("test", 6)


@pytest.mark.parametrize(
    "holds,doubt,role",
    [
        (
            {"daisy": 4, "iris": 4, "test": 3},
            r"is test/ a class, or does it hold pictures without labels",
            "test",
        ),
        (
            {"car": 4, "plane": 4, "train/steam": 4, "train/diesel": 4},
            "is train/ a split, or a class like car/ next to it",
            "train",
        ),
        (
            {"daisy": 4, "iris": 4} | flowers("val"),
            "is val/ a split, or a class like daisy/ next to it",
            "validation",
        ),
    ],
)
def test_two_readings_are_refused_and_both_ways_out_work(tmp_path, holds, doubt, role):
    fill(tmp_path, **holds)
    name = {"validation": "val"}.get(role, role)
    with pytest.raises(
        UserError,
        match=rf"{doubt}\? Pass train_split=\. if it is a class, or {role}_split={name} if it is "
        rf"not",
    ):
        datasets.open_dataset("folder", tmp_path)
    tops = sorted({folder.split("/")[0] for folder in holds})
    assert list(opened(tmp_path, names=SplitNames(train="."))[0]) == tops
    classes = opened(tmp_path, names=SplitNames(**{role: name}))[0]
    assert list(classes) == (["diesel", "steam"] if role == "train" else list(BOTH))


def test_pictures_without_labels_are_told_and_are_no_class(tmp_path):
    fill(tmp_path, **flowers("train", count=8), test=3, val=2)
    classes, _, chosen_by, _, notes = opened(tmp_path)
    assert classes == BOTH and chosen_by[0] == "held out"
    assert (
        notes[1]
        == "ROOT: not used: 3 files in test/, which holds no class folders (first test/0.jpg); 2 "
        "files in val/, which holds "
        "no class folders (first val/0.jpg)."
    )
    with pytest.raises(
        UserError, match="test_split=test: .*/test holds pictures but no class folders"
    ):
        judged(tmp_path, names=SplitNames(test="test"))


def test_pictures_without_labels_are_told_beside_classes_too(tmp_path):
    fill(tmp_path, daisy=8, iris=8, test=3)
    notes = opened(tmp_path, names=SplitNames(test="test"))[-1]
    assert "not used: 3 files in test/, which holds no class folders (first test/0.jpg)" in notes[1]


def test_hidden_pictures_are_told_and_notes_of_systems_are_not(tmp_path):
    fill(tmp_path, **{".net": 3, "java": 3, "rust": 3, "rust/.ipynb_checkpoints": 1})
    (tmp_path / "java/.kept.png").write_bytes(shapes.draw_jpeg("train", 50))
    (tmp_path / ".loose.jpg").write_bytes(shapes.draw_jpeg("train", 51))
    for name in ("java/._0.jpg", "._java", ".DS_Store", "rust/.directory"):
        (tmp_path / name).write_bytes(b"\0\5\x16\7")
    assert opened(tmp_path)[-1][1:] == ["ROOT: not used: 6 hidden pictures (first .loose.jpg)."]


def test_pictures_left_in_a_cloud_are_told_and_deleted_ones_are_no_class(tmp_path):
    bins = dict.fromkeys(("#recycle", "@Recycle", "$RECYCLE.BIN", "java/#recycle"), 2)
    fill(tmp_path, **{"java": 3, "rust": 3}, **bins)
    for name in ("java/.7.jpg.icloud", "java/more/.8.heic.icloud", ".9.jpg.icloud"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"bplist00")
    classes, train, held_out, _, notes = opened(tmp_path)
    assert (classes, train + held_out[1]) == (("java", "rust"), 6)
    assert notes[1:] == [
        "ROOT: not used: 3 pictures left in iCloud, which Download Now in the Finder fetches "
        "(first .9.jpg.icloud)."
    ]


@pytest.mark.parametrize(
    "holds,advice",
    [
        (flowers("train_set", "test_set"), "train_split=train_set and test_split=test_set"),
        (
            flowers("Training data", "Val data"),
            "train_split='Training data' and validation_split='Val data'",
        ),
        (
            flowers("seg_train/seg_train", "seg_test/seg_test") | {"seg_pred": 2},
            "train_split=seg_train/seg_train and test_split=seg_test/seg_test",
        ),
        (flowers("trainset", "val"), "train_split=trainset and validation_split=val"),
        (flowers("trainA", "testA"), "train_split=trainA and test_split=testA"),
        (flowers("train", "test_images"), "train_split=train and test_split=test_images"),
    ],
)
def test_splits_of_other_names_are_asked_for_and_the_advice_works(tmp_path, holds, advice):
    fill(tmp_path, **holds)
    with pytest.raises(UserError, match=rf"Pass train_split=\. if .*, or {advice} if") as error:
        datasets.open_dataset("folder", tmp_path)
    assert "\n" not in str(error.value)
    flags = dict(part.split("=") for part in advice.split(" and "))
    names = SplitNames(
        **{name.removesuffix("_split"): value.strip("'") for name, value in flags.items()}
    )
    classes, train, judged_by, _, notes = opened(tmp_path, names=names)
    assert (classes, train, judged_by[1]) == (BOTH, 6, 6)
    assert len(notes) == ("seg_pred" in holds)
    assert judged(tmp_path, names=names)[1] == 6
    assert opened(tmp_path, names=SplitNames(train="."))[0] == tuple(
        sorted({name.split("/")[0] for name in holds})
    )


@pytest.mark.parametrize("place", ["0", "train/daisy/0", "train/daisy/12.0001"])
def test_pictures_without_an_ending_are_pictures_of_the_user_too(tmp_path, place):
    elsewhere = tmp_path / "elsewhere" / place
    elsewhere.parent.mkdir(parents=True)
    elsewhere.write_bytes(shapes.draw_jpeg("train", 0))
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked/all").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "linked/up").symlink_to(tmp_path / "linked")
    for folder, called in (("elsewhere", place), ("linked", f"all/{place}")):
        message = f"holds pictures, such as {called}; pass dataset=folder"
        with pytest.raises(UserError, match=message):
            datasets.open_dataset("shapes", tmp_path / folder)
    assert len(list((tmp_path / "elsewhere").iterdir())) == 1


def test_records_that_begin_as_a_picture_does_are_none(tmp_path):
    shard = tmp_path / "mine/1.0.0/mine-train.tfrecord-00000-of-00001"
    shard.parent.mkdir(parents=True)
    shard.write_bytes(struct.pack("<Q", 0x4D42))  # BM, in the length of the first record
    (tmp_path / ".hidden").write_bytes(shapes.draw_jpeg("train", 0))
    assert datasets.open_dataset("tiny_splits", tmp_path).train.examples == 50


def test_what_lies_where_tfds_is_to_keep_data_is_told_by_name(tmp_path):
    def stranger():
        return datasets.stranger_in(tmp_path, "shapes/a:1.0.0")

    for place in ("downloads/x", "shapes/incomplete/x", ".git/x", "Thumbs.db"):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).write_text("x")
    for place in ("other/1.0.0", "another/config/1.0.0"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "dataset_info.json").write_text("{}")
    assert stranger() is None is datasets.stranger_in(tmp_path / "nowhere", "shapes")
    (tmp_path / "zip").write_text("x")
    assert stranger() == "zip"
    (tmp_path / "train/daisy").mkdir(parents=True)
    assert stranger() == "train"
    (tmp_path / "train/daisy/0").write_bytes(shapes.draw_jpeg("train", 0))
    assert stranger() is None  # it is refused
    assert datasets.stranger_in(tmp_path / "other", "shapes") is None  # it is read


@pytest.mark.parametrize(
    "place",
    ["0.png", "daisy/0.jpg", "train/daisy/0.JPG", "train/daisy/a.heic", "a/b/train/daisy/0.jpg"],
)
def test_a_folder_of_pictures_is_no_place_for_another_data_set(tmp_path, place):
    (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / place).write_bytes(b"x")
    message = f"holds pictures, such as {place}; pass dataset=folder to read them, or another data"
    with pytest.raises(UserError, match=message):
        datasets.open_dataset("shapes", tmp_path)
    assert len(list(tmp_path.iterdir())) == 1


def test_what_tfds_has_downloaded_and_what_is_hidden_are_no_pictures_of_the_user(tmp_path):
    fill(tmp_path, **{"downloads/extracted/x": 1, ".cache": 1})
    assert datasets.open_dataset("tiny_splits", tmp_path).train.examples == 50


def test_splits_without_class_folders_are_no_classes(tmp_path):
    fill(tmp_path, train2017=3, val2017=2)
    with pytest.raises(
        UserError, match="if they are splits, sort the pictures of each into folders"
    ):
        datasets.open_dataset("folder", tmp_path)
    fill(tmp_path / "nearly", **{"train station": 3, "car park": 2})
    assert opened(tmp_path / "nearly")[0] == ("car park", "train station")


def test_classes_that_may_be_splits_are_told(tmp_path):
    fill(tmp_path, **flowers("ours", "theirs", "web", count=1))
    classes, _, _, _, notes = opened(tmp_path)
    assert classes == ("ours", "theirs", "web")
    assert notes[-1] == (
        "ROOT: ours, theirs, web are taken as the classes, although all hold the folders daisy,"
        " iris. If those are the classes, name the splits, such as train_split=ours."
    )
    named = opened(tmp_path, names=SplitNames(train="ours", validation="theirs", test="web"))
    assert named == (BOTH, 2, ("theirs", 2), ("web", 2), [])


@pytest.mark.parametrize("parts", [("fold_1", "fold_2", "fold_10"), ("1", "2"), ("k 1", "k 2")])
def test_parts_of_a_cross_validation_are_no_classes_unasked(tmp_path, parts):
    fill(tmp_path, **flowers(*parts, count=1), **{f"{parts[1]}/rare": 1})
    first, second = (shlex.quote(name) for name in sorted(parts)[:2])
    way_out = rf"Pass train_split=\. if .*, or train_split={first} and test_split={second}, or"
    with pytest.raises(UserError, match=f"parts of one data set. All hold .*iris. {way_out}"):
        opened(tmp_path)
    assert opened(tmp_path, names=SplitNames(train="."))[0] == tuple(sorted(parts))
    names = SplitNames(train=parts[1], test=parts[0])
    assert opened(tmp_path, names=names)[0] == ("daisy", "iris", "rare")


def test_classes_with_numbers_are_classes(tmp_path):
    fill(tmp_path, **{"type 1/left": 2, "type 1/right": 2, "type 2/left": 2, "type 3": 2})
    assert opened(tmp_path)[0] == ("type 1", "type 2", "type 3")


def test_a_class_that_lies_in_another_is_told(tmp_path):
    fill(tmp_path, **flowers("train", "test"), **{"train/daisy/Iris": 2, "train/daisy/garden": 1})
    fill(tmp_path, **{"train/iris/iris": 1, "train/iris/daisy": 0})
    assert opened(tmp_path)[-1] == [
        "1 folder named after a class lies in that of another, first ROOT/train/daisy/Iris: its"
        " pictures are taken as daisy; move it out if they are not."
    ]
    unpacked_there = fill(tmp_path / "other", **flowers("train", "train/val"))
    assert opened(unpacked_there)[-1][-1].startswith(
        "2 folders named after a class lie in that of another, first ROOT/train/val/daisy: its"
        " pictures are taken as val;"
    )


def test_a_folder_that_is_named_by_a_path_leaves_the_rest_told(tmp_path):
    fill(tmp_path, **flowers("images/train", "images/val", "images/extra"), notes=0)
    names = SplitNames(train="images/train", validation="images/val/")
    assert opened(tmp_path, names=names) == (
        BOTH,
        6,
        ("val", 6),
        ("val", 6),
        [
            "ROOT: not used: 6 files in images/, which is not one of the splits "
            "(first images/extra/daisy/0.jpg)."
        ],
    )
    for name in ("images/none", "../x", "/tmp"):
        with pytest.raises(UserError, match=f"train_split={name}: .* has no such folder"):
            datasets.open_dataset("folder", tmp_path, names=SplitNames(train=name))


@pytest.mark.parametrize(
    "holds,message",
    [
        (
            flowers("dataset/train", "dataset/test"),
            r"1 folder of pictures \(dataset/\).*: pass data_dir=(.*/dataset), which",
        ),
        (
            flowers("a/b") | {"__MACOSX/a": 1},
            r"1 folder of pictures \(a/\).*: pass data_dir=(.*/a/b), which",
        ),
        (
            {"train/images": 2, "train/labels": 0, "val/images": 2},
            r"train holds 1 folder of pictures \(images/\); .*: sort the pictures into folders",
        ),
        (
            {"jpg": 3},
            r"1 folder of pictures \(jpg/\), but 1 file of .mat \(first labels.mat\); .*: sort",
        ),
        ({".": 3}, r"0 folders of pictures, but 1 file of .mat .*: sort the pictures"),
        (
            flowers("fold_0/train", "fold_0/val", "fold_1/train", "fold_1/val"),
            "fold_0 holds splits; pass data_dir=(.*/fold_0)",
        ),
    ],
)
def test_the_place_of_the_classes_is_said_where_it_is_another(tmp_path, holds, message):
    fill(tmp_path, **holds)
    if ".mat" in message:
        (tmp_path / "labels.mat").write_bytes(b"MATLAB")
    with pytest.raises(UserError, match=message) as error:
        datasets.open_dataset("folder", tmp_path)
    if place := re.search(message, str(error.value)).groups():
        assert opened(*place)[0] == BOTH


def test_a_link_back_up_brings_no_pictures_of_other_classes(tmp_path):
    fill(tmp_path / "set", **flowers("train", "test"))
    (tmp_path / "set/train/iris/up").symlink_to("..")
    (tmp_path / "set/train/iris/top").symlink_to("../..")
    (tmp_path / "link").symlink_to("set")
    assert opened(tmp_path / "link") == (BOTH, 6, ("test", 6), ("test", 6), [])


def test_nested_pictures_belong_to_their_class_and_hidden_ones_to_none(tmp_path, capsys):
    fill(
        tmp_path,
        **{
            "daisy": 1,
            "daisy/garden/red": 2,
            "iris/2024": 3,
            "daisy/.cache": 4,
            "iris/@eaDir": 4,
            "__MACOSX/daisy": 2,
            ".trash/daisy": 2,
            "elsewhere/rose": 2,
        },
    )
    (tmp_path / "iris/around").symlink_to(tmp_path / "iris")
    (tmp_path / "elsewhere").rename(tmp_path.parent / "linked-roses")
    (tmp_path / "rose").symlink_to(tmp_path.parent / "linked-roses")
    dataset = datasets.open_evaluation("folder", tmp_path, (*BOTH, "rose"))
    assert sorted(int(one["label"]) for one in dataset.evaluation.read(None)) == [
        0,
        0,
        0,
        1,
        1,
        1,
        2,
        2,
    ]
    assert dataset.notes == (
        f"{tmp_path}: not used: 6 hidden pictures (first .trash/daisy/0.jpg).",
    )
    split, files = listing.list_pictures([tmp_path / "daisy", tmp_path / "iris"], BOTH)
    assert [int(one["label"]) for one in split.read(None)] == [0, 0, 0, 1, 1, 1] and len(files) == 6
    assert capsys.readouterr().err == (
        f"{tmp_path / 'daisy'}: not used: 4 hidden pictures (first .cache/0.jpg).\n"
    )
    fill(tmp_path / "telephone", **{"Daisy": 1, "none": 0})
    (tmp_path / "telephone/none/a.HEIC").write_bytes(b"x")
    split, _ = listing.list_pictures([tmp_path / "telephone"], BOTH)
    assert [int(one["label"]) for one in split.read(None)] == [0]
    with pytest.raises(
        UserError, match=r"none\. .*: not used: 1 file of .heic, which alexnet prep"
    ):
        listing.list_pictures([tmp_path / "telephone/none"])


def test_files_are_looked_at_by_content_where_their_ending_says_nothing(tmp_path):
    fill(tmp_path, daisy=1, iris=1)
    jpeg = shapes.draw_jpeg("train", 9)
    for name in ("a.jfif", "no ending", "12.0001", "flickr.jpg?zz=1"):
        (tmp_path / "iris" / name).write_bytes(jpeg)
    for name in ("text", "b.jfif"):
        (tmp_path / "iris" / name).write_text("hello")
    dataset = datasets.open_evaluation("folder", tmp_path, BOTH)
    assert dataset.evaluation.examples == 6
    assert "1 file without an ending (first iris/text)" in dataset.notes[0]
    (bad,) = dataset.bad_pictures  # its name says that it is one
    assert "iris/b.jfif cannot be read" in bad


def test_all_that_is_not_used_is_told_by_count_ending_and_first_name(tmp_path):
    fill(tmp_path, **flowers("train", "test"), samples=2)
    train = tmp_path / "train"
    for number in range(40):
        (train / "daisy" / f"{number}.HEIC").write_bytes(b"x")
    for name in ("daisy/Thumbs.db", "notes.txt", "stray.jpg", "iris/old.txt"):
        (train / name).write_bytes(b"x")
    (train / "rose").symlink_to("nowhere")
    (train / "round").symlink_to("round")
    dataset = datasets.open_dataset("folder", tmp_path)
    (note,) = dataset.notes
    assert (
        note == f"{tmp_path}: not used: 40 files of .heic, which alexnet prepare reads (first "
        "train/daisy/0.HEIC); 2 dead links (first train/rose); 2 files in samples/, which "
        "is not one of the splits (first samples/0.jpg); "
        "2 files of .txt (first train/iris/old.txt); "
        "1 file of .db (first train/daisy/Thumbs.db); 1 picture outside the class folders (first "
        "train/stray.jpg)."
    )
    assert (
        len(dataset.unused) == 48
        and f"{train}/stray.jpg is not used (picture outside the class folders)" in dataset.unused
    )


def test_a_class_of_telephone_pictures_is_told_as_such(tmp_path):
    fill(tmp_path, **flowers("train"), **{"train/rose": 0})
    for number in range(3):
        (tmp_path / "train/rose" / f"{number}.heic").write_bytes(b"x")
    with pytest.raises(
        UserError,
        match=r"rose holds no picture \(.*\), but 3 files of .heic, which alexnet prepare reads",
    ):
        datasets.open_dataset("folder", tmp_path)
    with pytest.raises(UserError, match=r"rose holds no picture, but 3 files of .heic"):
        datasets.open_evaluation("folder", tmp_path / "train/rose", BOTH)


def test_check_lists_what_is_not_used(run, tmp_path):
    fill(tmp_path / "pictures", daisy=2, iris=2)
    (tmp_path / "pictures/daisy/a.psd").write_bytes(b"x")
    (tmp_path / "pictures/b.jpg").write_bytes(b"x")
    printed = run(
        "-m",
        "alexnet_tf",
        "prepare",
        "--check",
        "--dataset=folder",
        "--data_dir=pictures",
        "--json=c.json",
        cwd=tmp_path,
    )
    assert "pictures/daisy/a.psd is not used (file of .psd)\n" in printed
    listed = json.loads((tmp_path / "c.json").read_text())
    assert listed["not used"] == 2 == len(listed["not_used"]) and listed["bad"] == []


def test_a_folder_with_test_alone_can_be_checked(tmp_path, capsys):
    fill(tmp_path / "pictures", **{"test/daisy": 2, "val/iris": 3})
    shutil.copy(tmp_path / "pictures/test/daisy/0.jpg", tmp_path / "pictures/val/iris")
    (tmp_path / "pictures/test/daisy/cut.jpg").write_bytes(b"\xff\xd8\xff")
    given = ("--dataset=folder", f"--data_dir={tmp_path}/pictures", f"--json={tmp_path}/c.json")
    with pytest.raises(SystemExit) as end:
        call(prepare, *given, "--check")
    listed = json.loads((tmp_path / "c.json").read_text())
    assert end.value.code == 1 and listed["pictures"] == 6
    assert len(listed["bad"]) == 1 and len(listed["identical"]) == 1
    assert "1 of the 2 pictures of test are also in val" in capsys.readouterr().err
    with pytest.raises(UserError, match="has nothing to train on"):
        call(prepare, *given, f"--output={tmp_path}/store")


def test_an_empty_folder_beside_those_that_judge_is_passed_over_and_told(tmp_path):
    fill(tmp_path, **flowers("train", "test"), **{"test/New Folder": 0})
    told = "ROOT/test: skipped, as they are empty and not named after a class: New Folder."
    assert told in opened(tmp_path)[-1] and judged(tmp_path) == ("test", 6)
    (tmp_path / "test/New Folder/notes.txt").write_text("x")
    with pytest.raises(UserError, match="New Folder is not one of the 2 classes"):
        opened(tmp_path)


def test_a_folder_of_two_names_counts_once(tmp_path):
    fill(tmp_path, **{"daisy/sub": 2, "daisy/b/deep": 1, "iris/.store": 2, "iris/x": 1})
    (tmp_path / "daisy/again").symlink_to("sub")
    (tmp_path / "daisy/a").mkdir()
    (tmp_path / "daisy/a/link").symlink_to("../b")
    (tmp_path / "iris/shown").symlink_to(".store")
    dataset = datasets.open_evaluation("folder", tmp_path, BOTH)
    names = [dataset.evaluation.name_of(number) for number in range(dataset.evaluation.examples)]
    assert [os.path.relpath(name, tmp_path) for name in names] == [
        "daisy/b/deep/0.jpg",
        "daisy/sub/0.jpg",
        "daisy/sub/1.jpg",
        "iris/shown/0.jpg",
        "iris/shown/1.jpg",
        "iris/x/0.jpg",
    ]
    (tmp_path / "iris/shown").unlink()
    (tmp_path / "iris/x/link").symlink_to("../.store")  # after which the hidden one is passed
    dataset = datasets.open_evaluation("folder", tmp_path, BOTH)
    assert dataset.evaluation.examples == 6


def test_pictures_that_choose_and_are_reported_are_told(tmp_path):
    fill(tmp_path, **flowers("train", count=8), **flowers("val"))
    told = (
        "The 6 pictures of val choose the weights and the rate, and are also reported on: a test"
        " split, on which nothing is chosen, would tell more."
    )
    assert told in opened(tmp_path, choosing=True)[-1]
    dataset = datasets.open_dataset("folder", tmp_path)
    assert dataset.notes == () == datasets.divided_for(dataset).notes
    once = datasets.divided_for(dataset, choosing=True)
    assert once.notes == (told,) == datasets.divided_for(once, choosing=True).notes
    alone = opened(tmp_path / "train", choosing=True)
    assert f"The {alone[2][1]} pictures of held out choose" in alone[-1][-1]
    fill(tmp_path, **flowers("test"))
    assert opened(tmp_path, choosing=True)[-1] == []


def test_what_is_gone_while_a_folder_is_opened_is_left_out(tmp_path, monkeypatch):
    fill(tmp_path, **flowers("train", "test"))
    examine = pictures.examine

    def and_remove(files, *arguments):
        found = examine(files, *arguments)
        for file in list(files)[:2]:
            os.remove(file)
        return found

    monkeypatch.setattr(pictures, "examine", and_remove)
    dataset = datasets.open_dataset("folder", tmp_path)
    assert dataset.train.examples == 4 and 0 not in dataset.train.identities
    assert len(dataset.bad_pictures) == 4 and "No such file" in dataset.bad_pictures[0]


def test_a_folder_that_cannot_be_read_is_no_empty_one(tmp_path, monkeypatch):
    fill(tmp_path, **{"daisy": 2, "iris/locked": 2})
    scandir = os.scandir

    def guarded(path):
        if os.fsencode(path).endswith(b"locked"):
            raise PermissionError(13, "Permission denied", os.fsdecode(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    with pytest.raises(UserError, match=r"iris/locked cannot be read \(Permission denied\)"):
        datasets.open_dataset("folder", tmp_path)


# TFDS ---------------------------------------------------------------------------------------------


class TinySplits(TinyPictures):
    """All kinds of splits; `test` has no labels."""

    def _split_generators(self, dl_manager):
        return {
            "train": self._generate_examples(),
            "validation": self._generate_examples(),
            "test": self._unlabelled(),
        }

    def _unlabelled(self):
        for index, example in self._generate_examples():
            yield index, example | {"label": -1}


class TinyUnsure(TinySplits):
    """Of `test` one picture in ten has a label, and the first in the order of TFDS has none."""

    def _unlabelled(self):
        for index, example in self._generate_examples():
            yield index, example | {"label": 1 if index % 10 == 3 else -1}


def test_a_split_of_which_the_first_picture_has_no_label_is_not_left_out(tmp_path):
    dataset = datasets.open_dataset("tiny_unsure", tmp_path)
    labels = [int(record["label"]) for record in dataset.test.read(None).ignore_errors()]
    assert labels == [1] * 5 and dataset.test.fault_of(0) == "it has no label"


class TinyUnlabelled(TinySplits):
    """No picture of `train` has a label."""

    def _split_generators(self, dl_manager):
        return super()._split_generators(dl_manager) | {"train": self._unlabelled()}


def test_a_train_split_that_is_of_no_use_is_not_said_to_be_missing(tmp_path):
    with pytest.raises(UserError, match="tiny_unlabelled has no pictures with labels in train; pa"):
        datasets.open_dataset("tiny_unlabelled", tmp_path)
    names = SplitNames(train="validation[:50%]", validation="validation[50%:]")
    usual = datasets.open_dataset("tiny_unlabelled", tmp_path, names=names)
    assert usual.train.examples == 25
    with pytest.raises(UserError, match="all pictures of train in splits that are named for some"):
        datasets.open_dataset("tiny_splits", tmp_path, names=SplitNames(test="train"))


class TinyTest(TinyPictures):
    """Nothing but pictures to test on."""

    def _split_generators(self, dl_manager):
        return {"test": self._generate_examples()}


def test_splits_of_tfds_are_named_sliced_and_refused_where_they_have_no_labels_or_overlap(tmp_path):
    dataset = datasets.open_dataset(
        "tiny_splits", tmp_path, names=SplitNames(train="train[:50%]", validation="train[50%:60%]")
    )
    assert (dataset.train.examples, dataset.evaluation.examples, dataset.test) == (25, 5, None)
    usual = datasets.open_dataset("tiny_splits", tmp_path)
    assert (usual.evaluation.name, usual.test) == (
        "validation",
        None,
    )  # none of the pictures of test has a label
    assert (
        datasets.open_evaluation("tiny_splits", tmp_path, ("even", "odd")).evaluation.name
        == "validation"
    )
    for names, message in (
        (SplitNames(test="test"), "test_split=test holds no pictures with labels"),
        (
            SplitNames(test="exam"),
            "test_split=exam is not one of its splits; dataset=tiny_splits has train, ",
        ),
        (
            SplitNames(validation="train[40%:]"),
            r"validation_split=train\[40%:\] has 30 of the 50 pictures of train, which by its name"
            " is the train split; pass train_split= too",
        ),
        (
            SplitNames(train="train", validation="train[40%:]"),
            r"30 of the pictures of train\[40%:\] are also in train",
        ),
        (SplitNames(train="all[:50%]"), "is not one of its splits"),
        # of which TFDS says that it holds -5 pictures
        (SplitNames(train="train[10:5]"), r"train_split=train\[10:5\] is not one of its splits"),
    ):
        with pytest.raises(UserError, match=message):
            datasets.open_dataset("tiny_splits", tmp_path, names=names)
    known = record.of(dataset)
    seen = datasets.open_evaluation(
        "tiny_splits", tmp_path, ("even", "odd"), [known], SplitNames(test="train[40%:]")
    ).evaluation
    assert known.has_seen(seen.identities).tolist() == [True] * 5 + [False] * 25


class TinyJudges(TinyPictures):
    """Train and test, as most data sets have them."""

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(), "test": self._some()}

    def _some(self):
        return itertools.islice(self._generate_examples(), 15)


def test_what_is_in_no_split_that_is_used_is_told_of_the_whole_by_another_name_too(tmp_path):
    for names, unused in (
        (SplitNames(train="all"), []),
        (SplitNames(train="train[:40]+test"), ["10 of the 50 pictures of train"]),
        (SplitNames(train="train[:9]", test="train[9:]"), ["test (15 pictures)"]),
    ):
        notes = datasets.open_dataset("tiny_judges", tmp_path, names=names).notes
        told = [note for note in notes if "not used" in note]
        assert told == [f"tiny_judges: not used: {part}." for part in unused]


def chosen_and_reported(place, **names):
    """(what is chosen by and reported on, notes) of TinyJudges, with splits of these names."""
    dataset = datasets.open_dataset("tiny_judges", place, names=SplitNames(**names), choosing=True)
    return dataset.describe().partition(", ")[2], dataset.notes


def test_what_chooses_is_not_what_is_reported_without_a_word(tmp_path):
    few = SplitNames(train="train[:3]", test="test")
    some = datasets.open_dataset("tiny_judges", tmp_path / "tfds", names=few)
    store.write(some, tmp_path / "store/1.0.0", 95)
    refused = (
        r"validation_split=test\[:50%\] has 8 of the 15 pictures of test, which by its name is"
        " the test split; pass test_split= too"
    )
    for place in (tmp_path / "tfds", tmp_path / "store"):
        with pytest.raises(UserError, match=refused):
            chosen_and_reported(place, validation="test[:50%]")
        judging, notes = chosen_and_reported(place, validation="test[:50%]", test="test")
        assert judging == "8 to choose by (test[:50%]), 15 to report on (test)"
        assert notes == (
            "8 of the 15 pictures of test are also in test[:50%]: correct answers on those say"
            " little.",
        )
    _, notes = chosen_and_reported(tmp_path / "tfds", validation="test", test="test")
    assert notes[0].startswith("15 of the 15 pictures of test are also in test")
    assert chosen_and_reported(tmp_path / "tfds", validation="test[:50%]", test="test[50%:]") == (
        "8 to choose by (test[:50%]), 7 to report on (test[50%:])",
        (),
    )


def test_a_split_that_is_named_for_something_else_is_not_that_of_its_name(tmp_path):
    with pytest.raises(
        UserError, match=r"train_split=test\[:50%\] has 8 of the 15 pictures of tes"
    ):
        chosen_and_reported(tmp_path, train="test[:50%]")
    for names in ({"validation": "test"}, {"validation": "test[:50%]+test[50%:]"}):
        judging, notes = chosen_and_reported(tmp_path, **names)
        assert judging.startswith("15 to evaluate (test") and "are also reported on" in notes[0]
    for train in ("all", "train+test"):
        assert chosen_and_reported(tmp_path, train=train)[0] == "7 to evaluate (held out)"
    evaluated = datasets.open_evaluation(
        "tiny_judges", tmp_path, ("even", "odd"), names=SplitNames("train[:9]", "test")
    )
    assert evaluated.evaluation.place == "test"


class TinyTwice(TinyPictures):
    """Two splits of one role, one of none, and a record without a label."""

    def _split_generators(self, dl_manager):
        return {name: self._some() for name in ("train", "val", "validation", "extra")}

    def _some(self):
        for index, example in itertools.islice(self._generate_examples(), 9):
            yield index, example | ({"label": -1} if index == 7 else {})


def test_what_tfds_leaves_open_is_asked_and_what_is_not_used_is_told(tmp_path):
    with pytest.raises(
        UserError, match="both val and validation; say which is meant: validation_split=val or"
    ):
        datasets.open_dataset("tiny_twice", tmp_path)
    names = SplitNames(validation="val")
    dataset = datasets.open_dataset("tiny_twice", tmp_path, names=names)
    assert dataset.notes == ("tiny_twice: not used: validation (9 pictures), extra (9 pictures).",)
    both = SplitNames(train="train+extra", validation="val", test="validation")
    whole = datasets.open_dataset("tiny_twice", tmp_path, names=both)
    assert (whole.train.examples, whole.notes) == (18, ())
    part = SplitNames(train="train[:4]+extra", validation="val", test="validation")
    told = datasets.open_dataset("tiny_twice", tmp_path, names=part).notes
    assert told == ("tiny_twice: not used: 5 of the 9 pictures of train.",)
    read = list(dataset.train.read(None).ignore_errors())
    assert len(read) == 8 and min(int(one["label"]) for one in read) == 0
    faults = filter(None, map(dataset.train.fault_of, range(9)))
    assert list(faults) == ["it has no label"]


def test_tfds_with_an_evaluation_split_alone_is_evaluated(tmp_path):
    assert (
        datasets.open_evaluation("tiny_test", tmp_path, ("even", "odd")).evaluation.examples == 50
    )
    with pytest.raises(UserError, match="no split named train, only test; pass train_split="):
        datasets.open_dataset("tiny_test", tmp_path)
    names = SplitNames(train="test")
    assert datasets.open_dataset("tiny_test", tmp_path, names=names).train.examples == 45
    alone = SplitNames(train="test[:1]", test="test[1:2]")
    with pytest.raises(UserError, match="has only 1 picture, and none left to evaluate on"):
        datasets.open_dataset("tiny_test", tmp_path, names=alone, choosing=True)


def test_tfds_with_train_and_test_keeps_a_tenth_to_choose_by(tmp_path):
    names = SplitNames(train="train", test="validation")
    dataset = datasets.open_dataset("tiny_splits", tmp_path, names=names, choosing=True)
    assert (dataset.train.examples, dataset.evaluation.examples, dataset.test.name) == (
        45,
        5,
        "validation",
    )
    assert "train[90%:] chooses the weights and the rate; test does not" in dataset.notes[0]
    assert names.is_test(dataset.test.place) and not dataset.test.held_out
    assert dataset.evaluation.held_out and dataset.evaluation.place is None
    plain = datasets.open_dataset("tiny_splits", tmp_path, names=names)
    assert plain.train.examples == 50 and plain.evaluation is plain.test
