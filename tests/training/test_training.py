"""The step on one device and on two, resumption at any step, and the refusals of the loop."""

import functools
import json
import math
import shutil
import types

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import LENET5_PIXELS, write_pictures
from trainings import CPUS, Bar, one_device, plan, two_devices

from alexnet_tf import disk, preprocessing
from alexnet_tf.data import datasets, pipeline, shapes
from alexnet_tf.errors import UserError
from alexnet_tf.network.model import VARIANTS, build_model, smallest_image_size
from alexnet_tf.preprocessing import Preprocessing
from alexnet_tf.training import checkpoints, devices, evaluation, loop, metrics, non_finite, steps
from alexnet_tf.training.objective import Objective
from alexnet_tf.training.optimizer import LARS, SGD2012, Plateau

PIXELS = Preprocessing(
    image_size=67,
    resize=77,
    channels=3,
    mean=(120.0, 115.0, 110.0),
    std=1.0,
    colour_pca=((70.0, 72.0, 68.0), (25.0, 2.0, -28.0), (5.0, -9.0, 4.0)),
)


@pytest.fixture(autouse=True)
def _narrow(monkeypatch):
    """The paper's network but for the width of fc6 and fc7, of which most of a step's time and of a
    checkpoint's bytes would be.
    """
    monkeypatch.setitem(VARIANTS, "narrow", VARIANTS["paper"] | {"fc_units": 64})


def build(strategy, dropout_rate, rule=SGD2012, variant="narrow"):
    keras.utils.set_random_seed(3)
    with strategy.scope():
        size = VARIANTS[variant]["image_size"] if variant == "lenet5" else PIXELS.image_size
        model = build_model(variant, 3, size, dropout_rate)
        optimizer = rule(0.01)
        optimizer.build(model.trainable_variables)
    return model, optimizer


def some_steps(strategy, folder, count, dropout_rate=0.0, xla=True, variant="narrow"):
    model, optimizer = build(strategy, dropout_rate, variant=variant)
    pixels = LENET5_PIXELS if variant == "lenet5" else PIXELS
    step = steps.TrainStep(strategy, model, optimizer, pixels, batch_size=6, xla=xla)
    split = datasets.open_dataset("folder", folder).train
    batches = pipeline.distribute(
        strategy,
        functools.partial(pipeline.training_batches, split, pixels, 6, 0, way=pipeline.Way.COMMON),
    )
    sums = [
        [float(value) for value in step(next(batches), number, colour_noise=0.1)]
        for number in range(count)
    ]
    return [np.asarray(variable.value) for variable in model.trainable_variables], sums


@pytest.mark.long
@pytest.mark.parametrize("xla", [False, True])
def test_two_devices_change_the_weights_as_one_does(picture_folder, xla):
    """The mean of the loss is over the global batch, and so are the masks of dropout and the noise
    of colours.
    """
    ones, one_sums = some_steps(one_device(), picture_folder, 5, dropout_rate=0.5, xla=False)
    twos, two_sums = some_steps(two_devices(), picture_folder, 5, dropout_rate=0.5, xla=xla)
    np.testing.assert_allclose(two_sums, one_sums, rtol=1e-5)
    for one, two in zip(ones, twos):
        np.testing.assert_allclose(two, one, rtol=1e-5, atol=1e-7)
    start, _ = build(one_device(), 0.0)
    moved = max(
        np.abs(one - np.asarray(variable.value)).max()
        for one, variable in zip(ones, start.trainable_variables)
    )
    assert moved > 1e-4  # the comparison is of something


@pytest.mark.long
@pytest.mark.parametrize("variant", ["lenet5", "narrow"])
def test_xla_changes_the_weights_as_without(picture_folder, variant):
    compiled, _ = some_steps(one_device(), picture_folder, 3, xla=True, variant=variant)
    plain, _ = some_steps(one_device(), picture_folder, 3, xla=False, variant=variant)
    for one, two in zip(compiled, plain):
        np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-6)


@pytest.mark.long
def test_the_same_steps_change_the_weights_to_the_same_bits(picture_folder):
    first, first_sums = some_steps(one_device(), picture_folder, 2, dropout_rate=0.5, xla=False)
    again, again_sums = some_steps(one_device(), picture_folder, 2, dropout_rate=0.5, xla=False)
    assert first_sums == again_sums
    for one, two in zip(first, again):
        np.testing.assert_array_equal(one, two)


