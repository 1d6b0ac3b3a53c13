"""What a notebook types: `import alexnet_tf`, and every name that it gives."""

import ast
import functools
import json
import math
import os
import pathlib
import re
import shutil
import subprocess
import sys
import types

import keras
import numpy as np
import pytest
import tensorflow as tf
from absl import flags
from binaries import call
from conftest import CLASS_NAMES, write_picture_folder, write_pictures
from PIL import Image

import alexnet_tf
from alexnet_tf import console, disk, networks
from alexnet_tf.commands import (
    app,
    classify,
    convert,
    evaluate,
    export,
    finetune,
    import_weights,
    train,
)
from alexnet_tf.errors import UserError
from alexnet_tf.training import checkpoints, loop, objective, run_settings, steps

PACKAGE = pathlib.Path(alexnet_tf.__file__).parent
FAST = {"xla": "off", "batch_size": 6, "note": lambda line: None, "schedule": "constant"}


def in_fresh_process(code, *arguments):
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(PACKAGE.parent)},
        check=True,
    ).stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """pictures/; a training from Python in model/; the same network in every other form."""
    folder = tmp_path_factory.mktemp("entrance")
    write_picture_folder(folder / "pictures")
    dataset = alexnet_tf.open_dataset("folder", folder / "pictures")
    network = alexnet_tf.train(folder / "model", dataset, "lenet5", epochs=2, **FAST)
    assert network.figures["examples"] == 9 and network.step == 8
    assert alexnet_tf.export(network, folder / "saved") == folder / "saved/1"
    figures = alexnet_tf.convert(folder / "saved", folder / "net.tflite", note=print)
    assert (
        figures["pictures compared"] == 9
        and figures["accuracy"] == figures["accuracy of the SavedModel"]
    )
    call(import_weights, f"--source={folder}/model", f"--output={folder}/net.npz")
    for form in ("safetensors", "onnx", "keras"):
        call(export, f"--model_dir={folder}/model", f"--format={form}", f"--output={folder / form}")
    return folder


FORMS = ["model", "net.npz", "saved", "saved/1", "net.tflite", "safetensors", "onnx", "keras"]


def test_importing_the_package_imports_neither_tensorflow_nor_keras():
    printed = in_fresh_process("""
import sys, alexnet_tf
assert not {"tensorflow", "keras", "numpy"} & set(sys.modules), sorted(sys.modules)
assert set(alexnet_tf.__all__) <= set(dir(alexnet_tf))
try:
    alexnet_tf.trian
except AttributeError as error:
    print(error)
try:
    import alexnet_tf.train
except ImportError as error:
    print(error)
for name in alexnet_tf.__all__:
    assert getattr(alexnet_tf, name).__doc__, name
print(callable(alexnet_tf.train))
""")
    assert printed.splitlines() == [
        "module 'alexnet_tf' has no attribute 'trian'",
        (
            "python -m alexnet_tf.train is a command; the function is alexnet_tf.train, after"
            " `import alexnet_tf`"
        ),
        "True",
    ]


def test_what_the_page_names_is_there_after_the_import_alone():
    text = (PACKAGE.parent / "docs/python.md").read_text()
    named = re.findall(r"`alexnet_tf\.(\w+)", text)
    assert named and set(named) <= set(alexnet_tf.__all__)
    (line,) = re.findall(r"`(from alexnet_tf\.\S+ import \w+)`", text)
    there: dict = {}
    exec(line, there)
    assert there["TrainStep"] is steps.TrainStep


def test_every_name_is_told_to_type_checkers_as_it_is_imported():
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    (told,) = (
        node
        for node in tree.body
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"
    )
    homes = {alias.name: node.module for node in told.body for alias in node.names}
    assert homes == {name: f"alexnet_tf.{home}" for name, home in alexnet_tf._HOMES.items()}
    assert sorted(homes) == sorted(alexnet_tf.__all__) and (PACKAGE / "py.typed").exists()


