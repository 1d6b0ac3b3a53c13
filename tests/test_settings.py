"""Settings come from anybody's files: all is checked before anything is built from them."""

import dataclasses
import json

import keras
import pytest

from alexnet_tf.manifest import Manifest
from alexnet_tf.preprocessing import Preprocessing
from alexnet_tf.settings import Settings

PIXELS = {"image_size": 28, "resize": 32, "channels": 1, "mean": [100.0], "std": 128.0}
STORED = {
    "variant": "lenet5",
    "image_size": 28,
    "class_names": ["cat", "dog"],
    "dropout_rate": 0.5,
    "preprocessing": PIXELS,
    "flags": {"dataset": "shapes", "data_dir": "/pictures", "seed": 3},
    "versions": {"keras": "3"},
    "training_pictures": 60,
}
COLOUR = {
    "variant": "paper",
    "image_size": 227,
    "preprocessing": {
        "image_size": 227,
        "resize": 256,
        "channels": 3,
        "mean": [1, 2, 3],
        "std": 1,
        "colour_pca": [[1, 0, 0], [0, 2, 0], [0, 0, 3]],
        "noise_divides": True,
    },
}


def test_settings_are_read_and_written_as_they_are():
    settings = Settings.from_json(json.dumps(STORED))
    assert settings.preprocessing == Preprocessing(28, 32, 1, (100.0,), 128.0)
    assert settings.class_names == ("cat", "dog") and settings.flags["data_dir"] == "/pictures"
    assert settings.others == {"versions": {"keras": "3"}, "training_pictures": 60}
    pixels = PIXELS | {"colour_pca": None, "noise_divides": False}
    assert settings.to_json() == STORED | {"preprocessing": pixels}
    assert Settings.from_json(settings.to_json()) == settings


def test_figures_of_a_training_are_figures_too():
    figures = {"examples": 240, "bad_pictures": 0, "loss": 2.31, "top_1": 0.57, "top_5": 1.0}
    figures |= {"only_answer": 3, "evaluated_on": "test", "train_images_per_s": None}
    assert Settings.from_json(STORED | {"source": {"published": figures}}).source == {
        "published": figures
    }


def test_tuples_and_lists_are_the_same_settings():
    settings = Settings.from_json(STORED | COLOUR)
    assert settings.preprocessing.colour_pca == ((1.0, 0.0, 0.0), (0.0, 2.0, 0.0), (0.0, 0.0, 3.0))
    assert Settings.from_json(json.dumps(settings.to_json())) == settings


@pytest.mark.parametrize(
    "change,message",
    [
        ({"variant": "vgg"}, "variant 'vgg' is unknown"),
        ({"variant": ["lenet5"]}, "variant is a list"),
        ({"data_fingerprint": "1f"}, "a lenet5 of an earlier version, with sigmoids"),
        ({"dropout_rate": 1}, r"dropout_rate is 1, not in \[0, 1\)"),
        ({"dropout_rate": -0.1}, "not in"),
        ({"dropout_rate": float("nan")}, "dropout_rate is nan"),
        ({"dropout_rate": True}, "is True"),
        ({"dropout_rate": "0.5"}, "dropout_rate is '0.5'"),
        ({"min_probability": 1.01}, r"min_probability is 1.01, not in 0..1"),
        ({"min_probability": float("nan")}, "min_probability is nan"),
        ({"min_probability": "0.5"}, "min_probability is '0.5'"),
        ({"image_size": 32}, "image_size is 32, but 28"),
        ({"class_names": ["cat"]}, "1 class names: a classifier needs two"),
        ({"class_names": "catdog"}, "class_names is 'catdog', of the type str"),
        ({"class_names": ["cat", 3]}, "a class name is 3"),
        ({"class_names": ["cat", " "]}, "empty"),
        ({"class_names": ["cat", "d\nog"]}, "'d.nog' holds a control character or a line"),
        ({"class_names": ["cat", "d\u2028og"]}, "line break"),
        ({"class_names": ["cat", "\x1b[2J"]}, "control"),
        ({"class_names": ["cat", "\udc80"]}, "control"),
        ({"class_names": ["cat", "\x85"]}, "empty|control"),
        ({"class_names": ["cat", "x" * 256]}, "longer than 255"),
        ({"class_names": ["dog", "cat", "dog"]}, "'dog' is given to two outputs, 0 and 2; give"),
        ({"class_names": ["é", "e\u0301"]}, "two outputs"),  # one letter, written in two ways
        ({"class_names": ["cat", "\ufeffcat "]}, "two outputs"),
        ({"flags": {"dataset": "gs://bucket/x"}}, "not the name of a data set"),
        ({"flags": []}, "flags is"),
        ({"flags": {"dataset": "huggingface:x"}}, "not the name of a data set"),
        ({"flags": {"data_dir": 3}}, "data_dir is 3"),
        ({"flags": {"train_split": 5}}, "train_split is 5"),
        ({"flags": {"test_split": ["test"]}}, "test_split is a list"),
        ({"flags": {"seed": -1}}, "seed is -1"),
        ({"flags": {"seed": 2**31}}, "seed is 2147483648"),
        ({"source": {}}, "source lacks published"),
        ({"source": {"published": {"top_1": 57.1}}}, "the published 'top_1' is 57.1"),
        ({"source": {"published": []}}, "published is a list"),
        ({"source": {"published": {"loss": "\x1b[2J"}}}, r"the published 'loss' is '\\x1b\[2J'"),
        ({"preprocessing": None}, "preprocessing is None"),
    ],
)
def test_entries_that_nobody_can_mean_are_refused(change, message):
    with pytest.raises(ValueError, match=message) as error:
        Settings.from_json(STORED | change)
    assert "\n" not in str(error.value) and len(str(error.value)) < 200


