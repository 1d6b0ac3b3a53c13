"""Errors and loss of trained models, alone and together, over the evaluation pictures, each counted
once.

    alexnet evaluate --model_dir=models/alexnet
    alexnet evaluate --models=models/a,models/b,models/c --views=10  # an ensemble, from ten views
    alexnet evaluate --models=saved_models/alexnet,alexnet_int8.tflite  # what is deployed

It uses the test split, else the validation split, else all pictures that no model was trained on.
Each model carries a record of those that it was trained on, and a line says if some of them are
among the pictures used.

The error of 2012 came from ten views: four corners and the centre, each with its mirror image.
Probabilities are averaged, first over the views and then over the models. With five classes or
fewer, top-5 is always right and is left out of the tables.
"""

import math
import time

import keras
from absl import flags

from alexnet_tf import console, networks
from alexnet_tf.classifiers import TOP
from alexnet_tf.commands import app
from alexnet_tf.data import bad_pictures, datasets, splits
from alexnet_tf.data.names import SplitNames
from alexnet_tf.errors import UserError
from alexnet_tf.jobs.evaluate import check_alike, keep_evaluation
from alexnet_tf.training import devices, evaluation

FLAGS = flags.FlagValues()
_JSON = app.define_json(FLAGS)
app.define_dataset(FLAGS)
_MODEL_DIR = app.define_model_dir(FLAGS)
_BATCH_SIZE, _PRECISION, _DISTRIBUTION, _REPLICAS = app.define_devices(FLAGS)
_MODELS = flags.DEFINE_list(
    "models",
    None,
    "Instead of --model_dir: model directories, weights files, SavedModels (one "
    "version, or the folder of versions), .tflite, .onnx, .keras and .safetensors "
    "files, separated by commas. Two or more are also evaluated as an ensemble.",
    flag_values=FLAGS,
)
_WEIGHTS = flags.DEFINE_list(
    "weights",
    None,
    "Weights of the models in the mean of their probabilities, such as 1,1,2; default: equal.",
    flag_values=FLAGS,
)
_VIEWS = flags.DEFINE_enum(
    "views",
    "1",
    ["1", "10"],
    "1: the centre of a picture; 10: corners and centre, each also mirrored. A step "
    "holds --batch_size views.",
    flag_values=FLAGS,
)

_WORST_CLASSES, _FREQUENT_CONFUSIONS = 20, 10  # that are printed; --json gets all


def main():
    strategy = devices.distribution(_DISTRIBUTION.value, _REPLICAS.value)
    with devices.leaving_lost_workers(strategy):
        _evaluate(strategy)


def _evaluate(strategy):
    keras.config.set_dtype_policy(_PRECISION.value)
    if _MODELS.value and _MODEL_DIR.present:
        raise UserError(
            f"--models and --model_dir={_MODEL_DIR.value} both name networks; pass one of the two."
        )
    weights = _weights()
    with strategy.scope():
        opened = [networks.load(path) for path in _MODELS.value or [_MODEL_DIR.value]]
        for network in opened:
            networks.check_precision(network, _PRECISION.value)
        models = [network.classifier() for network in opened]
    dataset = devices.together(strategy, lambda: _open_dataset(models))
    views, replicas, chief = (
        int(_VIEWS.value),
        strategy.num_replicas_in_sync,
        devices.is_chief(strategy),
    )
    # of pictures; no picture depends on it
    batch_size = math.ceil(_BATCH_SIZE.value / views / replicas) * replicas
    check_alike(strategy, opened, dataset, weights, views, batch_size)
    begin = time.monotonic()
    with console.progress(dataset.evaluation.examples, "evaluate", hidden=not chief) as bar:
        answers = evaluation.answers(
            strategy, models, dataset.evaluation, batch_size, weights, views, bar.update
        )
    rate = dataset.evaluation.examples / (time.monotonic() - begin)
    if chief:
        judged = answers[0].labels, dataset.evaluation.name
        for line in splits.not_evaluated(dataset.class_names, *judged):
            console.note(line)
        for network, model, one in zip(opened, models, answers):
            if line := one.tell_of_none(network.settings.min_probability):
                console.note(f"{model.name}: {line}")
        if len(opened) == 1 and isinstance(opened[0], networks.Trained):
            keep_evaluation(opened[0], answers[0], dataset, dataset.evaluation, views)
        _report(models, weights, dataset, answers, {"views": views, "images_per_s": rate})


