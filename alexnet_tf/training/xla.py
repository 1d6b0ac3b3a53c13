"""The step that a training makes: compiled by XLA as its plan says, or as is faster here."""

import math
import re
import statistics
import time
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from alexnet_tf.data import pipeline
from alexnet_tf.errors import UserError
from alexnet_tf.pixels import Preprocessing
from alexnet_tf.training import devices
from alexnet_tf.training.objective import Objective
from alexnet_tf.training.optimizer import SGD2012
from alexnet_tf.training.plan import Plan
from alexnet_tf.training.steps import TrainStep

# How XLA says that it cannot compile something.
_NOT_COMPILED = tf.errors.InvalidArgumentError, tf.errors.UnimplementedError


def make_step(
    strategy: tf.distribute.Strategy,
    model: keras.Model,
    optimizer: SGD2012,
    pixels: Preprocessing,
    plan: Plan,
    picked: bool | None,
    note: Callable[[str], None],
    objective: Objective | None = None,
    class_names: tuple = (),
) -> TrainStep:
    """The TrainStep that `plan` asks for. `picked` is what xla=auto picked when this training
    began: it stays so, because the two ways round differently and a resumed run is to be the whole
    run. Raises UserError where it is to be compiled and cannot be.
    """

    def made(xla: bool) -> TrainStep:
        return TrainStep(
            strategy,
            model,
            optimizer,
            pixels,
            plan.batch_size,
            xla,
            plan.seed,
            objective,
            class_names,
        )

    has_foreign = not hasattr(model, "variant") or bool(objective and objective.loss)
    if plan.xla != "auto":
        picked = plan.xla == "on"
    tried = plan.xla == "on" and has_foreign  # what XLA may not know
    if picked is not None and not tried:
        return made(picked)

    def black(context: tf.distribute.InputContext) -> tf.data.Dataset:
        shape = [
            context.get_per_replica_batch_size(plan.batch_size),
            pixels.image_size,
            pixels.image_size,
            pixels.channels,
        ]
        batch = {"image": tf.zeros(shape, tf.uint8), "label": tf.zeros(shape[:1], tf.int64)}
        return tf.data.Dataset.from_tensors(batch).repeat()

    if tf.config.list_physical_devices("GPU") and not tried:
        note(
            "xla=auto: compiling the step with XLA, to time it; on a GPU that may take minutes, "
            "which xla=off avoids"
        )
    optimizer.learning_rate.assign(0.0)
    # A rate of 0 does not keep moving statistics where they are, nor the count of steps.
    kept = [*model.non_trainable_variables, optimizer.iterations]
    values = [variable.numpy() for variable in kept]
    batch = next(pipeline.distribute(strategy, black))
    if tried:
        train_step, line = _compiled(made, batch), ""
    else:
        train_step, line = pick_xla(strategy, made, batch)
    for variable, value in zip(kept, values):
        variable.assign(value)
    if line:
        note(line)
    return train_step


def _compiled(make_step: Callable[[bool], TrainStep], batch: Any) -> TrainStep:
    """`make_step(True)`, which has made a step of `batch`, as for pick_xla. Raises UserError where
    XLA cannot compile it.
    """
    step = make_step(True)
    try:
        float(step(batch, 0)[0])
    except _NOT_COMPILED as error:
        unknown = re.search(r" on XLA_\w+: (\w+)", error.message)
        what = f"{unknown[1]}, which is in" if unknown else "a step of"
        raise UserError(
            f"xla=on, but XLA cannot compile {what} this model or its loss; pass xla=off."
        ) from None
    return step


def pick_xla(
    strategy: tf.distribute.Strategy, make_step: Callable[[bool], TrainStep], batch: Any
) -> tuple[TrainStep, str]:
    """Times a step with and without XLA on `batch`; returns (the faster TrainStep, a line that says
    so).

    `make_step(xla)` returns a TrainStep of an optimizer at rate 0, so that the timed steps move
    nothing. Workers take the mean of their times, and so the same way. What XLA cannot compile, a
    loss by tf.py_function say, takes for ever with it.
    """
    seconds, steps = {}, {}
    for xla in (True, False):
        steps[xla] = make_step(xla)
        try:
            float(steps[xla](batch, 0)[0])  # compiles
            begin = time.perf_counter()
            float(steps[xla](batch, 0)[0])
            took = time.perf_counter() - begin
        except _NOT_COMPILED:
            if not xla:
                raise
            took = math.inf
        seconds[xla] = statistics.mean(devices.over_workers(strategy, took))
    faster = seconds[True] < seconds[False]
    return (
        steps[faster],
        (
            f"xla=auto: {'on' if faster else 'off'} "
            f"(a step takes {seconds[True]:.2f} s with XLA, {seconds[False]:.2f} s without)"
        ),
    )
