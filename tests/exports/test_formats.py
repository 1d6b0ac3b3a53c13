"""Exports that are no SavedModel: what they hold, that they answer and come back as what went in,
the model card beside each, and the same bits each time.
"""

import contextlib
import dataclasses
import hashlib
import json
import locale
import os
import re
import subprocess
import sys
import types
import zipfile

import keras
import numpy as np
import pytest
import tensorflow as tf
import yaml
from binaries import call
from conftest import CLASS_NAMES, write_lenet5
from own_weights import weights_file
from PIL import Image

import alexnet_tf
from alexnet_tf import networks
from alexnet_tf.classifiers import NONE
from alexnet_tf.commands import finetune, import_weights
from alexnet_tf.data import record
from alexnet_tf.errors import UserError
from alexnet_tf.exports import artifacts, card, onnx, saved_model, tflite, tflite_metadata
from alexnet_tf.jobs import comparison
from alexnet_tf.manifest import Manifest
from alexnet_tf.network import surgery
from alexnet_tf.network.layers import PixelNormalization
from alexnet_tf.network.model import VARIANTS, build_model
from alexnet_tf.pixels import Preprocessing
from alexnet_tf.settings import Settings
from alexnet_tf.training import ancestry, checkpoints, evaluation
from alexnet_tf.training.state import TrainingState
from alexnet_tf.weights import formats

FILES = {"safetensors": "model.safetensors", "onnx": "model.onnx", "keras": "model.keras"}
ODD_NAMES = ("a|b", "<script>x</script>", 'caf\u00e9 "q" \U0001f600 #1')
RECORD = record.Record(np.array([3, 5], np.uint64), np.array([9, 2**63], np.uint64))


def lively(variant, classes=3):
    """A network whose answers depend on the picture."""
    size = {"lenet5": 28}.get(variant, 67)
    model, rng = build_model(variant, classes, size), np.random.default_rng(3)
    for variable in model.weights:
        fan_in = np.prod(variable.shape[:-1]) if len(variable.shape) > 1 else 100
        variable.assign(rng.normal(0, 1.4 / fan_in**0.5, variable.shape))
    model.layers[-1].kernel.assign(8 * model.layers[-1].kernel)
    channels = VARIANTS[variant]["channels"]
    return model, Preprocessing(size, size + 10, channels, (121.5,) * channels, 57.6)


@pytest.fixture(autouse=True)
def few_pictures(monkeypatch):
    """To compare with are enough here."""
    monkeypatch.setattr(tflite, "COMPARED", 3)
    monkeypatch.setattr(comparison, "_DRAWN", 3)


@pytest.fixture
def network():
    """A network in memory, of odd class names, with a record and an evaluation."""
    model, pixels = lively("half")
    classes = [
        {
            "class": name,
            "pictures": 10,
            "top_1_error": 0.1 * number,
            "top_5_error": 0.0,
            "most_common_wrong": ODD_NAMES[0] if number else None,
            "wrong_pictures": number,
        }
        for number, name in enumerate(ODD_NAMES)
    ]
    figures = {"examples": 30, "bad_pictures": 0, "loss": 0.5, "top_1": 0.9, "top_5": 1.0}
    metrics = {"dataset": "my flowers", "split": "test", "views": 1, "trained_on": 2}
    metrics |= {"figures": figures, "classes": classes}
    flags = {"dataset": "folder", "data_dir": "/home/me/pictures", "seed": 0}
    origin = {"file": "lpips.tar.gz", "sha256": "0", "licence": "BSD", "url": "https://x.org"}
    others = {"metrics": metrics, "pretrained": origin, "versions": {"keras": "3"}}
    settings = Settings("half", pixels, ODD_NAMES, 0.5, flags, others=others)
    return networks.Trained("memory", settings, 7, figures, RECORD, model)


@pytest.mark.parametrize("form", FILES)
def test_all_of_a_network_goes_out_and_comes_back(network, tmp_path, form):
    version = alexnet_tf.export(network, tmp_path / "out", format=form, note=str)
    assert version == tmp_path / "out/1"
    subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=version, check=True)
    images = np.random.default_rng(0).integers(0, 256, (4, 67, 67, 3), np.uint8)
    expected = network.probabilities(images)
    assert np.ptp(expected, axis=0).max() > 0.1
    odd = images.astype(np.float32)
    odd[[0, 1, 2], 5, 6, 1] = np.nan, np.inf, -np.inf
    for path in (version / FILES[form], version, tmp_path / "out"):
        found = alexnet_tf.load(path)
        answers = found.probabilities(odd)
        assert np.isnan(answers[:3]).all()
        np.testing.assert_allclose(answers[3], expected[3], atol=1e-5)
        np.testing.assert_allclose(found.probabilities(images), expected, atol=1e-5)
        assert (found.class_names, found.preprocessing) == (ODD_NAMES, network.preprocessing)
        assert (found.step, found.figures) == (7, network.figures)
        np.testing.assert_array_equal(found.record.trained, RECORD.trained)
        np.testing.assert_array_equal(found.record.held_out, RECORD.held_out)
        assert found.settings.others["metrics"] == network.settings.others["metrics"]
        assert found.settings.descent == network.settings.descent
    if form == "onnx":
        with pytest.raises(UserError, match="holds a graph, and no weights that could be trained"):
            found.model  # noqa: B018
        return
    for one, two in zip(found.model.weights, network.model.weights, strict=True):
        assert one.path == two.path
        np.testing.assert_array_equal(one.numpy(), two.numpy())


@pytest.mark.parametrize(
    "form", ["safetensors", pytest.param("saved_model", marks=pytest.mark.long)]
)
def test_names_are_written_alike_in_any_locale(network, tmp_path, form):
    here = locale.setlocale(locale.LC_CTYPE)
    try:
        locale.setlocale(locale.LC_CTYPE, "C")  # in which é is no letter
        version = alexnet_tf.export(network, tmp_path / "out", format=form)
    finally:
        locale.setlocale(locale.LC_CTYPE, here)
    assert alexnet_tf.load(version).class_names == ODD_NAMES
    assert "caf\u00e9" in (version / "README.md").read_text("utf-8")


