r"""Trains AlexNet; run again with the same --model_dir, it continues where it stopped.

    alexnet train  # on the embedded shapes
    alexnet train --dataset=folder --data_dir=pictures --model_dir=models/mine --epochs=30
    alexnet train --dataset=imagenet2012 --variant=source2012 --schedule=steps \
        --epochs=91 --bias_rate=2

On each host of several, with its own index:

    export TF_CONFIG='{"cluster": {"worker": ["host1:2222", "host2:2222"]},
                       "task": {"type": "worker", "index": 0}}'
    alexnet train --distribution=multi_worker
"""

import keras
import tensorflow as tf
from absl import flags

from alexnet_tf import console
from alexnet_tf.commands import app
from alexnet_tf.data import bad_pictures, datasets, pipeline, record, splits
from alexnet_tf.errors import UserError
from alexnet_tf.jobs.evaluate import report_evaluation
from alexnet_tf.network.model import (
    DROPOUT_RATE,
    VARIANTS,
    build_model,
    has_init,
    initial_stddev,
)
from alexnet_tf.pixels import Preprocessing
from alexnet_tf.training import checkpoints, defaults, devices, evaluation, loop, run_settings
from alexnet_tf.training.optimizer import OPTIMIZERS, lars_rate
from alexnet_tf.training.plan import Plan, check_fills

FLAGS = flags.FlagValues()
_JSON = app.define_json(FLAGS)
_DATASET, _DATA_DIR = app.define_dataset(FLAGS)
_MODEL_DIR = app.define_model_dir(FLAGS)
_BATCH_SIZE, _PRECISION, _DISTRIBUTION, _REPLICAS = app.define_devices(FLAGS)
_TRAINING = app.define_training(
    FLAGS,
    None,
    "; default: the variant's (0.01; for lenet5 0.05), times batch_size / 256 if that is above 1, "
    "and lower with so few classes that it would kill fc7; for --optimizer=lars its author's",
    epochs=Plan.epochs,
    schedule=Plan.schedule,
    patience=Plan.patience,
)
_VARIANT = app.define_variant(FLAGS)
_IMAGE_SIZE = app.define_image_size(FLAGS)
_OPTIMIZER = flags.DEFINE_enum(
    "optimizer",
    "sgd2012",
    list(OPTIMIZERS),
    "sgd2012: the update rule of 2012. lars: each layer's rate in proportion to the "
    "norm of its weights, for batches above 1024; its author used --schedule=poly, "
    "rates of 2 at batch 1024, 10 at 8192 and 16 at 16384, which are the defaults, "
    "and --warmup_steps=600 at 8192.",
    flag_values=FLAGS,
)
_DROPOUT_RATE = flags.DEFINE_float(
    "dropout_rate",
    DROPOUT_RATE,
    "Share of the units of fc6 and fc7 that is dropped; lenet5 drops none.",
    lower_bound=0.0,
    upper_bound=0.99,
    flag_values=FLAGS,
)
_INIT = flags.DEFINE_enum(
    "init",
    "source2012",
    ["source2012", "variant"],
    "Initial weights of --variant=paper, half, caffe and caffenet: source2012 is 0.03 "
    "in conv3 to conv5, as in the 2012 source; variant is 0.01 there, as each "
    "variant's text prints. The other variants have initial weights of their own.",
    flag_values=FLAGS,
)
_TOWER_DEVICES = flags.DEFINE_list(
    "tower_devices",
    None,
    "Two devices, tower a on the first and tower b on the second, as in 2012. One "
    "replica, without XLA.",
    flag_values=FLAGS,
)
_COLOUR_NOISE = flags.DEFINE_float(
    "colour_noise",
    None,
    "Standard deviation of a picture's shifts along the principal components of the "
    "training colours, as a share of their own; default: the variant's, 0.1 for paper "
    "and those of 2012, 0 for the others. --schedule=steps turns it off at 67/91 of "
    "the run.",
    lower_bound=0.0,
    upper_bound=1.0,
    flag_values=FLAGS,
)
_DATA_SERVICE = flags.DEFINE_list(
    "data_service",
    [],
    "Where pictures are prepared: addresses of alexnet data-service, such as "
    f"grpc://host:{pipeline.SERVICE_PORT}, separated by commas; default: in this process.",
    flag_values=FLAGS,
)
_DETERMINISTIC = flags.DEFINE_bool(
    "deterministic",
    False,
    "Give the same bits every time on the same machine; not with --xla=on.",
    flag_values=FLAGS,
)


def main():
    _check_of_variant()
    app.tell_of_data_dir(FLAGS)
    strategy = _strategy()
    with devices.leaving_lost_workers(strategy):
        _train(strategy)


