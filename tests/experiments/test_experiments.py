"""Experiments are resumable, say what their results say, and train what they claim to train."""

import collections
import dataclasses
import json
import math
import shutil
import types

import keras
import numpy as np
import pytest
import tensorflow as tf
from binaries import call
from conftest import write_pictures
from PIL import Image

from alexnet_tf.commands import reproduce as command
from alexnet_tf.data import datasets, own, record
from alexnet_tf.errors import UserError
from alexnet_tf.experiments import (
    ablations,
    large_batch,
    normalisation,
    precision,
    relu,
    small_alexnet,
    specialisation,
    start,
)
from alexnet_tf.experiments import experiment as experiments
from alexnet_tf.experiments import reproduce as module
from alexnet_tf.experiments.experiment import Bench, Experiment, Result, Run
from alexnet_tf.figures import experiments as figures
from alexnet_tf.jobs import train as train_job
from alexnet_tf.network.layers import LocalResponseNormalization, SpatialResponseNormalization
from alexnet_tf.pixels import Preprocessing
from alexnet_tf.training import checkpoints


@pytest.fixture
def data(rng):
    """130 and 12 pictures of noise, of two classes."""

    def records(count):
        images = rng.integers(0, 256, (count, 32, 32, 3), np.uint8)
        return tf.data.Dataset.from_tensor_slices((images, np.arange(count) % 2))

    return own.from_tf_data(records(130), records(12), ("odd", "even"))


# Runs and results ---------------------------------------------------------------------------------


@pytest.fixture
def fake(monkeypatch):
    """An experiment of two arms, the second of which follows from the results of the first; it
    counts its measurements, and is interrupted at those in `stops`.
    """
    made, stops = collections.Counter(), set()

    def runs(seeds, results, dataset):
        first = [Run("first", seed, {"rate": 0.1}, keeps_model=True) for seed in range(seeds)]
        if len(results) < len(first):
            return first
        best = max(results, key=lambda one: (one.arm == "first", one.measured["value"]))
        return [*first, Run("second arm", best.seed)]

    def measure(run, bench):
        made[run.name] += 1
        (bench.model_dir(run) / "checkpoints/step-00000003").mkdir(parents=True, exist_ok=True)
        if run.name in stops:
            raise KeyboardInterrupt
        if run.name == "second-arm-seed2":
            assert bench.model_dir(Run("first", 0)).is_dir()  # a kept model
        return {"value": run.seed}

    experiment = Experiment(
        "fake",
        "A claim.",
        "How.",
        0.1,
        1000,
        3,
        runs,
        measure,
        lambda results: {"sum": str(sum(one.measured["value"] for one in results))},
        lambda results: figures.draw_spread({"x": {"a": [1.0]}}),
        draws_pictures=True,
    )
    monkeypatch.setitem(module.EXPERIMENTS, "fake", experiment)
    return made, stops


def test_a_run_that_is_over_is_not_made_again_and_leaves_one_file(fake, tmp_path):
    made, stops = fake
    stops.add("first-seed1")
    with pytest.raises(KeyboardInterrupt):
        module.reproduce("fake", tmp_path)
    assert sorted(path.name for path in tmp_path.rglob("*.json")) == ["first-seed0.json"]
    assert (tmp_path / "fake/first-seed1").is_dir()  # its checkpoint, to go on from
    stops.clear()
    found = module.reproduce("fake", tmp_path)
    assert made == {"first-seed0": 1, "first-seed1": 2, "first-seed2": 1, "second-arm-seed2": 1}
    assert found.table == {"sum": "5"}
    # models are gone, results and the picture are there
    assert sorted(path.name for path in tmp_path.rglob("*") if path.name != ".lock") == sorted(
        ["fake", "fake.png", *(f"{name}.json" for name in made)]
    )
    with Image.open(found.picture) as picture:
        assert picture.format == "PNG"
    stored = json.loads((tmp_path / "fake/second-arm-seed2.json").read_text())
    assert stored["arm"] == "second arm" and stored["asked"]["pictures"] == 1000
    assert {"versions", "machine", "seconds"} <= stored.keys()
    assert module.reproduce("fake", tmp_path, seeds=4).table == {"sum": "9"}  # a seed more
    assert made.total() == 7


@pytest.mark.parametrize(
    "change,message",
    [
        (
            lambda stored: {"asked": stored["asked"] | {"pictures": 7}},
            "made with pictures 7, but now",
        ),
        (lambda stored: {"asked": stored["asked"] | {"data": "other"}}, "made with data other"),
        (lambda stored: {"asked": stored["asked"] | {"settings": {}}}, "made with settings {}"),
        (lambda stored: {"asked": None}, "is not the result of a run"),
    ],
)
def test_results_of_other_settings_are_refused_and_not_mixed(fake, tmp_path, change, message):
    module.reproduce("fake", tmp_path)
    path = tmp_path / "fake/first-seed1.json"
    stored = json.loads(path.read_text())
    path.write_text(json.dumps(stored | change(stored)))
    with pytest.raises(UserError, match=message):
        module.reproduce("fake", tmp_path)


