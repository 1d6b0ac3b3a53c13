"""A data set stored at 256 x 256: the pixels of training, read by TFDS and by us, whole after any
kill; what is refused.
"""

import dataclasses
import io
import json
import os
import shutil
import struct
import types

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
import tiny_pictures  # noqa: F401  registers the data set
from binaries import call
from conftest import CLASS_NAMES, tool, write_picture_folder
from PIL import Image

from alexnet_tf import disk, picture_files, preprocessing
from alexnet_tf.commands import prepare
from alexnet_tf.data import datasets, prepared, splits, store
from alexnet_tf.errors import UserError
from alexnet_tf.preprocessing import Preprocessing

WHOLE = Preprocessing(image_size=256, resize=256, channels=3, mean=(0.0,) * 3, std=1.0)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A folder of 24 pictures to train and 9 to test."""
    return write_picture_folder(tmp_path_factory.mktemp("originals"))


@pytest.fixture(scope="module")
def stored(pictures, tmp_path_factory):
    """The folder of versions of a store of `pictures` in shards of 5; what store.write returned."""
    output = tmp_path_factory.mktemp("store")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "SHARD_PICTURES", 5)
        return output, store.write(
            datasets.open_dataset("folder", pictures), output / "1.0.0", quality=95
        )


def test_what_is_stored_is_not_replaced_by_results(stored):
    output, _ = stored
    for path in (output / "1.0.0").iterdir():
        if ".tfrecord-" not in path.name:
            with pytest.raises(UserError, match="is where a prepared data set keeps a file of its"):
                disk.check_place(path, "json")


def crops(split):
    """[(label, uint8 [256, 256, 3])] of a split of originals, as training sees them before it takes
    its window.
    """
    return [
        (
            int(record["label"]),
            preprocessing.central_crop(preprocessing.decode(record["image"]), WHOLE).numpy(),
        )
        for record in split.read(None)
    ]


def memory_dataset(contents):
    """A Dataset of (bytes, label) in memory, the same to train and to evaluate, by names of which
    TFDS takes one.
    """
    images, labels = (tf.constant(column) for column in zip(*contents))

    def stubs(epoch_seed):
        rng = np.random.default_rng(0 if epoch_seed is None else int(epoch_seed))
        return tf.data.Dataset.from_tensor_slices({"picture": rng.permutation(len(contents))})

    def load(stub):
        return {
            "image": images[stub["picture"]],
            "label": tf.cast(labels[stub["picture"]], tf.int64),
            "picture": stub["picture"],
        }

    train, test = (
        splits.Split(
            split,
            len(contents),
            stubs,
            load,
            lambda picture: tf.data.Dataset.from_tensors({"picture": picture}),
            lambda picture, split=split: f"{split} {picture}",
        )
        for split in ("train", "held out")
    )
    return splits.Dataset("folder", CLASS_NAMES, train, test, "in memory")


def flat_jpeg(level):
    stream = io.BytesIO()
    Image.new("RGB", (20, 16), (level, 100, 200)).save(stream, "JPEG")
    return stream.getvalue()


def run_length_bmp():
    """Of 9 x 1 pixels, all of the second colour."""
    info = struct.pack("<IiiHHIIiiII", 40, 9, 1, 1, 8, 1, 6, 0, 0, 256, 0)
    begin = 14 + len(info) + 1024
    return (
        struct.pack("<2sIHHI", b"BM", begin + 6, 0, 0, begin)
        + info
        + bytes(range(256)) * 4
        + (b"\x09\x01\0\0\0\1")
    )


def files_of(directory):
    return {path.name: path.read_bytes() for path in sorted(directory.iterdir())}


def test_tfds_reads_the_pictures_that_training_would_have_made(pictures, stored):
    originals = datasets.open_dataset("folder", pictures)
    builder = tfds.builder_from_directory(stored[0] / "1.0.0")
    assert builder.info.features["label"].names == list(CLASS_NAMES)
    assert builder.info.splits["train"].shard_lengths == [5, 5, 5, 5, 4]
    for split, of_originals in (("train", originals.train), ("test", originals.evaluation)):
        left, labels = crops(of_originals), []
        for example in tfds.as_numpy(builder.as_dataset(split)):
            distances = [np.abs(crop.astype(float) - example["image"]).mean() for _, crop in left]
            label, _ = left.pop(int(np.argmin(distances)))
            assert min(distances) < 4 and example["label"] == label
            labels.append(label)
        assert not left and labels != sorted(labels)  # each once, shuffled


def test_a_store_stands_for_what_it_was_made_of(pictures, stored):
    originals = datasets.open_dataset("folder", pictures)
    for data_dir in (stored[0], stored[0] / "1.0.0", str(stored[0])):
        dataset = datasets.open_dataset("folder", data_dir)
        assert (
            dataset.name,
            dataset.class_names,
            dataset.train.examples,
            dataset.evaluation.examples,
        ) == (originals.name, originals.class_names, 24, 9)
        assert dataset.evaluation.name == "test" and dataset.statistics.keys() == {
            "mean",
            "colour_pca",
        }
    with pytest.raises(
        UserError, match="holds the data set folder, not cifar10; pass dataset=folder"
    ):
        datasets.open_dataset("cifar10", stored[0])


def test_statistics_are_those_of_all_training_pixels(pictures, stored):
    images = np.stack([crop for _, crop in crops(datasets.open_dataset("folder", pictures).train)])
    levels = images.reshape(-1, 3)
    statistics = prepared.read_statistics(stored[0] / "1.0.0")
    np.testing.assert_allclose(statistics["mean"], levels.mean(0), rtol=1e-9)
    rows = np.array(statistics["colour_pca"])
    np.testing.assert_allclose(rows.T @ rows, np.cov(levels.T, bias=True), rtol=1e-9)
    mean_image = np.load(stored[0] / "1.0.0" / prepared.MEAN_IMAGE)
    np.testing.assert_allclose(mean_image, images.mean(0), rtol=1e-6)
    assert stored[1]["pictures"] == {"train": 24, "test": 9} and stored[1]["bad_pictures"] == []


def dying(function, call, error=KeyboardInterrupt):
    """`function`, but when it is called for the `call`-th time, the process is killed, or `error`
    raised.
    """
    calls = []

    def called(*arguments):
        calls.append(arguments)
        if len(calls) == call:
            raise error
        return function(*arguments)

    return called


# Pictures are also encoded to foretell the size: 24 of them, all there are to train.
@pytest.mark.parametrize(
    "owner,function,call,done",
    [
        (store, "_example", 24 + 2, 0),
        (store, "_example", 24 + 13, 2),
        (store, "_example", 24 + 24 + 3, 5),
        (store._Tally, "write", 3, 2),
        (store, "_write_metadata", 1, 7),
    ],
)
def test_a_killed_run_goes_on_with_the_first_missing_shard(
    pictures, stored, tmp_path, monkeypatch, owner, function, call, done
):
    monkeypatch.setattr(store, "SHARD_PICTURES", 5)
    dataset = datasets.open_dataset("folder", pictures)
    with monkeypatch.context() as patch:
        patch.setattr(owner, function, dying(getattr(owner, function), call))
        patch.setattr(os, "cpu_count", lambda: 1)  # of more threads any may be the one that dies
        with pytest.raises(KeyboardInterrupt):
            store.write(dataset, tmp_path / "1.0.0", 95)
    assert not (tmp_path / "1.0.0").exists() and prepared.find(tmp_path) is None
    shards = sorted(
        (tmp_path / ".1.0.0.beginning").glob("folder-t*.tfrecord*"),
        key=lambda path: path.stat().st_mtime_ns,
    )
    kept = {path.name: path.stat().st_ino for path in shards[:done]}
    with pytest.raises(UserError, match="holds the beginning of something else"):
        store.write(dataset, tmp_path / "1.0.0", 80)
    source = tmp_path / ".1.0.0.beginning/source.json"
    text = source.read_text()
    source.write_text(text[:9])
    with pytest.raises(UserError, match="holds the beginning of something else"):
        store.write(dataset, tmp_path / "1.0.0", 95)
    source.write_text(text)
    store.write(dataset, tmp_path / "1.0.0", 95)
    assert files_of(tmp_path / "1.0.0") == files_of(stored[0] / "1.0.0")
    assert len(kept) == done and all(
        (tmp_path / "1.0.0" / name).stat().st_ino == inode for name, inode in kept.items()
    )
    assert [path.name for path in tmp_path.iterdir()] == ["1.0.0"]


def test_what_is_stored_is_not_stored_again_nor_mixed_with_another(pictures, stored, tmp_path):
    (tmp_path / "1.0.0").mkdir()
    with pytest.raises(UserError, match="1.0.0 already exists and holds something else"):
        store.write(datasets.open_dataset("folder", pictures), tmp_path / "1.0.0", 95)
    before = files_of(stored[0] / "1.0.0")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "SHARD_PICTURES", 5)
        assert (
            store.write(datasets.open_dataset("folder", pictures), stored[0] / "1.0.0", 95)
            == stored[1]
        )
    assert files_of(stored[0] / "1.0.0") == before


def test_what_is_stored_and_has_lost_records_is_not_taken_for_whole(
    pictures, stored, tmp_path, monkeypatch
):
    monkeypatch.setattr(store, "SHARD_PICTURES", 5)
    shutil.copytree(stored[0] / "1.0.0", tmp_path / "1.0.0")
    lost = tmp_path / "1.0.0/folder-test.tfrecord-00001-of-00002"
    lost.unlink()
    with pytest.raises(
        UserError, match=f"but is incomplete: it lacks {lost.name}; remove it, and run"
    ):
        store.write(datasets.open_dataset("folder", pictures), tmp_path / "1.0.0", 95)


def test_a_store_is_of_its_classes_and_their_names(tmp_path):
    folder = write_picture_folder(tmp_path / "pictures")

    def fingerprint(version):
        store.write(datasets.open_dataset("folder", folder), tmp_path / f"store/{version}", 95)
        return datasets.open_dataset("folder", tmp_path / "store").fingerprint

    first = fingerprint("1.0.0")
    # Its last pictures were of the next class: the order of all stays as it was.
    last = sorted((folder / "train" / CLASS_NAMES[0]).iterdir())[-2:]
    for path in last:
        path.rename(folder / "train" / CLASS_NAMES[1] / f"0-{path.name}")
    assert fingerprint("1.1.0") != first
    for split in ("train", "test"):
        (folder / split / CLASS_NAMES[1]).rename(folder / split / "plain stars")
    with pytest.raises(UserError, match="1.1.0 already exists and holds something else"):
        fingerprint("1.1.0")


def test_check_tells_what_a_training_leaves_out(tmp_path):
    folder = write_picture_folder(tmp_path / "pictures")
    of_class = folder / "train" / CLASS_NAMES[0]
    for name in ("x.tif", "9.23\u202fPM.tif"):  # of which one is shown quoted
        Image.open(next(folder.rglob("*.jpg"))).save(of_class / name)
    given = ("--dataset=folder", f"--data_dir={folder}", "--check", f"--json={tmp_path}/c.json")
    with pytest.raises(SystemExit) as left:
        call(prepare, *given)
    assert left.value.code == 0
    listed = json.loads((tmp_path / "c.json").read_text())
    assert listed["not_used"] == [
        f"{picture_files.shown(of_class / name)}: not used in training; alexnet prepare stores"
        " it as a JPEG"
        for name in ("9.23\u202fPM.tif", "x.tif")
    ]


def test_check_lists_what_a_training_cannot_read_though_prepare_does(tmp_path, capsys):
    """By content: a training takes them for the pictures that their names promise."""
    folder = write_picture_folder(tmp_path / "pictures")
    of_class = folder / "train" / CLASS_NAMES[0]
    picture = Image.open(next(folder.rglob("*.jpg")))
    picture.save(of_class / "x.jpg", "TIFF")
    picture.save(of_class / "y.jpeg", "AVIF")
    picture.save(of_class / "fine.jpg", "BMP")
    (of_class / "z.bmp").write_bytes(run_length_bmp())
    assert len(datasets.open_dataset("folder", folder).bad_pictures) == 3
    with pytest.raises(SystemExit) as left:
        call(prepare, "--dataset=folder", f"--data_dir={folder}", "--check")
    said = capsys.readouterr().out
    assert left.value.code == 1
    for name, form in (("x.jpg", "TIFF"), ("y.jpeg", "AVIF"), ("z.bmp", "")):
        assert f"{of_class}/{name} cannot be read in training ({form}" in said
    assert "fine.jpg" not in said


@pytest.mark.parametrize("flag", ["output=there", "version=1.0.0", "quality=90"])
def test_what_has_no_effect_beside_check_is_refused(tmp_path, flag):
    with pytest.raises(UserError, match=f"^{flag} has no effect with --check"):
        call(prepare, "--dataset=folder", f"--data_dir={tmp_path}", "--check", f"--{flag}")


def test_a_larger_network_than_the_store_is_told(stored):
    dataset, notes = datasets.open_dataset("folder", stored[0]), []
    for resize in (256, 406):
        pixels = Preprocessing(227, resize, 3, (0.0,) * 3, 1.0)
        splits.tell_of_side(dataset, pixels, notes.append)
    (note,) = notes
    assert "was stored at 256 x 256, and is scaled up to 406" in note


def test_bad_pictures_are_left_out_named_and_counted(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(store, "SHARD_PICTURES", 2)  # so that a shard may end up empty
    dataset = memory_dataset(
        [(flat_jpeg(10), 0), (b"<html>", 1), (flat_jpeg(30), 2), (b"", 1), (flat_jpeg(50), 1)]
    )
    with pytest.raises(
        UserError,
        match="More than max_bad_pictures=3 pictures cannot be read; alexnet prepare --check lists",
    ):
        store.write(dataset, tmp_path / "1.0.0", 95, max_bad_pictures=3)
    statistics = store.write(dataset, tmp_path / "1.0.0", 95, max_bad_pictures=4)
    assert statistics["pictures"] == {"train": 3, "validation": 3}
    assert sorted(line.split(" cannot")[0] for line in statistics["bad_pictures"]) == [
        "held out 1",
        "held out 3",
        "train 1",
        "train 3",
    ]
    told = capfd.readouterr().err
    assert "train 1 cannot be read (a web page; fetch the picture again)" in told, told
    store_of_three = datasets.open_dataset("folder", tmp_path)
    reds = {
        int(record["label"]): int(preprocessing.decode(record["image"])[9, 9, 0])
        for record in store_of_three.train.read(None)
    }
    assert {label: round(red, -1) for label, red in reds.items()} == {0: 10, 1: 50, 2: 30}
    np.testing.assert_allclose(store_of_three.statistics["mean"], [30, 100, 200], atol=2)


def test_check_lists_what_does_not_decode_and_files_of_two_classes_or_splits():
    # of two classes, twice in one, and also held out
    flat = [flat_jpeg(level) for level in (10, 30, 50)]
    train = memory_dataset(
        [(flat[0], 0), (b"<html>", 1), (flat[0], 1), (flat[1], 2), (flat[1], 2), (flat[2], 1)]
    )
    bad, identical = store.check(
        dataclasses.replace(train, evaluation=memory_dataset([(flat[2], 1)]).evaluation)
    )
    assert [line.split(" (")[0] for line in bad] == ["train 1 cannot be read"]
    assert sorted(sorted(names) for names in identical) == [
        ["held out 0", "train 5"],
        ["train 0", "train 2"],
    ]


def test_a_disk_that_is_full_or_not_ours_ends_in_a_line(tmp_path, monkeypatch):
    dataset = memory_dataset([(flat_jpeg(10), 0), (flat_jpeg(30), 1)])
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: types.SimpleNamespace(free=1000))
        with pytest.raises(UserError, match=r"needs 0\.0 GB on a disk that has 0\.0 GB left"):
            store.write(dataset, tmp_path / "1.0.0", 95)
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match=r"cannot be written \(Not a directory\)"):
        store.write(dataset, tmp_path / "file/1.0.0", 95)
    full = tf.errors.ResourceExhaustedError(None, None, "no space")
    with monkeypatch.context() as patch:
        patch.setattr(tf.io, "TFRecordWriter", dying(tf.io.TFRecordWriter, 2, full))
        with pytest.raises(
            UserError, match=r"1\.0\.0 cannot be written \(no space\); what was stored stays"
        ):
            store.write(dataset, tmp_path / "1.0.0", 95)
    assert store.write(dataset, tmp_path / "1.0.0", 95)["pictures"] == {"train": 2, "validation": 2}


def test_pictures_held_out_with_another_seed_are_another_source(pictures, tmp_path, monkeypatch):
    monkeypatch.setattr(store, "_write_metadata", dying(store._write_metadata, 1))
    with pytest.raises(KeyboardInterrupt):
        store.write(
            datasets.open_dataset("folder", pictures / "train", seed=1), tmp_path / "1.0.0", 95
        )
    with pytest.raises(UserError, match="holds the beginning of something else"):
        store.write(
            datasets.open_dataset("folder", pictures / "train", seed=2), tmp_path / "1.0.0", 95
        )


@pytest.mark.parametrize(
    "content",
    [
        "{}",
        '{"mean": [1, 2], "colour_pca": [[1, 2, 3], [1, 2, 3], [1, 2, 3]]}',
        "[",
        '{"mean": [1, 2, NaN], "colour_pca": [[1, 2, 3], [1, 2, 3], [1, 2, 3]]}',
    ],
)
def test_statistics_that_are_none_are_refused(tmp_path, content):
    assert prepared.read_statistics(tmp_path) is None
    (tmp_path / prepared.STATISTICS).write_text(content)
    with pytest.raises(
        UserError, match="does not hold a mean of 3 and a colour_pca of 3 x 3 numbers"
    ):
        prepared.read_statistics(tmp_path)


@pytest.mark.parametrize(
    "name,content,message",
    [
        ("folder-train.tfrecord-00002-of-00005", None, "1 of the 7 files of records are missing"),
        ("folder-test.tfrecord-00001-of-00002", None, "1 of the 7 files of records are missing"),
        ("label.labels.txt", None, "label.labels.txt does not name its 3 classes; copy the whole"),
        ("label.labels.txt", "checked disc\nplain", "label.labels.txt does not name its 3 classes"),
        ("dataset_info.json", '{"name": "fol', "TFDS cannot read dataset_info.json"),
    ],
)
def test_a_store_that_was_not_copied_whole_is_refused(stored, tmp_path, name, content, message):
    """A file of records that is not there was tried without end."""
    shutil.copytree(stored[0] / "1.0.0", tmp_path / "1.0.0")
    path = tmp_path / "1.0.0" / name
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises(UserError, match=f"^{tmp_path}/1.0.0: {message}"):
        datasets.open_dataset("folder", tmp_path)


def test_records_whose_file_has_gone_since_are_bad_ones(stored, tmp_path):
    shutil.copytree(stored[0] / "1.0.0", tmp_path / "1.0.0")
    split = datasets.open_dataset("folder", tmp_path).train
    (tmp_path / "1.0.0/folder-train.tfrecord-00002-of-00005").unlink()
    records = list(split.stubs(None).as_numpy_iterator())
    assert [int(stub["picture"]) for stub in records if not stub["serialized"]] == [*range(10, 15)]
    # what judges needs no others
    for path in (tmp_path / "1.0.0").glob("folder-train.*"):
        path.unlink()
    assert datasets.open_evaluation("folder", tmp_path, CLASS_NAMES).evaluation.examples == 9


def test_a_store_at_a_relative_path_is_read_from_any_folder(stored, tmp_path, monkeypatch):
    shutil.copytree(stored[0], tmp_path / "store")
    monkeypatch.chdir(tmp_path)
    split = datasets.open_dataset("folder", "store").train
    tiny = datasets.open_dataset("tiny_pictures", "kept").train
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    for one in (split, tiny):
        assert all(stub["serialized"] for stub in one.stubs(None).as_numpy_iterator())


def test_the_highest_version_is_taken(tmp_path):
    for version in ("1.0.0", "1.10.0", "1.9.0", "2.0.0"):
        (tmp_path / version).mkdir()
        if version != "2.0.0":  # unfinished
            (tmp_path / version / "dataset_info.json").write_text("{}")
    assert prepared.find(tmp_path) == tmp_path / "1.10.0" == prepared.find(tmp_path / "1.10.0")


@pytest.mark.long
def test_training_from_the_store_is_the_same_command(run, pictures, tmp_path):
    run(
        tool("prepare_dataset.py"),
        "--dataset=folder",
        f"--data_dir={pictures}",
        "--output=store",
        "--json=s.json",
        cwd=tmp_path,
    )
    figures = json.loads((tmp_path / "s.json").read_text())
    assert (
        figures["pictures, train"],
        figures["pictures, test"],
        figures["bad pictures, left out"],
    ) == (24, 9, 0)
    run(
        "-m",
        "alexnet_tf.train",
        "--dataset=folder",
        "--data_dir=store",
        "--variant=half",
        "--image_size=67",
        "--batch_size=6",
        "--epochs=1",
        "--xla=off",
        "--model_dir=model",
        cwd=tmp_path,
    )
    settings = json.loads((tmp_path / "model/settings.json").read_text())
    assert (
        settings["preprocessing"]["mean"]
        == prepared.read_statistics(tmp_path / "store/1.0.0")["mean"]
    )
    assert settings["class_names"] == list(CLASS_NAMES)


def test_check_lists_bad_pictures_with_status_1_and_writes_nothing(
    pictures, tmp_path, monkeypatch, capsys
):
    shutil.copytree(pictures, tmp_path / "spoilt")
    (tmp_path / "spoilt/train" / CLASS_NAMES[0] / "x.jpg").write_bytes(
        b"\xff\xd8\xff no picture, but it ends as one \xff\xd9"
    )
    shutil.copy(
        next((pictures / "test" / CLASS_NAMES[1]).iterdir()),
        tmp_path / "spoilt/train" / CLASS_NAMES[2] / "copy.jpg",
    )
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as left:
        call(prepare, "--dataset=folder", "--data_dir=spoilt", "--check", "--json=c.json")
    printed = capsys.readouterr().out
    assert left.value.code == 1
    listed = json.loads((tmp_path / "c.json").read_text())
    (line,) = listed["bad"]
    assert (
        line.startswith(f"spoilt/train/{CLASS_NAMES[0]}/x.jpg cannot be read (")
        and line in printed.splitlines()
    )
    assert [len(names) for names in listed["identical"]] == [
        2
    ] and f"/{CLASS_NAMES[2]}/copy.jpg" in printed
    assert sorted(tmp_path.rglob("*")) == sorted([*before, tmp_path / "c.json"])


def test_nothing_to_do_is_one_line(run, tmp_path):
    assert "pass --output=DIR to store" in run(tool("prepare_dataset.py"), cwd=tmp_path, status=2)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("output", ["set", "set/stored", "link/below"])
def test_nothing_is_stored_among_the_pictures(run, tmp_path, output):
    """It would be read from then on, whatever pictures are added."""
    write_picture_folder(tmp_path / "set")
    (tmp_path / "link").symlink_to("set")
    before = sorted(tmp_path.rglob("*"))
    flags = ("--dataset=folder", "--data_dir=set", f"--output={output}")
    line = run("-m", "alexnet_tf", "prepare", *flags, cwd=tmp_path, status=2)
    assert f"--output={output} lies in --data_dir=set, so the stored pictures would be read" in line
    assert sorted(tmp_path.rglob("*")) == before


def test_nothing_is_stored_where_tfds_keeps_the_originals(tmp_path):
    given = ("--dataset=tiny_pictures", f"--data_dir={tmp_path}/tfds")
    with pytest.raises(UserError, match="/tfds/. lies in --data_dir=.*instead of the originals"):
        call(prepare, *given, f"--output={tmp_path}/tfds/.")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("version", ["01.0.0", "1.0.00", "\u0661.0.0", "1.0"])
def test_a_version_that_tfds_does_not_take_is_refused(tmp_path, version):
    """TFDS said so when all was stored."""
    with pytest.raises(
        UserError, match=f"^--version={version} is not of the form 1.0.0, three num"
    ):
        call(prepare, f"--output={tmp_path}/store", f"--version={version}")
    assert not list(tmp_path.iterdir())


def test_a_version_that_no_training_reads_is_told(pictures, tmp_path, capsys):
    given = ("--dataset=folder", f"--data_dir={pictures}", f"--output={tmp_path}")
    for version, told in (("1.0.0", False), ("1.10.0", False), ("1.9.0", True)):
        call(prepare, *given, f"--version={version}")
        line = f"training reads {tmp_path}/1.10.0, the highest version there, not {tmp_path}/"
        assert (f"{line}{version}" in capsys.readouterr().err) == told


def test_a_seed_that_draws_nothing_is_refused(pictures, tmp_path):
    for given in (
        ("--dataset=folder", f"--data_dir={pictures}"),
        ("--dataset=tiny_pictures", f"--data_dir={tmp_path}/tfds"),
    ):
        with pytest.raises(
            UserError, match=f"^seed=1 has no effect: the pictures of {given[0][10:]}"
        ):
            call(prepare, *given, "--seed=1", f"--output={tmp_path}/store")
    assert not (tmp_path / "store").exists()
    given = ("--dataset=folder", f"--data_dir={pictures}/train", f"--output={tmp_path}/store")
    call(prepare, *given, "--seed=1")
    assert prepared.find(tmp_path / "store")


def test_a_class_of_which_nothing_can_be_stored_is_refused(tmp_path):
    folder = write_picture_folder(tmp_path / "pictures")
    dataset = datasets.open_dataset("folder", folder)
    victims = sorted((folder / "train" / CLASS_NAMES[1]).iterdir())
    for victim in victims:
        victim.write_bytes(victim.read_bytes()[:1000])
    with pytest.raises(UserError, match=f"the class {CLASS_NAMES[1]} holds no picture that can be"):
        store.write(dataset, tmp_path / "1.0.0", 95, max_bad_pictures=8)
    assert not (tmp_path / "1.0.0").exists()
