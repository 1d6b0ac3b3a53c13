"""The callbacks of Keras that a training is given: which of them fit it, and how they are told."""

import contextlib
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from alexnet_tf.errors import UserError, check_kind, first_few, one_line
from alexnet_tf.training import checkpoints
from alexnet_tf.training.optimizer import SGD2012
from alexnet_tf.training.plan import Plan

# By the names that callbacks know them by.
_MEASURED = "loss", "top_1", "val_loss", "val_top_1", "val_top_5"
_CHECKPOINTS = keras.callbacks.ModelCheckpoint, keras.callbacks.OrbaxCheckpoint
# Where a callback is told what the evaluation measured, and where none is called.
_TOLD = "on_epoch_end", "on_test_end"
_NEVER_CALLED = "on_test_batch_begin", "on_test_batch_end"


def check(callbacks: Sequence[keras.callbacks.Callback], plan: Plan) -> None:
    """Raises UserError for anything but a list of callbacks, and for a callback that would have no
    effect in a training by `plan`.
    """
    check_kind(list | tuple, callbacks, "callbacks", "a list of callbacks of Keras")
    for callback in callbacks:
        check_kind(
            keras.callbacks.Callback, callback, "one of callbacks", "a keras.callbacks.Callback"
        )
        _check_hooks(callback)
        _check_rate(callback, plan)
        _check_monitor(callback)


def is_choosing(callback: keras.callbacks.Callback) -> bool:
    """Whether a callback decides something by the evaluation, or may: a user's own that is told
    what was measured.
    """
    return _has_best(callback) or _is_told(callback)


def may_choose(callbacks: Sequence[keras.callbacks.Callback]) -> str | None:
    """A line for the case that pictures are held out only for callbacks that may do no more than
    log.
    """
    found = [type(one).__name__ for one in callbacks if _is_told(one)]
    if not found or any(map(_has_best, callbacks)):
        return None
    return (
        f"{', '.join(found)}: may choose by the evaluation that it is told of, so training "
        "pictures are held out for that; Keras' History and CSVLogger, and metrics.jsonl, only log"
    )


def count_anew(callbacks: Sequence[keras.callbacks.Callback], step: int) -> str | None:
    """A line on those that know no best evaluation in a training that goes on from `step`."""
    found = [one for one in callbacks if _has_best(one) and getattr(one, "best", None) is None]
    if not found:
        return None
    line = f"evaluations before step {step} do not count for "
    line += ", ".join(type(one).__name__ for one in found)
    for one in found:
        if isinstance(one, _CHECKPOINTS):
            line += (
                "; the next one replaces the best that was saved, unless initial_value_threshold="
                f" is the best {one.monitor} so far"
            )
            break
    return line


@contextlib.contextmanager
def compiled(
    model: keras.Model, optimizer: SGD2012, callbacks: Sequence[keras.callbacks.Callback]
) -> Iterator[None]:
    """`model` compiled with `optimizer`, for `callbacks` look for it there; afterwards as its user
    has compiled it, or not at all.
    """
    if not callbacks:
        yield
        return
    before = dict(vars(model))
    model.compile(optimizer)
    changed = [name for name, value in vars(model).items() if before.get(name) is not value]
    try:
        yield
    finally:
        for name in changed:
            del vars(model)[name]
        # Not by setattr: it would count what measures among the metrics of the layer as well.
        vars(model).update({name: before[name] for name in changed if name in before})


