"""What cannot be read is named, counted and passed over, the same way on a resume and for every
number of workers.
"""

import functools
import itertools
import os
import pathlib
import struct

import hostile_pictures
import keras
import numpy as np
import pytest
import tensorflow as tf
import tiny_pictures  # noqa: F401  registers the data set
from conftest import CLASS_NAMES
from PIL import Image
from trainings import Bar

from alexnet_tf.data import bad_pictures, datasets, listing, own, pictures, pipeline, shapes, tfds
from alexnet_tf.errors import UserError
from alexnet_tf.network.model import build_model
from alexnet_tf.preprocessing import Preprocessing, decode_central_crop
from alexnet_tf.training import checkpoints, evaluation, loop, metrics
from alexnet_tf.training.optimizer import SGD2012

PIXELS = Preprocessing(image_size=28, resize=32, channels=1, mean=(120.0,), std=100.0)


@pytest.fixture
def damaged(picture_folder):
    """The folder as it was opened, and two training pictures that have been cut since, as has one
    to evaluate.
    """
    dataset = datasets.open_dataset("folder", picture_folder)
    train, test = picture_folder / "train", picture_folder / "test"
    victims = [train / CLASS_NAMES[0] / "1.jpg", sorted((train / CLASS_NAMES[1]).glob("*.png"))[0]]
    for victim in (*victims, next((test / CLASS_NAMES[2]).glob("*.jpg"))):
        victim.write_bytes(victim.read_bytes()[:1000])
    return dataset, [str(victim) for victim in victims]


def batches(split, count, **arguments):
    return list(
        pipeline.training_batches(split, PIXELS, 4, seed=0, **arguments)
        .take(count)
        .as_numpy_iterator()
    )


def test_every_batch_is_full_and_a_bad_picture_gives_way_to_the_next_one(damaged):
    dataset, names = damaged
    numbers = {dataset.train.name_of(number): number for number in range(24)}
    epoch = batches(dataset.train, 6)
    rows = {
        key: np.concatenate([batch[key] for batch in epoch]) for key in ("image", "label", "bad")
    }
    assert rows["image"].shape == (24, 28, 28, 1)
    assert sorted(rows["bad"][rows["bad"] >= 0]) == sorted(numbers[name] for name in names)
    order = [int(stub["picture"]) for stub in dataset.train.stubs(tf.constant(0, tf.int64))]
    for number in (numbers[name] for name in names):
        place = order.index(number)
        # a picture, not a blank
        assert rows["bad"][place] == number and rows["image"][place].std() > 1
        assert rows["label"][place] == (number + 1) // 8  # that of the next picture
    assert np.bincount(rows["label"]).tolist() == [8, 8, 8]


@pytest.mark.long
def test_central_crops_come_in_order_and_leave_out_what_is_bad(picture_folder):
    first, second, third, *_ = sorted((picture_folder / "test" / CLASS_NAMES[1]).iterdir())
    Image.open(third).save(third.with_suffix(".gif"))  # for this the graph is made anew
    third.unlink()
    split = datasets.open_dataset("folder", picture_folder).evaluation
    second.write_bytes(second.read_bytes()[:1000])
    crops = list(pipeline.central_crops(split, split.stubs(None), PIXELS))
    assert [int(label) for _, label in crops] == [0, 0, 0, 1, 1, 2, 2, 2]
    expected = decode_central_crop(tf.constant(first.read_bytes()), PIXELS)
    np.testing.assert_array_equal(crops[3][0], expected)


@pytest.mark.long
def test_the_same_pictures_give_way_from_any_step_on_and_on_every_worker(damaged):
    split = damaged[0].train
    whole = batches(split, 12)
    for expected, again in zip(whole[5:], batches(split, 7, first_step=5)):
        for key in ("image", "label", "bad"):
            np.testing.assert_array_equal(again[key], expected[key])
    shares = [
        batches(split, 12, context=tf.distribute.InputContext(2, worker, 2)) for worker in range(2)
    ]
    for expected, *parts in zip(whole, *shares):
        for key in ("image", "label", "bad"):
            np.testing.assert_array_equal(
                np.concatenate([part[key] for part in parts]), expected[key]
            )


