"""The update rule of 2012, LARS for large batches, and the learning-rate schedules."""

import contextlib
import numbers
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from alexnet_tf import bounds
from alexnet_tf.errors import UserError

# Of both rules, as of the paper.
MOMENTUM, DECAY, BIAS_RATE = 0.9, 0.0005, 1.0
_CLIPS = {"clipnorm", "clipvalue", "global_clipnorm"}  # what of Keras' arguments works here


@keras.saving.register_keras_serializable("alexnet_tf")
class SGD2012(keras.optimizers.Optimizer):
    """Section 5 of the paper (src/weights.cu:146-198 of the source), with g the gradient of the
    mean loss:

        v <- momentum * v - weight_decay * learning_rate * w - learning_rate * g
        w <- w + v

    The rate is inside the velocity, and the decay goes through the momentum;
    `keras.optimizers.SGD(weight_decay=)` is another rule. Biases do not decay; their rate is
    `bias_rate` times the rate (the source ran 2, the paper says 1). `rates` multiplies the rates of
    variables by path, {"fc8/kernel": 10.0}: a fresh projection on trained layers (the source's
    layer-params-146-2012-2011.cfg, lines 182-193, ran 10 there). `build` raises ValueError for a
    path that none of its variables has.

    Of the arguments of keras.optimizers.Optimizer clipnorm, clipvalue and global_clipnorm are
    taken; UserError for others, which a training would not obey, and for numbers below 0.
    """

    def __init__(
        self,
        learning_rate: float = 0.01,
        momentum: float = MOMENTUM,
        decay: float = DECAY,
        bias_rate: float = BIAS_RATE,
        rates: Mapping[str, float] | None = None,
        name: str = "sgd2012",
        **kwargs: Any,
    ) -> None:
        _check_arguments(kwargs)
        if isinstance(learning_rate, numbers.Real):
            learning_rate = bounds.number(learning_rate, "learning_rate")
        super().__init__(learning_rate=learning_rate, name=name, **kwargs)
        self.momentum = bounds.number(momentum, "momentum", 1)
        self.decay = bounds.number(decay, "decay")
        self.bias_rate = bounds.number(bias_rate, "bias_rate")
        self._built_for: tuple[int, ...] = ()
        self.rates = {path: bounds.number(rate, path) for path, rate in (rates or {}).items()}

    def build(self, variables: Sequence[keras.Variable]) -> None:
        if self.built:
            if self._built_for != tuple(map(id, variables)):
                raise UserError(
                    "optimizer= has trained another model, whose velocities it keeps; make a new "
                    f"{type(self).__name__}."
                )
            return
        if strange := self.rates.keys() - {variable.path for variable in variables}:
            raise ValueError(f"rates: there is no variable {min(strange)} to train.")
        super().build(variables)
        self._built_for = tuple(map(id, variables))
        self.velocities = [
            self.add_variable_from_reference(variable, name="velocity") for variable in variables
        ]
        self._is_bias = [variable.path.endswith("bias") for variable in variables]
        self._factors = [
            (self.bias_rate if is_bias else 1.0) * self.rates.get(variable.path, 1.0)
            for variable, is_bias in zip(variables, self._is_bias)
        ]
        self.slowdown = self.add_variable((len(variables),), initializer="ones", name="slowdown")
        self._accept = True

    def slow(self, variables: Iterable[keras.Variable], factor: float) -> None:
        """From now on `variables` learn at `factor` times their rates, and all others at theirs.

        0 freezes: no decay, no coasting (src/layer.cu:582).
        """
        slowed = {self._get_variable_index(variable) for variable in variables}
        count = len(self.velocities)
        self.slowdown.assign([factor if index in slowed else 1.0 for index in range(count)])

    @contextlib.contextmanager
    def lent(self) -> Iterator[None]:
        """For a training that sets the rate and `slow`s variables: whatever ends it, they are
        afterwards what they were. It is built.
        """
        lent = self.learning_rate, self.slowdown
        values = [np.array(variable.numpy()) for variable in lent]
        try:
            yield
        finally:
            for variable, value in zip(lent, values):
                variable.assign(value)

    def rest(self) -> None:
        """Forgets the velocities, as those of a training before. It is built."""
        for velocity in self.velocities:
            velocity.assign(tf.zeros_like(velocity))

    def apply_if(
        self, accept: tf.Tensor, gradients: Sequence, variables: Sequence[keras.Variable]
    ) -> None:
        """`apply`, changing nothing where `accept`, a scalar bool, is false.

        Call it where the step is traced.
        """
        self._accept = accept
        try:
            self.apply(gradients, variables)
        finally:
            self._accept = True

    def update_step(
        self, gradient: tf.Tensor, variable: keras.Variable, learning_rate: tf.Tensor
    ) -> None:
        index = self._get_variable_index(variable)
        velocity = self.velocities[index].value
        slowdown = tf.convert_to_tensor(self.slowdown.value)[index]
        rate = tf.cast(learning_rate, variable.dtype) * self._factors[index]
        rate *= tf.cast(slowdown, variable.dtype)
        rate *= self._trust(variable, gradient)
        updated, new_velocity = _rule(
            tf.convert_to_tensor(variable),
            tf.convert_to_tensor(velocity),
            tf.cast(gradient, variable.dtype),
            rate,
            tf.constant(self.momentum, variable.dtype),
            tf.constant(0.0 if self._is_bias[index] else self.decay, variable.dtype),
            tf.logical_and(self._accept, rate > 0),
        )
        velocity.assign(new_velocity)
        variable.assign(updated)

    def _trust(self, variable: keras.Variable, gradient: tf.Tensor) -> tf.Tensor:
        """What the rate of a variable is multiplied by in this step."""
        return tf.ones((), variable.dtype)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {
            "momentum": self.momentum,
            "decay": self.decay,
            "bias_rate": self.bias_rate,
            "rates": self.rates,
        }


