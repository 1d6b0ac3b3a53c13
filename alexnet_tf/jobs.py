"""What is done with networks as a whole: train, evaluate, export, convert. Commands and notebooks
call the same functions.
"""

import contextlib
import dataclasses
import functools
import hashlib
import math
import os
import pathlib
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from alexnet_tf import bounds, console, disk, networks
from alexnet_tf.classifiers import Answers, never_answers, refuse_class_none
from alexnet_tf.data import (
    bad_pictures,
    datasets,
    folders,
    names,
    own,
    pipeline,
    record,
    shapes,
    splits,
)
from alexnet_tf.data.splits import Dataset, Split
from alexnet_tf.errors import UserError, check_kind
from alexnet_tf.exports import (
    artifacts,
    card,
    files,
    onnx,
    saved_model,
    tflite,
    tflite_metadata,
)
from alexnet_tf.manifest import Conversion, Manifest
from alexnet_tf.network import surgery
from alexnet_tf.network.model import (
    DROPOUT_RATE,
    VARIANTS,
    build_model,
    check_large_enough,
    check_variant,
    has_dropout,
    initial_stddev,
    stable_rate,
)
from alexnet_tf.pixels import Preprocessing, default_resize
from alexnet_tf.provenance import origin
from alexnet_tf.settings import OWN, Settings
from alexnet_tf.training import (
    ancestry,
    checkpoints,
    devices,
    evaluation,
    loop,
    own_callbacks,
    run_settings,
    steps,
)
from alexnet_tf.training.objective import Objective
from alexnet_tf.training.optimizer import BIAS_RATE, DECAY, LARS, MOMENTUM, SGD2012, lars_rate
from alexnet_tf.training.plan import Plan, is_choosing

_CALIBRATION_PICTURES = 200
_A_DATASET = "what open_dataset or from_tf_data gives"
_A_STRATEGY = "a tf.distribute.Strategy, such as tf.distribute.MirroredStrategy()"
_DRAWN = 200  # pictures to compare on where there are no others