@pytest.mark.parametrize("form", FILES)
def test_one_bit_of_a_file_is_missed(network, tmp_path, form):
    version = alexnet_tf.export(network, tmp_path / "out", format=form, note=str)
    path = version / FILES[form]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    for opened in (version, path):
        with pytest.raises(
            UserError, match=rf"out/1 is damaged or incomplete \({FILES[form]} differs from"
        ):
            alexnet_tf.load(opened)
    alone = path.rename(tmp_path / path.name)
    with pytest.raises(UserError, match="is damaged.*; copy it again, or export again"):
        alexnet_tf.load(alone)


@pytest.mark.parametrize("form", ["keras", "onnx"])
def test_an_ending_may_be_in_capitals(network, tmp_path, form):
    version = alexnet_tf.export(network, tmp_path / "out", format=form, note=str)
    path = tmp_path / f"NET.{form.upper()}"
    path.write_bytes((version / FILES[form]).read_bytes())
    images = np.random.default_rng(0).integers(0, 256, (2, 67, 67, 3), np.uint8)
    found = networks.load(path)
    np.testing.assert_allclose(
        found.probabilities(images), network.probabilities(images), atol=1e-5
    )
    if form == "keras":
        assert not checkpoints.is_weights_file(path)
        call(import_weights, f"--source={path}", f"--output={tmp_path}/net.npz")
        assert networks.load(tmp_path / "net.npz").class_names == ODD_NAMES


@pytest.mark.parametrize("policy", ["float64", "float16"])  # as after set_floatx
def test_a_sound_safetensors_file_is_not_damaged_in_other_precision(network, tmp_path, policy):
    version = alexnet_tf.export(network, tmp_path / "out", format="safetensors")
    with networks.under_policy(policy):
        opened = alexnet_tf.load(version)
    assert opened.model.weights[0].dtype == policy
    images = np.random.default_rng(0).integers(0, 256, (2, 67, 67, 3), np.uint8)
    difference = opened.probabilities(images) - network.probabilities(images)
    assert np.abs(difference).max() < 0.01


def test_a_safetensors_file_is_imported_whole(network, tmp_path):
    version = alexnet_tf.export(network, tmp_path / "out", format="safetensors")
    source, output = version / "model.safetensors", tmp_path / "again.npz"
    call(import_weights, f"--source={source}", f"--output={output}")
    found = alexnet_tf.load(output)
    assert checkpoints.weights_digest(found.model) == checkpoints.weights_digest(network.model)
    assert (found.class_names, found.preprocessing) == (ODD_NAMES, network.preprocessing)
    np.testing.assert_array_equal(found.record.held_out, RECORD.held_out)
    assert found.settings.descent["licence"] == "BSD"
    arrays = formats.parse(source.read_bytes(), source).arrays
    np.testing.assert_array_equal(arrays["conv1a/kernel"], found.model.get_layer("conv1a").kernel)


@pytest.mark.parametrize(
    "change,message",
    [
        ({"manifest.json": "{}"}, "lack"),
        ({"manifest.json": "[" * 9999}, "wrote"),
        ({"labels.txt": "one\n"}, "1 labels for 3 classes"),
        ({"labels.txt": "a\nb\nc\nd\n"}, "4 labels for 3 classes"),
    ],
)
def test_a_safetensors_file_that_says_nonsense_gets_one_line(tmp_path, change, message):
    model, pixels = lively("lenet5")
    settings = Settings("lenet5", pixels, CLASS_NAMES, 0.5)
    network = networks.Trained("memory", settings, 0, None, None, model)
    version = alexnet_tf.export(network, tmp_path / "out", format="safetensors")
    content = (version / "model.safetensors").read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    header["__metadata__"] |= change
    text = json.dumps(header, separators=(",", ":")).encode()
    path = tmp_path / "changed.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text + content[8 + length :])
    with pytest.raises(UserError, match=message) as raised:
        alexnet_tf.load(path)
    assert "\n" not in str(raised.value)


@pytest.mark.long
def test_a_keras_file_reads_pixels_and_gives_probabilities(network, tmp_path):
    version = alexnet_tf.export(network, tmp_path / "out", format="keras")
    images = np.random.default_rng(0).integers(0, 256, (2, 67, 67, 3)).astype("float32")
    np.save(tmp_path / "images.npy", images)
    code = """
import sys, alexnet_tf, keras, numpy as np
model = keras.saving.load_model(sys.argv[1])
np.save(sys.argv[2], model.predict(np.load(sys.argv[2]), verbose=0))
"""
    with zipfile.ZipFile(version / "model.keras") as archive:  # what layers share, in any process
        shared = re.findall(rb'"shared_object_id": (\d+)', archive.read("config.json"))
    assert len(shared) > 1 and set(shared) == {b"0"}
    arguments = [version / "model.keras", tmp_path / "images.npy"]
    subprocess.run([sys.executable, "-c", code, *map(str, arguments)], check=True)
    expected = network.probabilities(images.astype(np.uint8))
    np.testing.assert_allclose(np.load(tmp_path / "images.npy"), expected, atol=1e-5)


@pytest.mark.parametrize(
    "variant",
    [
        pytest.param(variant, marks=() if variant in ("source2012", "lenet5") else pytest.mark.long)
        for variant in VARIANTS
    ],
)
def test_every_variant_is_the_same_in_onnx(variant):
    model, pixels = lively(variant)
    manifest = Manifest(Settings(variant, pixels, CLASS_NAMES))
    content = onnx.convert(model, pixels, manifest)
    side, channels = pixels.image_size, pixels.channels
    images = np.random.default_rng(1).integers(0, 256, (3, side, side, channels), np.uint8)
    figures = onnx.compare(
        content, evaluation.model_probabilities(model, pixels), zip(images, range(3)), 3
    )
    assert figures["pictures compared"] == 3 and figures["largest difference"] < 1e-5
    # any number at once
    session = onnx.Onnx(content)._session
    (together,) = session.run(None, {"images": images.astype(np.float32)})
    np.testing.assert_allclose(together[2], onnx.Onnx(content).probabilities(images[2]), atol=1e-6)


