"""The train step, the evaluation step and the loop around them, for any tf.distribute strategy.

The forward and backward pass is a pure function of weights and batch, compiled by XLA per replica if asked; the sum of the
gradients over the replicas and the optimizer stay outside, where tf.distribute needs them. The same code serves one device and
many. From Python:

    strategy = distribution("auto", 1)
    with strategy.scope():
        model, optimizer = build_model("paper", 10), SGD2012()
    step = TrainStep(strategy, model, optimizer, pixels, batch_size=128)
    loss, correct = step(batch, step_number)                # sums over the global batch
"""

import dataclasses
import functools
import math
import signal
import sys
import threading
import time

import tensorflow as tf

from alexnet_tf import checkpoints, datasets, input_pipeline, preprocessing
from alexnet_tf.errors import UserError
from alexnet_tf.model import VARIANTS
from alexnet_tf.optimizer import Plateau, learning_rate_factor


def distribution(kind, replicas):
    """Returns the tf.distribute strategy for `kind` ("auto", "one_device", "mirrored") with `replicas` replicas (0: all GPUs).

    Without GPUs the replicas are logical CPU devices, which have to be made before TensorFlow touches a device. Raises
    ValueError if there are not as many devices.
    """
    gpus = tf.config.list_physical_devices("GPU")
    if gpus and replicas > len(gpus):
        raise UserError(f"--replicas={replicas}, but this machine has {len(gpus)} GPUs; use at most {len(gpus)}.")
    if kind == "one_device" and replicas > 1:
        raise UserError(f"--distribution=one_device has one replica, not --replicas={replicas}; use --distribution=mirrored.")
    replicas = replicas or (1 if kind == "one_device" else max(1, len(gpus)))
    device = "GPU" if gpus else "CPU"
    if replicas == 1 and kind != "mirrored":
        return tf.distribute.OneDeviceStrategy(f"{device}:0")
    if not gpus:
        _make_logical_cpus(replicas)
    return tf.distribute.MirroredStrategy([f"{device}:{index}" for index in range(replicas)])


def across_towers(devices, variant, kind, replicas, xla):
    """Returns the strategy for towers on two `devices`: TensorFlow's default one, which leaves variables where they are made.

    Makes the logical CPUs that are named. Raises UserError, with the reason, where towers cannot be placed.
    """
    given = f"--tower_devices={','.join(devices)}"
    if len(devices) != 2:
        raise UserError(f"{given}: name two devices, such as GPU:0,GPU:1 or CPU:0,CPU:1.")
    if VARIANTS[variant].get("towers") != "ab":
        raise UserError(f"{given}: --variant={variant} has no two towers.")
    if replicas > 1 or kind == "mirrored":
        raise UserError(f"{given}: a replica of tf.distribute is one device, with none for a second tower; drop --replicas.")
    if xla == "on":
        raise UserError(f"{given}: XLA compiles a step for one device; drop --xla=on.")
    numbers = [device.upper().removeprefix("CPU:") for device in devices]
    cpus = [int(number) for number in numbers if number.isdecimal()]
    if cpus and max(cpus) > 0:
        _make_logical_cpus(max(cpus) + 1)
    there = [device.name.removeprefix("/device:") for device in tf.config.list_logical_devices()]
    for device in devices:
        if device.upper() not in there:
            raise UserError(f"{given}: there is no device {device} here, but {', '.join(there)}.")
    return tf.distribute.get_strategy()


def _make_logical_cpus(count):
    cpu = tf.config.list_physical_devices("CPU")[0]
    if len(tf.config.get_logical_device_configuration(cpu) or ()) != count:
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * count)