def train(
    model_dir: str | os.PathLike,
    dataset: Dataset,
    variant: str = "paper",
    *,
    model: keras.Model | networks.Network | None = None,
    preprocessing: Preprocessing | None = None,
    image_size: int | None = None,
    dropout_rate: float = DROPOUT_RATE,
    batch_size: int = Plan.batch_size,
    epochs: int = Plan.epochs,
    learning_rate: float | None = None,
    momentum: float = MOMENTUM,
    weight_decay: float = DECAY,
    bias_rate: float = BIAS_RATE,
    colour_noise: float | None = None,
    optimizer: SGD2012 | None = None,
    loss: Callable | None = None,
    class_weights: Any = None,
    label_smoothing: float = 0.0,
    augment: Callable | None = None,
    crop: Callable | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    seed: int = Plan.seed,
    strategy: tf.distribute.Strategy | None = None,
    note: Callable[[str], None] = console.note,
    progress: Callable = console.progress,
    **plan: Any,
) -> networks.Network:
    """Trains into `model_dir`, which every command takes; called again, it goes on from there.

    Returns the trained Network; its `figures` are those of the test split, else of the last
    evaluation: loss, top_1, top_5. Where something is chosen by the evaluation, by the schedule
    "plateau", `patience` or a callback, and the data set has a test split alone, a tenth of the
    training pictures chooses, as with the command. Of a callback of your own that is told of the
    evaluation, in on_epoch_end or on_test_end, that is taken for granted.

    `variant` is trained with the defaults of `alexnet train`, or a functional or Sequential `model`
    of your own, whose output is one logit a class, on pixels as `preprocessing` has them; or that
    of a Network, on its pixels. Pictures that the weights of `model` have been trained on before,
    by this function, as load or AlexNet(weights=) gave them, count as trained on. `loss`,
    `class_weights`, `label_smoothing` and `augment` are those of training.objective.Objective;
    `crop(image, preprocessing, seed)`, uint8 [height, width, 3] to uint8 [s, s, channels], takes
    the place of the random crop. `plan` are the other fields of training.plan.Plan: schedule,
    patience, warmup_steps, xla, checkpoint_seconds, max_bad_pictures, data_service. It runs on one
    device unless `strategy` says otherwise, in whose scope a model of your own has to be made.

    Raises UserError for what does not fit, before anything is written.
    """
    model_dir = disk.local(model_dir, "model_dir")
    steps.check_compiled()
    check_kind(tf.distribute.Strategy | None, strategy, "strategy", _A_STRATEGY)
    if strategy is None:
        devices.check_alone_without_strategy()
    strategy = strategy or tf.distribute.get_strategy()
    if tf.distribute.has_strategy() and tf.distribute.get_strategy() is not strategy:
        raise UserError(
            "strategy= is another strategy than that in whose scope train is called; call it"
            " outside of the scope, or leave strategy= out."
        )
    check_kind(Dataset, dataset, "dataset", _A_DATASET)
    check_kind(Preprocessing | None, preprocessing, "preprocessing", "a Preprocessing")
    wanted = "a Keras model, or what train or load gives"
    check_kind(keras.Model | networks.Network | None, model, "model", wanted)
    if isinstance(model, networks.Network):
        model.check_whole()
        preprocessing = preprocessing or model.preprocessing
    own_model = model.model if isinstance(model, networks.Network) else model
    check_kind(SGD2012 | None, optimizer, "optimizer", "an alexnet_tf.SGD2012 or LARS")
    fields = {field.name for field in dataclasses.fields(Plan)} - {"init"}
    if strange := plan.keys() - fields:
        raise UserError(
            f"{min(strange)}= is not a parameter of a training; there are also "
            f"{', '.join(sorted(fields))}."
        )
    dropout_rate = bounds.number(dropout_rate, "dropout_rate", 1)
    momentum = bounds.number(momentum, "momentum", 1)
    weight_decay = bounds.number(weight_decay, "weight_decay")
    bias_rate = bounds.number(bias_rate, "bias_rate")
    if learning_rate is not None:
        learning_rate = bounds.number(learning_rate, "learning_rate")
    if optimizer:
        rate = _rate_of(optimizer)
        _check_beside(
            "optimizer",
            momentum=momentum != MOMENTUM,
            weight_decay=weight_decay != DECAY,
            bias_rate=bias_rate != BIAS_RATE,
            learning_rate=np.float32(rate if learning_rate is None else learning_rate)
            != np.float32(rate),
        )
        learning_rate = rate
        _check_scope(strategy, optimizer, "optimizer", "trains with it")
    if own_model is not None:
        _check_beside(
            "model",
            variant=variant not in ("paper", getattr(own_model, "variant", None)),
            image_size=image_size is not None,
            dropout_rate=dropout_rate != DROPOUT_RATE,
        )
    asked = Plan(
        **{
            "batch_size": batch_size,
            "epochs": epochs,
            "seed": seed,
            "learning_rate": Plan.learning_rate if learning_rate is None else learning_rate,
            "colour_noise": Plan.colour_noise if colour_noise is None else colour_noise,
        }
        | plan
    )
    own_callbacks.check(callbacks, asked)
    devices.check_divides(asked.batch_size, strategy.num_replicas_in_sync)
    if not devices.is_chief(strategy):
        note = console.silence
    of_author = lars_rate(asked.batch_size)
    if isinstance(optimizer, LARS) and asked.learning_rate > 2 * of_author:
        note(
            f"LARS has a rate of {asked.learning_rate:g}; at batches of {asked.batch_size} it would"
            f" be {of_author:.2g} by its author's table"
        )
    stored, seen = run_settings.begun(model_dir)
    plan_chooses, whole = is_choosing(asked.schedule, asked.patience), not dataset.chose()
    choosing = plan_chooses or any(map(own_callbacks.is_choosing, callbacks))
    known = ancestry.Ancestry() if own_model is None else ancestry.of(own_model, besides=model_dir)
    both = record.union([seen, known.record]) if seen or known.record else None
    dataset = datasets.divided_for(dataset, choosing, both, anew=stored is None)
    line = own_callbacks.may_choose(callbacks)
    if line and whole and dataset.chose() and not plan_chooses:
        note(line)
    objective = Objective(loss, class_weights, label_smoothing, augment)
    objective.weights(dataset.class_names)
    if own_model is None:
        side = check_image_size(variant, image_size)
        check_of_variant(
            variant,
            dropout_rate=0
            if has_dropout(variant) or dropout_rate == DROPOUT_RATE
            else dropout_rate,
            colour_noise=colour_noise if VARIANTS[variant]["channels"] == 1 else 0,
        )
        checkpoints.check_same(model_dir, stored, {"variant": variant, "image_size": side})
        classes = len(dataset.class_names)
        # Before the weights, which the chief gives to all.
        devices.check_agreement(strategy, variant=variant, image_size=side, classes=classes)
        with _seeded(asked.seed), devices.waiting(strategy), strategy.scope():
            network = build_model(
                variant, classes, image_size, dropout_rate, initial_stddev(variant)
            )
        preprocessing = (
            preprocessing
            or _stored_pixels(stored)
            or preprocessing_for(variant, dataset, image_size)
        )
        networks.pixels_of(network, preprocessing)  # or they do not fit
    else:
        network, preprocessing = _of_user(
            own_model, preprocessing, dataset, stored, strategy, asked, note
        )
        if networks.reads_integers(network):
            _check_whole_levels(colour_noise=colour_noise, augment=augment)
    row = VARIANTS[network.variant] if hasattr(network, "variant") else {}
    if colour_noise is None and (noise := row.get("colour_noise")):
        if preprocessing.colour_pca is None:
            note(
                f"trained without the colour noise of variant={network.variant}: preprocessing= has"
                " no colour_pca to draw it from"
            )
        else:
            asked = dataclasses.replace(asked, colour_noise=noise)
    if learning_rate is None and row:
        rate = default_rate(
            network.variant, asked.batch_size, len(dataset.class_names), network.dropout_rate
        )
        asked = dataclasses.replace(asked, learning_rate=rate)
    if colour_noise and preprocessing.colour_pca is None:
        raise UserError(
            f"colour_noise={colour_noise}, but preprocessing= has no colour_pca to draw it from; "
            "leave it out, or pass a Preprocessing that has."
        )
    bad_pictures.tell_of_opening(dataset, asked.max_bad_pictures, note)
    _tell_seen_before(known, dataset, note)
    splits.tell_of_side(dataset, preprocessing, note)
    splits.tell_of_balance(dataset, note, weighted=class_weights is not None)
    with strategy.scope():
        optimizer = optimizer or SGD2012(asked.learning_rate, momentum, weight_decay, bias_rate)
        optimizer.build(network.trainable_variables)
    descent = known.descent or (stored or {}).get("pretrained")
    settings = run_settings.settings_of(
        network,
        dataset,
        preprocessing,
        asked,
        **objective.describe() | ({"pretrained": descent} if descent else {}),
    )
    has_seen = record.union([seen, record.of(dataset)])
    with devices.leaving_lost_workers(strategy):
        # nobody else has a layer of what is built here
        held = None if own_model is None else network
        with _remembered(held, model_dir, has_seen, descent):
            figures = loop.train(
                strategy,
                network,
                optimizer,
                dataset,
                preprocessing,
                asked,
                model_dir,
                callbacks,
                progress,
                note,
                objective,
                crop,
                settings,
                known.record,
            )
        figures, answers = evaluation.as_reported(
            figures, strategy, network, preprocessing, dataset, asked.batch_size
        )
    if devices.is_chief(strategy):
        run_settings.keep_place(model_dir, settings)
    # of what was trained
    settings = Settings.from_json(checkpoints.read_settings(model_dir) or settings.to_json())
    step = checkpoints.newest_step(model_dir)
    if answers and devices.is_chief(strategy):
        kept = report_evaluation(model_dir, network, answers, dataset, note)
        settings = dataclasses.replace(settings, others=settings.others | kept)
    return networks.of_model(model_dir, network, settings, step, figures)