def own_model():
    inputs = keras.Input((28, 28, 3))
    x = keras.layers.Rescaling(1 / 60, -2.0)(inputs)
    x = keras.layers.Conv2D(4, 4, strides=3, padding="same", use_bias=False)(x)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.Activation("elu")(x)
    x = keras.layers.AveragePooling2D(3, 2, padding="same")(x)
    x = keras.layers.Concatenate()([x, keras.layers.ReLU()(x)])
    x = keras.layers.Dropout(0.5)(x)
    both = [keras.layers.GlobalAveragePooling2D()(x), keras.layers.GlobalMaxPooling2D()(x)]
    x = keras.layers.Dense(8, "tanh")(keras.layers.Concatenate()(both))
    return keras.Model(inputs, keras.layers.Dense(3)(x))


PIXELS = Preprocessing(28, 32, 3, (0.0,) * 3, 1.0)


class Unregistered(keras.layers.Layer):
    """Of a class that Keras cannot find by its name."""

    __module__ = "nowhere"

    def call(self, x):
        return 2 * x


def test_a_class_that_keras_does_not_find_is_no_change_and_gets_one_line(tmp_path):
    inputs = keras.Input((28, 28, 3))
    x = Unregistered()(keras.layers.Flatten()(inputs))
    model = keras.Model(inputs, keras.layers.Dense(3)(x))
    network = networks.of_keras(model, CLASS_NAMES, PIXELS)
    networks.check_unchanged(network)
    with pytest.raises(UserError, match=r"\(Could not locate class .Unregistered.\); register"):
        alexnet_tf.export(network, tmp_path / "k", format="keras")


@pytest.mark.parametrize("form", ["onnx", "keras"])
def test_a_network_of_ones_own_goes_out_too(tmp_path, form):
    model = own_model()
    rng = np.random.default_rng(0)
    for variable in model.weights:
        variable.assign(rng.uniform(0.5, 1.5, variable.shape) * rng.choice([-1, 1], variable.shape))
        if "variance" in variable.path:
            variable.assign(np.abs(variable.numpy()))
    images = rng.integers(0, 256, (2, 28, 28, 3), np.uint8)
    path = alexnet_tf.export(
        model, tmp_path / form, format=form, class_names=CLASS_NAMES, preprocessing=PIXELS, note=str
    )
    found = alexnet_tf.load(path)
    logits = model.predict(images.astype("float32"), verbose=0)
    expected = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.testing.assert_allclose(found.probabilities(images), expected, atol=1e-5)
    assert found.settings.variant == "own"
    with pytest.raises(UserError, match="format=safetensors: a network that is not one of the"):
        alexnet_tf.export(
            model, tmp_path / "s", 1, "safetensors", class_names=CLASS_NAMES, preprocessing=PIXELS
        )
    assert not (tmp_path / "s").exists()


def test_an_onnx_file_scales_rows_as_it_does_maps():
    layers = [keras.layers.Flatten(), keras.layers.Rescaling(0.01, -1), keras.layers.Dense(3)]
    model = keras.Sequential([keras.Input((4, 4, 3)), *layers])
    pixels = Preprocessing(4, 4, 3, (0.0,) * 3, 1.0)
    settings = networks.of_keras(model, CLASS_NAMES, pixels).settings
    file = onnx.Onnx(onnx.convert(model, pixels, Manifest(settings)))
    image = np.random.default_rng(0).integers(0, 256, (4, 4, 3), np.uint8)
    expected = keras.ops.softmax(model(image[None].astype("float32")))
    np.testing.assert_allclose(file.probabilities(image)[None], expected, atol=1e-5)


def test_an_onnx_file_asks_for_no_newer_runtime_than_it_needs():
    """Runtimes refuse files of later versions of the format, whatever is in them."""
    manifest = Manifest(networks.of_keras(own_model(), CLASS_NAMES, PIXELS).settings)
    package = onnx._package("onnx")
    made = package.load_from_string(onnx.convert(own_model(), PIXELS, manifest))
    package.checker.check_model(made, full_check=True)
    assert (made.ir_version, [one.version for one in made.opset_import]) == (7, [13])


def part(name, scope):
    """A part of a network, of a layer that is called conv1 in each."""
    with scope:
        images = keras.Input((28, 28, 3))
        conv1 = keras.layers.Conv2D(4, 5, 3, activation="relu", name="conv1")
        return keras.Model(images, keras.layers.GlobalAveragePooling2D()(conv1(images)), name=name)


@pytest.mark.parametrize(
    "form", ["onnx", "keras", pytest.param("saved_model", marks=pytest.mark.long)]
)
def test_parts_of_a_network_may_have_layers_of_one_name(tmp_path, form):
    how = {"class_names": CLASS_NAMES, "preprocessing": PIXELS, "note": str}
    inputs = keras.Input((28, 28, 3))

    def model_of(*parts):
        x = keras.layers.Concatenate()([part(inputs) for part in parts])
        return keras.Model(inputs, keras.layers.Dense(3, "softmax")(x))

    alike = [part(name, contextlib.nullcontext()) for name in ("left", "right")]
    with pytest.raises(UserError, match="2 weights of the model are called conv1/.*scope, as with"):
        alexnet_tf.export(model_of(*alike), tmp_path / "out", 1, form, **how)
    keras.utils.set_random_seed(1)
    left, right = (part(name, keras.name_scope(name)) for name in ("left", "right"))
    model = model_of(left, right, left)
    model.layers[-1].kernel.assign(model.layers[-1].kernel / 50)
    images = np.random.default_rng(0).integers(0, 256, (4, 28, 28, 3), np.uint8)
    expected = np.asarray(model(images.astype("float32")))
    assert np.ptp(expected, axis=0).max() > 0.01
    network = alexnet_tf.load(alexnet_tf.export(model, tmp_path / "out", 1, form, **how))
    np.testing.assert_allclose(network.probabilities(images), expected, atol=1e-5)
    if form == "onnx":
        graph = onnx._package("onnx").load(tmp_path / "out/1/model.onnx").graph
        names = [one.name for one in graph.initializer if one.name.startswith("conv1/kernel")]
        assert len(names) == 2 == len(set(names))  # none of left twice
        return
    again = alexnet_tf.export(network, tmp_path / "again", 1, form, note=str)  # its weights
    network = alexnet_tf.load(again)
    np.testing.assert_allclose(network.probabilities(images), expected, atol=1e-5)
    network.model.weights[0].assign(np.full((5, 5, 3, 4), np.nan))
    with pytest.raises(UserError, match="conv1/kernel holds a number that is not finite"):
        alexnet_tf.export(network, tmp_path / "nan", 1, form, note=str)


