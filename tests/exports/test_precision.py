"""What a conversion costs, class by class, and what cannot be converted."""

import json

import numpy as np
import pytest
import tensorflow as tf
from binaries import call

from alexnet_tf.commands import convert as command
from alexnet_tf.errors import UserError
from alexnet_tf.exports import tflite
from alexnet_tf.jobs import convert as job
from alexnet_tf.manifest import Manifest
from alexnet_tf.pixels import Preprocessing
from alexnet_tf.settings import Settings


def answers(*classes):
    """Probabilities that say `classes`."""
    return 0.1 + 0.7 * np.eye(4, dtype=np.float32)[list(classes)]


def test_the_drop_of_each_class():
    labels = np.array([0, 0, 0, 0, 1, 1, 3])
    before, after = answers(0, 0, 0, 1, 1, 2, 3), answers(0, 1, 1, 1, 1, 1, 3)
    names = ["daisy", "iris", "of no picture", "pansy"]
    assert tflite.by_class(labels, after, before, names) == [
        {
            "class": "daisy",
            "pictures": 4,
            "accuracy": 0.25,
            "accuracy of the SavedModel": 0.75,
            "drop": 0.5,
        },
        {
            "class": "pansy",
            "pictures": 1,
            "accuracy": 1.0,
            "accuracy of the SavedModel": 1.0,
            "drop": 0.0,
        },
        {
            "class": "iris",
            "pictures": 2,
            "accuracy": 1.0,
            "accuracy of the SavedModel": 0.5,
            "drop": -0.5,
        },
    ]


@pytest.fixture
def convert(monkeypatch, tmp_path):
    """Runs the command with a conversion that gives `figures`."""
    monkeypatch.chdir(tmp_path)

    def run(figures, *flags):
        monkeypatch.setattr(command, "convert", lambda *_, **__: dict(figures))
        call(command, *flags)

    return run


def test_the_report_names_the_classes_that_lose_most(convert, capsys, tmp_path):
    rows = [
        {"class": f"class {number}", "pictures": 50, "drop": drop}
        for number, drop in enumerate((0.12, 0.04, 0.02, 0.02, 0.02, 0.02, 0.0, -0.3))
    ]
    convert({"accuracy": 0.9, "by class": rows}, "--quantization=int8", "--json=figures.json")
    printed = capsys.readouterr().out
    assert "   12.0  class 0 (50 pictures)\n    4.0  class 1 (50 pictures)\n" in printed
    assert printed.count("(50 pictures)") == 5 and printed.endswith("  and 1 more, in --json\n")
    assert '"by class"' in (tmp_path / "figures.json").read_text()
    convert({"accuracy": 0.9, "by class": rows[6:]})
    assert "lose" not in capsys.readouterr().out
    convert({"already exists": "from the same weights"})
    assert "lose" not in capsys.readouterr().out


@pytest.mark.parametrize("quantization", ["none", "float16"])
def test_a_bound_on_the_accuracy_of_exact_forms_is_refused(quantization, tmp_path):
    with pytest.raises(UserError, match="max_accuracy_drop=0.1 is for quantization=dynamic"):
        job.convert(tmp_path, tmp_path / "a.tflite", quantization, max_accuracy_drop=0.1)


@pytest.mark.parametrize(
    "pictures,agree,before,right,bound,advice",
    [
        (1000, 990, 900, 897, None, None),
        (1000, 979, 900, 900, None, "Use quantization=float16, or accept the drop with"),
        (1000, 990, 900, 896, None, "max_accuracy_drop=0.004."),
        (240, 239, 228, 227, None, None),  # one picture, and 0.42 points
        (240, 238, 228, 226, None, "max_accuracy_drop=0.009."),
        (240, 239, 228, 227, 0.003, "max_accuracy_drop=0.005."),
        (30, 29, 27, 26, None, None),  # one picture, and 97 % that agree
        (30, 28, 27, 25, None, "max_accuracy_drop=0.067."),
        (30, 28, 27, 25, 0.067, None),  # the advice can be followed
        (1000, 940, 900, 850, 0.05, None),
        (1000, 940, 900, 849, 0.05, "max_accuracy_drop=0.051."),
        (1000, 1000, 900, 900, 0.0, None),
        (30, 29, None, None, None, None),
        (30, 28, None, None, None, "Use quantization=float16. To compare the accuracy"),
    ],
)
def test_what_integers_may_cost(pictures, agree, before, right, bound, advice):
    figures = {"pictures compared": pictures, "top-1 agreement": agree / pictures}
    if before:
        figures |= {"accuracy": right / pictures, "accuracy of the SavedModel": before / pictures}
        figures["by class"] = []
    told = tflite.advice("int8", figures, bound)
    assert told is None if advice is None else advice in told


def test_what_floating_point_may_cost():
    figures = {"pictures compared": 1, "largest difference": 2e-4}
    assert tflite.advice("float16", figures) is None
    assert "Use another quantization" in tflite.advice("none", figures)


def test_an_export_that_does_not_say_how_it_was_trained_is_asked_for_its_data_set(
    convert, tmp_path
):
    pixels = Preprocessing(image_size=28, resize=32, channels=1, mean=(0.0,), std=1.0)
    settings = Settings("lenet5", pixels, ("even", "odd"))
    version = tmp_path / "net/1"
    for folder in ("assets", "assets.extra"):
        (version / folder).mkdir(parents=True)
    (version / "saved_model.pb").write_bytes(b"")
    (version / "assets/labels.txt").write_text("even\nodd\n")
    told = {
        name: value for name, value in Manifest(settings).to_json().items() if name != "training"
    }
    (version / "assets.extra/manifest.json").write_text(json.dumps(told))
    with pytest.raises(UserError, match="dataset= is missing: the network does not say which"):
        convert({}, "--saved_model=net", "--data_dir=pictures")


@pytest.mark.parametrize(
    "dtype,message",
    [
        (tf.float64, "kernel is in float64, but exports compute in float32; open or build"),
        (
            tf.float32,
            r"cannot be converted \('tf.Qr' op is neither a custom op nor .*--format=onnx",
        ),
    ],
)
def test_what_no_runtime_computes_is_refused_in_one_line(tmp_path, dtype, message):
    module = tf.Module()
    module._variables = [tf.Variable(tf.eye(4, dtype=dtype), name="kernel")]

    @tf.function(input_signature=[tf.TensorSpec([None, 4], tf.float32, name="images")])
    def edge(images):
        q, _ = tf.linalg.qr(tf.matmul(tf.cast(images, dtype), module._variables[0]))
        return {"probabilities": tf.cast(q, tf.float32)}

    tf.saved_model.save(module, tmp_path, {"edge": edge})
    with pytest.raises(UserError, match=message) as refused:
        tflite.convert(tmp_path, "none", [])
    assert "\n" not in str(refused.value)
