"""The rates of each step of a training, as its schedule has them."""

import keras

from alexnet_tf.network.model import both_towers
from alexnet_tf.training.optimizer import (
    SGD2012,
    Plateau,
    colour_noise_factor,
    conv1_factor,
)
from alexnet_tf.training.plan import Plan
from alexnet_tf.training.state import TrainingState


class Rates:
    """What the schedule of `plan` says of the next step, from a TrainingState on."""

    def __init__(
        self,
        plan: Plan,
        last_step: int,
        model: keras.Model,
        optimizer: SGD2012,
        state: TrainingState,
    ) -> None:
        self._plan, self._last_step, self._optimizer = plan, last_step, optimizer
        self._conv1 = [
            variable
            for layer in model.layers
            if both_towers(layer) == "conv1"
            for variable in layer.trainable_variables
        ]
        self._slowed_by: float | None = None
        self.plateau = Plateau()
        if state.plateau:
            self.plateau.restore(state.plateau)

    def set(self, state: TrainingState) -> None:
        """Gives the optimizer the rates of the step after `state`, which keeps them."""
        rates = [
            self._plan.rate(state.step, self._last_step, self.plateau.drops),
            conv1_factor(self._plan.schedule, state.step / self._last_step),
        ]
        if rates[1] != self._slowed_by:
            self._optimizer.slow(self._conv1, rates[1])
            self._slowed_by = rates[1]
        if rates != state.scheduled:  # else a callback's rate would be overwritten at once
            self._optimizer.learning_rate.assign(rates[0])
            state.scheduled = rates

    def colour_noise(self, step: int) -> float:
        return self._plan.colour_noise * colour_noise_factor(
            self._plan.schedule, step / self._last_step
        )
