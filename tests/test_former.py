"""What the commands wrote before the package had folders still opens, answers as it did, and trains
on: tests/testdata/former.tar.xz, made by tests/proof/write_former.py.
"""

import json
import pathlib
import shutil
import tarfile

import numpy as np
import pytest

import alexnet_tf
from alexnet_tf.training import checkpoints

DATA = pathlib.Path(__file__).parent / "testdata/former.tar.xz"
FORMS = ("model", "weights.npz", "exports")


@pytest.fixture(scope="module")
def former(tmp_path_factory):
    """The folder with a network in each of FORMS, its pictures, and what was said of them."""
    folder = tmp_path_factory.mktemp("former")
    with tarfile.open(DATA) as archive:
        archive.extractall(folder, filter="data")
    return folder


@pytest.fixture(scope="module")
def expected(former):
    return json.loads((former / "expected.json").read_text())


@pytest.fixture(scope="module")
def opened(former):
    return {form: alexnet_tf.load(former / form) for form in FORMS}


def test_every_form_holds_the_same_network(opened):
    one = opened["model"]
    assert (one.settings.variant, one.step) == ("half", 1)
    assert one.class_names == ("plain star", "striped disc")
    for other in opened.values():
        assert (other.class_names, other.preprocessing) == (one.class_names, one.preprocessing)
        assert checkpoints.weights_digest(other.model) == checkpoints.weights_digest(one.model)
        assert other.record is None  # which are younger


@pytest.mark.parametrize("form", FORMS)
def test_every_form_answers_as_it_did(opened, former, expected, form):
    assert len(expected["answers"]) == 4
    for picture, answer in expected["answers"].items():
        found = dict(opened[form].classify(former / picture))
        assert found == pytest.approx(dict(answer), abs=1e-5)


def test_all_of_them_are_evaluated_as_they_were(run, former, expected):
    command = ["-m", "alexnet_tf", "evaluate", "--dataset=folder", "--data_dir=pictures"]
    models = [f"--models={','.join(FORMS)}", "--json=now.json"]
    run(*command, *models, cwd=former)
    now, then = json.loads((former / "now.json").read_text()), expected["evaluation"]
    for row in [now, *now["models"]]:
        for name in ("loss", "top_1", "top_5"):
            assert row[name] == pytest.approx(then[name], rel=1e-5), name


@pytest.mark.long
def test_a_training_goes_on_to_where_it_went(run, former, expected, tmp_path):
    shutil.copytree(former / "model", tmp_path / "model")
    command = [
        "-m",
        "alexnet_tf",
        "train",
        "--dataset=folder",
        f"--data_dir={former}/pictures",
        "--variant=half",
        "--image_size=67",
        "--batch_size=6",
        "--schedule=linear",
        "--xla=off",
        "--learning_rate=0.01",
    ]
    run(*command, "--model_dir=model", "--epochs=2", "--json=now.json", cwd=tmp_path)
    assert "model: continuing from step 1 of 2" in run.notes
    now, then = json.loads((tmp_path / "now.json").read_text()), expected["continued"]
    for name in ("examples", "loss", "top_1", "step"):
        assert now[name] == pytest.approx(then[name], rel=1e-4), name
    assert np.isfinite(now["loss"]) and now["loss"] != pytest.approx(
        expected["evaluation"]["loss"], rel=0.01
    )