class TrainStep:
    """One update of the weights. Call it with a batch of `distribute` and the number of the step; it returns the sum of the
    loss (cross-entropy in nats, without the decay) and of the correct top-1 answers over the global batch, as scalar tensors.
    """

    def __init__(self, strategy, model, optimizer, pixels, batch_size, xla=True, seed=0):
        self.xla = xla
        with strategy.scope():
            optimizer.build(model.trainable_variables)
        forward_backward = tf.function(_forward_backward(model, pixels, batch_size), jit_compile=xla)
        self.forward_backward = forward_backward

        def replica_step(batch, step):
            replica = tf.distribute.get_replica_context().replica_id_in_sync_group
            # Read here, because a compiled function cannot read a variable that lives on another device.
            weights = [tf.convert_to_tensor(variable.value) for variable in model.trainable_variables]
            state = [_dropout_seed(variable, seed + index, step * strategy.num_replicas_in_sync + tf.cast(replica, tf.int64))
                     for index, variable in enumerate(model.non_trainable_variables)]
            loss, correct, gradients = forward_backward(weights, state, batch["image"], batch["label"])
            optimizer.apply(gradients, model.trainable_variables)
            return loss, correct

        @tf.function
        def step(batch, number):
            sums = strategy.run(replica_step, args=(batch, number))
            return [strategy.reduce(tf.distribute.ReduceOp.SUM, value, axis=None) for value in sums]

        self._step = step

    def __call__(self, batch, number):
        return self._step(batch, tf.constant(number, tf.int64))


def _forward_backward(model, pixels, batch_size):
    def forward_backward(weights, state, images, labels):
        logits, _ = model.stateless_call(weights, state, preprocessing.to_network_input(images, pixels), training=True)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
        # Gradients of the replicas are summed: the mean is over the GLOBAL batch.
        mean_loss = tf.reduce_sum(losses) / batch_size
        correct = tf.reduce_sum(tf.cast(tf.argmax(logits, -1) == labels, tf.float32))
        # Not a GradientTape: it would put the backward pass of both towers on the device of the first.
        gradients = tf.compat.v1.gradients(mean_loss, weights, colocate_gradients_with_ops=True)
        return tf.reduce_sum(losses), correct, gradients

    return forward_backward


def _dropout_seed(variable, seed, step):
    """The state of one seed generator, a function of (seed, step): nothing random has to be stored with a checkpoint."""
    if "seed_generator" not in variable.path:
        return tf.convert_to_tensor(variable.value)
    return tf.cast(tf.stack([tf.constant(seed, tf.int64), step]), variable.dtype)


def place_towers(model, devices):
    """Has each layer of tower a computed on the first of two devices and of tower b on the second, as in 2012.

    The model is build_model(tower_devices=devices)'s; what reads both towers stays where the step runs. The towers have to
    be the devices of one replica, and XLA compiles for one device: neither goes with this (flags say so).
    """
    for layer in model.layers:
        for tower, device in zip("ab", devices):
            if layer.name.endswith(tower) and layer.name[-2:-1].isdigit():
                layer.call = _call_on(device, layer.call)


def _call_on(device, call):
    @functools.wraps(call)
    def on_device(*args, **kwargs):
        with tf.device(device):
            return call(*args, **kwargs)

    return on_device


def pick_xla(make_step, batch):
    """Times a step with and without XLA on `batch`; returns (the faster TrainStep, a line that says so).

    `make_step(xla)` returns a TrainStep of an optimizer at rate 0 and at rest, so that the timed steps move nothing.
    """
    seconds, steps = {}, {}
    for xla in (True, False):
        steps[xla] = make_step(xla)
        float(steps[xla](batch, 0)[0])  # compiles
        begin = time.perf_counter()
        float(steps[xla](batch, 0)[0])
        seconds[xla] = time.perf_counter() - begin
    faster = seconds[True] < seconds[False]
    return steps[faster], (f"--xla=auto: {'on' if faster else 'off'} "
                           f"(a step takes {seconds[True]:.2f} s with XLA, {seconds[False]:.2f} s without)")


def evaluate(strategy, model, pixels, batches, on_batch=None):
    """Returns {"examples", "loss", "top_1", "top_5"} of `model` over `batches` (evaluation_batches, distributed).

    Every picture counts once; `loss` is the mean cross-entropy in nats, the others are shares of correct answers in 0..1.
    `on_batch(pictures)` is called after each batch with the number of its pictures.
    """
    def replica_step(batch):
        logits = model(preprocessing.to_network_input(batch["image"], pixels), training=False)
        labels, weights = batch["label"], batch["weight"]
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
        best = tf.math.top_k(logits, min(5, logits.shape[-1])).indices  # of equal logits the lower index: ties are no gift
        found = tf.cast(tf.cast(best, tf.int64) == labels[:, None], tf.float32)
        answers = found[:, 0], tf.reduce_sum(found, 1)
        return [tf.reduce_sum(value * weights) for value in (tf.ones_like(weights), losses, *answers)]

    @tf.function
    def step(batch):
        return tf.stack([strategy.reduce(tf.distribute.ReduceOp.SUM, value, axis=None)
                         for value in strategy.run(replica_step, args=(batch,))])

    totals = tf.zeros([4])
    for batch in batches:
        sums = step(batch)
        totals += sums
        if on_batch:
            on_batch(int(sums[0]))
    examples, *sums = (float(total) for total in totals)
    return {"examples": int(examples), **dict(zip(("loss", "top_1", "top_5"), (total / examples for total in sums)))}