def _check_arguments(given: Mapping[str, Any]) -> None:
    """Raises UserError for arguments of keras.optimizers.Optimizer without effect in a training, or
    of which a checkpoint keeps nothing. Their defaults, as get_config has them, change nothing.
    """
    if not (given := {name: given[name] for name in given.keys() - _CLIPS}):
        return
    usual = keras.optimizers.Optimizer(0.0).get_config()
    for name, value in given.items():
        if name in usual and value == usual[name]:
            continue
        do = "pass decay=, which is the paper's" if name == "weight_decay" else "omit it"
        raise UserError(f"{name}={value} is a Keras argument that has no effect here; {do}.")


def check_clips(optimizer: keras.optimizers.Optimizer, replicas: int) -> None:
    """Raises UserError for an `optimizer` that clips gradients on several `replicas`: Keras clips
    the share of each before their sum, which makes another network than one device does.
    """
    for name in sorted(_CLIPS):
        if replicas > 1 and (value := getattr(optimizer, name)) is not None:
            raise UserError(
                f"optimizer= has {name}={value}, which Keras applies on each of {replicas} "
                "replicas before their gradients are summed; omit it, or train on one device."
            )


@keras.saving.register_keras_serializable("alexnet_tf")
class LARS(SGD2012):
    """Layer-wise adaptive rates (You, Gitman, Ginsburg 2017, https://arxiv.org/abs/1708.03888):
    SGD2012, with the rate of each variable, in each step, times

        trust * |w| / (|g| + decay * |w|)

    so that no layer moves by more than a share of its own length, however large the rate has to be
    for a large batch. As in its author's nvcaffe a bias has its own ratio, with the same decay
    below the line though it does not decay, and the ratio is 1 where |w| or |g| is 0. A kernel is
    one variable, the two towers' of a layer are two.
    """

    def __init__(
        self,
        learning_rate: float = 2.0,
        momentum: float = MOMENTUM,
        decay: float = DECAY,
        bias_rate: float = BIAS_RATE,
        rates: Mapping[str, float] | None = None,
        trust: float = 0.001,
        name: str = "lars",
        **kwargs: Any,
    ) -> None:
        super().__init__(learning_rate, momentum, decay, bias_rate, rates, name, **kwargs)
        self.trust = bounds.number(trust, "trust")

    def _trust(self, variable: keras.Variable, gradient: tf.Tensor) -> tf.Tensor:
        weights = _length(tf.convert_to_tensor(variable))
        slope = _length(tf.cast(gradient, variable.dtype))
        ratio = tf.math.divide_no_nan(self.trust * weights, slope + self.decay * weights)
        return tf.where((weights > 0) & (slope > 0), ratio, tf.ones_like(ratio))

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"trust": self.trust}