@pytest.mark.parametrize(
    "error",
    [tf.errors.PermissionDeniedError, tf.errors.DataLossError, tf.errors.UnknownError],
)
def test_what_a_file_system_does_not_give_any_more_is_a_bad_picture(picture_folder, error):
    split = datasets.open_dataset("folder", picture_folder).train

    def batches_by(*, way, **_):
        def batches():
            yield 0
            if way is not pipeline.Way.GUARDED:
                raise error(None, None, "1.jpg; Input/output error")
            yield 1

        return batches()

    strategy = tf.distribute.OneDeviceStrategy("CPU:0")
    batches = pipeline.resilient_training(strategy, split, batches_by, 0, guarded=False)
    assert list(itertools.islice(batches, 5)) == [0, 0, 0, 0, 1]


def test_one_of_the_pictures_that_are_all_gone_is_named(picture_folder):
    """As where a drive is unplugged while a training goes on."""
    split = datasets.open_dataset("folder", picture_folder).train
    (picture_folder / "train").rename(picture_folder / "gone")
    make = functools.partial(pipeline.training_batches, split, PIXELS, 4, 0)
    strategy = tf.distribute.OneDeviceStrategy("CPU:0")
    batches = pipeline.resilient_training(strategy, split, make, 0, guarded=True)
    with pytest.raises(UserError, match=r"any of 40 after it: for example .*/0.png \(.*No such"):
        next(batches)


def train(dataset, model_dir, epochs=1, stop_after=None, **changes):
    lines, bar = [], Bar()
    keras.utils.set_random_seed(3)
    model, rule = build_model("lenet5", 3), SGD2012(0.01)
    plan = loop.Plan(batch_size=4, epochs=epochs, schedule="constant", xla="off", **changes)
    callbacks = [Stop(stop_after)] if stop_after else ()
    figures = loop.train(
        tf.distribute.get_strategy(),
        model,
        rule,
        dataset,
        PIXELS,
        plan,
        str(model_dir),
        callbacks,
        progress=bar,
        note=lines.append,
    )
    return [np.asarray(weight) for weight in model.weights], figures, lines, bar.lines


class Stop(keras.callbacks.Callback):
    def __init__(self, after):
        super().__init__()
        self.after = after

    def on_train_batch_end(self, batch, logs=None):
        self.after -= 1
        self.model.stop_training = self.after == 0


@pytest.mark.long
def test_training_goes_on_names_each_once_and_counts_them(damaged, tmp_path):
    dataset, names = damaged
    weights, figures, lines, bar = train(dataset, tmp_path / "whole")
    told = [line for line in lines if "passed over" in line]
    assert len(told) == 2 and all(any(name in line for line in told) for name in names)
    assert all("Invalid" in line for line in told)  # the reason
    assert bar[-1].endswith(", 2 bad pictures")
    assert [
        row["bad_pictures"] for row in metrics.read_log(tmp_path / "whole") if "loss" not in row
    ][-1] == 2
    # evaluation leaves its own out, and says so
    assert (figures["examples"], figures["bad_pictures"]) == (8, 1)


@pytest.mark.long
def test_a_training_that_goes_on_counts_them_once(damaged, tmp_path):
    dataset, _ = damaged
    weights, *_ = train(dataset, tmp_path / "whole")
    train(dataset, tmp_path / "resumed", stop_after=3)
    assert checkpoints.newest_step(tmp_path / "resumed") == 3
    resumed, _, lines, _ = train(dataset, tmp_path / "resumed")
    for one, other in zip(resumed, weights):
        np.testing.assert_array_equal(one, other)
    state = [
        row["bad_pictures"] for row in metrics.read_log(tmp_path / "resumed") if "loss" not in row
    ]
    assert state[-1] == 2


