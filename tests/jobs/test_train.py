"""Trainings from Python: what is left is what was trained, what was held out stays so, and nothing
that is given is passed over.
"""

import contextlib
import dataclasses
import json
import random
import shutil
import signal
import tempfile

import keras
import numpy as np
import pytest
import tensorflow as tf
from binaries import call
from conftest import CLASS_NAMES, LENET5_PIXELS, write_lenet5, write_picture_folder, write_pictures
from trainings import two_devices

import alexnet_tf
from alexnet_tf import networks
from alexnet_tf.commands import app, train
from alexnet_tf.data import record, shapes
from alexnet_tf.data.names import SplitNames
from alexnet_tf.errors import NotFinite, UserError
from alexnet_tf.exports import artifacts, saved_model
from alexnet_tf.network.layers import PixelNormalization
from alexnet_tf.network.model import stable_rate
from alexnet_tf.training import checkpoints, devices, evaluation, loop, objective, run_settings, xla

FAST = {"xla": "off", "batch_size": 6, "note": lambda line: None, "schedule": "constant"}
# With what it does to pixels, or each training would look at the colours of the pictures first.
LENET5 = {"variant": "lenet5", "epochs": 1, "preprocessing": LENET5_PIXELS} | FAST
PIXELS = alexnet_tf.Preprocessing(12, 14, 1, (128.0,), 64.0)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = write_picture_folder(tmp_path_factory.mktemp("jobs") / "pictures")
    return alexnet_tf.open_dataset("folder", folder)


@pytest.fixture
def few(tmp_path):
    """The folder of eight pictures of each of three classes, of which none is a split."""
    write_pictures(tmp_path / "few", 8)
    return tmp_path / "few"


RATES = keras.callbacks.LearningRateScheduler(lambda epoch: 0.01)


def own_model():
    return keras.Sequential(
        [keras.Input((12, 12, 1)), keras.layers.Flatten(), keras.layers.Dense(3)]
    )


def noise(count=18):
    """As many records of three classes."""
    images = np.random.default_rng(0).integers(0, 256, (count, 16, 16, 3), np.uint8)
    return images, np.arange(count) % 3


def greys():
    """Images of three greys, and their labels."""
    levels = np.repeat([30, 128, 226], 6)[:, None, None, None]
    return np.broadcast_to(levels, (18, 16, 16, 3)).astype(np.uint8), np.arange(18) // 6


def of_greys():
    """A model that tells them apart."""
    model = own_model()
    model.layers[-1].set_weights(
        [np.broadcast_to([-0.05, 0.0, 0.05], (144, 3)), np.array([0.0, 3.0, 0.0])]
    )
    return model


def records(images, labels, rows):
    return tf.data.Dataset.from_tensor_slices((images[rows], labels[rows]))


class Worse(keras.callbacks.Callback):
    """Ruins the weights in each epoch but the first."""

    def on_epoch_begin(self, epoch, logs=None):
        if epoch:
            self.model.layers[-1].bias.assign([100.0, -100.0, 50.0])


class Always(keras.layers.Dropout):
    """As for Monte Carlo dropout."""

    def call(self, inputs, training=False):
        return super().call(inputs, training=True)


def test_what_is_to_draw_when_the_model_answers_is_refused_or_told(dataset, tmp_path):
    def train(dropped):
        images, told = keras.Input((12, 12, 1)), []
        model = keras.Model(images, keras.layers.Dense(3)(keras.layers.Flatten()(dropped(images))))
        arguments = {"model": model, "preprocessing": PIXELS, "epochs": 1}
        alexnet_tf.train(tmp_path / "model", dataset, **FAST | arguments | {"note": told.append})
        return told

    with pytest.raises(UserError, match="layer always draws random numbers also when the model an"):
        train(Always(0.5, name="always"))
    assert not (tmp_path / "model").exists()
    told = train(lambda images: keras.layers.Dropout(0.5, name="mc")(images, training=True))
    assert [line for line in told if line.startswith("the model calls mc with training=True, ")]


def test_classes_at_other_outputs_than_those_of_the_network_are_told(tmp_path):
    every, told = records(*noise(), slice(None)), []
    old, new = (
        alexnet_tf.from_tf_data(every, every, names)
        for names in (["cat", "dog", "horse"], ["bird", "cat", "dog"])
    )
    arguments = FAST | {"epochs": 1, "note": told.append}
    network = alexnet_tf.train(
        tmp_path / "old", old, model=own_model(), preprocessing=PIXELS, **arguments
    )
    alexnet_tf.train(tmp_path / "new", new, model=network, **arguments)
    (line,) = (line for line in told if line.startswith("model= has the class"))
    assert "cat at place 0 of its outputs, and the data set at place 1: the last layer" in line


@pytest.mark.long
def test_best_weights_that_a_callback_restores_are_those_of_the_checkpoint(dataset, tmp_path):
    early = keras.callbacks.EarlyStopping("val_loss", patience=1, restore_best_weights=True)
    network = alexnet_tf.train(
        tmp_path / "model",
        dataset,
        callbacks=[Worse(), early],
        **LENET5 | {"epochs": 4, "learning_rate": 1e-5},
    )
    assert early.stopped_epoch == 1
    kept = alexnet_tf.load(tmp_path / "model")
    for ours, stored in zip(network.model.weights, kept.model.weights):
        np.testing.assert_array_equal(ours, stored)
    judged = alexnet_tf.evaluate(kept).figures()
    assert judged["loss"] < 10
    assert network.figures["loss"] == pytest.approx(judged["loss"], rel=1e-5)
    stored = checkpoints.newest_state(tmp_path / "model").figures
    assert stored["loss"] < 10 and stored["evaluated_on"] == "held out"  # by which it was chosen


class Keeps(keras.callbacks.Callback):
    """The weights that training had at the beginning and at the end of each epoch."""

    def __init__(self):
        super().__init__()
        self.began, self.ended = [], []

    def on_epoch_begin(self, epoch, logs=None):
        self.began.append(self.model.get_weights())

    def on_epoch_end(self, epoch, logs=None):
        self.ended.append(self.model.get_weights())


def stopping():
    """Stops after the second epoch."""
    return keras.callbacks.EarlyStopping(
        "val_loss", patience=1, min_delta=100.0, restore_best_weights=True
    )


@pytest.mark.long
def test_what_a_callback_has_stopped_goes_on_where_more_is_asked_for(dataset, tmp_path):
    notes, keeps = [], Keeps()

    def train(epochs, *callbacks):
        how = LENET5 | {"epochs": epochs, "note": notes.append, "callbacks": callbacks}
        return alexnet_tf.train(tmp_path / "model", dataset, **how).step

    per_epoch = train(4, keeps, stopping()) // 2
    best = keeps.ended[0]
    np.testing.assert_array_equal(
        best[0], alexnet_tf.load(tmp_path / "model").model.get_weights()[0]
    )
    assert train(4, stopping()) == train(3, stopping()) == 2 * per_epoch
    assert "a callback stopped it; pass more epochs= to continue, or omit" in notes[-1]
    assert train(5, keeps) == 5 * per_epoch
    # from the last weights, and not from the best, which the callback gave back
    for began, ended, of_best in zip(keeps.began[2], keeps.ended[1], best):
        np.testing.assert_array_equal(began, ended)
        assert not np.array_equal(began, of_best)


@pytest.mark.long
def test_without_its_callback_a_training_goes_on(dataset, tmp_path):
    arguments = LENET5 | {"epochs": 3}
    stopped = alexnet_tf.train(tmp_path / "model", dataset, callbacks=[stopping()], **arguments)
    assert alexnet_tf.train(tmp_path / "model", dataset, **arguments).step == stopped.step * 3 // 2


class Ruins(keras.callbacks.Callback):
    """Has the first class be the answer to everything, from the second epoch on."""

    def on_epoch_begin(self, epoch, logs=None):
        if epoch:
            self.model.layers[-1].bias.assign([1e4, 0.0, 0.0])


class StopsAt(keras.callbacks.Callback):
    """Stops in the third epoch, where `hook` is called first."""

    def __init__(self, hook):
        super().__init__()
        setattr(self, hook, self._stop)

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch

    def _stop(self, number, logs=None):
        self.model.stop_training = self._epoch == 2


@pytest.mark.long
@pytest.mark.parametrize("hook,step", [(None, 9), ("on_epoch_end", 9), ("on_train_batch_end", 7)])
def test_patience_keeps_the_best_weights_whatever_ends_a_training(tmp_path, hook, step):
    images, labels = greys()
    data = alexnet_tf.from_tf_data(
        *(records(images + more, labels, slice(18)) for more in (0, 1)), CLASS_NAMES
    )
    stops, notes = [StopsAt(hook)] if hook else [], []
    how = {"patience": 9, "learning_rate": 1e-6, "note": notes.append}

    def train(*callbacks):
        how["callbacks"] = callbacks
        return train_own(tmp_path / "model", 4 if hook else 3, of_greys(), data, **how)

    keeps = Keeps()
    network = train(Ruins(), keeps, *stops)
    for kept, best in zip(network.model.get_weights(), keeps.ended[0]):
        np.testing.assert_array_equal(kept, best)
    judged = alexnet_tf.evaluate(network, data).figures()
    assert judged["top_1"] == network.figures["top_1"] == 1 and network.figures["step"] == 3
    for one in (network, alexnet_tf.load(tmp_path / "model")):
        assert one.classifier().name.endswith("/model, step 3")
    # the last evaluation had an only answer
    of_run = {"evaluated_on", "step", "train_images_per_s"}
    assert network.figures.keys() - judged.keys() == of_run
    assert keeps.ended[-1][-1][0] > 9e3  # a callback may store what that epoch was trained to
    assert network.step == step
    if hook:
        assert train(keeps, *stops).step == step and "a callback stopped it" in notes[-1]
        assert train().step == 12  # from the last weights
        with np.load(tmp_path / "model/checkpoints/step-00000012/last.npz") as arrays:
            assert [*arrays.values()][-1][0] > 9e3