def _weights():
    """--weights as floats, or None. Raises UserError unless each model has one."""
    if not _WEIGHTS.value:
        return None
    try:
        weights = [float(weight) for weight in _WEIGHTS.value]
        usable = (
            len(weights) == len(_MODELS.value or ()) and min(weights) >= 0 < sum(weights) < math.inf
        )
    except ValueError:
        usable = False
    if not usable:
        raise UserError(
            f"--weights={','.join(_WEIGHTS.value)}: write a number, 0 or more, for each of the "
            f"{len(_MODELS.value or ())} --models, in their order."
        )
    return weights


def _open_dataset(models):
    """The data set that the flags name, or that the first model was trained on.

    Raises UserError where it cannot judge a model.
    """
    if FLAGS["train_split"].present:
        raise UserError(
            f"--train_split={FLAGS['train_split'].value} is not evaluated; to evaluate on a "
            "training split, pass it as --test_split."
        )
    if FLAGS["validation_split"].present and FLAGS["test_split"].present:
        raise UserError(
            f"--validation_split={FLAGS['validation_split'].value} and "
            f"--test_split={FLAGS['test_split'].value} both name the pictures to evaluate on; "
            "pass one."
        )
    name, data_dir, _, names = app.dataset_or(FLAGS, models[0].trained_with)
    if FLAGS["validation_split"].present:
        names = SplitNames(names.train, test=names.validation)  # what is named is what judges
    evaluation.check_classes(models[1:], models[0])
    dataset = datasets.open_evaluation(
        name,
        data_dir,
        models[0].class_names,
        [model.record for model in models],
        names,
        [model.trained_with.get("data_dir") for model in models],
    )
    evaluation.check_classes(models, dataset)
    bad_pictures.tell_of_opening(dataset, math.inf, console.note)
    evaluation.tell_all_seen(dataset.evaluation, models)
    splits.tell_of_side(dataset, models[0].pixels, console.note)
    return dataset


def _report(models, weights, dataset, answers, figures):
    """Prints the tables of the last of `answers`, which is that of all models together; --json gets
    them whole.
    """
    together = answers[-1]
    classes, confusions = (
        together.by_class(dataset.class_names),
        together.confusions(dataset.class_names),
    )
    rows = [
        {
            "model": model.name,
            "weight": weight,
            "trained_on": evaluation.seen(dataset.evaluation, model),
        }
        | _figures(one)
        for model, weight, one in zip(models, weights or [1.0] * len(models), answers)
    ]
    for row in rows:
        app.tell_of_only_answer(row["model"], row, dataset.class_names)
    console.result(
        f"{' + '.join(model.name for model in models)}, on {dataset.name}"
        f" ({dataset.evaluation.name}):"
    )
    tops = ("top_1", "top_5") if len(dataset.class_names) > TOP else ("top_1",)
    metrics = _figures(together) | figures
    app.report_answers(
        metrics,
        dataset.class_names,
        _JSON.value,
        {"models": rows, "classes": classes, "confusions": confusions},
    )
    heading = "".join(f"  {top.replace('_', '-')} error" for top in tops)
    if len(models) > 1:
        console.result()
        console.result(f"{heading}    loss  weight  each model alone")
        for row in rows:
            console.result(
                f"{_errors(row, tops)}  {row['loss']:6.4f}  {row['weight']:6g}  {row['model']}"
            )
    console.result()
    console.result(f"{heading}  pictures  class{_first(_WORST_CLASSES, classes)}")
    for row in classes[:_WORST_CLASSES]:
        wrong = (
            f" (most often mistaken for {row['most_common_wrong']}: {row['wrong_pictures']})"
            if row["wrong_pictures"]
            else ""
        )
        console.result(f"{_errors(row, tops)}  {row['pictures']:8}  {row['class']}{wrong}")
    if confusions:
        console.result()
        console.result(
            f"  pictures  true class -> answer{_first(_FREQUENT_CONFUSIONS, confusions)}"
        )
        for name, answer, pictures in confusions[:_FREQUENT_CONFUSIONS]:
            console.result(f"  {pictures:8}  {name} -> {answer}")


def _figures(answers):
    figures = answers.figures()
    return figures | {f"{top}_error": 1 - figures[top] for top in ("top_1", "top_5")}


def _errors(row, tops):
    return "".join(f"  {row[f'{top}_error']:11.2%}" for top in tops)


def _first(count, rows):
    return f", the first {count} of {len(rows)} (all: --json)" if len(rows) > count else ""
