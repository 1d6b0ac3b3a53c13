"""A data set of the user's own is shuffled by the seed of its epoch alone."""

import functools
import itertools

import numpy as np
import pytest
import tensorflow as tf

from alexnet_tf.data import datasets, own, pictures, pipeline
from alexnet_tf.errors import UserError
from alexnet_tf.preprocessing import Preprocessing


@pytest.fixture
def split():
    images = np.full((30, 4, 4, 3), 9, np.uint8)
    records = tf.data.Dataset.from_tensor_slices((images, np.arange(30) % 3))
    return own.from_tf_data(records, records.take(3), ["a", "b", "c"]).train


def numbers(stubs):
    return [int(stub["picture"]) for stub in stubs.as_numpy_iterator()]


@pytest.mark.parametrize("seed", [0, 5])
def test_the_order_is_that_of_the_epoch_whatever_the_global_seed(split, seed):
    expected = numbers(split.stubs(tf.constant(7, tf.int64)))
    assert sorted(expected) == list(range(30)) != expected
    tf.random.set_seed(seed)
    # as the pipeline asks for it, within a function of the number of the epoch
    epochs = tf.data.Dataset.range(7, 9).flat_map(split.stubs)
    found = numbers(epochs)
    assert found[:30] == expected
    assert sorted(found[30:]) == list(range(30)) and found[30:] != expected


def test_all_are_there_once_where_there_are_several_windows(split, monkeypatch):
    monkeypatch.setattr(own, "_SHUFFLED", 8)
    found = numbers(split.stubs(tf.constant(7, tf.int64)))
    assert sorted(found) == list(range(30))
    assert sorted(found[:8]) == list(range(8)) != found[:8]
    assert [number + 8 for number in found[:8]] != found[8:16]  # each has an order of its own
    labels = [int(stub["label"]) for stub in split.stubs(tf.constant(7, tf.int64))]
    assert labels == [number % 3 for number in found]


def test_a_picture_file_is_known_wherever_its_bytes_come_from(tmp_path):
    """Or a folder of the same files would judge as if none had been trained on."""
    files = [b"\xff\xd8\xff%d" % number for number in range(3)]
    records = tf.data.Dataset.from_tensor_slices((files, [0, 1, 0]))
    train = own.from_tf_data(records, records, ["a", "b"]).train
    (tmp_path / "1.jpg").write_bytes(files[1])
    identities, _ = pictures.know([bytes(tmp_path / "1.jpg")])
    assert train.identities.tolist().index(identities[0]) == 1


def test_records_that_choose_and_are_reported_are_told():
    records = tf.data.Dataset.from_tensor_slices((np.full((6, 4, 4, 3), 9, np.uint8), [0, 1] * 3))
    dataset = own.from_tf_data(records, records.take(4), ["a", "b"])
    (line,) = set(datasets.divided_for(dataset, choosing=True).notes) - set(dataset.notes)
    assert line.startswith("The 4 pictures of evaluation choose the weights and the rate, and are")
    assert datasets.divided_for(dataset) is dataset


def test_contradictions_and_classes_that_nothing_judges_are_told():
    """As of folders."""
    images = np.random.default_rng(0).integers(0, 256, (6, 4, 4, 3), np.uint8)
    images[4] = images[1]
    records = tf.data.Dataset.from_tensor_slices((images, [0, 1, 2, 0, 2, 1]))
    dataset = own.from_tf_data(records.take(5), records.skip(5), ["a", "b", "c"])
    assert dataset.notes == (
        "2 pictures of train are in more than one class, first record 1 of train and record 4 of"
        " train: keep each in only one.",
        "Not evaluated, for lack of pictures in evaluation: a, c.",
    )


def by_python(function):
    """Records of a shape that TensorFlow does not know, as libraries of NumPy give them."""
    images = np.random.default_rng(0).integers(0, 256, (6, 4, 5, 3), np.uint8)
    records = tf.data.Dataset.from_tensor_slices((images, np.arange(6) % 2))
    return records.map(lambda *record: tf.numpy_function(function, record, [tf.uint8, tf.int64]))


