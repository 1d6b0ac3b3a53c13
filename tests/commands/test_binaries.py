"""The commands that users type, as processes of their own: pictures in, an answer out; and what
they say to mistakes.
"""

import json
import os
import pathlib
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from conftest import tool
from PIL import Image

ROOT = pathlib.Path(__file__).parents[2]


# An export needs neither this package nor Keras; files of several sizes and formats go in as one
# batch.
_PLAIN_TENSORFLOW = """
import sys
sys.modules["alexnet_tf"] = sys.modules["keras"] = None
import tensorflow as tf
classify = tf.saved_model.load("exports/1").signatures["serving_default"]
answer = classify(image_bytes=tf.constant([open(name, "rb").read() for name in sys.argv[1:]]))
assert answer["probabilities"].shape == (9, 3)
assert answer["names"].shape == answer["scores"].shape == (9, 3)
assert float(abs(tf.reduce_sum(answer["probabilities"], 1) - 1).numpy().max()) < 1e-5
"""


@pytest.mark.long
def test_pictures_to_answer_and_back_again(run, picture_folder, tmp_path):
    data = ["--dataset=folder", f"--data_dir={picture_folder}"]
    train = [
        "-m",
        "alexnet_tf.train",
        *data,
        "--variant=half",
        "--image_size=67",
        "--batch_size=6",
        "--learning_rate=0.002",
        "--xla=off",
        "--schedule=constant",
        "--model_dir=model",
        "--dropout_rate=0.3",
    ]
    run(*train, "--epochs=1", cwd=tmp_path)
    first = (tmp_path / "model/metrics.jsonl").read_text().splitlines()
    run(*train, "--epochs=3", "--json=train.json", cwd=tmp_path)  # goes on
    log = (tmp_path / "model/metrics.jsonl").read_text().splitlines()
    assert log[:2] == first and len(log) == 6  # two lines an epoch
    assert list(tmp_path.glob("model/tensorboard/events*"))
    settings = json.loads((tmp_path / "model/settings.json").read_text())
    assert (
        settings["flags"]["learning_rate"] == 0.002
        and settings["versions"]["tensorflow"] == tf.__version__
    )
    assert settings["class_names"] == ["checked disc", "plain star", "striped disc"]

    run("-m", "alexnet_tf.evaluate", "--model_dir=model", "--json=evaluate.json", cwd=tmp_path)
    trained, evaluated = (
        json.loads((tmp_path / f"{name}.json").read_text()) for name in ("train", "evaluate")
    )
    assert evaluated["examples"] == 9
    for name in ("loss", "top_1", "top_5"):
        assert evaluated[name] == pytest.approx(trained[name], rel=1e-5)

    for figure in ("curves", "filters"):
        run(
            tool("visualize.py"),
            f"--figure={figure}",
            "--model_dir=model",
            f"--output={figure}.png",
            cwd=tmp_path,
        )
        drawn = np.asarray(Image.open(tmp_path / f"{figure}.png").convert("L"))
        assert min(drawn.shape) > 300 and drawn.std() > 10

    export = ["-m", "alexnet_tf.export", "--model_dir=model", "--output=exports"]
    run(*export, cwd=tmp_path)
    assert "already exists" in run(*export, cwd=tmp_path)
    run(*export, "--version=next", cwd=tmp_path)
    assert sorted(os.listdir(tmp_path / "exports")) == ["1", "2"]
    variables = (tmp_path / "exports/1/variables/variables.data-00000-of-00001").stat().st_size
    parameters = sum(
        np.prod(array.shape)
        for array in np.load(next(tmp_path.glob("model/checkpoints/*/weights.npz"))).values()
    )
    assert variables < 1.02 * 4 * parameters  # each weight once

    subprocess.run(
        [sys.executable, "-c", _PLAIN_TENSORFLOW, *sorted((picture_folder / "test").glob("*/*"))],
        cwd=tmp_path,
        check=True,
    )

    run(
        tool("convert_tflite.py"),
        "--saved_model=exports/1",
        "--output=net.tflite",
        "--json=convert.json",
        cwd=tmp_path,
    )
    assert json.loads((tmp_path / "convert.json").read_text())["top-1 agreement"] == 1.0
    assert (tmp_path / "net.tflite").stat().st_size < 1.01 * 4 * parameters
    with zipfile.ZipFile(tmp_path / "net.tflite") as archive:
        assert archive.read("labels.txt").decode().splitlines() == settings["class_names"]
    operators = {
        detail["op_name"] for detail in Interpreter(str(tmp_path / "net.tflite"))._get_ops_details()
    }
    assert not [name for name in operators if "Flex" in name or name == "CUSTOM"]

    pictures = sorted((picture_folder / "test").glob("*/*"))
    answers = {}
    for model in ("exports/1", "net.tflite"):
        run(tool("classify.py"), f"--model={model}", "--json=answers.json", *pictures, cwd=tmp_path)
        answers[model] = json.loads((tmp_path / "answers.json").read_text())
    correct = 0
    for picture in map(str, pictures):
        by_saved_model, by_tflite = (dict(answers[model][picture]) for model in answers)
        assert by_saved_model.keys() == by_tflite.keys() == set(settings["class_names"])
        for name, probability in by_saved_model.items():
            assert by_tflite[name] == pytest.approx(probability, abs=1e-4)
        correct += max(by_saved_model, key=by_saved_model.get) == pathlib.Path(picture).parent.name
    # The bytes signature sees the pixels that evaluation saw.
    assert correct / len(pictures) == pytest.approx(evaluated["top_1"])

    for change, message in (
        ("--variant=paper", "variant half, not paper"),
        ("--image_size=99", "image_size 67, not 99"),
        ("--batch_size=3", "batch_size 6, not 3"),
        ("--seed=5", "seed 0, not 5"),
        ("--dropout_rate=0.5", "dropout_rate 0.3, not 0.5"),
    ):
        assert f"holds a model of {message}" in run(*train, change, cwd=tmp_path, status=2)
    (picture_folder / "train/checked disc").rename(picture_folder / "train/zebra")
    (picture_folder / "test/checked disc").rename(picture_folder / "test/zebra")
    assert "class_names checked disc at place 0, not plain star" in run(
        *train, cwd=tmp_path, status=2
    )


