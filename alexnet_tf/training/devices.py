"""Where a step runs: strategies of tf.distribute on one machine and on several, and the two towers'
devices.
"""

import concurrent.futures
import contextlib
import functools
import math
import os
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn, ParamSpec, TypeVar

import keras
import tensorflow as tf

from alexnet_tf import bounds, console, proxies
from alexnet_tf.errors import TryAgain, UserError, check_kind, one_line
from alexnet_tf.network.model import VARIANTS
from alexnet_tf.provenance import provenance
from alexnet_tf.training import cluster

Answer = TypeVar("Answer")
Given = ParamSpec("Given")

_GATHER_SECONDS = 300  # how long workers wait for the last of them to appear
# and later, for one that lives but does not answer; a dead one is noticed within seconds
_ANSWER_SECONDS = 600


def distribution(kind: str, replicas: int) -> tf.distribute.Strategy:
    """Returns the tf.distribute strategy for `kind` ("auto", "one_device", "mirrored",
    "multi_worker").

    `replicas` is how many devices of this machine, 0 for all GPUs or one CPU. Without GPUs they are
    logical CPU devices, which have to be made before TensorFlow touches a device. Raises UserError
    if there are not as many devices, if "multi_worker" does not find its place (cluster.find), or
    if its workers have different versions.
    """
    gpus = tf.config.list_physical_devices("GPU")
    if gpus and replicas > len(gpus):
        raise UserError(
            f"replicas={replicas}, but this machine has {len(gpus)} GPUs; use at most {len(gpus)}."
        )
    if kind == "multi_worker":
        if replicas > 1 and replicas != len(gpus):
            raise UserError(
                f"replicas={replicas}: with distribution=multi_worker each worker uses all its "
                "GPUs, or its CPU; omit replicas."
            )
        return _multi_worker()
    if kind == "one_device" and replicas > 1:
        raise UserError(
            f"distribution=one_device has one replica, not replicas={replicas}; use"
            " distribution=mirrored."
        )
    replicas = replicas or (1 if kind == "one_device" else max(1, len(gpus)))
    device = "GPU" if gpus else "CPU"
    if replicas == 1 and kind != "mirrored":
        return tf.distribute.OneDeviceStrategy(f"{device}:0")
    if not gpus:
        _make_logical_cpus(replicas)
    return tf.distribute.MirroredStrategy([f"{device}:{index}" for index in range(replicas)])


def gpu_name() -> str:
    """The name of the GPU that is used if no strategy says otherwise; "none" without one."""
    for gpu in tf.config.list_physical_devices("GPU"):
        return tf.config.experimental.get_device_details(gpu).get("device_name", "unknown")
    return "none"


@contextlib.contextmanager
def full_float32() -> Iterator[None]:
    """In here GPUs from Ampere on compute in float32, and not in TF32, which is off by 3e-4: for
    what is compared to 1e-5, and for what ends where float32 tells no more.
    """
    precision = tf.config.experimental
    before = precision.tensor_float_32_execution_enabled()
    precision.enable_tensor_float_32_execution(False)
    try:
        yield
    finally:
        precision.enable_tensor_float_32_execution(before)


def outside_scopes(function: Callable[Given, Answer]) -> Callable[Given, Answer]:
    """`function`, which in the scope of a strategy runs outside of it: scopes are a thread's.

    There a SavedModel's variables are the strategy's, and its graph cannot run or be converted.
    """

    @functools.wraps(function)
    def called(*args: Given.args, **kwargs: Given.kwargs) -> Answer:
        in_scope = tf.distribute.has_strategy() and tf.distribute.in_cross_replica_context()
        if not (in_scope and tf.executing_eagerly()):
            return function(*args, **kwargs)
        with concurrent.futures.ThreadPoolExecutor(1) as outside:
            return outside.submit(function, *args, **kwargs).result()

    return called


def check_divides(batch_size: int, replicas: int) -> None:
    """Raises UserError unless every replica gets as many pictures of a batch as every other."""
    if batch_size % replicas:
        raise UserError(
            f"batch_size={batch_size} does not divide among {replicas} replicas; use a multiple of"
            f" {replicas}, or other replicas."
        )