@pytest.mark.long
def test_what_xla_cannot_compile_is_refused_before_anything_is_written(tmp_path):
    def loss(targets, logits):
        how = tf.nn.softmax_cross_entropy_with_logits, [targets, logits], tf.float32
        return tf.py_function(*how)

    with pytest.raises(UserError, match="XLA cannot compile EagerPyFunc, which is in .* xla=off"):
        train_own(tmp_path / "model", loss=loss, xla="on")
    assert not (tmp_path / "model/settings.json").exists()
    model, rates = own_model(), []
    keeps = keras.callbacks.LambdaCallback(
        on_train_batch_begin=lambda *_, **__: rates.append(float(model.optimizer.learning_rate))
    )
    train_own(tmp_path / "model", model=model, xla="on", callbacks=[keeps], learning_rate=0.5)
    assert rates == [0.5, 0.5]  # and not that of the step by which this was found out


@pytest.mark.long
def test_what_was_held_out_stays_so_for_a_training_that_goes_on(few, tmp_path):
    def train(**more):
        dataset = alexnet_tf.open_dataset("folder", few)
        alexnet_tf.train(tmp_path / "model", dataset, **LENET5 | more)
        return record.read(tmp_path / "model")

    told = []
    before = train()
    assert len(before.held_out) and not np.isin(before.held_out, before.trained).any()
    for number in range(8, 24):
        name = CLASS_NAMES[number % 3]
        drawn = shapes.draw_jpeg("train", 10 * number + shapes.CLASS_NAMES.index(name))
        (few / name / f"{number}.jpg").write_bytes(drawn)
    after = train(epochs=2, note=told.append)
    assert len(after.trained) > len(before.trained)
    assert not np.isin(before.held_out, after.trained).any()
    assert any("0 of its 24 pictures are gone and 16 are new" in line for line in told)
    assert any(line.startswith(f"training pictures: {CLASS_NAMES[0]} ") for line in told)


@pytest.mark.long
def test_classes_out_of_balance_are_told_unless_they_are_weighted(few, tmp_path):
    for path in sorted((few / CLASS_NAMES[0]).iterdir())[2:]:
        path.unlink()
    dataset = alexnet_tf.open_dataset("folder", few)
    for weights in (None, {CLASS_NAMES[0]: 4.0}):
        told = []
        how = LENET5 | {"class_weights": weights, "note": told.append}
        alexnet_tf.train(tmp_path / str(weights is None), dataset, **how)
        assert any(line.startswith("training pictures: ") for line in told)
        unbalanced = [line for line in told if line.startswith("The classes are out of balance")]
        assert len(unbalanced) == (weights is None)


@pytest.mark.long
def test_new_pictures_of_a_folder_judge_whole_and_may_lack_classes(few, tmp_path, capsys):
    model_dir = write_lenet5(tmp_path / "model", CLASS_NAMES)
    seen = alexnet_tf.open_dataset("folder", few)
    record.write(model_dir, record.of(seen))
    write_pictures(tmp_path / "new", 4, first=40)

    def judge(*arguments, **more):
        answers = alexnet_tf.evaluate(model_dir, *arguments, **more)
        return answers.figures()["examples"], capsys.readouterr().err

    # what its training's data set calls its splits counts there alone
    settings = checkpoints.read_settings(model_dir)
    flags = {"dataset": "folder", "data_dir": str(few), "test_split": "exam"}
    checkpoints.write_settings(model_dir, settings | {"flags": flags})
    with pytest.raises(UserError, match="test_split=exam: .* has no such folder"):
        judge(data_dir=few)
    assert judge(data_dir=tmp_path / "new")[0] == 12
    checkpoints.write_settings(model_dir, settings)
    part, told = judge(alexnet_tf.open_dataset("folder", tmp_path / "new"))
    assert 0 < part < 12 and f"and not {12 - part} others, though no network is known" in told
    assert "others, though" not in judge(seen)[1]
    assert judge(data_dir=few)[0] == seen.evaluation.examples
    (tmp_path / "new" / CLASS_NAMES[0]).rename(tmp_path / "elsewhere")
    (tmp_path / "only").mkdir()
    (tmp_path / "new").rename(tmp_path / "only/test")
    for arguments in ({}, {"test_split": "test"}):
        count, told = judge(data_dir=tmp_path / "only", **arguments)
        assert count == 8
        assert told.count(f"Not evaluated, for lack of pictures in test: {CLASS_NAMES[0]}.") == 1
    for arguments, message in (
        ((few,), "open_dataset or from_tf_data gives, or a folder as data_dir="),
        ((seen, {"data_dir": few}), "data_dir= and dataset= both name the pictures to evaluate on"),
        (
            (seen, {"test_split": "train"}),
            "test_split= and dataset= both name the pictures to evaluate on",
        ),
    ):
        with pytest.raises(UserError, match=message):
            judge(arguments[0], **dict(*arguments[1:]))


@pytest.mark.long
def test_pictures_that_chose_are_not_trained_on_by_another_schedule(dataset, tmp_path):
    alexnet_tf.train(tmp_path / "model", dataset, **LENET5 | {"schedule": "plateau"})
    chose = record.read(tmp_path / "model").held_out
    alexnet_tf.train(tmp_path / "model", dataset, **LENET5 | {"schedule": "linear", "epochs": 2})
    after = record.read(tmp_path / "model")
    np.testing.assert_array_equal(after.held_out, chose)
    assert not np.isin(chose, after.trained).any()


@pytest.mark.long
def test_records_of_ones_own_that_were_trained_on_do_not_judge(tmp_path):
    images, labels = noise()

    def train(order, epochs):
        data = [records(images, labels, rows) for rows in (order[:12], order[12:])]
        dataset = alexnet_tf.from_tf_data(*data, CLASS_NAMES)
        more = {"model": own_model(), "preprocessing": PIXELS, "epochs": epochs}
        return alexnet_tf.train(tmp_path / "model", dataset, **FAST | more)

    rows = np.arange(18)
    train(rows, 1)
    assert train(rows, 2).step == 4
    with pytest.raises(UserError, match="6 of the pictures of evaluation, first record 0"):
        train(rows[::-1], 3)


@pytest.mark.long
def test_a_training_that_never_made_a_step_binds_nobody(dataset, tmp_path, monkeypatch):
    def full(*arguments):
        raise tf.errors.ResourceExhaustedError(None, None, "no memory")

    with monkeypatch.context() as patch:
        patch.setattr(xla, "make_step", full)
        with pytest.raises(tf.errors.ResourceExhaustedError):
            alexnet_tf.train(tmp_path / "model", dataset, **LENET5)
    smaller = LENET5 | {"batch_size": 4, "seed": 1}
    assert alexnet_tf.train(tmp_path / "model", dataset, **smaller).step == 6
    with pytest.raises(UserError, match="holds a model of batch_size 4, not 6"):
        alexnet_tf.train(tmp_path / "model", dataset, **LENET5 | {"seed": 1})


@pytest.fixture
def changing(tmp_path):
    """(a folder of pictures of its own, the notes, train(epochs) on what is in the folder then)."""
    folder, notes = write_picture_folder(tmp_path / "pictures"), []

    def train(epochs):
        opened = alexnet_tf.open_dataset("folder", folder)
        how = LENET5 | {"epochs": epochs, "note": notes.append}
        return alexnet_tf.train(tmp_path / "model", opened, **how)

    return folder, notes, train


@pytest.mark.long
def test_figures_are_of_the_pictures_that_are_there(changing):
    folder, notes, train = changing
    assert train(1).figures["examples"] == 9
    for path in list((folder / "test").glob("*/*"))[:4]:
        path.unlink()
    assert train(1).figures["examples"] == 5
    told = "; the figures are of the current pictures, but it was trained on the earlier ones: "
    assert told in notes[-1] and "pass more epochs=, or another model_dir=" in notes[-1]
    assert not any("it goes on" in line for line in notes)


@pytest.mark.long
def test_pictures_that_have_changed_their_class_are_told(changing):
    folder, notes, train = changing
    train(1)
    one, other = (folder / "train" / name for name in CLASS_NAMES[:2])
    moved = next(one.iterdir())
    moved.rename(other / f"moved-{moved.name}")
    told = "pictures have changed their classes or their order"
    train(1)
    assert sum(told in line for line in notes) == 1
    assert "pass more epochs=" in notes[-1] and "it goes on" not in "".join(notes)
    train(2)
    assert sum(told in line for line in notes) == 2


@pytest.mark.long
def test_what_trains_nothing_changes_no_settings(dataset, tmp_path):
    alexnet_tf.train(tmp_path / "model", dataset, learning_rate=0.03125, **LENET5)
    before = (tmp_path / "model/settings.json").read_text()
    notes, other = [], {"learning_rate": 0.5, "label_smoothing": 0.25}
    how = LENET5 | other | {"note": notes.append}
    network = alexnet_tf.train(tmp_path / "model", dataset, **how)
    assert "a change of learning_rate and label_smoothing since then" in notes[-1]
    assert network.settings.flags["learning_rate"] == 0.03125
    others = {"weight_decay": 0.25, "momentum": 0.5, "bias_rate": 2.0, "crop": whole}
    how = LENET5 | others | {"note": notes.append, "learning_rate": 0.5}
    with networks.under_policy("mixed_bfloat16"):
        alexnet_tf.train(tmp_path / "model", dataset, **how)
    told = notes[-1]
    assert "a change of learning_rate and momentum and weight_decay and bias_rate" in told
    assert "precision and crop since then" in told
    same = LENET5 | {"optimizer": alexnet_tf.SGD2012(0.03125), "note": notes.append}
    alexnet_tf.train(tmp_path / "model", dataset, **same)
    assert notes[-1].endswith("is already trained: step 4, with 4 asked for")
    with pytest.raises(UserError, match="was trained by sgd2012"):
        more = LENET5 | {"epochs": 2, "optimizer": alexnet_tf.LARS(2.0)}
        alexnet_tf.train(tmp_path / "model", dataset, **more)
    assert (tmp_path / "model/settings.json").read_text() == before


