"""How far a linear classifier on the pixels gets on the embedded data set: `make proof` runs it.

    python tests/proof/linear_baseline.py

Softmax regression on the very pixels that the network reads (227 x 227 x 3, less the mean), Adam,
random crops and mirrors as in training, until the training accuracy is far above chance; the best
held-out accuracy of all epochs is printed.
"""

import keras

from alexnet_tf.commands import app
from alexnet_tf.data import datasets, pipeline
from alexnet_tf.preprocessing import Preprocessing, to_network_input

_EPOCHS, _BATCH = 10, 100


def main():
    dataset = datasets.open_dataset("shapes")
    pixels = Preprocessing(227, 256, 3, (0.0,) * 3, 1.0)
    pixels = Preprocessing(227, 256, 3, pipeline.channel_statistics(dataset.train, pixels)[0], 64.0)

    def prepared(batches):
        return batches.map(lambda batch: (to_network_input(batch["image"], pixels), batch["label"]))

    model = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(len(dataset.class_names))])
    model.compile(
        keras.optimizers.Adam(1e-4),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    history = model.fit(
        prepared(pipeline.training_batches(dataset.train, pixels, _BATCH, seed=0)),
        epochs=_EPOCHS,
        steps_per_epoch=dataset.train.examples // _BATCH,
        verbose=0,
        validation_data=prepared(pipeline.evaluation_batches(dataset.evaluation, pixels, _BATCH)),
    )
    print("linear classifier on the pixels of shapes:")
    app.report(
        {
            "training top-1": history.history["accuracy"][-1],
            "best held-out top-1": max(history.history["val_accuracy"]),
        }
    )


if __name__ == "__main__":
    app.run(main)