def _train(strategy):
    replicas, batch_size, model_dir, chief = (
        strategy.num_replicas_in_sync,
        _BATCH_SIZE.value,
        _MODEL_DIR.value,
        devices.is_chief(strategy),
    )
    devices.check_divides(batch_size, replicas)
    stored, identity, dataset = devices.together(
        strategy, lambda: _open(model_dir, batch_size, chief)
    )
    # Before the weights, which the chief gives to all.
    known = {name: identity[name] for name in ("variant", "image_size", "dropout_rate")}
    devices.check_agreement(strategy, **known, class_names=dataset.class_names, init=_INIT.value)
    keras.utils.set_random_seed(_TRAINING.seed.value)
    keras.config.set_dtype_policy(_PRECISION.value)
    learning_rate = _learning_rate(batch_size, len(dataset.class_names))
    with devices.waiting(strategy), strategy.scope():  # the chief's values go to all
        model = build_model(
            _VARIANT.value,
            len(dataset.class_names),
            identity["image_size"],
            _DROPOUT_RATE.value,
            initial_stddev(_VARIANT.value, _INIT.value),
            _TOWER_DEVICES.value,
        )
        optimizer = OPTIMIZERS[_OPTIMIZER.value](
            learning_rate,
            _TRAINING.momentum.value,
            _TRAINING.weight_decay.value,
            _TRAINING.bias_rate.value,
        )
    if _TOWER_DEVICES.value:
        devices.place_towers(model, _TOWER_DEVICES.value)
    if chief:
        console.note(
            f"{_VARIANT.value}: {model.count_params():,} parameters, {len(dataset.class_names)}"
            f" classes; {dataset.name}: {dataset.describe()}; {replicas} replica(s),"
            f" {_PRECISION.value}, rate {learning_rate:g}"
        )
    plan = app.plan(
        _TRAINING,
        batch_size=batch_size,
        learning_rate=learning_rate,
        xla=_xla(),
        colour_noise=(
            VARIANTS[_VARIANT.value]["colour_noise"]
            if _COLOUR_NOISE.value is None
            else _COLOUR_NOISE.value
        ),
        data_service=tuple(_DATA_SERVICE.value),
        init=_INIT.value if has_init(_VARIANT.value) else "",
    )
    pixels = (
        Preprocessing(**stored["preprocessing"])
        if stored
        else defaults.preprocessing_for(_VARIANT.value, dataset, identity["image_size"])
    )
    settings = run_settings.settings_of(model, dataset, pixels, plan, app.values_of(FLAGS))
    if chief:
        splits.tell_of_side(dataset, pixels, console.note)
    figures = loop.train(
        strategy,
        model,
        optimizer,
        dataset,
        pixels,
        plan,
        model_dir,
        settings=settings,
        dry_run=_TRAINING.dry_run.value,
    )
    if _TRAINING.dry_run.value:
        console.note(app.DRY_RUN)
        return
    if chief:
        run_settings.keep_place(model_dir, settings)
    figures, answers = evaluation.as_reported(figures, strategy, model, pixels, dataset, batch_size)
    if chief:
        if answers:
            report_evaluation(model_dir, model, answers, dataset)
        app.tell_of_only_answer(model_dir, figures, dataset.class_names)
        console.result(f"{model_dir}:")
        app.report_answers(figures, dataset.class_names, _JSON.value)


def _check_of_variant():
    """Raises UserError for a flag that would change nothing in this variant."""
    given = (flag for flag in (_DROPOUT_RATE, _INIT, _COLOUR_NOISE) if flag.present)
    defaults.check_of_variant(_VARIANT.value, **{flag.name: flag.value for flag in given})


def _open(model_dir, batch_size, chief):
    """(settings stored in `model_dir` or None, what cannot change on the way, the Dataset).

    Raises UserError if they clash.
    """
    image_size = defaults.check_image_size(_VARIANT.value, _IMAGE_SIZE.value)
    pipeline.check_reachable(_DATA_SERVICE.value)
    if chief:
        checkpoints.check_writable(model_dir)
    stored, seen = run_settings.begun(model_dir)
    if stored and "pretrained_sha256" in stored:
        raise UserError(
            f"--model_dir={model_dir} holds a fine-tuned model; continue with alexnet finetune, or"
            " pass another --model_dir."
        )
    identity = {
        "variant": _VARIANT.value,
        "image_size": image_size,
        "dropout_rate": _DROPOUT_RATE.value,
        "dataset": _DATASET.value,
        "batch_size": batch_size,
        "seed": _TRAINING.seed.value,
    }
    checkpoints.check_same(model_dir, stored, identity)
    dataset = datasets.open_dataset(
        _DATASET.value,
        _DATA_DIR.value,
        _TRAINING.seed.value,
        app.split_names(FLAGS),
        app.is_choosing(_TRAINING),
        seen,
    )
    run_settings.check_apart(model_dir, dataset)
    identity |= {"class_names": list(dataset.class_names)}
    checkpoints.check_same(model_dir, stored, identity)
    check_fills(batch_size, dataset)
    if stored:
        record.check_goes_on(model_dir, seen, dataset)
    bad_pictures.tell_of_opening(
        dataset, _TRAINING.max_bad_pictures.value, console.note if chief else console.silence
    )
    if chief:
        splits.tell_of_balance(dataset, console.note)
    return stored, identity, dataset


def _strategy():
    if _DETERMINISTIC.value:
        if _TRAINING.xla.value == "on":
            raise UserError(
                "--deterministic cannot be combined with --xla=on, which has no deterministic "
                "gradient of max pooling."
            )
        tf.config.experimental.enable_op_determinism()
    if _TOWER_DEVICES.value:
        return devices.across_towers(
            _TOWER_DEVICES.value,
            _VARIANT.value,
            _DISTRIBUTION.value,
            _REPLICAS.value,
            _TRAINING.xla.value,
        )
    devices.check_alone(_DISTRIBUTION.value)
    return devices.distribution(_DISTRIBUTION.value, _REPLICAS.value)


def _xla():
    return "off" if _TOWER_DEVICES.value or _DETERMINISTIC.value else _TRAINING.xla.value


def _learning_rate(batch_size, num_classes):
    given, lars = _TRAINING.learning_rate.value, _OPTIMIZER.value == "lars"
    if batch_size > 1024 and not lars:
        console.note(
            f"--batch_size={batch_size}: above 1024 this network has been reported to need LARS:"
            " --optimizer=lars --schedule=poly; expect to lose accuracy without it."
        )
    if given is not None:
        return given
    if lars:
        return lars_rate(batch_size)
    return defaults.default_rate(_VARIANT.value, batch_size, num_classes, _DROPOUT_RATE.value)
