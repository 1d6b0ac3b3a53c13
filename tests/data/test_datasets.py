"""What is read, in which order, and what is refused before any work."""

import json
import shutil
import types

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from conftest import CLASS_NAMES
from tiny_pictures import TinyPictures

from alexnet_tf.data import datasets, prepared, shapes, store
from alexnet_tf.data import tfds as our_tfds
from alexnet_tf.data.names import SplitNames
from alexnet_tf.data.splits import Split
from alexnet_tf.errors import UserError


class TinySentences(tfds.core.GeneratorBasedBuilder):
    """No pictures at all."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict({"text": tfds.features.Text()})
        )

    def _split_generators(self, dl_manager):
        raise AssertionError("refused before it is prepared")

    _generate_examples = _split_generators


class TinyDepths(TinySentences):
    """Distances, which TFDS stores as if they were levels."""

    def _info(self):
        image = tfds.features.Image(shape=(8, 8, 1), dtype=np.float32)
        label = tfds.features.ClassLabel(names=["near", "far"])
        features = tfds.features.FeaturesDict({"image": image, "label": label})
        return tfds.core.DatasetInfo(builder=self, features=features)


@pytest.mark.parametrize("name", ["folder", "shapes", "tiny_pictures"])
def test_an_empty_text_names_no_folder_for_data(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for opened in (
        lambda: datasets.open_dataset(name, ""),
        lambda: datasets.open_evaluation(name, "", CLASS_NAMES),
    ):
        with pytest.raises(UserError, match="^data_dir= is an empty path; pass a file"):
            opened()
    assert not list(tmp_path.iterdir())


def pictures_in(split, epoch_seed=None):
    seed = None if epoch_seed is None else tf.constant(epoch_seed, tf.int64)
    return [int(record["picture"]) for record in split.read(seed)]


def test_folder_is_read_whole_and_labels_are_the_sorted_names(picture_folder):
    dataset = datasets.open_dataset("folder", picture_folder)
    assert dataset.class_names == CLASS_NAMES
    assert (dataset.train.examples, dataset.evaluation.examples, dataset.evaluation.name) == (
        24,
        9,
        "test",
    )
    for record in dataset.train.read(None):
        path = dataset.train.name_of(int(record["picture"]))
        assert f"/{CLASS_NAMES[int(record['label'])]}/" in path
        assert tf.io.read_file(path) == record["image"]


def test_order_is_a_function_of_the_seed_for_folder_and_tfds(picture_folder, tmp_path):
    for dataset in (
        datasets.open_dataset("folder", picture_folder),
        datasets.open_dataset("tiny_pictures", tmp_path / "tfds"),
    ):
        split = dataset.train
        orders = [pictures_in(split, seed) for seed in (1, 1, 2)]
        assert orders[0] == orders[1] != orders[2]
        assert (
            sorted(orders[0])
            == sorted(orders[2])
            == pictures_in(split)
            == list(range(split.examples))
        )


def test_tfds_without_a_second_split_is_divided_and_says_so(tmp_path):
    dataset = datasets.open_dataset("tiny_pictures", tmp_path)
    assert (dataset.train.examples, dataset.evaluation.examples) == (45, 5)
    assert "no validation or test split" in dataset.notes[0]
    values = {
        name: [int(tf.io.decode_jpeg(record["image"])[0, 0, 0]) for record in split.read(None)]
        for name, split in (("train", dataset.train), ("evaluation", dataset.evaluation))
    }
    # each picture is in one of them
    assert len(set(values["train"]) | set(values["evaluation"])) == 50


def test_folder_without_a_second_split_is_divided_by_class(picture_folder):
    dataset = datasets.open_dataset("folder", picture_folder / "train", seed=4)
    count = dataset.evaluation.examples
    assert dataset.train.examples + count == 24 and 3 <= count <= 6
    assert {int(record["label"]) for record in dataset.evaluation.read(None)} == {0, 1, 2}
    again = datasets.open_dataset("folder", picture_folder / "train", seed=4)
    assert [dataset.evaluation.name_of(i) for i in range(count)] == [
        again.evaluation.name_of(i) for i in range(count)
    ]
    assert f"{count} of 24 pictures, drawn per class with seed=4" in dataset.notes[0]


def test_shapes_are_the_same_wherever_they_are_drawn():
    assert (
        shapes.draw_jpeg("train", 3) == shapes.draw_jpeg("train", 3) != shapes.draw_jpeg("test", 3)
    )
    height, width, channels = tf.io.decode_jpeg(shapes.draw_jpeg("test", 11)).shape
    assert channels == 3 and {height, width} <= set(range(144, 289))


def test_textures_of_the_other_task_are_the_same_wherever_they_are_drawn():
    draw = shapes.draw_texture_jpeg
    assert draw("train", 7) == draw("train", 7)
    drawn = {draw(split, number) for split in ("train", "test") for number in range(15)}
    assert len(drawn | {shapes.draw_jpeg("train", number) for number in range(15)}) == 45
    # all of a class's shapes come: a period of 5 textures by 3 shapes
    assert not set(shapes.OTHER_SHAPES) & set(shapes.SHAPES)


@pytest.mark.parametrize(
    "shape,share", [("triangle", 0.325), ("square", 0.49), ("cross", 0.45), ("disc", 0.785)]
)
def test_a_shape_covers_what_its_outline_does(shape, share):
    """Of its square, less a squeeze of at most a fifth: by hand, 3 sqrt(3) / 16, 1.4^2 / 4, ..."""
    for seed in range(5):
        mask = shapes.shape_mask(np.random.default_rng(seed), shape, 100)
        assert 0.79 * share < mask.mean() < 1.01 * share and set(np.unique(mask)) >= {0, 1}


def spoil(folder, what):
    if what == "missing":
        shutil.rmtree(folder)
    elif what == "empty class":
        shutil.rmtree(folder / "train" / CLASS_NAMES[1])
        (folder / "train" / CLASS_NAMES[1]).mkdir()
    elif what == "one class":
        for name in CLASS_NAMES[1:]:
            shutil.rmtree(folder / "train" / name)
    elif what == "other classes":
        (folder / "test" / CLASS_NAMES[0]).rename(folder / "test/else")


@pytest.mark.parametrize(
    "what,message",
    [
        ("missing", "is not a folder"),
        ("empty class", f"{CLASS_NAMES[1]} holds no picture"),
        ("one class", "holds 1 folder of pictures .*; a classifier needs at least 2"),
        (
            "other classes",
            r"test: else is not one of the 3 classes \(checked disc, plain star, striped disc\)",
        ),
    ],
)
def test_what_cannot_be_learned_from_is_refused(picture_folder, what, message):
    spoil(picture_folder, what)
    with pytest.raises(UserError, match=message) as error:
        datasets.open_dataset("folder", picture_folder)
    assert "\n" not in str(error.value)


def test_a_picture_with_something_behind_its_end_is_no_mistake(picture_folder):
    jpeg = sorted((picture_folder / "train").glob("*/*.jpg"))[0]
    jpeg.write_bytes(jpeg.read_bytes() + b"camera notes")
    assert datasets.open_dataset("folder", picture_folder).train.examples == 24


def test_files_that_are_no_pictures_are_passed_over_and_told(picture_folder):
    (picture_folder / "train" / CLASS_NAMES[0] / "notes.txt").write_text("x")
    (picture_folder / "train" / CLASS_NAMES[0] / ".DS_Store").write_text("x")
    dataset = datasets.open_dataset("folder", picture_folder)
    assert dataset.train.examples == 24
    assert dataset.notes == (
        f"{picture_folder}: not used: 1 file of .txt (first train/{CLASS_NAMES[0]}/notes.txt).",
    )


def test_a_class_of_one_picture_is_kept_for_training_and_a_folder_of_such_classes_refused(
    picture_folder,
):
    train = picture_folder / "train"
    for name in CLASS_NAMES[:2]:
        for picture in sorted((train / name).iterdir())[1:]:
            picture.unlink()
    assert datasets.open_dataset("folder", train).evaluation.examples == 1
    for picture in sorted((train / CLASS_NAMES[2]).iterdir())[1:]:
        picture.unlink()
    with pytest.raises(
        UserError, match="no class with two different .*; add pictures, or .*val/.$"
    ):
        datasets.open_dataset("folder", train)
    with pytest.raises(UserError, match="or pass patience=0, .* no callback that may choose, so"):
        datasets.open_dataset("folder", picture_folder, choosing=True)


def test_unknown_and_unsuitable_tfds_names_are_refused(tmp_path):
    with pytest.raises(UserError, match="no_such_set is neither"):
        datasets.open_dataset("no_such_set", tmp_path)
    with pytest.raises(UserError, match="tiny_sentences has no features named image and label"):
        datasets.open_dataset("tiny_sentences", tmp_path)
    with pytest.raises(UserError, match="tiny_depths has images of float32; only levels of 8 or"):
        datasets.open_dataset("tiny_depths", tmp_path)
    with pytest.raises(UserError, match="a b is neither"):
        datasets.open_dataset("a b", tmp_path)
    with pytest.raises(UserError, match="tiny_pictures/foo=1 is neither"):
        datasets.open_dataset("tiny_pictures/foo=1", tmp_path)
    with pytest.raises(UserError, match="pass data_dir=DIR"):
        datasets.open_dataset("folder")


def test_a_name_for_which_a_package_is_missing_is_one_line(tmp_path, monkeypatch):
    def builder(*_, **__):
        raise ModuleNotFoundError("No module named 'huggingface_hub'")

    monkeypatch.setattr(tfds, "builder", builder)
    line = r"^dataset=huggingface:beans cannot be opened \(No module named 'huggingface_hub'\); ins"
    with pytest.raises(UserError, match=line):
        datasets.open_dataset("huggingface:beans", tmp_path)


def test_what_another_process_prepares_meanwhile_is_taken(tmp_path, monkeypatch):
    generate, beside = TinyPictures._generate_examples, []

    def with_another(self):
        if not beside:
            beside.append(TinyPictures(data_dir=tmp_path))
            beside[0].download_and_prepare()
        yield from generate(self)

    monkeypatch.setattr(TinyPictures, "_generate_examples", with_another)
    dataset = datasets.open_dataset("tiny_pictures", tmp_path)
    assert len(pictures_in(dataset.train)) == 45 and beside


class TinyKinds(TinyPictures):
    """Of two configurations."""

    BUILDER_CONFIGS = [tfds.core.BuilderConfig(name=name, version="1.0.0") for name in "ab"]


def test_a_folder_in_the_place_of_a_name_is_told_where_it_belongs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "flower_photos").mkdir()
    with pytest.raises(UserError, match="; .* pass dataset=folder and data_dir=flower_photos"):
        datasets.open_dataset("flower_photos")
    with pytest.raises(UserError, match="; see https://"):
        datasets.open_dataset("flower_pictures")


@pytest.mark.long
def test_another_configuration_or_version_than_the_one_named_is_refused(tmp_path):
    kept = tmp_path / "tiny_kinds/a/1.0.0"
    some = datasets.open_dataset("tiny_kinds/a", tmp_path, names=SplitNames(train="train[:5]"))
    store.write(some, tmp_path / "store/3.0.0", 95)
    a, of_a = kept.parent, tmp_path / "store"
    for name, place in (
        ("tiny_kinds/b", a),
        ("tiny_kinds/b", kept),
        ("tiny_kinds/b", of_a),
        ("tiny_kinds/config=b", kept),
        ("tiny_kinds/a:2.0.0", kept),
        ("tiny_kinds:1.1.*", kept),
        ("tiny_kinds:3.0.0", of_a),
    ):
        there = f"{place if place != a else kept}{'/3.0.0' * (place == of_a)}"
        told = f"{there} holds tiny_kinds/a/1.0.0, not {name}; pass dataset=tiny_kinds/a, or"
        with pytest.raises(UserError) as error:
            datasets.open_dataset(name, place)
        assert str(error.value).startswith(told)
        with pytest.raises(UserError) as error:
            datasets.open_evaluation(name, place, ("even", "odd"))
        assert str(error.value).startswith(told)
    for name in ("tiny_kinds", "tiny_kinds/a", "tiny_kinds/a:1.*.*", "tiny_kinds/a/1.0.0"):
        for place, examples in ((kept, 45), (of_a, 4)):
            assert datasets.open_dataset(name, place).train.examples == examples
    assert datasets.open_dataset("folder", kept).train.examples == 45
    # the folder of all its configurations
    assert datasets.open_dataset("tiny_kinds/a", a.parent).train.examples == 45
    assert not (a.parent / "tiny_kinds").exists()
    # of what has no configuration
    datasets.open_dataset("tiny_pictures", tmp_path)
    with pytest.raises(UserError, match="holds tiny_pictures/1.0.0, not tiny_pictures/c; pass dat"):
        datasets.open_dataset("tiny_pictures/c", tmp_path / "tiny_pictures")


def test_of_what_a_store_was_made_is_known_where_that_had_a_configuration(tmp_path):
    builder = types.SimpleNamespace(
        name="mine", data_dir=tmp_path, info=types.SimpleNamespace(full_name="mine/3.0.0")
    )
    assert prepared.made_of(builder) == ("mine", "", "3.0.0")
    (tmp_path / prepared.IDENTITIES).write_bytes(b"")
    assert prepared.made_of(builder) == ("mine", None, None)
    for name, known in (
        ("mine/a/1.0.0", ("mine", "a", "1.0.0")),
        ("mine/1.0.0", ("mine", None, None)),  # may be that of a store
        ("0" * 64, ("mine", None, None)),  # of a folder
    ):
        source = {"fingerprint": f"{name}, 7 bytes: train 3"}
        (tmp_path / prepared.STATISTICS).write_text(json.dumps({"source": source}))
        assert prepared.made_of(builder) == known


def test_records_that_tensorflow_does_not_read_are_refused(tmp_path):
    TinyPictures(data_dir=tmp_path, file_format="array_record").download_and_prepare()
    for name, folder in (("tiny_pictures", ""), ("folder", "tiny_pictures/1.0.0")):
        with pytest.raises(UserError, match="are stored as array_record, .*file_format=tfrecord"):
            datasets.open_dataset(name, tmp_path / folder)
    assert datasets.open_dataset("tiny_pictures", tmp_path / "another").train.examples == 45


def test_what_was_prepared_is_known_by_its_pictures_in_their_order(tmp_path):
    """Exchanged between classes of equal counts, at equal sizes, they are others."""
    builder = types.SimpleNamespace(
        data_dir=tmp_path, info=types.SimpleNamespace(full_name="mine/1.0.0", dataset_size=7)
    )
    (tmp_path / "identities.npz").write_bytes(b"")

    def fingerprint(*identities):
        unread = (None,) * 4  # how its pictures are read
        split = Split("train", 2, *unread, identities=np.array(identities, np.uint64))
        return our_tfds.fingerprint_of(builder, split, None)

    assert fingerprint(3, 5) == fingerprint(3, 5)
    assert len({fingerprint(3, 5), fingerprint(5, 3), fingerprint(3, 6)}) == 3