@pytest.mark.long
@pytest.mark.parametrize(
    "imports",
    [
        "import alexnet_tf, keras",
        "import keras, alexnet_tf",
        "import alexnet_tf, tensorflow, keras",
    ],
)
def test_a_keras_file_loads_after_the_import_alone(tmp_path, imports):
    keras.utils.set_random_seed(2)
    model = alexnet_tf.build_model("half", 3, 67)
    model.compile(
        alexnet_tf.SGD2012(0.01, 0.8, 0.001, 2.0, {"fc8/kernel": 10.0, "fc8/bias": 10.0}),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    images, labels = (
        np.random.default_rng(0).normal(0, 50, (4, 67, 67, 3)).astype("f4"),
        np.array([0, 1, 2, 0]),
    )
    model.fit(images, labels, verbose=0)
    model.save(tmp_path / "model.keras")
    expected = model.predict(images, verbose=0)
    model.fit(images, labels, verbose=0, shuffle=False)
    np.savez(tmp_path / "given.npz", images=images, labels=labels, expected=expected)
    in_fresh_process(
        imports
        + """
import sys, numpy as np
folder = sys.argv[1]
model, given = keras.saving.load_model(f"{folder}/model.keras"), np.load(f"{folder}/given.npz")
answers = model.predict(given["images"], verbose=0)
np.testing.assert_allclose(answers, given["expected"], rtol=1e-4, atol=1e-5)
rule = model.optimizer
assert type(rule).__name__ == "SGD2012" and int(rule.iterations) == 1
assert rule.get_config()["rates"] == {"fc8/kernel": 10.0, "fc8/bias": 10.0}
assert (rule.momentum, rule.decay, rule.bias_rate) == (0.8, 0.001, 2.0)
np.savez(f"{folder}/velocities.npz", *[velocity.numpy() for velocity in rule.velocities])
""",
        tmp_path,
    )
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    stored = list(np.load(tmp_path / "velocities.npz").values())
    assert (
        len(stored) == len(model.trainable_variables)
        and max(np.abs(one).max() for one in stored) > 0
    )
    for one, two in zip(stored, loaded.optimizer.velocities):
        np.testing.assert_array_equal(one, two.numpy())


@pytest.mark.long
@pytest.mark.parametrize("form", FORMS)
def test_a_network_is_the_same_in_every_form(folder, form):
    network, trained = alexnet_tf.load(folder / form), alexnet_tf.load(folder / "model")
    picture = next((folder / "pictures/test/plain star").iterdir())
    image = network.prepare(picture)
    assert image.shape == (28, 28, 1) and image.dtype == np.uint8
    np.testing.assert_allclose(
        network.probabilities(image[None]), trained.probabilities(image[None]), atol=1e-5
    )
    assert network.class_names == CLASS_NAMES and network.settings.variant == "lenet5"
    assert [name for name, _ in network.classify(picture)] == [
        name for name, _ in trained.classify(picture.read_bytes())
    ]
    # what lies in one file names no folder
    names_it = form in ("model", "saved")
    data = [] if names_it else ["--dataset=folder", f"--data_dir={folder}/pictures"]
    figures = call(evaluate, f"--models={folder / form}", f"--json={folder}/figures.json", *data)
    assert figures["loss"] == pytest.approx(trained.figures["loss"], rel=1e-4)
    dataset = alexnet_tf.open_dataset("folder", folder / "pictures") if data else None
    assert alexnet_tf.evaluate(folder / form, dataset).figures()["loss"] == pytest.approx(
        trained.figures["loss"], rel=1e-4
    )
    with pytest.raises(UserError, match="settings.json does not decode as a picture"):
        network.classify(folder / "model/settings.json")
    if form in ("net.tflite", "onnx"):
        what = {"onnx": "a graph, and no weights"}.get(form, "no weights in float32")
        with pytest.raises(
            UserError,
            match=f"{form}.* holds {what} that .* pass the model directory or the export",
        ):
            network.model  # noqa: B018
    else:
        assert checkpoints.weights_digest(network.model) == checkpoints.weights_digest(
            trained.model
        )


@pytest.mark.parametrize(
    "form",
    [
        "net.tflite",
        *(pytest.param(form, marks=pytest.mark.long) for form in ("saved", "net.npz", "keras")),
    ],
)
def test_every_form_with_weights_is_fine_tuned_exported_and_imported(
    folder, tmp_path, form, capsys
):
    commands = [
        (
            finetune,
            f"--pretrained={folder / form}",
            "--dataset=folder",
            f"--data_dir={folder}/pictures",
            "--epochs=1",
            "--batch_size=6",
            f"--model_dir={tmp_path}/tuned",
        ),
        (export, f"--model_dir={folder / form}", f"--output={tmp_path}/again"),
        (import_weights, f"--source={folder / form}", f"--output={tmp_path}/again.npz"),
    ]
    if form == "net.tflite":
        for command in commands:
            with pytest.raises(UserError, match="holds no weights in float32"):
                call(*command)
        assert not list(tmp_path.iterdir())
        return
    for command in commands:
        call(*command)
    trained = alexnet_tf.load(folder / "model")
    for path in ("again", "again.npz"):
        again = alexnet_tf.load(tmp_path / path)
        assert checkpoints.weights_digest(again.model) == checkpoints.weights_digest(trained.model)
    tuned = alexnet_tf.load(tmp_path / "tuned")
    assert tuned.settings.variant == "lenet5" and tuned.settings.others["trained_layers"] == ["fc5"]


def identities(network):
    parts = vars(network.record).items()
    return {name: part.tolist() for name, part in parts if isinstance(part, np.ndarray)}


@pytest.mark.long
def test_the_record_of_the_pictures_goes_from_form_to_form(folder, tmp_path):
    trained = identities(alexnet_tf.load(folder / "model"))
    assert len(trained["trained"]) == 24 and len(trained["held_out"]) == 9
    (checkpoint,) = (folder / "model/checkpoints").glob("step-00000008")
    for number, source in enumerate((checkpoint / "weights.npz", folder / "saved")):
        call(import_weights, f"--source={source}", f"--output={tmp_path}/{number}.npz")
    call(import_weights, f"--source={folder}/net.npz", f"--output={tmp_path}/2.npz")
    call(export, f"--model_dir={tmp_path}/2.npz", f"--output={tmp_path}/saved")
    call(
        convert,
        f"--saved_model={tmp_path}/saved",
        f"--data_dir={folder}/pictures/test",
        f"--output={tmp_path}/net.tflite",
    )
    for name in ("0.npz", "1.npz", "2.npz", "saved", "net.tflite"):
        assert identities(alexnet_tf.load(tmp_path / name)) == trained, name
    for form in FORMS:
        assert identities(alexnet_tf.load(folder / form)) == trained, form
    data = ("--dataset=folder", f"--data_dir={folder}/pictures/train")
    with pytest.raises(UserError, match="all of its 24 pictures were trained on"):
        call(evaluate, f"--models={tmp_path}/2.npz", *data)


def test_a_folder_of_versions_is_its_newest(folder, tmp_path, capsys):
    (tmp_path / "versions").mkdir()
    (tmp_path / "versions/9").mkdir()
    (tmp_path / "versions/10").symlink_to(folder / "saved/1")
    assert networks.load(tmp_path / "versions").path == str(tmp_path / "versions/10")
    picture = next((folder / "pictures/test/plain star").iterdir())
    call(classify, f"--model={tmp_path}/versions", picture)
    assert (
        f"{alexnet_tf.load(folder / 'model').classify(picture)[0][1]:.4f}"
        in capsys.readouterr().out
    )


@pytest.mark.long
def test_what_is_reported_chooses_nothing(picture_folder, tmp_path):
    """As with the command: of train/ and test/ alone, a tenth of train/ chooses."""
    dataset = alexnet_tf.open_dataset("folder", picture_folder)
    assert (dataset.train.examples, dataset.evaluation.name) == (24, "test")
    plateau = FAST | {"schedule": "plateau"}
    network = alexnet_tf.train(tmp_path / "model", dataset, "lenet5", epochs=1, **plateau)
    assert (network.figures["examples"], network.figures["validation_examples"]) == (9, 3)
    assert network.figures["evaluated_on"] == "test"
    chosen = alexnet_tf.open_dataset("folder", picture_folder, choosing=True)
    assert (chosen.train.examples, chosen.evaluation.examples) == (21, 3)
    for judged in (dataset, chosen, None):  # by test/, each time
        figures = alexnet_tf.evaluate(network, judged).figures()
        assert figures["loss"] == pytest.approx(network.figures["loss"], rel=1e-5)
        assert figures["examples"] == 9


@pytest.mark.parametrize(
    "callback,chooses",
    [
        (keras.callbacks.EarlyStopping("val_loss"), True),
        (keras.callbacks.ReduceLROnPlateau(), True),
        (keras.callbacks.ModelCheckpoint("best.keras", save_best_only=True), True),
        (keras.callbacks.ModelCheckpoint("each.keras"), False),
        (keras.callbacks.History(), False),
    ],
    ids=lambda one: type(one).__name__,
)
def test_callbacks_may_choose(picture_folder, tmp_path, monkeypatch, callback, chooses):
    def trained(*arguments, **_):
        raise UserError(str(arguments[3].evaluation.name))

    monkeypatch.setattr(loop, "train", trained)
    dataset = alexnet_tf.open_dataset("folder", picture_folder)
    with pytest.raises(UserError, match="held out" if chooses else "test"):
        alexnet_tf.train(tmp_path / "model", dataset, "lenet5", callbacks=[callback], **FAST)


def test_a_folder_that_has_changed_since_is_not_divided(picture_folder, tmp_path):
    dataset = alexnet_tf.open_dataset("folder", picture_folder)
    next((picture_folder / "train" / CLASS_NAMES[0]).iterdir()).unlink()
    with pytest.raises(UserError, match="have changed since it was opened; open it"):
        alexnet_tf.train(tmp_path / "m", dataset, "lenet5", **FAST | {"schedule": "plateau"})


def test_what_holds_no_network_is_refused_in_one_line(folder, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "models/mine").mkdir(parents=True)
    (tmp_path / "models/mine/settings.json").touch()
    (tmp_path / "models/b.tflite").touch()
    (tmp_path / "a.keras").write_bytes(b"something else")
    (tmp_path / "b.keras").write_bytes(b"")
    for path, message in (
        ("no", "There is no .*no; name a model directory"),
        ("empty", "holds no trained model; train one"),
        ("models", "models is not a model, but holds .*models/b.tflite, .*models/mine; pass one"),
        (
            "a.keras",
            r"a.keras is damaged, or not a .keras file \(File is not a zip file\); copy it",
        ),
        ("b.keras", "b.keras is an empty file; copy it again"),
    ):
        with pytest.raises(UserError, match=message):
            alexnet_tf.load(tmp_path / path)


@pytest.mark.long
def test_an_export_of_unknown_dropout_rate_is_tried_out(folder, tmp_path):
    """As exports were written before they told it:

    0.5 is believed if the answers agree, else refused.
    """
    model = keras.models.clone_model(alexnet_tf.build_model("half", 3, 67, dropout_rate=0.2))
    model.layers[-1].set_weights(
        [np.random.default_rng(0).normal(0, 1, model.layers[-1].kernel.shape), np.zeros(3)]
    )
    pixels = alexnet_tf.Preprocessing(67, 77, 3, (120.0,) * 3, 1.0)
    network = networks.of_model(
        "x",
        model,
        networks.Settings("half", pixels, CLASS_NAMES, 0.2, {"dataset": "folder"}),
        3,
        None,
    )
    alexnet_tf.export(network, tmp_path)
    path = tmp_path / "1/assets.extra/manifest.json"
    path.with_name("SHA256SUMS").unlink()
    manifest = json.loads(path.read_text())
    assert alexnet_tf.load(tmp_path).model.name and manifest.pop("dropout_rate") == 0.2
    path.write_text(json.dumps(manifest))
    with pytest.raises(
        UserError,
        match="exported without its dropout rate, which is not 0.5; export the model again",
    ):
        alexnet_tf.load(tmp_path).model  # noqa: B018


@pytest.fixture(scope="module")
def imported(folder, tmp_path_factory):
    """An export of a network whose data set is not here: ImageNet's archive."""
    there = tmp_path_factory.mktemp("imported")
    network = alexnet_tf.load(folder / "model")
    settings = networks.dataclasses.replace(
        network.settings, flags={"dataset": "imagenet2012", "data_dir": None, "seed": 0}
    )
    alexnet_tf.export(
        networks.of_model("imported", network.model, settings, 0, None), there / "saved"
    )
    write_pictures(there / "holidays/2024/beach", 4)  # nested, and of no class of ours
    return there


@pytest.mark.long
def test_without_its_pictures_a_network_is_converted_by_drawn_ones(imported, tmp_path, capsys):
    figures = call(
        convert,
        f"--saved_model={imported}/saved",
        f"--output={tmp_path}/a.tflite",
        f"--json={tmp_path}/f.json",
    )
    assert figures["compared on"] == "drawn pictures" and figures["pictures compared"] == 100
    assert (
        figures["accuracy"]
        == "not checked: the pictures are not labelled with this network's classes"
    )
    assert "are not available (" in capsys.readouterr().err
    assert (tmp_path / "a.tflite").exists()


@pytest.mark.long
def test_convert_tells_of_the_pictures_that_it_passes_over(folder, tmp_path, capsys):
    pictures = shutil.copytree(folder / "pictures", tmp_path / "pictures")
    (pictures / "test/plain star/none.jpg").write_bytes(b"no picture")
    (pictures / "notes.txt").write_text("")
    Image.effect_noise((40, 50), 60).save(pictures / "test/plain star/half.png")
    content = bytearray((pictures / "test/plain star/half.png").read_bytes())
    content[len(content) // 2] ^= 1  # sound by its header alone
    (pictures / "test/plain star/half.png").write_bytes(content)
    figures = call(
        convert,
        f"--saved_model={folder}/saved",
        "--dataset=folder",
        f"--data_dir={pictures}",
        f"--output={tmp_path}/a.tflite",
        f"--json={tmp_path}/f.json",
    )
    told = capsys.readouterr().err
    assert figures["pictures compared"] == 9 and "accuracy of the SavedModel" in figures
    assert "none.jpg" in told and "notes.txt" in told
    assert "1 of the 10 pictures of test cannot be read and are passed over" in told
    # class folders that the network has not seen: all are compared, and not a tenth of them
    write_pictures(tmp_path / "new", 4, first=50)
    flags = ("--dataset=folder", f"--data_dir={tmp_path}/new", f"--json={tmp_path}/f.json")
    saved = f"--saved_model={folder}/saved"
    figures = call(convert, saved, f"--output={tmp_path}/b.tflite", *flags)
    assert figures["pictures compared"] == 12 and "accuracy of the SavedModel" in figures


@pytest.mark.long
@pytest.mark.filterwarnings("ignore:.*tf.lite.Interpreter")  # TensorFlow's calibrator, of its own
def test_any_folder_of_pictures_will_do_to_compare_and_to_calibrate(
    imported, folder, tmp_path, monkeypatch
):
    # a net that has hardly learnt
    monkeypatch.setattr("alexnet_tf.exports.tflite._LARGEST_DISAGREEMENT", 0.5)
    saved, pictures = f"--saved_model={imported}/saved", imported / "holidays"
    figures = call(
        convert,
        saved,
        "--dataset=folder",
        f"--data_dir={pictures}",
        f"--output={tmp_path}/a.tflite",
        f"--json={tmp_path}/f.json",
    )
    assert (figures["compared on"], figures["pictures compared"]) == (str(pictures), 12)
    with pytest.raises(
        UserError,
        match="int8 needs pictures .* pass calibration=FOLDER with a few hundred pictures",
    ):
        call(convert, saved, "--quantization=int8", f"--output={tmp_path}/b.tflite")
    assert not (tmp_path / "b.tflite").exists()
    figures = call(
        convert,
        saved,
        "--quantization=int8",
        f"--calibration={pictures}",
        f"--output={tmp_path}/b.tflite",
        f"--json={tmp_path}/f.json",
    )
    assert figures["calibrated on"] == f"12 of {pictures}"
    assert (
        figures["compared on"]
        == f"{pictures}, the pictures it was calibrated on: others would tell more"
    )
    labelled = call(
        convert,
        saved,
        "--quantization=int8",
        f"--calibration={pictures}",
        "--dataset=folder",
        f"--data_dir={folder}/pictures",
        f"--output={tmp_path}/c.tflite",
        f"--json={tmp_path}/f.json",
    )
    assert labelled["compared on"] == "test" and isinstance(labelled["accuracy"], float)


@pytest.mark.long
def test_the_accuracy_may_drop_by_what_is_asked_and_no_more(folder, tmp_path, monkeypatch):
    """A converted model that is always wrong passes where all of the accuracy may go, and only
    there.
    """
    monkeypatch.setattr("alexnet_tf.exports.tflite._LARGEST_DISAGREEMENT", 1.0)
    network = alexnet_tf.load(folder / "model")
    right = alexnet_tf.evaluate(network).figures()["top_1"]
    assert right > 1 / 9  # a single picture is always let through
    dataset = alexnet_tf.open_dataset("folder", folder / "pictures")
    labels = {
        network.prepare(one["image"].numpy()).tobytes(): int(one["label"])
        for one in dataset.test.read(None)
    }
    monkeypatch.setattr(
        "alexnet_tf.exports.artifacts.Tflite.probabilities",
        lambda self, image: np.eye(3, dtype=np.float32)[labels[np.asarray(image).tobytes()] - 1],
    )
    with pytest.raises(UserError, match="accuracy .* instead of"):
        alexnet_tf.convert(folder / "saved", tmp_path / "a.tflite", "dynamic", pictures=dataset)
    figures = alexnet_tf.convert(
        folder / "saved", tmp_path / "a.tflite", "dynamic", pictures=dataset, max_accuracy_drop=1.0
    )
    assert figures["accuracy"] < figures["accuracy of the SavedModel"] == pytest.approx(right)
    with pytest.raises(UserError, match="accuracy .* instead of"):  # though it is there already
        alexnet_tf.convert(folder / "saved", tmp_path / "a.tflite", "dynamic", pictures=dataset)


def mixup(images, targets, seed):
    share = tf.random.stateless_uniform([tf.shape(images)[0], 1], seed, 0.5, 1.0)
    other = tf.reverse(images, [0]), tf.reverse(targets, [0])
    wide = share[:, :, None, None]
    return wide * images + (1 - wide) * other[0], share * targets + (1 - share) * other[1]


def random_resized_crop(image, pixels, seed):
    begin, size, _ = tf.image.stateless_sample_distorted_bounding_box(
        tf.shape(image),
        tf.zeros([1, 0, 4]),
        seed,
        area_range=[0.3, 1.0],
        use_image_if_no_bounding_boxes=True,
    )
    part = tf.image.resize(tf.slice(image, begin, size), [pixels.image_size] * 2)
    part = tf.cast(part, tf.uint8)
    return tf.image.rgb_to_grayscale(part) if pixels.channels == 1 else part


@pytest.mark.long
def test_a_training_is_of_ones_own_objective_and_goes_on_to_the_same_bits(folder, tmp_path):
    dataset = alexnet_tf.open_dataset("folder", folder / "pictures")
    own = {
        "label_smoothing": 0.1,
        "class_weights": {"plain star": 3.0},
        "augment": mixup,
        "crop": random_resized_crop,
        "loss": lambda targets, logits: keras.losses.categorical_crossentropy(
            targets, logits, from_logits=True
        ),
    }
    whole = alexnet_tf.train(tmp_path / "whole", dataset, "lenet5", epochs=2, **own, **FAST)
    alexnet_tf.train(tmp_path / "parts", dataset, "lenet5", epochs=1, **own, **FAST)
    parts = alexnet_tf.train(tmp_path / "parts", dataset, "lenet5", epochs=2, **own, **FAST)
    assert checkpoints.weights_digest(whole.model) == checkpoints.weights_digest(parts.model)
    plain = alexnet_tf.load(folder / "model")
    assert checkpoints.weights_digest(whole.model) != checkpoints.weights_digest(plain.model)
    stored = json.loads((tmp_path / "whole/settings.json").read_text())
    assert stored["label_smoothing"] == 0.1 and stored["class_weights"] == {"plain star": 3.0}
    assert stored["augment"].endswith("mixup")


@pytest.mark.parametrize(
    "weights,smoothing,targets",
    [
        (None, 0.0, [[1, 0, 0], [0, 0, 1]]),
        ([1, 2, 4], 0.0, [[1, 0, 0], [0, 0, 1]]),
        ({"c": 4}, 0.3, [[0.5, 0, 0.5], [0, 1, 0]]),
        ({2: 4}, 0.3, [[0.5, 0, 0.5], [0, 1, 0]]),
    ],
)
def test_losses_are_weighted_and_smoothed_as_numpy_has_it(weights, smoothing, targets):
    logits = np.array([[2.0, -1.0, 0.5], [0.3, 0.2, 0.1]], np.float32)
    judge = objective.Objective(class_weights=weights, label_smoothing=smoothing).judge(
        ("a", "b", "c")
    )
    losses, right = judge(tf.constant(targets, tf.float32), tf.constant(logits))
    log = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    smooth = np.array(targets) * (1 - smoothing) + smoothing / 3
    each = {None: [1, 1, 1]}.get(
        weights if weights is None else "", [1, 2, 4] if weights == [1, 2, 4] else [1, 1, 4]
    )
    expected = -(smooth * log).sum(1) * (np.array(targets) @ np.array(each))
    np.testing.assert_allclose(losses, expected, rtol=1e-6)
    assert right.numpy().tolist() == (logits.argmax(1) == np.argmax(targets, 1)).tolist()


@pytest.mark.parametrize(
    "loss",
    [
        keras.losses.CategoricalCrossentropy(from_logits=True, reduction="none"),
        functools.partial(keras.losses.categorical_crossentropy, from_logits=True),
    ],
)
def test_losses_of_keras_are_taken_as_the_refusal_of_others_says(loss):
    """Their defaults are of probabilities, and trained on logits they learn something else."""
    targets, logits = tf.constant([[0.0, 1, 0]]), tf.constant([[2.0, -1, 0.5]])
    losses, _ = objective.Objective(loss).judge(("a", "b", "c"))(targets, logits)
    np.testing.assert_allclose(losses, [math.log(sum(map(math.exp, (2, -1, 0.5)))) + 1], rtol=1e-6)
    assert objective.Objective(loss).describe()["loss"].startswith("keras.")


@pytest.mark.parametrize(
    "arguments,message",
    [
        ({"class_weights": {"rose": 2}}, "there is no class 'rose'"),
        ({"class_weights": {3: 2}}, "there is no class 3; there are '"),
        ({"class_weights": {0: 2, CLASS_NAMES[0]: 1}}, "has two numbers for one class"),
        ({"seed": 1732000000000}, "seed=1732000000000: pass a whole number from 0 to 2147483647"),
        ({"class_weights": [1, 2]}, "for each of the 3 classes"),
        ({"class_weights": [1, 2, -1]}, "0 or more"),
        ({"class_weights": [0, 0, 0]}, "not all 0"),
        ({"class_weights": {1.0, 2.0, 3.0}}, "pass a dict by class name, or a list in the order"),
        ({"class_weights": "balanced"}, "pass a dict by class name, or a list in the order"),
        ({"class_weights": {"plain star": "2"}}, "class_weights='2': pass a number"),
        ({"label_smoothing": 1.0}, "label_smoothing=1.0: pass a number from 0 to below 1"),
        ({"loss": "mse"}, "loss=mse: pass a function"),
        ({"loss": keras.losses.CategoricalCrossentropy()}, "build it with from_logits=True"),
        ({"loss": keras.losses.CategoricalCrossentropy(True)}, "build it with reduction='none'"),
        ({"loss": keras.losses.categorical_crossentropy}, "functools.partial with from_logits=Tr"),
        ({"optimizer": keras.optimizers.Adam()}, "type Adam; pass an alexnet_tf.SGD2012 or LARS"),
        ({"callbacks": keras.callbacks.EarlyStopping()}, "type EarlyStopping; pass a list"),
        ({"callbacks": ["stop"]}, "one of callbacks= is of the type str"),
        ({"dataset": "pictures"}, "type str; pass what open_dataset or from_tf_data gives"),
        ({"preprocessing": {"image_size": 28}}, "type dict; pass a Preprocessing"),
        ({"schedule": "cosine"}, "schedule=cosine is unknown; use one of plateau, steps"),
        ({"xla": True}, "xla=True is unknown; use one of auto, on, off"),
        ({"epochs": "1"}, "epochs='1': pass a whole number of 1 or more"),
        ({"epochs": -1}, "epochs=-1: pass a whole number of 1 or more"),
        ({"batch_size": 6.0}, "batch_size=6.0: pass a whole number"),
        ({"batch_size": 0}, "batch_size=0: pass a whole number"),
        ({"patience": -1}, "patience=-1: pass a whole number"),
        ({"warmup_steps": 2.5}, "warmup_steps=2.5: pass a whole number"),
        ({"learning_rate": -0.1}, "learning_rate=-0.1: pass a number of 0 or more"),
        ({"momentum": 2}, "momentum=2: pass a number from 0 to below 1"),
        ({"weight_decay": -1}, "weight_decay=-1: pass a number of 0 or more"),
        ({"dropout_rate": 50}, "dropout_rate=50: pass a number from 0 to below 1"),
        ({"seed": -1}, "seed=-1: pass a whole number"),
        ({"image_size": 10**5}, "image_size=100000: pass a whole number from 1 to 8192"),
        ({"data_service": "host:1"}, "data_service=host:1: pass a list"),
        ({"lerning_rate": 1}, "lerning_rate= is not a parameter"),
        ({"image_size": 5}, "image_size=5 is too small"),
        ({"variant": "alexnet"}, "variant=alexnet is unknown"),
        ({"batch_size": 100}, "batch_size=100, but there are"),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_is_written(folder, tmp_path, arguments, message):
    dataset = alexnet_tf.open_dataset("folder", folder / "pictures")
    usual = {"dataset": dataset, "variant": "lenet5", "epochs": 1} | FAST
    with pytest.raises(UserError, match=message):
        alexnet_tf.train(tmp_path / "model", **(usual | arguments))
    assert not (tmp_path / "model").exists()


def test_numbers_of_classes_are_places_unless_they_are_names():
    weigh = objective.Objective(class_weights={0: 2.0}).weights
    assert weigh(("0", "1", "2")) == weigh(("a", "b", "c")) == (2.0, 1.0, 1.0)
    with pytest.raises(UserError, match="there is no class 0; there are '1', '0'"):
        weigh(("1", "0"))


@pytest.mark.long
def test_numbers_of_numpy_are_numbers(folder, tmp_path):
    dataset = alexnet_tf.open_dataset("folder", folder / "pictures", np.int64(0))
    numbers = {
        "epochs": np.int64(1),
        "batch_size": np.int32(6),
        "learning_rate": np.float32(0.25),
        "dropout_rate": np.float32(0.5),
        "label_smoothing": np.float32(0.25),
        "class_weights": np.array([1.0, 2.0, 3.0]),
    }
    alexnet_tf.train(tmp_path / "model", dataset, "lenet5", **(FAST | numbers))
    stored = json.loads((tmp_path / "model/settings.json").read_text())
    assert stored["class_weights"] == [1, 2, 3] and stored["label_smoothing"] == 0.25
    assert stored["flags"]["learning_rate"] == 0.25 and stored["dropout_rate"] == 0.5
    pixels = alexnet_tf.Preprocessing(28, 32, np.int64(1), np.float32([120]), np.float32(64))
    assert json.dumps(vars(pixels)) and type(pixels.std) is float


@pytest.mark.parametrize("form", ["model", "saved", "net.tflite"])
def test_images_that_are_none_are_refused(folder, form):
    """One without its batch dimension ended the process, by an assertion of TensorFlow."""
    network = alexnet_tf.load(folder / form)
    image = network.prepare(next((folder / "pictures/test/plain star").iterdir()))
    expected = network.probabilities(image[None])
    for dtype in (np.float32, np.float64, np.int64):
        np.testing.assert_array_equal(network.probabilities(image[None].astype(dtype)), expected)
    for images, message in (
        (image, r"the shape \(28, 28, 1\); pass \(n, 28, 28, 1\)"),
        (np.zeros((1, 32, 32, 1), np.uint8), "the shape"),
        (np.zeros((0, 28, 28, 1), np.uint8), "the shape"),
        (image[None] / 255, "from .* to .*; pass levels of 0..255"),
        (image[None].astype(np.float32) - 120, "pass levels of 0..255"),
        (image[None].astype(np.int64) + 200, "pass levels of 0..255"),
        (np.full((1, 28, 28, 1), "x"), "are of <U1; pass levels"),
    ):
        with pytest.raises(UserError, match=message):
            network.probabilities(images)
    for probability in (-1, 2, math.nan, "often"):
        with pytest.raises(UserError, match="is not a probability; pass one from 0 to 1"):
            network.classify(next((folder / "pictures/test/plain star").iterdir()), probability)


def test_what_cannot_be_evaluated_or_converted_is_refused(folder, tmp_path):
    network = alexnet_tf.load(folder / "model")
    for networks_, arguments, message in (
        ([network] * 2, {"weights": [1]}, "for each of the 2 networks"),
        ([network] * 2, {"weights": [1, 2, 3]}, "for each of the 2 networks"),
        ([network] * 2, {"weights": [1, -1]}, "pass a number of 0 or more"),
        ([network] * 2, {"weights": {1.0, 2.0}}, "a set, but the order counts"),
        (network, {"views": 3}, "views=3: pass 1, for the centre, or 10"),
        (network, {"batch_size": 0}, "batch_size=0: pass a whole number"),
        (network, {"dataset": "pictures"}, "pass what open_dataset"),
        ([], {}, "holds no network"),
    ):
        with pytest.raises(UserError, match=message):
            alexnet_tf.evaluate(networks_, **arguments)
    for arguments, message in (
        (
            {"quantization": "INT8"},
            "quantization=INT8 is unknown; use one of none, float16, dyn",
        ),
        ({"count": -1}, "count=-1: pass a whole number"),
        ({"max_accuracy_drop": 50}, "0.003 is 0.3 points"),
        ({"max_accuracy_drop": math.nan}, "is not a finite number"),
    ):
        with pytest.raises(UserError, match=message):
            alexnet_tf.convert(folder / "saved", tmp_path / "a.tflite", **arguments)
    with pytest.raises(UserError, match="output= is an empty path"):
        alexnet_tf.export(network, "", format="safetensors")
    assert not list(tmp_path.iterdir())


def test_a_model_of_ones_own_on_a_data_set_of_ones_own(tmp_path):
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (24, 20, 30, 3), np.uint8), np.arange(24) % 3
    records = tf.data.Dataset.from_tensor_slices((images, labels))
    dataset = alexnet_tf.from_tf_data(records, records.take(9), CLASS_NAMES)
    assert (dataset.train.examples, dataset.evaluation.examples, dataset.class_counts) == (
        24,
        9,
        (8, 8, 8),
    )
    seen = sorted(
        int(record["picture"])
        for record in dataset.train.read(tf.constant(3, tf.int64)).as_numpy_iterator()
    )
    assert seen == list(range(24))
    record = next(dataset.evaluation.read(None).as_numpy_iterator())
    np.testing.assert_array_equal(tf.io.decode_png(record["image"]), images[0])

    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [
            keras.Input((12, 12, 1)),
            keras.layers.Conv2D(4, 3),
            keras.layers.BatchNormalization(),
            keras.layers.Flatten(),
            keras.layers.Dense(3),
        ]
    )
    pixels = alexnet_tf.Preprocessing(12, 14, 1, (128.0,), 64.0)
    with pytest.raises(UserError, match="preprocessing= is missing"):
        alexnet_tf.train(tmp_path / "own", dataset, model=model, **FAST)
    trained = alexnet_tf.train(
        tmp_path / "own", dataset, model=model, preprocessing=pixels, epochs=1, **FAST
    )
    loaded = alexnet_tf.load(tmp_path / "own")
    assert loaded.settings.variant == "own"
    crops = rng.integers(0, 256, (2, 12, 12, 1), np.uint8)
    np.testing.assert_allclose(loaded.probabilities(crops), trained.probabilities(crops), rtol=1e-5)
    alexnet_tf.export(loaded, tmp_path / "saved")
    np.testing.assert_allclose(
        alexnet_tf.load(tmp_path / "saved").probabilities(crops),
        loaded.probabilities(crops),
        rtol=1e-4,
    )
    assert alexnet_tf.evaluate(loaded, dataset).figures() == pytest.approx(
        {
            name: trained.figures[name]
            for name in ("examples", "bad_pictures", "loss", "top_1", "top_5")
        }
        | {name: trained.figures[name] for name in ("only_answer",) if name in trained.figures},
        rel=1e-5,
    )
    with pytest.raises(UserError, match="does not say which data set it was trained on"):
        alexnet_tf.evaluate(loaded)
    with pytest.raises(UserError, match="dataset= is missing: the network does not say"):
        call(evaluate, f"--model_dir={tmp_path}/own")


@pytest.mark.parametrize(
    "change,message",
    [
        (lambda records: records.shuffle(24), "gives another order, or other images"),
        (lambda records: records.batch(2), "not batched"),
        (
            lambda records: records.map(lambda image, label: (tf.cast(image, tf.float32), label)),
            "has records of float32",
        ),
        (
            lambda records: records.map(lambda image, label: (image, label + 1)),
            "labels from 1 to 3 for 3 class names",
        ),
        (lambda records: records.take(0), "train has no record"),
        (lambda records: records.map(lambda image, label: image), "has to be"),
        (lambda records: records.repeat(), "train never ends; leave out repeat"),
        (
            lambda records: records.map(lambda image, label: (image // 255, label)),
            "train has images with no levels but 0 and 1",
        ),
        (
            lambda records: records.map(lambda image, label: (image * 0, label)),
            "train has images with no levels but 0 and 1",
        ),
        (
            lambda records: tf.data.Dataset.from_generator(
                lambda: ((np.zeros([8, 8, 3 + number], np.uint8), number) for number in range(2)),
                output_signature=(
                    tf.TensorSpec([None, None, None], tf.uint8),
                    tf.TensorSpec([], tf.int64),
                ),
            ),
            r"an image of shape \(8, 8, 4\) in record 1; each has to be \[height, width, 1 or 3\]",
        ),
        (lambda records: list(records), "train is a list; pass a tf.data.Dataset"),
    ],
)
def test_records_that_cannot_be_meant_are_refused(change, message):
    rng = np.random.default_rng(0)
    records = tf.data.Dataset.from_tensor_slices(
        (rng.integers(0, 256, (24, 8, 8, 3), np.uint8), np.arange(24) % 3)
    )
    with pytest.raises(UserError, match=message):
        alexnet_tf.from_tf_data(change(records), records, CLASS_NAMES)


@pytest.mark.parametrize(
    "names", [3, None, [], ["a"], ["a", "b", "a"], ["a", "", "c"], ["a\nb", "c", "d"], [b"a", b"b"]]
)
def test_names_that_classes_cannot_have_are_refused(names):
    records = tf.data.Dataset.from_tensors((np.full((8, 8, 3), 9, np.uint8), 0))
    with pytest.raises(UserError, match="a list of at least two different names"):
        alexnet_tf.from_tf_data(records, records, names)


def test_a_training_tells_what_the_commands_tell_of_its_pictures(picture_folder, tmp_path):
    (picture_folder / "train" / CLASS_NAMES[0] / "a.heic").write_bytes(b"x")
    dataset, notes = alexnet_tf.open_dataset("folder", picture_folder), []
    with pytest.raises(UserError, match="batch_size=99, but there are"):
        alexnet_tf.train(tmp_path, dataset, "lenet5", batch_size=99, note=notes.append)
    told = "\n".join(notes)
    assert "not used: 1 file of .heic, which alexnet prepare reads" in told
    assert "3 of 24 pictures, drawn per class with seed=0, choose" in told


def test_images_of_ones_own_that_are_in_both_splits_are_told():
    images = np.arange(24, dtype=np.uint8)[:, None, None, None] + np.zeros((9, 9, 3), np.uint8)
    records = tf.data.Dataset.from_tensor_slices((images, np.arange(24) % 3))
    apart = alexnet_tf.from_tf_data(records.skip(6), records.take(6), CLASS_NAMES)
    assert apart.notes == ()
    again = records.skip(4).map(lambda image, label: (image, 2 - label))
    assert alexnet_tf.from_tf_data(again, records.take(6), CLASS_NAMES).notes == (
        "2 of the 6 pictures of evaluation are also in train: correct answers on those say little.",
    )


def test_an_augmentation_of_another_shape_is_refused():
    cut = objective.Objective(augment=lambda images, targets, seed: (images[:, 1:], targets))
    with pytest.raises(
        UserError,
        match=r"augment= makes \(2, 27, 28, 1\) and \(2, 3\) of \(2, 28, 28, 1\) and \(2, 3\)",
    ):
        steps.TrainStep(
            tf.distribute.get_strategy(),
            alexnet_tf.build_model("lenet5", 3),
            alexnet_tf.SGD2012(),
            alexnet_tf.Preprocessing(28, 32, 1, (120.0,), 64.0),
            2,
            objective=cut,
            class_names=CLASS_NAMES,
        )


def test_a_training_in_a_directory_that_is_being_trained_is_refused(folder, tmp_path):
    dataset = alexnet_tf.open_dataset("folder", folder / "pictures")
    with (
        disk.locked(tmp_path / "model"),
        pytest.raises(UserError, match="model_dir=.* is being trained by another process"),
    ):
        alexnet_tf.train(tmp_path / "model", dataset, "lenet5", epochs=1, **FAST)
    assert loop.Plan().epochs == 90 and not (tmp_path / "model/settings.json").exists()


@pytest.mark.parametrize("place", ["", "model", "plain star/model"])
def test_a_model_does_not_lie_among_the_classes(folder, tmp_path, place):
    """Its folders would be classes when the training goes on; beside splits they are not."""
    plain = shutil.copytree(folder / "pictures/train", tmp_path / "plain")
    dataset = alexnet_tf.open_dataset("folder", plain)
    before = sorted(plain.rglob("*"))
    with pytest.raises(
        UserError, match="model_dir=.* lies among the classes in data_dir=.*; pass a m"
    ):
        alexnet_tf.train(plain / place, dataset, "lenet5", epochs=1, **FAST)
    assert sorted(plain.rglob("*")) == before
    split = alexnet_tf.open_dataset("folder", folder / "pictures")
    run_settings.check_apart(folder / "pictures/model", split)
    for inside in ("train/model", "test/plain star/model"):
        with pytest.raises(UserError, match="lies among the classes"):
            run_settings.check_apart(folder / "pictures" / inside, split)


def test_paths_are_of_this_machine_and_of_its_home(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.chdir(tmp_path)
    dataset = alexnet_tf.open_dataset("folder", "~/pictures")
    network = alexnet_tf.load("~/model")
    assert network.classify(next((folder / "pictures/test/plain star").iterdir()))
    calls = {
        "data_dir=": lambda path: alexnet_tf.open_dataset("folder", path),
        "model_dir=": lambda path: alexnet_tf.train(path, dataset, "lenet5", **FAST),
        "output=": lambda path: alexnet_tf.export(network, path),
        "": alexnet_tf.load,
        " ": network.classify,
        "output= ": lambda path: alexnet_tf.convert("~/saved", path),
        "  ": lambda path: alexnet_tf.convert(path, "a.tflite"),
        "   ": lambda path: alexnet_tf.convert("~/saved", "a.tflite", pictures=path),
    }
    for parameter, call_with in calls.items():
        for address in ("gs://bucket/x", pathlib.Path("s3://bucket/x")):
            match = f"^{parameter.strip()}{address} is an address; pass a path on this machine"
            with pytest.raises(UserError, match=match):
                call_with(address)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "change",
    [{"momentum": math.nan}, {"learning_rate": math.inf}, {"weight_decay": -math.inf}],
)
def test_numbers_that_are_none_are_refused(folder, tmp_path, change):
    ((name, value),) = change.items()
    dataset = alexnet_tf.open_dataset("folder", folder / "pictures")
    with pytest.raises(UserError, match=f"{name}={value} is not a finite number"):
        alexnet_tf.train(tmp_path / "model", dataset, "lenet5", **FAST, **change)
    with pytest.raises(SystemExit):
        app.run(train, "alexnet train", [f"--{name}={value}", f"--model_dir={tmp_path}/model"])
    assert not (tmp_path / "model").exists()


def test_two_commands_are_imported_in_one_process():
    """Their flags are their own: one name, two defaults."""
    assert (
        finetune.FLAGS["batch_size"].default == 32 and evaluate.FLAGS["batch_size"].default == 128
    )
    assert "pretrained" not in evaluate.FLAGS


def test_notes_of_a_command_speak_of_its_flags(capsys):
    command = types.ModuleType("command", "A command.")
    command.FLAGS = flags.FlagValues()
    flags.DEFINE_integer("seed", 0, "Seed.", flag_values=command.FLAGS)
    command.main = lambda: console.note("drawn with seed=4, x=1 and 'seed=5'")
    with pytest.raises(SystemExit) as ended:
        app.run(command, "alexnet command", [])
    console.note("drawn with seed=4")
    assert not ended.value.code and capsys.readouterr().err.splitlines() == [
        "drawn with --seed=4, x=1 and 'seed=5'",
        "drawn with seed=4",
    ]


def test_no_library_module_speaks_of_flags():
    """A whole command line, `alexnet NAME --flag`, is advice, and launchers are commands."""
    launchers = {f"{name}.py" for name in ("train", "finetune", "evaluate", "export")}
    launchers |= {"__main__.py", "data_service.py"}
    of_others = {
        "provenance.py": "Git's",
        "tf_serving.py": "TensorFlow Serving's",
        "distribution.py": "pip's",
        "cluster.py": "Slurm's",
    }
    files = [
        path
        for path in PACKAGE.rglob("*.py")
        if path.relative_to(PACKAGE).parts[0] not in {"commands", *launchers}
        and path.name not in of_others
    ]
    told = [
        f"{path.name}:{node.lineno}: {node.value}"
        for path in files
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and re.search(
            r"(?<![\w-])--\w|(?<![\w-])--$|tools/|python -m alexnet_tf",
            re.sub(r"alexnet [a-z-]+( --\w+(=\S*)?)+", "", node.value),
        )
    ]
    assert len(files) > 50 and told == []
