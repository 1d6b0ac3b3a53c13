"""Fine-tuning: a head on stored features is the head of the model that is written, what is frozen
stays, the best is kept.
"""

import contextlib
import dataclasses
import json
import os
import shutil
import signal
import types

import keras
import numpy as np
import pytest
import tensorflow as tf
from binaries import call, parsed
from conftest import CLASS_NAMES, write_lenet5, write_picture_folder, write_pictures
from conftest import LENET5_PIXELS as PIXELS
from PIL import Image
from trainings import Bar

import alexnet_tf
from alexnet_tf import console, disk, networks, preprocessing
from alexnet_tf.commands import finetune, import_weights
from alexnet_tf.data import datasets, pipeline, record, shapes, splits
from alexnet_tf.data.pictures import know
from alexnet_tf.errors import UserError
from alexnet_tf.network import surgery
from alexnet_tf.network.layers import Dropout
from alexnet_tf.network.model import build_model, multiply_adds
from alexnet_tf.network.surgery import freeze
from alexnet_tf.preprocessing import Preprocessing
from alexnet_tf.training import checkpoints, evaluation, features, head, loop, metrics, steps
from alexnet_tf.training.optimizer import SGD2012

CPU = tf.distribute.OneDeviceStrategy("CPU:0")


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    """The model directory of a lenet5 of five classes."""
    return write_lenet5(tmp_path_factory.mktemp("pretrained"), list("abcde"))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return write_picture_folder(tmp_path_factory.mktemp("pictures"))


@pytest.fixture
def tune(run, pictures, tmp_path):
    """Runs a fine-tuning into `model_dir`, below a folder of the test's own; returns its figures,
    or with a status its mistake.
    """

    def tune(pretrained, model_dir, *arguments, status=0):
        answer = run(
            "-m",
            "alexnet_tf.finetune",
            f"--pretrained={pretrained}",
            "--dataset=folder",
            f"--data_dir={pictures}",
            "--batch_size=6",
            f"--model_dir={model_dir}",
            f"--json={model_dir}.json",
            *arguments,
            cwd=tmp_path,
            status=status,
        )
        return (
            answer
            if status
            else json.loads((tmp_path / f"{model_dir}.json").read_text()) | {"printed": answer}
        )

    return tune


def weights_of(model_dir):
    model = checkpoints.load_model(model_dir).model
    return {layer.name: layer.get_weights() for layer in model.layers if layer.get_weights()}


def moved(before, after):
    """Names of the layers whose weights differ by a bit."""
    return [
        name
        for name in before
        if any((new != old).any() for new, old in zip(after[name], before[name]))
    ]


def test_the_head_has_the_figures_that_evaluation_finds_and_the_rest_is_untouched(
    tune, pretrained, pictures, tmp_path
):
    figures = tune(pretrained, "model", "--epochs=12", "--patience=0", "--augment_views=2")
    before, after = weights_of(pretrained), weights_of(tmp_path / "model")
    assert moved({name: before[name] for name in before if name != "fc5"}, after) == []
    assert after["fc5"][0].shape == (84, 3) and before["fc5"][0].shape == (84, 5)

    loaded = checkpoints.load_model(tmp_path / "model")
    model, settings = loaded.model, loaded.settings
    dataset = datasets.open_dataset("folder", pictures)
    evaluated = evaluation.evaluate_split(CPU, model, settings.preprocessing, dataset.evaluation, 4)
    for name in ("examples", "loss", "top_1", "top_5"):
        assert figures[name] == pytest.approx(evaluated[name], rel=1e-5), name
    assert loaded.figures["loss"] == figures["loss"] and settings.flags["data_dir"] == str(pictures)
    # the head moved in every epoch
    assert len({row["loss"] for row in metrics.read_log(tmp_path / "model")}) == 12

    table = figures["printed"].splitlines()
    rows = [line.split()[-3:] for line in table if line.split()[:1] in (["1"], ["2"], ["3"])]
    counts = np.array([[int(count.replace(".", "0")) for count in row] for row in rows])
    assert counts.sum(1).tolist() == [3, 3, 3] and np.trace(counts) / 9 == pytest.approx(
        figures["top_1"]
    )
    # What is raw, or always right, is in --json alone.
    assert not [line for line in table if line.split()[:1] in (["multiply_adds"], ["top_5"])]
    # By hand: lenet5's forward pass, twice for each of 24 pictures and once for 9, and the
    # projection's two products of a step.
    forward = sum(map(multiply_adds, model.layers))
    assert figures["multiply_adds"] == 57 * forward + loaded.step * 6 * 2 * 84 * 3
    conv1 = 28 * 28 * 25 * 6  # needs no gradient of its input
    assert figures["multiply_adds_from_scratch"] == 12 * 24 * (3 * forward - conv1)


@pytest.mark.long
def test_other_commands_take_what_it_writes_and_train_leaves_it_alone(
    run, pretrained, pictures, tmp_path
):
    run(
        "-m",
        "alexnet_tf.finetune",
        f"--pretrained={pretrained}",
        "--dataset=folder",
        f"--data_dir={pictures}",
        "--epochs=2",
        "--model_dir=model",
        "--json=tuned.json",
        cwd=tmp_path,
    )
    run("-m", "alexnet_tf.evaluate", "--model_dir=model", "--json=evaluated.json", cwd=tmp_path)
    tuned, evaluated = (
        json.loads((tmp_path / f"{name}.json").read_text()) for name in ("tuned", "evaluated")
    )
    assert (
        tuned["loss"] == pytest.approx(evaluated["loss"], rel=1e-5)
        and tuned["classes"] == evaluated["classes"]
    )
    run("-m", "alexnet_tf.export", "--model_dir=model", "--output=exports", cwd=tmp_path)
    assert (tmp_path / "exports/1/assets/labels.txt").read_text().split("\n") == [*CLASS_NAMES, ""]
    assert "holds a fine-tuned model" in run(
        "-m", "alexnet_tf.train", "--model_dir=model", cwd=tmp_path, status=2
    )


@pytest.mark.long  # tests/test_journeys.py has the same of README.md
def test_a_network_trained_with_default_flags_is_tuned_and_its_features_found_again(
    run, pictures, tmp_path
):
    """Its pixels have a colour PCA, which is tuples in memory and lists in JSON."""
    data = ["--dataset=folder", f"--data_dir={pictures}"]
    run(
        "-m",
        "alexnet_tf.train",
        *data,
        "--model_dir=trained",
        "--image_size=67",
        "--batch_size=6",
        "--epochs=1",
        cwd=tmp_path,
    )
    tune = [
        "-m",
        "alexnet_tf.finetune",
        "--pretrained=trained",
        *data,
        "--model_dir=tuned",
        "--features_dir=features",
    ]
    run(*tune, "--epochs=1", cwd=tmp_path)
    run(*tune, "--epochs=2", cwd=tmp_path)
    assert "features of 21 + 3 pictures already exist" in run.notes