def _of_user(
    model: keras.Model,
    given: Preprocessing | None,
    dataset: Dataset,
    stored: dict | None,
    strategy: tf.distribute.Strategy,
    plan: Plan,
    note: Callable[[str], None],
) -> tuple[keras.Model, Preprocessing]:
    """(the network of the layers of a user's `model`, what is done to its pixels): of what AlexNet
    made the variant itself, whose training may have `stored` its settings. Raises UserError for one
    that cannot be trained.
    """
    surgery.check_functional(model)
    _check_scope(strategy, model, "model", "trains it")
    pixels = networks.pixels_of(model, given)
    surgery.check_logits(model, pixels)
    if line := surgery.scaled_twice(model, pixels):
        note(line)
    with _seeded(plan.seed), strategy.scope():
        network = surgery.as_it_is(surgery.unpacked(model))
        bare = networks.bare(network)
    # Earlier versions took it for a model of its user's own, as which it goes on.
    if bare and (stored or {}).get("variant") != OWN:
        network, levels = bare
        of_variant = (
            given
            or _stored_pixels(stored)
            or preprocessing_for(network.variant, dataset, pixels.image_size)
        )
        pixels = dataclasses.replace(of_variant, mean=levels.mean, std=levels.std)
    if not network.trainable_variables:
        raise UserError(
            "model= has nothing to train: all of its layers are frozen; set trainable = True "
            "where it is to learn."
        )
    return network, pixels


def _tell_seen_before(
    known: ancestry.Ancestry, dataset: Dataset, note: Callable[[str], None]
) -> None:
    """Notes which pictures of `dataset` are to judge and have been trained on before it."""
    for split in dataset.evaluations():
        if known.record is None or split.identities is None:
            continue
        if count := int(known.record.has_seen(split.identities).sum()):
            pictures = f"the {split.examples} pictures of {split.name}"
            note(evaluation.tell_seen(" and ".join(known.paths), count, pictures))


@contextlib.contextmanager
def _remembered(
    model: keras.Model | None, model_dir: pathlib.Path, seen: record.Record, descent: dict | None
) -> Iterator[None]:
    """Where a training is cut short, the weights that it leaves in `model` have `seen` pictures."""
    before = None if model is None else checkpoints.weights_digest(model)
    try:
        yield
    except BaseException:
        if model is not None and checkpoints.weights_digest(model) != before:
            ancestry.note(model, model_dir, seen, descent)
        raise


def _stored_pixels(settings: dict | None) -> Preprocessing | None:
    """Those of the `settings` of a training that has begun."""
    return Preprocessing(**settings["preprocessing"]) if settings else None


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """For what builds a network: its layers and initializers draw their seeds from Python's
    generator alone, which is afterwards as its user had it.
    """
    state = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(state)


def _check_beside(taken: str, **given: bool) -> None:
    """Raises UserError for a parameter that is `given` beside another, which has it already."""
    for name, is_given in given.items():
        if is_given:
            raise UserError(
                f"{name}= has no effect beside {taken}=, which has its own; leave it out."
            )