@pytest.mark.long
def test_defaults_and_advice_are_those_of_the_variant(run, picture_folder, tmp_path):
    command = [
        "-m",
        "alexnet_tf.train",
        "--dataset=folder",
        f"--data_dir={picture_folder}",
        "--batch_size=6",
        "--variant=lenet5",
        "--xla=off",
        "--epochs=1",
        "--model_dir=model",
    ]
    run(*command, "--dry_run", cwd=tmp_path)
    assert "rate 0.05" in run.notes
    run(*command, "--learning_rate=0", cwd=tmp_path)  # which learns nothing
    assert "--learning_rate=0: no weight will change" in run.notes
    assert "that of guessing" not in run.notes  # three steps tell nothing
    run(*command, "--learning_rate=0", "--dry_run", cwd=tmp_path)
    assert "model is already trained" in run.notes and "nothing is wrong" in run.notes


@pytest.mark.parametrize(
    "arguments,message",
    [
        (["--variant=vgg"], "paper"),
        (["--batch_size=0"], "batch_size"),
        (["--no_such_flag"], "no_such_flag"),
        (["--learning_rate=-1"], "learning_rate"),
        (
            ["--learning_rate=nan", "--dataset=folder", "--data_dir=pictures", "--batch_size=6"],
            "--learning_rate=nan is not a finite number",
        ),
        (["stray"], "'stray' does not belong to a flag"),
        (
            ["--batch_size=7", "--replicas=2"],
            "--batch_size=7 does not divide among 2 replicas; use a multiple of 2",
        ),
        (
            ["--image_size=66", "--batch_size=6", "--dataset=folder", "--data_dir=pictures"],
            "its smallest is 67",
        ),
        (
            ["--tower_devices=CPU:0,CPU:1", "--replicas=2"],
            "a replica of tf.distribute is one device",
        ),
        (["--tower_devices=CPU:0,CPU:1", "--xla=on"], "XLA compiles a step for one device"),
        (["--tower_devices=CPU:0,CPU:1", "--variant=half"], "--variant=half has no two towers"),
        (["--tower_devices=GPU:7,CPU:0"], "there is no device GPU:7 here"),
        (["--tower_devices=CPU:0"], "name two devices"),
        (["--variant=lenet5", "--dropout_rate=0.1"], "--dropout_rate=0.1 has no effect with --va"),
        (["--variant=lenet5", "--colour_noise=0.1"], "--colour_noise=0.1 has no effect with --va"),
        (
            ["--variant=conv6", "--init=variant"],
            "--init=variant has no effect with --variant=conv6",
        ),
        (["--deterministic", "--xla=on"], "no deterministic gradient of max pooling"),
        (["--distribution=multi_worker"], "reads the environment variable TF_CONFIG"),
        (
            ["--tower_devices=CPU:0,CPU:1", "--distribution=multi_worker"],
            "a replica of tf.distribute is one device",
        ),
        (["--data_dir=pictures/train"], "pass --dataset=folder to read them"),
        (["--json=no/such/folder.json"], "--json=no/such/folder.json cannot be written"),
        (["--dataset=folder", "--data_dir=nowhere"], "--data_dir=nowhere is not a folder"),
        (["--dataset=folder", "--data_dir=pictures", "--model_dir=file/model"], "file is a file"),
        (
            ["--dataset=folder", "--data_dir=pictures"],
            "--batch_size=128, but there are 21 training pictures",
        ),
    ],
)
def test_mistakes_get_one_line_and_write_nothing(run, picture_folder, tmp_path, arguments, message):
    (tmp_path / "file").write_text("")
    before = sorted(tmp_path.rglob("*"))
    line = run("-m", "alexnet_tf.train", *arguments, cwd=tmp_path, status=2)
    assert message in line and line.startswith("python -m alexnet_tf.train: ")
    assert sorted(tmp_path.rglob("*")) == before