@pytest.mark.long
def test_patience_that_comes_too_late_is_told(tmp_path):
    def told(**how):
        notes = []
        train_own(tmp_path / "model", 2, learning_rate=0.0, note=notes.append, **how)
        return notes[-1]

    told()
    assert told().endswith("is already trained: step 4, with 4 asked for")
    assert "; a change of patience since then has no effect now" in told(patience=3)
    shutil.rmtree(tmp_path / "model")
    assert "1 epochs without a lower error" in told(patience=1)
    assert told(patience=1).endswith("with 4 asked for")


def whole(image, pixels, seed):
    return tf.cast(tf.image.resize(image, [pixels.image_size] * 2)[..., :1], tf.uint8)


@pytest.mark.long
def test_a_function_of_the_same_name_is_another_one(dataset, tmp_path):
    notes = []

    def train(loss):
        how = LENET5 | {"note": notes.append}
        optimizer = alexnet_tf.SGD2012(0.05)  # which a float32 does not hold exactly
        alexnet_tf.train(tmp_path / "model", dataset, loss=loss, optimizer=optimizer, **how)
        return notes[-1]

    def focal():
        return keras.losses.CategoricalFocalCrossentropy(from_logits=True, reduction="none")

    train(focal())
    assert train(focal()).endswith("is already trained: step 4, with 4 asked for")
    assert "; a change of loss since then" in train(
        lambda targets, logits: tf.nn.softmax_cross_entropy_with_logits(targets, 2 * logits)
    )


@pytest.mark.long
def test_functions_of_ones_own_may_decide_by_tensors(dataset, tmp_path, monkeypatch):
    """AutoGraph, which makes that possible, is for those alone: it leaves files of what it makes of
    a function where the process is killed.
    """
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    plain = alexnet_tf.train(tmp_path / "plain", dataset, **LENET5)
    assert not list((tmp_path / "temporary").iterdir())

    def crop(image, pixels, seed):
        if tf.shape(image)[0] > 0:
            return whole(image, pixels, seed)
        return whole(image[::-1], pixels, seed)

    def augment(images, targets, seed):
        if tf.reduce_mean(images) < 0:
            images *= 0.0
        return images, targets

    def loss(targets, logits):
        losses = tf.nn.softmax_cross_entropy_with_logits(targets, logits)
        if tf.reduce_mean(losses) < 0:
            losses *= 0.0
        return losses

    functions = {"crop": crop, "augment": augment, "loss": loss}
    deciding = alexnet_tf.train(tmp_path / "deciding", dataset, **LENET5 | functions)
    same = alexnet_tf.train(tmp_path / "same", dataset, **LENET5 | {"crop": whole})
    for one, other, third in zip(*(net.model.weights for net in (deciding, same, plain))):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
        assert not np.array_equal(one, third)


def scaled(factor):
    return lambda targets, logits: factor * tf.nn.softmax_cross_entropy_with_logits(targets, logits)


def agreed(dataset, folder, monkeypatch, precision="float32", **how):
    """What the workers of a training are compared by, as they are."""
    told = {}

    def compared(strategy, **values):
        told.update({name: repr(value) for name, value in values.items()})
        if "step" in values:
            raise UserError("enough")

    monkeypatch.setattr(devices, "check_agreement", compared)
    with pytest.raises(UserError, match="enough"), networks.under_policy(precision):
        alexnet_tf.train(folder, dataset, **LENET5 | {"learning_rate": 0.25} | how)
    return told


@pytest.mark.long
def test_workers_are_compared_by_all_that_decides_what_they_train(dataset, tmp_path, monkeypatch):
    def differs(**how):
        now = agreed(dataset, tmp_path / "other", monkeypatch, **how)
        return {name for name in usual.keys() | now.keys() if usual.get(name) != now.get(name)}

    usual = agreed(dataset, tmp_path / "model", monkeypatch)
    assert differs() == set()
    assert differs(weight_decay=0.9, momentum=0.1, bias_rate=5) == {
        "weight_decay",
        "momentum",
        "bias_rate",
    }
    assert differs(precision="mixed_bfloat16") == {"precision"}
    assert differs(crop=whole, class_weights=[1, 2, 3]) == {"crop", "class_weights"}
    assert differs(augment=lambda images, targets, seed: (images, targets)) == {"augment"}
    assert differs(optimizer=alexnet_tf.LARS(0.25)) >= {"optimizer", "trust"}
    pixels = alexnet_tf.Preprocessing(28, 32, 1, (99.0,), 128.0)
    assert differs(preprocessing=pixels) == {"preprocessing"}
    model = {"model": own_model(), "preprocessing": PIXELS, "variant": "paper"}
    assert differs(**model) >= {"architecture", "trainable", "variant"}
    one, other = (
        agreed(dataset, tmp_path, monkeypatch, loss=scaled(factor), label_smoothing=0.1)
        for factor in (1.0, 2.0)
    )
    assert one["loss"] != other["loss"] and one["label_smoothing"] == "0.1"
    assert {name for name in usual if usual[name].count(" at 0x")} == set()


@pytest.mark.long
def test_a_worker_that_is_lost_ends_the_process_from_python_too(dataset, tmp_path, monkeypatch):
    def lost(*arguments, **_):
        raise tf.errors.UnavailableError(None, None, "Socket closed")

    def give_up(reason):
        raise SystemExit(reason)

    network = alexnet_tf.load(write_lenet5(tmp_path / "lenet5", list(dataset.class_names)))
    monkeypatch.setattr(loop, "train", lost)
    monkeypatch.setattr(evaluation, "answers", lost)
    monkeypatch.setattr(devices, "worker_count", lambda strategy: 2)
    monkeypatch.setattr(devices, "is_chief", lambda strategy: True)
    monkeypatch.setattr(devices, "check_agreement", lambda strategy, **values: None)
    monkeypatch.setattr(devices, "waiting", lambda strategy: contextlib.nullcontext())
    monkeypatch.setattr(devices, "_give_up", give_up)
    with pytest.raises(SystemExit, match="another worker is gone .Socket closed"):
        alexnet_tf.train(tmp_path / "model", dataset, **LENET5)
    with pytest.raises(SystemExit, match="another worker is gone .Socket closed"):
        alexnet_tf.evaluate(network, dataset)


@pytest.mark.long
def test_weights_in_half_precision_are_not_trained(dataset, tmp_path):
    for policy in ("bfloat16", "float16"):
        with (
            networks.under_policy(policy),
            pytest.raises(UserError, match=f"conv1/kernel in {policy}, .*'mixed_{policy}'"),
        ):
            alexnet_tf.train(tmp_path / "model", dataset, **LENET5)
    assert not (tmp_path / "model").exists()


@pytest.mark.long
def test_a_picture_that_cannot_be_cropped_is_no_unreadable_picture(tmp_path):
    images, labels = noise()
    sizes = [24 if number == 5 else 40 for number in range(18)]

    def records_of(rows):
        def draw():
            for number in rows:
                yield np.resize(images[number], (sizes[number], sizes[number], 3)), labels[number]

        signature = tf.TensorSpec([None, None, 3], tf.uint8), tf.TensorSpec([], tf.int64)
        return tf.data.Dataset.from_generator(draw, output_signature=signature)

    def random_crop(image, pixels, seed):
        return tf.image.stateless_random_crop(image, [28, 28, 3], seed)[..., :1]

    dataset = alexnet_tf.from_tf_data(records_of(range(12)), records_of(range(12, 18)), CLASS_NAMES)
    with pytest.raises(UserError, match="crop= cannot be computed for a picture of train in step "):
        alexnet_tf.train(tmp_path / "model", dataset, crop=random_crop, **LENET5)


@pytest.mark.long
def test_the_generators_of_a_process_are_its_users(dataset, tmp_path, monkeypatch):
    def drawn(*seeds):
        keras.utils.set_random_seed(5)
        for seed in seeds:
            planned(dataset, tmp_path, monkeypatch, variant="lenet5", seed=seed)
        of_keras, of_tf = keras.random.uniform(()), tf.random.uniform(())
        return np.random.rand(), random.random(), float(of_keras), float(of_tf)

    assert drawn(7) == drawn()


def test_no_class_is_called_as_the_answer_that_it_is_none(tmp_path):
    write_pictures(tmp_path / "few", 4)
    (tmp_path / "few" / CLASS_NAMES[0]).rename(tmp_path / "few/None of these")
    dataset = alexnet_tf.open_dataset("folder", tmp_path / "few")
    with pytest.raises(UserError, match="a class is called 'none of these', which is the answer"):
        alexnet_tf.train(tmp_path / "model", dataset, **LENET5)