@pytest.mark.long
def test_dropout_is_drawn_anew_each_step_and_the_same_again_from_the_seed():
    """At a rate of 0 and for one batch only dropout can make the loss differ."""
    strategy = one_device()
    model, optimizer = build(strategy, 0.5)
    optimizer.learning_rate.assign(0.0)
    step = steps.TrainStep(strategy, model, optimizer, PIXELS, 6, xla=False)
    images = np.random.default_rng(0).integers(0, 255, (6, 67, 67, 3), dtype=np.uint8)
    batch = {"image": tf.constant(images), "label": tf.constant([0, 1, 2, 0, 1, 2], tf.int64)}
    losses = [float(step(batch, number)[0]) for number in (0, 1, 0)]
    assert losses[0] == losses[2] != losses[1]


@pytest.mark.long
def test_towers_on_two_devices_compute_there_and_change_the_weights_alike(picture_folder):
    split = datasets.open_dataset("folder", picture_folder).train
    batches = pipeline.training_batches(split, PIXELS, 6, seed=0, way=pipeline.Way.COMMON)
    batch = next(iter(batches))
    answers = []
    for placed in (None, CPUS):
        keras.utils.set_random_seed(3)
        model = build_model("narrow", 3, PIXELS.image_size, dropout_rate=0.0, tower_devices=placed)
        if placed:
            devices.place_towers(model, placed)
        optimizer = SGD2012(0.01)
        strategy = devices.across_towers(CPUS, "narrow", "auto", 0, "auto")
        step = steps.TrainStep(strategy, model, optimizer, PIXELS, 6, xla=False)
        for number in range(2):
            step(batch, number)
        answers.append([np.asarray(variable.value) for variable in model.trainable_variables])
    for one, two in zip(*answers):
        np.testing.assert_allclose(two, one, rtol=1e-5, atol=1e-7)
    for name, device in (("conv2a", "CPU:0"), ("conv2b", "CPU:1")):
        assert model.get_layer(name).kernel.value.device.endswith(device)
        velocity = optimizer.velocities[
            [v.path for v in model.trainable_variables].index(f"{name}/kernel")
        ]
        assert velocity.value.device.endswith(device)
    (graph,) = (function.graph for function in step.forward_backward._list_all_concrete_functions())
    for kind in ("Conv2D", "Conv2DBackpropFilter", "MaxPool", "MaxPoolGrad"):
        placed = [
            operation.device for operation in graph.get_operations() if operation.type == kind
        ]
        counts = [sum(device.endswith(cpu) for device in placed) for cpu in CPUS]
        assert counts[1] == len(placed) / 2 > 0, (kind, placed)


def run(folder, model_dir, the_plan, bar=None, rule=SGD2012, variant="lenet5", **arguments):
    """A training of the smallest network: the loop is the same for all."""
    model, optimizer = build(one_device(), 0.5, rule, variant)
    dataset, notes = datasets.open_dataset("folder", folder), []
    figures = loop.train(
        one_device(),
        model,
        optimizer,
        dataset,
        LENET5_PIXELS if variant == "lenet5" else PIXELS,
        the_plan,
        str(model_dir),
        progress=bar or Bar(),
        note=notes.append,
        **arguments,
    )
    return (
        [np.asarray(v) for v in (*model.trainable_variables, *optimizer.velocities)],
        figures,
        notes,
    )


def epochs(model_dir):
    """The lines of the log that come after an epoch."""
    return [row for row in metrics.read_log(model_dir) if "loss" in row]


# in mid-epoch; before the last evaluation
@pytest.mark.parametrize(
    "stop_after,variant",
    [
        (6, "lenet5"),
        *(pytest.param(*one, marks=pytest.mark.long) for one in ((12, "lenet5"), (6, "narrow"))),
    ],
)
def test_stopped_and_started_again_is_bitwise_the_whole_run(
    picture_folder, tmp_path, stop_after, variant
):
    whole, figures, _ = run(picture_folder, tmp_path / "whole", plan(3), variant=variant)
    assert (figures["examples"], figures["step"]) == (9, 12)
    with pytest.raises(SystemExit) as stopped:
        bar = Bar(stop_after=stop_after)
        run(picture_folder, tmp_path / "stopped", plan(3), bar, variant=variant)
    assert stopped.value.code == 143 and checkpoints.newest_step(tmp_path / "stopped") == stop_after
    # a signal does not wait for an evaluation
    assert len(epochs(tmp_path / "stopped")) == (stop_after - 1) // 4
    resumed, resumed_figures, notes = run(
        picture_folder, tmp_path / "stopped", plan(3), variant=variant
    )
    assert any(f"continuing from step {stop_after} of 12" in note for note in notes)
    assert not any("schedule now ends" in note for note in notes)
    assert resumed_figures["train_images_per_s"] > 0
    for one, two in zip(whole, resumed):
        np.testing.assert_array_equal(one, two)
    assert epochs(tmp_path / "whole") == epochs(tmp_path / "stopped") != []
    _, again_figures, notes = run(picture_folder, tmp_path / "stopped", plan(3), variant=variant)
    assert again_figures == resumed_figures and any("is already trained" in note for note in notes)