@pytest.mark.long
def test_features_that_are_maps_go_out_as_rows(tmp_path):
    """A last layer that takes the mean of a map leaves that map as the features."""
    layers = [keras.layers.Conv2D(3, 5, 4, name="conv"), keras.layers.GlobalAveragePooling2D()]
    model = keras.Sequential([keras.Input((28, 28, 3)), *layers])
    how = {"class_names": CLASS_NAMES, "preprocessing": PIXELS, "note": str}
    version = alexnet_tf.export(model, tmp_path / "out", **how)
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8))
    picture.save(tmp_path / "picture.png")
    signature = artifacts.load(version).signatures["features"]
    found = signature(image_bytes=tf.constant([(tmp_path / "picture.png").read_bytes()] * 2))
    inputs = np.asarray(picture)[None, 2:30, 2:30].astype(np.float32)
    expected = np.asarray(layers[0]((inputs - PIXELS.mean) / PIXELS.std)).reshape(1, -1)
    np.testing.assert_allclose(found["features"], np.repeat(expected, 2, 0), atol=1e-4)


@pytest.mark.parametrize(
    "layer,message",
    [
        (keras.layers.UpSampling2D(2), "is a UpSampling2D, which is not supported in ONNX"),
        (keras.layers.Activation("gelu"), "activation gelu is not supported"),
        (keras.layers.ReLU(max_value=6), "is not a plain ReLU"),
        (keras.layers.Conv2D(4, 3, groups=2), "has groups"),
        (keras.layers.BatchNormalization(axis=1), "normalises axis 1, not channels"),
        (keras.layers.MaxPooling2D(2, data_format="channels_first"), "has channels first"),
    ],
)
def test_what_onnx_files_cannot_say_is_refused(tmp_path, layer, message):
    inputs = keras.Input((28, 28, 4))
    x = keras.layers.GlobalAveragePooling2D()(layer(inputs))
    model = keras.Model(inputs, keras.layers.Dense(3)(x))
    pixels = dataclasses.replace(PIXELS, mean=(0,) * 4, channels=4)
    manifest = Manifest(Settings("lenet5", lively("lenet5")[1], CLASS_NAMES))
    with pytest.raises(UserError, match=message):
        onnx.convert(model, pixels, manifest)


def test_dimensions_that_a_mean_over_the_map_keeps_are_kept(tmp_path):
    inputs = keras.Input((12, 12, 3))
    x = keras.layers.GlobalAveragePooling2D(keepdims=True)(inputs)
    model = keras.Model(inputs, keras.layers.Dense(3)(keras.layers.Flatten()(x)))
    pixels = Preprocessing(12, 14, 3, (128.0,) * 3, 64.0)
    alexnet_tf.export(
        model, tmp_path / "out", 1, "onnx", class_names=CLASS_NAMES, preprocessing=pixels, note=str
    )
    assert list((tmp_path / "out/1").glob("*.onnx"))


def test_an_onnx_file_that_answers_otherwise_is_not_written(network, tmp_path, monkeypatch):
    convert, other = onnx.convert, surgery.with_fresh_projection(network.model, 3)
    monkeypatch.setattr(onnx, "convert", lambda model, *rest: convert(other, *rest))
    with pytest.raises(UserError, match="The ONNX file differs from the model by"):
        alexnet_tf.export(network, tmp_path / "out", format="onnx", note=str)
    assert not (tmp_path / "out").exists()


def test_without_its_packages_onnx_is_refused_in_one_line(network, tmp_path, monkeypatch):
    version = alexnet_tf.export(network, tmp_path / "out", format="onnx", note=str)

    def missing(name):
        raise ModuleNotFoundError(f"No module named {name!r}")

    monkeypatch.setattr(onnx.importlib, "import_module", missing)
    message = r"need the packages onnx and onnxruntime .* pip install 'onnx"
    with pytest.raises(UserError, match=message):
        alexnet_tf.export(network, tmp_path / "other", format="onnx")
    with pytest.raises(UserError, match=message):
        alexnet_tf.load(version)
    assert not (tmp_path / "other").exists()


def test_a_network_of_the_same_weights_that_computes_otherwise_is_another(tmp_path):
    """A wrong scale, mended: the export answered as before, and nothing said so."""
    kernel = np.random.default_rng(3).normal(size=(192, 3))
    notes = []

    def export(scale, mean=0.0, std=1.0):
        layers = [keras.layers.Rescaling(scale), keras.layers.Flatten(), keras.layers.Dense(3)]
        model = keras.Sequential([keras.Input((8, 8, 3)), *layers])
        model.layers[-1].set_weights([kernel, np.zeros(3)])
        pixels = Preprocessing(8, 8, 3, (mean,) * 3, std)
        how = {"class_names": CLASS_NAMES, "preprocessing": pixels, "format": "keras"}
        return alexnet_tf.export(model, tmp_path / "out", note=notes.append, **how)

    assert export(0.5) == export(0.5)
    with pytest.raises(
        UserError, match="out/1 already exists, with different layers; pass version"
    ):
        export(0.25)
    assert not notes
    with pytest.raises(UserError, match="with different preprocessing"):
        export(0.5, 127.5, 127.5)
    assert "begins with rescaling" in notes[0] and "scales its pixels, but prep" in notes[0]


def test_versions_are_of_one_format_and_one_network(network, tmp_path):
    first = alexnet_tf.export(network, tmp_path / "out", format="safetensors")
    assert alexnet_tf.export(network, tmp_path / "out", format="safetensors") == first
    second = alexnet_tf.export(network, tmp_path / "out", "next", "safetensors")
    assert second == tmp_path / "out/2"
    with pytest.raises(UserError, match="holds versions of format=safetensors; pass another"):
        alexnet_tf.export(network, tmp_path / "out", "next", "keras")
    network.model.get_layer("fc8").bias.assign_add([1.0, 0.0, 0.0])
    with pytest.raises(UserError, match="out/1 already exists, with different weights_sha256"):
        alexnet_tf.export(network, tmp_path / "out", format="safetensors")
    with pytest.raises(UserError, match="has format=safetensors; pass an export with"):
        alexnet_tf.convert(tmp_path / "out", tmp_path / "net.tflite")
    for number in (2**63, "9" * 5000, 0, "٥"):
        with pytest.raises(UserError, match="knows versions by number, below 2..63; use 1, "):
            alexnet_tf.export(network, tmp_path / "out", number, "safetensors")
    with pytest.raises(UserError, match="format=h5 is unknown; use one of saved_model, "):
        alexnet_tf.export(network, tmp_path / "out", format="h5")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["1", "2"]


