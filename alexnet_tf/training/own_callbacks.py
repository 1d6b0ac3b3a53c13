"""The callbacks of Keras that a training is given: which of them fit it."""

from collections.abc import Sequence

import keras

from alexnet_tf.errors import UserError, check_kind, one_line
from alexnet_tf.training.plan import Plan

# By the names that callbacks know them by.
_MEASURED = "loss", "top_1", "val_loss", "val_top_1", "val_top_5"


def check(callbacks: Sequence[keras.callbacks.Callback], plan: Plan) -> None:
    """Raises UserError for what is no list of callbacks, and for one that a training by `plan`
    would leave without effect.
    """
    check_kind(list | tuple, callbacks, "callbacks", "a list of callbacks of Keras")
    for callback in callbacks:
        check_kind(
            keras.callbacks.Callback, callback, "one of callbacks", "a keras.callbacks.Callback"
        )
        _check_rate(callback, plan)
        _check_monitor(callback)


def is_choosing(callback: keras.callbacks.Callback) -> bool:
    """Whether a callback of Keras decides something by the evaluation."""
    kept = isinstance(callback, keras.callbacks.ModelCheckpoint) and callback.save_best_only
    return kept or isinstance(
        callback, keras.callbacks.EarlyStopping | keras.callbacks.ReduceLROnPlateau
    )


def _check_rate(callback: keras.callbacks.Callback, plan: Plan) -> None:
    """Raises UserError for a callback whose rates those of `plan` would take the place of."""
    if (plan.schedule != "constant" or plan.warmup_steps) and isinstance(
        callback, keras.callbacks.LearningRateScheduler | keras.callbacks.ReduceLROnPlateau
    ):
        raise UserError(
            f"callbacks= has a {type(callback).__name__}, which sets the rate, as "
            f"schedule={plan.schedule} and warmup_steps={plan.warmup_steps} do; pass "
            "schedule='constant' and warmup_steps=0 beside it."
        )


def _check_monitor(callback: keras.callbacks.Callback) -> None:
    """Raises UserError for a callback of Keras that watches what is not measured here, or would
    take the worst for the best.
    """
    callbacks = keras.callbacks
    if isinstance(callback, callbacks.SwapEMAWeights):
        raise UserError(
            "callbacks= has a SwapEMAWeights, for an optimizer that keeps moving averages, which"
            " those of a training here do not; leave it out."
        )
    if isinstance(callback, callbacks.BackupAndRestore):
        raise UserError(
            "callbacks= has a BackupAndRestore, and a training here goes on by itself, from its"
            " checkpoints in model_dir; leave it out."
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
        if not callback.save_best_only:
            return
    elif not isinstance(callback, callbacks.EarlyStopping | callbacks.ReduceLROnPlateau):
        return
    if callback.monitor not in _MEASURED:
        raise UserError(
            f"callbacks= has a {kind} with monitor={callback.monitor!r}, which is not measured;"
            f" there are {', '.join(_MEASURED)}."
        )
    right = "min" if callback.monitor.endswith("loss") else "max"
    if callback.mode not in (right, "auto" if right == "min" else right):
        raise UserError(
            f"callbacks= has a {kind} with monitor={callback.monitor!r} and mode={callback.mode!r};"
            f" pass mode={right!r}, which is the better of it."
        )