@pytest.mark.long
@pytest.mark.parametrize("most", [0, 1])
def test_more_than_allowed_stop_the_run_and_are_named(damaged, tmp_path, most):
    dataset, names = damaged
    with pytest.raises(
        UserError, match=rf"2 pictures cannot be read, more than max_bad_pictures={most}: "
    ) as error:
        train(dataset, tmp_path, max_bad_pictures=most)
    assert all(name in str(error.value) for name in names)


def spoiled(folder):
    """Adds to a class what cannot be read, and returns {name: what is to be said of it}."""
    jpeg = next(folder.glob("*.jpg")).read_bytes()
    png = next(folder.glob("*.png")).read_bytes()
    huge = bytearray(png)
    huge[16:24] = (50_000).to_bytes(4, "big") * 2
    files = {
        b"empty.jpg": b"",
        b"text.jpg": b"<html>not found</html>",
        b"cut.jpg": jpeg[:2000],
        b"cut.png": png[:2000],
        b"head.jpg": jpeg[:3],
        b"huge.png": bytes(huge) + b"\0",
        "ünï\n.jpg".encode(): b"x",
        b"\xff\xfe.jpg": b"y",
    }
    for name, content in files.items():
        pathlib.Path(os.fsdecode(os.path.join(os.fsencode(folder), name))).write_bytes(content)
    os.mkfifo(folder / "pipe.jpg")
    (folder / "nowhere.jpg").symlink_to("gone.jpg")
    (folder / "circle.jpg").symlink_to("circle.jpg")
    return {
        "empty.jpg": "an empty file; fetch it again, or remove it",
        "text.jpg": "a web page; fetch the picture again",
        "cut.jpg": "Invalid JPEG",
        "cut.png": "PNG",
        "head.jpg": "JPEG",
        "huge.png": "promises more than 89478485 pixels",
        r"\n.jpg'": "neither",
        r"\xff\xfe.jpg'": "neither",
        "pipe.jpg": "neither a file nor a folder",
        "nowhere.jpg": "a link that leads nowhere",
        "circle.jpg": "a link that leads nowhere",
    }


def test_what_is_bad_at_the_start_is_left_out_named_and_counted(
    picture_folder, tmp_path, monkeypatch
):
    class_folder = picture_folder / "train" / CLASS_NAMES[0]
    expected = spoiled(class_folder)
    locked = class_folder / "locked.jpg"
    locked.write_bytes(b"x")

    def open_unless_locked(name, *arguments):
        # the tests may run as root, who may read everything
        if os.fsencode(name).endswith(b"locked.jpg"):
            raise PermissionError(13, "Permission denied", name)
        return open(name, *arguments)

    monkeypatch.setattr(pictures, "open", open_unless_locked, raising=False)
    expected["locked.jpg"] = "Permission denied"
    dataset = datasets.open_dataset("folder", picture_folder)
    assert dataset.train.examples == 24 and len(dataset.bad_pictures) == len(expected)
    for name, reason in expected.items():
        (line,) = [line for line in dataset.bad_pictures if f"{name} cannot" in line]
        assert reason in line and line.isprintable()
    assert len(list(dataset.train.read(None))) == 24
    with pytest.raises(
        UserError, match=r"12 pictures cannot be read, more than max_bad_pictures=10: /"
    ):
        train(dataset, tmp_path / "model")


def test_bad_pictures_that_are_not_named_are_counted(picture_folder):
    for number in range(22):
        (picture_folder / f"train/{CLASS_NAMES[0]}/bad{number}.jpg").write_bytes(b"x")
    dataset = datasets.open_dataset("folder", picture_folder)
    for tell in (
        lambda note: bad_pictures.tell_of_opening(dataset, 22, note),
        lambda note: bad_pictures.tell_bad_pictures(dataset.train, range(22), note),
    ):
        lines = []
        tell(lines.append)
        assert len(lines) == 21 and lines[-1] == "and 2 more that cannot be read"


