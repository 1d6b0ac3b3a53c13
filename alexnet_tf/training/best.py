"""The best evaluation of a training, its weights, and the patience that waits for a better one."""

import os
from collections.abc import Callable

import keras

from alexnet_tf.errors import UserError
from alexnet_tf.training import checkpoints


class Best:
    """The evaluation of the lowest error so far, among equal ones that of the lowest loss; and when
    to wait no longer.

    `patience` is how many epochs may pass without a lower error; 0: any number. Its state is what a
    checkpoint keeps.
    """

    def __init__(self, patience: int, state: dict | None = None) -> None:
        self.patience = patience
        self._state = state or {
            "step": 0,
            "error": float("inf"),
            "loss": float("inf"),
            "epochs_since": 0,
            "figures": None,
        }

    def after_epoch(self, step: int, figures: dict) -> bool:
        """Takes the evaluation `figures` of `step`; returns whether they are the best."""
        state, error, loss = self._state, 1 - figures["top_1"], figures["loss"]
        since = 0 if error < state["error"] else state["epochs_since"] + 1
        best = (error, loss) < (state["error"], state["loss"])
        if best:
            state = {"step": step, "error": error, "loss": loss, "figures": figures}
        self._state = state | {"epochs_since": since}
        return best

    def judged_again(self, step: int, figures: dict) -> None:
        """The weights of `step` are others now, of these `figures`, and what they were is gone."""
        if step == self.step:
            of_them = {"error": 1 - figures["top_1"], "loss": figures["loss"], "figures": figures}
            self._state = self._state | of_them

    @property
    def step(self) -> int:
        return self._state["step"]

    @property
    def error(self) -> float:
        """The lowest; the weights kept may be those of a later step, with a lower loss."""
        return self._state["error"]

    @property
    def figures(self) -> dict | None:
        return self._state["figures"]

    @property
    def epochs_since(self) -> int:
        """Epochs without a lower error."""
        return self._state["epochs_since"]

    @property
    def is_over(self) -> bool:
        return 0 < self.patience <= self.epochs_since

    def count_anew(self) -> None:
        """From now on."""
        self._state = self._state | {"epochs_since": 0}

    def state(self) -> dict:
        return self._state


def load_best(
    model_dir: str | os.PathLike, model: keras.Model, best: Best, note: Callable[[str], None]
) -> dict:
    """Gives `model` the weights of the best evaluation, and returns its figures; none where they
    cannot be read.
    """
    try:
        checkpoints.restore(model_dir, model, report=note, step=best.step, last=True)
    except UserError:
        note(f"the best weights, those after step {best.step}, cannot be read: the last are kept")
        return {}
    note(f"the best weights are those after step {best.step}, which are kept")
    return (best.figures or {}) | {"step": best.step}
