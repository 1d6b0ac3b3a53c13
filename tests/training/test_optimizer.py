"""The 2012 rule against a NumPy loop, and the schedules at their steps."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from alexnet_tf.errors import UserError
from alexnet_tf.training.optimizer import (
    LARS,
    SGD2012,
    Plateau,
    colour_noise_factor,
    conv1_factor,
    lars_rate,
    learning_rate_factor,
)


@pytest.mark.parametrize("dtype,tolerance", [("float64", 1e-12), ("float32", 1e-5)])
def test_hundred_steps_of_the_rule(rng, dtype, tolerance):
    start = {"kernel": rng.normal(0, 1, (4, 3)), "bias": rng.normal(0, 1, 3)}
    variables = [keras.Variable(value, dtype=dtype, name=name) for name, value in start.items()]
    optimizer = SGD2012(0.01, momentum=0.9, decay=0.0005, bias_rate=2.0)
    optimizer.build(variables)
    w, v = dict(start), {name: np.zeros_like(value) for name, value in start.items()}
    for step in range(100):
        rate = 0.01 if step < 50 else 0.001  # the velocity keeps the old rate
        optimizer.learning_rate.assign(rate)
        rate = float(tf.constant(rate, tf.float32))
        gradients = {name: rng.normal(0, 1, value.shape) for name, value in w.items()}
        optimizer.apply(
            [tf.constant(gradient, dtype) for gradient in gradients.values()], variables
        )
        for name, g in gradients.items():
            eps, decay = (rate, 0.0005) if name == "kernel" else (2 * rate, 0.0)
            v[name] = 0.9 * v[name] - decay * eps * w[name] - eps * g
            w[name] = w[name] + v[name]
    for variable, expected in zip(variables, w.values()):
        np.testing.assert_allclose(variable.value, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype,tolerance", [("float64", 1e-12), ("float32", 1e-5)])
def test_fifty_steps_of_lars(rng, dtype, tolerance):
    start = {
        "a_kernel": rng.normal(0, 1, (3, 3, 4, 3)),
        "b_kernel": rng.normal(0, 0.01, (4, 3)),
        "a_bias": np.zeros(3),  # its first ratio is 1
        "b_bias": rng.normal(0, 1, 3),
    }
    variables = [keras.Variable(value, dtype=dtype, name=name) for name, value in start.items()]
    optimizer = LARS(2.0, momentum=0.9, decay=0.01, bias_rate=2.0, trust=0.002)
    optimizer.build(variables)
    w, v = dict(start), {name: np.zeros_like(value) for name, value in start.items()}
    for step in range(50):
        gradients = {name: rng.normal(0, 1, value.shape) for name, value in w.items()}
        if step == 7:
            gradients["b_kernel"] = np.zeros((4, 3))  # its ratio is 1: it decays
        rate = float(tf.constant(2.0 / (1 + step), tf.float32))
        optimizer.learning_rate.assign(rate)
        optimizer.apply(
            [tf.constant(gradient, dtype) for gradient in gradients.values()], variables
        )
        for name, g in gradients.items():
            is_bias = name.endswith("bias")
            lengths = np.linalg.norm(w[name].ravel()), np.linalg.norm(g.ravel())
            ratio = 0.002 * lengths[0] / (lengths[1] + 0.01 * lengths[0]) if all(lengths) else 1
            own = rate * ratio * (2 if is_bias else 1)
            v[name] = 0.9 * v[name] - own * (g + (0 if is_bias else 0.01) * w[name])
            w[name] = w[name] + v[name]
    for variable, expected in zip(variables, w.values()):
        np.testing.assert_allclose(variable.value, expected, rtol=tolerance, atol=tolerance)
    again = LARS.from_config(optimizer.get_config())
    assert (again.trust, again.decay, again.name) == (0.002, 0.01, "lars")


@pytest.mark.parametrize("kind", [SGD2012, LARS])
def test_arguments_of_keras_that_would_not_be_obeyed_are_refused(kind):
    for name, value, do in (
        ("weight_decay", 0.01, "pass decay="),
        ("use_ema", True, "omit it"),
        ("ema_momentum", 0.9, "omit it"),
        ("loss_scale_factor", 1024.0, "omit it"),
        ("gradient_accumulation_steps", 4, "omit it"),
        ("nesterov", True, "omit it"),
    ):
        with pytest.raises(
            UserError, match=f"^{name}={value} is a Keras argument that has no effect here; {do}"
        ):
            kind(**{name: value})
    clipped = kind(0.5, clipnorm=2.0)  # a .keras file tells all arguments, defaults too
    again = kind.from_config(clipped.get_config())
    assert again.clipnorm == 2.0 and again.get_config() == clipped.get_config()


def test_lars_measures_long_kernels_exactly(rng):
    """One sum of so many small squares in float32 would be off by much more."""
    kernel = keras.Variable(rng.normal(0, 0.01, (2304, 2048)).astype(np.float32), name="kernel")
    gradient = rng.normal(0, 1e-5, kernel.shape).astype(np.float32)
    before = np.asarray(kernel, np.float64)
    optimizer = LARS(2.0, momentum=0.0, decay=0.0)
    optimizer.apply([tf.constant(gradient)], [kernel])
    moved = np.linalg.norm(np.asarray(kernel, np.float64) - before) / np.linalg.norm(before)
    assert moved == pytest.approx(2.0 * 0.001, rel=1e-5)


def test_lars_has_the_rates_of_its_author():
    rates = [lars_rate(batch) for batch in (128, 1024, 8191, 8192, 16384, 32768)]
    assert rates == [0.25, 2.0, 2.0, 10.0, 16.0, 16.0]


@pytest.mark.parametrize(
    "schedule,expected",
    [
        ("constant", [1, 1, 1, 1, 1]),
        ("linear", [1, 0.8, 0.5, 0.2, 0.0]),
        ("poly", [1, 0.64, 0.25, 0.04, 0.0]),
        ("steps", [1, 1, 0.1, 0.01, 0.001]),
    ],
)  # drops at 25/91 = .275, 51/91 = .56, 79/91 = .868
def test_schedules(schedule, expected):
    factors = [learning_rate_factor(schedule, progress) for progress in (0.0, 0.2, 0.5, 0.8, 1.0)]
    np.testing.assert_allclose(factors, expected, atol=1e-12)


def test_conv1_is_slowed_and_frozen_by_the_steps_schedule_alone():
    assert [conv1_factor("steps", epoch / 91) for epoch in (0, 66, 67, 71, 72, 90)] == [
        1,
        1,
        0.1,
        0.1,
        0,
        0,
    ]
    assert [conv1_factor("linear", progress) for progress in (0.0, 0.99)] == [1, 1]


def test_what_a_training_sets_of_an_optimizer_is_taken_back():
    variables = [keras.Variable(np.ones(2), name=name) for name in ("kernel", "bias")]
    optimizer = SGD2012(0.25)
    optimizer.build(variables)
    optimizer.slow(variables[1:], 0.5)
    with pytest.raises(KeyboardInterrupt), optimizer.lent():
        optimizer.learning_rate.assign(0.125)
        optimizer.slow(variables[:1], 0.0)
        raise KeyboardInterrupt
    assert float(optimizer.learning_rate) == 0.25
    assert np.array(optimizer.slowdown).tolist() == [1.0, 0.5]


def test_a_frozen_layer_keeps_weights_and_velocity_to_the_bit(rng):
    conv1, other = (keras.layers.Conv2D(2, 3, name=name) for name in ("conv1a", "conv2a"))
    for layer in (conv1, other):
        layer.build([None, 5, 5, 1])
    variables = [*conv1.weights, *other.weights]
    optimizer = SGD2012(0.1)
    gradients = [
        tf.constant(rng.normal(0, 1, variable.shape), tf.float32) for variable in variables
    ]
    optimizer.apply(gradients, variables)
    before = [np.array(value) for value in (*variables, *optimizer.velocities)]
    optimizer.slow(conv1.weights, 0.0)
    optimizer.apply(gradients, variables)
    same = [
        (np.array(value) == old).all()
        for value, old in zip((*variables, *optimizer.velocities), before)
    ]
    assert same == [True, True, False, False] * 2


def test_variables_are_slowed_by_their_factor_and_learn_at_their_rates_again(rng):
    variables = [keras.Variable(rng.normal(0, 1, 3), name=name) for name in ("a", "b")]
    optimizer = SGD2012(0.1, momentum=0.0, decay=0.0)
    moves = []
    optimizer.build(variables)
    for slowed, factor in ((variables[:1], 0.25), (variables[1:], 0.5), ([], 0.0)):
        before = [np.array(variable) for variable in variables]
        optimizer.slow(slowed, factor)
        optimizer.apply([tf.ones(3)] * 2, variables)
        moves += [np.mean(old - np.array(variable)) for old, variable in zip(before, variables)]
    np.testing.assert_allclose(moves, [0.025, 0.1, 0.1, 0.05, 0.1, 0.1], rtol=1e-5)


def test_a_variable_learns_at_a_rate_of_its_own(rng):
    layers = [keras.layers.Dense(2, name=name) for name in ("fc7", "fc8")]
    for layer in layers:
        layer.build([None, 3])
    variables = [variable for layer in layers for variable in layer.weights]
    before = [np.array(variable) for variable in variables]
    rates = {"fc8/kernel": 10.0, "fc8/bias": 5.0}
    optimizer = SGD2012(0.1, decay=0.0, bias_rate=2.0, rates=rates)
    optimizer.apply([tf.ones(variable.shape) for variable in variables], variables)
    moves = [float(np.mean(old - np.array(variable))) for old, variable in zip(before, variables)]
    np.testing.assert_allclose(moves, [0.1, 0.2, 1.0, 1.0], rtol=1e-5)
    assert SGD2012.from_config(optimizer.get_config()).rates == rates
    with pytest.raises(ValueError, match="there is no variable fc8/kernel to train"):
        SGD2012(rates={"fc8/kernel": 10.0}).build(variables[:2])


@pytest.mark.parametrize(
    "arguments,message",
    [
        ({"learning_rate": float("nan")}, "learning_rate=nan is not a finite number"),
        ({"learning_rate": -0.1}, "learning_rate=-0.1: pass a number of 0 or more"),
        ({"momentum": 1.5}, "momentum=1.5: pass a number from 0 to below 1"),
        ({"decay": -0.1}, "decay=-0.1: pass a number of 0 or more"),
        ({"bias_rate": -1.0}, "bias_rate=-1.0: pass a number of 0 or more"),
        ({"rates": {"fc8/kernel": -1.0}}, "fc8/kernel=-1.0: pass a number of 0 or more"),
        ({"trust": float("inf")}, "trust=inf is not a finite number"),
    ],
)
def test_numbers_by_which_nothing_is_learnt_are_refused(arguments, message):
    with pytest.raises(UserError, match=message):
        (LARS if "trust" in arguments else SGD2012)(**arguments)


def test_plateau_divides_three_times_and_survives_a_restart():
    plateau = Plateau(patience=2)
    drops = []
    for error in [0.9, 0.8, 0.8, 0.81, 0.7, 0.7, 0.7, 0.7, 0.7, 0.7, 0.7, 0.7]:
        restored = Plateau(patience=2)
        restored.restore(plateau.state())
        plateau = restored
        plateau.after_epoch(error)
        drops.append(plateau.drops)
    assert drops == [0, 0, 0, 1, 1, 1, 2, 2, 3, 3, 3, 3]
    assert learning_rate_factor("plateau", 0.5, 3) == pytest.approx(1e-3)


def test_colour_noise_ends_where_the_2012_run_ended_it():
    assert [colour_noise_factor("steps", epoch / 91) for epoch in (0, 66.9, 67.1, 90)] == [
        1.0,
        1.0,
        0.0,
        0.0,
    ]
    assert colour_noise_factor("plateau", 0.99) == 1.0