@pytest.mark.long
def test_the_rate_of_an_optimizer_that_is_given_is_obeyed(dataset, tmp_path):
    optimizer = alexnet_tf.SGD2012(0.03125, momentum=0.5)
    alexnet_tf.train(tmp_path / "model", dataset, optimizer=optimizer, **LENET5)
    assert float(optimizer.learning_rate) == 0.03125 and optimizer.momentum == 0.5
    with pytest.raises(UserError, match="optimizer= has trained another model"):
        alexnet_tf.train(tmp_path / "other", dataset, optimizer=optimizer, **LENET5)
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    "arguments,message",
    [
        ({"optimizer": alexnet_tf.SGD2012(0.1), "momentum": 0.5}, "momentum= has no effect"),
        ({"optimizer": alexnet_tf.SGD2012(0.1), "weight_decay": 0}, "weight_decay= has no"),
        (
            {"optimizer": alexnet_tf.LARS(keras.optimizers.schedules.CosineDecay(1.0, 9))},
            "optimizer= has a schedule of Keras for its rate",
        ),
        (
            {"learning_rate": keras.optimizers.schedules.CosineDecay(1.0, 9)},
            "learning_rate= has a schedule of Keras for its rate, .* give it a number",
        ),
        (
            {"model": own_model, "preprocessing": PIXELS, "variant": "half"},
            "variant= has no effect",
        ),
        (
            {"model": own_model, "preprocessing": PIXELS, "image_size": 12},
            "image_size= has no effect",
        ),
        (
            {"model": own_model, "preprocessing": PIXELS, "dropout_rate": 0.1},
            "dropout_rate= has no",
        ),
        ({"model": own_model, "preprocessing": PIXELS, "colour_noise": 0.1}, "has no colour_pca"),
        ({"colour_noise": 0.1}, "colour_noise=0.1 has no effect with variant=lenet5"),
        (
            {"callbacks": [RATES], "schedule": "linear"},
            "a LearningRateScheduler that .*schedule=linear and",
        ),
        ({"callbacks": [RATES], "warmup_steps": 2}, "warmup_steps=2 do; pass schedule='constant'"),
        (
            {"callbacks": [keras.callbacks.ReduceLROnPlateau()], "schedule": "plateau"},
            "a ReduceLROnPlateau that sets the rate, as schedule=plateau",
        ),
        ({"loss": lambda targets, logits: tf.reduce_mean(logits)}, r"returns the shape \(\) for"),
        (
            {"loss": lambda targets, logits: tf.nn.softmax(targets, logits)},
            r"loss= cannot be computed for \(6, 3\) and \(6, 3\): ",
        ),
        (
            {"loss": lambda targets, logits: targets - logits},
            r"shape \(6, 3\) for .* each .*, \(6,\)",
        ),
        (
            {"augment": lambda images, targets, seed: (images[:, 1:], targets)},
            r"augment= makes \(6, 27, 28, 1\) and \(6, 3\) of \(6, 28, 28, 1\) and \(6, 3\)",
        ),
        ({"augment": lambda images, targets: images}, "augment= cannot be computed for .*argument"),
        (
            {"model": own_model, "preprocessing": PIXELS, "trainable": False},
            "all of its layers are frozen",
        ),
        ({"dropout_rate": 0.1}, "dropout_rate=0.1 has no effect with variant=lenet5"),
        ({"optimizer": alexnet_tf.SGD2012(0.1), "learning_rate": 0.2}, "learning_rate= has no"),
        (
            {"augment": lambda images, targets, seed: (images / 255, targets)},
            "augment= makes numbers from 0 to 1 out of levels from 0 to 255; keep them in 0..255",
        ),
        (
            {"augment": lambda images, targets, seed: (images / 64 - 2, targets)},
            "augment= makes numbers from -2 to 1.98",
        ),
        ({"crop": "random"}, "crop= cannot be computed for uint8 .height, width, 3.: .*callable"),
        ({"crop": lambda image, pixels: image}, "crop= cannot be computed for .*argument"),
        ({"crop": lambda image, pixels, seed: 1 / 0}, "crop= cannot be computed for .*by zero"),
        ({"crop": lambda image, pixels, seed: image}, r"shape \(None, None, 3\) .* \(28, 28, 1\)"),
        (
            {"crop": lambda image, pixels, seed: image[:28, :28, :1] / 255},
            "crop= returns float32 .* as uint8: tf.cast",
        ),
        (
            {"crop": lambda image, pixels, seed: image[:28, :28, :1] // 255},
            "crop= makes numbers from 0 to . out of levels",
        ),
        ({"strategy": "mirrored"}, "strategy= is of the type str; pass a tf.distribute.Strategy"),
        (
            {"callbacks": [keras.callbacks.EarlyStopping("val_accuracy")]},
            "EarlyStopping with monitor='val_accuracy', which is not measured; there are loss, to",
        ),
        (
            {"callbacks": [keras.callbacks.EarlyStopping("val_top_1")]},
            "monitor='val_top_1' and mode='auto'; pass mode='max'",
        ),
        (
            {"callbacks": [keras.callbacks.EarlyStopping("val_loss", mode="max")]},
            "monitor='val_loss' and mode='max'; pass mode='min'",
        ),
        (
            {
                "callbacks": [
                    keras.callbacks.ModelCheckpoint(
                        "a.keras", monitor="val_top_1", save_best_only=True
                    )
                ]
            },
            "ModelCheckpoint with monitor='val_top_1' and mode='auto'; pass",
        ),
        (
            {"callbacks": [keras.callbacks.ModelCheckpoint("{val_accuracy}.keras")]},
            "a ModelCheckpoint with filepath={val_accuracy}.keras, which cannot be filled in",
        ),
        (
            {"callbacks": [keras.callbacks.LambdaCallback(on_test_batch_end=print)]},
            "a LambdaCallback with on_test_batch_end, but no callback is told of the batches",
        ),
        ({"callbacks": [keras.callbacks.CallbackList([])]}, "a CallbackList; pass a list of"),
        ({"callbacks": [keras.callbacks.SwapEMAWeights()]}, "has a SwapEMAWeights, for an opt"),
        ({"callbacks": [keras.callbacks.BackupAndRestore("b")]}, "has a BackupAndRestore, but a"),
        ({"init": "variant"}, "init= is not a parameter"),
        ({"class_weight": {}}, "class_weight= is not a para.* use some of .* class_weights, "),
        ({"preprocessing": PIXELS}, r"makes images of 12 x 12 x 1, but the model reads .*28, 28"),
    ],
)
def test_what_would_be_passed_over_is_refused(dataset, tmp_path, arguments, message):
    if "model" in arguments:
        model = own_model()
        model.trainable = arguments.get("trainable", True)
        arguments = {key: arguments[key] for key in arguments.keys() - {"trainable"}}
        arguments["model"] = model
    usual = FAST if "model" in arguments else LENET5
    with pytest.raises(UserError, match=message):
        alexnet_tf.train(tmp_path / "model", dataset, **(usual | arguments))
    assert not (tmp_path / "model").exists()


def test_one_of_several_processes_does_not_train_alone_unless_it_is_told_to(
    dataset, tmp_path, monkeypatch
):
    cluster = {"worker": ["a:1", "b:1"]}
    task = {"type": "worker", "index": 1}
    monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": cluster, "task": task}))
    # which is refused later: in a step nothing is left that could be
    how = LENET5 | {"loss": lambda targets, logits: targets}

    def refuse(message, **more):
        with pytest.raises(UserError, match=message):
            alexnet_tf.train(tmp_path / "model", dataset, **how, **more)
        assert not (tmp_path / "model").exists()

    refuse(
        r"^TF_CONFIG names 2 processes; pass strategy=.*, or strategy=tf.distribute.get_strategy"
    )
    refuse("loss= returns the shape", strategy=tf.distribute.get_strategy())
    with tf.distribute.OneDeviceStrategy("CPU:0").scope():
        refuse("loss= returns the shape")
    monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": {"worker": ["a:1"]}, "task": task}))
    refuse("loss= returns the shape")


def test_functions_that_run_eagerly_are_refused(dataset, tmp_path):
    tf.config.run_functions_eagerly(True)
    try:
        with pytest.raises(
            UserError, match="run_functions_eagerly.True. was called, .* with False"
        ):
            alexnet_tf.train(tmp_path / "model", dataset, **LENET5)
    finally:
        tf.config.run_functions_eagerly(False)
    assert not (tmp_path / "model").exists()


def test_a_graph_in_which_nothing_runs_is_refused(dataset, tmp_path):
    with tf.Graph().as_default(), pytest.raises(UserError, match="TensorFlow only builds a graph"):
        alexnet_tf.train(tmp_path / "model", dataset, **LENET5)
    assert not (tmp_path / "model").exists()


def planned(dataset, tmp_path, monkeypatch, **how):
    """(the Plan of a training from Python, what it told)."""
    told = []

    def trained(*arguments, **_):
        told.append(arguments[5])
        raise UserError("enough")

    monkeypatch.setattr(loop, "train", trained)
    with pytest.raises(UserError, match="enough"):
        alexnet_tf.train(tmp_path / "model", dataset, **FAST | how | {"note": told.append})
    return told[-1], told[:-1]


@pytest.mark.long
def test_a_variant_has_its_rate_however_it_is_given(dataset, tmp_path, monkeypatch):
    pixels = alexnet_tf.Preprocessing(67, 80, 3, (120.0,) * 3, 1.0)
    told = []
    for how in (
        {"variant": "half", "image_size": 67},
        {"model": alexnet_tf.build_model("half", 3, 67)},
    ):
        told.append(planned(dataset, tmp_path, monkeypatch, preprocessing=pixels, epochs=1, **how))
    assert told[0][0].learning_rate == told[1][0].learning_rate == stable_rate("half", 3) < 0.01
    # no colours, no noise of them
    assert told[0][0].colour_noise == 0 and "without the colour noise of" in told[0][1][0]
    assert told[1][1] == told[0][1]
    whole = alexnet_tf.AlexNet(
        "half", classes=3, input_shape=(67, 67, 3), classifier_activation=None
    )
    plan, _ = planned(dataset, tmp_path, monkeypatch, epochs=1, model=whole)
    assert (plan.learning_rate, plan.colour_noise) == (told[0][0].learning_rate, 0.1)
    lars = {"variant": "lenet5", "epochs": 1, "optimizer": alexnet_tf.LARS()}
    _, (line, _) = planned(dataset, tmp_path, monkeypatch, **lars)
    assert line == "LARS has a rate of 2; for batches of 6 its author's table gives 0.012"