@pytest.mark.parametrize("variant", ["half", "one_weird_trick", "lenet5"])
def test_trunk_and_projection_are_the_model(variant, rng):
    keras.utils.set_random_seed(2)
    model = build_model(variant, 3, 67 if variant != "lenet5" else 28)
    trunk, projection = surgery.trunk(model), surgery.projection(model)
    images = rng.normal(0, 60, (2, *model.input.shape[1:])).astype(np.float32)
    np.testing.assert_allclose(projection(trunk(images)), model(images), rtol=1e-5, atol=1e-6)
    assert trunk.layers[-1].name == ("fc4" if variant == "lenet5" else "fc7")
    # after the ReLU; lenet5 has tanh
    assert variant == "lenet5" or float(tf.reduce_min(trunk(images))) >= 0
    drops = (
        np.asarray(projection(trunk(images), training=True))
        != np.asarray(projection(trunk(images)))
    ).any()
    assert drops == (variant == "half")  # in one_weird_trick dropout comes before fc7


def a_plan(**changes):
    return loop.Plan(
        **(
            {
                "batch_size": 6,
                "epochs": 2,
                "learning_rate": 0.05,
                "schedule": "linear",
                "xla": "off",
            }
            | changes
        )
    )


@pytest.mark.long
def test_steps_on_features_are_those_of_the_whole_network_with_the_rest_frozen(
    pictures, monkeypatch
):
    # five times 5: the last picture of the last batch is one too many
    monkeypatch.setattr(features, "_BATCH", 5)
    keras.utils.set_random_seed(2)
    dataset, plan = datasets.open_dataset("folder", pictures), a_plan()
    with CPU.scope():
        model, optimizer = (
            build_model("lenet5", 3),
            SGD2012(0.0, rates={"fc5/kernel": 2.0, "fc5/bias": 2.0}),
        )
    projection = surgery.projection(model)
    trunk = surgery.trunk(model)
    outputs, labels, _ = map(
        np.concatenate, zip(*features.extractor(CPU, trunk, PIXELS)(dataset.train))
    )
    assert outputs.shape == (24, 84) and labels.tolist() == [0] * 8 + [1] * 8 + [2] * 8
    found = features.Features(outputs[None], labels, outputs[None], labels, 0.0, {"evaluation": []})
    head.train(
        projection,
        SGD2012(0.0, rates={"fc5/kernel": 2.0, "fc5/bias": 2.0}),
        found,
        plan,
        metrics.NoLog(),
        console.progress,
        print,
    )

    for layer in model.layers[:-1]:
        layer.trainable = False
    step = steps.TrainStep(CPU, model, optimizer, PIXELS, 6, xla=False)
    crops = np.concatenate(
        [batch["image"] for batch in pipeline.evaluation_batches(dataset.train, PIXELS, 24)]
    )
    for number in range(8):
        epoch, part = divmod(number, 4)
        rows = np.random.default_rng((0, epoch)).permutation(24)[6 * part : 6 * part + 6]
        optimizer.learning_rate.assign(plan.rate(number, 8, 0))
        step({"image": tf.constant(crops[rows]), "label": tf.constant(labels[rows])}, number)
    for one, two in zip(projection.layers[-1].get_weights(), model.layers[-1].get_weights()):
        np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-6)


def cached(folder, model, dataset, notes, views=1, pixels=PIXELS, most=0):
    return features.cached(
        folder,
        CPU,
        surgery.trunk(model),
        pixels,
        dataset,
        views,
        0,
        console.progress,
        notes.append,
        most,
    )


@pytest.mark.long
def test_features_are_used_again_for_the_same_weights_pixels_and_pictures_alone(pictures, tmp_path):
    keras.utils.set_random_seed(2)
    model, dataset = build_model("lenet5", 3), datasets.open_dataset("folder", pictures)
    folder, notes = tmp_path / "features", []
    first = np.array(cached(folder, model, dataset, notes, views=2).train)
    # most random crops are not central
    assert first.shape == (2, 24, 84) and (first[0] != first[1]).any(1).mean() > 0.8
    written = (folder / "train.npy").stat()
    assert (cached(folder, model, dataset, notes, views=2).train == first).all()
    assert (folder / "train.npy").stat() == written and notes[-1].endswith("pictures already exist")

    kernel = model.get_layer("conv1").kernel
    kernel.assign(kernel + 0.01)
    changes = [
        ("weights_sha256", {}),
        ("views", {"views": 1}),
        ("preprocessing", {"pixels": dataclasses.replace(PIXELS, std=64.0)}),
        ("data_fingerprint", {"dataset": dataclasses.replace(dataset, fingerprint="another")}),
    ]
    arguments = {"dataset": dataset, "views": 2, "pixels": PIXELS}
    for name, change in changes:
        before, arguments = (folder / "train.npy").stat().st_ino, arguments | change
        cached(folder, model, notes=notes, **arguments)
        assert f"features of other {name}: they are replaced" in notes[-2]
        assert (folder / "train.npy").stat().st_ino != before
    assert (np.array(cached(folder, model, notes=notes, **arguments).train[0]) != first[0]).any()


@pytest.mark.long
def test_features_of_what_computes_otherwise_by_the_same_weights_are_not_used(pictures, tmp_path):
    dataset, notes, made = datasets.open_dataset("folder", pictures), [], []
    for scale in (0.5, 0.25):
        keras.utils.set_random_seed(2)
        side, layers = PIXELS.image_size, keras.layers
        images = keras.Input((side, side, 1))
        x = layers.Dense(4, name="a")(layers.Flatten()(layers.Rescaling(scale)(images)))
        model = keras.Model(images, layers.Dense(3)(x), name="own")
        made.append(np.array(cached(tmp_path / "features", model, dataset, notes).train))
    assert "features of other layers: they are replaced" in "".join(notes)
    np.testing.assert_allclose(made[1] * 2, made[0], rtol=1e-4, atol=1e-5)