@pytest.fixture
def errors(monkeypatch):
    """Those that evaluations will find, one after the other."""
    left = []

    def figures():
        return {"examples": 9, "loss": 1.0, "top_1": 1 - left.pop(0), "top_5": 1.0}

    said = types.SimpleNamespace(figures=figures)
    monkeypatch.setattr(evaluation.Evaluation, "answers", lambda *arguments: [said])
    return left


def as_of_earlier_versions(checkpoint, *entries):
    """Takes `entries` out of the state of a checkpoint."""
    state = json.loads((checkpoint / "state.json").read_text())
    for name in entries:
        del state[name]
    (checkpoint / "state.json").write_text(json.dumps(state))
    files = "weights.npz", "optimizer.npz", "state.json"
    (checkpoint / "SHA256SUMS").write_text(disk.sums(checkpoint, files))


class Numbers(keras.callbacks.Callback):
    """What a callback is told of epochs."""

    def on_train_begin(self, logs=None):
        self.begun, self.ended = [], []

    def on_epoch_begin(self, epoch, logs=None):
        self.begun.append(epoch)

    def on_epoch_end(self, epoch, logs=None):
        self.ended.append(epoch)


@pytest.mark.long
def test_epochs_are_counted_as_they_were_trained_where_pictures_come_and_go(
    picture_folder, tmp_path
):
    folder, told = tmp_path / "model", Numbers()
    run(picture_folder, folder, plan(2))  # of 4 steps
    write_pictures(tmp_path / "more", 8, first=20)
    shutil.copytree(tmp_path / "more", picture_folder / "train", dirs_exist_ok=True)
    bar = Bar(stop_after=8)
    with pytest.raises(SystemExit):  # before the evaluation of the first epoch of 8
        run(picture_folder, folder, plan(3), bar, callbacks=[told])
    assert (told.begun, told.ended, told.params["epochs"]) == ([2], [], 4)
    assert bar.lines[-1].startswith("epoch 3/4,")
    *_, notes = run(picture_folder, folder, plan(2), callbacks=[told])
    assert (told.begun, told.ended, told.params["epochs"]) == ([], [2], 3)
    assert any(line.startswith("epoch 3: train loss") for line in notes)
    assert [(row["epoch"], row["step"]) for row in epochs(folder)] == [(1, 4), (2, 8), (3, 16)]
    for path in picture_folder.glob("train/*/2?.*"):
        path.unlink()
    bar = Bar()
    run(picture_folder, folder, plan(5), bar, callbacks=[told])
    assert (told.begun, told.ended, told.params["epochs"]) == ([3], [3], 4)
    assert bar.lines[-1].startswith("epoch 4/4,")
    as_of_earlier_versions(folder / "checkpoints/step-00000020", "epochs")
    run(picture_folder, folder, plan(6), callbacks=[told])
    assert (told.begun, told.ended, told.params["epochs"]) == ([5], [5], 6)


@pytest.mark.long
def test_what_patience_has_stopped_goes_on_from_its_last_weights(picture_folder, tmp_path, errors):
    errors += [0.5, 0.6, 0.7, 0.2] * 2
    whole, *_ = run(picture_folder, tmp_path / "whole", plan(4, patience=9))
    folder = tmp_path / "parts"
    history = keras.callbacks.History()
    best, figures, _ = run(picture_folder, folder, plan(4, patience=2), callbacks=[history])
    assert figures["step"] == 4 and checkpoints.newest_step(folder) == 12
    *_, notes = run(picture_folder, folder, plan(4, patience=2))
    assert notes[-1].endswith(
        "step 12, with 16 asked for; 2 epochs without a lower error than 0.5"
        " (patience=2); pass a higher patience= to continue"
    )
    # as one that is written again with a temperature
    model, optimizer = build(one_device(), 0.5, variant="lenet5")
    state = checkpoints.restore(folder, model, optimizer)
    np.testing.assert_array_equal(model.trainable_variables[0], best[0])
    checkpoints.save(folder, model, optimizer, state, keep=4)
    parts, figures, notes = run(picture_folder, folder, plan(4, patience=3))
    assert figures["step"] == 16 and notes[0].endswith("continuing from step 12 of 16")
    for one, two in zip(whole, parts):
        np.testing.assert_array_equal(one, two)
    assert not list(folder.glob("checkpoints/step-00000016/last.npz"))


