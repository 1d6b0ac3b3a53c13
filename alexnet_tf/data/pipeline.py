"""Records to batches, one function for training and one for evaluation. Batches hold uint8 images.

The order of the pictures is a function of (seed, epoch) and what is done to a picture of (seed,
epoch, picture): training that starts again at step n sees what it would have seen, with nothing
stored but n.
"""

import enum
import functools
import os
import socket
import urllib.parse
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from alexnet_tf import bounds, preprocessing, proxies
from alexnet_tf.data.pictures import reason
from alexnet_tf.data.splits import Split, Tensors, as_it_is, converted
from alexnet_tf.errors import TryAgain, UserError
from alexnet_tf.pixels import Preprocessing

_ALONE = tf.distribute.InputContext()  # one worker with one replica
_BEGAN_ANEW = (
    "A data service restarted, with the first pictures; start the training again: it goes on from"
    " its checkpoint."
)
SERVICE_PORT = 5050  # of a data service, where its user names no other
_CONNECT_SECONDS = 10
_COMPARED = 32  # pictures that a data service reads before the first step, and this process too
_CORES = os.cpu_count()  # by which pictures are prepared
# pictures that are tried instead of one that cannot be read: the 1st, 8th, 27th ... after it
_NEIGHBOURS = 40


_NONE_LEFT = "Dataset was empty"  # how get_single_element ends where no picture could be read
_OTHER_COUNT = "was expected to contain"  # how assert_cardinality ends


class Way(enum.Enum):
    """How pictures are read, the quickest first. What they give is the same to the bit."""

    JPEG = enum.auto()  # of which only the crop is decoded; all else is an error
    COMMON = (
        enum.auto()
    )  # all but JPEG and PNG is an error; a graph that knows more takes longer to make
    ANY = enum.auto()  # a picture that cannot be read is an error
    GUARDED = enum.auto()  # no picture is an error: it is marked as bad


class PictureError(UserError):
    """A picture cannot be read by the way that was tried."""


def training_batches(
    split: Split,
    pixels: Preprocessing,
    batch_size: int,
    seed: int,
    first_step: int = 0,
    context: tf.distribute.InputContext = _ALONE,
    services: Sequence[str] = (),
    way: Way = Way.GUARDED,
    crop: Callable | None = None,
) -> tf.data.Dataset:
    """Endless batches {"image": uint8 [batch_size, s, s, c], "label": int64 [batch_size], "bad":
    int64 [batch_size]} from step `first_step` on.

    An epoch holds `split.examples // batch_size` whole batches; the few pictures that fill no batch
    differ between epochs, because the order does. `pixels` is a Preprocessing. `context` is what
    `distribute` passes: a batch is then one replica's part of `batch_size`. Where a picture cannot
    be read, "bad" holds its number, -1 elsewhere; image and label are those of a picture near it
    that can: that is the `way` GUARDED.

    `crop(image, pixels, seed)`, from uint8 [height, width, 3] to uint8 [s, s, c], takes the place
    of preprocessing.random_crop; its randomness belongs to `seed`, int64 [2]. What it cannot crop
    is an error in every way.

    With `services`, addresses of alexnet_tf.data_service, each prepares every n-th batch: the same
    batches in the same order.
    """
    steps_per_epoch = split.examples // batch_size
    first_epoch, steps_done = divmod(first_step, steps_per_epoch)

    @as_it_is
    def one_epoch(epoch: tf.Tensor) -> tf.data.Dataset:
        stubs = split.stubs(seed + epoch).take(steps_per_epoch * batch_size)
        done = tf.where(epoch == first_epoch, tf.constant(steps_done * batch_size, tf.int64), 0)
        # skipped and shared out before they are read
        stubs = _share(stubs.skip(done), batch_size, context)
        return stubs.map(lambda stub: stub | {"epoch": epoch})

    def prepare(stub: Tensors, cut: Callable) -> Tensors:
        record = split.load(stub)
        # odd ones belong to random_crop
        picture_seed = tf.stack([seed + stub["epoch"] * 2**32, stub["picture"] * 2])
        row = {"label": record["label"], "bad": stub["bad"]} | (
            {"seed": picture_seed} if crop else {}
        )
        return {"image": cut(record["image"], pixels, picture_seed)} | row

    def otherwise(stub: Tensors) -> tf.data.Dataset:
        near = (stub["picture"] + tf.range(1, _NEIGHBOURS, dtype=tf.int64) ** 3) % split.examples
        neighbours = tf.data.Dataset.from_tensor_slices(near).flat_map(split.stub_of)
        neighbours = neighbours.map(
            lambda other: other | {"epoch": stub["epoch"], "bad": stub["picture"]}
        )
        return neighbours.map(functools.partial(prepare, cut=from_any))

    stubs = tf.data.Dataset.counter(tf.constant(first_epoch, tf.int64)).flat_map(one_epoch)
    from_any: Callable[..., tf.Tensor] = preprocessing.decode_random_crop
    if crop:
        from_any, own_crop = _decoded, converted(lambda image, seed: crop(image, pixels, seed))
    cut = from_any
    if way is Way.JPEG and not crop:
        cut = preprocessing.random_crop_of_jpeg
    elif way is Way.COMMON:
        cut = functools.partial(from_any, common=True)
    prepared = _guarded(
        functools.partial(prepare, cut=cut), otherwise if way is Way.GUARDED or services else None
    )

    @as_it_is
    def one(stub: Tensors) -> Tensors:
        row = prepared(stub)
        if crop:  # outside of the guard, which is for pictures that cannot be read
            image, side = own_crop(row["image"], row.pop("seed")), pixels.image_size
            row["image"] = tf.ensure_shape(image, [side, side, pixels.channels])
        return row

    if services:
        rows = context.get_per_replica_batch_size(batch_size)
        return _from_services(services, split, stubs, one, rows)
    rewritten = split.rewritten or cut is preprocessing.random_crop_of_jpeg
    return _prepared_batches(stubs, one, batch_size, context, rewritten)