@pytest.mark.long
def test_an_alexnet_is_trained_as_its_variant(dataset, tmp_path):
    model = alexnet_tf.AlexNet("lenet5", classes=3, classifier_activation=None)
    how = {"model": model, "epochs": 1} | FAST
    network = alexnet_tf.train(tmp_path / "model", dataset, **how)
    assert network.settings.variant == "lenet5" and network.preprocessing.mean != (0.0,)
    images = np.random.default_rng(0).integers(0, 256, (2, 28, 28, 1), np.uint8)
    said = keras.ops.softmax(model(images, training=False))  # its layers are what was trained
    np.testing.assert_allclose(network.probabilities(images), said, rtol=1e-5)
    stored = alexnet_tf.AlexNet("lenet5", weights=tmp_path / "model")
    np.testing.assert_allclose(stored(images, training=False), said, rtol=1e-5)
    # what an earlier version has begun as a model of one's own goes on as that
    settings = checkpoints.read_settings(tmp_path / "model")
    pixels = dataclasses.replace(network.preprocessing, mean=(0.0,), std=1.0)
    own = run_settings.settings_of(model, dataset, pixels, loop.Plan()).to_json()
    for name in ("variant", "architecture", "preprocessing", "dropout_rate"):
        settings[name] = own[name]
    source = {"file": "their.weights", "licence": "theirs"}  # and of whose weights it was
    checkpoints.write_settings(tmp_path / "model", settings | {"pretrained": source})
    goes_on = alexnet_tf.train(
        tmp_path / "model", dataset, **how | {"epochs": 2, "preprocessing": pixels}
    )
    assert goes_on.settings.variant == "own" and goes_on.settings.descent == source


@pytest.mark.long
def test_a_model_is_of_the_strategy_that_trains_it(dataset, tmp_path):
    strategy = tf.distribute.OneDeviceStrategy("CPU:0")
    with strategy.scope():
        inside = own_model()
    how = FAST | {"preprocessing": PIXELS, "epochs": 1}
    for model, of in ((own_model(), strategy), (inside, None)):
        with pytest.raises(UserError, match="made outside the scope of the strategy"):
            alexnet_tf.train(tmp_path / "model", dataset, model=model, strategy=of, **how)
    trained = alexnet_tf.train(tmp_path / "model", dataset, model=inside, strategy=strategy, **how)
    assert trained.step == 4


def test_an_optimizer_is_of_the_strategy_that_trains_with_it(dataset, tmp_path):
    with pytest.raises(UserError, match="optimizer= was made outside .* in strategy.scope"):
        alexnet_tf.train(
            tmp_path / "model",
            dataset,
            strategy=two_devices(),
            optimizer=alexnet_tf.SGD2012(),
            **LENET5,
        )
    with pytest.raises(UserError, match="strategy= is of the type str; pass a tf.distribute.Stra"):
        alexnet_tf.evaluate(tmp_path / "model", dataset, strategy="mirrored")
    assert not (tmp_path / "model").exists()


def test_gradients_are_not_clipped_on_each_of_several_replicas(dataset, tmp_path):
    strategy = two_devices()
    for name in ("clipnorm", "clipvalue", "global_clipnorm"):
        with strategy.scope():
            optimizer = alexnet_tf.SGD2012(0.1, **{name: 0.5})
        with pytest.raises(UserError, match=f"has {name}=0.5, which .* on each of 2 replicas"):
            how = LENET5 | {"strategy": strategy, "optimizer": optimizer}
            alexnet_tf.train(tmp_path / "model", dataset, **how)
    assert not (tmp_path / "model").exists()


def test_the_scope_around_a_training_is_that_of_its_strategy(dataset, tmp_path):
    with two_devices().scope(), pytest.raises(UserError, match="strategy= is not the strategy"):
        alexnet_tf.train(tmp_path / "model", dataset, strategy=two_devices(), **LENET5)
    assert not (tmp_path / "model").exists()


@pytest.mark.long
def test_an_evaluation_on_one_host_runs_no_collective(dataset, tmp_path, monkeypatch):
    """Those of a second MirroredStrategy of a process end in an error."""

    def gather(*_, **__):
        raise AssertionError("gather is a collective")

    model_dir, strategy = write_lenet5(tmp_path / "model", CLASS_NAMES), two_devices()
    monkeypatch.setattr(strategy, "gather", gather)
    told = alexnet_tf.evaluate(model_dir, dataset, batch_size=4, strategy=strategy).figures()
    assert told["loss"] == pytest.approx(alexnet_tf.evaluate(model_dir, dataset).figures()["loss"])


def of_noise(judging=slice(12, 18)):
    parts = [records(*noise(24), rows) for rows in (slice(12), judging)]
    return alexnet_tf.from_tf_data(*parts, CLASS_NAMES)


def train_own(model_dir, epochs=1, model=None, data=None, **more):
    how = {"model": model or own_model(), "preprocessing": PIXELS, "epochs": epochs} | more
    return alexnet_tf.train(model_dir, data or of_noise(), **FAST | how)


class Begins(keras.callbacks.Callback):
    """Gives the model a bias when a training begins, and keeps what is told of that."""

    def on_train_begin(self, logs=None):
        self.told = dict(self.params)
        self.model.layers[-1].bias.assign([1.0, 2.0, 3.0])


def normalised(adapted=True):
    """A model of one's own that begins with a Normalization, which may have seen pictures."""
    first = keras.layers.Normalization()
    if adapted:
        first.adapt(np.random.default_rng(0).normal(100, 30, (8, 12, 12, 1)))
    inputs = keras.Input((12, 12, 1))
    x = keras.layers.Conv2D(4, 3, strides=3)(first(inputs))
    return keras.Model(inputs, keras.layers.Dense(3)(keras.layers.GlobalAveragePooling2D()(x)))


@pytest.mark.long
def test_what_a_normalization_has_learned_is_stored_and_goes_on(tmp_path):
    levels = alexnet_tf.Preprocessing(12, 14, 1, (0.0,), 1.0)
    images = np.random.default_rng(1).integers(0, 256, (4, 12, 12, 1), np.uint8)

    def expected(network):
        """As Keras computes it, told the mean and the variance."""
        mean, variance, _, *rest = network.model.get_weights()
        assert abs(mean[0] - 100) < 3
        inputs = keras.Input((12, 12, 1))
        x = keras.layers.Normalization(mean=mean, variance=variance)(inputs)
        for layer in network.model.layers[2:]:
            x = layer(x)
        return keras.ops.softmax(keras.Model(inputs, x)(images.astype("f4")))

    trained = train_own(tmp_path / "model", 1, normalised(), preprocessing=levels)
    opened = alexnet_tf.load(tmp_path / "model")
    on = train_own(tmp_path / "model", 2, normalised(False), preprocessing=levels)
    for network in (trained, opened, on):
        found = network.probabilities(images)
        np.testing.assert_allclose(found, expected(network), atol=1e-5)
    np.testing.assert_allclose(trained.probabilities(images), opened.probabilities(images), 1e-5)


def gelu(x):
    """Called like one of Keras's, and another."""
    return keras.ops.tanh(x)


def test_a_function_that_keras_would_open_as_its_own_is_not_trained(tmp_path):
    inputs = keras.Input((12, 12, 1))
    x = keras.layers.Dense(4, gelu, name="hidden")(keras.layers.Flatten()(inputs))
    model = keras.Model(inputs, keras.layers.Dense(3, kernel_initializer="zeros")(x))
    message = (
        "Nothing is trained: .* another function than the gelu of hidden, .* give yours a name"
    )
    with pytest.raises(UserError, match=message):
        train_own(tmp_path / "model", model=model)
    assert not (tmp_path / "model").exists()


@pytest.mark.long
def test_a_callback_may_change_the_weights_at_the_start_and_not_on_the_way(tmp_path):
    begins = Begins()
    train_own(tmp_path / "model", callbacks=[begins])
    assert begins.told == {"epochs": 1, "steps": 2, "verbose": 0}
    before = (tmp_path / "model/settings.json").read_text()
    with pytest.raises(UserError, match="changes the weights when .* continues from step 2; omit"):
        train_own(tmp_path / "model", 2, callbacks=[begins], learning_rate=0.5)
    assert (tmp_path / "model/settings.json").read_text() == before
    assert train_own(tmp_path / "model", 2, callbacks=[keras.callbacks.History()]).step == 4


class Zeroes(keras.callbacks.Callback):
    """Sets all weights to 0 at the end of `hook`, and keeps what it is told there."""

    def __init__(self, hook):
        super().__init__()
        self.told = []
        setattr(self, hook, self._zero)

    def _zero(self, *told):
        self.told.append(told)
        self.model.set_weights([np.zeros_like(weight) for weight in self.model.get_weights()])


