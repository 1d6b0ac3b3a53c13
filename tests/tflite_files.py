"""A .tflite file made in a second: it tells of what colour a picture is."""

import dataclasses

import tensorflow as tf

from alexnet_tf.exports import tflite_metadata
from alexnet_tf.preprocessing import Preprocessing

COLOURS = "red", "green", "blue"
PIXELS = Preprocessing(67, 77, 3, (0.0, 0.0, 0.0), 1.0)


def colour_content(labels=COLOURS, pixels=PIXELS, **manifest):
    """The bytes of a file as alexnet convert writes it; `manifest` are further entries."""
    shape = [1, pixels.image_size, pixels.image_size, pixels.channels]

    @tf.function(input_signature=[tf.TensorSpec(shape, tf.float32, name="images")])
    def image(images):
        return {"probabilities": tf.nn.softmax(tf.reduce_mean(images, [1, 2]) / 64)}

    module = tf.Module()
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [image.get_concrete_function()], module
    )
    stored = {
        "variant": "paper",
        "preprocessing": dataclasses.asdict(pixels),
        "weights_sha256": 64 * "0",
        "quantization": "none",
    }
    lines = "".join(f"{label}\n" for label in labels)
    return tflite_metadata.complete(converter.convert(), pixels, lines, stored | manifest)
