"""Evaluates networks, and keeps for exports what they answered to the pictures that judge."""

import dataclasses
import math
import os
import pathlib
from collections.abc import Callable, Sequence

import keras
import tensorflow as tf

from alexnet_tf import bounds, console, disk, networks
from alexnet_tf.classifiers import Answers
from alexnet_tf.data import bad_pictures, datasets, names, record, splits
from alexnet_tf.data.splits import Dataset, Split
from alexnet_tf.errors import UserError, check_kind
from alexnet_tf.training import checkpoints, devices, evaluation
from alexnet_tf.training.plan import Plan


def evaluate(
    network: networks.Network | str | os.PathLike | Sequence,
    dataset: Dataset | None = None,
    *,
    data_dir: str | os.PathLike | None = None,
    test_split: str | None = None,
    views: int = 1,
    weights: Sequence[float] | None = None,
    batch_size: int = Plan.batch_size,
    strategy: tf.distribute.Strategy | None = None,
) -> Answers:
    """The answers of `network`, a Network or what networks.load opens, to the test split of
    `dataset`, else to its evaluation split.

    Without one, as the command `alexnet evaluate`: to the test split, else the validation split,
    else all pictures that no network was trained on, of `data_dir`, class folders or what `alexnet
    prepare` stored, which may lack classes; by default, of what it was trained on. `test_split`
    names another split, such as "train".

    A list of networks answers together, by `weights`, equal ones by default. `views` is 1, the
    centre, or 10. `answers.figures()` has loss, top_1 and top_5. Raises UserError where network and
    data set do not fit.
    """
    strategy = devices.strategy_or_current(strategy)
    several: Sequence = network if isinstance(network, list | tuple) else [network]
    if not several:
        raise UserError("network= holds no network; pass one or more.")
    wanted = f"{splits.A_DATASET}, or a folder as data_dir="
    check_kind(Dataset | None, dataset, "dataset", wanted)
    check_kind(str | None, test_split, "test_split", "the name of a split")
    if dataset and (data_dir is not None or test_split is not None):
        given = "test_split" if data_dir is None else "data_dir"
        raise UserError(
            f"{given}= and dataset= both name the pictures to evaluate on; pass one of the two."
        )
    batch_size = bounds.whole(batch_size, "batch_size", 1)
    if views not in (1, 10):
        raise UserError(f"views={views}: pass 1, for the centre, or 10.")
    if weights is not None:
        weights = [
            bounds.number(weight, "weights") for weight in bounds.in_order(weights, "weights")
        ]
        if len(weights) != len(several) or not any(weights):
            raise UserError(
                f"weights={weights}: pass a number for each of the {len(several)} networks, not "
                "all 0."
            )
    with strategy.scope():
        opened = [networks.as_network(one) for one in several]
        classifiers = [one.classifier() for one in opened]
    note = console.note if devices.is_chief(strategy) else console.silence
    dataset = dataset or devices.together(strategy, lambda: _to_judge(opened, data_dir, test_split))
    evaluation.check_classes(classifiers, dataset)
    check_alike(strategy, opened, dataset, weights, views, batch_size)
    bad_pictures.tell_of_opening(dataset, math.inf, note)
    split = dataset.reported()
    if line := _left_undivided(dataset, opened):
        note(line)
    evaluation.tell_all_seen(split, [one for one in classifiers if one.name])
    per_step = -(-batch_size // views // strategy.num_replicas_in_sync)
    per_step *= strategy.num_replicas_in_sync
    with devices.leaving_lost_workers(strategy):
        answered = evaluation.answers(strategy, classifiers, split, per_step, weights, views)
    answers = answered[-1]
    for line in splits.not_evaluated(dataset.class_names, answers.labels, split.name):
        note(line)
    (judged, *others) = opened
    if not others and isinstance(judged, networks.Trained) and judged.is_as_opened():
        keep_evaluation(judged, answers, dataset, split, views)
    return answers


def check_alike(
    strategy: tf.distribute.Strategy,
    several: Sequence[networks.Network],
    dataset: Dataset,
    weights: Sequence[float] | None,
    views: int,
    batch_size: int,
) -> None:
    """Raises UserError on all workers unless all evaluate the same networks alike, by the same
    pictures: each answers for a part of them.
    """
    devices.check_agreement(
        strategy,
        networks=[(one.opened_with, one.step, one.class_names) for one in several],
        data=dataset.fingerprint,
        weights=weights,
        views=views,
        batch_size=batch_size,
    )


def _to_judge(
    several: list[networks.Network],
    data_dir: str | os.PathLike | None,
    test_split: str | None,
) -> Dataset:
    """What judges `several` networks: `data_dir`, else what the first was trained on."""
    first, flags = several[0], several[0].settings.flags
    name, folder, called = flags.get("dataset"), flags.get("data_dir"), names.of_flags(flags)
    if data_dir is not None:
        name, before, folder = "folder", folder, os.fspath(disk.local(data_dir, "data_dir"))
        if before is None or os.path.realpath(before) != os.path.realpath(folder):
            called = names.USUAL
    if name is None:
        raise UserError(f"{first.path} does not say which data set it was trained on; pass one.")
    if test_split is not None:
        called = dataclasses.replace(called, test=test_split)
    return datasets.open_evaluation(
        name,
        folder,
        first.class_names,
        [one.record for one in several],
        called,
        [one.settings.flags.get("data_dir") for one in several],
    )


def _left_undivided(dataset: Dataset, several: list[networks.Network]) -> str | None:
    """A line for a `dataset` that was opened for training, and so leaves out pictures on which
    `several` networks could be evaluated, as none is known to have been trained on them.
    """
    split, folder = dataset.reported(), dataset.opened_with.get("data_dir")
    if dataset.train is None or not split.held_out or folder is None:
        return None
    seen = record.union(one.record for one in several)
    others = int((~seen.has_seen(dataset.train.known())).sum())
    if not others:
        return None
    return (
        f"{folder} was split for training: only its {split.examples} held-out pictures are "
        f"evaluated, and not {others} others, though no network is known to have been trained on "
        "them; pass data_dir= instead of the data set to evaluate on all of them."
    )


def keep_evaluation(
    network: networks.Trained, answers: Answers, dataset: Dataset, split: Split, views: int = 1
) -> None:
    """Keeps what `network` answered to `split` of `dataset` for its exports, unless it was trained
    on some of the pictures, a class has none, or the pictures are others than those of the
    training's test split, whose figures are kept already: then it notes which.
    """
    if not os.path.isdir(network.path) or checkpoints.read_settings(network.path) is None:
        return
    flags = network.settings.flags
    evaluated = _evaluated(network.path, flags, answers, dataset, split, views)
    kept = checkpoints.read_evaluation(network.path, checkpoints.weights_digest(network.model))
    without = len(dataset.class_names) - len(evaluated["classes"])
    reason = ""
    if evaluated["trained_on"]:
        reason = f"it was trained on {evaluated['trained_on']} of these pictures"
    elif without:
        reason = f"{without} of the {len(dataset.class_names)} classes have no pictures there"
    elif kept and kept.get("of_test") and not evaluated["of_test"]:
        reason = f"what is kept is from the training's test split, {kept['split']}"
    if reason:
        console.note(f"not kept for exports: {reason}")
        return
    _write_evaluation(network.path, network.model, evaluated, console.note)


def report_evaluation(
    model_dir: str | os.PathLike,
    model: keras.Model,
    answers: Answers,
    dataset: Dataset,
    note: Callable[[str], None] = console.note,
) -> dict:
    """What a training ends with: notes the classes that `model` was not evaluated on, and keeps in
    `model_dir` what it answered to `dataset.reported()`: an export's model card tells it.

    Returns {"metrics": what is kept}.
    """
    split = dataset.reported()
    for line in splits.not_evaluated(dataset.class_names, answers.labels, split.name):
        note(line)
    flags = (checkpoints.read_settings(model_dir) or {}).get("flags", {})
    evaluated = _evaluated(model_dir, flags, answers, dataset, split, 1)
    _write_evaluation(model_dir, model, evaluated, note)
    return {"metrics": evaluated}


def _evaluated(
    model_dir: str | os.PathLike,
    flags: dict,
    answers: Answers,
    dataset: Dataset,
    split: Split,
    views: int,
) -> dict:
    seen, identities = record.read(model_dir), split.identities
    return {
        "dataset": pathlib.PurePath(dataset.name).name,
        "split": split.name,
        # the test split of the training
        "of_test": names.of_flags(flags).is_test(split.place) and _is_of(dataset, flags),
        "views": views,
        "trained_on": (
            None if seen is None or identities is None else int(seen.has_seen(identities).sum())
        ),
        "figures": answers.figures(),
        "classes": answers.by_class(dataset.class_names),
    }


def _is_of(dataset: Dataset, flags: dict) -> bool:
    """Whether `dataset` is what was trained on by `flags`."""
    here, there = (
        (told.get("dataset"), os.path.realpath(told.get("data_dir") or ""))
        for told in (dataset.opened_with, flags)
    )
    return here == there


def _write_evaluation(
    model_dir: str | os.PathLike,
    model: keras.Model,
    evaluated: dict,
    note: Callable[[str], None],
) -> None:
    try:
        checkpoints.write_evaluation(model_dir, model, evaluated)
    except UserError as error:
        note(f"The evaluation is not kept for exports: {error}")