@pytest.mark.long
@pytest.mark.parametrize("hook", ["on_epoch_end", "on_test_end"])
def test_figures_are_of_the_weights_that_a_callback_leaves(tmp_path, hook):
    zeroes = Zeroes(hook)
    network = train_own(tmp_path / "model", callbacks=[zeroes], patience=2)
    state = checkpoints.newest_state(tmp_path / "model")
    for found in (network.figures, state.figures, state.best):
        assert found["loss"] == pytest.approx(np.log(3))
    assert not network.model.layers[-1].kernel.numpy().any()
    ((*_, told),) = zeroes.told
    names = {"loss", "top_1", "top_5"}
    if hook == "on_epoch_end":
        names = names - {"top_5"} | {f"val_{name}" for name in names}
    assert set(told) == names and told["loss"] != pytest.approx(np.log(3))


def test_no_callback_puts_other_weights_into_an_evaluation(tmp_path):
    with pytest.raises(UserError, match="one that changes the weights when an evaluation begins"):
        train_own(tmp_path / "model", callbacks=[Zeroes("on_test_begin")])


@pytest.mark.parametrize(
    "change, named",
    [
        (lambda model: setattr(model.layers[1], "trainable", False), "trainable of .*/kernel and "),
        (lambda model: setattr(model.optimizer, "momentum", 0.5), "momentum of the optimizer"),
    ],
)
def test_no_callback_changes_what_a_step_does_not_look_at_again(tmp_path, change, named):
    model = own_model()
    sets = keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: change(model))
    with pytest.raises(UserError, match=f"has one that sets {named}.* reads that only when"):
        train_own(tmp_path / "model", model=model, callbacks=[sets])


@pytest.mark.parametrize(
    "name,value,message",
    [
        ("learning_rate", -0.1, "one that sets the rate to -0.1; it has to be 0 or"),
        ("learning_rate", float("nan"), "one that sets the rate to nan; it has to be 0 or"),
        ("learning_rate", float("inf"), "one that sets the rate to inf; it has to be 0 or"),
        ("lr", 0.1, "one that sets optimizer.lr, .* set optimizer.learning_rate"),
    ],
)
def test_no_callback_sets_a_rate_by_which_nothing_is_learnt(tmp_path, name, value, message):
    model = own_model()
    sets = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: setattr(model.optimizer, name, value)
    )
    with pytest.raises(UserError, match=message):
        train_own(tmp_path / "model", model=model, callbacks=[sets])


def test_no_callback_ends_a_training_before_its_first_step(tmp_path):
    model = own_model()
    stops = keras.callbacks.LambdaCallback(
        on_train_begin=lambda logs: setattr(stops.model, "stop_training", True)
    )
    with pytest.raises(UserError, match="sets stop_training before the first step, so nothing"):
        train_own(tmp_path / "model", model=model, callbacks=[stops])
    assert not (tmp_path / "model/settings.json").exists()


@pytest.mark.parametrize(
    "hook,schedule",
    [
        ("on_train_begin", "plateau"),
        pytest.param("on_train_batch_end", "linear", marks=pytest.mark.long),
    ],
)
def test_no_callback_sets_a_rate_that_the_schedule_would_overwrite(tmp_path, hook, schedule):
    model = own_model()

    def slow(*arguments, logs=None):
        model.optimizer.learning_rate.assign(1e-4)

    sets = keras.callbacks.LambdaCallback(**{hook: slow})
    with pytest.raises(UserError, match=f"has one that sets the rate, as schedule={schedule}"):
        train_own(tmp_path / "model", model=model, callbacks=[sets], schedule=schedule)


@pytest.mark.long
def test_an_optimizer_that_is_used_again_is_as_one_made_anew(tmp_path):
    model, optimizer = own_model(), alexnet_tf.SGD2012(0.03125)
    start, trained = model.get_weights(), []
    how = {"optimizer": optimizer, "schedule": "linear", "warmup_steps": 2}
    for folder in ("one", "other"):
        model.set_weights(start)
        trained.append(train_own(tmp_path / folder, model=model, **how).model.get_weights())
        assert run_settings.begun(tmp_path / folder)[0]["flags"]["learning_rate"] == 0.03125
    for one, other in zip(*trained):
        np.testing.assert_array_equal(one, other)
    fails = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        train_own(tmp_path / "third", model=model, callbacks=[fails], **how)
    assert float(optimizer.learning_rate) == 0.03125


def test_a_callback_that_is_told_of_the_evaluation_may_choose(dataset, tmp_path, monkeypatch):
    def told(*callbacks):
        how = {"variant": "lenet5", "preprocessing": LENET5_PIXELS, "callbacks": callbacks}
        _, lines = planned(dataset, tmp_path, monkeypatch, **how)
        held_out = any("choose the weights and the rate; test/ does not" in line for line in lines)
        return held_out, [line for line in lines if "metrics.jsonl, only log" in line]

    assert told(Begins(), keras.callbacks.CSVLogger("log.csv"), RATES) == (False, [])
    for hook in ("on_epoch_end", "on_test_end"):
        held_out, (line,) = told(keras.callbacks.LambdaCallback(**{hook: print}))
        assert held_out and line.startswith("LambdaCallback: may choose by the evaluation")
    assert told(stopping()) == told(stopping(), Zeroes(hook)) == (True, [])


@pytest.mark.long
def test_callbacks_that_keep_the_best_begin_anew_and_it_is_told(tmp_path):
    file = str(tmp_path / "best.keras")

    def told(epochs, **threshold):
        notes = []
        best = keras.callbacks.ModelCheckpoint(file, save_best_only=True, **threshold)
        train_own(tmp_path / "model", epochs, callbacks=[best, RATES], note=notes.append)
        return [line for line in notes if line.startswith("evaluations before step")]

    assert told(1) == []
    assert told(2) == [
        "evaluations before step 2 do not count for ModelCheckpoint; the next one replaces the best"
        " that was saved, unless initial_value_threshold= is the best val_loss so far"
    ]
    assert told(3, initial_value_threshold=0.5) == []


@pytest.mark.long
def test_other_pictures_are_not_judged_by_the_record_of_those_before(tmp_path):
    """Of three greys that the network tells apart: no error, and a third where labels are wrong."""
    images, labels = greys()

    def train(epochs, judging, note=print):
        data = alexnet_tf.from_tf_data(
            records(images + np.arange(18, dtype=np.uint8)[:, None, None, None], labels, slice(18)),
            tf.data.Dataset.from_tensor_slices((images[::2] + 1, judging)),
            CLASS_NAMES,
        )
        how = {"patience": 2, "learning_rate": 0.0, "note": note}
        network = train_own(tmp_path / "model", epochs, of_greys(), data, **how)
        return network, checkpoints.newest_state(tmp_path / "model")

    right, notes = labels[::2], []
    network, state = train(9, right)
    assert network.step == 9 and state.stopped == "patience" and state.best["error"] == 0
    assert train(9, right)[0].step == 9
    wrong = np.where(right == 1, 2, right)
    network, state = train(9, wrong, notes.append)
    assert network.step == 18 and state.best["step"] == 12  # two epochs after the first of these
    assert state.best["error"] == state.plateau["lowest"] == pytest.approx(1 / 3)
    assert sum("start counting again" in line for line in notes) == 1


@pytest.mark.long
def test_initial_weights_cannot_change_on_the_way(dataset, tmp_path):
    network = alexnet_tf.train(tmp_path / "model", dataset, **LENET5)

    def check(init):
        flags = network.settings.flags | {"init": init}
        settings = dataclasses.replace(network.settings, flags=flags)
        return run_settings.check(tmp_path / "model", settings, dataset)

    assert check("") is check("source2012") is None
    with pytest.raises(UserError, match="holds a model of init source2012, not variant; pass"):
        check("variant")


def of_whole_numbers():
    images = keras.Input((12, 12, 1), dtype="uint8")
    x = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(images))
    return keras.Model(images, keras.layers.Dense(3)(x))


@pytest.mark.long
def test_a_model_of_whole_numbers_gets_no_others(tmp_path):
    levels = alexnet_tf.Preprocessing(12, 14, 1, (0.0,), 1.0)
    for more, message in (
        (
            {},
            r"subtracts \(128.0,\) and divides by 64, but the model reads whole numbers .uint8.",
        ),
        (
            {"preprocessing": levels, "augment": lambda images, targets, seed: (images, targets)},
            "augment= makes levels that are not whole numbers",
        ),
        ({"preprocessing": levels, "colour_noise": 0.1}, "colour_noise= makes levels"),
    ):
        with pytest.raises(UserError, match=message):
            train_own(tmp_path / "model", model=of_whole_numbers(), **more)
    assert not (tmp_path / "model").exists()
    train_own(tmp_path / "model", model=of_whole_numbers(), preprocessing=levels)


@pytest.mark.long
def test_a_model_of_ones_own_in_half_precision_is_judged_in_float32(tmp_path):
    with networks.under_policy("mixed_bfloat16"):
        model = own_model()
    network = train_own(tmp_path / "model", model=model, class_weights=[1.0, 2.0, 1.0])
    assert network.step == 2
    logits, labels = tf.constant([[1.0, 2.0, 4.0]]), tf.constant([1], tf.int64)
    halves = tf.cast(logits, tf.bfloat16)
    judge = objective.Objective(class_weights=[1.0, 2.0, 1.0]).judge(CLASS_NAMES)
    for judged, of in ((judge, tf.one_hot(labels, 3)), (objective.judge_labels, labels)):
        np.testing.assert_array_equal(judged(of, halves)[0], judged(of, logits)[0])
    with pytest.raises(UserError, match="precision=mixed_bfloat16 is for the variants; .* omit"):
        networks.check_precision(alexnet_tf.load(tmp_path / "model"), "mixed_bfloat16")