@pytest.mark.long
def test_a_picture_whose_name_is_not_text_is_read(picture_folder):
    first = next((picture_folder / "train" / CLASS_NAMES[0]).glob("*.jpg"))
    os.rename(os.fsencode(first), os.fsencode(first.parent) + b"/\xff \n%s.jpg")
    split = datasets.open_dataset("folder", picture_folder).train
    assert all((batch["bad"] == -1).all() for batch in batches(split, 6))
    assert any(r"\xff \n%s.jpg" in split.name_of(number) for number in range(24))


def test_class_folders_without_readable_pictures_or_printable_names_are_refused(picture_folder):
    for path in (picture_folder / "train" / CLASS_NAMES[1]).iterdir():
        path.write_text("no picture")
    with pytest.raises(UserError, match=f"{CLASS_NAMES[1]} holds no picture that can be read"):
        datasets.open_dataset("folder", picture_folder)
    os.rename(
        picture_folder / "train" / CLASS_NAMES[1],
        os.fsencode(picture_folder / "train") + b"/caf\xe9",
    )
    with pytest.raises(UserError, match=r"b'caf\\xe9' has a name that cannot be printed"):
        datasets.open_dataset("folder", picture_folder)


def test_pictures_that_are_left_out_are_known_by_split(picture_folder):
    for split in ("train", "test"):
        next((picture_folder / split / CLASS_NAMES[0]).iterdir()).write_bytes(b"")
    dataset = datasets.open_dataset("folder", picture_folder, choosing=True)
    held, lines = dataset.evaluation, dataset.bad_pictures
    assert held.held_out and held.bad_pictures == dataset.train.bad_pictures == lines[:1]
    assert dataset.test.bad_pictures == lines[1:] and len(lines) == 2


@pytest.mark.long
def test_evaluation_says_what_it_leaves_out_and_refuses_nothing_at_all(
    damaged, picture_folder, capsys
):
    split = damaged[0].evaluation
    strategy, model = tf.distribute.get_strategy(), build_model("lenet5", 3)
    whole = evaluation.evaluate_split(strategy, model, PIXELS, split, 4)
    assert (whole["examples"], whole["bad_pictures"]) == (8, 1)
    assert (
        "1 of the 9 pictures of test cannot be read and are not counted: /"
        in capsys.readouterr().err
    )
    for path in (picture_folder / "test").glob("*/*"):
        path.write_bytes(b"")
    with pytest.raises(UserError, match="No picture of test can be read"):
        evaluation.evaluate_split(strategy, model, PIXELS, split, 4)


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    """The folder of a TFDS data set of 45 + 5 pictures in one file."""
    folder = tmp_path_factory.mktemp("tfds")
    datasets.open_dataset("tiny_pictures", folder)
    return folder