def _check_whole_levels(**given: Any) -> None:
    """Raises UserError for a parameter whose fractions a model of whole numbers would not see."""
    for name, value in given.items():
        if value:
            raise UserError(
                f"{name}= makes levels that are no whole numbers, and the model reads whole numbers"
                " alone; leave it out, or build the model on keras.Input(shape) in float32."
            )


def check_of_variant(variant: str, **without_effect: float | str | None) -> None:
    """Raises UserError for a value, neither 0 nor empty, that has no effect in `variant`."""
    for name, value in without_effect.items():
        if value:
            raise UserError(f"{name}={value} changes nothing in variant={variant}; leave it out.")


def _rate_of(optimizer: SGD2012) -> float:
    rate = optimizer.get_config()["learning_rate"]
    if not isinstance(rate, float):
        raise UserError(
            "optimizer= has a schedule for its rate, and so has the training; give it a number, "
            "and say schedule=, or give a LearningRateScheduler among callbacks= with "
            "schedule='constant'."
        )
    return float(str(np.float32(rate)))  # 0.05, which a float32 holds as 0.05000000074


def _check_scope(
    strategy: tf.distribute.Strategy,
    made: keras.Model | keras.optimizers.Optimizer,
    name: str,
    does: str,
) -> None:
    """Raises UserError unless the variables of `made`, the argument `name`, are of `strategy`."""
    if not all(
        strategy.extended.variable_created_in_scope(variable.value) for variable in made.variables
    ):
        raise UserError(
            f"{name}= was made elsewhere than in the scope of the strategy that {does}; make it in"
            " strategy.scope(), and pass strategy=."
        )


def check_image_size(variant: str, image_size: int | None) -> int:
    """`image_size` or the variant's own. Raises UserError if the network cannot read it."""
    check_variant(variant)
    if image_size is None:
        return VARIANTS[variant]["image_size"]
    image_size = bounds.whole(image_size, "image_size", 1, bounds.LARGEST_RESIZE)
    check_large_enough(image_size, variant)
    return image_size


def default_rate(
    variant: str, batch_size: int, num_classes: int, dropout_rate: float = DROPOUT_RATE
) -> float:
    """The variant's learning rate, scaled linearly with batches above 256; with few classes, no
    more than the untrained network stands: model.stable_rate.

    Twice the rate at batch 512 and four times at 1024 were measured on CaffeNet to keep its
    accuracy, without warm-up: https://github.com/ducha-aiki/caffenet-benchmark (BatchSize.md).
    Beyond, https://arxiv.org/abs/1708.03888 needed LARS.
    """
    rate = VARIANTS[variant]["learning_rate"] * max(1, batch_size / 256)
    return min(rate, stable_rate(variant, num_classes, dropout_rate))


def preprocessing_for(
    variant: str, dataset: Dataset, image_size: int | None = None
) -> Preprocessing:
    """What the variant does to pixels, with the mean and colours of the training pictures."""
    row, image_size = VARIANTS[variant], check_image_size(variant, image_size)
    pixels = Preprocessing(
        image_size,
        default_resize(row, image_size),
        row["channels"],
        (0.0,) * row["channels"],
        row["std"],
        noise_divides=row.get("noise_divides", False),
    )
    if dataset.statistics and pixels.channels == 3:
        return dataclasses.replace(pixels, **dataset.statistics)
    mean, colour_pca = pipeline.channel_statistics(dataset.to_train(), pixels)
    return dataclasses.replace(
        pixels, mean=tuple(mean), colour_pca=tuple(colour_pca) if pixels.channels == 3 else None
    )


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
    check_kind(tf.distribute.Strategy | None, strategy, "strategy", _A_STRATEGY)
    strategy = strategy or tf.distribute.get_strategy()
    several: Sequence = network if isinstance(network, list | tuple) else [network]
    if not several:
        raise UserError("network= holds no network; pass one or more.")
    wanted = f"{_A_DATASET}, or a folder as data_dir="
    check_kind(Dataset | None, dataset, "dataset", wanted)
    check_kind(str | None, test_split, "test_split", "the name of a split")
    if dataset and (data_dir is not None or test_split is not None):
        given = "test_split" if data_dir is None else "data_dir"
        raise UserError(f"{given}= and dataset= both say what judges; pass one of the two.")
    batch_size = bounds.whole(batch_size, "batch_size", 1)
    if views not in (1, 10):
        raise UserError(f"views={views}: pass 1, for the centre, or 10.")
    if weights is not None:
        weights = [
            bounds.number(weight, "weights") for weight in bounds.in_order(weights, "weights")
        ]
        if len(weights) != len(several) or not any(weights):
            raise UserError(
                f"weights={weights}: pass a number, not 0 for all, for each of the {len(several)} "
                "networks."
            )
    with strategy.scope():
        opened = [as_network(one) for one in several]
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
        reason = f"{without} of the {len(dataset.class_names)} classes have no picture there"
    elif kept and kept.get("of_test") and not evaluated["of_test"]:
        reason = f"they tell of the test split of the training, {kept['split']}"
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


