"""Trains a variant, or a model of its user's own, into a model directory."""

import contextlib
import dataclasses
import inspect
import os
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from alexnet_tf import bounds, console, disk, networks
from alexnet_tf.data import bad_pictures, datasets, record, splits
from alexnet_tf.data.splits import Dataset
from alexnet_tf.errors import UserError, check_kind
from alexnet_tf.jobs.evaluate import report_evaluation
from alexnet_tf.network import surgery
from alexnet_tf.network.model import (
    DROPOUT_RATE,
    VARIANTS,
    build_model,
    initial_stddev,
)
from alexnet_tf.pixels import Preprocessing
from alexnet_tf.settings import OWN, Settings
from alexnet_tf.training import (
    ancestry,
    checkpoints,
    defaults,
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
    strategy = _strategy_of(strategy)
    check_kind(Dataset, dataset, "dataset", splits.A_DATASET)
    own_model, preprocessing = _model_of(model, preprocessing)
    _check_fields(plan)
    dropout_rate = bounds.number(dropout_rate, "dropout_rate", 1)
    momentum = bounds.number(momentum, "momentum", 1)
    weight_decay = bounds.number(weight_decay, "weight_decay")
    bias_rate = bounds.number(bias_rate, "bias_rate")
    if isinstance(learning_rate, keras.optimizers.schedules.LearningRateSchedule):
        raise _of_a_schedule("learning_rate")
    if learning_rate is not None:
        learning_rate = bounds.number(learning_rate, "learning_rate")
    check_kind(SGD2012 | None, optimizer, "optimizer", "an alexnet_tf.SGD2012 or LARS")
    if optimizer:
        _check_scope(strategy, optimizer, "optimizer", "trains with it")
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
    if isinstance(optimizer, LARS):
        _tell_rate_of_lars(asked, note)
    stored, seen = run_settings.begun(model_dir)
    known = ancestry.Ancestry() if own_model is None else ancestry.of(own_model, besides=model_dir)
    before = record.union([seen, known.record]) if seen or known.record else None
    dataset = _divided(dataset, asked, callbacks, before, stored is None, note)
    objective = Objective(loss, class_weights, label_smoothing, augment)
    objective.weights(dataset.class_names)
    if own_model is None:
        side = defaults.check_image_size(variant, image_size)
        defaults.check_of_variant(
            variant,
            dropout_rate=None if dropout_rate == DROPOUT_RATE else dropout_rate,
            colour_noise=colour_noise,
        )
        checkpoints.check_same(model_dir, stored, {"variant": variant, "image_size": side})
        network = _of_variant(variant, side, dropout_rate, dataset, strategy, asked.seed)
        preprocessing = preprocessing or _pixels_of_variant(variant, stored, dataset, side)
        networks.pixels_of(network, preprocessing)  # or they do not fit
    else:
        network, preprocessing = _of_user(
            own_model, preprocessing, dataset, stored, strategy, asked, note
        )
        if networks.reads_integers(network):
            _check_whole_levels(colour_noise=colour_noise, augment=augment)
    if colour_noise and preprocessing.colour_pca is None:
        raise UserError(
            f"colour_noise={colour_noise}, but preprocessing= has no colour_pca to draw it from; "
            "omit it, or pass a Preprocessing that has one."
        )
    if hasattr(network, "variant"):
        if colour_noise is None:
            noise = _noise_of_variant(network.variant, preprocessing, note)
            asked = dataclasses.replace(asked, colour_noise=noise)
        if learning_rate is None:
            rate = defaults.default_rate(
                network.variant, asked.batch_size, len(dataset.class_names), network.dropout_rate
            )
            asked = dataclasses.replace(asked, learning_rate=rate)
    bad_pictures.tell_of_opening(dataset, asked.max_bad_pictures, note)
    _tell_seen_before(known, dataset, note)
    if isinstance(model, networks.Network) and stored is None:
        _tell_places(model, dataset, note)
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


def _strategy_of(given: tf.distribute.Strategy | None) -> tf.distribute.Strategy:
    """That of `strategy=`, or else of the scope in which train is called. Raises UserError where
    the two differ, or where one has to be given.
    """
    if given is None:
        devices.check_alone_without_strategy()
    strategy = devices.strategy_or_current(given)
    if tf.distribute.has_strategy() and tf.distribute.get_strategy() is not strategy:
        raise UserError(
            "strategy= is not the strategy in whose scope train is called; call it outside that "
            "scope, or omit strategy=."
        )
    return strategy


def _model_of(
    given: keras.Model | networks.Network | None, preprocessing: Preprocessing | None
) -> tuple[keras.Model | None, Preprocessing | None]:
    """(the Keras model of `model=`, what is done to its pixels), each where it is known. Raises
    UserError for other types, and for a part of a network.
    """
    check_kind(Preprocessing | None, preprocessing, "preprocessing", "a Preprocessing")
    wanted = "a Keras model, or what train or load gives"
    check_kind(keras.Model | networks.Network | None, given, "model", wanted)
    if not isinstance(given, networks.Network):
        return given, preprocessing
    given.check_whole()
    return given.model, preprocessing or given.preprocessing


def _check_fields(plan: dict[str, Any]) -> None:
    """Raises UserError for a parameter that is no field of a Plan."""
    fields = {field.name for field in dataclasses.fields(Plan)} - {"init"}
    if strange := plan.keys() - fields:
        taken = inspect.signature(train).parameters.keys() - {"plan"} | fields
        raise UserError(
            f"{min(strange)}= is not a parameter of train; use some of {', '.join(sorted(taken))}."
        )


def _tell_rate_of_lars(plan: Plan, note: Callable[[str], None]) -> None:
    of_author = lars_rate(plan.batch_size)
    if plan.learning_rate > 2 * of_author:
        note(
            f"LARS has a rate of {plan.learning_rate:g}; for batches of {plan.batch_size} its "
            f"author's table gives {of_author:.2g}"
        )


def _divided(
    dataset: Dataset,
    plan: Plan,
    callbacks: Sequence[keras.callbacks.Callback],
    seen: record.Record | None,
    anew: bool,
    note: Callable[[str], None],
) -> Dataset:
    """`dataset` with pictures apart that choose, of those that were not `seen`, where the `plan` or
    a callback does.
    """
    plan_chooses = is_choosing(plan.schedule, plan.patience)
    choosing = plan_chooses or any(map(own_callbacks.is_choosing, callbacks))
    divided = datasets.divided_for(dataset, choosing, seen, anew=anew)
    line = own_callbacks.may_choose(callbacks)
    if line and divided.chose() and not dataset.chose() and not plan_chooses:
        note(line)
    return divided


def _of_variant(
    variant: str,
    image_size: int,
    dropout_rate: float,
    dataset: Dataset,
    strategy: tf.distribute.Strategy,
    seed: int,
) -> keras.Model:
    classes = len(dataset.class_names)
    # Before the weights, which the chief gives to all.
    devices.check_agreement(strategy, variant=variant, image_size=image_size, classes=classes)
    with surgery.drawing_apart(seed), devices.waiting(strategy), strategy.scope():
        return build_model(variant, classes, image_size, dropout_rate, initial_stddev(variant))


def _noise_of_variant(
    variant: str, preprocessing: Preprocessing, note: Callable[[str], None]
) -> float:
    """The colour noise of `variant`, or 0 where `preprocessing` has no colours to draw it from."""
    noise = VARIANTS[variant]["colour_noise"]
    if noise and preprocessing.colour_pca is None:
        note(
            f"trained without the colour noise of variant={variant}: preprocessing= has"
            " no colour_pca to draw it from"
        )
        return 0.0
    return noise


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
    surgery.check_same_answers(model, pixels)
    if model.compiled:
        note(
            f"model= was compiled, with {type(model.optimizer).__name__}; that is for its own fit, "
            "and train uses optimizer= and loss= instead"
        )
    for line in (
        surgery.scaled_twice(model, pixels),
        surgery.taken_for_levels(model, pixels),
        surgery.called_in_vain(model),
    ):
        if line:
            note(line)
    with surgery.drawing_apart(plan.seed), strategy.scope():
        network = surgery.as_it_is(surgery.unpacked(model))
        bare = networks.bare(network)
    # Earlier versions took it for a model of its user's own, as which it goes on.
    if bare and (stored or {}).get("variant") != OWN:
        network, levels = bare
        of_variant = given or _pixels_of_variant(
            network.variant, stored, dataset, pixels.image_size
        )
        pixels = dataclasses.replace(of_variant, mean=levels.mean, std=levels.std)
    if not network.trainable_variables:
        raise UserError(
            "model= has nothing to train: all of its layers are frozen; set trainable = True on "
            "those that should learn."
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


def _tell_places(network: networks.Network, dataset: Dataset, note: Callable[[str], None]) -> None:
    """Notes the first class that is at another output of `network` than in `dataset`."""
    there = {name: place for place, name in enumerate(network.class_names)}
    for place, name in enumerate(dataset.class_names):
        if there.get(name, place) != place:
            note(
                f"model= has the class {name} at place {there[name]} of its outputs, and the data"
                f" set at place {place}: the last layer begins with the weights of other classes"
            )
            return


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


def _pixels_of_variant(
    variant: str, stored: dict | None, dataset: Dataset, image_size: int
) -> Preprocessing:
    """Those of the settings that are `stored` of a training that has begun, or the variant's."""
    if stored:
        return Preprocessing(**stored["preprocessing"])
    return defaults.preprocessing_for(variant, dataset, image_size)


def _check_beside(taken: str, **given: bool) -> None:
    """Raises UserError for a parameter that is `given` beside another, which has it already."""
    for name, is_given in given.items():
        if is_given:
            raise UserError(f"{name}= has no effect with {taken}=, which has its own; omit it.")


def _check_whole_levels(**given: Any) -> None:
    """Raises UserError for a parameter whose fractions a model of whole numbers would not see."""
    for name, value in given.items():
        if value:
            raise UserError(
                f"{name}= makes levels that are not whole numbers, but the model reads only whole "
                "numbers; omit it, or build the model on keras.Input(shape) in float32."
            )


def _rate_of(optimizer: SGD2012) -> float:
    rate = optimizer.get_config()["learning_rate"]
    if not isinstance(rate, float):
        raise _of_a_schedule("optimizer")
    return float(str(np.float32(rate)))  # 0.05, which a float32 holds as 0.05000000074


def _of_a_schedule(parameter: str) -> UserError:
    return UserError(
        f"{parameter}= has a schedule of Keras for its rate, and so has the training; give it a "
        "number and pass schedule=, or pass LearningRateScheduler(lambda epoch, _: RATE) in "
        "callbacks= with schedule='constant'."
    )


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
            f"{name}= was made outside the scope of the strategy that {does}; make it in "
            "strategy.scope(), and pass strategy=."
        )
