"""Records to batches, one function for training and one for evaluation. Batches hold uint8 images.

The order of the pictures is a function of (seed, epoch) and what is done to a picture of (seed, epoch, picture): training that
starts again at step n sees what it would have seen, with nothing stored but n.
"""

import numpy as np
import tensorflow as tf

from alexnet_tf import datasets, preprocessing

_ALONE = tf.distribute.InputContext()  # one worker with one replica


def training_batches(split, pixels, batch_size, seed, first_step=0, context=_ALONE):
    """Endless batches {"image": uint8 [batch_size, s, s, c], "label": int64 [batch_size]} from step `first_step` on.

    An epoch holds `split.examples // batch_size` whole batches; the few pictures that fill no batch differ between epochs,
    because the order does. `pixels` is a Preprocessing. `context` is what `distribute` passes: a batch is then one replica's
    part of `batch_size`.
    """
    steps_per_epoch = split.examples // batch_size
    first_epoch, steps_done = divmod(first_step, steps_per_epoch)

    def one_epoch(epoch):
        records = split.read(seed + epoch).take(steps_per_epoch * batch_size)
        done = tf.where(epoch == first_epoch, tf.constant(steps_done * batch_size, tf.int64), 0)
        records = _share(records.skip(done), batch_size, context)  # skipped and shared out before they are decoded
        return records.map(lambda record: record | {"epoch": epoch})

    def prepare(record):
        image = preprocessing.decode(record["image"])
        picture_seed = tf.stack([seed + record["epoch"] * 2**32, record["picture"] * 2])  # odd ones belong to random_crop
        return {"image": preprocessing.random_crop(image, pixels, picture_seed), "label": record["label"]}

    dataset = tf.data.Dataset.counter(tf.constant(first_epoch, tf.int64)).flat_map(one_epoch)
    return _prepared_batches(dataset, prepare, batch_size, context)


def evaluation_batches(split, pixels, batch_size, context=_ALONE):
    """Every picture of `split` once, in fixed order: as training_batches, with "weight" float32 [batch_size].

    The last batch is filled up with pictures of weight 0, so that no replica ever gets an empty or odd batch.
    """
    def weigh(number, record):
        return record | {"weight": tf.cast(number < split.examples, tf.float32)}

    def prepare(record):
        image = preprocessing.central_crop(preprocessing.decode(record["image"]), pixels)
        return {"image": image, "label": record["label"], "weight": record["weight"]}

    records = split.read(None).repeat().enumerate().map(weigh).take(-(-split.examples // batch_size) * batch_size)
    return _prepared_batches(_share(records, batch_size, context), prepare, batch_size, context)


def distribute(strategy, make_batches):
    """An iterator over what `make_batches(context=...)` gives to each replica of `strategy`, on this worker."""
    return iter(strategy.distribute_datasets_from_function(lambda context: make_batches(context=context)))


def next_batch(batches, split):
    """The next of `batches`. Raises UserError naming a picture of `split` that does not decode."""
    with datasets.naming_bad_pictures(split):
        return next(batches)


def _share(records, batch_size, context):
    """This worker's rows of each batch: worker w of n has the w-th n-th of them."""
    workers = context.num_input_pipelines
    if workers == 1:
        return records
    return records.batch(batch_size // workers).shard(workers, context.input_pipeline_id).unbatch()


def _prepared_batches(records, prepare, batch_size, context):
    # Deterministic although parallel: the order is part of the result.
    dataset = records.map(prepare, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return dataset.batch(context.get_per_replica_batch_size(batch_size), drop_remainder=True).prefetch(tf.data.AUTOTUNE)


def channel_mean(split, pixels, pictures=1024):
    """Mean of each channel, as `channel_statistics` has it."""
    return channel_statistics(split, pixels, pictures)[0]


def channel_statistics(split, pixels, pictures=1024):
    """(mean, colour PCA) over the centre crops of the first `pictures` of a fixed shuffle: see `colour_statistics`."""
    crops = split.read(tf.constant(0, tf.int64)).take(pictures).map(
        lambda record: preprocessing.central_crop(preprocessing.decode(record["image"]), pixels),
        num_parallel_calls=tf.data.AUTOTUNE)
    with datasets.naming_bad_pictures(split):
        return colour_statistics(sum(pixel_moments(crop) for crop in crops.as_numpy_iterator()))


def pixel_moments(image):
    """Sums over the pixels of a uint8 [height, width, c]: float64 [c + 1, c + 1], of the products of the levels and of a leading 1.

    So [0, 0] counts pixels, [0, 1:] sums levels and [1:, 1:] their products. Moments of many pictures are added; up to 2**53 (two
    million pictures of 256 x 256) every sum is exact, so that neither order nor grouping changes a bit.
    """
    levels = np.ones([image.size // image.shape[-1], image.shape[-1] + 1])
    levels[:, 1:] = image.reshape(-1, image.shape[-1])
    return levels.T @ levels


def colour_statistics(moments):
    """(mean [c], colour PCA [c, c]) of pixels whose `pixel_moments` these are, as lists of floats in 0..255.

    Row i of the PCA is the eigenvector of the channels' covariance with the i-th largest eigenvalue, its largest component
    positive, times its standard deviation, the square root of that eigenvalue, as in the 2012 source (the paper says eigenvalue).
    A sum of the rows, each times a N(0, 1) number, has the covariance of the pixels.
    """
    mean = moments[0, 1:] / moments[0, 0]
    variances, vectors = np.linalg.eigh(moments[1:, 1:] / moments[0, 0] - np.outer(mean, mean))
    rows = vectors.T[::-1] * np.sqrt(np.maximum(variances[::-1, None], 0))
    largest = np.take_along_axis(rows, np.abs(rows).argmax(1)[:, None], 1)
    return mean.tolist(), (rows * np.where(largest < 0, -1, 1)).tolist()