def as_network(network: networks.Network | str | os.PathLike) -> networks.Network:
    """`network` itself, or what lies at the path that it is. Raises UserError for anything else."""
    wanted = "what alexnet_tf.train or load gives, or a path"
    check_kind(networks.Network | str | os.PathLike, network, "network", wanted)
    return network if isinstance(network, networks.Network) else networks.load(network)


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
    """A line where `dataset`, opened to train on, keeps pictures from judging `several` networks
    that none of them is known to have been trained on.
    """
    split, folder = dataset.reported(), dataset.opened_with.get("data_dir")
    if dataset.train is None or not split.held_out or folder is None:
        return None
    seen = record.union(one.record for one in several)
    others = int((~seen.has_seen(dataset.train.known())).sum())
    if not others:
        return None
    return (
        f"{folder} was divided to train on: its {split.examples} pictures that are held out judge,"
        f" and {others} others do not, though no network is known to have been trained on them;"
        " pass data_dir= in place of the data set, and all of them do."
    )


@networks.under_policy("float32")
@devices.full_float32()
def export(
    network: networks.Network | keras.Model | str | os.PathLike,
    output: str | os.PathLike,
    version: int | str = 1,
    format: str = "saved_model",  # as Keras has it
    *,
    min_probability: float | None = None,
    class_names: Sequence[str] | None = None,
    preprocessing: Preprocessing | None = None,
    note: Callable[[str], None] = console.note,
) -> pathlib.Path:
    """Writes `network`, a Network or what networks.load opens, in `format`: saved_model,
    safetensors, onnx or keras, with a model card, README.md, beside it. A part of a network, which
    is no classifier, goes out as saved_model, which gives its features, and safetensors alone.

    Or a Keras model, from pixels (as alexnet_tf.AlexNet makes them) to probabilities or logits: it
    needs `class_names`, and, where it does not tell what its pixels are, `preprocessing`.

    Returns its folder, `output`/`version`; the version "next" is one more than the highest there
    is. It computes in float32, also where the network was made under a mixed dtype policy. Where no
    class reaches `min_probability`, in 0..1, by default that of the network, it answers "none of
    these". One of the same weights, labels and least probability that is there already is left as
    it is. An ONNX file is compared with the network on pictures. Raises UserError for another, or
    if it cannot be written, or differs.
    """
    bounds.check_one_of(format, "format", artifacts.FORMATS)
    if format == "onnx":
        onnx.check_installed()
    output = disk.local(output, "output")
    if isinstance(network, keras.Model):
        whole, network = network, networks.of_keras(network, class_names, preprocessing, note)
        if line := surgery.scaled_twice(whole, network.preprocessing):
            note(line)
    elif class_names is not None or preprocessing is not None:
        raise UserError(
            "class_names= and preprocessing= are for a Keras model; a Network knows its own."
        )
    network = as_network(network)
    networks.check_unchanged(network)
    network = networks.in_float32(network)
    if min_probability is not None:
        network = networks.with_min_probability(network, min_probability)
        if line := never_answers(min_probability, len(network.class_names)):
            note(line)
    if format in ("onnx", "keras"):
        network.check_whole()
    refuse_class_none(network.class_names, f"{network.path} is not exported")
    _check_format(output, format)
    evaluation.check_finite(network.model)
    bounds.check_single_precision({one.path: one for one in network.model.weights})
    _check_trained(network)
    number = _version(output, version)
    path = disk.numbered(output).get(int(number), output / number)
    digest = checkpoints.weights_digest(network.model)
    network = networks.of_weights(network, digest, note)
    manifest = Manifest(network.settings, network.step, network.figures, digest, origin())
    if version != "next" and path.exists():
        _check_same(path, manifest, note)
        return path

    def next_free(taken: pathlib.Path) -> pathlib.Path:  # by another export at the same time
        return taken.with_name(_version(output, "next"))

    if format == "saved_model":
        return saved_model.write(
            network.model,
            manifest,
            path,
            next_free if version == "next" else None,
            network.record,
        )
    content = _content(network, manifest, format, note)
    return files.write(
        path,
        artifacts.FORMATS[format],
        content,
        manifest,
        network.record,
        card.text(manifest, format),
        next_free if version == "next" else None,
    )


def _check_trained(network: networks.Network) -> None:
    """Raises UserError for a kernel of one number alone, which readers of weights files refuse; of
    a network of its user's own it may be meant.
    """
    if network.settings.variant == OWN:
        return
    try:
        for variable in network.model.weights:
            bounds.check_trained(variable.path, np.asarray(variable.value))
    except ValueError as error:
        raise UserError(f"{network.path} is not exported: {error}.") from None


def _content(
    network: networks.Network,
    manifest: Manifest,
    form: str,
    note: Callable[[str], None],
) -> bytes:
    """The bytes of the file of an export that is no SavedModel."""
    own = network.settings.variant == OWN
    if form == "safetensors" or form == "keras" and not own:
        try:
            network.settings.of_a_stranger()  # as which it is read
        except ValueError as error:
            other = " or keras" * own
            raise UserError(f"format={form}: {error}; use format=saved_model{other}.") from None
    if form == "safetensors":
        return files.safetensors(network.model, manifest, network.record)
    if form == "keras":
        return files.keras_file(network.model, manifest, network.record)
    pixels = network.preprocessing
    content = onnx.convert(network.model, pixels, manifest, network.record)
    split = _pictures(None, None, manifest, network.record, note).split
    count = min(tflite.COMPARED, split.examples)
    figures = onnx.compare(
        content,
        evaluation.model_probabilities(network.model, pixels),
        tflite.images_of(split, pixels, count, note),
        count,
    )
    note(
        f"The ONNX file was compared on {figures['pictures compared']} pictures ({split.name}): no "
        f"probability differs by more than {figures['largest difference']:.1g}"
    )
    return content


