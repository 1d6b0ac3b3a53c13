"""Top-1 and top-5 of a trained model over the evaluation pictures, each counted once.

    python -m alexnet_tf.evaluate --model_dir=models/alexnet
"""

import time

from alexnet_tf import app  # before TensorFlow, which it quiets

import keras

from alexnet_tf import checkpoints, console, datasets, devices, steps
from alexnet_tf.errors import UserError
from alexnet_tf.preprocessing import Preprocessing

app.define_dataset()
_MODEL_DIR = app.define_model_dir()
_BATCH_SIZE, _PRECISION, _DISTRIBUTION, _REPLICAS = app.define_devices()


def main():
    strategy = devices.distribution(_DISTRIBUTION.value, _REPLICAS.value)
    keras.config.set_dtype_policy(_PRECISION.value)
    with strategy.scope():
        model, settings, state = checkpoints.load_model(_MODEL_DIR.value, console.note)
    dataset = datasets.open_dataset(*app.dataset_or(settings["flags"]))
    for line in dataset.notes:
        console.note(line)
    if list(dataset.class_names) != settings["class_names"]:
        raise UserError(f"--dataset={dataset.name} has other classes than the model in --model_dir={_MODEL_DIR.value}.")
    replicas = strategy.num_replicas_in_sync
    batch_size = -(-_BATCH_SIZE.value // replicas) * replicas  # the next multiple: no picture depends on it
    begin = time.monotonic()
    chief = devices.is_chief(strategy)
    with console.progress(dataset.evaluation.examples, "evaluate", hidden=not chief) as bar:
        figures = steps.evaluate_split(strategy, model, Preprocessing(**settings["preprocessing"]), dataset.evaluation,
                                       batch_size, bar.update)
    rate = figures["examples"] / (time.monotonic() - begin)
    if not chief:
        return
    print(f"{_MODEL_DIR.value}, step {state['step']}, on {dataset.name} ({dataset.evaluation.name}):")
    app.report(figures | {"images_per_s": rate})


def run():
    app.run(main)


if __name__ == "__main__":
    run()
