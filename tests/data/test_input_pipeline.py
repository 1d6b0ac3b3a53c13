"""Each picture once an epoch, in a new order, from any step on; evaluation counts each once."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from alexnet_tf import preprocessing
from alexnet_tf.data import datasets, own, pipeline
from alexnet_tf.preprocessing import Preprocessing

PIXELS = Preprocessing(image_size=56, resize=64, channels=3, mean=(0.0,) * 3, std=1.0)


@pytest.fixture
def train_split(picture_folder):
    return datasets.open_dataset("folder", picture_folder).train


def take(split, steps, first_step=0, batch_size=4, seed=0):
    # The way of JPEG and PNG: the guarded one is built in seconds, and has tests of its own.
    batches = pipeline.training_batches(
        split, PIXELS, batch_size, seed, first_step, way=pipeline.Way.COMMON
    )
    return [(batch["image"].numpy(), batch["label"].numpy()) for batch in batches.take(steps)]


def test_two_epochs_hold_each_label_equally_and_differ(train_split):
    batches = take(train_split, 12)
    for epoch in (batches[:6], batches[6:]):
        assert np.bincount(np.concatenate([labels for _, labels in epoch])).tolist() == [8, 8, 8]
    first, second = (
        np.concatenate([labels for _, labels in epoch]).tolist()
        for epoch in (batches[:6], batches[6:])
    )
    assert first != second
    images = {image.tobytes() for images, _ in batches for image in images}
    assert len(images) == 48  # another crop in the second epoch


@pytest.mark.parametrize("first_step", [5, 6, 8])
def test_starting_at_a_step_gives_what_it_would_have_given(train_split, first_step):
    whole, rest = take(train_split, 12), take(train_split, 12 - first_step, first_step)
    for (images, labels), (expected_images, expected_labels) in zip(rest, whole[first_step:]):
        np.testing.assert_array_equal(images, expected_images)
        np.testing.assert_array_equal(labels, expected_labels)


@pytest.mark.parametrize("workers,replicas", [(1, 2), (2, 4)])
def test_workers_and_replicas_share_each_batch_in_order(
    picture_folder, train_split, workers, replicas
):
    whole = take(train_split, 7, first_step=3)
    contexts = [tf.distribute.InputContext(workers, worker, replicas) for worker in range(workers)]
    per_worker = [
        pipeline.training_batches(train_split, PIXELS, 4, 0, 3, context, way=pipeline.Way.COMMON)
        for context in contexts
    ]
    parts = [iter(batches.batch(replicas // workers)) for batches in per_worker]
    for images, labels in whole:
        parts_of_step = [next(part) for part in parts]
        joined = np.concatenate(
            [part["image"].numpy().reshape(-1, 56, 56, 3) for part in parts_of_step]
        )
        np.testing.assert_array_equal(joined, images)
        np.testing.assert_array_equal(
            np.concatenate([part["label"].numpy().ravel() for part in parts_of_step]), labels
        )
    evaluation = datasets.open_dataset("folder", picture_folder).evaluation
    shares = [
        list(pipeline.evaluation_batches(evaluation, PIXELS, 4, context, way=pipeline.Way.COMMON))
        for context in contexts
    ]
    assert len({len(share) for share in shares}) == 1
    weights, labels = (
        [batch[name] for share in shares for batch in share] for name in ("weight", "label")
    )
    weights, labels = np.concatenate(weights), np.concatenate(labels)
    assert np.bincount(labels[weights == 1]).tolist() == [3, 3, 3]


def test_another_seed_is_another_order(train_split):
    orders = [
        np.concatenate([labels for _, labels in take(train_split, 6, seed=seed)]).tolist()
        for seed in (0, 1)
    ]
    assert orders[0] != orders[1]


def test_pictures_that_fill_no_batch_differ_between_epochs(train_split):
    batches = take(train_split, 4, batch_size=10)
    assert all(images.shape == (10, 56, 56, 3) for images, _ in batches)
    left_out = []
    for epoch in range(2):
        order = [
            int(record["picture"]) for record in train_split.read(tf.constant(epoch, tf.int64))
        ]
        left_out.append(set(order[20:]))
    assert left_out[0] != left_out[1]


@pytest.mark.parametrize("batch_size", [1, 4, 9, 16])
def test_evaluation_counts_every_picture_once(picture_folder, batch_size):
    split = datasets.open_dataset("folder", picture_folder).evaluation
    way = pipeline.Way.COMMON
    batches = list(pipeline.evaluation_batches(split, PIXELS, batch_size, way=way))
    assert all(batch["image"].shape == (batch_size, 56, 56, 3) for batch in batches)
    weights = np.concatenate([batch["weight"] for batch in batches])
    labels = np.concatenate([batch["label"] for batch in batches])[weights == 1]
    assert weights.sum() == 9 and np.bincount(labels).tolist() == [3, 3, 3]


def test_no_thread_that_sleeps_tunes_what_is_read(train_split):
    """Or the end of a training waits for it to wake, up to a minute."""
    way = pipeline.Way.COMMON
    for batches in (
        pipeline.training_batches(train_split, PIXELS, 4, 0, way=way),
        pipeline.evaluation_batches(train_split, PIXELS, 4, way=way),
    ):
        assert batches.options().autotune.enabled is False


def test_channel_mean_is_the_mean_of_the_crops(train_split):
    mean = pipeline.channel_statistics(train_split, PIXELS)[0]
    crops = []
    for record in train_split.read(None):
        image = preprocessing.decode(record["image"])
        height, width, _ = image.shape
        scaled = [round(side * 64 / min(height, width)) for side in (height, width)]
        whole = tf.image.resize(image, scaled, antialias=True).numpy()
        top, left = ((side - 64) // 2 + 4 for side in scaled)
        crops.append(whole[top : top + 56, left : left + 56].mean((0, 1)))
    np.testing.assert_allclose(mean, np.mean(crops, 0), atol=0.1)


def test_channel_statistics_are_mean_and_principal_components_of_the_pixels(train_split):
    mean, colour_pca = pipeline.channel_statistics(train_split, PIXELS)
    crops = pipeline.evaluation_batches(train_split, PIXELS, 24, way=pipeline.Way.COMMON)
    levels = np.concatenate([batch["image"].numpy().reshape(-1, 3) for batch in crops])
    np.testing.assert_allclose(mean, levels.mean(0), rtol=1e-12)
    rows, covariance = np.array(colour_pca), np.cov(levels.T, bias=True)
    np.testing.assert_allclose(rows.T @ rows, covariance, rtol=1e-9)
    np.testing.assert_allclose(
        rows @ rows.T, np.diag(np.linalg.eigvalsh(covariance)[::-1]), atol=1e-6
    )
    assert (np.take_along_axis(rows, np.abs(rows).argmax(1)[:, None], 1) > 0).all()


@pytest.mark.parametrize(
    "make_strategy",
    [
        lambda: tf.distribute.OneDeviceStrategy("CPU:0"),
        lambda: tf.distribute.OneDeviceStrategy("CPU:1"),
        lambda: tf.distribute.MirroredStrategy(["CPU:0"]),
        lambda: tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]),
        lambda: tf.distribute.MultiWorkerMirroredStrategy(),  # alone
    ],
)
def test_each_replica_reads_by_a_data_set_of_its_own(monkeypatch, make_strategy):
    """Letting go of a strategy's iterator that still fetches ahead ends the process by SIGSEGV."""
    strategy = make_strategy()

    def fails(*arguments, **options):
        raise AssertionError("the strategy's own")

    monkeypatch.setattr(type(strategy), "distribute_datasets_from_function", fails)
    replicas, made = strategy.num_replicas_in_sync, []

    def make_batches(context):
        made.append((context.input_pipeline_id, context.num_input_pipelines))
        batches = tf.data.Dataset.range(8).batch(2 // replicas)
        return batches.shard(context.num_input_pipelines, context.input_pipeline_id)

    batches = pipeline.distribute(strategy, make_batches)
    first = next(batches)
    here = strategy.experimental_local_results(first)
    assert [part.numpy().tolist() for part in here] == ([[0, 1]] if replicas == 1 else [[0], [1]])
    devices = [tf.DeviceSpec.from_string(part.device).device_index for part in here]
    assert devices == [
        tf.DeviceSpec.from_string(device).device_index
        for device in strategy.extended.worker_devices
    ]
    sums = [
        tf.concat(strategy.experimental_local_results(strategy.run(lambda x: x + 1, [each])), 0)
        for each in batches
    ]
    assert [each.numpy().tolist() for each in sums] == [[3, 4], [5, 6], [7, 8]]
    assert made == [(number, replicas) for number in range(replicas)]


def test_what_a_user_reads_by_ones_own_is_read_once_for_all_replicas():
    """One open file has one position: two that read at once would each get a part."""
    position, count = 0, 400  # too many to be fetched ahead

    def reader():
        nonlocal position
        position = 0  # for everyone who reads
        while position < count:
            position += 1
            yield np.full([56, 56, 1], position % 256, np.uint8), position % 2

    shapes = tf.TensorSpec([56, 56, 1], tf.uint8), tf.TensorSpec([], tf.int64)
    records = tf.data.Dataset.from_generator(reader, output_signature=shapes)
    split = own.from_tf_data(records, records, ["a", "b"]).evaluation
    pixels = Preprocessing(56, 56, 1, (0.0,), 1.0)
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    batches = pipeline.EvaluationBatches(
        strategy, split, lambda **how: pipeline.evaluation_batches(split, pixels, 4, **how)
    )
    levels = [
        part.numpy()[:, 28, 28, 0].tolist()
        for batch in itertools.islice(batches, count // 4)
        for part in strategy.experimental_local_results(batch["image"])
    ]
    assert {len(part) for part in levels} == {2}
    assert sum(levels, []) == [number % 256 for number in range(1, count + 1)]