class Callbacks:
    """The callbacks of a training while it runs: told what happens, and held to what they may
    change. False where there are none.
    """

    def __init__(
        self,
        callbacks: Sequence[keras.callbacks.Callback],
        model: keras.Model,
        optimizer: SGD2012,
        plan: Plan,
        epochs: int,
        steps: int,
    ) -> None:
        """`epochs` and `steps` of each are what callbacks have as self.params."""
        self._model, self._optimizer, self._plan = model, optimizer, plan
        self._fixed = fixed(model, optimizer)
        model.stop_training = False
        self._list = keras.callbacks.CallbackList(
            list(callbacks), model=model, verbose=0, epochs=epochs, steps=steps
        )

    def __bool__(self) -> bool:
        return bool(self._list.callbacks)

    def digest(self) -> str | None:
        """Of the weights, where callbacks may change them."""
        return checkpoints.weights_digest(self._model) if self else None

    def begin(self, model_dir: str | os.PathLike, first_step: int) -> str | None:
        """A line on those that start counting again. Raises UserError if they change the weights
        with which a continued training begins.
        """
        if not self:
            return None
        before = self.digest()
        self._list.on_train_begin()
        if not first_step:
            return None
        if self.digest() != before:
            raise UserError(
                "callbacks= has one that changes the weights when a training begins, but the one "
                f"in {model_dir} continues from step {first_step}; omit it, or pass another "
                "model_dir."
            )
        return count_anew(self._list.callbacks, first_step)

    def begin_epoch(self, epoch: int) -> None:
        self._list.on_epoch_begin(epoch)

    def check_rate(self, scheduled: float) -> None:
        """Raises UserError where one has set another rate than the `scheduled` one, which the
        schedule would overwrite.
        """
        if not self or _keeps_rate(self._plan):
            return
        if self._optimizer.learning_rate.numpy() != np.float32(scheduled):
            raise _sets_rate("one", self._plan)

    def begin_step(self, step_of_epoch: int) -> None:
        """Raises UserError where one has set what a step does not look at again, or a rate with
        which it would change nothing.
        """
        self._list.on_train_batch_begin(step_of_epoch)
        if self:
            check_fixed(self._fixed, self._model, self._optimizer)
            _check_set_rate(self._optimizer)

    def end_step(self, step_of_epoch: int, means: Iterable[float]) -> None:
        """`means` are loss and top_1 of the step."""
        self._list.on_train_batch_end(step_of_epoch, _logs(means))

    def begin_evaluation(self) -> str | None:
        """The digest of what is evaluated. Raises UserError where they change it."""
        before = self.digest()
        self._list.on_test_begin()
        if self.digest() != before:
            raise UserError(
                "callbacks= has one that changes the weights when an evaluation begins, so the "
                "figures would not be those of the weights that are kept; change them when an "
                "epoch or a step ends, or omit it."
            )
        return before

    def end_evaluation(self, measured: dict[str, float]) -> None:
        self._list.on_test_end(measured)

    def end_epoch(self, epoch: int, means: Iterable[float], measured: dict[str, float]) -> None:
        """`means` are loss and top_1 of the epoch, `measured` is of the evaluation after it."""
        logs = _logs(means) | {f"val_{name}": value for name, value in measured.items()}
        self._list.on_epoch_end(epoch, logs)

    def end(self) -> None:
        self._list.on_train_end()


def _logs(means: Iterable[float]) -> dict[str, float]:
    return dict(zip(("loss", "top_1"), means))


def fixed(model: keras.Model, optimizer: SGD2012) -> dict[str, Any]:
    """By their names, the settings that a training takes as they are when it begins: its step is
    compiled once.
    """
    config = optimizer.get_config()
    del config["learning_rate"]
    return (
        {f"trainable of {variable.path}": variable.trainable for variable in model.variables}
        | {
            f"rate of {layer.name}": layer.rate
            for layer in model._flatten_layers(include_self=False)
            if isinstance(layer, keras.layers.Dropout)
        }
        | {f"{name} of the optimizer": value for name, value in config.items()}
    )


def check_fixed(before: Mapping[str, Any], model: keras.Model, optimizer: SGD2012) -> None:
    """Raises UserError where a callback has set one of `fixed`: it would have no effect."""
    now = fixed(model, optimizer)
    changed = [name for name in now if now[name] != before[name]]
    if not changed:
        return
    raise UserError(
        f"callbacks= has one that sets {first_few(changed, 1)}, but a training reads that only"
        " when it begins; omit the callback, and train the resulting model again with the change, "
        "with another model_dir."
    )


def _check_set_rate(optimizer: SGD2012) -> None:
    """Raises UserError for a rate that a callback cannot have meant."""
    if "lr" in vars(optimizer):
        raise UserError(
            "callbacks= has one that sets optimizer.lr, which Keras no longer reads; set "
            "optimizer.learning_rate."
        )
    rate = float(optimizer.learning_rate.numpy())
    if not 0 <= rate < math.inf:  # nor NaN
        raise UserError(
            f"callbacks= has one that sets the rate to {rate:g}; it has to be 0 or a positive"
            " number."
        )


