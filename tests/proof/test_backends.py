"""The same weights give the same logits, and the same gradients, on the TensorFlow, JAX and PyTorch
backends of Keras.
"""

import json
import subprocess

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import ROOT
from own_weights import weights_file
from tensorflow.python.framework import kernels

import alexnet_tf
from alexnet_tf.network.layers import LocalResponseNormalization, SpatialResponseNormalization
from alexnet_tf.network.model import VARIANTS, build_model
from alexnet_tf.pixels import Preprocessing
from alexnet_tf.training import devices, steps
from alexnet_tf.training.optimizer import SGD2012

_LOGITS = """
import sys
from alexnet_tf.network.model import build_model
model = build_model({variant!r}, 10)
for variable in model.weights:
    variable.assign(arrays[variable.path])
answer["logits"] = np.asarray(model.predict_on_batch(arrays["images"]))
assert "tensorflow" not in sys.modules
"""

_GRADIENTS = {
    "jax": (
        """
import jax
from alexnet_tf.network.layers import {layer}
layer = {layer}()
answer["gradient"] = jax.grad(lambda x: (layer(x) * arrays["dy"]).sum())(arrays["x"])
"""
    ),
    "torch": (
        """
import torch
from alexnet_tf.network.layers import {layer}
x = torch.tensor(arrays["x"], requires_grad=True)
({layer}()(x) * torch.tensor(arrays["dy"])).sum().backward()
answer["gradient"] = x.grad.numpy()
"""
    ),
}


