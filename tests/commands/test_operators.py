"""Operators cut out of a file compute what they compute in it."""

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from binaries import parsed
from tflite_files import colour_content

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