def test_a_run_does_not_go_on_with_other_settings_than_it_was_begun_with(fake, tmp_path):
    _, stops = fake
    stops.add("first-seed1")
    with pytest.raises(KeyboardInterrupt):
        module.reproduce("fake", tmp_path)
    (tmp_path / "fake/first-seed0.json").unlink()  # which would be refused itself
    stops.clear()
    for _ in range(2):
        with pytest.raises(
            UserError, match="first-seed1.begun was made with pictures 1000, but now 2"
        ):
            module.reproduce("fake", tmp_path / "", length=2)
        (tmp_path / "fake/first-seed0.json").unlink()
    module.reproduce("fake", tmp_path)
    assert not list(tmp_path.rglob("*.begun"))


@pytest.mark.parametrize("gone", ["first-seed0/checkpoints/step-00000003", "first-seed0.begun"])
def test_what_a_run_cannot_go_on_from_binds_nobody(fake, tmp_path, gone):
    _, stops = fake
    stops.add("first-seed0")
    with pytest.raises(KeyboardInterrupt):
        module.reproduce("fake", tmp_path)
    path, rest = tmp_path / "fake" / gone, tmp_path / "fake/first-seed0/losses.txt"
    path.rmdir() if path.is_dir() else path.unlink()
    rest.write_text("1 2.3")
    with pytest.raises(KeyboardInterrupt):
        module.reproduce("fake", tmp_path, length=2)
    assert not rest.exists()  # of the other length
    begun = json.loads((tmp_path / "fake/first-seed0.begun").read_text())
    assert begun["pictures"] == 2000
    rest.write_text("1 2.3")
    with pytest.raises(KeyboardInterrupt):
        module.reproduce("fake", tmp_path, length=2)
    assert rest.exists()  # now it goes on


def test_a_checkpoint_that_was_being_replaced_is_gone_on_from(fake, tmp_path):
    _, stops = fake
    stops.add("first-seed0")
    with pytest.raises(KeyboardInterrupt):
        module.reproduce("fake", tmp_path)
    whole = tmp_path / "fake/first-seed0/checkpoints/step-00000003"
    (whole / "weights.npz").touch()
    shutil.copytree(whole, whole.with_name(f".{whole.name}.replaced"))
    shutil.rmtree(whole)
    with pytest.raises(KeyboardInterrupt):
        module.reproduce("fake", tmp_path)
    assert (whole / "weights.npz").exists()


def test_what_cannot_be_run_is_refused_before_anything_is_written(data, tmp_path):
    few = dataclasses.replace(data, train=dataclasses.replace(data.train, examples=127))
    with pytest.raises(UserError, match="127 pictures to train on, and a step .* takes 128"):
        module.reproduce("relu", tmp_path / "out", few)
    with pytest.raises(UserError, match="no experiment 'lrn'; choose from relu, normalisation"):
        call(command, "lrn", f"--output={tmp_path}/out")
    with pytest.raises(UserError, match="length=0"):
        call(command, "start", "--length=0", f"--output={tmp_path}/out")
    with pytest.raises(UserError, match="relu start: one experiment at a time"):
        call(command, "relu", "start")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "variable,value,message",
    [
        (
            "TF_CONFIG",
            '{"cluster": {"worker": ["a:1", "b:2"]}, "task": {"type": "worker", "index": 0}}',
            "^TF_CONFIG names 2 processes, but an experiment is trained in one; start one, without "
            "TF_CONFIG.$",
        ),
        ("SLURM_STEP_NUM_TASKS", "3", "^srun names 3 .*; start one, by srun -n1.$"),
    ],
)
def test_an_experiment_is_no_work_for_several_processes(
    fake, tmp_path, monkeypatch, variable, value, message
):
    made, _ = fake
    monkeypatch.setenv(variable, value)
    opened = []
    monkeypatch.setattr(command.datasets, "open_dataset", lambda *_, **__: opened.append(1))
    with pytest.raises(UserError, match=message):
        call(command, "fake", "--dataset=cifar10", f"--output={tmp_path}/out")
    with pytest.raises(UserError, match=message):
        module.reproduce("fake", tmp_path / "out")
    assert not opened and not made and not list(tmp_path.iterdir())
    call(command)  # the list is for anybody