@pytest.mark.long
def test_what_ends_by_patience_is_looked_at_as_what_ends(
    picture_folder, tmp_path, errors, monkeypatch
):
    told = []
    monkeypatch.setattr(loop.Stall, "check", lambda stall, *given: told.append(given[-2:]))
    errors += [0.5, 0.6, 0.7]
    run(picture_folder, tmp_path, plan(4, patience=2))
    assert told == [(4, False), (8, False), (12, True)]


@pytest.mark.long
def test_of_checkpoints_without_last_weights_it_is_told(picture_folder, tmp_path, errors):
    errors += [0.5, 0.6, 0.7]
    run(picture_folder, tmp_path, plan(4, patience=1))
    checkpoint = tmp_path / "checkpoints/step-00000008"
    (checkpoint / "last.npz").unlink()
    as_of_earlier_versions(checkpoint, "stopped")
    *_, notes = run(picture_folder, tmp_path, plan(4, patience=1))
    assert "1 epochs without a lower error" in notes[-1]
    *_, notes = run(picture_folder, tmp_path, plan(3, patience=2))
    assert notes[0].endswith(
        "from step 8 of 12 with the weights of step 4, which were the best: no others are kept"
    )


@pytest.mark.long
def test_patience_that_is_given_later_counts_from_then(picture_folder, tmp_path, errors):
    errors += [0.5, 0.6, 0.7, 0.1]
    run(picture_folder, tmp_path, plan(2))
    _, figures, notes = run(picture_folder, tmp_path, plan(6, patience=1))
    assert checkpoints.newest_step(tmp_path) == 12 and errors == [0.1] and figures["step"] == 4
    assert any(
        line.startswith("patience=1 counts from here: for 1 epochs there has been no lower error")
        for line in notes
    )


@pytest.mark.long
def test_patience_that_is_given_later_keeps_the_best_of_what_is_there(
    picture_folder, tmp_path, errors
):
    errors += [0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.1]
    third, *_ = run(picture_folder, tmp_path, plan(3))  # the first is not kept
    best, figures, notes = run(picture_folder, tmp_path, plan(7, patience=2))
    assert checkpoints.newest_step(tmp_path) == 20 and figures["step"] == 12
    np.testing.assert_array_equal(best[0], third[0])
    line = "patience=2 counts from here: the best weights so far were those after step 4, which are"
    assert any(note.startswith(line) for note in notes)
    (tmp_path / "checkpoints/step-00000012/weights.npz").write_bytes(b"")
    _, figures, notes = run(picture_folder, tmp_path, plan(7, patience=3))
    assert errors == [0.1] and (figures["step"], figures["top_1"]) == (24, pytest.approx(0.05))
    damaged, told = (note for note in notes if "step-00000012" in note or "cannot be read" in note)
    assert "step-00000012 is damaged" in damaged and "trying" not in damaged
    assert told == "the best weights, those after step 12, cannot be read: the last are kept"
    assert not checkpoints.has_last(tmp_path, 24)


@pytest.mark.long
def test_lars_goes_on_to_the_bit_too_and_by_no_other_rule(picture_folder, tmp_path):
    the_plan = plan(2, learning_rate=2.0, schedule="poly")
    whole, *_ = run(picture_folder, tmp_path / "whole", the_plan, rule=LARS)
    with pytest.raises(SystemExit):
        run(picture_folder, tmp_path / "stopped", the_plan, Bar(stop_after=3), rule=LARS)
    with pytest.raises(UserError, match="optimizer=sgd2012, but .* was trained by lars"):
        run(picture_folder, tmp_path / "stopped", the_plan)
    resumed, *_ = run(picture_folder, tmp_path / "stopped", the_plan, rule=LARS)
    for one, two in zip(whole, resumed):
        np.testing.assert_array_equal(one, two)
    # a rate of 2 moves no kernel by more than 2 * 0.001 * 1 / (1 - 0.9) of its length in a step
    start, _ = build(one_device(), 0.5, variant="lenet5")
    for variable, ended in zip(start.trainable_variables, whole):
        if variable.path.endswith("kernel"):
            length = np.linalg.norm(np.asarray(variable))
            assert 0 < np.linalg.norm(np.asarray(variable) - ended) < 8 * 0.02 * length


def _contents(folder):
    return {
        path: (path.stat().st_mtime_ns, path.is_file() and path.read_bytes())
        for path in folder.rglob("*")
    }


