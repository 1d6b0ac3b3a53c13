"""Two processes that train together, and what they say when they cannot."""

import json
import subprocess

import numpy as np
import pytest
from conftest import CLASS_NAMES, write_lenet5, write_pictures

from alexnet_tf.network import surgery
from alexnet_tf.training import checkpoints
from alexnet_tf.training.optimizer import SGD2012
from alexnet_tf.training.state import TrainingState


def start(run, arguments, cwd, environment, command="train"):
    return subprocess.Popen(
        [
            run.programs.folder / "python",
            "-m",
            f"alexnet_tf.{command}",
            *arguments,
            "--distribution=multi_worker",
        ],
        cwd=cwd,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def weights(model_dir):
    newest = max((model_dir / "checkpoints").glob("step-*"))
    with np.load(newest / "weights.npz") as arrays:
        return dict(arrays)


@pytest.mark.long
def test_two_processes_train_as_one(run, picture_folder, tmp_path, worker_environments):
    arguments = [
        "--dataset=folder",
        f"--data_dir={picture_folder}",
        "--variant=lenet5",  # tests/training/test_training.py has towers and dropout on two devices
        "--batch_size=6",
        "--epochs=2",
        "--learning_rate=0.002",
        "--xla=off",
        "--schedule=constant",
        "--json=figures.json",
    ]
    run("-m", "alexnet_tf.train", *arguments, "--model_dir=alone", cwd=tmp_path)
    alone = json.loads((tmp_path / "figures.json").read_text())
    workers = [
        start(run, [*arguments, "--model_dir=together"], tmp_path, environment)
        for environment in worker_environments(kubernetes=True)
    ]
    answers = [worker.communicate() for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], answers
    assert "together:" in answers[0][0] and answers[1][0] == ""  # one of them tells
    together = json.loads((tmp_path / "figures.json").read_text())
    assert together["examples"] == alone["examples"] == 9
    assert together["loss"] == pytest.approx(alone["loss"], rel=1e-5)
    expected = weights(tmp_path / "alone")
    for name, value in weights(tmp_path / "together").items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-4, atol=1e-6, err_msg=name)


@pytest.mark.parametrize(
    "change,messages",
    [
        (
            ["--data_dir=nowhere"],
            ["Worker 1 refused to start", "--data_dir=nowhere is not a folder"],
        ),
        pytest.param(
            ["--learning_rate=0.3"],
            [
                "worker 1 differs from worker 0 in learning_rate. This one, worker 0, has"
                " --learning_rate=0.05.",
                "This one, worker 1, has --learning_rate=0.3. Start all with the same",
            ],
            marks=pytest.mark.long,
        ),
    ],
)
def test_a_worker_that_cannot_start_ends_both(
    run, picture_folder, tmp_path, worker_environments, change, messages
):
    arguments = [
        "--dataset=folder",
        f"--data_dir={picture_folder}",
        "--variant=lenet5",
        "--batch_size=6",
        "--xla=off",
        "--model_dir=model",
    ]
    workers = [
        start(run, arguments + more, tmp_path, environment)
        for more, environment in zip(([], change), worker_environments())
    ]
    for worker, message in zip(workers, messages):
        output, error = worker.communicate()
        assert worker.returncode == 2 and message in error and "Traceback" not in error, error
    assert not list((tmp_path / "model").glob("checkpoints/step-*"))


@pytest.mark.long
@pytest.mark.parametrize(
    "change,status,messages",
    [
        ([], 0, ["", ""]),
        (["--data_dir=other"], 2, ["worker 1 differs from worker 0 in data."] * 2),
        (["--model_dir=again"], 2, ["worker 1 differs from worker 0 in networks."] * 2),
        (["--data_dir=nowhere"], 2, ["Worker 1 refused to start", "=nowhere is not a folder"]),
    ],
)
def test_two_processes_evaluate_the_same(
    run, picture_folder, tmp_path, worker_environments, change, status, messages
):
    write_pictures(tmp_path / "other/test", 3, first=9)
    for name in ("model", "again"):
        write_lenet5(tmp_path / name, CLASS_NAMES)
    model = checkpoints.load_model(tmp_path / "again").model
    surgery.cool(model, 2.0)
    (optimizer := SGD2012()).build(model.trainable_variables)
    checkpoints.save(tmp_path / "again", model, optimizer, TrainingState(step=7))
    arguments = ["--dataset=folder", f"--data_dir={picture_folder}", "--model_dir=model"]
    arguments += ["--batch_size=2", "--json=figures.json"]
    workers = [
        start(run, arguments + more, tmp_path, environment, "evaluate")
        for more, environment in zip(([], change), worker_environments())
    ]
    for worker, message in zip(workers, messages):
        _, error = worker.communicate()
        assert worker.returncode == status and message in error and "Traceback" not in error, error
    assert (tmp_path / "figures.json").exists() == (status == 0)
