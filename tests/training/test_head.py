"""What a fit chooses by itself: the decay and the temperature, by training pictures alone."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf
from trainings import Bar

from alexnet_tf.network.layers import Dropout
from alexnet_tf.training import features, head, regression
from alexnet_tf.training.metrics import NoLog


class Quiet(Bar):
    n = total = 0


def found_of(train, labels, evaluation=None, evaluation_labels=None):
    """The Features of one view of `train` [pictures, units]."""
    evaluation = train if evaluation is None else evaluation
    evaluation_labels = labels if evaluation_labels is None else evaluation_labels
    return features.Features(
        train[None].astype(np.float32),
        labels,
        evaluation[None].astype(np.float32),
        evaluation_labels,
        0.0,
        {"evaluation": []},
    )


def fitted(found, classes=3):
    """(kernel, bias, state, notes) of a fit."""
    inputs, notes = keras.Input((found.train.shape[-1],)), []
    projection = keras.Model(inputs, keras.layers.Dense(classes)(inputs))
    state = head.fit(projection, found, NoLog(), Quiet(), notes.append)
    return *projection.layers[-1].get_weights(), state, notes


def chosen(found):
    return head.choose(found, 3, *head.standardisation(found.train))


def blobs(rng, pictures, units, spread):
    """Features of three classes, `spread` times as wide as their centres are apart."""
    labels, centres = np.arange(pictures) % 3, rng.normal(0, 1, (3, units))
    return centres[labels] + spread * rng.normal(0, 1, (pictures, units)), labels


def log_softmax(logits):
    logits = logits - logits.max(-1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


@pytest.mark.parametrize("factor", [0.25, 1.0, 4.0])
def test_the_temperature_is_how_much_too_sure_logits_are(rng, factor):
    sound = rng.normal(0, 1.5, (20_000, 4))
    probabilities = np.exp(log_softmax(sound))
    labels = (rng.random((len(sound), 1)) > probabilities.cumsum(1)).sum(1)
    temperature, loss = head.temperature_of(factor * sound, labels)
    assert temperature == pytest.approx(factor, rel=0.04)
    own = -log_softmax(factor * sound / temperature)[range(len(labels)), labels].mean()
    assert loss == pytest.approx(own, rel=1e-9)
    for other in (0.97, 1.03):  # it is the best there is
        scaled = log_softmax(factor * sound / (other * temperature))
        assert -scaled[range(len(labels)), labels].mean() > loss


def test_three_pictures_all_right_are_no_reason_to_be_sure():
    temperature, _ = head.temperature_of(np.eye(3), np.arange(3))
    assert 0.2 < temperature < 1  # the likeliest alone would be the smallest that can be had


def left_out_by_hand(found, decay):
    """(calibrated loss, top-1) of five folds, each fitted in float64 by plain descent."""
    shift, scale = head.standardisation(found.train)
    rows, labels = (found.train[0] - shift) * float(scale), found.train_labels
    rng = np.random.default_rng(0)
    order, folds = rng.permutation(len(labels)), np.zeros(len(labels), int)
    folds[order[np.argsort(labels[order], kind="stable")]] = np.arange(len(labels)) % 5
    said = np.zeros((len(labels), 3))
    for fold in range(5):
        x, right = rows[folds != fold].astype(np.float64), np.eye(3)[labels[folds != fold]]
        kernel, bias = np.zeros((x.shape[1], 3)), np.zeros(3)
        for _ in range(2000):
            errors = np.exp(log_softmax(x @ kernel + bias)) - right
            kernel -= 2 / len(x) * (x.T @ errors + decay * kernel)
            bias -= 2 / len(x) * errors.sum(0)
        said[folds == fold] = rows[folds == fold] @ kernel + bias
    return head.temperature_of(said, labels), (said.argmax(1) == labels).mean()


@pytest.mark.parametrize("units", [12, 80])  # fewer than pictures, and more
@pytest.mark.parametrize("spread,weak", [(0.3, True), (3.0, False)])
def test_the_decay_is_that_of_the_lowest_loss_of_pictures_left_out(
    rng, monkeypatch, units, spread, weak
):
    monkeypatch.setattr(head, "_DECAYS", (3.0, 0.3, 0.03))
    monkeypatch.setattr(regression, "_FLAT", 1e-6)
    found = found_of(*blobs(rng, 45, units, spread))
    choice = chosen(found)
    by_hand = {decay: left_out_by_hand(found, decay) for decay in head._DECAYS}
    best = min(by_hand, key=lambda decay: by_hand[decay][0][1])
    (temperature, loss), top_1 = by_hand[best]
    assert choice.decay == best and (best == 0.03) == weak
    assert choice.temperature == pytest.approx(temperature, rel=0.01)
    assert (choice.loss, choice.top_1) == (pytest.approx(loss, rel=1e-3), top_1)
    assert choice.pictures == 45


def test_pictures_that_judge_choose_nothing(rng):
    train, labels = blobs(rng, 45, 12, 1.0)
    one = fitted(found_of(train, labels))
    two = fitted(found_of(train, labels, rng.normal(0, 9, (30, 12)), np.arange(30) % 3))
    np.testing.assert_array_equal(one[0], two[0])
    assert one[2].temperature == two[2].temperature != 1
    assert one[2].figures["loss"] != two[2].figures["loss"]


def test_figures_are_those_of_the_logits_over_the_temperature(rng):
    found = found_of(*blobs(rng, 45, 12, 1.5))
    kernel, bias, state, notes = fitted(found)
    said = log_softmax((found.train[0] @ kernel + bias) / state.temperature)
    assert state.figures["loss"] == pytest.approx(
        -said[range(45), found.train_labels].mean(), rel=1e-5
    )
    (note,) = notes
    assert f"temperature {state.temperature:.2f}, chosen by leaving out each of 45 training" in note


def test_answers_keep_how_probable_the_best_is(rng):
    found = found_of(*blobs(rng, 45, 12, 1.5))
    kernel, bias, state, _ = fitted(found)
    model = keras.Sequential([keras.Input((12,)), keras.layers.Dense(3)])
    model.layers[-1].set_weights([kernel, bias])
    answers = head.answers(model, found, state.temperature)
    said = log_softmax((found.evaluation[0] @ kernel + bias) / state.temperature)
    np.testing.assert_allclose(answers.highest, np.exp(said.max(1)), rtol=1e-5)


def test_the_only_picture_of_a_class_is_never_left_out(rng):
    train, labels = blobs(rng, 31, 6, 0.5)
    labels = np.where(np.arange(31) == 30, 2, labels % 2)
    choice = chosen(found_of(train, labels))
    assert choice.pictures == 30
    *_, state, notes = fitted(found_of(train[:3], np.arange(3)))
    assert state.temperature == 1 and "no class has two pictures" in notes[0]


@pytest.mark.parametrize("most,choosing", [(40, 40), (20, 24), (10, 20)])
def test_of_many_pictures_some_choose(rng, monkeypatch, most, choosing):
    """Eight of each of the three classes, where that is more, up to twice as many."""
    monkeypatch.setattr(head, "_MOST_CHOOSING", most)
    train, labels = blobs(rng, 90, 6, 0.5)
    choice = chosen(found_of(train, labels))
    assert choice.pictures == choosing


@pytest.mark.parametrize("copies", [1, 2])
def test_the_fit_is_the_same_in_fewer_coordinates(rng, monkeypatch, copies):
    """As many as there are pictures, where those that choose are all: copies make them fewer."""
    train, labels = blobs(rng, 45, 200, 1.0)
    found = found_of(np.repeat(train, copies, 0), np.repeat(labels, copies))
    kernel, bias, state, _ = fitted(found)
    # the same pictures as two views, which are no longer those that chose
    twice = dataclasses.replace(found, train=np.repeat(found.train, 2, 0))
    other, bias_there, there, _ = fitted(twice)
    np.testing.assert_allclose(kernel, other, atol=2e-3 * np.abs(other).max())
    np.testing.assert_allclose(bias, bias_there, atol=2e-3)
    assert state.figures["loss"] == pytest.approx(there.figures["loss"], rel=1e-3)


@pytest.mark.parametrize("inverted", [False, True])
def test_what_is_fitted_is_what_answers_behind_dropout(rng, inverted):
    """That of 2012 multiplies what the last layer reads by the share that is kept."""
    found = found_of(*blobs(rng, 45, 12, 1.0))
    inputs = keras.Input((12,))
    x = Dropout(0.4, inverted)(Dropout(0.5, inverted)(inputs))
    behind = keras.Model(inputs, keras.layers.Dense(3)(x))
    head.fit(behind, found, NoLog(), Quiet(), lambda line: None)
    kernel, bias, _, _ = fitted(found)
    np.testing.assert_allclose(
        head.logits(behind, found.train[0]), found.train[0] @ kernel + bias, atol=1e-3
    )


def test_copies_of_a_picture_are_left_out_together(rng):
    """Else the decay and the temperature are chosen by pictures that were fitted."""
    train, labels = blobs(rng, 45, 80, 3.0)
    once = chosen(found_of(train, labels))
    three = found_of(np.repeat(train, 3, 0), np.repeat(labels, 3))
    thrice = chosen(three)
    assert thrice.pictures == 3 * 45 and thrice.top_1 == pytest.approx(once.top_1, abs=0.12)
    assert thrice.decay >= once.decay
    # one picture in three copies is the only one of its class
    train, labels = np.vstack([train[:20], [train[20]] * 3]), np.append(labels[:20] % 2, [2] * 3)
    choice = chosen(found_of(train, labels))
    assert choice.pictures == 20


def test_a_fit_is_in_full_float32(rng, monkeypatch):
    """On GPUs of today float32 is TF32, of ten bits, unless it is turned off."""
    told, chosen = [], head.choose

    def choose(*arguments):
        told.append(tf.config.experimental.tensor_float_32_execution_enabled())
        return chosen(*arguments)

    monkeypatch.setattr(head, "choose", choose)
    fitted(found_of(*blobs(rng, 12, 4, 0.3)))
    assert told == [False] and tf.config.experimental.tensor_float_32_execution_enabled()