def test_a_dry_run_ends_where_a_training_would_begin_and_writes_nothing(picture_folder, tmp_path):
    def tried(*arguments, **others):
        _, figures, notes = run(picture_folder, folder, *arguments, dry_run=True, **others)
        assert figures == {}
        return notes

    folder = tmp_path / "model"
    assert not any("continuing" in note for note in tried(plan(1))) and not folder.exists()
    run(picture_folder, folder, plan(1))
    (folder / "checkpoints/.step-00000008.unfinished").mkdir()  # what a killed run leaves
    before = _contents(folder)
    assert tried(plan(2))[0] == f"{folder}: continuing from step 4 of 8"
    assert "is already trained: step 4" in tried(plan(1))[0]
    with pytest.raises(UserError, match="optimizer=lars, but .* was trained by sgd2012"):
        tried(plan(2), rule=LARS)
    with pytest.raises(UserError, match="holds a model of init source2012, not variant"):
        tried(plan(2, init="variant"))
    with pytest.raises(UserError, match="data_service=here is not an address"):
        tried(plan(2, data_service=["here"]))
    assert _contents(folder) == before
    other = pytest.raises(UserError, match="is being trained by another process")
    with disk.locked(folder), other:
        tried(plan(2))
    (folder / "checkpoints/step-00000004/weights.npz").write_bytes(b"")
    with pytest.raises(UserError, match="none of its 1 checkpoints can be read"):
        tried(plan(2))


@pytest.mark.long
def test_a_finished_run_whose_last_checkpoint_is_damaged_goes_on_from_the_one_before(
    picture_folder, tmp_path
):
    whole, _, _ = run(picture_folder, tmp_path / "model", plan(2))
    (tmp_path / "model/checkpoints/step-00000008/weights.npz").write_bytes(b"")
    again, figures, notes = run(picture_folder, tmp_path / "model", plan(2))
    assert any("step-00000008 is damaged" in note for note in notes) and figures["step"] == 8
    for one, two in zip(whole, again):
        np.testing.assert_array_equal(one, two)


@pytest.mark.long
def test_what_cannot_change_on_the_way_is_refused(picture_folder, tmp_path):
    with pytest.raises(SystemExit):
        run(picture_folder, tmp_path / "other", plan(3), Bar(stop_after=3))
    before = (tmp_path / "other/settings.json").read_text()
    with pytest.raises(
        UserError, match="holds a model of batch_size 6, not 12; pass another model_dir"
    ):
        run(picture_folder, tmp_path / "other", plan(1, batch_size=12))
    assert (tmp_path / "other/settings.json").read_text() == before
    (tmp_path / "other/settings.json").unlink()  # forgotten when the rest was copied
    with pytest.raises(UserError, match="holds checkpoints, but no settings.json, which describes"):
        run(picture_folder, tmp_path / "other", plan(3))
    assert not (tmp_path / "other/settings.json").exists()


@pytest.mark.long
def test_what_auto_picked_stays_picked(picture_folder, tmp_path):
    with pytest.raises(SystemExit):
        run(picture_folder, tmp_path / "model", plan(2, xla="auto"), Bar(stop_after=5))
    (state,) = tmp_path.glob("model/checkpoints/*5/state.json")
    picked = json.loads(state.read_text())["xla"]
    _, _, notes = run(picture_folder, tmp_path / "model", plan(2, xla="auto"))
    assert picked in (True, False) and not any("xla=auto" in note for note in notes)


def test_one_training_at_a_time_in_a_directory(tmp_path):
    refused = pytest.raises(UserError, match="is being trained by another process")
    with disk.locked(tmp_path), refused, disk.locked(tmp_path):
        pass
    with disk.locked(tmp_path):
        pass


@pytest.mark.long
def test_equal_logits_are_no_correct_answers(picture_folder):
    split = datasets.open_dataset("folder", picture_folder).evaluation
    model, _ = build(one_device(), 0.5)
    fc8 = model.get_layer("fc8")
    fc8.set_weights([np.zeros_like(weight) for weight in fc8.get_weights()])
    figures = evaluation.evaluate_split(one_device(), model, PIXELS, split, 9)
    # the lowest index, and that is right for one class of three
    assert figures["top_1"] == pytest.approx(1 / 3)


@pytest.mark.long
def test_a_loss_that_is_not_finite_stops_and_keeps_the_checkpoint_before(picture_folder, tmp_path):
    run(picture_folder, tmp_path / "model", plan(1))
    with pytest.raises(
        UserError, match="The loss is not finite at step [5-8] from layer (conv|lrn|fc)"
    ):
        run(picture_folder, tmp_path / "model", plan(3, learning_rate=1e20, warmup_steps=0))
    assert checkpoints.newest_step(tmp_path / "model") == 4