def _has_best(callback: keras.callbacks.Callback) -> bool:
    """Whether a callback of Keras keeps the best evaluation so far."""
    kept = isinstance(callback, _CHECKPOINTS) and callback.save_best_only
    return kept or isinstance(
        callback, keras.callbacks.EarlyStopping | keras.callbacks.ReduceLROnPlateau
    )


def _is_told(callback: keras.callbacks.Callback) -> bool:
    """Whether code that a user wrote is told of each evaluation."""
    return any(_is_own(callback, hook) for hook in _TOLD)


def _is_own(callback: keras.callbacks.Callback, hook: str) -> bool:
    """Whether the function called at that `hook` is not one of Keras' own."""
    module = getattr(getattr(callback, hook), "__module__", None) or ""
    return module.partition(".")[0] != "keras"


def _check_hooks(callback: keras.callbacks.Callback) -> None:
    """Raises UserError for a callback that waits for what never comes."""
    if isinstance(callback, keras.callbacks.CallbackList):
        raise UserError("callbacks= has a CallbackList; pass a list of the callbacks in it.")
    for hook in _NEVER_CALLED:
        if _is_own(callback, hook):
            raise UserError(
                f"callbacks= has a {type(callback).__name__} with {hook}, but no callback is told "
                "of the batches of an evaluation; use on_test_begin and on_test_end, or omit it."
            )


def _check_rate(callback: keras.callbacks.Callback, plan: Plan) -> None:
    """Raises UserError for a callback that sets rates which `plan` would overwrite."""
    if not _keeps_rate(plan) and isinstance(
        callback, keras.callbacks.LearningRateScheduler | keras.callbacks.ReduceLROnPlateau
    ):
        raise _sets_rate(f"a {type(callback).__name__}", plan)


def _keeps_rate(plan: Plan) -> bool:
    """Whether a rate that is set during the training stays."""
    return plan.schedule == "constant" and not plan.warmup_steps


def _sets_rate(which: str, plan: Plan) -> UserError:
    return UserError(
        f"callbacks= has {which} that sets the rate, as schedule={plan.schedule} and "
        f"warmup_steps={plan.warmup_steps} do; pass schedule='constant' and warmup_steps=0 with it."
    )


def _check_monitor(callback: keras.callbacks.Callback) -> None:
    """Raises UserError for a callback of Keras that watches what is not measured here, or would
    take the worst for the best.
    """
    callbacks = keras.callbacks
    if isinstance(callback, callbacks.SwapEMAWeights):
        raise UserError(
            "callbacks= has a SwapEMAWeights, for an optimizer that keeps moving averages, which "
            "the optimizers here do not; omit it."
        )
    if isinstance(callback, callbacks.BackupAndRestore):
        raise UserError(
            "callbacks= has a BackupAndRestore, but a training here continues by itself, from its "
            "checkpoints in model_dir; omit it."
        )
    kind = type(callback).__name__
    if isinstance(callback, callbacks.ModelCheckpoint):
        try:
            str(callback.filepath).format(epoch=1, batch=1, **dict.fromkeys(_MEASURED, 0.0))
        except (KeyError, IndexError, ValueError) as error:
            raise UserError(
                f"callbacks= has a {kind} with filepath={callback.filepath}, which cannot be filled"
                f" in ({one_line(error)}); there are epoch, {', '.join(_MEASURED)}."
            ) from None
    if not _has_best(callback):
        return
    if callback.monitor not in _MEASURED:
        raise UserError(
            f"callbacks= has a {kind} with monitor={callback.monitor!r}, which is not measured;"
            f" there are {', '.join(_MEASURED)}."
        )
    right = "min" if callback.monitor.endswith("loss") else "max"
    if callback.mode not in (right, "auto" if right == "min" else right):
        raise UserError(
            f"callbacks= has a {kind} with monitor={callback.monitor!r} and "
            f"mode={callback.mode!r}; pass mode={right!r}, in which it improves."
        )