def test_a_damaged_version_is_not_there_already(network, tmp_path):
    version = alexnet_tf.export(network, tmp_path / "out", format="safetensors")
    path = version / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    message = (
        r"out/1 is damaged or incomplete \(model.safetensors differs from SHA256SUMS\); copy it "
        "again, or"
    )
    with pytest.raises(UserError, match=message):
        alexnet_tf.export(network, tmp_path / "out", format="safetensors")


@pytest.mark.parametrize(
    "name,form,message",
    [
        (
            "net.onnx",
            "onnx",
            "a folder of versions, each with model.onnx in it; pass output=.*/net.$",
        ),
        ("net.KERAS", "keras", "named like a file"),
        (
            "net.tflite",
            "saved_model",
            "each with saved_model.pb .*; alexnet convert makes a .tflit",
        ),
    ],
)
def test_a_folder_is_not_called_as_a_file(network, tmp_path, name, form, message):
    with pytest.raises(UserError, match=message):
        alexnet_tf.export(network, tmp_path / name, format=form)
    assert not (tmp_path / name).exists()
    (tmp_path / name).mkdir()  # somebody has called one so
    for output in (tmp_path / name, tmp_path / "v1.0"):
        assert alexnet_tf.export(network, output, format="safetensors") == output / "1"


def test_an_export_is_not_written_into_a_version(network, tmp_path):
    version = alexnet_tf.export(network, tmp_path / "out", format="safetensors")
    before = bits(version)
    message = (
        r"out/1 is a version itself; pass the folder .*, output=.*/out, and version=1, or next\."
    )
    with pytest.raises(UserError, match=message):
        alexnet_tf.export(network, version, format="safetensors")
    assert bits(version) == before
    version.rename(tmp_path / "best")
    with pytest.raises(UserError, match="best is a version itself; .*, and version=next"):
        alexnet_tf.export(network, tmp_path / "best", format="safetensors")
    alexnet_tf.export(network, tmp_path / "out", "next", "safetensors")
    with pytest.raises(
        UserError, match="out/03 is named like a version; .*/out, and version=3, or"
    ):
        alexnet_tf.export(network, tmp_path / "out/03", format="safetensors")
    assert not (tmp_path / "out/03").exists()
    for number in "12":  # a folder of versions may be called so
        version = alexnet_tf.export(network, tmp_path / "2012", "next", "safetensors")
        assert version == tmp_path / "2012" / number


def test_a_version_is_known_by_its_number(network, tmp_path):
    version = alexnet_tf.export(network, tmp_path / "out", format="safetensors")
    version.rename(tmp_path / "out/01")
    found = alexnet_tf.export(network, tmp_path / "out", format="safetensors")
    assert found == tmp_path / "out/01"


def test_an_export_is_not_written_where_it_would_not_be_read(network, tmp_path):
    for name in ("a[b]", "a\\b"):
        with pytest.raises(UserError, match="in its path, which TensorFlow takes for a pattern"):
            alexnet_tf.export(network, tmp_path / name)
        assert not (tmp_path / name).exists()
        assert alexnet_tf.export(network, tmp_path / name, format="safetensors").is_dir()


def test_an_export_is_not_written_into_a_model_directory(tmp_path):
    model_dir = write_lenet5(tmp_path / "model", list(CLASS_NAMES))
    with pytest.raises(
        UserError, match="output=.*/model is a model directory, and from then on only"
    ):
        alexnet_tf.export(model_dir, model_dir, format="safetensors")
    assert not (tmp_path / "model/1").exists()


@pytest.mark.parametrize("name", ["net.onnx", "net.H5"])
def test_a_tflite_file_is_not_called_as_one_of_another_format(tmp_path, name):
    with pytest.raises(UserError, match="another format, .*; pass output=.*/net.tflite, or use"):
        alexnet_tf.convert(tmp_path / "exports", tmp_path / name)


def test_next_is_a_version_of_its_own_whoever_else_exports(network, tmp_path, monkeypatch):
    digest = checkpoints.weights_digest

    def meanwhile(model):  # another export of the same network ends while this one begins
        monkeypatch.setattr(checkpoints, "weights_digest", digest)
        alexnet_tf.export(network, tmp_path / "out", "next", "safetensors")
        return digest(model)

    monkeypatch.setattr(checkpoints, "weights_digest", meanwhile)
    mine = alexnet_tf.export(network, tmp_path / "out", "next", "safetensors")
    assert mine == tmp_path / "out/2"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["1", "2"]


@pytest.mark.parametrize("form", ["saved_model", "keras", "safetensors", "onnx"])
def test_weights_that_are_no_numbers_do_not_go_out(network, tmp_path, form):
    kernel = network.model.get_layer("conv1a").kernel
    kernel.assign(np.full(kernel.shape, np.nan))
    with pytest.raises(UserError, match="conv1a/kernel holds a number that is not finite"):
        alexnet_tf.export(network, tmp_path / "out", format=form)
    assert not (tmp_path / "out").exists()


def test_weights_of_double_precision_do_not_go_out(tmp_path):
    layers = [keras.layers.Flatten(), keras.layers.Dense(3, name="double", dtype="float64")]
    model = keras.Sequential([keras.Input((8, 8, 1)), *layers])
    with pytest.raises(UserError, match="double/kernel is in float64, but exports compute in"):
        alexnet_tf.export(
            model,
            tmp_path / "out",
            class_names=ODD_NAMES,
            preprocessing=Preprocessing(8, 9, 1, (0.0,), 1.0),
        )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("form", ["keras", "safetensors"])
def test_weights_that_were_never_trained_do_not_go_out(network, tmp_path, form):
    kernel = network.model.get_layer("conv1a").kernel
    kernel.assign(np.zeros(kernel.shape))
    with pytest.raises(UserError, match="all of conv1a/kernel is 0: it was never trained"):
        alexnet_tf.export(network, tmp_path / "out", format=form)
    assert not (tmp_path / "out").exists()


