"""Top-1 and top-5 of a trained model over the evaluation pictures, each counted once.

    python -m alexnet_tf.evaluate --model_dir=models/alexnet
"""

from alexnet_tf import app  # before TensorFlow, which it quiets

import keras

from alexnet_tf import checkpoints, datasets, training
from alexnet_tf.errors import UserError
from alexnet_tf.model import build_model
from alexnet_tf.preprocessing import Preprocessing


def load_model(model_dir, note=app.note):
    """Builds the model of `model_dir` and loads its newest checkpoint.

    Returns (model, settings, state). Raises UserError if there is no trained model.
    """
    settings = checkpoints.read_settings(model_dir)
    if settings is None or checkpoints.newest_step(model_dir) < 0:
        raise UserError(f"--model_dir={model_dir} holds no trained model; train one with python -m alexnet_tf.train.")
    model = build_model(settings["variant"], len(settings["class_names"]), settings["preprocessing"]["image_size"])
    state = checkpoints.restore(model_dir, model, report=note)
    return model, settings, state


def main():
    strategy = training.distribution(app.DISTRIBUTION.value, app.REPLICAS.value)
    keras.config.set_dtype_policy(app.PRECISION.value)
    with strategy.scope():
        model, settings, state = load_model(app.MODEL_DIR.value)
    dataset = datasets.open_dataset(*app.dataset_or(settings["flags"]))
    if list(dataset.class_names) != settings["class_names"]:
        raise UserError(f"--dataset={dataset.name} has other classes than the model in --model_dir={app.MODEL_DIR.value}.")
    replicas = strategy.num_replicas_in_sync
    batch_size = -(-app.BATCH_SIZE.value // replicas) * replicas  # the next multiple: no picture depends on it
    with app.progress(dataset.evaluation.examples, "evaluate") as bar:
        figures = training.evaluate_split(strategy, model, Preprocessing(**settings["preprocessing"]), dataset.evaluation,
                                          batch_size, bar.update)
        rate = bar.format_dict["rate"]
    print(f"{app.MODEL_DIR.value}, step {state['step']}, on {dataset.name} ({dataset.evaluation.name}):")
    app.report(figures | {"images_per_s": rate})


def run():
    app.run(main)


if __name__ == "__main__":
    run()
