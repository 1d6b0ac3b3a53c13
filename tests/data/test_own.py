"""A data set of the user's own is shuffled by the seed of its epoch alone."""

import numpy as np
import pytest
import tensorflow as tf

from alexnet_tf.data import own


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
