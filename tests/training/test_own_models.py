"""Models of a user's own that no training here fits."""

import keras
import pytest
from keras import layers
from trainings import Bar, one_device, plan

from alexnet_tf.data import datasets
from alexnet_tf.errors import UserError
from alexnet_tf.preprocessing import Preprocessing
from alexnet_tf.training import loop
from alexnet_tf.training.optimizer import SGD2012

PIXELS = Preprocessing(image_size=12, resize=14, channels=1, mean=(120.0,), std=64.0)


def test_models_that_would_be_trained_wrongly_are_refused(picture_folder, tmp_path):
    def refuse(model, message):
        with pytest.raises(UserError, match=message):
            loop.train(
                one_device(),
                model,
                SGD2012(),
                datasets.open_dataset("folder", picture_folder),
                PIXELS,
                plan(1),
                tmp_path / "model",
                progress=Bar(),
                note=print,
            )
        assert not (tmp_path / "model").exists()

    images = keras.Input((12, 12, 1))
    flat = layers.Flatten()(images)
    refuse(
        keras.Model(images, layers.Dense(3, activation="softmax", name="last")(flat)),
        "last layer, last, outputs probabilities",
    )
    refuse(
        keras.Model(images, layers.Softmax(name="sum_is_1")(layers.Dense(3)(flat))),
        "sum_is_1, outputs probabilities",
    )
    refuse(
        keras.Model(images, layers.Dense(4)(flat)), r"outputs \(None, 4\), but there are 3 classes"
    )
    eight = keras.Input((12, 12, 1), batch_size=8)
    refuse(
        keras.Model(eight, layers.Dense(3)(layers.Flatten()(eight))),
        "built for batches of 8, .* omit batch_size= of keras.Input",
    )

    class Twins(layers.Layer):
        def build(self, input_shape):
            self.one, self.two = (self.add_weight(name="twin", shape=(144,)) for _ in range(2))

        def call(self, inputs):
            return inputs * self.one + self.two

    refuse(
        keras.Model(images, layers.Dense(3)(Twins(name="both")(flat))),
        "2 weights of the model are called both/twin",
    )

    class Noise(layers.Layer):
        def call(self, inputs, training=False):
            return inputs + keras.random.normal(keras.ops.shape(inputs)) if training else inputs

    class Grows(layers.Layer):
        def build(self, input_shape):
            self.factor = self.add_weight(name="factor", shape=())

        def call(self, inputs):
            self.factor.assign(self.factor + 1)
            return inputs * self.factor

    spectral = layers.SpectralNormalization(layers.Dense(3), name="spectral")
    refuse(keras.Model(images, spectral(flat)), "a layer, spectral, that sets its own kernel in ea")
    block = keras.Model(images, Grows(name="grows")(flat), name="block")
    refuse(
        keras.Model(images, layers.Dense(3)(block(images))), "a layer, grows, that sets its own fac"
    )
    refuse(
        keras.Model(images, layers.Dense(3)(Noise()(flat))),
        "draws from keras.random without a seed of its own, .* a keras.random.SeedGenerator",
    )