@pytest.mark.parametrize("backend", ["jax", "torch"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_logits(rng, witness, backend, variant):
    model = build_model(variant, 10)
    for variable in model.weights:  # livelier than at the start: logits of the order of 1
        fan_in = np.prod(variable.shape[:-1]) if len(variable.shape) > 1 else 1
        variable.assign(
            rng.normal(0, (1.4 if len(variable.shape) > 1 else 0.5) / fan_in**0.5, variable.shape)
        )
    images = rng.normal(0, 1, (2, *model.input.shape[1:])).astype(np.float32)
    expected = model.predict_on_batch(images)
    weights = {variable.path: variable.numpy() for variable in model.weights}
    logits = witness(_LOGITS.format(variant=variant), backend, images=images, **weights)["logits"]
    difference = np.abs(logits - expected).max() / np.abs(expected).max()
    print(
        f"{variant} on {backend}: largest difference of a logit {difference:.1e} of the largest"
        " logit"
    )
    assert difference < 1e-5


@pytest.mark.parametrize("backend", ["jax", "torch"])
@pytest.mark.parametrize("layer", [LocalResponseNormalization, SpatialResponseNormalization])
def test_gradient_of_the_normalisation(rng, witness, backend, layer):
    x = rng.normal(0, 60, (2, 9, 8, 7)).astype(np.float32)
    dy = rng.normal(0, 1, x.shape).astype(np.float32)
    with tf.GradientTape() as tape:
        inputs = tf.constant(x)
        tape.watch(inputs)
        y = layer()(inputs)
    expected = tape.gradient(y, inputs, dy).numpy()
    gradient = witness(_GRADIENTS[backend].format(layer=layer.__name__), backend, x=x, dy=dy)[
        "gradient"
    ]
    difference = np.abs(gradient - expected).max() / np.abs(expected).max()
    print(f"gradient of {layer.__name__} on {backend}: {difference:.1e}")
    assert difference < 1e-6


_APPLICATION = """
import sys, keras, alexnet_tf
model = alexnet_tf.AlexNet("half", classes=3, input_shape=(67, 67, 3))
model.compile(keras.optimizers.SGD(1e-5), "sparse_categorical_crossentropy")
model.fit(arrays["images"], arrays["labels"], verbose=0, batch_size=2)
model.save(arrays["folder"].item() + "/model.keras")
answer["fitted"] = model.predict(arrays["images"], verbose=0)
again = keras.saving.load_model(arrays["folder"].item() + "/model.keras")
answer["again"] = again.predict(arrays["images"], verbose=0)
whole = alexnet_tf.AlexNet("half", weights=arrays["folder"].item() + "/whole.npz")
answer["whole"] = whole.predict(arrays["images"], verbose=0)
base = alexnet_tf.AlexNet(
    "one_weird_trick", weights=arrays["folder"].item() + "/trunk.npz", include_top=False,
    pooling="avg",
)
answer["features"] = base.predict(arrays["images"], verbose=0)
assert keras.backend.backend() != "tensorflow" and "tensorflow" not in sys.modules
"""


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_alexnet_of_the_usual_api(rng, witness, backend, tmp_path):
    """It is fitted, saved, opened, and reads weights files, where TensorFlow is not installed."""
    weights_file(tmp_path / "whole.npz", "half")
    weights_file(tmp_path / "trunk.npz", "one_weird_trick_pool5", ())
    images = rng.integers(0, 256, (4, 67, 67, 3)).astype(np.float32)
    found = witness(
        _APPLICATION, backend, images=images, labels=np.array([0, 1, 2, 0]), folder=str(tmp_path)
    )
    np.testing.assert_allclose(found["again"], found["fitted"], atol=1e-6)
    np.testing.assert_allclose(found["fitted"].sum(1), 1, rtol=1e-5)
    # The optimizer of a model that was compiled on PyTorch is one that Keras has there alone.
    opened = keras.saving.load_model(tmp_path / "model.keras", compile=backend != "torch")
    np.testing.assert_allclose(found["fitted"], opened.predict(images, verbose=0), atol=1e-5)
    for name, arguments in (
        ("whole", {"variant": "half"}),
        ("trunk", {"variant": "one_weird_trick", "include_top": False, "pooling": "avg"}),
    ):
        model = alexnet_tf.AlexNet(weights=tmp_path / f"{name}.npz", **arguments)
        expected = model.predict(images, verbose=0)
        key = {"trunk": "features"}.get(name, name)
        np.testing.assert_allclose(found[key], expected, rtol=1e-4, atol=1e-5)


def test_the_script_for_gpus_measures_on_a_cpu_too(tmp_path):
    done = subprocess.run(
        [
            ROOT / ".venv-proof/bin/python",
            ROOT / "tools/benchmarks/gpu.py",
            "--batch_sizes=1",
            "--seconds=600",  # enough for all cases; a busy machine needs it
            f"--json={tmp_path / 'gpu.json'}",
        ],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    print(done.stdout)
    for part in json.loads((tmp_path / "gpu.json").read_text()).values():
        measured = [row for row in part["rows"] if "images_per_s" in row]
        assert measured and all(row["images_per_s"] > 0 for row in measured)
        assert all(row["left_out"] == "no time" for row in part["rows"] if row not in measured)


def has_gpu_kernel(node):
    """Whether TensorFlow has a kernel for GPUs of the types of an operation."""
    return any(
        kernel.device_type in ("GPU", "DEFAULT")
        and all(
            node.attr[one.name].type in one.allowed_values.list.type for one in kernel.constraint
        )
        for kernel in kernels.get_registered_kernels_for_op(node.op).kernel
    )


def operations(graph):
    definition = graph.as_graph_def()
    inner = (node for function in definition.library.function for node in function.node_def)
    return [*definition.node, *inner]


@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_operation_of_a_step_has_a_kernel_for_gpus(variant, precision, request):
    """By the register of kernels, which the CUDA build of TensorFlow has without a GPU too."""
    assert tf.sysconfig.get_build_info()["is_cuda_build"]
    request.addfinalizer(lambda: keras.config.set_dtype_policy("float32"))
    keras.config.set_dtype_policy(precision)
    strategy = devices.distribution("one_device", 0)
    with strategy.scope():
        model, optimizer = build_model(variant, 10), SGD2012()
    _, side, _, channels = model.input.shape
    pixels = Preprocessing(side, side, channels, (120.0,) * channels, 1.0)
    step = steps.TrainStep(strategy, model, optimizer, pixels, 2, xla=False)
    image = tf.zeros([2, side, side, channels], tf.uint8)
    batch = {"image": image, "label": tf.zeros([2], tf.int64)}
    number, noise = tf.constant(0, tf.int64), tf.constant(0.1)
    found = operations(step._step.get_concrete_function(batch, number, noise).graph)
    assert {node.op for node in found} > {"Conv2DBackpropFilter", "AssignVariableOp"}
    assert not [node.op for node in found if not has_gpu_kernel(node)]
    with tf.Graph().as_default() as graph:  # which the register tells apart
        tf.io.decode_jpeg("")
    assert "DecodeJpeg" in [node.op for node in operations(graph) if not has_gpu_kernel(node)]
    print(f"{variant}, {precision}: {len({node.op for node in found})} operations, all for GPUs")