@pytest.mark.long
def test_weights_that_are_no_numbers_do_not_answer(network, tmp_path):
    """An export of before may hold them: its pools swallow NaN, and its answers look like any."""
    version = alexnet_tf.export(network, tmp_path / "out")
    opened = networks.load(version)
    weight = artifacts.variables(opened.loaded)["conv1a/kernel"]
    weight.assign(np.full(weight.shape, np.nan))
    with pytest.raises(UserError, match="conv1a/kernel holds a number that is not finite"):
        opened.classifier()


@pytest.mark.parametrize(
    "change,compression,message",
    [
        (lambda manifest: manifest, zipfile.ZIP_DEFLATED, "holds neither class names nor"),
        (
            lambda manifest: (
                manifest
                | {
                    "preprocessing": manifest["preprocessing"]
                    | {"image_size": 8192, "resize": 8192}
                }
            ),
            zipfile.ZIP_STORED,
            "more than a weights file may ask for",
        ),
    ],
)
def test_a_keras_file_of_a_stranger_is_bounded(network, tmp_path, change, compression, message):
    source = alexnet_tf.export(network, tmp_path / "out", format="keras") / "model.keras"
    path = tmp_path / "hostile.keras"
    with zipfile.ZipFile(source) as stored, zipfile.ZipFile(path, "w", compression) as archive:
        for name in stored.namelist():
            content = stored.read(name)
            if name == "manifest.json":
                content = json.dumps(change(json.loads(content))).encode()
            archive.writestr(name, content)
    with pytest.raises(UserError, match=message):
        alexnet_tf.load(path)


@pytest.mark.parametrize("form", ["safetensors", "keras"])
def test_what_could_not_be_opened_again_is_not_written(network, tmp_path, monkeypatch, form):
    monkeypatch.setattr(alexnet_tf.settings, "LARGEST_IMAGE", 66)
    with pytest.raises(UserError, match=f"^format={form}: .* 67 pixels are more .*=saved_model.$"):
        alexnet_tf.export(network, tmp_path / "out", format=form)
    assert not (tmp_path / "out").exists()


def test_the_card_of_an_onnx_file_prepares_what_the_network_sees(network, tmp_path):
    version = alexnet_tf.export(network, tmp_path / "out", format="onnx")
    (block,) = re.findall(r"```python\n(.*?)```", (version / card.FILE).read_text(), re.DOTALL)
    rng = np.random.default_rng(5)
    image = np.kron(rng.integers(0, 256, (7, 12, 4), np.uint8), np.ones((13, 15, 1), np.uint8))
    image[:20, :, 3] = 0  # its top is transparent, and it lies on its side
    exif = Image.Exif()
    exif[0x0112] = 6
    grey = np.kron(rng.integers(0, 2**16, (7, 12), np.uint16), np.ones((13, 15), np.uint16))
    found, printed = {}, []
    code = f"import os\nos.chdir({str(version)!r})\n{block}\nfound.update(images=images)"
    here = os.getcwd()
    for levels in (image, grey):
        Image.fromarray(levels).save(version / "picture.jpg", "PNG", exif=exif)
        try:
            exec(compile(code, "card", "exec"), {"found": found, "print": printed.append})
        finally:
            os.chdir(here)
        expected = network.prepare(version / "picture.jpg").astype(np.float32)
        assert np.abs(found["images"][0] - expected).mean() < 1.0
        assert printed[-1] == network.classify(version / "picture.jpg")[0][0]
    manifest = Manifest(dataclasses.replace(network.settings, min_probability=0.999))
    (block,) = re.findall(r"```python\n(.*?)```", card.text(manifest, "onnx"), re.DOTALL)
    os.chdir(version)
    try:
        exec(compile(block, "card", "exec"), {"print": printed.append})
    finally:
        os.chdir(here)
    assert printed[-1] == NONE == network.classify(version / "picture.jpg", 0.999)[0][0]


def test_a_network_of_ones_own_is_not_called_alexnet():
    model = keras.Sequential(
        [keras.Input((28, 28, 3)), keras.layers.Flatten(), keras.layers.Dense(3)]
    )
    settings = networks.of_keras(model, CLASS_NAMES, PIXELS).settings
    manifest = Manifest(settings, evaluation={"top_1": 0.9})
    for form in ("saved_model", *FILES):
        matter, body = front_matter(card.text(manifest, form))
        assert matter["tags"] == ["image-classification"]
        assert matter["model-index"][0]["name"] == "A custom network"
        assert body.startswith("\n# A custom network: 3 classes\n")
    assert b"A custom network" in tflite_metadata._flatbuffer(manifest)


def test_the_card_has_a_least_probability_in_full(network):
    sure = dataclasses.replace(network.settings, min_probability=0.9999999)
    said = card.text(Manifest(sure), "onnx")
    assert "np.float32(0.9999999) else" in said and "as probable as 0.9999999, " in said


def test_the_program_on_a_card_rounds_as_a_training_does(network):
    """54 x 81 pixels become 259 x 388.5, which is 388: 259 / 54 is no number of float64."""
    pixels = Preprocessing(227, 259, 3, (128.0,) * 3, 64.0)
    own = dataclasses.replace(network.settings, variant="paper", preprocessing=pixels)
    (line,) = re.findall(r"size = .*picture.size.*", card.text(Manifest(own), "onnx"))
    for width, expected in ((81, 388), (297, 1424)):
        picture, found = types.SimpleNamespace(size=(width, 54)), {}
        exec(line, {"picture": picture, "shorter": 54}, found)
        assert found["size"] == [expected, 259]


def test_a_version_that_cannot_be_written_leaves_nothing(network, tmp_path, monkeypatch):
    def full(self, text):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_text", full)
    with pytest.raises(UserError, match=r"out/1 cannot be written \(No space left on device\)"):
        alexnet_tf.export(network, tmp_path / "out", format="safetensors")
    assert list((tmp_path / "out").iterdir()) == []


