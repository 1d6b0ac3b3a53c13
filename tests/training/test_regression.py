"""Logistic regressions: their minima, by the rows and by the products of the rows."""

import numpy as np
import pytest
import tensorflow as tf

from alexnet_tf.training import regression


@pytest.fixture
def rows(rng):
    """float32 [30, 50] of three classes; the last is a copy of the one before."""
    rows = rng.normal(0, 1, (3, 50))[np.arange(30) % 3] + rng.normal(0, 1, (30, 50))
    rows[29] = rows[28]
    return (rows / 10).astype(np.float32)


LABELS = np.arange(30) % 3
NONE = np.zeros([1, 30], bool)


def start(count):
    return [np.zeros([2, 31, 3], np.float32)] * count


def gradient_of(rows, labels, weights, decay):
    """float64 [units + 1, classes], by the definition, and the mean loss."""
    x = np.hstack([rows.astype(np.float64), np.ones([len(rows), 1])])
    powers = np.exp(x @ weights)
    said = powers / powers.sum(1, keepdims=True)
    penalty = decay * weights * (np.arange(len(weights)) < len(weights) - 1)[:, np.newaxis]
    loss = -np.log(said[range(len(labels)), labels]).sum() + (penalty * weights).sum() / 2
    return (x.T @ (said - np.eye(3)[labels]) + penalty) / len(rows), loss / len(rows)


@pytest.mark.parametrize("by_products", [False, True])
@pytest.mark.parametrize("decay", [1.0, 0.01])
def test_it_ends_at_the_minimum(rows, decay, by_products):
    passes = []
    if by_products:
        products = regression.products(rows)
        (found,) = regression.of_products(
            products, LABELS, decay, start(1), NONE, lambda: passes.append(1)
        )
        np.testing.assert_allclose(found.point[1, :-1], products @ found.point[0, :-1], atol=1e-3)
        point = regression.of_pictures(found.point, rows)
    else:
        chunks = [(tf.constant(rows[:7]), LABELS[:7]), (tf.constant(rows[7:]), LABELS[7:])]
        found = regression.of_rows(chunks, 50, 3, decay, lambda: passes.append(1))
        point = found.point
    gradient, loss = gradient_of(rows, LABELS, point[0], decay)
    at_zero, _ = gradient_of(rows, LABELS, np.zeros([51, 3]), decay)
    assert np.abs(gradient).max() < 1e-3 * np.abs(at_zero).max()
    assert found.loss == pytest.approx(loss, rel=1e-4)
    assert found.passes == len(passes) > 5


def test_rows_and_products_have_one_minimum(rows):
    by_rows = regression.of_rows([(tf.constant(rows), LABELS)], 50, 3, 0.1, lambda: None)
    (there,) = regression.of_products(regression.products(rows), LABELS, 0.1, start(1), NONE)
    point = regression.of_pictures(there.point, rows)
    np.testing.assert_allclose(point, by_rows.point, atol=1e-3 * np.abs(point).max())


def test_regressions_that_pass_together_are_those_that_pass_alone(rows):
    """Each without what is left out of it, and they end when they are through, not together."""
    left_out = np.arange(30) % 5 == np.arange(5)[:, np.newaxis]
    left_out[4] = np.arange(30) >= 6  # of six pictures: soon through
    passes, products = [], regression.products(rows)
    together = regression.of_products(
        products, LABELS, 0.1, start(5), left_out, lambda: passes.append(1)
    )
    assert len({found.passes for found in together}) > 1
    assert len(passes) == max(found.passes for found in together)
    for found, of_one in zip(together, left_out):
        seen = ~of_one
        (alone,) = regression.of_products(products, LABELS, 0.1, start(1), of_one[np.newaxis])
        np.testing.assert_allclose(found.point, alone.point, atol=1e-3)
        assert not found.point[0, :-1][of_one].any()  # nothing is learnt of them
        point = regression.of_pictures(found.point, rows)[0]
        gradient, _ = gradient_of(rows[seen], LABELS[seen], point, 0.1)
        assert np.abs(gradient).max() < 1e-4


def test_pictures_that_are_nothing_leave_the_kernel_at_nothing():
    rows = np.zeros([30, 50], np.float32)
    (found,) = regression.of_products(regression.products(rows), LABELS, 0.1, start(1), NONE)
    np.testing.assert_allclose(regression.of_pictures(found.point, rows), 0, atol=1e-6)
    assert found.loss == pytest.approx(np.log(3))