def test_a_step_of_a_loss_that_is_not_finite_changes_no_weight():
    strategy = two_devices()
    model, optimizer = build(strategy, 0.0)
    step = steps.TrainStep(strategy, model, optimizer, PIXELS, 6, xla=False)
    data = tf.data.Dataset.from_tensors(
        {"image": np.zeros((6, 67, 67, 3), np.uint8), "label": np.zeros(6, np.int64)}
    )
    batch = next(iter(strategy.experimental_distribute_dataset(data)))
    kernel = model.get_layer("fc8").kernel
    start = np.asarray(kernel.value)
    for value, moves in ((np.full_like(start, 1e38), False), (start, True)):
        kernel.assign(value)
        before = [
            np.asarray(variable.value)
            for variable in (*model.trainable_variables, *optimizer.velocities)
        ]
        loss, _ = step(batch, 0)
        after = [
            np.asarray(variable.value)
            for variable in (*model.trainable_variables, *optimizer.velocities)
        ]
        changed = any((new != old).any() for new, old in zip(after, before))
        assert (np.isfinite(float(loss)), changed) == (moves, moves)
    assert (
        non_finite.first_non_finite_layer(model, PIXELS, np.zeros((6, 67, 67, 3), np.uint8)) is None
    )
    kernel.assign(np.full_like(start, 1e38))
    assert (
        non_finite.first_non_finite_layer(model, PIXELS, np.zeros((6, 67, 67, 3), np.uint8))
        == "fc8"
    )


@pytest.mark.long
@pytest.mark.parametrize("variant,where", [("one_gpu", np.s_[:]), ("half", np.s_[1, 2, 0, 3])])
def test_what_is_no_number_in_a_layer_is_seen_in_the_loss_though_the_pool_swallows_it(
    variant, where
):
    strategy = one_device()
    with strategy.scope():
        model, optimizer = build_model(variant, 3, 67), SGD2012()
    step = steps.TrainStep(strategy, model, optimizer, PIXELS, 2, xla=False)
    images = np.random.default_rng(0).integers(0, 256, (2, 67, 67, 3), np.uint8)
    batch = {"image": tf.constant(images), "label": tf.constant([0, 2], tf.int64)}
    conv1, fc8 = model.get_layer("conv1a"), model.get_layer("fc8")
    broken = conv1.kernel.numpy()
    broken[where] = np.nan
    assert np.isfinite(float(step(batch, 0)[0]))
    conv1.kernel.assign(broken)
    before = fc8.kernel.numpy()
    assert np.isnan(float(step(batch, 1)[0]))
    np.testing.assert_array_equal(fc8.kernel.numpy(), before)


@pytest.mark.long
@pytest.mark.parametrize("batch_size", [2, 4, 16])
def test_evaluation_is_the_same_from_every_batch_size_and_on_two_devices(
    picture_folder, batch_size
):
    split = datasets.open_dataset("folder", picture_folder).evaluation
    answers = []
    for strategy, size in (
        (one_device(), 9),
        (one_device(), batch_size),
        (two_devices(), batch_size),
    ):
        model, _ = build(strategy, 0.5)
        answers.append(evaluation.evaluate_split(strategy, model, PIXELS, split, size))
    model, _ = build(one_device(), 0.5)
    batch = next(iter(pipeline.evaluation_batches(split, PIXELS, 9)))
    logits = model((tf.cast(batch["image"], tf.float32) - PIXELS.mean), training=False)
    losses = -tf.nn.log_softmax(logits).numpy()[np.arange(9), batch["label"]]
    for answer in answers:
        assert answer["examples"] == 9
        assert answer["loss"] == pytest.approx(losses.mean(), rel=1e-5)
        assert answer["top_1"] == pytest.approx(np.mean(np.argmax(logits, 1) == batch["label"]))
        assert answer["top_5"] == 1.0  # of three classes


def test_warm_up_then_schedule():
    rates = [
        plan(1, warmup_steps=4, learning_rate=0.1).rate(step, 10, 0) for step in (0, 1, 3, 5, 9)
    ]
    np.testing.assert_allclose(rates, [0.025, 0.05 * 0.9, 0.1 * 0.7, 0.1 * 0.5, 0.1 * 0.1])
    assert plan(1, schedule="plateau", warmup_steps=0).rate(7, 10, drops=2) == pytest.approx(1e-4)