def test_experiments_are_listed_with_their_hours(capsys):
    call(command)
    listed = capsys.readouterr().out
    for name, one in module.EXPERIMENTS.items():
        assert f"  {name} " in listed and f"{one.hours:.1f} h, {one.seeds} seeds" in listed
        assert f"  {name} " in command.__doc__  # which --help prints
    assert sum(one.hours for one in module.EXPERIMENTS.values()) < 13


def test_flags_without_effect_are_refused(tmp_path):
    with pytest.raises(UserError, match="--json is for an experiment; name one: relu"):
        call(command, f"--json={tmp_path}/list.json")
    with pytest.raises(UserError, match="--train_split is a split of --dataset or --data_dir"):
        call(command, "start", "--train_split=nonsense", f"--output={tmp_path}/out")
    assert not list(tmp_path.iterdir())


def test_the_command_reports_what_was_found(fake, tmp_path, capsys):
    call(
        command,
        "fake",
        f"--output={tmp_path}",
        f"--json={tmp_path}/found.json",
        "--seeds=1",
        "--length=2",
    )
    printed = capsys.readouterr().out
    assert "A claim." in printed and "2: 2,000 pictures a training" in printed
    told = json.loads((tmp_path / "found.json").read_text())
    assert told["sum"] == "0"
    made = told["results"][0].pop("made")
    assert told["results"][0] == {"arm": "first", "seed": 0, "measured": {"value": 0}}
    assert {"machine", "gpu", "python", "tensorflow"} <= made.keys()
    assert not [name for name in told if name.endswith("which differs")]


def test_what_the_runs_were_not_all_made_on_is_told(fake, tmp_path):
    module.reproduce("fake", tmp_path)
    for name, change in (
        ("first-seed1", {"machine": "other, 8 CPUs"}),
        ("first-seed2", {"versions": {"tensorflow": "2.0"}}),
    ):
        path = tmp_path / f"fake/{name}.json"
        stored = json.loads(path.read_text()) | {"machine": "mine", "commit": "abc"}
        path.write_text(json.dumps(stored | change))
    under = module.reproduce("fake", tmp_path).under
    told = {name: row for name, row in under.items() if name.endswith(", which differs")}
    assert "; other, 8 CPUs: 1 of 4; mine: 1 of 4" in told["machine, which differs"]
    assert "; abc: 2 of 4" in told["commit, which differs"]
    assert told["tensorflow, which differs"].endswith(": 3 of 4; 2.0: 1 of 4")
    assert told["keras, which differs"].endswith(": 3 of 4; not recorded: 1 of 4")
    assert "python, which differs" not in told and "gpu, which differs" not in told


def test_a_training_is_what_figure_1_asks_for_and_measured_by_its_log(data, tmp_path, monkeypatch):
    """The training itself, which takes long to compile, is that of every test of training, and of
    `make proof PART=reproduce`.
    """
    begun = []

    def train(strategy, model, optimizer, dataset, pixels, plan, model_dir, *more):
        begun.append((model, optimizer, pixels, plan, more))
        model_dir.mkdir()
        rows = [{"step": step, "train_top_1": 0.7 + step / 100} for step in range(1, 9)]
        rows[4:4] = [{"step": 4, "train_top_1": 0.9, "loss": 1.0}]  # after an evaluation
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (model_dir / "metrics.jsonl").write_text(lines)

    monkeypatch.setattr(train_job.loop, "train", train)
    run = Run("tanh, rate 0.003", 5, {"neuron": "tanh", "rate": 0.003})
    measured = relu.EXPERIMENT.measure(run, Bench(tmp_path, data, 8 * 130))
    ((model, optimizer, pixels, plan, (callbacks, _, _, objective, crop, *_)),) = begun
    assert model.name == "tanh" and model.output_shape == (None, 2)
    assert (plan.epochs, plan.schedule, plan.learning_rate, plan.seed) == (8, "constant", 0.003, 5)
    assert (optimizer.decay, optimizer.bias_rate, optimizer.momentum) == (0, 2, 0.9)
    assert plan.colour_noise == 0 and objective.augment is None
    image = np.arange(3 * 32 * 32).reshape(32, 32, 3).astype(np.uint8)
    for seed in range(8):  # never another crop, nor mirrored
        np.testing.assert_array_equal(crop(image, pixels, tf.constant([seed, 1], tf.int64)), image)
    assert [type(one) for one in callbacks] == [relu.StopAt]
    assert measured["course"] == [[step, round(0.3 - step / 100, 4)] for step in range(1, 9)]
    assert (measured["epochs"], measured["lowest"]) == (5, 0.22) and not measured["diverged"]