@pytest.mark.long
@pytest.mark.parametrize(
    "harm,first_lost",
    [
        (lambda content: content[: len(content) // 2], 25),
        (lambda content: b"", 0),
        (lambda content: content[:9000] + bytes([content[9000] ^ 1]) + content[9001:], 13),
    ],
)
def test_records_behind_damage_are_counted_and_the_others_keep_their_places(
    records, harm, first_lost
):
    split = datasets.open_dataset("tiny_pictures", records).train
    file = next(records.rglob("*.tfrecord*"))
    content = file.read_bytes()
    whole = [stub["serialized"].numpy() for stub in split.stubs(None)]
    cut = file.read_bytes()
    try:
        file.write_bytes(harm(content))
        found = [stub["serialized"].numpy() for stub in split.stubs(None)]
        lost = found.index(b"")
        assert found == whole[:lost] + [b""] * (45 - lost)
        assert split.fault_of(
            lost
        ) == "the file is damaged at this record or before it" and file.name in split.name_of(lost)
        assert lost == first_lost
        if lost:
            bad = np.concatenate([batch["bad"] for batch in batches(split, 11)])
            assert (
                len(set(bad.tolist()) - {-1}) >= 45 - lost - 1
                and bad.max(initial=-1, where=bad < lost) == -1
            )
    finally:
        file.write_bytes(cut)


def test_no_decoder_gets_a_picture_whose_header_asks_too_much(picture_folder):
    hostile = hostile_pictures.files()
    for number, name in enumerate(hostile_pictures.REFUSED):
        for split in ("train", "test"):
            path = picture_folder / split / CLASS_NAMES[0] / f"{name.replace(': ', ' ')}.jpg"
            path.write_bytes(hostile[name] + struct.pack("<I", number))
    to_train = datasets.open_dataset("folder", picture_folder)
    to_evaluate = datasets.open_evaluation("folder", picture_folder, CLASS_NAMES)
    assert to_train.train.examples == 24
    assert to_train.evaluation.examples == to_evaluate.evaluation.examples == 9
    for split, dataset in (("train", to_train), ("test", to_evaluate)):
        told = {
            pathlib.Path(line.partition(" cannot be read (")[0]): line.partition(" (")[2]
            for line in dataset.bad_pictures
        }
        for name, reason in hostile_pictures.REFUSED.items():
            path = picture_folder / split / CLASS_NAMES[0] / f"{name.replace(': ', ' ')}.jpg"
            assert reason in told[path], name
            with pytest.raises(UserError, match=f"cannot be read .*{reason}"):
                listing.list_pictures([path])
            with pytest.raises(tf.errors.InvalidArgumentError, match=reason):
                pictures.check_header(path.read_bytes())
            assert reason in pictures.fault_of(tf.io.read_file, str(path))


def test_a_file_larger_than_any_picture_is_not_read(picture_folder):
    (first, *_) = sorted((picture_folder / "test" / CLASS_NAMES[0]).iterdir())
    with open(first, "r+b") as stream:
        stream.truncate(pictures.LARGEST_FILE + 1)  # on disk it has a few blocks
    (line,) = datasets.open_dataset("folder", picture_folder).bad_pictures
    assert line.endswith("cannot be read (536,870,913 bytes; no more than 536,870,912 are read)")


def many_scans():
    """A JPEG of 600 scans, which a decoder reads."""
    plain = hostile_pictures.encode("JPEG")
    return plain[:-2] + plain[plain.rindex(b"\xff\xda") : -2] * 599 + plain[-2:]


@pytest.mark.long
def test_pictures_of_ones_own_data_set_have_the_same_bounds():
    """A graph reads them, and no Python looks at their headers first."""
    contents = [shapes.draw_jpeg("train", number) for number in range(12)]
    contents[4] = many_scans()
    records = tf.data.Dataset.from_tensor_slices((contents, [0, 1, 2] * 4))
    split = own.from_tf_data(records, records.take(3), CLASS_NAMES).train
    assert {int(number) for batch in batches(split, 3) for number in batch["bad"]} == {-1, 4}
    assert split.describe_fault(4) == "record 4 of train (a JPEG of more than 500 scans)"


@pytest.mark.long
def test_pictures_of_tfds_have_the_same_bounds(records, monkeypatch):
    split = datasets.open_dataset("tiny_pictures", records).train
    example = tfds._example
    hostile = tf.constant(many_scans())

    def changed(builder, stub):
        found = example(builder, stub)
        return found | {"image": tf.where(stub["picture"] == 7, hostile, found["image"])}

    monkeypatch.setattr(tfds, "_example", changed)
    assert {int(number) for batch in batches(split, 11) for number in batch["bad"]} == {-1, 7}
    assert split.fault_of(7) == "a JPEG of more than 500 scans"
    assert split.fault_of(8) is None


@pytest.mark.long
def test_statistics_of_pictures_of_which_none_can_be_read_are_refused(picture_folder):
    split = datasets.open_dataset("folder", picture_folder).train
    for picture in (picture_folder / "train").glob("*/*"):
        picture.write_bytes(picture.read_bytes()[:1000])
    with pytest.raises(UserError, match="No picture of train can be read, for example .*/0.png"):
        pipeline.channel_statistics(split, PIXELS)