def test_a_reader_that_leaves_early_is_no_mistake():
    command = (
        f"{sys.executable} {tool('describe.py')} --variant=lenet5 | true; exit ${{PIPESTATUS[0]}}"
    )
    result = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert "Traceback" not in result.stderr


def test_dry_run_checks_and_writes_nothing(run, picture_folder, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    run(
        "-m",
        "alexnet_tf.train",
        "--dataset=folder",
        f"--data_dir={picture_folder}",
        "--batch_size=6",
        "--image_size=67",
        "--dry_run",
        cwd=tmp_path,
    )
    assert sorted(tmp_path.rglob("*")) == before
    assert "training pictures: checked disc 7, plain star 7, striped disc 7" in run.notes


@pytest.mark.parametrize(
    "arguments,message",
    [
        (
            ["-m", "alexnet_tf.evaluate", "--model_dir=nothing"],
            "There is no nothing; name a model directory",
        ),
        (
            ["-m", "alexnet_tf.export", "--model_dir=nothing"],
            "There is no nothing; name a model directory",
        ),
        (
            [tool("visualize.py"), "--model_dir=nothing"],
            "--model_dir=nothing has no log of an epoch",
        ),
        (
            [tool("visualize.py"), "--figure=filters", "--model_dir=nothing"],
            "There is no nothing; name a model directory",
        ),
        ([tool("visualize.py"), "--output=curves.pdf"], "name a .png file"),
        (
            [tool("benchmark.py"), "--torch_python=nothing"],
            "--torch_python=nothing is not a program",
        ),
        (
            [tool("benchmark.py"), "--part=input", "--records=all"],
            "--records=all: numbers of 64 or more",
        ),
        ([tool("convert_tflite.py"), "--saved_model=nothing"], "nothing is not a version"),
        ([tool("classify.py"), "--model=nothing", "conftest.py"], "There is no nothing"),
        (
            [tool("classify.py"), "--model=conftest.py", "conftest.py"],
            "conftest.py is in none of the formats",
        ),
        ([tool("classify.py"), "--model=nothing"], "No picture given"),
        ([tool("classify.py"), "--model=nothing", "no.jpg"], "no.jpg does not exist; pass"),
    ],
)
def test_the_other_binaries_refuse_likewise(run, arguments, message):
    assert message in run(*arguments, cwd=ROOT / "tests", status=2)
