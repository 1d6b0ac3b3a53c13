"""A .tflite file made in a second: it tells of what colour a picture is."""

import warnings

import numpy as np
import tensorflow as tf

from alexnet_tf.exports import tflite_metadata
from alexnet_tf.manifest import Conversion, Manifest
from alexnet_tf.preprocessing import Preprocessing
from alexnet_tf.settings import Settings

COLOURS = "red", "green", "blue"
PIXELS = Preprocessing(67, 77, 3, (0.0, 0.0, 0.0), 1.0)


def colour_content(labels=COLOURS, pixels=PIXELS, quantized=False, **settings):
    """The bytes of a file as alexnet convert writes it, with uint8 in and out if `quantized`;
    `settings` are further ones of the network. Of grey pictures it tells whether they are light.
    """
    shape = [1, pixels.image_size, pixels.image_size, pixels.channels]

    @tf.function(input_signature=[tf.TensorSpec(shape, tf.float32, name="images")])
    def image(images):
        levels = tf.reduce_mean(images, [1, 2]) / 64
        if pixels.channels == 1:
            levels = tf.concat([2 - levels, levels], 1)
        return {"probabilities": tf.nn.softmax(levels)}

    module = tf.Module()
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [image.get_concrete_function()], module
    )
    if quantized:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.inference_input_type = converter.inference_output_type = tf.uint8
        converter.representative_dataset = lambda: (
            {"images": np.full(shape, level, np.float32)} for level in (0, 255)
        )
    variant = "paper" if pixels.channels == 3 else "lenet5"
    told = Settings(variant, pixels, labels, **settings)
    manifest = Manifest(told, weights_sha256=64 * "0", conversion=Conversion())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the interpreter that the converter calibrates with
        content = converter.convert()
    return tflite_metadata.complete(content, manifest)