def check_alone(kind: str, many_workers: bool = True) -> None:
    """Raises UserError if TF_CONFIG or Slurm names several processes and `kind`, "auto", does not
    say whether they train together: each would train all by itself, a parameter server too. Of
    what cannot train with `many_workers` one process is enough.
    """
    if kind == "auto":
        together = "distribution=multi_worker" if many_workers else None
        _check_alone(together, "distribution=mirrored or one_device")


def strategy_or_current(strategy: tf.distribute.Strategy | None) -> tf.distribute.Strategy:
    """`strategy`, or the one whose scope this is. Raises UserError for anything that is not one."""
    wanted = "a tf.distribute.Strategy, such as tf.distribute.MirroredStrategy()"
    check_kind(tf.distribute.Strategy | None, strategy, "strategy", wanted)
    return strategy or tf.distribute.get_strategy()


def check_alone_without_strategy() -> None:
    """As check_alone, for a training without a strategy that runs in no strategy's scope."""
    if not tf.distribute.has_strategy():
        _check_alone(
            "strategy=distribution('multi_worker', 0) from alexnet_tf.training.devices",
            "strategy=tf.distribute.get_strategy()",
        )


def check_one_process(what: str) -> None:
    """Raises UserError if TF_CONFIG or Slurm names several processes, for `what` is trained in one
    and cannot be told otherwise.
    """
    count, source = cluster.named()
    if count > 1:
        how = "by srun -n1" if source == "srun" else f"without {source}"
        raise UserError(
            f"{source} names {count} processes, but {what} is trained in one; start one, {how}."
        )


def _check_alone(together: str | None, alone: str, why: str = "") -> None:
    count, source = cluster.named()
    if count > 1:
        how = (
            f"pass {together} to have them train together, or" if together else "start one, or pass"
        )
        raise UserError(
            f"{why}{source} names {count} processes; {how} {alone} to train here alone."
        )


def _multi_worker() -> tf.distribute.Strategy:
    """One process a worker, each of which knows its place."""
    place = cluster.find()
    proxies.pass_by(bounds.address(address)[0] for address in place.addresses)
    late = f"not all of {', '.join(place.addresses)} appeared in {_GATHER_SECONDS} s"
    try:
        resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
            tf.train.ClusterSpec({"worker": place.addresses}),
            task_type="worker",
            task_id=place.index,
        )
        with _killed_after(_GATHER_SECONDS, late):  # TensorFlow itself would wait for ever
            strategy = tf.distribute.MultiWorkerMirroredStrategy(resolver)
    except (RuntimeError, ValueError, tf.errors.OpError) as error:
        raise UserError(
            f"Worker {place.index} at {place.addresses[place.index]} could not start "
            f"({one_line(error)}); see {place.source}."
        ) from None
    software = provenance()
    named = {name: software.get(name) for name in ("versions", "python", "commit")}
    check_agreement(strategy, **named)
    return strategy


# Its standard input is closed by what it watches, or by that one's end.
_KILLER = """
import os, select, signal, sys
pid, seconds, line = sys.argv[1:]
if not select.select([sys.stdin], [], [], float(seconds))[0]:
    print(line, file=sys.stderr)
    os.kill(int(pid), signal.SIGKILL)
"""


@contextlib.contextmanager
def _killed_after(seconds: float, reason: str) -> Iterator[None]:
    """For a `with` block that TensorFlow spends with Python's lock in its hand, so that no thread
    of this process and no signal would be heard: another process ends this one.
    """
    arguments = [str(os.getpid()), str(seconds), _again(reason)]
    killer = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _KILLER, *arguments],
        stdin=subprocess.PIPE,
        start_new_session=True,  # Ctrl-C is for us
    )
    try:
        yield
    finally:
        killer.communicate()


class _Watchdog:
    """A `with` block that ends this process if it takes longer than _ANSWER_SECONDS.

    Not the timeout_seconds that TensorFlow's collectives take: each of them leaves two threads
    asleep for that long, which are ten thousand where there are ten steps a second.
    """

    def __init__(self) -> None:
        self._limits = [math.inf]  # one may lie in another
        threading.Thread(target=self._watch, daemon=True).start()

    def __enter__(self) -> None:
        self._limits.append(time.monotonic() + _ANSWER_SECONDS)

    def __exit__(self, *error: object) -> None:
        self._limits.pop()

    def _watch(self) -> None:
        while time.monotonic() < min(self._limits):
            time.sleep(1)
        _give_up(f"another worker has not answered for {_ANSWER_SECONDS} s")