def bits(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.long
def test_the_same_weights_have_the_same_bits(network, tmp_path, monkeypatch):
    """Whatever seeds dropout has drawn, how many functions the process has traced, what time it is
    and where it is written.
    """
    monkeypatch.setattr(saved_model, "_check", lambda *arguments: None)
    settings = dataclasses.replace(network.settings, class_names=("a", "b", "c"), others={})
    for number, time in enumerate((1.6e9, 1.7e9)):
        keras.utils.set_random_seed(number)
        monkeypatch.setattr("time.time", lambda time=time: time)
        model = build_model("half", 3, 67)
        model.set_weights(network.model.get_weights())
        again = networks.Trained("memory", settings, 7, None, RECORD, model)
        for form in ("saved_model", *FILES):
            alexnet_tf.export(again, tmp_path / f"{number}/{form}", format=form, note=str)
        version = tmp_path / f"{number}/saved_model/1"
        content = tflite.convert(str(version), "none", [])
        manifest = artifacts.read_manifest(version)
        content = tflite_metadata.complete(content, manifest, RECORD)
        (tmp_path / f"{number}/net.tflite").write_bytes(content)
    first, second = bits(tmp_path / "0"), bits(tmp_path / "1")
    assert len(first) > 20
    assert {name for name in first if first[name] != second.get(name)} == set()


@pytest.mark.long
def test_tables_of_two_exports_in_one_process_are_two(tmp_path, monkeypatch):
    monkeypatch.setattr(saved_model, "_check", lambda *arguments: None)
    model, pixels = lively("lenet5")
    picture = np.random.default_rng(0).integers(0, 256, (1, 28, 28, 1), np.uint8)
    for names in (("a", "b", "c"), ("x", "y", "z")):
        settings = Settings("lenet5", pixels, names)
        network = networks.Trained("memory", settings, 0, None, None, model)
        alexnet_tf.export(network, tmp_path / names[0])
    first, second = alexnet_tf.load(tmp_path / "a"), alexnet_tf.load(tmp_path / "x")
    assert first.probabilities(picture).shape == (1, 3)
    from alexnet_tf.data import shapes

    file = shapes.draw_jpeg("test", 0)
    answers = [{name for name, _ in one.classify(file)} for one in (first, second, first)]
    assert answers == [{"a", "b", "c"}, {"x", "y", "z"}, {"a", "b", "c"}]


def test_a_part_goes_out_as_weights(tmp_path):
    weights_file(tmp_path / "part.npz", "one_weird_trick_pool5", ())
    version = alexnet_tf.export(tmp_path / "part.npz", tmp_path / "out", format="safetensors")
    part, found = alexnet_tf.load(tmp_path / "part.npz"), alexnet_tf.load(version)
    assert found.settings.missing == ("fc8",) and found.class_names == ()
    assert checkpoints.weights_digest(found.model) == checkpoints.weights_digest(part.model)
    matter, body = front_matter((version / "README.md").read_text())
    assert matter["pipeline_tag"] == "image-feature-extraction" and matter["license"] == "bsd"
    assert "without fc8: it gives features" in body and "`alexnet finetune" in body
    for form in ("onnx", "keras"):
        with pytest.raises(UserError, match="not a classifier yet; alexnet finetune --pretrained="):
            alexnet_tf.export(tmp_path / "part.npz", tmp_path / form, format=form)
        assert not (tmp_path / form).exists()


# The model card -----------------------------------------------------------------------------------


def front_matter(text):
    _, matter, body = text.split("---\n", 2)
    return yaml.safe_load(matter), body


@pytest.mark.parametrize("form", ["saved_model", *FILES])
def test_the_card_says_what_is_recorded(network, form):
    manifest = Manifest(network.settings, 7, network.figures)
    matter, body = front_matter(card.text(manifest, form))
    assert matter["license"] == "bsd" and matter["pipeline_tag"] == "image-classification"
    (result,) = matter["model-index"][0]["results"]
    assert result["dataset"] == {"name": "my flowers, test", "type": "my-flowers-test"}
    assert result["metrics"] == [{"type": "accuracy", "name": "top-1 accuracy", "value": 0.9}]
    assert "| top-1 accuracy | 90.00% |" in body and "On 30 pictures of my flowers, test" in body
    assert "It was trained on 2 of these pictures" in body
    for least in (0.0, 0.5):
        sure = dataclasses.replace(network.settings, min_probability=least)
        said = card.text(dataclasses.replace(manifest, settings=sure), form)
        also_none = 'the most probable class, even where the answer is "none of these"'
        assert (also_none in said) == (least > 0)
    assert "its maker's own class folders, 7 steps." in body
    best = dataclasses.replace(manifest, evaluation=network.figures | {"step": 3})
    assert "folders, 7 steps; the weights are those after 3." in card.text(best, form)
    alone = dataclasses.replace(network.settings, others={}, source=None)
    chose = Manifest(alone, 7, network.figures | {"evaluated_on": "val"})
    matter, ended = front_matter(card.text(chose, form))
    assert "of its training, on the evaluation pictures (val):" in ended
    assert matter["model-index"][0]["results"][0]["dataset"]["name"] == "folder, val"
    assert "| a\\|b | 10 | 100.0% |  |" in body
    assert "| &lt;script&gt;x&lt;/script&gt; | 10 | 90.0% | a\\|b (1) |" in body
    assert "started from weights by others: `lpips.tar.gz`, <https://x.org>, licence: BSD." in body
    assert "/home/me" not in body and "maker's own class folders, 7 steps" in body
    assert "were evaluated" not in body
    metrics = network.settings.others["metrics"]
    others = {"metrics": metrics | {"classes": metrics["classes"][1:]}}
    lacks = dataclasses.replace(network.settings, others=others)
    said = card.text(Manifest(lacks, 1), form)  # fitted: one step over all pictures
    assert "\n\nNo pictures of a\\|b were evaluated.\n" in said
    assert "its maker's own class folders." in said


def test_the_card_invents_nothing():
    model, pixels = lively("lenet5")
    manifest = Manifest(Settings("lenet5", pixels, CLASS_NAMES))
    matter, body = front_matter(card.text(manifest, "keras"))
    assert "license" not in matter and "model-index" not in matter
    assert "No evaluation was recorded." in body and "This was not recorded." in body
    assert "Its maker has stated none" in body and "%" not in body


def test_claims_of_publishers_are_told_as_claims():
    pixels = Preprocessing(227, 256, 3, (104.0,) * 3, 1.0)
    source = {"file": "bvlc_alexnet.caffemodel", "sha256": "1", "licence": "unrestricted use"}
    source |= {"published": {"top_1": 0.571, "top_5": 0.802}, "url": "http://x.org/a"}
    names = tuple(f"class {number}" for number in range(1000))
    settings = Settings("caffe", pixels, names, source=source)
    manifest = Manifest(settings, evaluation=source["published"])
    matter, body = front_matter(card.text(manifest, "onnx"))
    assert matter["license"] == "other" and matter["license_name"] == "unrestricted-use"
    assert "The licence of the weights: unrestricted use." in body
    for licence, name in (("見", "stated-below"), ("(c) 2.0, X", "c-2.0-x"), ("1.0", "1.0")):
        source["licence"] = licence
        assert front_matter(card.text(manifest, "onnx"))[0]["license_name"] == name
    assert "publisher of the weights claims, not measured here" in body
    assert "| top-5 accuracy | 80.20% |" in body and "class 19, ..." in body


def test_the_licences_of_all_that_a_network_started_from_are_told():
    theirs = [{"file": "a.pth", "licence": "BSD", "url": "https://a.org"}]
    theirs.append({"file": "b.caffemodel", "licence": "free use", "url": "https://b.org"})
    inputs = keras.Input((28, 28, 3))
    begins = [PixelNormalization((1.0, 2.0, 3.0), 2.0, "own", one) for one in [*theirs, theirs[0]]]
    x = keras.layers.Concatenate()([layer(inputs) for layer in begins])
    model = keras.Model(inputs, keras.layers.Dense(3)(keras.layers.GlobalAveragePooling2D()(x)))
    settings = networks.of_keras(model, CLASS_NAMES, PIXELS).settings
    assert settings.descent == theirs[0] | {"besides": theirs[1:]}
    assert Settings.from_json(settings.to_json()).descent == settings.descent
    matter, body = front_matter(card.text(Manifest(settings), "keras"))
    assert (matter["license"], matter["license_name"]) == ("other", "bsd-and-free-use")
    both = "`a.pth`, <https://a.org>, licence: BSD; `b.caffemodel`, <https://b.org>, licence: free"
    assert f"Training started from weights by others: {both} use." in body
    assert f"which keep their licence: {both} use. Its maker" in body
    # what is trained of it remembers them, without the layers that tell
    ancestry.note(model, "model", None, settings.descent)
    for layer in begins:
        layer.source = None
    assert ancestry.of(model).descent == settings.descent
    for strange in (3, [3]):
        with pytest.raises(ValueError, match="besides is 3, of the type int"):
            Settings.from_json(settings.to_json() | {"pretrained": {"besides": strange}})


def test_a_version_that_tells_of_other_sources_is_noted(network, tmp_path):
    """Such as one of an earlier version, which did not know their licence."""
    plain = {name: told for name, told in network.settings.others.items() if name != "pretrained"}
    before = dataclasses.replace(
        network, settings=dataclasses.replace(network.settings, others=plain)
    )
    notes = []
    for one, count in ((before, 0), (before, 0), (network, 1)):
        alexnet_tf.export(one, tmp_path / "out", 1, "safetensors", note=notes.append)
        assert len(notes) == count
    assert "out/1 does not name the published weights that the network started from" in notes[0]


def test_what_is_evaluated_is_on_the_card_of_the_next_export(picture_folder, tmp_path):
    model_dir = write_lenet5(tmp_path / "model", list(CLASS_NAMES))
    dataset = alexnet_tf.open_dataset("folder", picture_folder)
    answers = alexnet_tf.evaluate(model_dir, dataset)
    version = alexnet_tf.export(model_dir, tmp_path / "out", format="keras")
    text = (version / "README.md").read_text()
    assert "On 9 pictures of" in text and "| checked disc | 3 |" in text
    assert f"| top-1 accuracy | {answers.figures()['top_1']:.2%} |" in text
    # other weights: nothing is known of them
    network = alexnet_tf.load(model_dir)
    network.model.get_layer("fc5").bias.assign([1.0, 2.0, 3.0])
    optimizer = alexnet_tf.SGD2012()
    optimizer.build(network.model.trainable_variables)
    checkpoints.save(model_dir, network.model, optimizer, TrainingState(step=8))
    version = alexnet_tf.export(model_dir, tmp_path / "out", "next", "keras")
    assert "No evaluation was recorded." in (version / "README.md").read_text()


@pytest.mark.long
def test_a_fine_tuned_network_tells_what_it_started_from(picture_folder, tmp_path):
    weights_file(tmp_path / "part.npz", "one_weird_trick_pool5", ())
    tuned = call(
        finetune,
        f"--pretrained={tmp_path}/part.npz",
        "--dataset=folder",
        f"--data_dir={picture_folder}",
        f"--model_dir={tmp_path}/tuned",
        f"--json={tmp_path}/tuned.json",
    )
    version = alexnet_tf.export(tmp_path / "tuned", tmp_path / "out", format="safetensors")
    matter, body = front_matter((version / "README.md").read_text())
    assert matter["license"] == "bsd" and "started from weights by others: `theirs.pth`" in body
    assert f"| top-1 accuracy | {tuned['top_1']:.2%} |" in body
    for row in tuned["classes"]:
        assert f"| {row['class']} | {row['pictures']} | {1 - row['top_1_error']:.1%} |" in body
    # and what is tuned from that in turn
    assert alexnet_tf.load(version).settings.descent["file"] == "theirs.pth"


@pytest.mark.parametrize(
    "metrics",
    [
        [],
        {"views": 1},
        {"views": 1, "dataset": "a", "split": "b", "classes": [3], "figures": {}},
        {"views": 1, "dataset": "a", "split": "b", "classes": [], "figures": {"examples": -1}},
    ],
)
def test_metrics_of_a_stranger_are_checked(metrics):
    model, pixels = lively("lenet5")
    manifest = Manifest(Settings("lenet5", pixels, CLASS_NAMES)).to_json() | {"metrics": metrics}
    with pytest.raises(ValueError, match=r"metrics|views|dataset|examples"):
        Manifest.from_json(manifest, list(CLASS_NAMES))