@pytest.fixture
def folder(tmp_path, rng):
    """270 pictures of noise to train on, and 3 to test, as class folders: a tenth of the former is
    held out where something may choose by the evaluation.
    """
    for split, count in (("train", 270), ("test", 3)):
        for index in range(count):
            path = tmp_path / "pictures" / split / "abc"[index % 3] / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (32, 32, 3), np.uint8)).save(path)
    return datasets.open_dataset("folder", tmp_path / "pictures")


def linear(classes):
    images = keras.Input((32, 32, 3))
    return keras.Model(images, keras.layers.Dense(classes)(keras.layers.Flatten()(images)))


def test_all_training_pictures_are_trained_on_whatever_is_called_back(
    folder, tmp_path, monkeypatch
):
    trained = []

    def train(strategy, model, optimizer, dataset, *more):
        trained.append(dataset)
        raise UserError("enough")

    class Told(keras.callbacks.Callback):
        def on_test_end(self, logs=None):
            pass

    monkeypatch.setattr(train_job.loop, "train", train)
    bench = Bench(tmp_path / "out", folder, 270)
    pixels = Preprocessing(32, 32, 3, (128.0,) * 3, 1.0)
    for one in (relu.StopAt(0.25), Told()):
        more = {"callbacks": [one], "schedule": "constant"}
        with pytest.raises(UserError, match="enough"):
            bench.train(Run("a", 0), lambda: linear(3), pixels, **more)
    assert [(one.train.examples, one.chose()) for one in trained] == [(270, False)] * 2
    assert bench.steps(folder) == bench.steps(trained[0]) == 270 // 128


