"""What becomes of the checkpoints that a training has written beside it: their errors, a signal,
the best weights.
"""

import concurrent.futures
import signal
import threading
import types

import numpy as np
import pytest
from conftest import LENET5_PIXELS
from trainings import Bar, one_device

import alexnet_tf
from alexnet_tf.errors import UserError
from alexnet_tf.training import checkpoints, loop, metrics, saving, stopping


def run(folder, model_dir, epochs, bar=None, **changes):
    """A training of lenet5, four steps an epoch; returns (figures, notes)."""
    notes = []
    network = alexnet_tf.train(
        model_dir,
        alexnet_tf.open_dataset("folder", folder),
        "lenet5",
        preprocessing=LENET5_PIXELS,
        strategy=one_device(),
        progress=bar or Bar(),
        note=notes.append,
        **{"batch_size": 6, "epochs": epochs, "xla": "off", "schedule": "constant"} | changes,
    )
    return network.figures, notes


@pytest.mark.long
def test_several_workers_leave_an_evaluation_too(picture_folder, tmp_path, monkeypatch):
    """In one process that believes that there is another, which says what this one does."""
    others = types.SimpleNamespace(
        worker_count=lambda _: 2, over_workers=lambda _, said: [said] * 2
    )
    monkeypatch.setattr(stopping, "devices", others)
    monkeypatch.setattr(stopping.StopSignal, "_AT_MOST_STEPS", 1)
    answers = loop.evaluation.Evaluation.answers

    def answer_and_signal(*arguments):
        signal.raise_signal(signal.SIGTERM)
        return answers(*arguments)

    monkeypatch.setattr(loop.evaluation.Evaluation, "answers", answer_and_signal)
    with pytest.raises(SystemExit) as stopped:
        run(picture_folder, tmp_path, 1)
    assert stopped.value.code == 143 and checkpoints.newest_state(tmp_path).to_evaluate
    assert not evaluations(tmp_path)
    monkeypatch.undo()
    # It is made up for, twice where its checkpoint was not written, and told once.
    with monkeypatch.context() as full, pytest.raises(UserError, match="the disk is full"):
        full.setattr(checkpoints, "write", fail)
        run(picture_folder, tmp_path, 1)
    assert len(evaluations(tmp_path)) == 1
    run(picture_folder, tmp_path, 1)
    assert len(evaluations(tmp_path)) == 1


@pytest.mark.long
def test_an_evaluation_that_is_killed_costs_no_step(picture_folder, tmp_path, monkeypatch):
    run(picture_folder, tmp_path / "whole", 2)
    whole = checkpoints.load_model(tmp_path / "whole").model.get_weights()
    with monkeypatch.context() as killed, pytest.raises(MemoryError):
        killed.setattr(loop.evaluation.Evaluation, "answers", run_out_of_memory)
        run(picture_folder, tmp_path / "killed", 2)
    state = checkpoints.newest_state(tmp_path / "killed")
    assert (state.step, state.to_evaluate, state.figures) == (4, True, None)
    _, notes = run(picture_folder, tmp_path / "killed", 2)
    assert any("continuing from step 4 of 8" in note for note in notes)
    assert [row["step"] for row in evaluations(tmp_path / "killed")] == [4, 8]
    assert not checkpoints.newest_state(tmp_path / "killed").to_evaluate
    for array, same in zip(checkpoints.load_model(tmp_path / "killed").model.get_weights(), whole):
        np.testing.assert_array_equal(array, same)


@pytest.mark.long
def test_a_run_that_is_cut_shorter_ends_with_the_best_weights(
    picture_folder, tmp_path, monkeypatch
):
    answers, asked = loop.evaluation.Evaluation.answers, []

    def die_in_the_third(*arguments):
        asked.append(None)
        return answers(*arguments) if len(asked) < 3 else run_out_of_memory()

    how = {"patience": 5, "learning_rate": 0.0}
    with monkeypatch.context() as killed, pytest.raises(MemoryError):
        killed.setattr(loop.evaluation.Evaluation, "answers", die_in_the_third)
        run(picture_folder, tmp_path, 3, **how)
    figures, notes = run(picture_folder, tmp_path, 2, **how)
    assert figures["step"] == 3 and "the best weights are those after step 3" in notes[-1]


def evaluations(model_dir):
    return [row for row in metrics.read_log(model_dir) if "loss" in row]


def fail(*arguments):
    raise UserError("the disk is full")


def run_out_of_memory(*arguments):
    raise MemoryError


@pytest.mark.parametrize("stop_after", [pytest.param(None, marks=pytest.mark.long), 2])
def test_a_training_ends_with_the_error_of_a_checkpoint(
    picture_folder, tmp_path, monkeypatch, stop_after
):
    def save_and_fail(saver, *arguments, **others):
        save(saver, *arguments, **others)
        concurrent.futures.wait([saver._writing])

    save = saving.Saver.save
    monkeypatch.setattr(checkpoints, "write", fail)
    monkeypatch.setattr(saving.Saver, "save", save_and_fail)
    bar = Bar(stop_after)
    # not SystemExit, which would promise that the training goes on from there
    with pytest.raises(UserError, match="the disk is full"):
        run(picture_folder, tmp_path, 2, bar)
    assert bar.steps == (stop_after or 4)  # at once, not at the next checkpoint


@pytest.mark.long
def test_the_best_weights_are_read_when_they_are_written(picture_folder, tmp_path, monkeypatch):
    write, wait, waited = checkpoints.write, saving.Saver.wait, threading.Event()

    def write_when_waited_for(*arguments):
        waited.wait()
        write(*arguments)

    def wait_and_let_write(saver):
        if saver._writing:
            waited.set()
        wait(saver)

    monkeypatch.setattr(checkpoints, "write", write_when_waited_for)
    monkeypatch.setattr(saving.Saver, "wait", wait_and_let_write)
    figures, notes = run(picture_folder, tmp_path, 4, patience=1, learning_rate=0.0)
    assert any("the best weights are those after step 3" in note for note in notes), notes
    assert figures["step"] == 3