@dataclasses.dataclass(frozen=True)
class Plan:
    """How to train: what the flags of the same names say."""

    batch_size: int
    epochs: int
    learning_rate: float
    warmup_steps: int
    schedule: str
    seed: int
    xla: str
    checkpoint_seconds: float


def train(strategy, model, optimizer, dataset, pixels, plan, model_dir, progress, note):
    """Trains to the end of `plan` from the newest checkpoint in `model_dir`; returns the figures of the last evaluation.

    `progress(total, description, initial)` returns a tqdm bar, `note(line)` tells the user something. SIGTERM and SIGINT end
    the step, write a checkpoint and exit with 143 and 130. Raises UserError if the loss is no longer finite.
    """
    steps_per_epoch = dataset.train.examples // plan.batch_size
    last_step = steps_per_epoch * plan.epochs
    state = checkpoints.restore(model_dir, model, optimizer, note) or {
        "step": 0, "plateau": Plateau().state(), "sums": [0.0, 0.0, 0], "figures": None, "xla": None}
    if state["step"] >= last_step:
        note(f"{model_dir} is trained already: step {state['step']}, asked for {last_step}")
        return state["figures"] or evaluate_split(strategy, model, pixels, dataset.evaluation, plan.batch_size)
    if state["step"]:
        note(f"{model_dir}: going on from step {state['step']} of {last_step}")
    train_step = _make_step(strategy, model, optimizer, pixels, plan, state["xla"], note)
    plateau = Plateau()
    plateau.restore(state["plateau"])
    means = RunningMeans(plan.batch_size, state["sums"])
    stop = _StopSignal()
    first_step, figures, begin = state["step"], state["figures"], time.monotonic()
    saved = shown = begin
    batches = iter(strategy.experimental_distribute_dataset(
        input_pipeline.training_batches(dataset.train, pixels, plan.batch_size, plan.seed, first_step)))
    with progress(last_step * plan.batch_size, "train", first_step * plan.batch_size) as bar:
        for step in range(first_step, last_step):
            optimizer.learning_rate.assign(_learning_rate(plan, step, last_step, plateau.drops))
            means.add(train_step(_next_batch(batches, dataset.train), step))
            bar.update(plan.batch_size)
            now, end_of_epoch = time.monotonic(), (step + 1) % steps_per_epoch == 0
            time_to_save = end_of_epoch or stop.requested or now - saved > plan.checkpoint_seconds
            if time_to_save or now - shown > bar.mininterval:
                loss, top_1 = means.recent(step + 1)
                bar.set_postfix_str(f"epoch {step // steps_per_epoch + 1}/{plan.epochs}, loss {loss:.3f}, top-1 {top_1:.3f}")
                shown = now
            if end_of_epoch:
                loss, top_1 = means.take_epoch()
                figures = evaluate_split(strategy, model, pixels, dataset.evaluation, plan.batch_size)
                _check_finite(figures["loss"], step + 1)
                plateau.after_epoch(1 - figures["top_1"])
                figures |= {"step": step + 1, "train_images_per_s": (step + 1 - first_step) * plan.batch_size / (now - begin)}
                bar.write(f"epoch {(step + 1) // steps_per_epoch}: train loss {loss:.3f}, top-1 {top_1:.3f}; evaluation loss "
                          f"{figures['loss']:.3f}, top-1 {figures['top_1']:.3f}", file=sys.stderr)
                checkpoints.append_log(model_dir, {
                    "epoch": (step + 1) // steps_per_epoch, "step": step + 1,
                    "learning_rate": float(optimizer.learning_rate.numpy()),
                    "train_loss": loss, "train_top_1": top_1, "loss": figures["loss"], "top_1": figures["top_1"]})
                begin += time.monotonic() - now  # evaluation is not training
            if time_to_save:
                checkpoints.save(model_dir, model, optimizer, {
                    "step": step + 1, "plateau": plateau.state(), "sums": means.epoch_sums(), "figures": figures,
                    "xla": train_step.xla})
                saved = time.monotonic()
            stop.exit_if_requested(note, step + 1)
    return figures