def _decoded(
    picture: tf.Tensor, pixels: Preprocessing, seed: tf.Tensor, common: bool = False
) -> tf.Tensor:
    """The whole picture, uint8 [height, width, 3], for a crop of a user's own."""
    return preprocessing.decode(picture, common=common)


def _from_services(
    services: Sequence[str],
    split: Split,
    stubs: tf.data.Dataset,
    prepare: Callable[[Tensors], Tensors],
    rows: int,
) -> tf.data.Dataset:
    """Batches of `rows`, the k-th prepared by the service k modulo their number.

    An error if one starts over.
    """

    _go_straight_to(services)

    def of_service(number: int, address: str) -> tf.data.Dataset:
        share = stubs.batch(rows).shard(len(services), number).unbatch()
        batches = share.map(prepare, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True).batch(
            rows, drop_remainder=True
        )  # on the cores of the service
        return batches.enumerate().apply(_by_service(address))

    parts = [of_service(number, address) for number, address in enumerate(services)]
    batches = tf.data.Dataset.choose_from_datasets(
        parts, tf.data.Dataset.range(len(parts)).repeat(), stop_on_empty_dataset=True
    )
    in_order = batches.enumerate().map(functools.partial(checked_order, len(services)))
    return _as_written(in_order.prefetch(tf.data.AUTOTUNE), split.rewritten)


def _by_service(address: str) -> Callable[[tf.data.Dataset], tf.data.Dataset]:
    """What has all of a dataset made by one service, in order."""
    return tf.data.experimental.service.distribute(
        tf.data.experimental.service.ShardingPolicy.OFF, address, compression=None
    )


def _go_straight_to(services: Sequence[str]) -> None:
    # without a proxy they have answered: check_reachable
    proxies.pass_by(urllib.parse.urlsplit(address).hostname or "" for address in services)


