"""A checkpoint is whole or not there; a damaged one is named and the one before it is taken."""

import errno
import hashlib
import json
import os
import pathlib
import shutil
import threading

import keras
import numpy as np
import pytest
from conftest import little_room

from alexnet_tf import disk
from alexnet_tf.errors import UserError
from alexnet_tf.pixels import Preprocessing
from alexnet_tf.settings import Settings
from alexnet_tf.training import checkpoints, saving
from alexnet_tf.training.optimizer import SGD2012
from alexnet_tf.training.state import TrainingState


@pytest.fixture
def trained():
    keras.utils.set_random_seed(1)
    inputs = keras.Input((4,))
    hidden = keras.layers.Dropout(0.5)(keras.layers.Dense(3, name="fc1")(inputs))
    model = keras.Model(inputs, keras.layers.Dense(2, name="fc2")(hidden))
    optimizer = SGD2012()
    optimizer.build(model.trainable_variables)
    return model, optimizer


def values(model, optimizer):
    return [np.asarray(v) for v in (*model.trainable_variables, *optimizer.velocities)]


def save(directory, trained, step):
    model, optimizer = trained
    for variable in (*model.trainable_variables, *optimizer.velocities):
        variable.assign(variable + step)
    checkpoints.save(directory, model, optimizer, TrainingState(step=step))
    return values(*trained)


def small(policy, rng):
    """A variant, as far as a digest goes, of such weights, which are numbers of float32."""
    layers = [keras.layers.Dense(3, name=name, dtype=policy) for name in ("fc2", "fc1")]
    model = keras.Sequential([keras.Input((3,)), *layers])
    model.variant = "small"
    for variable in model.weights:
        variable.assign(rng.normal(0, 1, variable.shape).astype(np.float32))
    return model


def test_the_digest_is_that_of_float32_wherever_it_holds_the_numbers():
    single, double = (small(policy, np.random.default_rng(0)) for policy in ("float32", "float64"))
    expected = hashlib.sha256()  # as it stands in files
    for variable in sorted(single.weights, key=lambda variable: variable.path):
        expected.update(variable.path.encode() + np.asarray(variable.value, "<f4").tobytes())
    assert checkpoints.weights_digest(single) == expected.hexdigest()
    for one, other in zip(single.weights, double.weights):
        other._path = one.path  # Keras numbers the second model of a process
    assert checkpoints.weights_digest(double) == expected.hexdigest()
    for number in (1 / 3, 1e300):  # one is none of float32: all are what they are
        double.layers[0].bias.assign([number] * 3)
        expected = hashlib.sha256()
        for variable in sorted(double.weights, key=lambda variable: variable.path):
            expected.update(variable.path.encode() + np.asarray(variable.value, "<f8").tobytes())
        assert checkpoints.weights_digest(double) == expected.hexdigest()


def test_restores_weights_velocities_and_state_and_keeps_two(tmp_path, trained):
    for step in (5, 10, 15):
        saved = save(tmp_path, trained, step)
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == [
        "step-00000010",
        "step-00000015",
    ]
    for variable in (*trained[0].trainable_variables, *trained[1].velocities):
        variable.assign(variable * 0)
    assert checkpoints.restore(tmp_path, *trained) == TrainingState(step=15)
    for value, expected in zip(values(*trained), saved):
        np.testing.assert_array_equal(value, expected)
    assert int(trained[1].iterations.numpy()) == 15
    # plain NumPy reads it
    with np.load(tmp_path / "checkpoints/step-00000015/weights.npz") as arrays:
        assert sorted(arrays) == ["fc1/bias", "fc1/kernel", "fc2/bias", "fc2/kernel"]


def test_nothing_there_is_no_state(tmp_path, trained):
    assert checkpoints.restore(tmp_path, *trained) is None
    assert checkpoints.newest_step(tmp_path) == -1
    assert checkpoints.read_settings(tmp_path) is None