_watchdog = functools.cache(_Watchdog)


def waiting(strategy: tf.distribute.Strategy) -> contextlib.AbstractContextManager:
    """For a `with` block that waits for other workers: it ends this process, so that all are
    started again, if one of them lives but does not answer for ten minutes.
    """
    return contextlib.nullcontext() if worker_count(strategy) == 1 else _watchdog()


@contextlib.contextmanager
def leaving_lost_workers(strategy: tf.distribute.Strategy) -> Iterator[None]:
    """For a `with` block of steps: it ends this process if an error of one says that a worker is
    gone.
    """
    try:
        yield
    except (
        tf.errors.UnavailableError,
        tf.errors.DeadlineExceededError,
        tf.errors.AbortedError,
        tf.errors.InternalError,
        tf.errors.CancelledError,
    ) as error:
        if worker_count(strategy) > 1:
            _give_up(f"another worker is gone ({one_line(error.message, 160)})")
        raise


def _give_up(reason: str) -> NoReturn:
    console.note(_again(reason))
    os._exit(TryAgain.status)  # an orderly exit would wait for the others


def _again(reason: str) -> str:
    return f"{reason}; start all workers again: they continue from the last checkpoint"


def worker_count(strategy: tf.distribute.Strategy) -> int:
    """Number of processes that train together."""
    return getattr(strategy.extended, "_num_workers", 1)


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Whether this process writes what is written once: settings, checkpoints, logs."""
    # Not by its task_id: a chief has 0, and so has the first worker beside it.
    return worker_count(strategy) == 1 or strategy.extended.should_checkpoint


def rows_of_all(strategy: tf.distribute.Strategy, value: Any) -> tf.Tensor:
    """The rows of `value`, what `strategy.run` gives, of all replicas, one after the other."""
    if worker_count(strategy) > 1:
        return strategy.gather(value, axis=0)
    # Without a collective: those of a second MirroredStrategy end in an error in a process.
    return tf.concat(strategy.experimental_local_results(value), 0)


def over_workers(strategy: tf.distribute.Strategy, value: Any) -> list:
    """What all workers pass, a number or a list of numbers each, in their order: a list.

    All have to call it at the same step, with as many numbers.
    """
    if worker_count(strategy) == 1:
        return [value]
    with waiting(strategy):
        everything = _gather(strategy)(tf.constant([value], tf.float64)).numpy().tolist()
    return everything[:: len(everything) // worker_count(strategy)]  # one of each worker's replicas


def union_over_workers(strategy: tf.distribute.Strategy, numbers: set[int]) -> set[int]:
    """The set of all the numbers that the workers pass, each a set.

    All have to call it at the same step.
    """
    most = int(max(over_workers(strategy, len(numbers))))
    mine = sorted(numbers) + [math.nan] * (most - len(numbers))
    return {
        int(number)
        for one in mine
        for number in over_workers(strategy, one)
        if not math.isnan(number)
    }


@functools.cache
def _gather(strategy: tf.distribute.Strategy) -> Callable[[tf.Tensor], tf.Tensor]:
    return tf.function(
        lambda value: strategy.gather(strategy.run(tf.identity, args=(value,)), axis=0),
        autograph=False,
    )


def together(strategy: tf.distribute.Strategy, function: Callable[[], Answer]) -> Answer:
    """Calls `function` on the chief, then on the other workers; returns its answer.

    Raises UserError on all if it does on one.
    """
    first = is_chief(strategy)
    for turn in (True, False):
        error = None
        if first == turn:
            try:
                answer = function()
            except UserError as refusal:
                error = refusal
        statuses = over_workers(strategy, float(error.status if error else 0))
        if any(statuses):
            _part(strategy)
        if error:
            raise error
        for worker, status in enumerate(statuses):
            if status:
                kind = TryAgain if status == TryAgain.status else UserError
                raise kind(f"Worker {worker} refused to start; it has said why.")
    return answer


def _part(strategy: tf.distribute.Strategy) -> None:
    """Waits until all workers know why they end: from one that leaves earlier the others may not
    have heard it, and would take it for lost.
    """
    with contextlib.suppress(tf.errors.OpError):  # whoever has gone has heard it
        over_workers(strategy, 0.0)


def check_agreement(strategy: tf.distribute.Strategy, **values: Any) -> None:
    """Raises UserError on all workers unless all pass the same values; it says who differs, in
    what.
    """
    digests = over_workers(
        strategy, [float(zlib.crc32(repr(value).encode())) for value in values.values()]
    )
    different = [
        [name for name, own, chiefs in zip(values, of, digests[0]) if own != chiefs]
        for of in digests
    ]
    if any(different):
        _part(strategy)
        said = "; ".join(
            f"worker {worker} differs from worker 0 in {' and '.join(names)}"
            for worker, names in enumerate(different)
            if names
        )
        here = ", ".join(
            f"{name}={one_line(repr(values[name]))}"
            for name in values
            if name in sum(different, [])
        )
        raise UserError(
            f"The workers are not alike: {said}. This one, worker"
            f" {strategy.extended._id_in_cluster}, has {here}. Start all with the same parameters,"
            " data, versions and model_dir."
        )


def across_towers(
    devices: Sequence[str], variant: str, kind: str, replicas: int, xla: str
) -> tf.distribute.Strategy:
    """Returns the strategy for towers on two `devices`: TensorFlow's default one, which leaves
    variables where they are made.

    Makes the logical CPUs that are named. Raises UserError, with the reason, where towers cannot be
    placed, and as check_alone where several processes would each train both.
    """
    given = f"tower_devices={','.join(devices)}"
    if len(devices) != 2:
        raise UserError(f"{given}: name two devices, such as GPU:0,GPU:1 or CPU:0,CPU:1.")
    if VARIANTS[variant].get("towers") != "ab":
        raise UserError(f"{given}: variant={variant} has no two towers.")
    if replicas > 1 or kind in ("mirrored", "multi_worker"):
        raise UserError(
            f"{given}: a replica of tf.distribute is one device, with none for a second tower; "
            "omit replicas and distribution."
        )
    if xla == "on":
        raise UserError(f"{given}: XLA compiles a step for one device; omit xla=on.")
    if kind == "auto":
        _check_alone(None, "distribution=one_device", f"{given} trains in one process, and ")
    numbers = [device.upper().removeprefix("CPU:") for device in devices]
    cpus = [int(number) for number in numbers if number.isdecimal()]
    if cpus and max(cpus) > 0:
        _make_logical_cpus(max(cpus) + 1)
    there = [device.name.removeprefix("/device:") for device in tf.config.list_logical_devices()]
    for device in devices:
        if device.upper() not in there:
            raise UserError(
                f"{given}: there is no device {device} here; there are {', '.join(there)}."
            )
    return tf.distribute.get_strategy()


def place_towers(model: keras.Model, devices: Sequence[str]) -> None:
    """Has each layer of tower a computed on the first of two devices and of tower b on the second,
    as in 2012.

    The model is build_model(tower_devices=devices)'s; what reads both towers stays where the step
    runs. The towers have to be the devices of one replica, and XLA compiles for one device: neither
    goes with this (flags say so).
    """
    for layer in model.layers:
        for tower, device in zip("ab", devices):
            if layer.name.endswith(tower) and layer.name[-2:-1].isdigit():
                layer.call = _call_on(device, layer.call)


def _call_on(device: str, call: Callable) -> Callable:
    @functools.wraps(call)
    def on_device(*args: Any, **kwargs: Any) -> Any:
        with tf.device(device):
            return call(*args, **kwargs)

    return on_device


def _make_logical_cpus(count: int) -> None:
    cpu = tf.config.list_physical_devices("CPU")[0]
    if len(tf.config.get_logical_device_configuration(cpu) or ()) != count:
        tf.config.set_logical_device_configuration(
            cpu, [tf.config.LogicalDeviceConfiguration()] * count
        )
