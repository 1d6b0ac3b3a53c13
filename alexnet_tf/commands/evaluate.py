"""Errors and loss of trained models, alone and together, over the evaluation pictures, each counted once.

    python -m alexnet_tf.evaluate --model_dir=models/alexnet
    python -m alexnet_tf.evaluate --models=models/a,models/b,models/c --views=10         # an ensemble, from ten views
    python -m alexnet_tf.evaluate --models=saved_models/alexnet,alexnet_int8.tflite      # what is deployed

Judged is the test split, else the validation split, else all pictures that no model was trained on:
each carries a record of those that it was, and is told of where it meets them again.

The error in 2012 was that of ten views: four corners and the centre, each and its mirror image. Probabilities are averaged, over
the views and then over the models.
"""

import functools
import math
import pathlib
import time

import keras
from absl import flags

from alexnet_tf import console
from alexnet_tf.classifiers import Classifier
from alexnet_tf.commands import app
from alexnet_tf.data import datasets, record
from alexnet_tf.errors import UserError
from alexnet_tf.exports import artifacts
from alexnet_tf.preprocessing import Preprocessing
from alexnet_tf.training import checkpoints, devices, evaluation

FLAGS = flags.FlagValues()
_JSON = app.define_json(FLAGS)
app.define_dataset(FLAGS)
_MODEL_DIR = app.define_model_dir(FLAGS)
_BATCH_SIZE, _PRECISION, _DISTRIBUTION, _REPLICAS = app.define_devices(FLAGS)
_MODELS = flags.DEFINE_list("models", None, "Instead of --model_dir: model directories, SavedModels (a version, or the folder of "
                            "versions) and .tflite files, separated by commas. Two or more answer together too.", flag_values=FLAGS)
_WEIGHTS = flags.DEFINE_list("weights", None, "Of the models' probabilities in their mean, as 1,1,2; default: equal ones.", flag_values=FLAGS)
_VIEWS = flags.DEFINE_enum("views", "1", ["1", "10"], "1: the centre of a picture; 10: corners and centre, each mirrored as well. "
                           "A step holds --batch_size views.", flag_values=FLAGS)

_WORST_CLASSES, _FREQUENT_CONFUSIONS = 20, 10  # that are printed; --json gets all


def main():
    strategy = devices.distribution(_DISTRIBUTION.value, _REPLICAS.value)
    keras.config.set_dtype_policy(_PRECISION.value)
    weights = _weights()
    with strategy.scope():
        models = [_open(path) for path in _MODELS.value] if _MODELS.value else [_open_model_dir(_MODEL_DIR.value)]
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


def _open(path):
    """The Classifier in `path`, whatever kind it is. Raises UserError if it is none."""
    if not pathlib.Path(path).exists():
        raise UserError(f"--models: there is no {path}; name model directories, SavedModels and .tflite files.")
    if pathlib.Path(path).is_dir() and checkpoints.read_settings(path):
        return _open_model_dir(path)
    return artifacts.open_for_batches(path)


def _open_model_dir(path):
    model, settings, state = checkpoints.load_model(path, console.note)
    pixels = Preprocessing(**settings["preprocessing"])
    return Classifier(f"{path}, step {state['step']}", evaluation.model_probabilities(model, pixels), pixels,
                      tuple(settings["class_names"]), settings["flags"], record=record.read(path))


def _open_dataset(models):
    """The data set that the flags name, or that the first model was trained on. Raises UserError where it cannot judge a model."""
    name, data_dir, _, names = app.dataset_or(FLAGS, models[0].trained_with)
    _check_classes(models[0], models[1:])
    dataset = datasets.open_evaluation(name, data_dir, models[0].class_names, [model.record for model in models], names)
    _check_classes(dataset, models)
    for line in (*dataset.notes, *map(functools.partial(_tell_seen, dataset.evaluation), models)):
        if line:
            console.note(line)
    return dataset


def _check_classes(of, models):
    """Raises UserError unless each of `models` knows the classes of `of`, a Classifier or a Dataset, in their order."""
    for model in models:
        if model.class_names != of.class_names:
            raise UserError(f"{model.name} knows {_describe(model.class_names)}, but {of.name} has {_describe(of.class_names)}; "
                            "all models and the data set need the same, in the same order.")


def _seen(split, model):
    """How many of the pictures of `split` the model was trained on; None where that is not known."""
    return int(model.record.has_seen(split.identities).sum()) if model.record else None


def _tell_seen(split, model):
    count = _seen(split, model)
    if count is None:
        return f"{model.name} has no record of what it was trained on: it may have seen these pictures."
    if not count:
        return None
    return (f"{model.name} was trained on {count} of these {split.examples} pictures: what is right of "
            "them says little.")


def _describe(class_names):
    return f"{len(class_names)} classes ({class_names[0]} to {class_names[-1]})"


def _report(models, weights, dataset, answers, figures):
    """Prints the tables of the last of `answers`, which is that of all models together; --json gets them whole."""
    together = answers[-1]
    classes, confusions = together.by_class(dataset.class_names), together.confusions(dataset.class_names)
    rows = [{"model": model.name, "weight": weight, "trained_on": _seen(dataset.evaluation, model)} | _figures(one)
            for model, weight, one in zip(models, weights or [1.0] * len(models), answers)]
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