def damage(checkpoint, how):
    weights = checkpoint / "weights.npz"
    content = bytearray(weights.read_bytes())
    if how == "truncated":
        weights.write_bytes(content[: len(content) // 2])
    elif how == "flipped byte":
        content[content.index(b"\x93NUMPY") + 130] ^= 1  # in the data of the first array
        weights.write_bytes(content)
    elif how == "missing":
        weights.unlink()
    elif how == "empty state":
        (checkpoint / "state.json").write_text("")
    elif how == "pickle":
        np.savez(weights, **{"fc1/kernel": np.array({"a": 1}, dtype=object)})


@pytest.mark.parametrize("how", ["truncated", "flipped byte", "missing", "empty state", "pickle"])
def test_damage_is_told_and_the_checkpoint_before_is_taken(tmp_path, trained, how):
    before = save(tmp_path, trained, 5)
    save(tmp_path, trained, 10)
    damage(tmp_path / "checkpoints/step-00000010", how)
    told = []
    assert checkpoints.restore(tmp_path, *trained, report=told.append) == TrainingState(step=5)
    assert len(told) == 1 and "step-00000010 is damaged" in told[0]
    for value, expected in zip(values(*trained), before):
        np.testing.assert_array_equal(value, expected)


@pytest.mark.parametrize("file", ["weights.npz", "optimizer.npz", "state.json", "SHA256SUMS"])
def test_every_byte_is_guarded(tmp_path, trained, file):
    save(tmp_path, trained, 5)
    path = tmp_path / "checkpoints/step-00000005" / file
    content = path.read_bytes()
    for position in range(0, len(content), 7):
        path.write_bytes(
            content[:position] + bytes([content[position] ^ 0x10]) + content[position + 1 :]
        )
        with pytest.raises(UserError, match="none of its 1 checkpoints"):
            checkpoints.restore(tmp_path, *trained, report=lambda line: None)
    path.write_bytes(content)
    assert checkpoints.restore(tmp_path, *trained) == TrainingState(step=5)


def test_weights_that_are_not_finite_are_not_stored(tmp_path, trained):
    save(tmp_path, trained, 5)
    trained[0].get_layer("fc2").bias.assign([1.0, np.nan])
    with pytest.raises(UserError, match="fc2/bias is not finite after step 10"):
        save(tmp_path, trained, 10)
    assert checkpoints.newest_step(tmp_path) == 5 and checkpoints.restore(
        tmp_path, *trained
    ) == TrainingState(step=5)


def test_a_full_disk_leaves_the_checkpoint_before(tmp_path, trained):
    before = save(tmp_path, trained, 5)
    with (
        little_room(300),
        pytest.raises(
            UserError, match="step 10 could not be written .*File too large.*; make room"
        ),
    ):
        save(tmp_path, trained, 10)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-00000005"]
    checkpoints.restore(tmp_path, *trained)
    for value, expected in zip(values(*trained), before):
        np.testing.assert_array_equal(value, expected)


def test_if_all_are_damaged_training_does_not_start_from_nothing(tmp_path, trained):
    save(tmp_path, trained, 5)
    damage(tmp_path / "checkpoints/step-00000005", "truncated")
    with pytest.raises(UserError, match="none of its 1 checkpoints can be read"):
        checkpoints.restore(tmp_path, *trained, report=lambda line: None)


def test_a_save_that_was_killed_is_not_seen_and_is_removed(tmp_path, trained):
    save(tmp_path, trained, 5)
    unfinished = tmp_path / "checkpoints/.step-00000010.4711"
    unfinished.mkdir()
    (unfinished / "weights.npz").write_bytes(b"half")
    assert checkpoints.newest_step(tmp_path) == 5
    checkpoints.remove_unfinished(tmp_path)
    assert not unfinished.exists()
    assert checkpoints.restore(tmp_path, *trained) == TrainingState(step=5)


def test_a_checkpoint_that_is_written_again_is_there_at_any_moment(tmp_path, trained, monkeypatch):
    """What a kill leaves is what is on disk just then: copied before each call that matters."""
    before, moments = save(tmp_path / "model", trained, 5), []

    def copied_before(call):
        def called(*arguments, **others):
            moments.append(tmp_path / f"moment{len(moments)}")
            shutil.copytree(tmp_path / "model", moments[-1])
            return call(*arguments, **others)

        return called

    for module, name in ((np, "savez"), (disk, "flush"), (shutil, "rmtree")):
        monkeypatch.setattr(module, name, copied_before(getattr(module, name)))
    monkeypatch.setattr(pathlib.Path, "rename", copied_before(pathlib.Path.rename))
    after = save(tmp_path / "model", trained, 5)
    monkeypatch.undo()
    found = []
    for moment in moments:
        checkpoints.remove_unfinished(moment)
        assert [path.name for path in (moment / "checkpoints").iterdir()] == ["step-00000005"]
        assert checkpoints.restore(moment, *trained) == TrainingState(step=5)
        found.append([all(map(np.array_equal, values(*trained), one)) for one in (before, after)])
    assert found == sorted(found, reverse=True)
    assert found[0] == [True, False] and found[-1] == [False, True]


def test_a_checkpoint_that_cannot_be_written_again_stays(tmp_path, trained, monkeypatch):
    before = save(tmp_path, trained, 5)

    def no_space(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for module, name in ((disk, "flush"), (pathlib.Path, "rename")):
        with monkeypatch.context() as context, pytest.raises(UserError, match="No space left"):
            context.setattr(module, name, no_space)
            save(tmp_path, trained, 5)
        checkpoints.restore(tmp_path, *trained)
        for value, expected in zip(values(*trained), before):
            np.testing.assert_array_equal(value, expected)


def test_a_damaged_later_checkpoint_makes_way(tmp_path, trained):
    for step in (5, 10):
        save(tmp_path, trained, step)
    damage(tmp_path / "checkpoints/step-00000010", "truncated")
    save(tmp_path, trained, 7)
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == [
        "step-00000005",
        "step-00000007",
    ]


def test_settings_survive_and_damage_is_refused(tmp_path):
    stored = {
        "variant": "lenet5",
        "class_names": ["cat", "dog"],
        "preprocessing": {
            "image_size": 28,
            "resize": 32,
            "channels": 1,
            "mean": [1.0],
            "std": 1.0,
            "colour_pca": None,
            "noise_divides": False,
        },
    }
    checkpoints.write_settings(tmp_path / "new/model", stored)
    read = checkpoints.read_settings(tmp_path / "new/model")
    assert stored.items() <= read.items() and Settings.from_json(read).to_json() == read
    for damaged, reason in (
        (json.dumps(stored)[:5], "Unterminated"),
        (json.dumps(stored | {"dropout_rate": -5}), "dropout_rate is -5"),
        (json.dumps(stored | {"class_names": ["cat", "\x1b[2J"]}), "control character"),
        ("[" * 10**5, "nested too deeply"),
    ):
        (tmp_path / "new/model/settings.json").write_text(damaged)
        with pytest.raises(UserError, match=f"settings.json cannot be read .*{reason}"):
            checkpoints.read_settings(tmp_path / "new/model")


def test_a_directory_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file/model"):
        with pytest.raises(UserError, match="is a file"):
            checkpoints.check_writable(path)
    with pytest.raises(
        UserError, match="net.h5 is named like a file, .*; pass one, such as model_dir=.*t.$"
    ):
        checkpoints.check_writable(tmp_path / "net.h5")
    (tmp_path / "exports/3").mkdir(parents=True)
    with pytest.raises(UserError, match=r"exports holds versions of an export .3/., which would"):
        checkpoints.check_writable(tmp_path / "exports")
    checkpoints.check_writable(tmp_path / "new/model")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["exports", "file"]


@pytest.fixture
def gate(monkeypatch):
    """Writing waits until it is set."""
    opened, write = threading.Event(), checkpoints.write

    def wait_and_write(*arguments):
        opened.wait()
        write(*arguments)

    monkeypatch.setattr(checkpoints, "write", wait_and_write)
    return opened


def test_a_checkpoint_holds_what_was_there_when_it_was_asked_for(tmp_path, trained, gate):
    model, optimizer = trained
    with saving.Saver(tmp_path) as saver:
        before = [value.copy() for value in values(*trained)]
        saver.save(model, optimizer, TrainingState(step=5))
        for variable in (*model.trainable_variables, *optimizer.velocities):
            variable.assign_add(variable * 0 + 1)  # the training goes on
        saver.check()  # does not wait
        early = checkpoints.newest_step(tmp_path)
        gate.set()
    assert early == -1
    assert checkpoints.restore(tmp_path, *trained) == TrainingState(step=5)
    for value, expected in zip(values(*trained), before):
        np.testing.assert_array_equal(value, expected)


def test_a_copy_is_of_its_own(trained):
    model, optimizer = trained
    for arrays in checkpoints.copy_of(model, optimizer).values():
        assert arrays and all(array.flags.owndata for array in arrays.values())
    of_a_tensor = np.arange(3.0)[:]  # as TensorFlow may give one
    assert not np.shares_memory(checkpoints.owned(of_a_tensor), of_a_tensor)


def test_one_is_written_at_a_time_and_the_newest_stays(tmp_path, trained, monkeypatch):
    write, at_work, most, order = checkpoints.write, threading.Semaphore(1), [], []

    def alone(model_dir, arrays, state, keep):
        most.append(at_work.acquire(blocking=False))
        write(model_dir, arrays, state, keep)
        order.append(state.step)
        at_work.release()

    monkeypatch.setattr(checkpoints, "write", alone)
    with saving.Saver(tmp_path) as saver:
        for step in (5, 10, 15, 20):
            saver.save(*trained, TrainingState(step=step))
    assert most == [True] * 4 and order == [5, 10, 15, 20]
    assert checkpoints.restore(tmp_path, *trained) == TrainingState(step=20)


def fail(*arguments):
    raise UserError("the disk is full")


def test_an_error_of_writing_is_raised_where_the_training_asks(tmp_path, trained, monkeypatch):
    monkeypatch.setattr(checkpoints, "write", fail)
    with saving.Saver(tmp_path) as saver:
        saver.save(*trained, TrainingState(step=5))
        with pytest.raises(UserError, match="the disk is full"):
            saver.wait()
        saver.save(*trained, TrainingState(step=10))
        with pytest.raises(UserError, match="the disk is full"):
            saver.save(*trained, TrainingState(step=15))
        saver.save(*trained, TrainingState(step=20))
        with pytest.raises(UserError, match="the disk is full"):
            while True:
                saver.check()  # until it is done
    with pytest.raises(UserError, match="the disk is full"), saving.Saver(tmp_path) as saver:
        saver.save(*trained, TrainingState(step=5))


def test_of_two_errors_the_first_is_raised_and_the_other_told(tmp_path, trained, monkeypatch):
    monkeypatch.setattr(checkpoints, "write", fail)
    told = []
    with pytest.raises(ValueError, match="another"), saving.Saver(tmp_path, told.append) as saver:
        saver.save(*trained, TrainingState(step=5))
        raise ValueError("another")
    assert told == ["the disk is full"]


@pytest.mark.parametrize(
    "changes",
    [
        {"temperature": 0.0},
        {"temperature": float("nan")},
        {"temperature": "1"},
        {"step": -1},
        {"figures": "0.9"},
        {"bad_pictures": {}},
    ],
)
def test_a_state_that_makes_no_sense_is_damage(tmp_path, trained, changes):
    for step in (5, 10):
        save(tmp_path, trained, step)
    state = tmp_path / "checkpoints/step-00000010/state.json"
    state.write_text(json.dumps(json.loads(state.read_text()) | changes))
    disk.replace_text(
        state.with_name("SHA256SUMS"),
        disk.sums(state.parent, ["weights.npz", "optimizer.npz", "state.json"]),
    )
    told = []
    assert checkpoints.restore(tmp_path, *trained, report=told.append).step == 5
    (line,) = told
    assert "step-00000010 is damaged" in line and next(iter(changes)) in line


def test_checkpoints_that_are_gone_when_they_are_to_be_read_are_none(tmp_path, monkeypatch):
    pixels = Preprocessing(image_size=28, resize=32, channels=1, mean=(0.0,), std=1.0)
    settings = Settings("lenet5", pixels, ("even", "odd"), flags={"seed": 0})
    checkpoints.write_settings(tmp_path, settings.to_json())
    monkeypatch.setattr(checkpoints, "newest_step", lambda model_dir: 1)  # a moment ago
    with pytest.raises(UserError, match="holds no trained model; train one with alexnet train"):
        checkpoints.load_model(tmp_path)
