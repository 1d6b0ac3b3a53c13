"""Operators cut out of a file compute what they compute in it."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from binaries import parsed
from tflite_files import PIXELS, colour_content

from alexnet_tf.commands.benchmarks import inference, operators, timing
from alexnet_tf.edge import tflite
from alexnet_tf.errors import UserError


@pytest.mark.parametrize("quantized", [False, True])
def test_one_after_the_other_they_are_the_network(rng, quantized):
    content = colour_content(quantized=quantized)
    image = rng.integers(0, 256, (67, 67, 3), np.uint8)
    whole = tflite.Tflite(content)
    values, names = {}, []
    for name, alone in operators.operators(content):
        assert len(alone) < len(content)
        names.append(name)
        interpreter = Interpreter(model_content=alone)
        interpreter.allocate_tensors()
        for given in interpreter.get_input_details():
            value = values.get(given["name"], image[None])
            interpreter.set_tensor(given["index"], value.astype(given["dtype"]))
        interpreter.invoke()
        for answer in interpreter.get_output_details():
            values[answer["name"]] = interpreter.get_tensor(answer["index"])
    last = values[answer["name"]][0].astype(np.float32) / (256 if quantized else 1)
    np.testing.assert_allclose(last, whole.probabilities(image), atol=1e-6)
    assert len(names) > 2 and any("SOFTMAX" in name for name in names)
    assert [int(name.split()[0]) for name in names] == list(range(len(names)))


def test_weights_in_float16_stay_with_the_operator_that_reads_them(rng):
    """Alone, those that make float32 of them are not what runtimes do, nor are others without."""
    keras.utils.set_random_seed(1)
    layers = [keras.layers.Conv2D(8, 5), keras.layers.Flatten(), keras.layers.Dense(3)]
    converter = tf.lite.TFLiteConverter.from_keras_model(
        keras.Sequential([keras.Input((12, 12, 3), batch_size=1), *layers])
    )
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_types = [tf.float16]
    content = converter.convert()
    values = {None: rng.normal(size=(1, 12, 12, 3)).astype(np.float32)}

    def run(content):
        interpreter = Interpreter(model_content=content)
        interpreter.allocate_tensors()
        (given,), (answer,) = interpreter.get_input_details(), interpreter.get_output_details()
        interpreter.set_tensor(given["index"], values.get(given["name"], values[None]))
        interpreter.invoke()
        values[answer["name"]] = interpreter.get_tensor(answer["index"])
        return values[answer["name"]]

    expected, names = run(content), []
    for name, alone in operators.operators(content):
        names.append(name.split()[1])
        found = run(alone)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert names == ["CONV_2D", "RESHAPE", "FULLY_CONNECTED"]


def test_what_is_no_file_of_ours_is_told(tmp_path):
    (tmp_path / "net.tflite").write_bytes(colour_content())
    (tmp_path / "cut.tflite").write_bytes(colour_content()[:1000])
    small = dataclasses.replace(PIXELS, image_size=70)
    (tmp_path / "small.tflite").write_bytes(colour_content(pixels=small))
    for part, files, more, message in (
        (operators, "cut", [], "cut.tflite is not a file that alexnet convert wrote"),
        (inference, "net cut", [], "cut.tflite is not a file that alexnet convert wrote"),
        (inference, "net small", [], "small.tflite is of another network than .*net.tflite"),
        (inference, "net", ["--saved_model=net"], "--saved_model=net is for --witness_python"),
    ):
        paths = ",".join(str(tmp_path / f"{name}.tflite") for name in files.split())
        flags = parsed(timing.FLAGS, f"--tflite={paths}", *more)
        with flags, pytest.raises(UserError, match=message):
            part.figures()


def test_the_report_has_a_share_of_each(tmp_path, monkeypatch):
    path = tmp_path / "net.tflite"
    path.write_bytes(colour_content())
    monkeypatch.setattr(
        timing,
        "in_turn",
        lambda runs: {name: 0.001 * (1 + place) for place, name in enumerate(runs)},
    )
    with parsed(timing.FLAGS, f"--tflite={path}"):
        figures = operators.figures()
    count = len(figures) - 1
    assert figures[f"{path}: all"] == f"{count * (count + 1) / 2:.3f} ms"
    (first,) = (text for name, text in figures.items() if name.startswith(f"{path}:  0 "))
    assert first == f"1.000 ms, {2 / count / (count + 1):.1%}"
    with pytest.raises(UserError, match="pass --tflite=none.tflite"):
        inference.read_files()
