"""Errors and loss of trained models, alone and together, over the evaluation pictures, each counted once.

    alexnet evaluate --model_dir=models/alexnet
    alexnet evaluate --models=models/a,models/b,models/c --views=10         # an ensemble, from ten views
    alexnet evaluate --models=saved_models/alexnet,alexnet_int8.tflite      # what is deployed

The error in 2012 was that of ten views: four corners and the centre, each and its mirror image. Probabilities are averaged, over
the views and then over the models.
"""

import math
import pathlib
import time

import keras
from absl import flags

from alexnet_tf import console, networks
from alexnet_tf.commands import app
from alexnet_tf.data import datasets, splits
from alexnet_tf.errors import UserError
from alexnet_tf.training import devices, evaluation

FLAGS = flags.FlagValues()
_JSON = app.define_json(FLAGS)
app.define_dataset(FLAGS)
_MODEL_DIR = app.define_model_dir(FLAGS)
_BATCH_SIZE, _PRECISION, _DISTRIBUTION, _REPLICAS = app.define_devices(FLAGS)
_MODELS = flags.DEFINE_list("models", None, "Instead of --model_dir: model directories, weights files, SavedModels (a version, or "
                            "the folder of versions) and .tflite files, separated by commas. Two or more answer together too.", flag_values=FLAGS)
_WEIGHTS = flags.DEFINE_list("weights", None, "Of the models' probabilities in their mean, as 1,1,2; default: equal ones.", flag_values=FLAGS)
_VIEWS = flags.DEFINE_enum("views", "1", ["1", "10"], "1: the centre of a picture; 10: corners and centre, each mirrored as well. "
                           "A step holds --batch_size views.", flag_values=FLAGS)

_WORST_CLASSES, _FREQUENT_CONFUSIONS = 20, 10  # that are printed; --json gets all


def main():
    strategy = devices.distribution(_DISTRIBUTION.value, _REPLICAS.value)
    keras.config.set_dtype_policy(_PRECISION.value)
    weights = _weights()
    with strategy.scope():
        models = [networks.load(path).classifier() for path in _MODELS.value or [_MODEL_DIR.value]]
    dataset = _open_dataset(models)
    views, replicas, chief = int(_VIEWS.value), strategy.num_replicas_in_sync, devices.is_chief(strategy)
    batch_size = math.ceil(_BATCH_SIZE.value / views / replicas) * replicas  # of pictures; no picture depends on it
    begin = time.monotonic()
    with console.progress(dataset.evaluation.examples, "evaluate", hidden=not chief) as bar:
        answers = evaluation.answers(strategy, models, dataset.evaluation, batch_size, weights, views, bar.update)
    rate = dataset.evaluation.examples / (time.monotonic() - begin)
    if chief:
        _report(models, weights, dataset, answers, {"views": views, "images_per_s": rate})


def _weights():
    """--weights as floats, or None. Raises UserError unless each model has one."""
    if not _WEIGHTS.value:
        return None
    try:
        weights = [float(weight) for weight in _WEIGHTS.value]
        usable = len(weights) == len(_MODELS.value or ()) and min(weights) >= 0 < sum(weights) < math.inf
    except ValueError:
        usable = False
    if not usable:
        raise UserError(f"--weights={','.join(_WEIGHTS.value)}: write a number, 0 or more, for each of the "
                        f"{len(_MODELS.value or ())} --models, in their order.")
    return weights


def _open_dataset(models):
    """The data set that the flags name, or that the first model was trained on. Raises UserError where it cannot judge a model."""
    name, data_dir, seed = app.dataset_or(FLAGS, models[0].trained_with)
    dataset = datasets.open_dataset(name, data_dir, seed)
    drawn = pathlib.Path(data_dir).absolute() if dataset.evaluation.name == splits.HELD_OUT_SPLIT else None
    evaluation.check_classes(models, dataset)
    for model in models:
        trained_with = model.trained_with
        if drawn and trained_with["data_dir"] == str(drawn) and trained_with["seed"] != seed:
            raise UserError(f"{model.name} was trained with --seed={trained_with['seed']}, so on some of the pictures of {drawn} "
                            f"that --seed={seed} keeps for evaluation; nets to be compared need a folder test/.")
    for line in dataset.notes:
        console.note(line)
    return dataset


def _report(models, weights, dataset, answers, figures):
    """Prints the tables of the last of `answers`, which is that of all models together; --json gets them whole."""
    together = answers[-1]
    classes, confusions = together.by_class(dataset.class_names), together.confusions(dataset.class_names)
    rows = [{"model": model.name, "weight": weight} | _figures(one)
            for model, weight, one in zip(models, weights or [1.0] * len(models), answers)]
    for row in rows:
        if "only_answer" in row:
            console.note(f"{row['model']} answers every picture with {dataset.class_names[row['only_answer']]}: it has not learnt to "
                         "tell the classes apart.")
    print(f"{' + '.join(model.name for model in models)}, on {dataset.name} ({dataset.evaluation.name}):")
    app.report(_figures(together) | figures, _JSON.value, {"models": rows, "classes": classes, "confusions": confusions})
    if len(models) > 1:
        print("\n  top-1 error  top-5 error    loss  weight  each model alone")
        for row in rows:
            print(f"{_errors(row)}  {row['loss']:6.4f}  {row['weight']:6g}  {row['model']}")
    print(f"\n  top-1 error  top-5 error  pictures  class{_first(_WORST_CLASSES, classes)}")
    for row in classes[:_WORST_CLASSES]:
        wrong = f" (most often called {row['most_common_wrong']}: {row['wrong_pictures']})" if row["wrong_pictures"] else ""
        print(f"{_errors(row)}  {row['pictures']:8}  {row['class']}{wrong}")
    if confusions:
        print(f"\n  pictures  of a class called another{_first(_FREQUENT_CONFUSIONS, confusions)}")
        for name, answer, pictures in confusions[:_FREQUENT_CONFUSIONS]:
            print(f"  {pictures:8}  {name} -> {answer}")


def _figures(answers):
    figures = answers.figures()
    return figures | {f"{top}_error": 1 - figures[top] for top in ("top_1", "top_5")}


def _errors(row):
    return f"  {row['top_1_error']:11.2%}  {row['top_5_error']:11.2%}"


def _first(count, rows):
    return f", the first {count} of {len(rows)} (all: --json)" if len(rows) > count else ""
