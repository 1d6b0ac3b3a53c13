"""Records to batches, one function for training and one for evaluation. Batches hold uint8 images.

The order of the pictures is a function of (seed, epoch) and what is done to a picture of (seed, epoch, picture): training that
starts again at step n sees what it would have seen, with nothing stored but n.
"""

import functools

import numpy as np
import tensorflow as tf

from alexnet_tf import datasets, preprocessing

_ALONE = tf.distribute.InputContext()  # one worker with one replica
_NEIGHBOURS = 40  # pictures that are tried instead of one that cannot be read: the 1st, 8th, 27th ... after it


def training_batches(split, pixels, batch_size, seed, first_step=0, context=_ALONE):
    """Endless batches {"image": uint8 [batch_size, s, s, c], "label": int64 [batch_size], "bad": int64 [batch_size]} from step
    `first_step` on.

    An epoch holds `split.examples // batch_size` whole batches; the few pictures that fill no batch differ between epochs,
    because the order does. `pixels` is a Preprocessing. `context` is what `distribute` passes: a batch is then one replica's
    part of `batch_size`. Where a picture cannot be read, "bad" holds its number, -1 elsewhere; image and label are those of a
    picture near it that can.
    """
    steps_per_epoch = split.examples // batch_size
    first_epoch, steps_done = divmod(first_step, steps_per_epoch)

    def one_epoch(epoch):
        stubs = split.stubs(seed + epoch).take(steps_per_epoch * batch_size)
        done = tf.where(epoch == first_epoch, tf.constant(steps_done * batch_size, tf.int64), 0)
        stubs = _share(stubs.skip(done), batch_size, context)  # skipped and shared out before they are read
        return stubs.map(lambda stub: stub | {"epoch": epoch})

    def prepare(stub, crop):
        record = split.load(stub)
        picture_seed = tf.stack([seed + stub["epoch"] * 2**32, stub["picture"] * 2])  # odd ones belong to random_crop
        return {"image": crop(record["image"], pixels, picture_seed), "label": record["label"], "bad": stub["bad"]}

    def otherwise(stub):
        near = (stub["picture"] + tf.range(1, _NEIGHBOURS, dtype=tf.int64) ** 3) % split.examples
        neighbours = tf.data.Dataset.from_tensor_slices(near).flat_map(split.stub_of)
        neighbours = neighbours.map(lambda other: other | {"epoch": stub["epoch"], "bad": stub["picture"]})
        stubs = tf.data.Dataset.from_tensors(stub).concatenate(neighbours)
        return stubs.map(functools.partial(prepare, crop=preprocessing.decode_random_crop))

    stubs = tf.data.Dataset.counter(tf.constant(first_epoch, tf.int64)).flat_map(one_epoch)
    quick = functools.partial(prepare, crop=preprocessing.random_crop_of_jpeg)
    return _prepared_batches(stubs, _guarded(quick, otherwise), batch_size, context)


def evaluation_batches(split, pixels, batch_size, context=_ALONE):
    """Every picture of `split` once, in fixed order: as training_batches, with "weight" float32 [batch_size].

    The last batch is filled up with pictures of weight 0, so that no replica ever gets an empty or odd batch. A picture that
    cannot be read is black and of weight 0.
    """
    def weigh(number, stub):
        return stub | {"weight": tf.cast(number < split.examples, tf.float32)}

    def prepare(stub):
        record = split.load(stub)
        image = preprocessing.central_crop(preprocessing.decode(record["image"], pixels), pixels)
        return {"image": image, "label": record["label"], "weight": stub["weight"], "bad": stub["bad"]}

    def otherwise(stub):
        black = tf.zeros([pixels.image_size, pixels.image_size, pixels.channels], tf.uint8)
        return tf.data.Dataset.from_tensors(
            {"image": black, "label": tf.constant(0, tf.int64), "weight": tf.constant(0.0), "bad": stub["picture"]})

    stubs = split.stubs(None).repeat().enumerate().map(weigh).take(-(-split.examples // batch_size) * batch_size)
    return _prepared_batches(_share(stubs, batch_size, context), _guarded(prepare, otherwise), batch_size, context)


def distribute(strategy, make_batches):
    """An iterator over what `make_batches(context=...)` gives to each replica of `strategy`, on this worker."""
    return iter(strategy.distribute_datasets_from_function(lambda context: make_batches(context=context)))


def next_batch(batches, split):
    """The next of `batches`. Raises UserError naming a picture of `split` that does not decode."""
    with datasets.naming_bad_pictures(split):
        return next(batches)


def _share(stubs, batch_size, context):
    """This worker's rows of each batch: worker w of n has the w-th n-th of them."""
    workers = context.num_input_pipelines
    if workers == 1:
        return stubs
    return stubs.batch(batch_size // workers).shard(workers, context.input_pipeline_id).unbatch()


def _guarded(quick, otherwise):
    """A function of a stub that does not fail on account of it: what `quick` makes of it, or, where that raises, the first of the
    dataset `otherwise(stub)` that is no error. The stub's "bad" is -1.

    Datasets of one element whose errors are passed over cost 0.06 ms a picture, and what is not reached costs nothing. tf.cond
    would cost 0.4 ms, for all the operations that it does not run.
    """
    @tf.autograph.experimental.do_not_convert  # nothing to convert, and half the time of building it
    def guarded(stub):
        one = tf.data.Dataset.from_tensors(stub | {"bad": tf.constant(-1, tf.int64)})
        first, rest = one.map(quick), one.flat_map(otherwise)
        return first.ignore_errors().concatenate(rest.ignore_errors()).take(1).get_single_element()

    return guarded


def _prepared_batches(stubs, prepare, batch_size, context):
    # Deterministic although parallel: the order is part of the result.
    dataset = stubs.map(prepare, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
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
