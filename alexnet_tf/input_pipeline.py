"""Records to batches, one function for training and one for evaluation. Batches hold uint8 images.

The order of the pictures is a function of (seed, epoch) and what is done to a picture of (seed, epoch, picture): training that
starts again at step n sees what it would have seen, with nothing stored but n.
"""

import functools

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


def evaluation_batches(split, pixels, batch_size, context=_ALONE, crop=preprocessing.central_crop, view=0, seed=0):
    """Every picture of `split` once, in fixed order: as training_batches, with "weight" float32 [batch_size].

    The last batch is filled up with pictures of weight 0, so that no replica ever gets an empty or odd batch. `pixels` may be a
    tuple of Preprocessings: "image" is then a tuple too, each cropped from the same decoded picture by `crop(image, pixels)`.
    Views 1, 2, ... are crops as in training instead, drawn from `seed`.
    """
    def weigh(number, record):
        return record | {"weight": tf.cast(number < split.examples, tf.float32)}

    def prepare(record):
        drawn = tf.stack([seed + view * 2**32, record["picture"] * 2])
        cut = functools.partial(preprocessing.random_crop, seed=drawn) if view else crop
        crops = tf.nest.map_structure(functools.partial(cut, preprocessing.decode(record["image"])), pixels)
        return {"image": crops, "label": record["label"], "weight": record["weight"]}

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
    """Mean of each channel over the centre crops of the first `pictures` of a fixed shuffle: a list of floats in 0..255."""
    crops = split.read(tf.constant(0, tf.int64)).take(pictures).map(
        lambda record: preprocessing.central_crop(preprocessing.decode(record["image"]), pixels),
        num_parallel_calls=tf.data.AUTOTUNE)
    total, count = tf.zeros([pixels.channels]), 0
    with datasets.naming_bad_pictures(split):
        for crop in crops:
            total, count = total + tf.reduce_mean(tf.cast(crop, tf.float32), [0, 1]), count + 1
    return [float(level) for level in total / count]
