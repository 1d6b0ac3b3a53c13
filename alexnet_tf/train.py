"""Trains AlexNet; started again with the same --model_dir it goes on where it stopped.

    python -m alexnet_tf.train                                              # the embedded shapes
    python -m alexnet_tf.train --dataset=folder --data_dir=flowers --model_dir=models/flowers --epochs=30
    python -m alexnet_tf.train --dataset=imagenet2012 --variant=source2012 --schedule=steps --epochs=91
"""

from absl import flags

from alexnet_tf import app  # before TensorFlow, which it quiets

import keras

from alexnet_tf import checkpoints, datasets, input_pipeline, training
from alexnet_tf.errors import UserError
from alexnet_tf.model import VARIANTS, build_model
from alexnet_tf.optimizer import SCHEDULES, SGD2012
from alexnet_tf.preprocessing import Preprocessing, default_resize

_VARIANT = flags.DEFINE_enum("variant", "paper", list(VARIANTS), "Which AlexNet: see README.md.")
_IMAGE_SIZE = flags.DEFINE_integer("image_size", None, "Input side in pixels; default: the variant's own.", lower_bound=1)
_EPOCHS = flags.DEFINE_integer("epochs", 90, "Passes over the training pictures.", lower_bound=1)
_LEARNING_RATE = flags.DEFINE_float("learning_rate", 0.01, "At the start, after warm-up.", lower_bound=0.0)
_WARMUP_STEPS = flags.DEFINE_integer("warmup_steps", 0, "Steps in which the rate rises from 0 to its start.", lower_bound=0)
_SCHEDULE = flags.DEFINE_enum("schedule", "plateau", SCHEDULES, "Of the learning rate: see README.md.")
_MOMENTUM = flags.DEFINE_float("momentum", 0.9, "Share of the velocity that a step keeps.", lower_bound=0.0, upper_bound=0.9999)
_WEIGHT_DECAY = flags.DEFINE_float("weight_decay", 0.0005, "Of weights, not of biases; inside the momentum.", lower_bound=0.0)
_DROPOUT_RATE = flags.DEFINE_float("dropout_rate", 0.5, "Share of fc6's and fc7's units.", lower_bound=0.0, upper_bound=0.99)
_INIT = flags.DEFINE_enum(
    "init", "source2012", ["source2012", "variant"],
    "Initial weights of --variant=paper and half: source2012 is 0.03 in conv3 to conv5, as was run; variant is the paper's text, "
    "0.01 in all layers. The other variants have their own.")
_CHECKPOINT_SECONDS = flags.DEFINE_integer(
    "checkpoint_seconds", 600, "A checkpoint is written at the end of an epoch and after this time.", lower_bound=1)
_DRY_RUN = flags.DEFINE_bool("dry_run", False, "Checks all that can be checked, then stops before the first step.")


def main():
    strategy = training.distribution(app.DISTRIBUTION.value, app.REPLICAS.value)
    _check_batch(app.BATCH_SIZE.value, strategy.num_replicas_in_sync)
    checkpoints.check_writable(app.MODEL_DIR.value)
    stored = checkpoints.read_settings(app.MODEL_DIR.value)
    dataset = datasets.open_dataset(app.DATASET.value, app.DATA_DIR.value, app.SEED.value)
    for line in dataset.notes:
        app.note(line)
    if dataset.train.examples < app.BATCH_SIZE.value:
        raise UserError(f"--batch_size={app.BATCH_SIZE.value}, but there are {dataset.train.examples} training pictures; use a "
                         "smaller one.")
    settings = _settings(dataset, stored)

    keras.utils.set_random_seed(app.SEED.value)
    keras.config.set_dtype_policy(app.PRECISION.value)
    with strategy.scope():
        model = build_model(settings["variant"], len(dataset.class_names), settings["preprocessing"]["image_size"],
                            _DROPOUT_RATE.value, _initial_stddev())
        optimizer = SGD2012(_LEARNING_RATE.value, _MOMENTUM.value, _WEIGHT_DECAY.value)
        optimizer.build(model.trainable_variables)
    app.note(f"{settings['variant']}: {model.count_params():,} parameters, {len(dataset.class_names)} classes; {dataset.name}: "
             f"{dataset.train.examples} pictures to train, {dataset.evaluation.examples} to evaluate ({dataset.evaluation.name}); "
             f"{strategy.num_replicas_in_sync} replica(s), {app.PRECISION.value}")
    if _DRY_RUN.value:
        app.note("dry run: nothing is wrong; stopping before the first step")
        return
    checkpoints.write_settings(app.MODEL_DIR.value, settings)
    checkpoints.remove_unfinished(app.MODEL_DIR.value)
    plan = training.Plan(app.BATCH_SIZE.value, _EPOCHS.value, _LEARNING_RATE.value, _WARMUP_STEPS.value, _SCHEDULE.value,
                         app.SEED.value, app.XLA.value, _CHECKPOINT_SECONDS.value)
    figures = training.train(strategy, model, optimizer, dataset, Preprocessing(**settings["preprocessing"]), plan,
                             app.MODEL_DIR.value, app.progress, app.note)
    print(f"{app.MODEL_DIR.value}:")
    app.report(figures)


def _check_batch(batch_size, replicas):
    if batch_size % replicas:
        raise UserError(f"--batch_size={batch_size} does not divide among {replicas} replicas; use a multiple of {replicas}.")


def _initial_stddev():
    paper_text = _VARIANT.value in ("paper", "half") and _INIT.value == "source2012"
    return VARIANTS["source2012"]["stddev"] if paper_text else None


def _settings(dataset, stored):
    """What the model is (kept when training goes on) and how it is trained now. Raises UserError if the two disagree."""
    row = VARIANTS[_VARIANT.value]
    image_size = _IMAGE_SIZE.value or row["image_size"]
    class_names = list(dataset.class_names)
    if stored:
        asked = {"variant": _VARIANT.value, "image_size": image_size, "classes": class_names}
        pixels = stored["preprocessing"]
        holds = {"variant": stored["variant"], "image_size": pixels["image_size"], "classes": stored["class_names"]}
        for name, value in asked.items():
            if holds[name] != value:
                was, now = (f"{len(v)}, {v[0]} to {v[-1]}" if isinstance(v, list) else v for v in (holds[name], value))
                raise UserError(f"--model_dir={app.MODEL_DIR.value} holds a model of {name} {was}; not of {now}. Pass another.")
    else:
        build_model(_VARIANT.value, len(dataset.class_names), image_size)  # refuses a size before the mean is computed
        pixels = {"image_size": image_size, "resize": default_resize(row, image_size), "channels": row["channels"],
                  "mean": [0.0] * row["channels"], "std": row["std"]}
        pixels["mean"] = input_pipeline.channel_mean(dataset.train, Preprocessing(**pixels))
    return {"variant": _VARIANT.value, "class_names": class_names, "preprocessing": pixels,
            "dataset": dataset.name, "flags": app.flag_values(), **app.provenance()}


def run():
    app.run(main)


if __name__ == "__main__":
    run()
