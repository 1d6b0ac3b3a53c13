"""What a conversion costs, class by class."""

import numpy as np
import pytest

from alexnet_tf.commands import convert as command
from alexnet_tf.errors import UserError
from alexnet_tf.exports import tflite


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
        for name in command.FLAGS:
            command.FLAGS[name].unparse()
        command.FLAGS(["convert", *flags])
        monkeypatch.setattr(command.jobs, "convert", lambda *_, **__: dict(figures))
        command.main()

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
    convert({"is there already": "from the same weights"})
    assert "lose" not in capsys.readouterr().out


@pytest.mark.parametrize("quantization", ["none", "float16"])
def test_a_bound_on_the_accuracy_of_exact_forms_is_refused(convert, quantization):
    with pytest.raises(UserError, match="--max_accuracy_drop=0.1 is for --quantization=dynamic"):
        convert({}, f"--quantization={quantization}", "--max_accuracy_drop=0.1")