@pytest.mark.long
def test_the_steps_schedule_slows_conv1_and_freezes_it(picture_folder, tmp_path):
    seen = []

    class Watch(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            optimizer = self.model.optimizer
            seen.append(
                (
                    float(optimizer.learning_rate),
                    {
                        variable.path.split("/")[0]: float(factor)
                        for variable, factor in zip(
                            self.model.trainable_variables, np.array(optimizer.slowdown)
                        )
                    },
                    self.model.get_layer("conv1a").bias.numpy(),
                    self.model.get_layer("fc8").kernel.numpy(),
                )
            )

    # 20 steps
    run(
        picture_folder,
        tmp_path / "model",
        plan(5, schedule="steps", warmup_steps=0),
        variant="narrow",
        callbacks=[Watch()],
    )
    # 67/91 of 20 is 14.7, 72/91 is 15.8
    for layer in ("conv1a", "conv1b"):
        factors = [row[1].pop(layer) for row in seen]
        assert factors == [1.0] * 15 + [pytest.approx(0.1)] + [0.0] * 4
    assert {factor for row in seen for factor in row[1].values()} == {1.0}
    np.testing.assert_allclose(
        [seen[step][0] for step in (0, 6, 12, 18)], [1e-2, 1e-3, 1e-4, 1e-5], rtol=1e-6
    )
    for before, after in zip(seen[15:], seen[16:]):
        np.testing.assert_array_equal(before[2], after[2])
        assert (before[3] != after[3]).any()


@pytest.mark.long
@pytest.mark.parametrize("schedule,said", [("linear", True), ("constant", False)])
def test_another_length_of_the_run_changes_the_rate_and_says_so(
    picture_folder, tmp_path, schedule, said
):
    first, longer = (
        plan(count, schedule=schedule, warmup_steps=0, learning_rate=0.002) for count in (1, 2)
    )
    run(picture_folder, tmp_path / "model", first)  # 4 steps
    _, _, notes = run(picture_folder, tmp_path / "model", longer)
    line = (
        "the linear schedule now ends after step 8, not 4: the learning rate continues at 0.001,"
        " after 0.0005"
    )
    assert (line in notes) == said
    rate = epochs(tmp_path / "model")[-1]["learning_rate"]
    assert rate == pytest.approx(0.002 * (1 / 8 if said else 1))
    for again in (longer, first):  # over, or with nothing but an evaluation left
        _, _, notes = run(picture_folder, tmp_path / "model", again)
        assert not any("schedule now ends" in note for note in notes)


@pytest.mark.long
@pytest.mark.parametrize(
    "begun,rates",
    [
        (False, [1e-9] * 3),
        (True, [1e-9] * 2 + [1e-10]),
    ],
)
def test_a_network_that_has_not_begun_to_learn_keeps_its_rate(
    picture_folder, tmp_path, monkeypatch, begun, rates
):
    monkeypatch.setattr(loop.Stall, "is_guessing", lambda stall, loss: not begun)
    monkeypatch.setattr("alexnet_tf.training.rates.Plateau", functools.partial(Plateau, patience=1))
    asked = plan(3, schedule="plateau", warmup_steps=0, learning_rate=1e-9)
    run(picture_folder, tmp_path / "model", asked)
    found = [row["learning_rate"] for row in epochs(tmp_path / "model")]
    assert found == pytest.approx(rates)


@pytest.mark.long
@pytest.mark.parametrize("rule,highest", [(SGD2012, 0.002), (LARS, math.inf)])
def test_what_is_too_much_for_few_classes_is_no_advice_for_lars(
    picture_folder, tmp_path, monkeypatch, rule, highest
):
    told, stall = [], loop.Stall
    monkeypatch.setattr(loop, "stable_rate", lambda *arguments: 0.002)
    monkeypatch.setattr(loop, "Stall", lambda *given: told.append(given[-1]) or stall(*given))
    run(picture_folder, tmp_path / "model", plan(1), rule=rule)
    assert told == [highest]


@pytest.mark.long
@pytest.mark.parametrize("right,learns", [(0.99, True), (0.6, False)])
@pytest.mark.parametrize("loss", [9.0, math.log(3)])
def test_with_class_weights_the_evaluation_does_not_say_whether_it_learns(
    picture_folder, tmp_path, monkeypatch, loss, right, learns
):
    """Pictures that are learnt by heart are right, and the evaluation's loss rises."""
    said = types.SimpleNamespace(
        figures=lambda: {"examples": 9, "loss": loss, "top_1": 0.4, "top_5": 1.0}
    )
    monkeypatch.setattr(evaluation.Evaluation, "answers", lambda *arguments: [said])
    monkeypatch.setattr(metrics.RunningMeans, "take_epoch", lambda means: (0.1, right))
    monkeypatch.setattr("alexnet_tf.training.rates.Plateau", functools.partial(Plateau, patience=1))
    asked = plan(3, schedule="plateau", warmup_steps=0, learning_rate=1e-9)
    weighted = Objective(class_weights=[1, 1, 2])
    *_, notes = run(picture_folder, tmp_path / "model", asked, objective=weighted)
    too_large = any("the steps are too large" in line for line in notes)
    assert too_large == (loss == 9 and not learns)
    rates = [row["learning_rate"] for row in epochs(tmp_path / "model")]
    assert (rates[-1] < rates[0] / 2) == (loss == 9 or learns)


def test_callbacks_of_keras_see_the_run_and_can_stop_it(picture_folder, tmp_path):
    # nothing improves that much
    stop = keras.callbacks.EarlyStopping("val_loss", min_delta=100.0, patience=1)
    history = keras.callbacks.History()
    _, figures, notes = run(picture_folder, tmp_path / "model", plan(9), callbacks=[stop, history])
    assert len(history.history["val_loss"]) == 2 and figures["step"] == 8
    assert history.history["val_loss"] == [row["loss"] for row in epochs(tmp_path / "model")]
    assert any("stopped by a callback after step 8" in note for note in notes)
    assert checkpoints.newest_step(tmp_path / "model") == 8


@pytest.mark.long
@pytest.mark.parametrize(
    "hook,rates", [("on_train_begin", [0.005, 0.005]), ("on_epoch_end", [0.01, 0.005])]
)
def test_a_callback_may_set_a_constant_rate(picture_folder, tmp_path, hook, rates):
    class Halve(keras.callbacks.Callback):
        def halve(self, *arguments, **logs):
            self.model.optimizer.learning_rate.assign(0.005)

    callback = Halve()
    setattr(callback, hook, callback.halve)
    run(
        picture_folder,
        tmp_path / "model",
        plan(2, schedule="constant", warmup_steps=0),
        callbacks=[callback],
    )
    assert [row["learning_rate"] for row in epochs(tmp_path / "model")] == pytest.approx(rates)


@pytest.mark.parametrize(
    "variant,bound",
    [("paper", 0.02), ("source2012", 0.02), ("caffe", 0.01), ("one_weird_trick", 0.01)],
)
def test_loss_at_the_start_is_that_of_guessing_among_1000(variant, bound):
    """Over all labels alike.

    Logits of standard deviation s cost s^2 / 2 more than ln 1000; s is 0.4 with biases of 1 in fc7.
    """
    row = VARIANTS[variant]
    pixels = Preprocessing(row["image_size"], row["resize"], 3, (115.0,) * 3, row["std"])
    crops = [
        preprocessing.central_crop(preprocessing.decode(shapes.draw_jpeg("train", index)), pixels)
        for index in range(4)
    ]
    keras.utils.set_random_seed(0)
    logits = build_model(variant, 1000)(
        preprocessing.to_network_input(tf.stack(crops), pixels), training=False
    )
    loss = float(tf.reduce_mean(tf.reduce_logsumexp(logits, 1) - tf.reduce_mean(logits, 1)))
    assert math.log(1000) <= loss <= (1 + bound) * math.log(1000)


@pytest.mark.parametrize(
    "variant",
    [
        pytest.param(variant, marks=() if variant == "lenet5" else pytest.mark.long)
        for variant in VARIANTS
    ],
)
def test_every_variant_takes_a_step_on_one_device_and_on_two(variant):
    row, size = VARIANTS[variant], smallest_image_size(variant)
    pixels = Preprocessing(size, size, row["channels"], (120.0,) * row["channels"], row["std"])
    rng = np.random.default_rng(0)
    batch = {
        "image": rng.integers(0, 256, (4, size, size, row["channels"]), np.uint8),
        "label": np.array([0, 1, 2, 0]),
    }
    answers = []
    for strategy in (one_device(), two_devices()):
        keras.utils.set_random_seed(3)
        with strategy.scope():
            model, optimizer = (
                build_model(variant, 3, dropout_rate=0.0, image_size=size),
                SGD2012(0.01),
            )
        step = steps.TrainStep(strategy, model, optimizer, pixels, 4, xla=False)
        before = np.asarray(model.trainable_variables[0].value)
        loss, correct = step(
            next(
                iter(strategy.experimental_distribute_dataset(tf.data.Dataset.from_tensors(batch)))
            ),
            0,
        )
        after = np.asarray(model.trainable_variables[0].value)
        assert (after != before).any() and 0 <= float(correct) <= 4
        answers.append((float(loss), after))
    assert answers[1][0] == pytest.approx(answers[0][0], rel=1e-5)
    np.testing.assert_allclose(answers[1][1], answers[0][1], rtol=1e-5, atol=1e-7)


def test_fewer_pictures_than_a_batch_are_refused(picture_folder, tmp_path):
    strategy, dataset = one_device(), datasets.open_dataset("folder", picture_folder)
    with strategy.scope():
        model, optimizer = build_model("lenet5", 3), SGD2012()
    with pytest.raises(UserError, match="batch_size=25, but there are 24 training pictures"):
        loop.train(strategy, model, optimizer, dataset, PIXELS, loop.Plan(batch_size=25), tmp_path)