def _check_format(output: pathlib.Path, form: str) -> None:
    """Raises UserError if `output` is called as a file, is a model directory or a version, or holds
    versions in another format: a server of one reads them all.
    """
    if disk.is_called_as_a_file(output):
        more = "; alexnet convert makes a .tflite file of that" * (output.suffix == ".tflite")
        raise UserError(
            f"output={output} is called as a file, and format={form} is a folder of versions, each "
            f"with {artifacts.FORMATS[form]} in it; pass output={output.with_suffix('')}{more}."
        )
    if checkpoints.holds_model(output):
        raise UserError(
            f"output={output} is a model directory, and would be opened as the export alone from "
            "then on; pass another output."
        )
    versions = disk.numbered(output)
    name = output.absolute().name
    # A folder of versions may be called by a number, but not among versions.
    beside = disk.numbered(output.parent).values() if disk.is_version(name) else ()
    if artifacts.format_of(output) or not versions and any(map(artifacts.format_of, beside)):
        of_them = output.parent if disk.is_version(name) else "another folder"
        number = int(name) if disk.is_version(name) and int(name) else "next"
        raise UserError(
            f"output={output} is {'a version itself' if output.exists() else 'called as a version'}"
            f"; pass the folder that holds them, output={of_them}, and version={number}"
            f"{', or next' * (number != 'next')}."
        )
    if form == "saved_model":
        artifacts.check_path(output.absolute())
    for version in versions.values():
        there = artifacts.format_of(version)
        if there not in (None, form):
            raise UserError(
                f"output={output} holds versions of format={there}; pass another output for "
                f"format={form}."
            )


def _check_same(path: pathlib.Path, manifest: Manifest, note: Callable[[str], None]) -> None:
    """Notes where the version in `path` tells other figures. Raises UserError unless it is of this
    network, and whole.
    """
    stored = artifacts.read_manifest(path)
    if other := stored.differences(manifest):
        raise UserError(
            f"{path} is there already, with other {', '.join(other)}; pass "
            "version=next, or remove it."
        )
    artifacts.check_sums(path)
    if stored.settings.others.get("metrics") != manifest.settings.others.get("metrics"):
        note(
            f"{path} was written before the newest evaluation, which its card does not tell; pass "
            "version=next to have one that does"
        )
    told, known = (
        [(source.get("file"), source.get("licence")) for source in one.settings.sources]
        for one in (stored, manifest)
    )
    if told != known:
        note(
            f"{path} does not tell of the weights of others that the network started from as is "
            "known now, with their licence; pass version=next to have a card that does"
        )


def _version(output: pathlib.Path, version: int | str) -> str:
    number: int | str = version
    if version == "next":
        number = max(disk.numbered(output), default=0) + 1
    if not disk.is_version(str(number)) or not int(number):
        raise UserError(
            f"version={str(version)[:40]}: a server knows versions by number, below 2**63; use 1, "
            "2, ... or next."
        )
    return str(int(number))