def _make_step(strategy, model, optimizer, pixels, plan, picked, note):
    """The TrainStep that `plan` asks for. `picked` is what --xla=auto picked when this training began: it stays so, because
    the two ways round differently and a resumed run is to be the whole run.
    """
    def make_step(xla):
        return TrainStep(strategy, model, optimizer, pixels, plan.batch_size, xla, plan.seed)

    if plan.xla != "auto" or picked is not None:
        return make_step(picked if plan.xla == "auto" else plan.xla == "on")
    shape = [plan.batch_size, pixels.image_size, pixels.image_size, pixels.channels]
    black = tf.data.Dataset.from_tensors({"image": tf.zeros(shape, tf.uint8), "label": tf.zeros(shape[:1], tf.int64)})
    optimizer.learning_rate.assign(0.0)
    train_step, line = pick_xla(make_step, next(iter(strategy.experimental_distribute_dataset(black))))
    note(line)
    return train_step


def _learning_rate(plan, step, last_step, drops):
    warmth = min(1.0, (step + 1) / plan.warmup_steps) if plan.warmup_steps else 1.0
    return plan.learning_rate * warmth * learning_rate_factor(plan.schedule, step / last_step, drops)


def _next_batch(batches, split):
    with datasets.naming_bad_pictures(split):
        return next(batches)


def evaluate_split(strategy, model, pixels, split, batch_size, on_batch=None):
    """`evaluate` over all pictures of a datasets.Split. Raises UserError naming a picture that does not decode."""
    batches = strategy.experimental_distribute_dataset(input_pipeline.evaluation_batches(split, pixels, batch_size))
    iterator = iter(batches)
    steps = math.ceil(split.examples / batch_size)
    return evaluate(strategy, model, pixels, (_next_batch(iterator, split) for _ in range(steps)), on_batch)


def _check_finite(loss, step):
    if not math.isfinite(loss):
        raise UserError(f"The loss is {loss} at step {step}; try a lower --learning_rate or a longer --warmup_steps. The last "
                        "checkpoint is from before.")


class RunningMeans:
    """Mean loss and top-1 of training since last asked and since the epoch began; read from the device only when asked."""

    def __init__(self, batch_size, epoch_sums):
        self._batch_size, self._epoch, self._recent, self._steps = batch_size, list(epoch_sums), None, 0
        self._shown = (math.nan, math.nan)

    def add(self, sums):
        self._recent = sums if self._recent is None else [total + value for total, value in zip(self._recent, sums)]
        self._steps += 1

    def recent(self, step):
        """(loss, top_1) since the last call. Raises UserError if the loss is not finite."""
        self._fold()
        _check_finite(self._shown[0], step)
        return self._shown

    def take_epoch(self):
        """(loss, top_1) since the epoch began; a new epoch begins."""
        loss, correct, pictures = self.epoch_sums()
        self._epoch = [0.0, 0.0, 0]
        return loss / pictures, correct / pictures

    def epoch_sums(self):
        self._fold()
        return list(self._epoch)

    def _fold(self):
        if self._steps:
            pictures = self._steps * self._batch_size
            loss, correct = (float(total) for total in self._recent)
            self._shown = loss / pictures, correct / pictures
            self._epoch = [self._epoch[0] + loss, self._epoch[1] + correct, self._epoch[2] + pictures]
            self._recent, self._steps = None, 0


class _StopSignal:
    """Remembers SIGTERM or SIGINT until the step is done; a second one stops at once."""

    def __init__(self):
        self.requested = None
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, self._remember)

    def _remember(self, number, frame):
        del frame
        self.requested = number
        signal.signal(number, signal.SIG_DFL)

    def exit_if_requested(self, note, step):
        if self.requested:
            note(f"stopped by {signal.Signals(self.requested).name} after step {step}; start again to go on from there")
            sys.exit(128 + self.requested)
