"""What models keep beside their weights, such as the moving statistics of BatchNormalization, and
the losses that they add."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from trainings import Bar, one_device, plan, two_devices

from alexnet_tf import networks
from alexnet_tf.data import datasets
from alexnet_tf.errors import UserError
from alexnet_tf.network.layers import Dropout
from alexnet_tf.preprocessing import Preprocessing
from alexnet_tf.training import checkpoints, loop, own_models, steps
from alexnet_tf.training.optimizer import SGD2012
from alexnet_tf.training.state import TrainingState

PIXELS = Preprocessing(image_size=12, resize=14, channels=1, mean=(120.0,), std=64.0)
MOMENTUM = 0.8  # of the moving statistics


class Counter(layers.Layer):
    """Counts its calls in training, as an integer, and puts through what it gets."""

    def build(self, input_shape):
        self.calls = self.add_weight(
            shape=(), dtype="int32", initializer="zeros", trainable=False, name="calls"
        )

    def call(self, inputs, training=False):
        if training:
            self.calls.assign(self.calls + 1)
        return inputs


def build(strategy, regularizer=None, trainable=True):
    keras.utils.set_random_seed(5)
    with strategy.scope():
        images = keras.Input((12, 12, 1))
        x = layers.Conv2D(4, 3, kernel_regularizer=regularizer, name="conv")(images)
        x = layers.BatchNormalization(momentum=MOMENTUM, name="norm")(x)
        x = Counter(name="counter")(
            layers.Dropout(0.0, name="nothing")(layers.ReLU(name="relu")(x))
        )
        x = layers.Dense(3, name="last")(layers.Flatten(name="flat")(x))
        model, optimizer = keras.Model(images, x), SGD2012(0.05, momentum=0.0, decay=0.0)
        model.get_layer("norm").trainable = trainable
        optimizer.build(model.trainable_variables)
    return model, optimizer


def batches(count=3, rows=8):
    rng = np.random.default_rng(0)
    return [
        {
            "image": rng.integers(0, 256, (rows, 12, 12, 1), np.uint8),
            "label": rng.integers(0, 3, rows),
        }
        for _ in range(count)
    ]


def inputs(batch):
    return (batch["image"].astype(np.float32) - 120) / 64


def take(strategy, model, optimizer, some, xla=False):
    step = steps.TrainStep(strategy, model, optimizer, PIXELS, len(some[0]["label"]), xla=xla)
    return [
        float(
            step(
                next(
                    iter(
                        strategy.experimental_distribute_dataset(
                            tf.data.Dataset.from_tensors(batch)
                        )
                    )
                ),
                number,
            )[0]
        )
        for number, batch in enumerate(some)
    ]


def values(model):
    return {
        variable.path: variable.numpy()
        for variable in model.variables
        if "seed" not in variable.path
    }


@pytest.mark.parametrize("xla,regularizer", [(True, None), (False, keras.regularizers.L2(0.05))])
def test_steps_are_those_of_keras(xla, regularizer):
    model, optimizer = build(one_device(), regularizer)
    take(one_device(), model, optimizer, batches(), xla)
    keras_model, _ = build(one_device(), regularizer)
    start = values(keras_model)
    keras_model.compile(
        keras.optimizers.SGD(0.05), keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    for batch in batches():
        keras_model.train_on_batch(inputs(batch), batch["label"])
    ours, theirs = values(model), values(keras_model)
    assert ours.keys() == theirs.keys() and len(ours) == 9
    for name, value in theirs.items():
        np.testing.assert_allclose(ours[name], value, rtol=1e-5, atol=1e-6, err_msg=name)
        if name != "conv/bias":  # the normalisation takes it away again
            assert (value != start[name]).any(), name


@pytest.mark.parametrize("xla", [False, True])
def test_moving_statistics_are_the_mean_over_the_replicas(xla):
    strategy = two_devices()
    model, optimizer = build(strategy)
    optimizer.learning_rate.assign(0.0)
    kernel, bias = model.get_layer("conv").get_weights()
    take(strategy, model, optimizer, batches(2), xla)
    mean, variance = np.zeros(4), np.ones(4)
    for batch in batches(2):
        maps = tf.nn.conv2d(inputs(batch), kernel, 1, "VALID").numpy().astype(np.float64) + bias
        halves = maps.reshape(2, -1, 4)  # the rows of each replica
        mean = MOMENTUM * mean + (1 - MOMENTUM) * halves.mean(1).mean(0)
        variance = MOMENTUM * variance + (1 - MOMENTUM) * halves.var(1).mean(0)
    norm = model.get_layer("norm")
    for variable, expected in ((norm.moving_mean, mean), (norm.moving_variance, variance)):
        for replica in strategy.experimental_local_results(variable.value):
            np.testing.assert_allclose(replica.numpy(), expected, rtol=1e-5, atol=1e-6)
    assert model.get_layer("counter").calls.numpy() == 2


@pytest.mark.parametrize(
    "synchronization,aggregation",
    [
        ("auto", "mean"),
        ("auto", "only_first_replica"),
        ("on_read", "mean"),
        ("on_read", "only_first_replica"),
    ],
)
def test_state_of_any_kind_of_variable_agrees_on_all_replicas(synchronization, aggregation):
    class Mean(layers.Layer):
        def build(self, input_shape):
            self.seen = keras.Variable(
                0.0,
                trainable=False,
                aggregation=aggregation,
                synchronization=synchronization,
                name="seen",
            )

        def call(self, inputs, training=False):
            if training:
                self.seen.assign(keras.ops.mean(inputs))
            return inputs

    strategy = two_devices()
    with strategy.scope():
        images = keras.Input((12, 12, 1))
        model = keras.Model(images, layers.Dense(3)(layers.Flatten()(Mean(name="mean")(images))))
        optimizer = SGD2012()
    (batch,) = batches(1)
    take(strategy, model, optimizer, [batch])
    assert model.get_layer("mean").seen.numpy() == pytest.approx(inputs(batch).mean(), rel=1e-5)


def test_two_devices_add_the_models_own_losses_once():
    ends = []
    for strategy in (one_device(), two_devices()):
        model, optimizer = build(strategy, keras.regularizers.L2(0.5), trainable=False)
        take(strategy, model, optimizer, batches())
        ends.append(values(model))
    for name, value in ends[0].items():
        np.testing.assert_allclose(ends[1][name], value, rtol=1e-5, atol=1e-6, err_msg=name)


@pytest.mark.long
def test_a_frozen_normalisation_and_a_loss_that_is_not_finite_move_nothing():
    strategy = two_devices()
    model, optimizer = build(strategy, trainable=False)
    before = values(model)
    take(strategy, model, optimizer, batches(1))
    after = values(model)
    assert {name for name in after if (after[name] != before[name]).any()} == {
        "conv/kernel",
        "conv/bias",
        "last/kernel",
        "last/bias",
        "counter/calls",
    }

    model, optimizer = build(strategy)
    model.get_layer("last").kernel.assign(np.full((400, 3), 1e38, np.float32))
    before = values(model)
    (loss,) = take(strategy, model, optimizer, batches(1))
    assert not np.isfinite(loss)
    for name, value in values(model).items():
        np.testing.assert_array_equal(value, before[name], err_msg=name)


def test_a_model_without_such_state_gets_no_operation_for_it():
    strategy = one_device()
    with strategy.scope():
        images = keras.Input((12, 12, 1))
        x = Dropout(0.5)(layers.Dropout(0.5)(layers.Flatten()(images)))
        frozen = layers.Dense(5, trainable=False)(x)
        model, optimizer = keras.Model(images, layers.Dense(3)(frozen)), SGD2012()
    step = steps.TrainStep(strategy, model, optimizer, PIXELS, 8, xla=False)
    step(batches(1)[0], 0)
    assert len(model.non_trainable_variables) == 4  # two seeds, two frozen weights
    (graph,) = (function.graph for function in step.forward_backward._list_all_concrete_functions())
    assert len(graph.outputs) == 2 + len(model.trainable_variables)


class Drawn(layers.Layer):
    """Puts out what its seed is in each step, as a weight that a step keeps."""

    def __init__(self, seed=None, **kwargs):
        super().__init__(**kwargs)
        self.seed_generator = keras.random.SeedGenerator(seed)

    def build(self, input_shape):
        self.twice = self.add_weight(shape=(2, 2), dtype="int64", trainable=False, name="twice")

    def call(self, inputs, training=False):
        if training:
            draws = [self.seed_generator.next() for _ in range(2)]
            self.twice.assign(keras.ops.stack(draws))
        return inputs


def drawn(seed=0, own=None, number=0):
    """The states of two draws in each of two layers in a step: int64 [2, 2, 2]."""
    strategy = one_device()
    with strategy.scope():
        images = keras.Input((12, 12, 1))
        x = Drawn(own, name="second")(Drawn(name="first")(layers.Flatten()(images)))
        model, optimizer = keras.Model(images, layers.Dense(3)(x)), SGD2012()
    step = steps.TrainStep(strategy, model, optimizer, PIXELS, 8, xla=False, seed=seed)
    step(batches(1)[0], number)
    return np.stack([model.get_layer(name).twice for name in ("first", "second")])


def test_random_layers_of_keras_draw_by_seed_layer_and_step():
    """All had the stream of (row, step): two layers dropped the same units, and no seed counted."""
    usual = drawn()
    np.testing.assert_array_equal(drawn(), usual)
    assert len(np.unique(usual[..., 0])) == 2 and len(np.unique(usual[:, 0], axis=0)) == 2
    assert (drawn(seed=1) != usual)[..., 0].all() and (drawn(number=1) != usual)[..., 0].all()
    own = drawn(own=7) != usual
    assert own[1, :, 0].all() and not own[0].any()
    state = keras.random.SeedGenerator(0).state
    rows = [steps.state_of(state, tf.constant(row, tf.int64), 0, key=1) for row in (0, 4)]
    assert (rows[0] != rows[1]).numpy().all()  # of two replicas


def run(strategy, folder, model_dir, the_plan, bar=None):
    model, optimizer = build(strategy)
    dataset = datasets.open_dataset("folder", folder)
    figures = loop.train(
        strategy,
        model,
        optimizer,
        dataset,
        PIXELS,
        the_plan,
        str(model_dir),
        progress=bar or Bar(),
        note=lambda line: None,
    )
    return values(model), figures


@pytest.mark.long
def test_the_state_is_kept_in_the_checkpoint_and_exact_after_a_stop(picture_folder, tmp_path):
    whole, figures = run(
        one_device(), picture_folder, tmp_path / "whole", plan(2, learning_rate=0.05)
    )
    with pytest.raises(SystemExit):
        run(
            one_device(),
            picture_folder,
            tmp_path / "stopped",
            plan(2, learning_rate=0.05),
            Bar(stop_after=5),
        )
    resumed, resumed_figures = run(
        one_device(), picture_folder, tmp_path / "stopped", plan(2, learning_rate=0.05)
    )
    for name, value in whole.items():
        np.testing.assert_array_equal(resumed[name], value, err_msg=name)
    assert resumed_figures["loss"] == figures["loss"] and whole["counter/calls"] == 8
    again, _ = build(one_device())
    checkpoints.restore(tmp_path / "whole", again)
    np.testing.assert_array_equal(again.get_layer("norm").moving_mean, whole["norm/moving_mean"])
    assert (whole["norm/moving_mean"] != 0).all()


@pytest.mark.long
def test_two_devices_stopped_and_started_again_are_the_whole_run(picture_folder, tmp_path):
    strategy = two_devices()
    whole, _ = run(strategy, picture_folder, tmp_path / "whole", plan(1))
    with pytest.raises(SystemExit):
        run(strategy, picture_folder, tmp_path / "stopped", plan(1), Bar(stop_after=2))
    resumed, _ = run(strategy, picture_folder, tmp_path / "stopped", plan(1))
    for name, value in whole.items():
        np.testing.assert_array_equal(resumed[name], value, err_msg=name)


@pytest.mark.long
def test_timing_xla_moves_no_statistics(picture_folder, tmp_path):
    class TimedError(Exception):
        pass

    def progress(*_):  # which is asked for when all is timed, and nothing trained
        raise TimedError

    strategy, notes = one_device(), []
    model, optimizer = build(strategy)
    dataset, before = datasets.open_dataset("folder", picture_folder), values(model)
    with pytest.raises(TimedError):
        loop.train(
            strategy,
            model,
            optimizer,
            dataset,
            PIXELS,
            plan(1, xla="auto"),
            tmp_path / "model",
            progress=progress,
            note=notes.append,
        )
    assert any(note.startswith("xla=auto: ") for note in notes)
    for name, value in values(model).items():
        np.testing.assert_array_equal(value, before[name], err_msg=name)


def test_what_a_step_keeps_may_be_assigned():
    """In a step alone too, by all that Keras has for it."""

    class Bounded(layers.Layer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.seed = keras.random.SeedGenerator(1)

        def call(self, inputs, training=False):
            return inputs + keras.random.normal((1,), seed=self.seed) if training else inputs

    images = keras.Input((12, 12, 1))
    frozen = layers.SpectralNormalization(layers.Conv2D(2, 3))
    frozen.trainable = False
    x = layers.BatchNormalization()(Counter()(Bounded()(frozen(images))))
    model = keras.Model(images, layers.Dense(3)(layers.Dropout(0.5)(layers.Flatten()(x))))
    before = [np.asarray(value) for value in model.weights]
    own_models.check_assigned(model)
    for value, old in zip(model.weights, before):
        np.testing.assert_array_equal(value, old)
    model = keras.Model(images, layers.SpectralNormalization(layers.Dense(3))(layers.Flatten()(x)))
    with pytest.raises(UserError, match="sets its own kernel"):
        steps.TrainStep(one_device(), model, SGD2012(), PIXELS, 8, xla=False)


def unnamed(units=4, rate=0.0, nested=False):
    """A model whose layers Keras names, by numbers that grow from model to model of a process."""
    keras.utils.set_random_seed(2)
    block = [layers.Conv2D(units, 3), layers.BatchNormalization(), layers.Dropout(rate)]
    block = [keras.Sequential([keras.Input((12, 12, 1)), *block])] if nested else block
    return keras.Sequential([keras.Input((12, 12, 1)), *block, layers.Flatten(), layers.Dense(3)])


def go_on(model, folder, model_dir, epochs):
    dataset, settings = datasets.open_dataset("folder", folder), plan(epochs, schedule="constant")
    strategy = tf.distribute.get_strategy()
    loop.train(strategy, model, SGD2012(), dataset, PIXELS, settings, model_dir, (), Bar(), print)
    return [np.asarray(value) for value in model.weights]


@pytest.mark.long
@pytest.mark.parametrize("nested", [False, True])
def test_a_model_built_twice_in_a_notebook_goes_on(picture_folder, tmp_path, nested):
    whole = go_on(unnamed(nested=nested), picture_folder, tmp_path / "whole", 2)
    first = unnamed(nested=nested)
    go_on(first, picture_folder, tmp_path / "parts", 1)
    second = unnamed(nested=nested)
    assert not {v.path for v in first.weights} & {v.path for v in second.weights}
    parts = go_on(second, picture_folder, tmp_path / "parts", 2)
    for one, other in zip(whole, parts, strict=True):
        np.testing.assert_array_equal(one, other)
    loaded = networks.load(tmp_path / "parts").model
    for one, other in zip(loaded.weights, parts, strict=True):
        np.testing.assert_array_equal(one, other)
    assert checkpoints.weights_digest(loaded) == checkpoints.weights_digest(second)
    again = go_on(loaded, picture_folder, tmp_path / "parts", 3)  # its names lack a prefix
    assert len(again) == len(parts)
    assert checkpoints.newest_step(tmp_path / "parts") == 12


@pytest.mark.parametrize(
    "other,message",
    [
        (lambda: unnamed(units=5), r"conv2d\w* of filters 4 where this one has conv2d\w* of .* 5;"),
        (lambda: unnamed(rate=0.5), "rate 0.0 where this one has .* 0.5; pass the model that was"),
        (lambda: build(tf.distribute.get_strategy())[0], "momentum 0.99 where this .* 0.8;"),
    ],
)
def test_a_training_goes_on_with_no_other_model(picture_folder, tmp_path, other, message):
    go_on(unnamed(), picture_folder, tmp_path / "model", 1)
    before = (tmp_path / "model/settings.json").read_text()
    with pytest.raises(UserError, match=message):
        go_on(other(), picture_folder, tmp_path / "model", 2)
    assert (tmp_path / "model/settings.json").read_text() == before


def test_weights_by_other_names_are_another_network_and_not_damage(tmp_path):
    def model(*names):
        return keras.Sequential(
            [keras.Input((4,)), *(layers.Dense(4, name=name) for name in names)]
        )

    def names(model):
        optimizer = SGD2012()
        optimizer.build(model.trainable_variables)
        return model, optimizer

    stored = names(model("left", "right"))
    checkpoints.save(tmp_path, *stored, TrainingState(step=1))
    swapped, _ = names(model("right", "left"))
    checkpoints.restore(tmp_path, swapped)  # by their names, and not by their order
    np.testing.assert_array_equal(
        swapped.get_layer("left").kernel, stored[0].get_layer("left").kernel
    )
    told = []
    with pytest.raises(UserError, match="other network: 'seq.*right/kernel' stands where .*up/ker"):
        checkpoints.restore(tmp_path, model("left", "up"), report=told.append)
    with pytest.raises(UserError, match=r"is \(4, 4\) instead of \(4, 5\)"):
        wide = keras.Sequential(
            [keras.Input((4,)), layers.Dense(5, name="left"), layers.Dense(4, name="right")]
        )
        checkpoints.restore(tmp_path, wide)
    with pytest.raises(UserError, match="'nothing' stands where"):
        checkpoints.restore(tmp_path, model("left", "right", "up"))
    assert told == []


@pytest.mark.parametrize("units,names_tell", [(4, False), (5, True)])
def test_layers_that_were_made_in_another_order_keep_their_weights(tmp_path, units, names_tell):
    """Keras numbers layers as they are made: `dense` may come after `dense_1`."""

    def model(*named):
        inputs = x = keras.Input((named[0][1],))
        for (name, _), (_, width) in zip(named, (*named[1:], named[0])):
            x = layers.Dense(width, name=name)(x)
        model, optimizer = keras.Model(inputs, x), SGD2012()
        optimizer.build(model.trainable_variables)
        for velocity in optimizer.velocities:
            velocity.assign(np.random.default_rng(0).normal(size=velocity.shape))
        return model, optimizer

    stored = model(("dense", 4), ("dense_1", units))
    checkpoints.save(tmp_path, *stored, TrainingState(step=1))
    built = model(("dense_1", units), ("dense", 4))
    checkpoints.restore(tmp_path, *built)
    order = (2, 3, 0, 1) if names_tell else (0, 1, 2, 3)
    for kept, found in ((one.variables for one in pair) for pair in zip(stored, built)):
        kept, found = ([v for v in some if "dense" in v.path] for some in (kept, found))
        for place, variable in zip(order, found, strict=True):
            np.testing.assert_array_equal(kept[place], variable)


def test_small_gradients_are_not_lost_in_half_precision():
    """That of a wrong class is its probability over the batch, 3e-8 here: 0 in float16."""
    gradients = {}
    for policy in ("float32", "mixed_float16"):
        with networks.under_policy(policy):
            model = keras.Sequential([keras.Input((4,)), layers.Dense(3, "linear")])
        model.layers[-1].set_weights([np.zeros((4, 3)), np.array([11.0, 0.0, 0.0])])
        step = tf.function(steps.make_forward_backward(model, tf.identity, 512), autograph=False)
        weights = [tf.convert_to_tensor(variable.value) for variable in model.trainable_variables]
        _, _, found, _ = step(weights, [], tf.ones([2, 4]), tf.zeros([2], tf.int64))
        gradients[policy] = [one.numpy() for one in found]
    for one, other in zip(*gradients.values()):
        assert np.all(one[..., 1:] > 0)
        np.testing.assert_allclose(other, one, rtol=0.01)