@pytest.mark.long
def test_damaged_features_are_replaced(pictures, tmp_path):
    folder, notes = tmp_path / "features", []
    dataset = datasets.open_dataset("folder", pictures)
    arguments = {"dataset": dataset, "model": build_model("lenet5", 3)}
    cached(folder, notes=notes, **arguments)
    (folder / "train.npy").write_bytes((folder / "train.npy").read_bytes()[:5000])
    assert cached(folder, notes=notes, **arguments).train.shape == (1, 24, 84)
    assert "it is replaced" in notes[-2]
    (folder / "train_labels.npy").write_bytes(b"")  # as a power cut leaves it
    assert (
        cached(folder, notes=notes, **arguments).train.shape == (1, 24, 84)
        and "it is replaced" in notes[-2]
    )
    (tmp_path / ".features.0.unfinished").mkdir()  # by a process that was killed
    with disk.appearing(folder, folder=True, next_free=lambda _: tmp_path / "later") as at_work:
        theirs = at_work.path.name
        cached(folder, notes=notes, **arguments)
        assert sorted(os.listdir(tmp_path)) == [theirs, "features"]
    kept = (folder / "train.npy").read_bytes()
    (folder / "train.npy").write_bytes(kept[: len(kept) // 2] + bytes(len(kept) // 2))
    assert cached(folder, notes=notes, **arguments).train.shape == (1, 24, 84)
    assert "its files differ from SHA256SUMS): it is replaced" in notes[-2]
    assert (folder / "train.npy").read_bytes() == kept
    (folder / "evaluation_labels.npy").write_bytes((folder / "train_labels.npy").read_bytes())
    cached(folder, notes=notes, **arguments)
    assert "it is replaced" in notes[-2]
    assert len(cached(folder, notes=notes, **arguments).evaluation_labels) == 9


def test_features_see_pictures_that_were_exchanged_between_classes(pictures, tmp_path):
    def fingerprint(number):
        """Of pictures of one size, all written at one time."""
        folder = tmp_path / f"{number}"
        for split, first in (("train", 0), ("test", 2)):
            for name in ("a", "b"):
                (folder / split / name).mkdir(parents=True)
                for index in range(first, first + 2):
                    shade = 40 * index + 20 * ((name == "a") ^ (number == 1 and index == 1))
                    image = Image.fromarray(np.full([8, 8, 3], shade, np.uint8))
                    path = folder / split / name / f"{index}.bmp"
                    image.save(path)
                    os.utime(path, (0, 0))
        return datasets.open_dataset("folder", folder).fingerprint

    assert fingerprint(0) == fingerprint(2) != fingerprint(1)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_leaves_while_features_are_computed_and_nothing_is_left(
    pictures, tmp_path, number
):
    model, dataset = build_model("lenet5", 3), datasets.open_dataset("folder", pictures)

    @contextlib.contextmanager
    def progress(total, description):
        signal.raise_signal(number)
        yield Bar(stop_after=0)

    notes, before = [], signal.getsignal(number)
    with pytest.raises(SystemExit) as end:
        features.cached(
            tmp_path / "features",
            CPU,
            surgery.trunk(model),
            PIXELS,
            dataset,
            1,
            0,
            progress,
            notes.append,
        )
    assert end.value.code == 128 + number and os.listdir(tmp_path) == []
    assert f"stopped by {number.name}; {tmp_path}/features is not written" in notes[-1]
    assert signal.getsignal(number) is before


def test_no_folder_is_replaced_that_holds_anything_else(pictures, tmp_path):
    model, dataset = build_model("lenet5", 3), datasets.open_dataset("folder", pictures)
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious/notes.md").write_text("two years")
    for folder in (tmp_path / "precious", tmp_path / "precious/notes.md"):
        with pytest.raises(
            UserError, match=r"is not a folder of features \(notes.md\); pass a features_dir"
        ):
            cached(folder, model, dataset, [])
    assert (tmp_path / "precious/notes.md").read_text() == "two years" and os.listdir(tmp_path) == [
        "precious"
    ]
    (tmp_path / "disk/features").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "disk/features")  # to the disk with room
    cached(tmp_path / "link", model, dataset, [])
    assert (tmp_path / "link").is_symlink() and len(os.listdir(tmp_path / "disk/features")) == 6


def test_a_picture_that_can_be_read_in_one_view_alone_is_an_error(pictures, tmp_path, monkeypatch):
    def extract(split, view=0):
        count = split.examples - view
        yield np.zeros((count, 84), np.float32), np.zeros(count, np.int64), np.arange(view)

    monkeypatch.setattr(features, "extractor", lambda *_: extract)
    model, dataset = build_model("lenet5", 3), datasets.open_dataset("folder", pictures)

    with pytest.raises(UserError, match="could be read at one time and not at another"):
        cached(tmp_path / "features", model, dataset, [], views=2)
    assert not list(tmp_path.iterdir())


@pytest.mark.long
@pytest.mark.parametrize("views", [1, 2])
def test_pictures_that_cannot_be_read_have_no_features_and_are_told_each_time(tmp_path, views):
    folder, notes = write_picture_folder(tmp_path / "pictures"), []
    dataset, model = datasets.open_dataset("folder", folder), build_model("lenet5", 3)
    whole = cached(tmp_path / "whole", model, dataset, notes, views)
    cut = [
        folder / "train" / CLASS_NAMES[1] / "1.jpg",
        next((folder / "test" / CLASS_NAMES[0]).glob("*.jpg")),
    ]
    for victim in cut:
        victim.write_bytes(victim.read_bytes()[:1000])
    for _ in range(2):  # computed, and read again
        found = cached(tmp_path / "features", model, dataset, notes, views, most=1)
        assert [
            sum(f"cannot be read: {victim}" in note for note in notes[-3:]) for victim in cut
        ] == [1, 1]
    assert sorted(os.listdir(tmp_path / "features")) == sorted(os.listdir(tmp_path / "whole"))
    number = [dataset.train.name_of(picture) for picture in range(24)].index(str(cut[0]))
    assert found.bad_pictures["train"] == [number]
    assert head.answers(surgery.projection(model), found).figures()["bad_pictures"] == 1
    for name, labels, there in (
        ("train", "train_labels", np.delete(np.arange(24), number)),
        (
            "evaluation",
            "evaluation_labels",
            np.delete(np.arange(9), found.bad_pictures["evaluation"]),
        ),
    ):
        np.testing.assert_array_equal(getattr(found, name), getattr(whole, name)[:, there])
        np.testing.assert_array_equal(getattr(found, labels), getattr(whole, labels)[there])
    with pytest.raises(UserError, match="1 pictures cannot be read, more than max_bad_pictures=0"):
        cached(tmp_path / "features", model, dataset, notes, views, most=0)


@pytest.mark.long
def test_a_damaged_picture_does_not_stop_a_fine_tuning_and_too_many_do(
    run, tune, pretrained, tmp_path
):
    folder = write_picture_folder(tmp_path / "pictures")
    victim = folder / "train" / CLASS_NAMES[0] / "1.jpg"
    victim.write_bytes(victim.read_bytes()[:1000])
    figures = tune(pretrained, "model", "--epochs=1", f"--data_dir={folder}")
    assert str(victim) in run.notes and (figures["examples"], figures["bad_pictures"]) == (9, 0)
    assert "more than --max_bad_pictures=0" in tune(
        pretrained, "other", f"--data_dir={folder}", "--max_bad_pictures=0", status=2
    )
    assert not (tmp_path / "other").exists() or not list((tmp_path / "other").iterdir())


def test_a_fit_needs_no_whole_batch(pretrained, tmp_path):
    folder = write_picture_folder(tmp_path / "pictures")
    victim = folder / "train" / CLASS_NAMES[0] / "1.jpg"
    victim.write_bytes(victim.read_bytes()[:1000] + b"\xff\xd9")  # found when it is read
    given = {"pretrained": pretrained, "dataset": "folder", "data_dir": folder}
    given |= {"model_dir": tmp_path / "model", "head_solver": "fit"}
    given |= {"json": tmp_path / "figures.json"}
    assert call(finetune, *(f"--{name}={value}" for name, value in given.items()))["examples"] == 9


@pytest.mark.long
def test_bad_pictures_of_the_split_that_judges_are_counted(pretrained, tmp_path):
    """Of those found at the start, too, as evaluate does, and not of others."""
    folder = write_picture_folder(tmp_path / "pictures")
    for name in ("train/checked disc/1.jpg", "test/checked disc/10.jpg"):
        (folder / name).write_bytes((folder / name).read_bytes()[:1000])
    damaged = folder / "test/checked disc/9.png"  # which is found when it is read
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 255
    damaged.write_bytes(content)
    given = {"pretrained": pretrained, "dataset": "folder", "data_dir": folder}
    given |= {"model_dir": tmp_path / "model", "head_solver": "fit"}
    given |= {"json": tmp_path / "figures.json"}
    figures = call(finetune, *(f"--{name}={value}" for name, value in given.items()))
    assert (figures["examples"], figures["bad_pictures"]) == (7, 2)
    assert networks.load(tmp_path / "model").figures["bad_pictures"] == 2


@pytest.mark.parametrize("solver", ["fit", pytest.param("sgd", marks=pytest.mark.long)])
def test_a_projection_is_trained_anew_on_other_pictures(solver, pretrained, tmp_path, capsys):
    folder, model_dir = write_picture_folder(tmp_path / "pictures"), tmp_path / "model"
    steps = {"fit": [], "sgd": ["--patience=0", "--epochs=2", "--batch_size=6"]}

    def kernel(solver):
        given = {"pretrained": pretrained, "dataset": "folder", "data_dir": folder}
        given |= {"model_dir": model_dir, "head_solver": solver}
        call(finetune, *(f"--{name}={value}" for name, value in given.items()), *steps[solver])
        return checkpoints.load_model(model_dir).model.layers[-1].kernel.numpy()

    first = kernel(solver)
    one, other = (folder / "train" / name for name in CLASS_NAMES[:2])
    (one / "1.jpg").rename(other / "moved.jpg")  # its class was wrong
    assert (kernel(solver) != first).any()
    assert "is already trained" not in capsys.readouterr().err
    others = {"fit": "sgd", "sgd": "fit"}[solver]
    with pytest.raises(UserError, match=f"holds a model of head_solver {solver}, not {others}"):
        kernel(others)


@pytest.mark.long
@pytest.mark.parametrize("solver", ["fit", "sgd"])
def test_more_pictures_are_trained_on_by_the_same_command(solver, pretrained, tmp_path, capsys):
    """With default flags a batch holds no more than there are, which was taken for another one."""
    folder, model_dir = write_picture_folder(tmp_path / "pictures"), tmp_path / "model"
    given = {"pretrained": pretrained, "dataset": "folder", "data_dir": folder}
    given |= {"model_dir": model_dir, "head_solver": solver}
    rates = {"fit": [], "sgd": ["--epochs=1", "--patience=0"]}[solver]

    def tune(*more):
        call(finetune, *(f"--{name}={value}" for name, value in given.items()), *rates, *more)
        return capsys.readouterr().err

    tune()
    drawn = shapes.draw_jpeg("train", 99)
    (folder / "train" / CLASS_NAMES[0] / "99.jpg").write_bytes(drawn)
    told = tune()
    assert "0 of its 33 pictures are gone and 1 are new" in told
    assert "is already trained" not in told
    assert "is already trained" in tune()
    if solver == "sgd":
        assert "is already trained" not in tune("--learning_rate=0.03")


def refuse(*_, **__):
    raise UserError("No space left.")


@pytest.mark.long
def test_a_training_that_fails_leaves_the_projection_that_was_there(
    pretrained, tmp_path, capsys, monkeypatch
):
    folder, model_dir = write_picture_folder(tmp_path / "pictures"), tmp_path / "model"
    given = {"pretrained": pretrained, "dataset": "folder", "data_dir": folder}
    given |= {"model_dir": model_dir, "head_solver": "sgd", "patience": 0, "epochs": 2}

    def tune(*more):
        call(finetune, *(f"--{name}={value}" for name, value in given.items()), *more)
        return capsys.readouterr().err

    tune("--batch_size=6")
    before = [(model_dir / name).read_bytes() for name in ("settings.json", "metrics.jsonl")]
    for _ in range(2):  # the second time it was "trained already", by a rate that never trained it
        with pytest.raises(UserError, match="not finite in epoch 1; .* Any checkpoints there are"):
            tune("--batch_size=6", "--learning_rate=1e30")
    with monkeypatch.context() as full, pytest.raises(UserError, match="No space left"):
        full.setattr(checkpoints, "write", refuse)
        tune("--batch_size=6", "--learning_rate=0.5")
    after = [(model_dir / name).read_bytes() for name in ("settings.json", "metrics.jsonl")]
    assert after == before and "is already trained: step 8" in tune("--batch_size=6")
    assert "is already trained" not in tune("--batch_size=12")
    assert checkpoints.newest_step(model_dir) == 4


class Killed(BaseException):
    pass


def kill(*_):
    raise Killed


@pytest.mark.long
def test_what_a_projection_has_seen_and_its_flags_are_told_whatever_comes_between(
    pretrained, tmp_path, monkeypatch, capsys
):
    folder, model_dir = write_picture_folder(tmp_path / "pictures"), tmp_path / "model"
    given = {"pretrained": pretrained, "dataset": "folder", "data_dir": folder, "batch_size": 6}
    given |= {"model_dir": model_dir, "patience": 0}

    def tune(epochs, *more):
        flags = [f"--{name}={value}" for name, value in given.items()]
        call(finetune, *flags, f"--epochs={epochs}", *more)
        return "".join(capsys.readouterr())

    def told():
        flags = checkpoints.read_settings(model_dir)["flags"]
        return flags["epochs"], set(record.read(model_dir).trained.tolist())

    tune(1)
    before, pictures = told(), folder / "train" / CLASS_NAMES[0]
    (pictures / "1.jpg").unlink()
    (pictures / "99.jpg").write_bytes(shapes.draw_jpeg("train", 99))
    now = set(datasets.open_dataset("folder", folder).train.identities.tolist())
    with monkeypatch.context() as full, pytest.raises(UserError, match="No space left"):
        full.setattr(checkpoints, "write", refuse)
        tune(1)
    assert told() == before and len(now - before[1]) == 1
    for epochs, seen in ((1, before[1] | now), (2, now)):
        with monkeypatch.context() as killed, pytest.raises(Killed):
            killed.setattr(checkpoints, "write_settings", kill)
            tune(epochs)
        assert checkpoints.newest_step(model_dir) == 4 * epochs and told() == (1, seen)
        printed = tune(epochs)
        assert "is already trained" in printed and told() == (epochs, now)
        assert "(from an earlier run, perhaps on another machine: features, " in printed
    with pytest.raises(UserError, match="holds a model of seed 0, not 1"):
        tune(2, "--seed=1")


@pytest.mark.long
def test_pictures_that_were_held_out_can_be_trained_on_by_a_projection(pretrained, tmp_path):
    """The projection is trained from nothing, and what the layers below have not seen binds
    nobody.
    """
    folder, source = write_picture_folder(tmp_path / "pictures"), tmp_path / "source"
    shutil.copytree(pretrained, source)
    dataset = datasets.open_dataset("folder", folder)
    record.write(source, record.Record(held_out=np.unique(dataset.test.identities)))

    def tune(model_dir):
        given = {"pretrained": source, "dataset": "folder", "data_dir": folder}
        given |= {"model_dir": tmp_path / model_dir, "head_solver": "fit"}
        call(finetune, *(f"--{name}={value}" for name, value in given.items()))
        return record.read(tmp_path / model_dir)

    tune("model")
    moved = folder / "train" / CLASS_NAMES[0] / "moved.jpg"
    next((folder / "test" / CLASS_NAMES[0]).iterdir()).rename(moved)
    seen = tune("model")
    assert len(seen.trained) == 25
    moved.rename(folder / "test" / CLASS_NAMES[0] / "back.jpg")
    assert len(tune("model").trained) == 24


@pytest.mark.long
def test_pictures_of_test_that_are_moved_to_train_are_trained_on_by_steps_too(
    pretrained, tmp_path, capsys
):
    """A tenth of train/ chooses there, and what was in test/ counts as held out."""
    folder, model_dir = write_picture_folder(tmp_path / "pictures"), tmp_path / "model"
    given = {"pretrained": pretrained, "dataset": "folder", "data_dir": folder, "epochs": 1}
    given |= {"model_dir": model_dir, "head_solver": "sgd"}
    arguments = [f"--{name}={value}" for name, value in given.items()]
    call(finetune, *arguments)
    moved = folder / "train" / CLASS_NAMES[0]
    for path in (folder / "test" / CLASS_NAMES[0]).iterdir():
        shutil.move(path, moved / f"moved-{path.name}")
    shutil.copy(moved / "1.jpg", folder / "test" / CLASS_NAMES[0])
    capsys.readouterr()
    call(finetune, *arguments)
    told = capsys.readouterr().err
    seen = record.read(model_dir)
    identities, _ = know([os.fsencode(path) for path in moved.glob("moved-*")])
    assert len(identities) == 3 and np.isin(identities, seen.trained).any()  # some are drawn
    assert "of 27 pictures, drawn per class with seed=0, choose the weights" in told
    assert "9 are new; it goes on" not in told and "held out stays held out" not in told


@pytest.mark.long
def test_what_the_discarded_projection_has_seen_binds_nobody(pretrained, tmp_path, capsys):
    """The layers below it, which alone are taken, have seen none of it."""
    folder = write_picture_folder(tmp_path / "pictures")
    dataset = datasets.open_dataset("folder", folder)
    source, one = tmp_path / "source", dataset.test.identities[:1]
    shutil.copytree(pretrained, source)
    record.write(source, record.Record(one))

    def tune(pretrained, model_dir, *more):
        given = {"pretrained": tmp_path / pretrained, "dataset": "folder", "data_dir": folder}
        given |= {"model_dir": tmp_path / model_dir, "batch_size": 6, "epochs": 1}
        call(finetune, *(f"--{name}={value}" for name, value in given.items()), *more)
        return capsys.readouterr().err, record.read(tmp_path / model_dir)

    _, seen = tune("source", "first", "--patience=0")
    assert len(seen.trained) == 25 and seen.below().trained.tolist() == one.tolist()
    shutil.move(folder / "train", folder / "turned")
    shutil.move(folder / "test", folder / "train")
    shutil.move(folder / "turned", folder / "test")
    told, again = tune("first", "second")  # by steps, so that some choose
    assert "was trained on" not in told and "patience=0" not in told
    assert len(again.trained) + len(np.setdiff1d(again.held_out, dataset.train.identities)) == 9
    assert again.below().trained.tolist() == one.tolist()
    told, whole = tune("first", "third", "--trainable=all", "--patience=0", "--xla=off")
    assert " trained; folder: " in told
    assert whole.below() is whole and len(whole.trained) == 9


def test_figures_are_those_of_the_pictures_that_did_not_choose(pretrained, pictures, tmp_path):
    given = {"pretrained": pretrained, "dataset": "folder", "data_dir": pictures, "epochs": 3}
    given |= {"model_dir": tmp_path / "model", "json": tmp_path / "figures.json"}
    told = call(finetune, *(f"--{name}={value}" for name, value in given.items()))
    assert told["evaluated_on"] == "test" and told["examples"] == 9
    chose = checkpoints.newest_state(tmp_path / "model").figures
    assert chose["evaluated_on"] == "held out" != told["evaluated_on"]
    assert chose["loss"] == pytest.approx(told["validation_loss"], rel=1e-5)
    assert chose["loss"] != pytest.approx(told["loss"], rel=1e-3)
    figures = networks.load(tmp_path / "model").figures
    assert {name: told[name] for name in figures} == figures and "step" in figures
    source, output = tmp_path / "model", tmp_path / "tuned.npz"
    call(import_weights, f"--source={source}", f"--output={output}")
    published = networks.load(output).settings.source["published"]
    assert published["top_1"] == told["top_1"] and published["evaluated_on"] == "test"


@pytest.mark.long
@pytest.mark.parametrize("solver", ["fit", "sgd"])
def test_a_picture_that_is_mended_is_trained_on(solver, pretrained, tmp_path, monkeypatch, capsys):
    folder = write_picture_folder(tmp_path / "pictures")
    victim = folder / "train" / CLASS_NAMES[1] / "1.jpg"
    whole = victim.read_bytes()
    given = {"pretrained": pretrained, "dataset": "folder", "data_dir": folder, "batch_size": 6}
    given |= {"model_dir": tmp_path / "model", "head_solver": solver}
    given |= {"epochs": 1, "patience": 0} if solver == "sgd" else {}

    def tune():
        call(finetune, *(f"--{name}={value}" for name, value in given.items()))
        return capsys.readouterr().err

    dataset = datasets.open_dataset("folder", folder)  # as if the disk failed since then
    monkeypatch.setattr(datasets, "open_dataset", lambda *_, **__: dataset)
    victim.write_bytes(whole[:1000])
    assert f"as it cannot be read: {victim}" in tune()
    assert "is already trained" in tune()
    victim.write_bytes(whole)
    told = tune()
    assert f"lacks {victim}, which can be read now: it is replaced" in told
    assert "is already trained" not in told and "is already trained" in tune()


@pytest.mark.long
def test_a_class_of_which_no_picture_can_be_read_is_refused(tmp_path):
    folder = write_picture_folder(tmp_path / "pictures")
    dataset, model = datasets.open_dataset("folder", folder), build_model("lenet5", 3)
    for victim in (folder / "train" / CLASS_NAMES[1]).iterdir():
        victim.write_bytes(victim.read_bytes()[:1000])
    for _ in range(2):  # computed, and read again
        with pytest.raises(
            UserError, match=f"train: the class {CLASS_NAMES[1]} holds no picture that can be read"
        ):
            cached(tmp_path / "features", model, dataset, [], most=8)


@pytest.mark.long
def test_features_that_are_replaced_while_they_are_opened_are_not_used(
    pictures, tmp_path, monkeypatch
):
    dataset, model, notes = datasets.open_dataset("folder", pictures), build_model("lenet5", 3), []
    cached(tmp_path / "features", model, dataset, notes)
    opened, key = features._open, tmp_path / "features/key.json"

    def open_late(*arguments):
        key.write_text(json.dumps(json.loads(key.read_text()) | {"seconds": 0.5}))
        return opened(*arguments)

    monkeypatch.setattr(features, "_open", open_late)
    cached(tmp_path / "features", model, dataset, notes)
    assert any("another fine-tuning has replaced it meanwhile" in note for note in notes)


@pytest.mark.long
def test_where_pictures_lie_now_is_kept_where_nothing_is_trained(pretrained, tmp_path, capsys):
    folder = write_picture_folder(tmp_path / "pictures")
    given = {"pretrained": pretrained, "dataset": "folder", "model_dir": tmp_path / "model"}

    def tune(data_dir, *more):
        given["data_dir"] = data_dir
        call(finetune, *(f"--{name}={value}" for name, value in given.items()), *more)
        return capsys.readouterr().err

    tune(folder, "--head_solver=fit")
    folder.rename(tmp_path / "moved")
    (tmp_path / "moved/test").rename(tmp_path / "moved/judges")
    told = tune(tmp_path / "moved", "--head_solver=fit", "--test_split=judges")
    flags = checkpoints.read_settings(tmp_path / "model")["flags"]
    assert "is already trained" in told
    assert flags["data_dir"] == str(tmp_path / "moved") and flags["test_split"] == "judges"


@pytest.mark.long
def test_the_rate_of_a_head_that_was_fitted_is_no_other_rate(
    pretrained, pictures, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(surgery, "reads_last_map", lambda model: True)
    given = {"pretrained": pretrained, "dataset": "folder", "data_dir": pictures, "epochs": 1}
    given |= {"model_dir": tmp_path / "model", "trainable": "fc4", "batch_size": 6, "xla": "off"}
    for more, told in (
        ([], "fc4, fc5 trained"),
        ([], "step 3, with 3 asked for\n"),
        (["--head_rate=3"], "a change of rates since then has no effect"),
    ):
        call(finetune, *(f"--{name}={value}" for name, value in given.items()), *more)
        assert told in capsys.readouterr().err


def test_a_fit_says_that_the_validation_split_chooses_nothing(pretrained, tmp_path, capsys):
    folder = write_picture_folder(tmp_path / "pictures")
    write_pictures(folder / "val", 2, first=20)
    given = {"pretrained": pretrained, "dataset": "folder", "data_dir": folder}
    given |= {"model_dir": tmp_path / "model"}
    for solver, told in (("fit", "6 only looked at (val)"), ("sgd", "6 to choose by (val)")):
        flags = (given | {"head_solver": solver}).items()
        call(finetune, *(f"--{name}={value}" for name, value in flags), "--dry_run")
        assert told in capsys.readouterr().err


def test_a_dry_run_sees_another_training_at_work(pretrained, tmp_path):
    folder, given = write_picture_folder(tmp_path / "pictures"), ["--dataset=folder", "--dry_run"]
    given += [f"--pretrained={pretrained}", f"--data_dir={folder}", f"--model_dir={tmp_path}/model"]
    with (
        disk.locked(tmp_path / "model"),
        pytest.raises(UserError, match="is being trained by another process"),
    ):
        call(finetune, *given)


def test_batches_of_a_fit_divide_among_any_number_of_replicas(pictures, tmp_path):
    given = ["--dataset=folder", f"--data_dir={pictures}", f"--model_dir={tmp_path}/model"]
    with parsed(finetune.FLAGS, *given):
        assert finetune._open_dataset(5, None, "fit", True)[1] == 20
        with pytest.raises(UserError, match="batch_size=32 does not divide among 5 replicas"):
            finetune._open_dataset(5, None, "sgd", True)


def test_batches_that_a_training_began_with_divide_among_its_replicas(
    pictures, tmp_path, monkeypatch
):
    given = ["--dataset=folder", f"--data_dir={pictures}", f"--model_dir={tmp_path}/model"]
    monkeypatch.setattr(finetune.run_settings, "begun", lambda _: ({"batch_size": 9}, None))
    with parsed(finetune.FLAGS, *given):
        assert finetune._open_dataset(3, None, "sgd", False)[1] == 9  # and not 32, the default
        with pytest.raises(
            UserError, match="started with batches of 9, which cannot be divided evenly among 2"
        ):
            finetune._open_dataset(2, None, "sgd", False)


def test_a_flag_that_changes_nothing_is_told(pretrained, tmp_path, capsys):
    write_pictures(tmp_path / "bare", 4)
    given = [f"--pretrained={pretrained}", "--dataset=folder", f"--data_dir={tmp_path}/bare"]
    given += [f"--model_dir={tmp_path}/model", "--dry_run"]
    # the projection by its name is the head
    call(finetune, *given, "--trainable=fc5", "--head_solver=fit", "--min_probability=0.3")
    assert "one of 3 classes is always that probable, so 'none of these'" in capsys.readouterr().err
    for more, message in (
        ("--trainable=", "trainable= names no layer"),
        (f"--features_dir={tmp_path}/bare/features", "features_dir=.* lies among the classes"),
    ):
        with pytest.raises(UserError, match=message):
            call(finetune, *given, more)


def test_one_of_several_processes_does_not_tune_alone(pretrained, tmp_path, monkeypatch):
    told = {"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 1}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(told))
    with pytest.raises(UserError, match="names 2 processes; start one, or pass distribution=mir"):
        call(finetune, f"--pretrained={pretrained}", f"--model_dir={tmp_path}/model")
    assert not (tmp_path / "model").exists()


def test_the_rate_that_is_given_counts_where_features_decide_the_default(pretrained, monkeypatch):
    """It was divided out, so that no rate changed anything."""
    found = features.Features(*2 * (np.ones((1, 4, 3), np.float32), np.zeros(4)), 0.0, {})
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    default = head.fitting_rate(found)
    for rate, factor in ((None, 1), (0.002, 2), (0.0001, 0.1)):
        arguments = [f"--learning_rate={rate}"] if rate else []
        with parsed(finetune.FLAGS, *arguments):
            optimizer = finetune._optimizer(model, found)
        (of_kernel, _) = optimizer.rates.values()
        assert float(optimizer.learning_rate) * of_kernel == pytest.approx(factor * default)


@pytest.mark.long
def test_a_split_of_which_nothing_can_be_read_is_refused(tmp_path):
    folder = write_picture_folder(tmp_path / "pictures")
    dataset = datasets.open_dataset("folder", folder)
    for picture in (folder / "test").rglob("*.*"):
        picture.write_bytes(b"")
    with pytest.raises(UserError, match="No picture of test can be read, for example .*"):
        cached(tmp_path / "features", build_model("lenet5", 3), dataset, [])
    assert sorted(os.listdir(tmp_path)) == ["pictures"]


def test_two_devices_extract_the_same_features_in_the_same_order(pictures, monkeypatch):
    # two batches of 5 pictures, which are 6 on two devices: one too many at the end
    monkeypatch.setattr(features, "_BATCH", 7)
    split, answers = datasets.open_dataset("folder", pictures).evaluation, []
    for strategy in (
        CPU,
        tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"], tf.distribute.ReductionToOneDevice()),
    ):
        keras.utils.set_random_seed(2)
        with strategy.scope():
            trunk = surgery.trunk(build_model("lenet5", 3))
        answers.append(
            [
                np.concatenate(parts)
                for parts in zip(*features.extractor(strategy, trunk, PIXELS)(split))
            ]
        )
    np.testing.assert_allclose(answers[1][0], answers[0][0], rtol=1e-5)
    # not the one that fills up the batch
    assert answers[0][1].tolist() == answers[1][1].tolist() == [0] * 3 + [1] * 3 + [2] * 3


def test_features_that_do_not_fit_on_the_disk_are_refused_before_anything_is_written(
    pictures, tmp_path, monkeypatch
):
    monkeypatch.setattr(
        features.shutil,
        "disk_usage",
        lambda path: type("Usage", (), {"free": 2**30 + 4 * 84 * 33 - 1}),
    )
    with pytest.raises(UserError, match="features of 1 x 24 . 9 pictures need .* GB are free"):
        cached(
            tmp_path / "features",
            build_model("lenet5", 3),
            datasets.open_dataset("folder", pictures),
            [],
        )
    assert os.listdir(tmp_path) == []


@pytest.mark.long
def test_named_layers_are_trained_and_the_others_frozen(run, tune, pretrained, tmp_path):
    more = ["--trainable=conv2,fc4", "--epochs=1", "--patience=0", "--xla=off"]
    figures = tune(pretrained, "model", *more)
    before, after = weights_of(pretrained), weights_of(tmp_path / "model")
    assert moved({name: before[name] for name in before if name != "fc5"}, after) == [
        "conv2",
        "fc4",
    ]
    again = tune(pretrained, "model", *more)
    assert "is already trained" in run.notes and again["loss"] == figures["loss"]
    assert "on another machine: training, " in again["printed"]
    assert "on another machine" not in figures["printed"]
    # what it wrote, it takes
    assert tune("model", "next", "--epochs=1", "--patience=0")["examples"] == 9
    line = tune("nothing", "another", status=2)
    assert (
        "There is no nothing; name a model directory" in line and "fetch: imagenet, trunk" in line
    )
    assert "holds a model of trained_layers 3 (conv2 to fc5), not 1 (fc5 to fc5)" in tune(
        pretrained, "model", "--patience=0", status=2
    )
    # conv2 gets the gradient of its weights, fc3 passes one through, fc4 and fc5 have both.
    conv2, fc3, fc4, fc5 = 100 * 16 * 25 * 6, 400 * 120, 120 * 84, 84 * 3
    assert figures["multiply_adds"] == 24 * (
        28 * 28 * 25 * 6 + 2 * conv2 + 2 * fc3 + 3 * fc4 + 3 * fc5
    )


def test_no_backward_pass_is_built_below_the_first_trained_layer():
    with CPU.scope():
        model, optimizer = build_model("paper", 3, 67), SGD2012()
    freeze(model, ["fc7"])
    pixels = Preprocessing(67, 77, 3, (120.0,) * 3, 1.0)
    step = steps.TrainStep(CPU, model, optimizer, pixels, 2, xla=False)
    weights, state = (
        [tf.convert_to_tensor(v.value) for v in group]
        for group in (model.trainable_variables, model.non_trainable_variables)
    )
    inputs = (
        tf.zeros([2, 67, 67, 3], tf.uint8),
        tf.constant(0.0),
        tf.constant(0, tf.int64),
        tf.constant(0, tf.int64),
    )
    graph = step.forward_backward.get_concrete_function(
        weights, state, inputs, tf.zeros([2], tf.int64)
    ).graph
    needed, left = set(), [output.op for output in graph.outputs]
    while left:
        operation = left.pop()
        if operation.name not in needed:
            needed.add(operation.name)
            left += [tensor.op for tensor in operation.inputs]
    kinds = [operation.type for operation in graph.get_operations() if operation.name in needed]
    assert not [kind for kind in kinds if "Conv2DBackprop" in kind or kind == "MaxPoolGrad"]
    # Forward three, gradients of the weights of fc7 and fc8, and of the input of fc8.
    assert kinds.count("MatMul") == 3 + 2 + 1


@pytest.mark.long
def test_frozen_layers_resume_in_mid_epoch_to_the_same_bits(pictures, tmp_path):
    def train(model_dir, progress=console.progress):
        keras.utils.set_random_seed(2)
        with CPU.scope():
            model, optimizer = (
                build_model("lenet5", 3),
                SGD2012(rates={"fc5/kernel": 10.0, "fc5/bias": 10.0}),
            )
        freeze(model, ["fc4"])
        loop.train(
            CPU,
            model,
            optimizer,
            datasets.open_dataset("folder", pictures),
            PIXELS,
            a_plan(),
            str(model_dir),
            progress=progress,
            note=str,
        )
        return model.get_weights()

    whole = train(tmp_path / "whole")
    with pytest.raises(SystemExit, match="143"):
        train(tmp_path / "stopped", Bar(stop_after=5))
    assert checkpoints.newest_step(tmp_path / "stopped") == 5
    for one, two in zip(whole, train(tmp_path / "stopped")):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize(
    "errors,patience,best,last",
    [
        ([0.5, 0.4, 0.6, 0.4, 0.1], 2, 2, 4),  # stops early, with the second epoch's weights
        ([0.5, 0.4, 0.6, 0.7, 0.8], 3, 2, 5),  # they are kept beside two newer checkpoints
        # runs to the end
        pytest.param([0.5, 0.4, 0.6, 0.3, 0.4], 3, 4, 5, marks=pytest.mark.long),
        pytest.param([0.5, 0.4, 0.6, 0.7, 0.8], 0, 5, 5, marks=pytest.mark.long),
    ],
)  # without patience the last are kept
def test_patience_keeps_the_weights_of_the_lowest_error(
    pictures, tmp_path, monkeypatch, errors, patience, best, last
):
    left, seen = list(errors), []

    def figures():
        seen.append(model.get_weights())
        return {"examples": 9, "loss": 1.0, "top_1": 1 - left.pop(0), "top_5": 1.0}

    said = types.SimpleNamespace(figures=figures)
    monkeypatch.setattr(evaluation.Evaluation, "answers", lambda *arguments: [said])
    keras.utils.set_random_seed(2)
    with CPU.scope():
        model, optimizer = build_model("lenet5", 3), SGD2012()
    dataset, notes = datasets.open_dataset("folder", pictures), []
    arguments = (
        CPU,
        model,
        optimizer,
        dataset,
        PIXELS,
        a_plan(epochs=5, patience=patience),
        str(tmp_path),
    )
    figures = loop.train(*arguments, note=notes.append)
    assert figures["top_1"] == 1 - errors[best - 1] and figures["step"] == 4 * best
    assert checkpoints.newest_step(tmp_path) == 4 * last
    kept = build_model("lenet5", 3)
    checkpoints.restore(tmp_path, kept)
    for one, two in zip(kept.get_weights(), seen[best - 1]):
        np.testing.assert_array_equal(one, two)
    assert (
        loop.train(*arguments, note=notes.append) == figures and "is already trained" in notes[-1]
    )


@pytest.mark.long
def test_a_head_keeps_its_best_weights_too(tune, pretrained, pictures, tmp_path):
    figures = tune(pretrained, "model", "--epochs=40", "--patience=2", "--learning_rate=0.02")
    rows = metrics.read_log(tmp_path / "model")
    best = min(rows, key=lambda row: (-row["top_1"], row["loss"]))
    assert figures["step"] == best["step"] and len(rows) < 40
    assert figures["validation_loss"] < best["loss"]  # the temperature has made it lower
    assert checkpoints.newest_step(tmp_path / "model") == rows[-1]["step"]
    model = checkpoints.load_model(tmp_path / "model").model
    dataset = datasets.open_dataset("folder", pictures, choosing=True)
    # what chose, what is reported
    for split, loss in (
        (dataset.evaluation, figures["validation_loss"]),
        (dataset.test, figures["loss"]),
    ):
        assert evaluation.evaluate_split(CPU, model, PIXELS, split, 9)["loss"] == pytest.approx(
            loss, rel=1e-6
        )


@pytest.mark.long
def test_settings_stay_those_of_the_training_where_nothing_is_left_to_train(
    run, tune, pretrained, tmp_path
):
    tune(pretrained, "model", "--epochs=30", "--patience=1", "--learning_rate=0")
    settings = (tmp_path / "model/settings.json").read_text()
    given = ["--epochs=30", "--patience=1", "--learning_rate=0", "--max_bad_pictures=3"]
    tune(pretrained, "model", *given)
    assert (
        "is already trained" in run.notes
        and (tmp_path / "model/settings.json").read_text() == settings
    )


@pytest.mark.parametrize("dropout", [Dropout, keras.layers.Dropout])
def test_dropout_of_the_head_is_drawn_anew_in_each_step_and_the_same_again(dropout):
    class Losses(list):
        def write(self, row):
            self.append(row["train_loss"])

    def train(seed=0):
        keras.utils.set_random_seed(2)
        inputs = keras.Input((8,))
        projection = keras.Model(inputs, keras.layers.Dense(3)(dropout(0.5)(inputs)))
        # so that only masks can make losses differ
        alike = np.ones((1, 12, 8), np.float32), np.zeros(12, np.int64)
        found = features.Features(*alike, *alike, 0.0, {"evaluation": []})
        head.train(
            projection,
            SGD2012(),
            found,
            a_plan(epochs=4, learning_rate=0.0, seed=seed),
            losses := Losses(),
            console.progress,
            print,
        )
        return losses

    first = train()
    assert len(set(first)) == 4 and train() == first
    # that of 2012 has drawn its seed already
    assert (train(seed=1) != first) == (dropout is keras.layers.Dropout)


def test_a_handful_of_pictures_takes_smaller_batches_and_says_so(run, tune, pretrained, tmp_path):
    write_pictures(tmp_path / "few", 2)
    for name in ("plain star", "striped disc"):
        next((tmp_path / "few" / name).iterdir()).unlink()
    tune(pretrained, "model", "--epochs=1", f"--data_dir={tmp_path}/few")
    assert "--batch_size=6, but there are 3 training pictures: batches of 3" in run.notes
    assert "training pictures: checked disc 1, plain star 1, striped disc 1" in run.notes


@pytest.mark.parametrize("counts,told", [([4, 12], False), ([4, 13], True), ([0, 3], True)])
def test_classes_out_of_balance_are_told(counts, told):
    lines = splits.describe_balance(("a", "b"), counts)
    assert lines[0] == f"training pictures: a {counts[0]}, b {counts[1]}"
    assert [line.startswith("The classes are out of balance") for line in lines[1:]] == [
        True
    ] * told


@pytest.mark.parametrize(
    "arguments,message",
    [
        (
            ["--trainable=fc9"],
            (
                "--trainable=fc9: no layer of that name; use head, all, or some of conv1, conv2,"
                " fc3, fc4, fc5"
            ),
        ),
        (["--pretrained="], "--pretrained= names no path; pass one"),
        (["--pretrained=nothing"], "There is no nothing; name a model directory"),
        (["--batch_size=7", "--replicas=2"], "does not divide among 2 replicas"),
        (["--distribution=multi_worker"], "--distribution=multi_worker: value should be one of"),
        (["--augment_views=2", "--trainable=fc4"], "--augment_views=2 is for --trainable=head"),
    ],
)
def test_refused_before_anything_is_written(tune, pretrained, tmp_path, arguments, message):
    assert message in tune(pretrained, "model", *arguments, status=2)
    assert os.listdir(tmp_path) == []


def test_preprocessing_of_views_is_that_of_training(pictures):
    dataset = datasets.open_dataset("folder", pictures)
    batch = next(iter(pipeline.evaluation_batches(dataset.train, PIXELS, 4, view=3, seed=5)))
    for number, row in enumerate(dataset.train.read(None).take(4)):
        crop = preprocessing.decode_random_crop(
            row["image"], PIXELS, tf.constant([5 + 3 * 2**32, 2 * number])
        )
        np.testing.assert_array_equal(batch["image"][number], crop)


@pytest.mark.parametrize("trained", ["head", pytest.param("all", marks=pytest.mark.long)])
def test_a_network_whose_last_layer_has_no_bias_gets_one(trained, pictures, tmp_path):
    images = keras.Input((8, 8, 3))
    x = keras.layers.Flatten()(keras.layers.Conv2D(2, 3, name="maps")(images))
    x = keras.layers.Dropout(0.5)(x)
    model = keras.Model(images, keras.layers.Dense(2, use_bias=False)(x))
    how = {"class_names": ["a", "b"], "preprocessing": Preprocessing(8, 8, 3, (0.0,) * 3, 1.0)}
    source = (
        alexnet_tf.export(model, tmp_path / "out", **how, format="keras", note=str) / "model.keras"
    )
    given = {"pretrained": source, "dataset": "folder", "data_dir": pictures, "xla": "off"}
    given |= {"model_dir": tmp_path / "model", "trainable": trained}
    given |= {"json": tmp_path / "figures.json"}
    more = ["--epochs=1"] if trained == "all" else []
    call(finetune, *(f"--{name}={value}" for name, value in given.items()), *more)
    # fitted, as what it reads is the last map
    assert networks.load(tmp_path / "model").model.layers[-1].bias.shape == (3,)
    solver = checkpoints.read_settings(tmp_path / "model")["head_solver"]
    assert solver == ("fit" if trained == "head" else "sgd")


def test_the_arithmetic_of_ones_own_network_is_its_own(pictures, tmp_path):
    """--precision changed nothing in it, and nothing said so."""
    images = keras.Input((8, 8, 3))
    model = keras.Model(images, keras.layers.Dense(2)(keras.layers.Flatten()(images)))
    pixels = Preprocessing(8, 8, 3, (0.0,) * 3, 1.0)
    how = {"class_names": ["a", "b"], "preprocessing": pixels, "format": "keras"}
    source = alexnet_tf.export(model, tmp_path / "out", **how) / "model.keras"
    flags = f"--pretrained={source}", "--dataset=folder", f"--data_dir={pictures}"
    with pytest.raises(UserError, match="precision=mixed_bfloat16 is for the variants; .*omit it"):
        call(finetune, *flags, f"--model_dir={tmp_path}/tuned", "--precision=mixed_bfloat16")
    assert not (tmp_path / "tuned").exists()