@pytest.mark.long
def test_an_epoch_that_is_told_is_one_of_all_training_pictures(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(relu.cuda_convnet, "plain", lambda neuron, classes: linear(classes))
    monkeypatch.setattr(relu, "_ERROR", 1.0)  # which the first epoch reaches
    bench = Bench(tmp_path / "out", folder, 3 * 270)
    run = relu.EXPERIMENT.runs(1, [], folder)[0]
    measured = relu.EXPERIMENT.measure(run, bench)
    steps = checkpoints.newest_step(bench.model_dir(run))
    assert (steps, measured["epochs"]) == (270 // 128, 1.0)
    assert len(record.read(bench.model_dir(run)).trained) == 270


def test_a_training_ends_where_its_error_is_reached():
    stop = relu.StopAt(0.25)
    stop.set_model(keras.Sequential())
    for top_1, expected in ((0.5, False), (0.74, False), (0.75, True)):
        stop.model.stop_training = False
        stop.on_epoch_end(0, {"top_1": top_1})
        assert stop.model.stop_training == expected


def test_precision_is_that_of_the_run_alone(data, tmp_path):
    built = []

    def build():
        built.append(keras.config.dtype_policy().name)
        raise UserError("enough")

    bench = Bench(tmp_path, data, 130)
    with pytest.raises(UserError, match="enough"):
        bench.train(Run("a", 0), build, None, precision="mixed_bfloat16")
    assert built == ["mixed_bfloat16"] and keras.config.dtype_policy().name == "float32"


# What is found ------------------------------------------------------------------------------------


def test_spread_and_difference_are_over_seeds():
    assert experiments.spread([1.0, 2.0, 4.5], " %") == "2.5 ± 1.8 % (3 seeds)"
    assert experiments.spread([1.25], digits=2) == "1.25 (one seed)"
    assert experiments.spread([]) == "nothing"
    ours = [Result("a", seed, {"error": 10.0 + seed}) for seed in range(3)]
    base = [Result("b", seed, {"error": 9.0}) for seed in (2, 0)]
    assert experiments.difference(ours, base, "error") == [1.0, 3.0]


def test_a_ratio_of_speeds_says_on_what_else_it_rests():
    results = [
        Result(arm, seed, {"error": 20.0, "images_per_s": speed}, {"machine": "a", "gpu": "none"})
        for arm, speed in (("float32", 100.0), ("mixed_bfloat16", 150.0))
        for seed in range(2)
    ]
    told = precision.EXPERIMENT.tell(results)["found"]
    assert "at 1.50 times its speed" in told and "arithmetic alone" not in told
    results[0] = dataclasses.replace(results[0], made={"machine": "a", "gpu": "H100"})
    told = precision.EXPERIMENT.tell(results)["found"]
    assert told.endswith("; not due to the arithmetic alone: the runs also differ in gpu")


def relu_result(neuron, rate, seed, epochs, lowest=0.2, diverged=False):
    course = [[1, 0.5], [epochs or 2, lowest]]
    measured = {"epochs": epochs, "lowest": lowest, "diverged": diverged, "course": course}
    return Result(f"{neuron}, rate {rate:g}", seed, measured)


def test_each_neuron_has_its_own_best_rate_and_then_the_other_seeds():
    search = relu.EXPERIMENT.runs(3, [], None)
    assert len(search) == 10 and {run.seed for run in search} == {0}
    times = {"relu": [None, 8, 5, None, None], "tanh": [None, 30, 20, 10, None]}
    results = [
        relu_result(neuron, rate, 0, epochs, lowest=0.2 if epochs else 0.9, diverged=rate > 0.02)
        for neuron in times
        for rate, epochs in zip(relu.RATES, times[neuron])
    ]
    more = relu.EXPERIMENT.runs(3, results, None)[10:]
    assert [(run.arm, run.seed) for run in more] == [
        ("relu, rate 0.003", 1),
        ("tanh, rate 0.01", 1),
        ("relu, rate 0.003", 2),
        ("tanh, rate 0.01", 2),
    ]
    results.append(relu_result("relu", 0.003, 1, 7))
    told = relu.EXPERIMENT.tell(results)
    assert told["found"].startswith("tanh takes 1.67 times as many epochs as ReLU")  # 10 / 6
    results.append(relu_result("tanh", 0.01, 1, None, 0.3))
    results[-1].measured["course"].append([20, 0.3])
    told = relu.EXPERIMENT.tell(results)
    assert told["found"].startswith("tanh takes more than 2.50 times")  # (10 + 20) / 2 / 6
    assert told["tanh, rate 0.01"].endswith("1 did not get there")
    results.append(relu_result("tanh", 0.01, 2, None, 1.0, diverged=True))
    results[-1].measured["course"].clear()  # before the first 50 steps
    told = relu.EXPERIMENT.tell(results)
    assert told["found"].startswith("tanh takes more than 1.67 times")  # (10 + 20 + 0) / 3 / 6
    assert told["tanh, rate 0.01"].endswith("2 did not get there")
    assert told["relu, rate 0.03"].startswith("diverged")
    labels = [line.get_label() for line in relu.EXPERIMENT.draw(results).axes[0].lines]
    assert labels[0] == "ReLU, rate 0.003" and "tanh, rate 0.01" in labels
    at_once = [relu_result("relu", 0.001, 0, 5), relu_result("tanh", 0.001, 0, None, 1.0, True)]
    at_once[1].measured["course"].clear()
    assert relu.EXPERIMENT.tell(at_once)["found"].startswith("tanh diverged before")
    at_once[0].measured["course"][:] = [[5, 0.25]]
    lines = relu.EXPERIMENT.draw(at_once).axes[0].lines
    assert lines[0].get_marker() == "."  # one point makes no line
    stalled = [relu_result(neuron, 0.001, 0, None) for neuron in ("relu", "tanh")]
    assert "no ratio" in relu.EXPERIMENT.tell(stalled)["found"]


def test_the_published_schedule_is_cut_alike():
    assert [normalisation.rate(80, epoch) for epoch in (0, 59, 60, 69, 70, 79)] == pytest.approx(
        [1e-3, 1e-3, 1e-4, 1e-4, 1e-5, 1e-5]
    )
    for epochs, rates in ((4, [1e-3, 1e-3, 1e-4, 1e-5]), (3, [1e-3, 1e-4, 1e-5]), (1, [1e-3])):
        cut = [normalisation.rate(epochs, epoch) for epoch in range(epochs)]
        assert cut == pytest.approx(rates)


def test_normalisation_is_told_per_network_and_as_published():
    errors = {
        "13pct, without normalisation": (20, 21),
        "13pct, with normalisation": (19, 19),
        "11pct, without normalisation": (18, 17),
        "11pct, with normalisation": (16, 16),
    }
    results = [
        Result(arm, seed, {"error": error, "centre_error": error + 1})
        for arm, pair in errors.items()
        for seed, error in enumerate(pair)
    ]
    assert {run.arm for run in normalisation.EXPERIMENT.runs(1, [], None)} == set(errors)
    told = normalisation.EXPERIMENT.tell(results)
    assert told["normalisation in 13pct"] == "is worth 1.50 ± 0.71 points (2 seeds)"
    assert told["normalisation in 11pct"] == "is worth 1.50 ± 0.71 points (2 seeds)"
    assert "13pct to 11pct: 4.50 ± 0.71 points" in told["found"]
    axes = normalisation.EXPERIMENT.draw(results).axes[0]
    assert [text.get_text() for text in axes.get_yticklabels()] == list(errors)


def test_the_colour_index_is_the_energy_off_the_grey_axis(rng):
    grey = np.repeat(rng.normal(0, 1, (11, 11, 1)), 3, 2)
    opponent = rng.normal(0, 1, (11, 11, 1)) * np.array([1.0, -1, 0])
    both = grey / np.linalg.norm(grey) + opponent / np.linalg.norm(opponent)
    nothing = np.zeros((11, 11, 3))
    kernels = np.stack([grey, opponent, both, nothing], -1)
    np.testing.assert_allclose(specialisation.colour_index(kernels), [0, 1, 0.5, 0], atol=1e-12)
    noise = rng.normal(0, 1, (11, 11, 3, 500)).astype(np.float32)
    assert specialisation.colour_index(noise).mean() == pytest.approx(2 / 3, abs=0.005)
    # pixel by pixel, by the projection onto (1, 1, 1)
    axis = np.ones(3) / math.sqrt(3)
    off = noise[..., 0] - (noise[..., 0] @ axis)[..., None] * axis
    expected = (off**2).sum() / (noise[..., 0] ** 2).sum()
    assert specialisation.colour_index(noise)[0] == pytest.approx(expected, rel=1e-5)


def test_the_chance_of_a_difference_is_that_of_random_halves():
    parted = np.array([0.0, 0, 0, 1, 1, 1])  # of the 20 ways to halve them, two part them so
    rarity, drawn = specialisation.chance(parted, np.random.default_rng(0))
    assert specialisation.difference(parted) == 1 and rarity == pytest.approx(0.1, abs=0.01)
    # 18 ways leave one of three, and so a difference of a third
    assert drawn.mean() == pytest.approx(0.1 + 0.9 / 3, abs=0.01)
    mixed = np.array([0.0, 1, 0, 1, 0, 1])
    assert specialisation.chance(mixed, np.random.default_rng(0))[0] == 1


def test_specialisation_is_told_and_drawn_by_arm(rng):
    results = [
        Result(arm, seed, {"indices": [*low, *high], "error": 30.0})
        for seed in range(2)
        for arm, low, high in (
            ("two towers", rng.uniform(0, 0.3, 48), rng.uniform(0.6, 1, 48)),
            ("one tower, twice as wide", *[rng.permutation(np.linspace(0, 1, 48))] * 2),
        )
    ]
    told = specialisation.EXPERIMENT.tell(results)
    assert told["two towers: found"].startswith("in 2 of 2 runs")
    assert told["one tower, twice as wide: found"].startswith("in 0 of 2 runs")
    assert told["two towers: chance of it, by seed"] == "0.0001, 0.0001"
    kernels, differences = specialisation.EXPERIMENT.draw(results).axes
    titles = [text.get_text().replace("\n", " ") for text in kernels.texts]
    assert titles == ["two towers", "one tower, twice as wide"]
    assert len(differences.patches) == 4
    figure = specialisation.EXPERIMENT.draw(results[:2])  # of one seed
    figure.draw_without_rendering()
    left, right = (text.get_window_extent() for text in figure.axes[0].texts)
    assert left.x1 < right.x0


def losses(leaving, first, last):
    """Has `leaving` see the steps from `first` to `last`: those of guessing up to the 60th, then
    1.11 less. Returns the step after which the training is to end, or None.
    """
    leaving.set_model(keras.Sequential())
    leaving.model.stop_training = False
    for step in range(first, last + 1):
        epoch, batch = divmod(step - 1, 40)
        if batch == 0 or step == first:
            leaving.on_epoch_begin(epoch)
        leaving.on_train_batch_end(batch, {"loss": math.log(10) - (1.11 if step > 60 else 0)})
        if leaving.model.stop_training:
            return step
    return None


def test_a_training_has_left_when_fifty_steps_are_below_guessing(tmp_path):
    leaving = start.Leaving(tmp_path / "losses.txt", 10, steps_per_epoch=40)
    # of the last 50 steps as many have to be 1.11 lower as bring their mean 0.1 down: 5
    assert losses(leaving, 1, 200) == leaving.step == 65


@pytest.mark.parametrize("killed,goes_on", [(30, 21), (63, 58), (64, 65)])
def test_a_training_that_goes_on_leaves_when_it_would_have(tmp_path, killed, goes_on):
    path = tmp_path / "losses.txt"
    assert losses(start.Leaving(path, 10, 40), 1, killed) is None
    with open(path, "a") as stream:
        stream.write("\n7")  # of which only a part was written
    leaving = start.Leaving(path, 10, 40)
    assert losses(leaving, goes_on, 200) == leaving.step == 65


def test_a_training_that_was_over_is_known_to_be(tmp_path):
    path = tmp_path / "losses.txt"
    losses(start.Leaving(path, 10, 40), 1, 200)
    again = start.Leaving(path, 10, 40)
    assert losses(again, 66, 200) == 66 and again.step == 65  # one step more, another finding not


def test_drawn_data_sets_have_as_many_classes_as_asked_for():
    drawn = start.drawn_classes(30, 60)
    start.drawn_classes.cache_clear()
    again = start.drawn_classes(30, 60)
    assert len(drawn.class_names) == 30 and drawn.class_counts == (2,) * 30
    assert drawn.fingerprint == again.fingerprint != start.drawn_classes(20, 60).fingerprint


def test_hardly_anything_is_evaluated_where_nobody_asks(data, monkeypatch):
    monkeypatch.setattr(start, "_EVALUATED", 5)
    few = start.hardly_evaluated(data)
    assert few.train is data.train and few.evaluation.examples == 5
    read = few.evaluation.read(None).as_numpy_iterator()
    assert [int(record["picture"]) for record in read] == list(range(5))


@pytest.mark.long
def test_a_start_that_was_stopped_goes_on(tmp_path, monkeypatch):
    write_pictures(tmp_path / "pictures/train", 50)
    write_pictures(tmp_path / "pictures/test", 2, first=200)
    dataset = datasets.open_dataset("folder", tmp_path / "pictures")
    pixels = Preprocessing(12, 14, 1, (128.0,), 64.0)

    def build(*_, **__):
        images = keras.Input((12, 12, 1))
        return keras.Model(images, keras.layers.Dense(3)(keras.layers.Flatten()(images)))

    def stop(leaving, epoch, logs=None):
        if epoch == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(start, "_EVALUATED", 5)
    monkeypatch.setattr(start.small_alexnet, "build", build)
    monkeypatch.setattr(start.small_alexnet, "pixels", lambda *_: pixels)
    bench = Bench(tmp_path / "out", dataset, 300)
    run = start.EXPERIMENT.runs(1, [], dataset)[0]
    bench.model_dir(run).mkdir(parents=True)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(start.Leaving, "on_epoch_end", stop)
        start.EXPERIMENT.measure(run, bench)
    assert start.EXPERIMENT.measure(run, bench) == {"left_after": None, "steps": 2}
    assert len(record.read(bench.model_dir(run)).held_out) == 5


def test_no_experiment_is_kept_among_the_pictures(tmp_path):
    write_pictures(tmp_path, 60)
    dataset = datasets.open_dataset("folder", tmp_path)
    with pytest.raises(UserError, match="output=.*/out lies among the classes"):
        module.reproduce("start", tmp_path / "out", dataset)
    assert not (tmp_path / "out").exists()


def test_the_start_is_told_by_classes_and_initial_weights():
    assert len(start.EXPERIMENT.runs(10, [], None)) == 3 * 3 * 10
    left = {"0.01, as printed": (400, None), "Caffe's": (90, 100)}
    results = [
        Result(f"10 classes, {name}", seed, {"left_after": at, "steps": 1000})
        for name, both in left.items()
        for seed, at in enumerate(both)
    ]
    told = start.EXPERIMENT.tell(results)
    assert told["10 classes, 0.01, as printed"] == (
        "1 of 2 seeds left ln(classes) within 1000 steps: after 400 to 400, median 400"
    )
    assert told["10 classes, Caffe's"].endswith("after 90 to 100, median 95")
    (axes,) = start.EXPERIMENT.draw(results).axes
    assert axes.get_title() == "10 classes"
    assert [line.get_label() for line in axes.lines] == list(left)
    assert axes.lines[0].get_ydata().max() == 50 and axes.lines[1].get_ydata().max() > 99


def test_ablations_leave_out_what_they_name():
    def net(arm):
        settings = ablations._ARMS[arm]
        return small_alexnet.build(
            "source2012",
            10,
            {"fc_units": 8} | settings.get("changes", {}),  # quicker to build
            settings.get("dropout_rate", 0.5),
        )

    def kinds(model, *wanted):
        return [layer for layer in model.layers if isinstance(layer, wanted)]

    norms = LocalResponseNormalization, SpatialResponseNormalization
    whole = net("whole")
    assert whole.input.shape == (None, 64, 64, 3) and len(kinds(whole, *norms)) == 6
    assert not kinds(net("no normalisation"), *norms)
    pools = kinds(net("pools of 2 x 2"), keras.layers.MaxPooling2D)
    assert [pool.pool_size for pool in pools] == [(2, 2)] * 6
    one = net("one tower")
    assert [layer.name for layer in kinds(one, keras.layers.Conv2D)] == [
        f"conv{number}a" for number in range(1, 6)
    ]
    assert one.get_layer("conv5a").filters == 256
    assert [net("no dropout").get_layer(f"dropout{n}").rate for n in (6, 7)] == [0, 0]


@pytest.mark.parametrize("variant", ["paper", "source2012"])
def test_without_normalisation_is_normalisation_that_does_nothing(variant, rng):
    without = small_alexnet.build(variant, 3, {"lrn": None, "spatial_norm": False, "fc_units": 8})
    idle = {"lrn": {"size": 5, "k": 1.0, "alpha": 1e-20}, "spatial_norm": False, "fc_units": 8}
    like = small_alexnet.build(variant, 3, idle)
    like.set_weights(without.get_weights())
    images = rng.normal(0, 60, (2, *without.input.shape[1:])).astype(np.float32)
    np.testing.assert_allclose(without(images), like(images), rtol=1e-5, atol=1e-6)


def test_the_control_has_one_tower_of_as_many_kernels():
    model = small_alexnet.build("paper", 10, small_alexnet.ONE_TOWER | {"fc_units": 8})
    kernels = {
        layer.name: layer.kernel.shape
        for layer in model.layers
        if isinstance(layer, keras.layers.Conv2D)
    }
    assert kernels == {
        "conv1a": (11, 11, 3, 96),
        "conv2a": (5, 5, 96, 256),
        "conv3a": (3, 3, 256, 384),
        "conv4a": (3, 3, 384, 384),
        "conv5a": (3, 3, 384, 256),
    }


def test_three_nets_are_judged_together_and_beside_the_logs_of_2012():
    runs = ablations.EXPERIMENT.runs(7, [], None)
    assert [run.seed for run in runs if run.arm == ablations.NETS] == [0, 3]
    assert {run.arm for run in runs if run.keeps_model} == {"whole"}
    assert [run.arm for run in ablations.EXPERIMENT.runs(2, [], None)].count(ablations.NETS) == 0
    errors = {"whole": (20, 22, 24), "one tower": (21, 24, 27), ablations.NETS: (18,)}
    results = [
        Result(arm, seed, {"error": float(error), "centre_error": error + 1.5})
        for arm, some in errors.items()
        for seed, error in enumerate(some)
    ]
    told = ablations.EXPERIMENT.tell(results)
    assert "2.00 ± 1.00 points (3 seeds) against the whole network; 2012: +1.7" in told["one tower"]
    assert "-4.00 points (one seed) against the mean of the three" in told[ablations.NETS]
    assert told["one view"].startswith("1.50 ± 0.00 points (3 seeds) against ten views")
    assert len(ablations.EXPERIMENT.draw(results).axes[0].get_yticks()) == 4


def test_three_nets_answer_together_and_those_that_are_gone_are_trained_again(
    data, tmp_path, monkeypatch
):
    trained, asked = [], []

    def evaluate(networks, dataset, views):
        asked.append((networks, views))
        return types.SimpleNamespace(figures=lambda: {"top_1": 0.75 if views == 10 else 0.5})

    monkeypatch.setattr(ablations, "_train", lambda run, bench: trained.append(run.name))
    monkeypatch.setattr(experiments, "evaluate", evaluate)
    run = Run(ablations.NETS, 3, {"nets": 3})
    measured = ablations.EXPERIMENT.measure(run, Bench(tmp_path, data, 130))
    assert measured == {"error": 25, "centre_error": 50}
    assert trained == ["whole-seed3", "whole-seed4", "whole-seed5"]
    nets = [tmp_path / name for name in trained]
    assert asked == [(nets, 10), (nets, 1)]


@pytest.mark.parametrize(
    "examples,batches", [(50_000, (128, 8192)), (4400, (128, 512)), (160, (4, 16))]
)
def test_the_large_batch_leaves_steps_and_rates_are_told(data, examples, batches):
    some = dataclasses.replace(data, train=dataclasses.replace(data.train, examples=examples))
    small, large = batches
    runs = large_batch.EXPERIMENT.runs(1, [], some)
    assert [run.settings["batch"] for run in runs] == [small, *[large] * 4]
    assert examples // large >= 6
    root, proportion = (runs[place].settings["rate"] for place in (2, 3))
    assert root == pytest.approx(0.01 * (large / small) ** 0.5)
    assert proportion == pytest.approx(0.01 * large / small)
    if large == 8192:
        assert runs[4].settings == {"rule": "LARS", "batch": 8192, "rate": 10.0}
    results = [
        Result(
            run.arm,
            0,
            {"error": 40.0 + place, "diverged": place == 3, "steps": 6, "guessing": 43.0},
        )
        for place, run in enumerate(runs)
    ]
    told = large_batch.EXPERIMENT.tell(results)
    assert told[runs[1].arm].endswith("1.0 points (one seed) against the first")
    assert told[runs[2].arm].endswith("; 1 still guessed, which says nothing about the batch")
    assert told[runs[3].arm].endswith("against the first; 1 diverged, which counts as guessing")
    assert len(large_batch.EXPERIMENT.draw(results).axes[0].get_yticks()) == 5