OPTIMIZERS: dict[str, type[SGD2012]] = {"sgd2012": SGD2012, "lars": LARS}
# Its author's rates for this network with LRN, by the batch from which on they hold.
_LARS_RATES = {1024: 2.0, 8192: 10.0, 16384: 16.0}


def lars_rate(batch_size: int) -> float:
    """The rate that LARS's author ran for this network at the largest batch that is not above
    `batch_size`; below 1024, where he ran none, that of 1024 in proportion.
    """
    if batch_size < 1024:
        return _LARS_RATES[1024] * batch_size / 1024
    return _LARS_RATES[max(batch for batch in _LARS_RATES if batch <= batch_size)]


def _length(values: tf.Tensor) -> tf.Tensor:
    """The Euclidean norm, summed along the last axis first: one sum of 38 million small squares
    would lose them.
    """
    return tf.sqrt(tf.reduce_sum(tf.reduce_sum(tf.square(values), -1)))


# one pass over the 244 MB of weights instead of five
@tf.function(jit_compile=True, reduce_retracing=False, autograph=False)
def _rule(
    weights: tf.Tensor,
    velocity: tf.Tensor,
    gradient: tf.Tensor,
    learning_rate: tf.Tensor,
    momentum: tf.Tensor,
    decay: tf.Tensor,
    moves: tf.Tensor,
) -> tuple[tf.Tensor, tf.Tensor]:
    moved = momentum * velocity - learning_rate * (decay * weights + gradient)
    return tf.where(moves, weights + moved, weights), tf.where(moves, moved, velocity)


SCHEDULES = ("plateau", "steps", "linear", "poly", "constant")
SPANNING = ("steps", "linear", "poly")  # those whose rates depend on when the run will end
# Epochs of the rate's three drops and of the end in the log of the 2012 run (layer-params-145.cfg,
# lines 169-181).
_DROPS_2012, _EPOCHS_2012 = (25, 51, 79), 91
_NOISE_2012 = 67  # from that epoch on there was no colour noise
# what conv1's rate was multiplied by from those epochs on, beside the drops
_CONV1_2012 = (67, 0.1), (72, 0.0)


def learning_rate_factor(schedule: str, progress: float, drops: int = 0) -> float:
    """What the starting rate is multiplied by when the share `progress` (0..1) of the training is
    done.

    `drops` counts the divisions by 10 that a `Plateau` has asked for.
    """
    if schedule == "plateau":
        return 0.1**drops
    if schedule == "steps":
        return 0.1 ** sum(progress * _EPOCHS_2012 >= epoch for epoch in _DROPS_2012)
    if schedule == "linear":
        return 1.0 - progress
    if schedule == "poly":  # of power 2, as LARS's author ran it
        return (1.0 - progress) ** 2
    return 1.0


def conv1_factor(schedule: str, progress: float) -> float:
    """What conv1's rate is multiplied by besides: the last phase of the 2012 run, for the schedule
    `steps`.
    """
    past = [
        factor
        for epoch, factor in _CONV1_2012
        if schedule == "steps" and progress * _EPOCHS_2012 >= epoch
    ]
    return past[-1] if past else 1.0


def colour_noise_factor(schedule: str, progress: float) -> float:
    """What the strength of the colour noise is multiplied by: the schedule `steps` ends it as the
    2012 run did.
    """
    return 0.0 if schedule == "steps" and progress * _EPOCHS_2012 >= _NOISE_2012 else 1.0


class Plateau:
    """The paper's rule: divide the rate by 10 when the validation error stops improving, three
    times.

    The paper did it by hand. Here "stops" is `patience` epochs without a new lowest error. Its
    state is three numbers.
    """

    def __init__(self, patience: int = 5, most_drops: int = 3) -> None:
        self.patience, self.most_drops = patience, most_drops
        self.lowest, self.epochs_since, self.drops = float("inf"), 0, 0

    def after_epoch(self, error: float) -> None:
        if error < self.lowest:
            self.lowest, self.epochs_since = error, 0
            return
        self.epochs_since += 1
        if self.epochs_since >= self.patience and self.drops < self.most_drops:
            self.drops, self.epochs_since = self.drops + 1, 0

    def state(self) -> dict[str, float]:
        return {"lowest": self.lowest, "epochs_since": self.epochs_since, "drops": self.drops}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.lowest, self.epochs_since, self.drops = (
            state["lowest"],
            state["epochs_since"],
            state["drops"],
        )