def checked_order(
    services: int, number: tf.Tensor, numbered_batch: tuple[tf.Tensor, Tensors]
) -> Tensors:
    """The `number`-th batch of all, of `numbered_batch`: (its number among those of its service,
    it).

    An error where a service counts from 0 again.
    """
    number_there, batch = numbered_batch
    with tf.control_dependencies(
        [tf.debugging.Assert(number_there == number // services, [_BEGAN_ANEW])]
    ):
        return tf.nest.map_structure(tf.identity, batch)


def evaluation_batches(
    split: Split,
    pixels: Preprocessing | tuple[Preprocessing, ...],
    batch_size: int,
    context: tf.distribute.InputContext = _ALONE,
    crop: Callable[[tf.Tensor, Preprocessing], tf.Tensor] = preprocessing.central_crop,
    view: int = 0,
    seed: int = 0,
    first_step: int = 0,
    way: Way = Way.GUARDED,
) -> tf.data.Dataset:
    """Every picture of `split` once, in fixed order: as training_batches, with "weight" float32
    [batch_size].

    The last batch is filled up with pictures of weight 0, so that no replica ever gets an empty or
    odd batch. A picture that cannot be read is black and of weight 0, unless `way` makes it an
    error. `first_step` batches are left out. `pixels` may be a tuple of Preprocessings: "image" is
    then a tuple too, each cropped from the decoded picture by `crop(image, pixels)`. Views 1, 2,
    ... are crops as in training instead, drawn from `seed`.
    """

    @as_it_is
    def weigh(number: tf.Tensor, stub: Tensors) -> Tensors:
        return stub | {"weight": tf.cast(number < split.examples, tf.float32)}

    # Decoded once for each size that is asked for: what one network sees does not depend on others.
    sizes = sorted({each.resize for each in tf.nest.flatten(pixels)})

    def crops(images: tuple[tf.Tensor, ...], picture: tf.Tensor) -> Any:
        drawn = tf.stack([seed + view * 2**32, picture * 2])
        cut = functools.partial(preprocessing.random_crop, seed=drawn) if view else crop
        return tf.nest.map_structure(
            lambda each: cut(images[sizes.index(each.resize)], each), pixels
        )

    def decode(stub: Tensors) -> Tensors:
        record = split.load(stub)
        images = tuple(
            preprocessing.decode(record["image"], size, way is Way.COMMON) for size in sizes
        )
        return stub | {"image": images, "label": record["label"]}

    def otherwise(stub: Tensors) -> tf.data.Dataset:
        black = {
            "image": (tf.zeros([1, 1, 3], tf.uint8),) * len(sizes),
            "label": tf.constant(0, tf.int64),
        }
        return tf.data.Dataset.from_tensors(
            stub | black | {"weight": tf.constant(0.0), "bad": stub["picture"]}
        )

    decoded = _guarded(decode, otherwise if way is Way.GUARDED else None)

    @as_it_is
    def prepare(stub: Tensors) -> Tensors:
        row = decoded(stub)
        return {"image": crops(row["image"], row["picture"])} | {
            key: row[key] for key in ("label", "weight", "bad")
        }

    stubs = (
        split.stubs(None)
        .repeat()
        .enumerate()
        .map(weigh)
        .take(-(-split.examples // batch_size) * batch_size)
    )
    stubs = stubs.skip(first_step * batch_size)
    stubs = _share(stubs, batch_size, context)
    return _prepared_batches(stubs, prepare, batch_size, context, split.rewritten)


def check_reachable(addresses: Iterable[str]) -> None:
    """Raises UserError unless something answers at each of `addresses`, such as grpc://host:5050."""
    for address in addresses:
        protocol, _, place = address.partition("://")
        try:
            if protocol != "grpc":
                raise ValueError("it does not begin with grpc://")
            host_and_port = bounds.address(place)
        except ValueError as error:
            raise UserError(
                f"data_service={address} is not an address ({error}); write it as"
                f" grpc://host:{SERVICE_PORT}."
            ) from None
        try:
            socket.create_connection(host_and_port, _CONNECT_SECONDS).close()
        except OSError as error:
            raise TryAgain(
                f"data_service={address} does not answer ({error}); start alexnet data-service"
                " there."
            ) from None


def check_services(split: Split, seed: int, services: Sequence[str]) -> None:
    """Raises UserError unless each of `services`, as training_batches takes them, reads the first
    pictures of `split` to the bit as this process does: it may see others at the same path.

    Files are compared, not images: a graph that decodes takes seconds to make.
    """
    if not services:
        return
    check_reachable(services)
    _go_straight_to(services)
    stubs = split.stubs(tf.constant(seed, tf.int64)).take(_COMPARED)
    records = stubs.map(as_it_is(split.load)).ignore_errors()
    here = list(records.as_numpy_iterator())
    for address in services:
        try:
            there = list(records.apply(_by_service(address)).as_numpy_iterator())
        except tf.errors.OpError as error:
            raise UserError(
                f"data_service={address} does not read {split.name}"
                f" ({' '.join(error.message.split())[-300:]}); is it alexnet data-service, and of"
                " this release?"
            ) from None
        if there != here:
            raise UserError(
                f"data_service={address} finds other pictures of {split.name} than this machine, or"
                " none; make sure that the same files are there at the same path."
            )


def distribute(
    strategy: tf.distribute.Strategy,
    make_batches: Callable[..., tf.data.Dataset],
    one_reader: bool = False,
) -> Iterator[Any]:
    """An iterator over what `make_batches(context=...)` gives to each replica of `strategy`, on
    this worker. `one_reader` is that of the split.
    """
    return iter(_Distributed(strategy, make_batches, one_reader))


class _Distributed:
    """What `make_batches(context=...)` gives to each replica of `strategy`, on this worker. Each
    iteration begins with the first batch.

    Every replica has a data set of its own, unless there may be `one_reader` alone: the replicas
    then take their batches from one in turn. TensorFlow's iterator over several devices fetches
    ahead in a thread that may still read when the iterator is let go of, and then the process ends
    by SIGSEGV.
    """

    def __init__(
        self,
        strategy: tf.distribute.Strategy,
        make_batches: Callable[..., tf.data.Dataset],
        one_reader: bool,
    ) -> None:
        numbers = strategy.experimental_local_results(strategy.run(_replica_number))
        self._strategy, self._here, self._first = strategy, len(numbers), int(numbers[0])
        replicas = strategy.num_replicas_in_sync
        each = self._here if one_reader else 1  # that many replicas read from one data set
        self._datasets = []
        for number in numbers[::each]:
            context = tf.distribute.InputContext(replicas // each, int(number) // each, replicas)
            batches = make_batches(context=context)
            self._datasets.append(batches if each > 1 else _on(number.device, batches))

    def __iter__(self) -> Iterator[Any]:
        iterators = [iter(dataset) for dataset in self._datasets]
        if self._here == 1:
            return iterators[0]
        return self._together(iterators * (self._here // len(iterators)))

    def _together(self, iterators: Sequence[Iterator[Any]]) -> Iterator[Any]:
        for batches in zip(*iterators, strict=True):
            yield self._strategy.experimental_distribute_values_from_function(
                lambda replica, batches=batches: batches[
                    replica.replica_id_in_sync_group - self._first
                ]
            )


def _replica_number() -> tf.Tensor:
    """Of all replicas of all workers, on the device of this one."""
    return tf.identity(tf.distribute.get_replica_context().replica_id_in_sync_group)


def _on(device: str, batches: tf.data.Dataset) -> tf.data.Dataset:
    """`batches`, whose next one is on `device` already when it is asked for."""
    spec = tf.DeviceSpec.from_string(device)
    if (spec.device_type, spec.device_index) == ("CPU", 0):
        return batches  # they are made there
    there = tf.data.experimental.prefetch_to_device(device, buffer_size=1)
    return batches.apply(there).with_options(batches.options())  # which do not go along


def resilient_training(
    strategy: tf.distribute.Strategy,
    split: Split,
    make_batches: Callable[..., tf.data.Dataset],
    step: int,
    guarded: bool,
    services: Sequence[str] = (),
    has_crop: bool = False,
) -> Iterator[Any]:
    """Yields the batches of a distributed `training_batches` from `step` on.

    `make_batches` is all of its call but for first_step, context and way. The way is the quickest
    of which no picture so far was an error; with `guarded`, the last. `services` are those of the
    call: messages name them. `has_crop`: whether it has a crop, which raises UserError by itself
    for a picture that it cannot crop.
    """
    ways = [Way.GUARDED] if guarded else [Way.JPEG, Way.COMMON, Way.ANY, Way.GUARDED]
    for way in ways:
        make = functools.partial(make_batches, first_step=step, way=way)
        try:
            for batch in _checked(distribute(strategy, make, split.one_reader), split, services):
                yield batch
                step += 1  # where it fails, this step comes again
        except PictureError as error:
            if way is not ways[-1]:
                continue
            if has_crop and _NONE_LEFT not in str(error.__context__):
                raise UserError(
                    f"crop= cannot be computed for a picture of {split.name} in step {step + 1}:"
                    f" {reason(error.__context__)}"
                ) from None
            raise


class EvaluationBatches:
    """The batches of a distributed `evaluation_batches`, as resilient_training yields them: a guard
    round each picture takes as long as half of its decoding, and next to none needs it.

    Each iteration begins with the first batch; from the second on, the way is known, and what was
    built for it is used again.
    """

    def __init__(
        self,
        strategy: tf.distribute.Strategy,
        split: Split,
        make_batches: Callable[..., tf.data.Dataset],
    ) -> None:
        self._strategy, self._split, self._make_batches = strategy, split, make_batches
        self._ways = [Way.COMMON, Way.ANY, Way.GUARDED]
        self._from_the_first: Iterable[Any] | None = None

    def __iter__(self) -> Iterator[Any]:
        step = 0
        while True:
            try:
                for batch in self._from(step):
                    yield batch
                    step += 1  # where it fails, this step comes again
            except PictureError:
                if len(self._ways) == 1:
                    raise
                del self._ways[0]
                self._from_the_first = None

    def _from(self, step: int) -> Iterator[Any]:
        distributed = self._from_the_first
        if step or distributed is None:
            make = functools.partial(self._make_batches, first_step=step, way=self._ways[0])
            distributed = _Distributed(self._strategy, make, self._split.one_reader)
        if not step:
            self._from_the_first = distributed
        return _checked(iter(distributed), self._split)


def _checked(batches: Iterator[Any], split: Split, services: Sequence[str] = ()) -> Iterator[Any]:
    """Yields `batches`. Raises PictureError, or UserError where a data service is gone."""
    while True:
        yield _next(batches, split, services)


def _next(batches: Iterator[Any], split: Split, services: Sequence[str] = ()) -> Any:
    try:
        return next(batches)
    except StopIteration:
        raise TryAgain(_BEGAN_ANEW) from None
    except (
        tf.errors.InvalidArgumentError,
        tf.errors.NotFoundError,
        tf.errors.FailedPreconditionError,
        tf.errors.PermissionDeniedError,
        tf.errors.DataLossError,
        tf.errors.UnknownError,  # a file system that fails
    ) as error:
        if _BEGAN_ANEW in error.message:
            raise TryAgain(_BEGAN_ANEW) from None
        if _OTHER_COUNT in error.message:
            raise UserError(
                f"{split.name} gives another number of records than when it was opened"
                f" ({reason(error)}); it has to give the same ones each time it is read."
            ) from None
        where, why = "", reason(error)
        if services:
            where = (
                f" by data_service={','.join(services)}, which must see it at the same path as this"
                " machine"
            )
        elif _NONE_LEFT in why:  # nor is it told which
            few = range(min(split.examples, _NEIGHBOURS))
            why = f"for example {split.describe_fault(next(filter(split.fault_of, few), 0))}"
        raise PictureError(
            f"A picture of {split.name} cannot be read{where}, nor any of {_NEIGHBOURS} after it:"
            f" {why}"
        ) from None


def _share(
    stubs: tf.data.Dataset, batch_size: int, context: tf.distribute.InputContext
) -> tf.data.Dataset:
    """This worker's rows of each batch: worker w of n has the w-th n-th of them."""
    workers = context.num_input_pipelines
    if workers == 1:
        return stubs
    return stubs.batch(batch_size // workers).shard(workers, context.input_pipeline_id).unbatch()


def _guarded(
    prepare: Callable[[Tensors], Tensors], otherwise: Callable[[Tensors], tf.data.Dataset] | None
) -> Callable[[Tensors], Tensors]:
    """A function of a stub: what `prepare` makes of it, its "bad" being -1, or, where that raises,
    the first of the dataset `otherwise(stub)` that is no error. Without `otherwise` the error stays
    one.

    A dataset of one element, whose errors are passed over: it costs 0.2 to 0.9 ms a picture, the
    more the larger the function.
    """

    @as_it_is
    def guarded(stub: Tensors) -> Tensors:
        stub = stub | {"bad": tf.constant(-1, tf.int64)}
        if not otherwise:
            return prepare(stub)
        one = tf.data.Dataset.from_tensors(stub)
        rest = one.flat_map(otherwise).ignore_errors()
        return one.map(prepare).ignore_errors().concatenate(rest).take(1).get_single_element()

    return guarded


def _prepared_batches(
    stubs: tf.data.Dataset,
    prepare: Callable[[Tensors], Tensors],
    batch_size: int,
    context: tf.distribute.InputContext,
    rewritten: bool,
) -> tf.data.Dataset:
    # Deterministic although parallel: the order is part of the result.
    dataset = stubs.map(prepare, num_parallel_calls=_CORES, deterministic=True)
    batches = dataset.batch(context.get_per_replica_batch_size(batch_size), drop_remainder=True)
    return _as_written(batches.prefetch(tf.data.AUTOTUNE), rewritten)


def _as_written(dataset: tf.data.Dataset, rewritten: bool) -> tf.data.Dataset:
    """`dataset` without the thread by which tf.data tunes it: it sleeps for up to a minute, and
    whoever lets go of a dataset that has run for some minutes may have to wait for it to wake, with
    Python's lock. A prefetch tunes itself. The graph is rewritten only where that makes batches
    sooner: records in files, and crops of JPEG files, whose graph is small. That of all formats
    takes half a second of the processor more at each start, for nothing.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    options.experimental_optimization.apply_default_optimizations = rewritten
    return dataset.with_options(options)


def channel_statistics(
    split: Split, pixels: Preprocessing, pictures: int = 1024
) -> tuple[list[float], list[list[float]]]:
    """(mean, colour PCA) over the centre crops of the first `pictures` of a fixed shuffle: see
    `colour_statistics`. Raises UserError where none of them can be read.
    """
    stubs = split.stubs(tf.constant(0, tf.int64)).take(pictures)
    moments = [pixel_moments(crop) for crop, _ in central_crops(split, stubs, pixels)]
    if not moments:
        split.refuse_unreadable(0)
    return colour_statistics(np.sum(moments, axis=0))


def central_crops(
    split: Split, stubs: tf.data.Dataset, pixels: Preprocessing
) -> Iterator[tuple[np.ndarray, int]]:
    """Yields (uint8 central crop [image_size, image_size, c], label) of each of `stubs` of `split`,
    in their order. What cannot be read is left out.
    """
    read = 0
    try:
        # A graph that knows more than JPEG and PNG takes seconds to make.
        for pair in _central_crops(split, stubs, pixels, common=True).as_numpy_iterator():
            yield pair
            read += 1
    except tf.errors.OpError:
        crops = _central_crops(split, stubs.skip(read), pixels, common=False)
        yield from crops.ignore_errors().as_numpy_iterator()


def _central_crops(
    split: Split, stubs: tf.data.Dataset, pixels: Preprocessing, common: bool
) -> tf.data.Dataset:
    @as_it_is
    def prepare(stub: Tensors) -> tuple[tf.Tensor, tf.Tensor]:
        record = split.load(stub)
        crop = preprocessing.decode_central_crop(record["image"], pixels, common)
        return crop, record["label"]

    crops = stubs.map(prepare, num_parallel_calls=_CORES, deterministic=True)
    return _as_written(crops, split.rewritten)


def pixel_moments(image: np.ndarray) -> np.ndarray:
    """Sums over the pixels of a uint8 [height, width, c]: float64 [c + 1, c + 1], of the products
    of the levels and of a leading 1.

    So [0, 0] counts pixels, [0, 1:] sums levels and [1:, 1:] their products. Moments of many
    pictures are added; up to 2**53 (two million pictures of 256 x 256) every sum is exact, so that
    neither order nor grouping changes a bit.
    """
    levels = np.ones([image.size // image.shape[-1], image.shape[-1] + 1])
    levels[:, 1:] = image.reshape(-1, image.shape[-1])
    return levels.T @ levels


def colour_statistics(moments: np.ndarray) -> tuple[list[float], list[list[float]]]:
    """(mean [c], colour PCA [c, c]) of pixels whose `pixel_moments` these are, as lists of floats
    in 0..255.

    Row i of the PCA is the eigenvector of the channels' covariance with the i-th largest
    eigenvalue, its largest component positive, times its standard deviation, the square root of
    that eigenvalue, as in the 2012 source (the paper says eigenvalue). A sum of the rows, each
    times a N(0, 1) number, has the covariance of the pixels.
    """
    mean = moments[0, 1:] / moments[0, 0]
    variances, vectors = np.linalg.eigh(moments[1:, 1:] / moments[0, 0] - np.outer(mean, mean))
    rows = vectors.T[::-1] * np.sqrt(np.maximum(variances[::-1, None], 0))
    largest = np.take_along_axis(rows, np.abs(rows).argmax(1)[:, None], 1)
    return mean.tolist(), (rows * np.where(largest < 0, -1, 1)).tolist()
