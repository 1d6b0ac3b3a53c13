"""Logistic regression with a decay, to its minimum: all pictures in each pass, by L-BFGS.

The loss is the mean over the pictures of their cross-entropies, plus half the square of the kernel
times the decay over the number of pictures.
"""

import dataclasses
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence

import numpy as np
import tensorflow as tf

Rows = tuple[tf.Tensor, np.ndarray]  # features [n, units] of pictures, and their labels [n]
# What a function is worth at a point, and its gradient. Points and gradients are arrays [m, ...]:
# the product of two is that of the first member of one and the last of the other. Where m is 1,
# that is the usual one.
Worth = tuple[float, np.ndarray]
MOST_PASSES = 200
_FLAT = 1e-5  # a gradient of this share of the first is flat
_MEMORY = 8  # steps from which the curvature is known
_SHORTEST = 2.0**-10  # step that is tried, of the whole one


@dataclasses.dataclass(frozen=True)
class Minimum:
    """Where a descent ended."""

    point: np.ndarray
    loss: float
    passes: int  # over the pictures


def of_rows(
    chunks: Iterable[Rows],
    units: int,
    classes: int,
    decay: float,
    after_pass: Callable[[], object],
) -> Minimum:
    """The Minimum over the pictures of `chunks`, its point being float32 [1, units + 1, classes],
    of which the last row is the bias.
    """

    def worth(numbers: list[int], points: np.ndarray) -> Iterator[Worth]:
        kernel, bias = points[0, 0, :-1], points[0, 0, -1]
        gradient = decay * points[0]
        gradient[0, -1] = 0
        loss, count = decay / 2 * float(np.vdot(kernel, kernel)), 0
        for rows, labels in chunks:
            losses, errors = _cross_entropy(_product(rows, kernel) + bias, labels)
            gradient[0, :-1] += _product(rows, errors, transpose_a=True)
            gradient[0, -1] += errors.sum(0)
            loss += losses.sum(dtype=np.float64)
            count += len(labels)
        after_pass()
        yield loss / count, gradient / np.float32(count)

    (found,) = _together([_descent(np.zeros([1, units + 1, classes], np.float32))], worth)
    return found


def products(rows: np.ndarray) -> np.ndarray:
    """float32 [pictures, pictures], of any two of `rows`, float32 [pictures, units]."""
    return tf.matmul(rows, rows, transpose_b=True).numpy()