@pytest.mark.parametrize(
    "change,message",
    [
        ({"image_size": 28.5}, "image_size is 28.5, not a whole number"),
        ({"image_size": True}, "is True"),
        ({"image_size": 5}, "from 12 to"),
        ({"image_size": 10**400}, "a huge number"),
        ({"resize": 27}, "resize is 27, not a whole number from 28 to 8192"),
        ({"resize": 8193}, "8193"),
        ({"channels": 3}, "channels is 3, not 1"),
        ({"mean": [1.0, 2.0]}, "mean has 2 numbers for 1 "),
        ({"mean": 100.0}, "mean is 100.0, of the type float"),
        ({"mean": [float("inf")]}, "holds inf"),
        ({"mean": ["1"]}, "mean holds '1'"),
        ({"mean": [10**400]}, "mean holds a huge number"),
        ({"std": 0}, "std is 0, not a positive"),
        ({"std": -1.0}, "std is -1.0"),
        ({"std": float("nan")}, "std is nan"),
        ({"std": 1e-300}, "std is 1e-300"),
        ({"code": 1}, "no entry 'code'"),
        ({"noise_divides": 1}, "noise_divides is 1"),
        ({"colour_pca": [[1, 2, 3]]}, "not 1 rows of 1"),
        ({"colour_pca": 7}, "colour_pca is 7"),
        ({"colour_pca": [[float("nan")]]}, "holds nan"),
    ],
)
def test_pixels_that_nobody_can_mean_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        Settings.from_json(
            STORED | {"preprocessing": PIXELS | change, "image_size": change.get("image_size", 28)}
        )


def test_what_is_missing_is_named():
    with pytest.raises(ValueError, match="its settings lack preprocessing, variant"):
        Settings.from_json({"class_names": ["cat", "dog"]})
    with pytest.raises(ValueError, match="preprocessing lacks std"):
        Settings.from_json(
            STORED
            | {"preprocessing": {name: value for name, value in PIXELS.items() if name != "std"}}
        )


@pytest.mark.parametrize(
    "content,message",
    [
        (b"{", "Expecting"),
        (b"\xff", "decode"),
        (b"[]", "the whole is a list"),
        (b"null", "the whole is None"),
        (b"[" * 100_000, "too deeply"),
        (b" " * (2**23 + 1), "bytes of settings"),
    ],
)
def test_text_that_is_none_is_refused(content, message):
    with pytest.raises(ValueError, match=message):
        Settings.from_json(content)


def test_a_stranger_names_no_folder_and_no_giant():
    settings = Settings.from_json(STORED)
    expected = {"dataset": "shapes", "data_dir": None, "seed": 3}
    assert settings.of_a_stranger().flags == expected
    assert dataclasses.replace(
        settings, flags={"dataset": "mnist:3.*.*"}
    ).of_a_stranger().flags == {"dataset": "mnist:3.*.*", "data_dir": None, "seed": 0}
    names = tuple(str(number) for number in range(50_001))
    large = dataclasses.replace(settings.preprocessing, image_size=513, resize=600)
    for change in ({"class_names": names}, {"preprocessing": large}):
        with pytest.raises(ValueError, match="more than a weights file may ask for"):
            dataclasses.replace(settings, **change).of_a_stranger()


def test_labels_are_as_many_as_the_classes_of_the_manifest():
    """Of more, the last would name nothing; of fewer, some answers would have no name."""
    manifest = {"variant": "lenet5", "preprocessing": PIXELS, "classes": 3}
    assert Manifest.from_json(manifest, ["a", "b", "c"]).labels == ("a", "b", "c")
    for labels in (["a", "b"], ["a", "b", "c", "d"]):
        with pytest.raises(ValueError, match=f"{len(labels)} labels for 3 classes"):
            Manifest.from_json(manifest, labels)


def test_a_network_of_ones_own_is_built_more_than_once():
    """Keras takes entries out of an architecture that it reads."""
    inputs = keras.Input((28, 28, 1))
    outputs = keras.layers.Dense(3)(keras.layers.Flatten()(inputs))
    architecture = keras.saving.serialize_keras_object(keras.Model(inputs, outputs))
    pixels = Preprocessing(28, 32, 1, (120.0,), 64.0)
    settings = Settings("own", pixels, ("a", "b", "c"), architecture=architecture)
    before = json.dumps(settings.to_json())
    assert [settings.build().output_shape for _ in range(2)] == [(None, 3)] * 2
    assert json.dumps(settings.to_json()) == before
