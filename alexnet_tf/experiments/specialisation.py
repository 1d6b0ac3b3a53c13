"""Figure 3: whether one tower learns colour and the other none, in every run."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from alexnet_tf.data.splits import Dataset
from alexnet_tf.experiments import small_alexnet
from alexnet_tf.experiments.experiment import (
    CIFAR_10,
    Bench,
    Experiment,
    Result,
    Results,
    Run,
    arms_of,
    spread,
)
from alexnet_tf.figures import experiments as figures
from alexnet_tf.figures.filters import kernels_of

_DRAWS = 10_000  # random halves of the kernels
_RARE = 0.05  # chance below which a difference is told as one
_ARMS: dict[str, dict | None] = {
    "two towers": None,
    "one tower, twice as wide": small_alexnet.ONE_TOWER,
}


def colour_index(kernels: np.ndarray) -> np.ndarray:
    """The share of each kernel's energy that is off the grey axis: 0 is colour-blind, 1 is colour
    without any brightness, and noise has 2/3. `kernels` are [height, width, 3, kernels].
    """
    energy = (kernels.astype(np.float64) ** 2).sum((0, 1, 2))
    grey = (kernels.astype(np.float64).sum(2) ** 2).sum((0, 1)) / 3
    return 1 - np.divide(grey, energy, out=np.ones_like(grey), where=energy > 0)


def chance(indices: np.ndarray, halves: np.random.Generator) -> tuple[float, np.ndarray]:
    """(the share of random halves whose means differ at least as much as those of the first and the
    second half of `indices`, the differences of the random halves).
    """
    half = len(indices) // 2
    shuffled = halves.permuted(np.tile(indices, (_DRAWS, 1)), axis=1)
    drawn = np.abs(shuffled[:, :half].mean(1) - shuffled[:, half:].mean(1))
    # with the halves as they are, which are one of the ways to divide
    return (1 + np.count_nonzero(drawn >= difference(indices) - 1e-12)) / (1 + _DRAWS), drawn


def difference(indices: np.ndarray) -> float:
    """Between the means of the first and the second half."""
    half = len(indices) // 2
    return float(abs(indices[:half].mean() - indices[half:].mean()))


def _runs(seeds: int, results: Results, dataset: Dataset | None) -> list[Run]:
    return [Run(arm, seed, _ARMS[arm] or {}) for seed in range(seeds) for arm in _ARMS]


def _measure(run: Run, bench: Bench) -> dict[str, Any]:
    network = small_alexnet.train(bench, run, "paper", run.settings)
    indices = np.concatenate([colour_index(kernels) for kernels in kernels_of(network)])
    assert network.figures
    return {
        "indices": [round(float(index), 4) for index in indices],  # tower a, then tower b
        "error": 100 * (1 - network.figures["top_1"]),
    }


def _chance(result: Result) -> tuple[float, np.ndarray]:
    return chance(np.array(result.measured["indices"]), np.random.default_rng(result.seed))


def _tell(results: Results) -> dict[str, str]:
    rows = {}
    for arm, some in arms_of(results).items():
        differences = [difference(np.array(one.measured["indices"])) for one in some]
        chances = [_chance(one) for one in some]
        rare = sum(rarity < _RARE for rarity, _ in chances)
        rows[f"{arm}: test error"] = spread([one.measured["error"] for one in some], " %")
        rows[f"{arm}: difference of the halves"] = (
            f"{spread(differences, digits=3)}; random halves "
            f"{np.mean([drawn.mean() for _, drawn in chances]):.3f}"
        )
        rows[f"{arm}: chance of it, by seed"] = ", ".join(f"{rarity:.4f}" for rarity, _ in chances)
        rows[f"{arm}: found"] = (
            f"in {rare} of {len(some)} runs the halves differ more than {1 - _RARE:.0%} of random "
            "halves do"
        )
    return rows


def _draw(results: Results) -> Figure:
    columns = []
    for arm, some in arms_of(results).items():
        for one in some:
            indices = np.array(one.measured["indices"])
            _, drawn = _chance(one)
            limit = float(np.quantile(drawn, 1 - _RARE))
            columns.append((arm, one.seed, indices, difference(indices), limit))
    return figures.draw_colours(columns)


EXPERIMENT = Experiment(
    "specialisation",
    "Figure 3: the kernels of conv1 on GPU 1 are largely colour-agnostic, those on GPU 2 largely "
    "colour-specific, in every run and whatever the random initialisation.",
    "The colour index of all 96 kernels of conv1, the share of a kernel's energy off the grey "
    "axis, of a paper of 67 x 67, tower a against tower b; and, as a control, of one tower of as "
    "many kernels, whose halves are towers in name only. Noise has an index of 2/3.",
    1.2,
    3 * CIFAR_10,
    5,
    _runs,
    _measure,
    _tell,
    _draw,
)