@devices.outside_scopes
@devices.full_float32()
def convert(
    version: str | os.PathLike,
    output: str | os.PathLike,
    quantization: str = "none",
    *,
    pictures: Dataset | Split | str | os.PathLike | None = None,
    calibration: Dataset | Split | str | os.PathLike | None = None,
    count: int = 0,
    max_accuracy_drop: float | None = None,
    note: Callable[[str], None] = console.note,
) -> dict:
    """Writes a .tflite file of an export (a version, or the folder of versions: the newest), and
    returns the figures of the comparison of the two.

    `quantization`: none (float32), float16, dynamic (weights in 8 bits) or int8. They are compared
    on `count` of `pictures` (0: 100, or 2000 for dynamic and int8): the test split of a Dataset,
    else its evaluation split, or a folder of any pictures; by default those of the network's own
    data set if they are at hand, else drawn ones. Only pictures of the network's own classes, of a
    folder those that all lie in folders of their names, tell accuracies, which may drop by
    `max_accuracy_drop`; tflite.advice says what is allowed without it. int8 needs `calibration`,
    likewise: by default the training pictures of the Dataset, else those of the network.

    Of a part of a network the features are compared, and there is no accuracy that may drop.

    A file that is there already is left if it is of the same weights, made and compared with the
    same pictures and bound, and tells the same figures of the network. Raises UserError, and writes
    nothing, if the two disagree, or where pictures for int8 are missing.
    """
    output, version = disk.local(output, "output"), disk.local(version)
    bounds.check_one_of(quantization, "quantization", tflite.QUANTIZATIONS)
    count = bounds.whole(count, "count")
    if max_accuracy_drop is not None:
        if not bounds.number(max_accuracy_drop, "max_accuracy_drop") <= 1:
            raise UserError(
                f"max_accuracy_drop={max_accuracy_drop}: 0.003 is 0.3 points; 1 is most."
            )
        if quantization in ("none", "float16"):
            raise UserError(
                f"max_accuracy_drop={max_accuracy_drop} is for quantization=dynamic and int8; leave"
                " it out: of the others every probability is compared."
            )
    if calibration is not None and quantization != "int8":
        name = calibration.name if isinstance(calibration, Dataset | Split) else calibration
        raise UserError(f"calibration={name} is for quantization=int8; leave it out.")
    disk.check_place(output, "output")
    if disk.is_called_as_a_file(output) and output.suffix.lower() != ".tflite":
        raise UserError(
            f"output={output} is called as a file of another format, and alexnet convert writes "
            f".tflite files; pass output={output.with_suffix('.tflite')}, or take alexnet export."
        )
    path = artifacts.newest_version(version)
    if path is None:
        raise UserError(
            f"{version} is not a version that alexnet export wrote, or a folder of them."
        )
    artifacts.check_saved_model(path)
    manifest, seen = artifacts.read_manifest(path), artifacts.read_record(path)
    chosen, ranges = _opened(pictures, manifest.labels), _opened(calibration)
    if not manifest.labels and max_accuracy_drop is not None:
        raise UserError(
            f"max_accuracy_drop={max_accuracy_drop}: {path} gives features, which have no "
            "accuracy; leave it out."
        )
    told: list[str] = []  # of pictures that a file which is there already may not need
    compared = _pictures(chosen, ranges, manifest, seen, told.append)
    calibrating = None
    if quantization == "int8":
        calibrating = ranges or _calibrating(compared.dataset, manifest, seen, told.append)
        if isinstance(calibrating, Dataset):  # its notes are of what is held out, of no use here
            opened = dataclasses.replace(calibrating, notes=())
            bad_pictures.tell_of_opening(opened, math.inf, told.append)
    conversion = Conversion(
        quantization,
        _digest(calibrating) if calibrating else None,
        compared.digest,
        count or None,
        None if max_accuracy_drop is None else float(max_accuracy_drop),
    )
    manifest = dataclasses.replace(manifest, conversion=conversion)
    if _is_there(output, manifest):
        return {
            "is there already": "from the same weights",
            "megabytes": output.stat().st_size / 1e6,
        }
    for line in dict.fromkeys(told):  # both may have the same bad picture
        note(line)
    artifacts.check_sums(path)
    pixels = manifest.settings.preprocessing
    if max_accuracy_drop is not None and not compared.labelled:
        raise UserError(
            f"max_accuracy_drop={max_accuracy_drop}: {compared.split.name} has no labels of this"
            " network, so there is no accuracy; compare on folders of its classes, or leave it out."
        )
    images, ranged = [], _to_calibrate(calibrating) if calibrating else None
    if ranged:
        found = tflite.images_of(ranged, pixels, _CALIBRATION_PICTURES, note)
        images = [image for image, _ in found]
    content = tflite.convert(str(path), quantization, images)
    content = tflite_metadata.complete(content, manifest, seen)
    how = str(path), content, compared.split, pixels, quantization, count
    figures = (
        tflite.compare(*how, compared.labelled, max_accuracy_drop, note)
        if manifest.labels
        else tflite.compare_features(*how, note)
    )
    try:
        disk.replace_bytes(output, content)
    except OSError as error:
        raise UserError(f"output={output} cannot be written ({error.strerror}).") from None
    figures = {"megabytes": len(content) / 1e6} | figures
    if ranged:
        names = artifacts.operator_outputs(content, np.float32)
        in_float = set().union(*map(tflite.kept_in_float, names))
        figures["in float32"] = ", ".join(sorted(in_float)) or "nothing"
        figures["calibrated on"] = f"{len(images)} of {ranged.name}"
        figures["compared on"] += _in_common(compared.split, ranged)
    return figures


def _in_common(compared: Split, calibrating: Split) -> str:
    """What is to be said of pictures that both hold, as far as they are known."""
    if compared.identities is None or calibrating.identities is None:
        return ""
    both = np.isin(compared.identities, calibrating.identities)
    if not both.any():
        return ""
    which = "which it is" if both.all() else f"{both.sum()} of which are among those that it is"
    return f", {which} calibrated on: others would tell more"


def _opened(
    pictures: Dataset | Split | str | os.PathLike | None, class_names: tuple = ()
) -> Dataset | Split | None:
    if pictures is None or isinstance(pictures, Dataset | Split):
        return pictures
    return split_of(pictures, class_names)


def _digest(pictures: Dataset | Split) -> str:
    """By it two sets of pictures are known to be the same."""
    if isinstance(pictures, Dataset):
        return pictures.fingerprint
    return hashlib.sha256(pictures.known().tobytes()).hexdigest()


