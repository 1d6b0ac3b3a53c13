"""Runs an experiment to its end, from wherever it was: each run that is over has left one file."""

import dataclasses
import json
import os
import pathlib
import shutil
import time
from collections.abc import Callable
from typing import Any

from alexnet_tf import console, disk
from alexnet_tf.data import datasets
from alexnet_tf.data.splits import Dataset
from alexnet_tf.errors import UserError
from alexnet_tf.experiments import (
    ablations,
    large_batch,
    normalisation,
    precision,
    relu,
    specialisation,
    start,
)
from alexnet_tf.experiments.experiment import (
    BATCH,
    Bench,
    Experiment,
    Result,
    Run,
    made_otherwise,
)
from alexnet_tf.figures import png
from alexnet_tf.provenance import provenance
from alexnet_tf.training import checkpoints, devices, run_settings

OUTPUT = "reproductions"  # the folder, where no other is named
_MADE = "machine", "gpu", "commit", "python"  # in a result, as what a figure may depend on
EXPERIMENTS: dict[str, Experiment] = {
    one.name: one
    for one in (
        relu.EXPERIMENT,
        normalisation.EXPERIMENT,
        specialisation.EXPERIMENT,
        start.EXPERIMENT,
        ablations.EXPERIMENT,
        precision.EXPERIMENT,
        large_batch.EXPERIMENT,
    )
}


@dataclasses.dataclass(frozen=True)
class Found:
    """What an experiment has found."""

    experiment: Experiment
    under: dict[str, Any]  # which circumstances: data, length, seeds
    table: dict[str, str]
    results: list[Result]
    picture: pathlib.Path


def reproduce(
    name: str,
    output: str | os.PathLike = OUTPUT,
    dataset: Dataset | None = None,
    *,
    seeds: int | None = None,
    length: float = 1.0,
    note: Callable[[str], None] = console.note,
    progress: Callable = console.progress,
) -> Found:
    """Makes the runs of EXPERIMENTS[name] that `output` does not hold yet, and draws what all of
    them say to `output`/NAME.png.

    Each run leaves `output`/NAME/RUN.json, written whole or not at all; one that was stopped goes
    on from its checkpoint. `dataset` is by default the embedded shapes. `seeds` are how many, 0 on;
    `length` is the share of its pictures that each training sees, alike for all. Raises UserError
    for an unknown name, where `output` holds results of other settings, and in each of several
    processes that TF_CONFIG or Slurm names.
    """
    if name not in EXPERIMENTS:
        raise UserError(f"There is no experiment {name!r}; choose from {', '.join(EXPERIMENTS)}.")
    experiment = EXPERIMENTS[name]
    devices.check_one_process("an experiment")
    seeds = experiment.seeds if seeds is None else seeds
    if dataset is None and not experiment.draws_pictures:
        dataset = datasets.open_dataset("shapes")
    if dataset and dataset.to_train().examples < BATCH:
        raise UserError(
            f"{dataset.name} has {dataset.to_train().examples} pictures to train on, and a step of "
            f"an experiment takes {BATCH}; pass a larger data set."
        )
    folder = disk.local(output, "output") / name
    if dataset:
        run_settings.check_apart(output, dataset, "output")
    pictures = round(experiment.pictures * length)
    bench = Bench(folder, dataset, pictures, note, progress)
    asked = {"pictures": pictures, "data": dataset.fingerprint if dataset else None}
    try:
        with disk.locked(folder, "output", "written"):
            results = _complete(experiment, seeds, bench, asked)
        picture = folder.with_suffix(".png")
        with disk.appearing(picture) as unfinished:
            png.write(lambda: experiment.draw(results), unfinished.path)
    except OSError as error:
        # that of a data set has its own file
        where = error.filename or f"output={output}"
        raise UserError(f"{where} cannot be read or written ({error.strerror}).") from None
    seen = f"{pictures:,} pictures a training"
    if dataset:
        seen = f"{bench.epochs(dataset)} epochs a training"
    under = {
        "data": f"{dataset.name}: {dataset.describe()}" if dataset else "drawn for it",
        "length": f"{length:g}: {seen}",
        "seeds": f"{seeds}",
    } | {f"{name}, which differs": told for name, told in made_otherwise(results).items()}
    return Found(experiment, under, experiment.tell(results), results, picture)


def _complete(experiment: Experiment, seeds: int, bench: Bench, asked: dict) -> list[Result]:
    """The results of all runs. Those that later ones depend on come first."""
    found: dict[str, Result] = {}
    while True:
        runs = experiment.runs(seeds, list(found.values()), bench.dataset)
        left = [run for run in runs if run.name not in found]
        if not left:
            break
        for run in left:
            path, settings = bench.folder / f"{run.name}.json", asked | {"settings": run.settings}
            if not path.exists():
                bench.note(f"{experiment.name}: {run.arm}, seed {run.seed}")
                _measure(experiment, run, bench, path, settings)
            found[run.name] = _read(run, path, settings)
            if not run.keeps_model:
                shutil.rmtree(bench.model_dir(run), ignore_errors=True)
    for run in runs:
        shutil.rmtree(bench.model_dir(run), ignore_errors=True)
    return [found[run.name] for run in runs]


def _measure(
    experiment: Experiment, run: Run, bench: Bench, path: pathlib.Path, asked: dict
) -> None:
    begun, begin = bench.folder / f"{run.name}.begun", time.monotonic()
    model_dir = bench.model_dir(run)
    checkpoints.remove_unfinished(model_dir)
    if begun.exists() and checkpoints.newest_step(model_dir) >= 0:
        _check_same(begun, _stored(begun), asked)  # it goes on from what is of those settings
    else:  # what has left no checkpoint, or does not say of which settings one is, binds nobody
        if model_dir.exists():
            shutil.rmtree(model_dir)
        disk.replace_text(begun, json.dumps(asked) + "\n")
    measured = experiment.measure(run, bench)
    content = {
        "arm": run.arm,
        "seed": run.seed,
        "asked": asked,
        "measured": measured,
        "seconds": round(time.monotonic() - begin),  # since it was last started
        "gpu": devices.gpu_name(),
        **provenance(),
    }
    disk.replace_text(path, json.dumps(content) + "\n")
    begun.unlink()


def _read(run: Run, path: pathlib.Path, asked: dict) -> Result:
    """Raises UserError for a result of other settings, or none."""
    try:
        stored = _stored(path)
        was, measured = dict(stored["asked"]), dict(stored["measured"])
        made = {name: stored[name] for name in _MADE if name in stored} | stored["versions"]
    except (KeyError, TypeError, ValueError):
        raise _NoResultError(path) from None
    _check_same(path, was, asked)
    return Result(run.arm, run.seed, measured, {name: str(told) for name, told in made.items()})


class _NoResultError(UserError):
    def __init__(self, path: pathlib.Path) -> None:
        super().__init__(
            f"{path} is not the result of a run; remove it, and the run is made again."
        )


def _stored(path: pathlib.Path) -> dict:
    try:
        return dict(json.loads(path.read_text()))
    except (ValueError, TypeError):
        raise _NoResultError(path) from None


def _check_same(path: pathlib.Path, was: dict, asked: dict) -> None:
    """Raises UserError where a run was begun with other settings than are asked for now."""
    for name in asked:
        if was.get(name) != json.loads(json.dumps(asked[name])):
            raise UserError(
                f"{path} was made with {name} {was.get(name)}, but now {asked[name]} is asked for;"
                " pass another output=, or the same length= and data as before."
            )
