"""What an experiment is: runs, each of which is measured once, and what they say together."""

import dataclasses
import gc
import pathlib
import re
import statistics
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import keras
from matplotlib.figure import Figure

from alexnet_tf import console, networks
from alexnet_tf.data.splits import Dataset
from alexnet_tf.jobs.evaluate import evaluate
from alexnet_tf.jobs.train import train
from alexnet_tf.pixels import Preprocessing

CIFAR_10 = 50_000  # pictures that are trained on: lengths are passes over so many
BATCH = 128  # pictures in a step, but for those of large_batch
_SLOWLY = 100  # steps in which a rate rises from 0, but a tenth of the run at most


@dataclasses.dataclass(frozen=True)
class Run:
    """One thing to measure, as a rule a training."""

    arm: str
    seed: int
    settings: dict = dataclasses.field(default_factory=dict)  # of the arm, as JSON has them
    # whether its model directory stays until the experiment is over, for other runs to read
    keeps_model: bool = False

    @property
    def name(self) -> str:
        """Of its files."""
        return f"{re.sub(r'[^a-z0-9.]+', '-', self.arm.lower())}-seed{self.seed}"


@dataclasses.dataclass(frozen=True)
class Result:
    """What a run has found."""

    arm: str
    seed: int
    measured: dict[str, Any]
    # machine, gpu, commit, versions
    made: dict[str, str] = dataclasses.field(default_factory=dict)


Results = Sequence[Result]


@dataclasses.dataclass(frozen=True)
class Experiment:
    """One claim, the runs that test it, and what is told and drawn of them."""

    name: str
    claim: str  # with the place where it stands
    how: str  # a sentence: what is compared, on which network
    hours: float  # of two cores, at length 1
    pictures: int  # that each training sees at length 1
    seeds: int  # by default
    # (seeds, what has been found so far, the data set or None) to the runs that are known by now
    runs: Callable[[int, Results, Dataset | None], list[Run]]
    measure: Callable[[Run, "Bench"], dict[str, Any]]
    tell: Callable[[Results], dict[str, str]]  # a table: what, to what was found
    draw: Callable[[Results], Figure]
    draws_pictures: bool = False  # where no data set is named; else they are the embedded shapes


@dataclasses.dataclass(frozen=True)
class Bench:
    """Where runs are made."""

    folder: pathlib.Path
    dataset: Dataset | None
    pictures: int  # that a training sees
    note: Callable[[str], None] = console.note
    progress: Callable = console.progress

    def __post_init__(self) -> None:
        """Nothing here chooses by the evaluation, whatever callbacks a training has: its data set
        is taken as splits of a user's own are, which no training divides. So all that is reckoned
        is of the pictures that are trained on.
        """
        if self.dataset:
            whole = dataclasses.replace(self.dataset, opened_with={})
            object.__setattr__(self, "dataset", whole)

    def given(self) -> Dataset:
        """The data set of an experiment that does not draw its own."""
        assert self.dataset is not None
        return self.dataset

    def model_dir(self, run: Run) -> pathlib.Path:
        """Of a training that is not over yet, or whose model is kept."""
        return self.folder / run.name

    def epochs(self, dataset: Dataset) -> int:
        """In which a training sees `pictures`."""
        return max(1, round(self.pictures / dataset.to_train().examples))

    def steps(self, dataset: Dataset, batch_size: int = BATCH) -> int:
        """That a training takes."""
        return dataset.to_train().examples // batch_size * self.epochs(dataset)

    def train(
        self,
        run: Run,
        build: Callable[[], keras.Model],
        pixels: Preprocessing,
        dataset: Dataset | None = None,
        batch_size: int = BATCH,
        precision: str = "float32",
        **settings: Any,
    ) -> networks.Network:
        """Trains what `build` makes to its end, from its checkpoint if there is one. `settings` are
        those of alexnet_tf.train.
        """
        dataset = dataset or self.given()
        _forget()
        keras.utils.set_random_seed(run.seed)
        with networks.under_policy(precision):
            return train(
                self.model_dir(run),
                dataset,
                model=build(),
                preprocessing=pixels,
                batch_size=batch_size,
                epochs=self.epochs(dataset),
                seed=run.seed,
                xla="off",  # to compile takes longer than it gains here
                note=self.note,
                progress=self.progress,
                **settings,
            )

    def warmup(self, dataset: Dataset, batch_size: int = BATCH) -> int:
        """Steps in which the rate rises."""
        return min(_SLOWLY, self.steps(dataset, batch_size) // 10)


def _forget() -> None:
    """A model and its compiled functions refer to each other: gigabytes after some runs."""
    keras.backend.clear_session()
    gc.collect()


def arms_of(results: Results) -> dict[str, list[Result]]:
    """Results by arm, each in the order of its seeds; arms in that of their first result."""
    found: dict[str, list[Result]] = {}
    for result in results:
        found.setdefault(result.arm, []).append(result)
    return {arm: sorted(some, key=lambda one: one.seed) for arm, some in found.items()}


def by_arm(results: Results, measure: str) -> dict[str, list[Any]]:
    """{arm: [its value of `measure` for each seed, ...]}, in the order of `arms_of`."""
    return {arm: [one.measured[measure] for one in some] for arm, some in arms_of(results).items()}


def errors_of(network: Any, dataset: Dataset) -> dict[str, float]:
    """Top-1 errors in per cent, from ten views and from the centre."""
    return {
        name: 100 * (1 - evaluate(network, dataset, views=views).figures()["top_1"])
        for name, views in (("error", 10), ("centre_error", 1))
    }


def made_otherwise(results: Results) -> dict[str, str]:
    """Those of the circumstances of the results that differ: how many results have which value."""
    rows = {}
    for name in dict.fromkeys(name for one in results for name in one.made):
        counts = Counter(one.made.get(name, "not recorded") for one in results)
        if len(counts) > 1:
            parts = (f"{value}: {count} of {len(results)}" for value, count in counts.items())
            rows[name] = "; ".join(parts)
    return rows


def spread(values: Sequence[float], unit: str = "", digits: int = 1) -> str:
    """The mean of `values`, one a seed, their standard deviation, and how many there are."""
    if not values:
        return "nothing"
    mean = f"{statistics.mean(values):.{digits}f}"
    if len(values) == 1:
        return f"{mean}{unit} (one seed)"
    return f"{mean} ± {statistics.stdev(values):.{digits}f}{unit} ({len(values)} seeds)"


def difference(ours: Sequence[Result], base: Sequence[Result], measure: str) -> list[float]:
    """`measure` of an arm less that of another, seed by seed where both have it."""
    of_base = {one.seed: one.measured[measure] for one in base}
    return [one.measured[measure] - of_base[one.seed] for one in ours if one.seed in of_base]