def _is_there(output: pathlib.Path, manifest: Manifest) -> bool:
    try:
        there = artifacts.Tflite(output.read_bytes()).manifest
    except (OSError, UserError):
        return False
    if not there.conversion or not there.conversion.flatbuffer_sha256:
        return False  # of an earlier version, and nobody knows whether it is whole
    same_figures = _figures_told(there) == _figures_told(manifest)
    return (
        there.conversion == manifest.conversion and same_figures and not there.differences(manifest)
    )


def _figures_told(manifest: Manifest) -> tuple:
    """What it says of how right the network is, which an evaluation changes and no weights."""
    return manifest.evaluation, manifest.settings.others.get("metrics")


@dataclasses.dataclass(frozen=True)
class _Compared:
    """The pictures to compare on."""

    given: Split | None = None  # None: drawn ones
    digest: str = "drawn"  # they are always the same
    labelled: bool = False  # whether their labels are the network's
    dataset: Dataset | None = None  # that they are of

    @functools.cached_property
    def split(self) -> Split:
        return self.given or drawn_pictures(_DRAWN)  # which takes seconds


def _pictures(
    pictures: Dataset | Split | None,
    calibration: Dataset | Split | None,
    manifest: Manifest,
    seen: record.Record | None,
    note: Callable[[str], None],
) -> _Compared:
    """Those that were passed, or else the nearest to what the network sees that are at hand."""
    told_of = ""
    if pictures is None:
        try:
            pictures = _trained_on(manifest, seen)
        except UserError as error:
            at_hand = f"those that the network was trained on are not at hand ({error})"
            if calibration is None:
                note(f"Compared on drawn pictures: {at_hand}")
                return _Compared()
            split = _to_calibrate(calibration)
            note(f"Compared on {split.name}: {at_hand}")
            return _Compared(split, _digest(calibration))
        if folder := manifest.settings.flags.get("data_dir"):  # nobody has named it here
            told_of = f" of {folder}"
    if not isinstance(pictures, Dataset):
        labels = np.array([stub["label"] for stub in pictures.stubs(None).as_numpy_iterator()])
        if not manifest.labels or labels.min() < 0:
            if manifest.labels and labels.max() >= 0:
                note(
                    f"{(labels < 0).sum()} of the {len(labels)} pictures of {pictures.name} lie in"
                    f" no folder of a class of the network: {tflite.NOT_ACCURACY}"
                )
            return _Compared(pictures, _digest(pictures))
        classes = hashlib.sha256(labels.tobytes()).hexdigest()
        return _Compared(pictures, f"{_digest(pictures)} {classes}", True)
    bad_pictures.tell_of_opening(pictures, math.inf, note)
    split = pictures.reported()
    # by its name too: a data set with several splits is the same whichever of them judges
    digest, name = f"{_digest(pictures)} {split.name}", split.name + told_of
    labelled = tuple(pictures.class_names) == manifest.labels
    if manifest.labels and not labelled:
        note(f"{pictures.name} has other classes than the network: {tflite.NOT_ACCURACY}")
    if not labelled:
        name = f"{pictures.name}, {name}"
    return _Compared(dataclasses.replace(split, name=name), digest, labelled, pictures)


def _trained_on(manifest: Manifest, seen: record.Record | None) -> Dataset:
    """What the network was trained on. Raises UserError where it is not at hand."""
    flags = manifest.settings.flags
    if flags.get("dataset") is None:
        raise UserError("the network does not say what it was trained on")
    return datasets.open_dataset(
        flags["dataset"],
        flags.get("data_dir"),
        flags.get("seed") or 0,
        names.of_flags(flags),
        seen=seen,
    )


def _calibrating(
    compared: Dataset | None,
    manifest: Manifest,
    seen: record.Record | None,
    note: Callable[[str], None],
) -> Dataset:
    """The data set whose training pictures calibrate int8, where nobody has passed others."""
    if compared and compared.train:
        return compared
    try:
        found = _trained_on(manifest, seen)
    except UserError as error:
        raise UserError(
            "int8 needs pictures to find the range of each activation, and the "
            f"training pictures are not at hand ({error}); pass calibration=FOLDER of some "
            "hundred pictures like those that the network will see."
        ) from None
    place = manifest.settings.flags.get("data_dir") or found.name
    note(
        f"Calibrated on {found.to_train().name} of {place}, on which the network was trained: what"
        " is compared has no other pictures to train on"
    )
    return found


def _to_calibrate(pictures: Dataset | Split) -> Split:
    return pictures.to_train() if isinstance(pictures, Dataset) else pictures


def split_of(pictures: str | os.PathLike, class_names: tuple = ()) -> Split:
    """The pictures in a folder and anywhere below it, labelled by those of `class_names` that the
    folders around them have, or -1. Raises UserError if there are none.
    """
    split, _ = folders.list_pictures([os.fspath(disk.local(pictures))], class_names)
    return dataclasses.replace(split, name=os.fspath(pictures))


def drawn_pictures(count: int) -> Split:
    """The first `count` test pictures of the embedded data set, drawn anew."""
    return own.split_of_contents(
        "drawn pictures", [shapes.draw_jpeg("test", number) for number in range(count)]
    )
