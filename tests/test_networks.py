"""Networks whose models were changed in Python: they answer, and go out, as they are now."""

import copy
import pickle

import keras
import numpy as np
import pytest
from conftest import CLASS_NAMES
from PIL import Image

import alexnet_tf
from alexnet_tf import networks
from alexnet_tf.errors import UserError
from alexnet_tf.exports import artifacts
from alexnet_tf.network.layers import PixelNormalization
from alexnet_tf.training import ancestry

PIXELS = alexnet_tf.Preprocessing(12, 14, 1, (128.0,), 64.0)
AS_THEY_ARE = alexnet_tf.Preprocessing(12, 14, 1, (0.0,), 1.0)


def own_model(*first):
    return keras.Sequential(
        [
            keras.Input((12, 12, 1)),
            *first,
            keras.layers.Flatten(),
            keras.layers.Dense(4, "relu"),
            keras.layers.Dense(3),
        ]
    )


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    path = tmp_path_factory.mktemp("networks") / "export"
    return alexnet_tf.export(own_model(), path, class_names=CLASS_NAMES, preprocessing=PIXELS)


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (2, 12, 12, 1), np.uint8)


@pytest.fixture
def picture(tmp_path):
    levels = np.random.default_rng(1).integers(0, 256, (20, 20), np.uint8)
    Image.fromarray(levels).save(tmp_path / "picture.png")
    return tmp_path / "picture.png"


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))], ids=["copy", "pickle"]
)
def test_a_copy_answers_by_its_own_weights_and_is_known_as_the_network_is(copied):
    model = alexnet_tf.AlexNet("lenet5", classes=3, classifier_activation=None)
    origin = {"file": "lenet.npz", "licence": "BSD"}
    ancestry.note(model, "lenet.npz", None, origin)
    network = networks.of_keras(model, CLASS_NAMES, None)
    ancestry.note(network.model, "lenet.npz", None, origin)
    images = np.random.default_rng(0).integers(0, 256, (2, 28, 28, 1), np.uint8)
    before = network.probabilities(images)
    kept = copied(network)
    network.model.layers[-1].set_weights([np.zeros((84, 3)), np.log([0.2, 0.7, 0.1])])
    np.testing.assert_allclose(network.probabilities(images), [[0.2, 0.7, 0.1]] * 2, rtol=1e-5)
    np.testing.assert_array_equal(kept.probabilities(images), before)
    assert (kept.model.variant, kept.model.dropout_rate) == ("lenet5", network.model.dropout_rate)
    assert ancestry.of(kept.model).descent == origin
    assert copy.copy(kept).model is kept.model


@pytest.mark.long
def test_a_copy_of_an_export_answers_by_its_graph_until_its_model_is_asked_for(exported, images):
    network = alexnet_tf.load(exported)
    kept, before = copy.deepcopy(network), network.probabilities(images)
    network.model.layers[-1].set_weights([np.zeros((4, 3)), np.log([0.2, 0.7, 0.1])])
    np.testing.assert_array_equal(kept.probabilities(images), before)
    changed = copy.deepcopy(network)
    np.testing.assert_allclose(changed.probabilities(images), [[0.2, 0.7, 0.1]] * 2, rtol=1e-5)


@pytest.mark.long
def test_an_export_answers_by_the_weights_that_its_model_has_now(exported, images, picture):
    network = alexnet_tf.load(exported)
    before, said = network.probabilities(images), network.classify(picture)
    np.testing.assert_allclose(network.answer(picture.read_bytes())[0][1], said[0][1])
    same = network.model
    np.testing.assert_allclose(network.probabilities(images), before, rtol=1e-5)
    same.layers[-1].set_weights([np.zeros((4, 3)), np.log([0.2, 0.7, 0.1])])
    expected = [[0.2, 0.7, 0.1]] * 2
    np.testing.assert_allclose(network.probabilities(images), expected, rtol=1e-5)
    np.testing.assert_allclose(network.classifier().probabilities(images), expected, rtol=1e-5)
    assert dict(network.classify(picture))[CLASS_NAMES[1]] == pytest.approx(0.7)
    np.testing.assert_array_equal(alexnet_tf.load(exported).probabilities(images), before)


@pytest.mark.long
def test_what_a_notebook_shows_of_a_network_is_short(exported):
    network = networks.load(exported)
    assert len(str(network.settings)) > 3000 and network.path in repr(network)
    assert len(repr(network)) < 600


def test_layers_that_were_changed_in_the_model_of_an_export_are_not_exported(exported, tmp_path):
    network = alexnet_tf.load(exported)
    network.model.layers[-2].activation = keras.activations.tanh
    for form in ("keras", "saved_model"):
        with pytest.raises(UserError, match="layers of .* were changed in its model; pass the mo"):
            alexnet_tf.export(network, tmp_path / "export", format=form)
    assert not (tmp_path / "export").exists()


def test_a_model_of_ones_own_that_subtracts_its_mean_wants_to_know_the_rest():
    of_export = PixelNormalization((128.0,), 64.0, "own")
    with pytest.raises(UserError, match=r"preprocessing= is missing: .*Preprocessing\(12, RESIZE"):
        networks.pixels_of(own_model(of_export), None)
    with pytest.raises(UserError, match=r"so does the model.*; pass mean=\(0.0,\) and std=1.0"):
        networks.pixels_of(own_model(of_export), PIXELS)
    assert networks.pixels_of(own_model(of_export), AS_THEY_ARE) == AS_THEY_ARE


@pytest.mark.long
@pytest.mark.parametrize("side", [12, 1])
def test_a_model_that_puts_out_maps_is_not_exported(side, tmp_path):
    images = keras.Input((12, 12, 1))
    maps = keras.layers.AveragePooling2D(12 // side)(images)
    model = keras.Model(images, keras.layers.Dense(3)(maps))
    with pytest.raises(UserError, match=rf"outputs \(None, {side}, {side}, 3\), .*Flatten"):
        alexnet_tf.export(
            model, tmp_path / "maps", format="keras", class_names=CLASS_NAMES, preprocessing=PIXELS
        )
    assert not [*tmp_path.iterdir()]


@pytest.mark.long
def test_what_ends_in_a_mean_of_layers_has_no_features(exported, tmp_path):
    images = keras.Input((12, 12, 1))
    x = keras.layers.Flatten()(images)
    logits = keras.layers.Average()([keras.layers.Dense(3)(x) for _ in range(2)])
    told = {"class_names": CLASS_NAMES, "preprocessing": PIXELS}
    version = alexnet_tf.export(keras.Model(images, logits), tmp_path / "export", **told)
    expected = {"serving_default", "images", "images_uint8", "edge"}
    assert set(artifacts.load(version).signatures) == expected
    assert set(artifacts.load(exported).signatures) == expected | {"features"}
    features = [artifacts.read_manifest(one).features for one in (version, exported)]
    assert features == ["", alexnet_tf.load(exported).model.layers[-2].name]