def test_shapes_that_tensorflow_does_not_know_are_those_of_the_records():
    records = by_python(lambda image, label: (image[:3], label))
    split = own.from_tf_data(records, records, ["a", "b"]).train
    assert {name: stub.shape.rank for name, stub in split.stubs(None).element_spec.items()} == {
        "image": 0,
        "label": 0,
        "picture": 0,
    }
    (record,) = split.read(None).skip(3).take(1)
    (image, label), *_ = records.skip(3)
    assert record["label"] == label == 1
    np.testing.assert_array_equal(tf.io.decode_png(record["image"]), image)


@pytest.mark.parametrize(
    "function,message",
    [
        (lambda image, label: (image[..., 0], label), r"an image of shape \(4, 5\) in record 0"),
        (lambda image, label: (image, label[None]), r"a label of shape \(1,\) in record 0"),
    ],
)
def test_records_whose_shapes_do_not_fit_when_they_are_read_are_refused(function, message):
    records = by_python(function)
    with pytest.raises(UserError, match=message):
        own.from_tf_data(records, records, ["a", "b"])


def test_paths_are_not_taken_for_the_contents_of_files(tmp_path):
    paths = [bytes(tmp_path / f"{number}.gif") for number in range(6)]
    contents = [b"GIF89a", *paths[1:]]  # one that is begun is a bad picture among others
    records, others = (
        tf.data.Dataset.from_tensor_slices((one, [0, 1] * 3)) for one in (paths, contents)
    )
    with pytest.raises(UserError, match="evaluation has no picture file among its 6 .* neither JP"):
        own.from_tf_data(others, records, ["a", "b"])
    assert own.from_tf_data(others, others, ["a", "b"]).train.examples == 6


def test_what_a_function_of_the_user_raises_is_told_with_its_record():
    def fail(image, label):
        if label.numpy() == 2:
            raise OSError("2.jpg is gone")
        return image, label

    images = np.full((4, 4, 4, 3), 9, np.uint8)
    records = tf.data.Dataset.from_tensor_slices((images, np.arange(4)))
    by_python = records.map(lambda *one: tf.py_function(fail, one, [tf.uint8, tf.int64]))
    with pytest.raises(UserError, match="^train cannot be read at record 2: OSError: 2.jpg is "):
        own.from_tf_data(by_python, records, list("abcd"))
    decoded = records.map(lambda image, label: (tf.io.decode_png(tf.as_string(label)), label))
    with pytest.raises(UserError, match="^evaluation cannot be read at record 0: Unknown image fi"):
        own.from_tf_data(records, decoded, list("abcd"))


@pytest.mark.parametrize("later", [19, 21])
def test_another_number_of_records_than_at_first_ends_what_reads_them(later):
    """Or an epoch would end in the pictures of the next, and an evaluation count some twice."""
    counts = [20]

    def generate():
        for number in range(counts[-1]):
            yield np.full((4, 4, 3), 9, np.uint8), number % 2

    spec = tf.TensorSpec((None, None, 3), tf.uint8), tf.TensorSpec((), tf.int64)
    records = tf.data.Dataset.from_generator(generate, output_signature=spec)
    split = own.from_tf_data(records, records, ["a", "b"]).train
    pixels = Preprocessing(image_size=4, resize=4, channels=3, mean=(0.0,) * 3, std=1.0)
    strategy = tf.distribute.OneDeviceStrategy("CPU:0")

    make = functools.partial(pipeline.evaluation_batches, split, pixels, 8)
    batches = pipeline.EvaluationBatches(strategy, split, make)
    assert len(list(itertools.islice(batches, 3))) == 3
    counts.append(later)
    with pytest.raises(UserError, match="train gives another number of records than when it was"):
        list(itertools.islice(batches, 3))


def test_records_are_in_one_order_whatever_the_options_of_their_data_set():
    """Or an evaluation that is begun again behind some would judge some twice and others never."""
    allowed = tf.data.Options()
    allowed.deterministic = False
    images = np.zeros((4, 4, 4, 3), np.uint8) + np.uint8(9)
    records = tf.data.Dataset.from_tensor_slices((images, [0, 1] * 2)).with_options(allowed)
    split = own.from_tf_data(records, records, ["a", "b"]).train
    assert split.stubs(None).options().deterministic is True