def of_pictures(point: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The point of `of_rows` that is `point`, one of `of_products`, where `rows` are the
    pictures.
    """
    return np.vstack([_product(rows, point[0, :-1], transpose_a=True), point[0, -1:]])[np.newaxis]


def of_products(
    products: np.ndarray,
    labels: np.ndarray,
    decay: float,
    starts: Sequence[np.ndarray],
    left_out: np.ndarray,
    after_pass: Callable[[], object] = lambda: None,
) -> list[Minimum]:
    """As many regressions as there are `starts`, of pictures of which only the `products` of any
    two are known, float32 [pictures, pictures]: what a kernel learns is a sum of pictures.

    A point is float32 [2, pictures + 1, classes]: how much of each picture is in the kernel, and
    the logits of each without the bias, which is the last row of both. So all products of two
    points are there, and a pass multiplies once. `left_out`, bool [regressions, pictures], tells
    which a regression does not see. They pass together: a dozen columns take as long as sixty.
    """

    def worth(numbers: list[int], points: np.ndarray) -> Iterator[Worth]:
        seen = ~left_out[numbers]
        losses, errors = _cross_entropy(points[:, 1, :-1] + points[:, 1, -1:], labels)
        errors *= seen[..., np.newaxis]
        columns = np.moveaxis(errors, 0, 1)
        kernels = _product(products, columns.reshape(len(labels), -1)).reshape(columns.shape)
        gradients = decay * points
        gradients[:, 0, :-1] += errors
        gradients[:, 1, :-1] += np.moveaxis(kernels, 0, 1)
        gradients[:, :, -1] = errors.sum(1, keepdims=True)
        sums = losses.sum(1, dtype=np.float64, where=seen)
        after_pass()
        for loss, gradient, point, count in zip(sums, gradients, points, seen.sum(1)):
            square = float(np.vdot(point[0, :-1], point[1, :-1]))
            yield (loss + decay / 2 * square) / count, gradient / np.float32(count)

    return _together([_descent(start) for start in starts], worth)


def _product(a: tf.Tensor | np.ndarray, b: np.ndarray, transpose_a: bool = False) -> np.ndarray:
    """By TensorFlow, because the threads of numpy's library wait for each other at every product,
    30 times as long where other processes want the processor.
    """
    return tf.matmul(a, b, transpose_a=transpose_a).numpy()


def _cross_entropy(logits: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(losses [..., pictures], their gradients) for `logits` [..., pictures, classes]."""
    logits = logits - logits.max(-1, keepdims=True)
    of_label = ..., np.arange(len(labels)), labels
    errors = np.exp(logits)
    norms = errors.sum(-1, keepdims=True)
    losses = np.log(norms[..., 0]) - logits[of_label]
    errors /= norms
    errors[of_label] -= 1
    return losses, errors


def _together(
    descents: Sequence[Generator[np.ndarray, Worth, Minimum]],
    worth: Callable[[list[int], np.ndarray], Iterable[Worth]],
) -> list[Minimum]:
    """Where each of `descents` ends. `worth` is told the numbers of those that go on, and their
    points [numbers, ...].
    """
    ends: dict[int, Minimum] = {}
    points = {number: next(descent) for number, descent in enumerate(descents)}
    while points:
        numbers = list(points)
        for number, answer in zip(numbers, worth(numbers, np.stack(list(points.values())))):
            try:
                points[number] = descents[number].send(answer)
            except StopIteration as end:
                ends[number] = end.value
                del points[number]
    return [ends[number] for number in range(len(descents))]


def _dot(one: np.ndarray, other: np.ndarray) -> np.floating:
    return np.vdot(one[0], other[-1])


def _descent(start: np.ndarray) -> Generator[np.ndarray, Worth, Minimum]:
    """Asks what a smooth convex function is worth, from `start` to its minimum.

    L-BFGS: Nocedal and Wright, Numerical Optimization, 2nd edition, algorithms 7.4 and 7.5, with
    halved steps until the decrease suffices (3.4). The end is where the gradient is flat, or where
    float32 cannot tell what is lower.
    """
    point, asked = start, 1
    steps: list[tuple[np.ndarray, np.ndarray, np.floating]] = []
    value, gradient = yield point
    flat = _FLAT**2 * _dot(gradient, gradient)
    while asked < MOST_PASSES and _dot(gradient, gradient) > flat:
        direction, factors = -gradient, []
        for step, change, curvature in reversed(steps):
            factors.append(_dot(step, direction) / curvature)
            direction = direction - factors[-1] * change
        if steps:
            step, change, curvature = steps[-1]
            direction = direction * (curvature / _dot(change, change))
        for (step, change, curvature), factor in zip(steps, reversed(factors)):
            direction = direction + (factor - _dot(change, direction) / curvature) * step
        slope, length = float(_dot(gradient, direction)), np.float32(1.0)
        while asked < MOST_PASSES and length >= _SHORTEST:
            there = point + length * direction
            lower, slant = yield there
            asked += 1
            if lower <= value + 1e-4 * length * slope:
                break
            length /= 2
        else:
            break
        step, change = there - point, slant - gradient
        if (curvature := _dot(step, change)) > 0:
            steps = [*steps[1 - _MEMORY :], (step, change, curvature)]
        fall = value - lower
        point, value, gradient = there, lower, slant
        if fall <= np.finfo(np.float32).eps * abs(value):
            break
    return Minimum(point, value, asked)