@pytest.mark.long
def test_a_variant_that_was_changed_is_trained_as_it_is(dataset, tmp_path):
    model = alexnet_tf.build_model("lenet5", 3)
    model.get_layer("conv2").activation = keras.activations.sigmoid
    assert run_settings.settings_of(model, dataset, LENET5_PIXELS, loop.Plan()).variant == "own"
    how = {"model": model, "preprocessing": LENET5_PIXELS, "epochs": 1} | FAST
    trained = alexnet_tf.train(tmp_path / "model", dataset, **how)
    stored = alexnet_tf.load(tmp_path / "model")
    assert stored.model.get_layer("conv2").activation is keras.activations.sigmoid
    assert checkpoints.weights_digest(stored.model) == checkpoints.weights_digest(trained.model)
    judged = alexnet_tf.evaluate(stored, dataset).figures()
    assert judged["loss"] == pytest.approx(trained.figures["loss"], rel=1e-5)


@pytest.mark.long
def test_a_model_that_is_there_is_of_its_size(dataset, tmp_path):
    alexnet_tf.train(tmp_path / "model", dataset, **LENET5)
    with pytest.raises(UserError, match="holds a model of image_size 28, not 40"):
        alexnet_tf.train(tmp_path / "model", dataset, image_size=40, **LENET5)


@pytest.mark.long
def test_the_class_that_differs_is_named(dataset, tmp_path):
    alexnet_tf.train(tmp_path / "model", dataset, **LENET5)
    other = write_picture_folder(tmp_path / "other")
    for split in ("train", "test"):
        (other / split / CLASS_NAMES[1]).rename(other / split / f"{CLASS_NAMES[1]} or so")
    with pytest.raises(UserError, match=f"not {CLASS_NAMES[1]} or so; pass another"):
        alexnet_tf.train(tmp_path / "model", alexnet_tf.open_dataset("folder", other), **LENET5)


@pytest.mark.parametrize(
    "record_of",
    [
        lambda image, label: ((image, image), label),
        lambda image, label: ({"image": image}, label),
        lambda image, label: (image, {"label": label}),
    ],
)
def test_records_of_another_structure_are_refused(record_of):
    images, labels = noise()
    strange = records(images, labels, slice(None)).map(record_of)
    with pytest.raises(UserError, match="does not fit: each record has to be"):
        alexnet_tf.from_tf_data(strange, strange, CLASS_NAMES)


def test_a_folder_in_the_place_of_a_name_is_refused(few):
    with pytest.raises(UserError, match="takes no .*Path here"):
        alexnet_tf.open_dataset(few)
    with pytest.raises(UserError, match="takes no dict here"):
        alexnet_tf.open_dataset("folder", few, names={"train": "."})
    assert alexnet_tf.open_dataset("folder", few, names=SplitNames(train=".")).class_counts


def test_an_export_from_before_an_evaluation_is_told(dataset, tmp_path):
    model_dir, told = write_lenet5(tmp_path / "model", CLASS_NAMES), []

    def export():
        network = alexnet_tf.load(model_dir)
        return alexnet_tf.export(
            network, tmp_path / "weights", format="safetensors", note=told.append
        )

    export()
    alexnet_tf.evaluate(alexnet_tf.load(model_dir), dataset)
    assert len(told) == 0
    export()
    assert "before the latest evaluation, which its card lacks" in told.pop()


@pytest.mark.long
@pytest.mark.parametrize("form", ["model", "mixed", "saved_model"])
def test_figures_of_other_weights_are_not_told(dataset, tmp_path, monkeypatch, form):
    monkeypatch.setattr(saved_model, "_check", lambda *arguments: None)
    model_dir = write_lenet5(tmp_path / "model", CLASS_NAMES)
    alexnet_tf.evaluate(model_dir, dataset)
    path = model_dir
    if form == "saved_model":
        path = alexnet_tf.export(model_dir, tmp_path / "saved")
    policy, told = keras.config.dtype_policy(), []
    keras.config.set_dtype_policy("mixed_bfloat16" if form == "mixed" else policy)
    try:
        network = alexnet_tf.load(path)
    finally:
        keras.config.set_dtype_policy(policy)
    assert network.step == 7 and network.settings.others["metrics"]
    before = network.model.get_weights()
    network.model.set_weights([weights + 0.5 for weights in before])
    if form == "model":
        alexnet_tf.evaluate(network, dataset)
        assert "metrics" in alexnet_tf.load(model_dir).settings.others  # those of its own weights
    out = tmp_path / "out"
    version = alexnet_tf.export(
        network, out, format="safetensors", min_probability=0.5, note=told.append
    )
    (line,) = told
    assert line.startswith(f"{path} no longer has the weights that it was opened with")
    exported = alexnet_tf.load(version)
    assert (exported.step, exported.figures) == (0, None)
    assert "metrics" not in exported.settings.others
    for found, expected in zip(exported.model.get_weights(), before):
        np.testing.assert_array_equal(found, expected + 0.5)


@pytest.mark.long
@pytest.mark.parametrize("nested", [False, True])
def test_the_layer_that_is_not_finite_is_found_by_ones_own_crop(tmp_path, nested):
    """On grey pictures all is finite; `crop` makes them white."""
    grey = np.full((18, 16, 16, 3), 128, np.uint8)
    data = [records(grey, np.arange(18) % 3, rows) for rows in (slice(12), slice(12, 18))]
    model = own_model()
    if nested:
        images = keras.Input((12, 12, 1))
        flat = keras.Model(images, keras.layers.Flatten()(images))
        model = keras.Sequential([keras.Input((12, 12, 1)), flat, keras.layers.Dense(3)])
    model.layers[-1].kernel.assign(np.full((144, 3), 2.5e34))
    with pytest.raises(NotFinite, match=f"at step 1 from layer {model.layers[-1].name} on"):
        alexnet_tf.train(
            tmp_path / "model",
            alexnet_tf.from_tf_data(*data, CLASS_NAMES),
            model=model,
            preprocessing=alexnet_tf.Preprocessing(12, 14, 1, (128.0,), 1.0),
            crop=lambda image, pixels, seed: tf.fill([12, 12, 1], tf.constant(255, tf.uint8)),
            epochs=1,
            **FAST,
        )


def test_exports_and_conversions_are_in_full_float32(tmp_path, monkeypatch):
    """They compare to 1e-5, and on GPUs of today float32 is TF32, of ten bits."""
    told = []

    def tell(*arguments, **_):
        told.append(tf.config.experimental.tensor_float_32_execution_enabled())
        return tmp_path

    model_dir = write_lenet5(tmp_path / "model", list(CLASS_NAMES))
    monkeypatch.setattr(saved_model, "write", tell)
    monkeypatch.setattr(artifacts, "newest_version", lambda path: tell() and None)
    alexnet_tf.export(model_dir, tmp_path / "out")
    with pytest.raises(UserError, match="is not a version that"):
        alexnet_tf.convert(tmp_path / "out", tmp_path / "out.tflite")
    assert told and not any(told)
    assert tf.config.experimental.tensor_float_32_execution_enabled()


@pytest.mark.long
def test_exports_tell_the_test_figures_of_a_training_that_chose(dataset, tmp_path):
    told = []
    how = LENET5 | {"patience": 1, "note": told.append}
    network = alexnet_tf.train(tmp_path / "model", dataset, **how)
    kept = alexnet_tf.load(tmp_path / "model")
    for one in (network, kept):
        metrics = one.settings.others["metrics"]
        assert (metrics["split"], metrics["figures"]["examples"]) == ("test", 9)
        assert metrics["figures"]["top_1"] == network.figures["top_1"] == kept.figures["top_1"]
    given = {"dataset": "folder", "data_dir": dataset.opened_with["data_dir"], "variant": "lenet5"}
    given |= {"model_dir": tmp_path / "other", "epochs": 1, "patience": 1, "batch_size": 6}
    call(train, *(f"--{name}={value}" for name, value in given.items()), "--xla=off")
    assert alexnet_tf.load(tmp_path / "other").settings.others["metrics"]["split"] == "test"


@pytest.mark.long
def test_what_tells_less_than_the_test_split_is_not_kept_for_exports(dataset, tmp_path, capsys):
    model_dir = tmp_path / "model"
    alexnet_tf.train(model_dir, dataset, **LENET5 | {"patience": 1})

    def kept():
        line = next((o for o in capsys.readouterr().err.splitlines() if "not kept" in o), "")
        return alexnet_tf.load(model_dir).settings.others["metrics"]["figures"]["examples"], line

    new = tmp_path / "pictures"  # called as those of the training, and with a test split too
    write_pictures(new / "test", 2, first=30)
    alexnet_tf.evaluate(model_dir, data_dir=new)
    count, line = kept()
    assert (
        count == 9
        and "not kept for exports: what is kept is from the training's test split" in line
    )
    alexnet_tf.evaluate(model_dir, test_split="train")
    count, line = kept()
    assert count == 9 and "not kept for exports: it was trained on 21 of these pictures" in line
    shutil.rmtree(new / "test" / CLASS_NAMES[0])
    alexnet_tf.evaluate(model_dir, data_dir=new)
    count, line = kept()
    assert count == 9 and "1 of the 3 classes have no pictures there" in line
    alexnet_tf.evaluate(model_dir, views=10)
    assert kept() == (9, "")
    assert alexnet_tf.load(model_dir).settings.others["metrics"]["views"] == 10


