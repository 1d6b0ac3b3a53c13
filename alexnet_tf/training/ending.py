"""Whether a training has nothing left to do, and why."""

import dataclasses
import os

from alexnet_tf.data.splits import Dataset
from alexnet_tf.training.best import Best
from alexnet_tf.training.plan import Plan
from alexnet_tf.training.state import TrainingState

# By what a training has ended before its last step: in its TrainingState.
BY_PATIENCE, BY_CALLBACK = "patience", "callback"


def is_over(state: TrainingState | None, plan: Plan, dataset: Dataset) -> bool:
    """Whether a training on `dataset` has nothing left to do after a checkpoint with this
    TrainingState; None: there is no checkpoint.
    """
    if state is None:
        return False
    if is_of_others(state, dataset):
        state = dataclasses.replace(state, best=None)  # no patience has counted on these pictures
    return why_over(state, plan, plan.last_step(dataset)) is not None


def is_of_others(state: TrainingState, dataset: Dataset) -> bool:
    """Whether a training with this TrainingState is known to be of other pictures."""
    return state.data not in (None, dataset.fingerprint)


def why_over(
    state: TrainingState, plan: Plan, last_step: int, has_callbacks: bool = False
) -> str | None:
    """What to say of a training with nothing left to do, after that it is already trained; None
    where it goes on. Callbacks that have stopped it would do so again, unless more epochs are asked
    for than then; patience that is given later counts from then.
    """
    if state.to_evaluate:
        return None
    if state.step >= last_step:
        return ""
    stopped, best = state.stopped, Best(plan.patience, state.best)
    if stopped is None and (state.figures or {}).get("step", state.step) != state.step:
        stopped = BY_PATIENCE  # which checkpoints of earlier versions do not say
    if stopped == BY_PATIENCE and best.is_over:
        return (
            f"; {best.epochs_since} epochs without a lower error than {best.error:.4g} "
            f"(patience={plan.patience}); pass a higher patience= to continue"
        )
    if stopped == BY_CALLBACK and has_callbacks and last_step <= (state.last_step or 0):
        return "; a callback stopped it; pass more epochs= to continue, or omit the callbacks"
    return None


def trained_already(model_dir: str | os.PathLike, step: int, last_step: int) -> str:
    """The line that says that nothing is left to train."""
    return f"{model_dir} is already trained: step {step}, with {last_step} asked for"