@pytest.mark.long
def test_figures_of_the_test_split_stay_whatever_it_is_called(tmp_path, capsys):
    folder = write_picture_folder(tmp_path / "pictures")
    (folder / "inner").mkdir()
    (folder / "test").rename(folder / "inner/held out")
    names = SplitNames(train="train/", test="inner/held out/")
    dataset = alexnet_tf.open_dataset("folder", folder, names=names)
    alexnet_tf.train(tmp_path / "model", dataset, **LENET5 | {"patience": 1})
    write_pictures(tmp_path / "other/test", 2, first=30)
    capsys.readouterr()
    for given in ({"data_dir": tmp_path / "other"}, {"test_split": "inner/held out"}, {}):
        alexnet_tf.evaluate(tmp_path / "model", **given)
        kept = alexnet_tf.load(tmp_path / "model").settings.others["metrics"]
        assert kept["figures"]["examples"] == 9 and kept["of_test"]
        assert ("is from the training's test split" in capsys.readouterr().err) == (
            "data_dir" in given
        )
    write_pictures(tmp_path / "new/train", 2, first=40)
    (tmp_path / "other/test").rename(tmp_path / "new/held out")
    new = alexnet_tf.open_dataset("folder", tmp_path / "new", names=SplitNames(test="held out"))
    alexnet_tf.evaluate(tmp_path / "model", new)
    assert "was split for training" not in capsys.readouterr().err


@pytest.mark.long
def test_the_classes_that_a_training_was_not_evaluated_on_are_told(few, tmp_path):
    (tmp_path / "split").mkdir()
    few.rename(tmp_path / "split/train")
    write_pictures(tmp_path / "split/val", 2, first=20)
    write_pictures(tmp_path / "split/test", 2, first=30)
    shutil.rmtree(tmp_path / "split/test" / CLASS_NAMES[1])
    told, dataset = [], alexnet_tf.open_dataset("folder", tmp_path / "split")
    alexnet_tf.train(tmp_path / "model", dataset, **LENET5 | {"patience": 1, "note": told.append})
    assert f"Not evaluated, for lack of pictures in test: {CLASS_NAMES[1]}." in told


def test_the_only_answer_is_that_of_the_pictures_that_are_reported_on(capsys):
    assert evaluation.as_chosen({"top_1": 0.5, "only_answer": 1}) == {"validation_top_1": 0.5}
    app.report_answers({"top_1": 0.5, "only_answer": 1}, CLASS_NAMES, None)
    assert CLASS_NAMES[1] in capsys.readouterr().out
    app.tell_of_only_answer("models/a", {"only_answer": 1}, CLASS_NAMES)
    assert f"models/a answers every picture with {CLASS_NAMES[1]}" in capsys.readouterr().err


@pytest.mark.long
def test_where_pictures_lie_now_is_kept_where_nothing_is_trained(few, tmp_path):
    def train_on(folder):
        dataset = alexnet_tf.open_dataset("folder", folder)
        return alexnet_tf.train(tmp_path / "model", dataset, **LENET5 | {"seed": 3})

    train_on(few)
    few.rename(tmp_path / "moved")
    assert train_on(tmp_path / "moved").settings.flags["data_dir"] == str(tmp_path / "moved")
    assert alexnet_tf.evaluate(tmp_path / "model").figures()["examples"] == 3


def of_rows(train, judging):
    """Three data sets of ones of the same 24 records may have some of them in common."""
    return alexnet_tf.from_tf_data(
        *(records(*noise(24), slice(*rows)) for rows in (train, judging)), CLASS_NAMES
    )


def features_of(network):
    """A model of one's own on the first layers of the network's."""
    x = network.model.layers[-2].output
    return keras.Model(network.model.inputs[0], keras.layers.Dense(3)(x))


@pytest.mark.parametrize(
    "handed_out",
    [
        pytest.param(lambda network: network, marks=pytest.mark.long),
        pytest.param(lambda network: alexnet_tf.load(network.path).model, marks=pytest.mark.long),
        features_of,
    ],
    ids=["network", "opened", "features"],
)
def test_what_a_model_has_seen_counts_in_its_next_training(tmp_path, handed_out):
    hidden = keras.Sequential(
        [
            keras.Input((12, 12, 1)),
            keras.layers.Flatten(),
            keras.layers.Dense(4),
            keras.layers.Dense(3),
        ]
    )
    first = train_own(tmp_path / "first", model=hidden, data=of_rows((0, 12), (12, 15)))
    data, told = of_rows((12, 24), (9, 12)), []
    second = train_own(tmp_path / "second", model=handed_out(first), data=data, note=told.append)
    line = f"{first.path} was trained on 3 of the 3 pictures of "
    assert any(one.startswith(line) for one in told)
    assert len(second.record.trained) == 24
    assert record.read(tmp_path / "second").has_seen(first.record.trained).all()
    # what it has seen in another training does not keep it from going on
    assert train_own(tmp_path / "second", 2, model=second, data=data).step == 4


@pytest.mark.long
def test_the_pixels_of_a_network_are_those_that_it_is_trained_on(tmp_path):
    first = train_own(tmp_path / "first")
    second = alexnet_tf.train(tmp_path / "second", of_noise(), model=first, epochs=1, **FAST)
    assert second.preprocessing == PIXELS
    with pytest.raises(UserError, match="model=.* a Keras model, or what train or load gives"):
        alexnet_tf.train(tmp_path / "third", of_noise(), model=str(tmp_path), **FAST)


class Stops(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        raise KeyboardInterrupt


@pytest.mark.long
def test_a_training_that_was_cut_short_counts_too(tmp_path):
    model = own_model()
    with pytest.raises(KeyboardInterrupt):
        train_own(tmp_path / "first", model=model, callbacks=[Stops()])
    with pytest.raises(UserError, match="batch_size=100"):  # what is refused has trained nothing
        train_own(tmp_path / "none", model=model, data=of_rows((18, 24), (0, 3)), batch_size=100)
    second = train_own(tmp_path / "second", model=model, data=of_rows((12, 18), (18, 21)))
    assert len(second.record.trained) == 18


@pytest.mark.long
def test_what_weights_have_seen_judges_no_training_that_begins_with_them(few, tmp_path):
    opened = [alexnet_tf.open_dataset("folder", few, seed) for seed in (0, 1)]
    first = alexnet_tf.train(tmp_path / "first", opened[0], **LENET5)
    model = alexnet_tf.AlexNet("lenet5", weights=tmp_path / "first", classifier_activation=None)
    second = alexnet_tf.train(
        tmp_path / "second", opened[1], **{"epochs": 1, "model": model} | FAST
    )
    assert first.record.has_seen(opened[1].evaluation.identities).all()
    assert len(second.record.held_out) and not first.record.has_seen(second.record.held_out).any()


@pytest.mark.long
def test_the_licence_of_weights_outlives_further_trainings(tmp_path):
    source = {"file": "their.weights", "licence": "theirs", "url": "https://example.org"}
    begins = PixelNormalization((128.0,), 64.0, "own", source)
    model = keras.Sequential([keras.Input((12, 12, 1)), begins, *own_model().layers])
    pixels = dataclasses.replace(PIXELS, mean=(0.0,), std=1.0)
    first = train_own(tmp_path / "first", model=model, preprocessing=pixels)
    assert first.settings.descent == source
    begins.source = None  # its layers know it too
    second = train_own(tmp_path / "second", model=first, preprocessing=None)
    assert second.settings.descent == source
    ends = [
        (first.model, {"class_names": CLASS_NAMES, "preprocessing": pixels}),
        (second, {}),
    ]
    for number, (network, told) in enumerate(ends, 1):
        version = alexnet_tf.export(network, tmp_path / "out", number, "keras", **told)
        assert alexnet_tf.load(version).settings.descent == source
        opened = keras.saving.load_model(version / "model.keras")
        assert opened.get_layer("pixels").source == source


class Notes(keras.callbacks.Callback):
    """Notes the number and the rate of each step; SIGTERM comes after one of them."""

    def __init__(self, last=0):
        super().__init__()
        self.told, self.last = [], last

    def on_train_batch_end(self, batch, logs=None):
        optimizer = self.model.optimizer
        self.told.append((int(optimizer.iterations.numpy()), float(optimizer.learning_rate)))
        if self.told[-1][0] == self.last:
            signal.raise_signal(signal.SIGTERM)


@pytest.mark.long
@pytest.mark.parametrize("way", ["auto", "on"])
def test_callbacks_see_the_same_steps_and_rates_in_a_run_that_was_stopped(tmp_path, way):
    def train(last=0):
        halves = keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate / 2)
        how = {"epochs": 2, "batch_size": 4, "schedule": "constant", "learning_rate": 0.008}
        train_own(tmp_path / "model", callbacks=[halves, notes := Notes(last)], xla=way, **how)
        return notes.told

    with pytest.raises(SystemExit):
        train(last=5)  # in the middle of the second epoch
    assert train() == [(6, pytest.approx(0.002))]


@pytest.mark.long
def test_a_model_stays_as_its_user_has_compiled_it(tmp_path):
    model, other = own_model(), own_model()
    model.compile("adam", "mse", metrics=["mae"])
    images, targets = np.ones((4, 12, 12, 1)), np.zeros((4, 3))
    model.fit(images, targets, verbose=0)
    adam, names = model.optimizer, model.metrics_names
    logger = keras.callbacks.CSVLogger(str(tmp_path / "log.csv"))
    told, others = [], []
    train_own(tmp_path / "model", model=model, callbacks=[logger], note=told.append)
    (line,) = [line for line in told if "compiled" in line]
    assert line.startswith("model= was compiled, with Adam; that is for its own fit, and train")
    assert model.optimizer is adam and model.metrics_names == names and model.loss == "mse"
    model.fit(images, targets, verbose=0)
    assert int(adam.iterations) == 2
    train_own(tmp_path / "other", model=other, callbacks=[RATES], note=others.append)
    assert not any("compiled" in line for line in others)
    assert not other.compiled and not hasattr(other, "optimizer")
