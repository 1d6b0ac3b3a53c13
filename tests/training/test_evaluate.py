"""Errors of one net and of many, from one view and from ten, against plain NumPy; what is deployed
answers as what was trained.
"""

import dataclasses
import io
import json
import shutil
import warnings
import zipfile

import keras
import numpy as np
import pytest
import tensorflow as tf
import tiny_pictures  # noqa: F401  registers the data set
from binaries import call
from conftest import CLASS_NAMES, write_lenet5, write_pictures
from PIL import Image

import alexnet_tf
from alexnet_tf import disk, networks, preprocessing
from alexnet_tf.classifiers import Answers, Classifier
from alexnet_tf.commands import evaluate as evaluate_command
from alexnet_tf.data import datasets, record, shapes
from alexnet_tf.errors import UserError
from alexnet_tf.exports import saved_model, tflite_metadata
from alexnet_tf.manifest import Manifest
from alexnet_tf.network.model import build_model
from alexnet_tf.preprocessing import Preprocessing
from alexnet_tf.settings import Settings
from alexnet_tf.training import checkpoints, evaluation
from alexnet_tf.training.optimizer import SGD2012
from alexnet_tf.training.state import TrainingState

CPUS = ["CPU:0", "CPU:1"]
CLASSES = 7
GREY = Preprocessing(image_size=28, resize=32, channels=1, mean=(110.0,), std=128.0)


def test_classes_without_a_picture_are_told_of_any_data_set(tmp_path, capsys):
    write_lenet5(tmp_path / "model", ["even", "odd"])
    given = ["--dataset=tiny_pictures", f"--data_dir={tmp_path}", "--test_split=train[:1]"]
    call(evaluate_command, f"--model_dir={tmp_path}/model", *given)
    assert "Not evaluated, for lack of pictures in train[:1]: " in capsys.readouterr().err


def test_the_class_that_differs_is_told():
    one, other = (
        Classifier(name, None, GREY, classes, {})
        for name, classes in (("one", ("a", "b", "c")), ("other", ("a", "x", "c")))
    )
    evaluation.check_classes([one], one)
    with pytest.raises(UserError, match="one knows the classes b at place 1, but other has x; all"):
        evaluation.check_classes([one], other)


def one_device():
    return tf.distribute.OneDeviceStrategy(CPUS[0])


def two_devices():
    # Several strategies live in this process; the collectives of MirroredStrategy allow one.
    return tf.distribute.MirroredStrategy(
        CPUS, cross_device_ops=tf.distribute.ReductionToOneDevice()
    )


def build(variant, pixels, seed, images, classes=CLASSES):
    """A net that tells `images` apart: its logits have mean 0 over them, and a standard deviation
    that makes answers clear.
    """
    keras.utils.set_random_seed(seed)
    model = (
        build_model(variant, classes, pixels.image_size) if variant else _linear(pixels, classes)
    )
    last = model.layers[-1]
    mean, variance = tf.nn.moments(
        model(preprocessing.to_network_input(images, pixels), training=False), [0]
    )
    scale = 2 / tf.sqrt(variance)
    last.set_weights([last.kernel * scale, -mean * scale])
    return model


def _linear(pixels, classes):
    images = keras.Input((pixels.image_size, pixels.image_size, pixels.channels))
    x = keras.layers.Flatten()(keras.layers.AveragePooling2D(8)(images))
    return keras.Model(images, keras.layers.Dense(classes)(x))


def classifier(model, pixels):
    return Classifier("net", evaluation.model_probabilities(model, pixels), pixels, (), {})


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    """Nine grey PNG files of seven classes, 80 x 100 and 100 x 80, so that a `resize` of 80 leaves
    their pixels as they are.
    """
    folder, rng = tmp_path_factory.mktemp("clouds"), np.random.default_rng(1)
    for number in range(9):
        path = folder / f"test/{number % CLASSES}/{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        clouds = Image.fromarray(rng.integers(0, 256, (5, 5), dtype=np.uint8))
        clouds.resize((80, 100) if number % 2 else (100, 80)).save(path)
    (folder / "train").symlink_to("test")
    return datasets.open_dataset("folder", folder).evaluation


def numpy_views(picture, pixels):
    """Corners and centre of the central 80 x 80 and their mirror images, float [10, s, s, c];
    nothing of the package is used.
    """
    image = np.asarray(Image.open(io.BytesIO(picture)), np.float64)
    top, left = (np.array(image.shape) - 80) // 2
    size, far = pixels.image_size, 80 - pixels.image_size
    five = [
        image[top + y : top + y + size, left + x : left + x + size]
        for y in (0, far)
        for x in (0, far)
    ] + [image[top + far // 2 :, left + far // 2 :][:size, :size]]
    views = np.stack(five + [np.fliplr(view) for view in five])
    return np.repeat(views[..., None], pixels.channels, -1)


def numpy_probabilities(model, pixels, pictures):
    views = np.concatenate([numpy_views(picture, pixels) for picture in pictures])
    logits = np.asarray(model((views - pixels.mean) / pixels.std, training=False), np.float64)
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return (powers / powers.sum(1, keepdims=True)).reshape(len(pictures), 10, -1).mean(1)


def test_seven_nets_from_ten_views_are_what_numpy_says(split):
    sizes = [48, 56, 56, 64, 64, 64]
    kinds = [Preprocessing(size, 80, 1, (100.0 + size,), 32.0) for size in sizes] + [
        Preprocessing(67, 80, 3, (120.0, 110.0, 100.0), 1.0)
    ]
    pictures, labels = zip(
        *((record["image"], record["label"]) for record in split.read(None).as_numpy_iterator())
    )
    models = [
        build(
            variant,
            pixels,
            seed,
            np.concatenate([numpy_views(picture, pixels) for picture in pictures]),
        )
        for seed, (variant, pixels) in enumerate(zip([None] * 5 + ["lenet5", "paper"], kinds))
    ]
    weights = [1, 1, 2, 1, 0, 3, 1]
    answers = evaluation.answers(
        one_device(), list(map(classifier, models, kinds)), split, 4, weights, views=10
    )

    expected = [
        numpy_probabilities(model, pixels, pictures) for model, pixels in zip(models, kinds)
    ]
    expected.append(np.average(expected, axis=0, weights=weights))
    assert len(answers) == 8
    for answer, probabilities in zip(answers, expected):
        np.testing.assert_array_equal(answer.labels, labels)
        np.testing.assert_allclose(
            answer.losses, -np.log(probabilities[np.arange(9), answer.labels]), rtol=5e-4
        )
        np.testing.assert_array_equal(answer.best, np.argsort(-probabilities, axis=1)[:, :5])
    together = answers[-1].figures()
    places = np.argsort(np.argsort(-expected[-1], axis=1), axis=1)[np.arange(9), answers[-1].labels]
    assert together["top_1"] == np.mean(places == 0) and together["top_5"] == np.mean(places < 5)
    # the comparison is of something
    assert len(set(answers[-1].best[:, 0])) > 2 and 0 < together["top_5"] < 1


@pytest.mark.parametrize("image_size", [113, 112, 128])
def test_ten_views_are_windows_of_the_scaled_picture(rng, image_size):
    pixels = Preprocessing(image_size, 128, 3, (0.0,) * 3, 1.0)
    image = rng.integers(0, 256, (150, 201, 3), dtype=np.uint8)
    views = preprocessing.ten_views(tf.constant(image), pixels).numpy()
    whole = tf.image.resize(image, (128, 172), antialias=True).numpy()[:, 22:150]
    far = 128 - image_size
    for view, (top, left) in zip(
        views, [(0, 0), (0, far), (far, 0), (far, far), (far // 2, far // 2)]
    ):
        assert np.abs(view - whole[top : top + image_size, left : left + image_size]).max() < 0.501
    np.testing.assert_array_equal(views[5:], views[:5, :, ::-1])
    centre = preprocessing.central_crop(tf.constant(image), pixels).numpy()
    # half a level
    assert np.abs(views[4].astype(int) - centre).max() <= 1 and (views[4] == centre).mean() > 0.999


def test_two_devices_and_any_batch_size_give_the_same_answers(split):
    kinds = Preprocessing(48, 80, 1, (100.0,), 32.0), Preprocessing(64, 80, 1, (90.0,), 32.0)
    clouds = [
        np.concatenate(
            [numpy_views(record["image"].numpy(), pixels) for record in split.read(None)]
        )
        for pixels in kinds
    ]
    answers = []
    for strategy, batch_size in ((one_device(), 9), (one_device(), 2), (two_devices(), 4)):
        counts = []
        with strategy.scope():
            ensemble = [
                classifier(build(None, pixels, 0, images), pixels)
                for pixels, images in zip(kinds, clouds)
            ]
        answers.append(
            evaluation.answers(
                strategy, ensemble, split, batch_size, views=10, on_batch=counts.append
            )
        )
        assert counts == [min(batch_size, 9 - done) for done in range(0, 9, batch_size)]
    for other in answers[1:]:
        for one, two in zip(answers[0], other, strict=True):
            np.testing.assert_array_equal(one.labels, two.labels)
            np.testing.assert_array_equal(one.best, two.best)
            np.testing.assert_allclose(one.losses, two.losses, rtol=1e-5)
            np.testing.assert_allclose(one.highest, two.highest, rtol=1e-5)
            right = one.best[:, 0] == one.labels
            np.testing.assert_allclose(one.highest[right], np.exp(-one.losses[right]))


def test_tables_of_classes_and_confusions():
    best = np.array([[0, 1], [1, 0], [1, 2], [2, 1], [2, 0], [0, 2], [0, 1]])
    answers = Answers(np.array([0, 0, 0, 2, 2, 2, 2]), np.arange(7.0), best)
    figures = answers.figures()
    assert [figures[name] for name in ("examples", "loss", "top_1", "top_5")] == [
        7,
        3.0,
        3 / 7,
        5 / 7,
    ]
    row = {
        "class": "a",
        "pictures": 3,
        "top_1_error": 2 / 3,
        "top_5_error": 1 / 3,
        "most_common_wrong": "b",
        "wrong_pictures": 2,
    }
    assert answers.by_class("abc") == [
        row,
        {
            "class": "c",
            "pictures": 4,
            "top_1_error": 0.5,
            "top_5_error": 0.25,
            "most_common_wrong": "a",
            "wrong_pictures": 2,
        },
    ]
    assert answers.confusions("abc") == [("a", "b", 2), ("c", "a", 2)]
    right = Answers(np.array([1]), np.zeros(1), np.array([[1, 0]]))
    assert right.confusions("ab") == []
    assert right.by_class("ab") == [
        {
            "class": "b",
            "pictures": 1,
            "top_1_error": 0.0,
            "top_5_error": 0.0,
            "most_common_wrong": None,
            "wrong_pictures": 0,
        }
    ]


def test_a_probability_of_zero_costs_what_the_output_can_tell_from_it(split):
    def sure(images):
        return tf.one_hot(tf.zeros(tf.shape(images)[:1], tf.int64), CLASSES)  # always class 0

    ensemble = [Classifier("sure", sure, GREY, (), {}, least=least) for least in (1 / 512, 1e-38)]
    found = evaluation.answers(one_device(), ensemble, split, 9)
    losses = [answer.losses[-1] for answer in found]
    np.testing.assert_allclose(losses, -np.log([1 / 512, 1e-38, 1 / 1024]))
    # nor are classes of no probability among the best five, which would go by their order
    assert [answer.figures()["top_5"] for answer in found] == [2 / 9] * 3
    broken = Classifier("broken", lambda images: sure(images) * np.nan, GREY, (), {})
    with pytest.raises(UserError, match="broken answers 9 of the 9 pictures of test with NaN"):
        evaluation.answers(one_device(), [broken], split, 9)


# The command --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Pictures, and a net as model directory, as SavedModel beside an older one, as .tflite file
    and as one of 8 bits.

    seed0/ and seed1/ are that net too, and say that they were trained on drawn/, which has no
    test/, each with its seed.
    """
    folder = tmp_path_factory.mktemp("trained")
    write_pictures(folder / "pictures/train", 2)
    write_pictures(folder / "pictures/test", 3, first=2)
    write_pictures(folder / "two", 2)
    (folder / "two" / CLASS_NAMES[0]).rename(folder / "two/unknown")
    write_pictures(folder / "drawn", 8)
    images = np.stack(
        [
            preprocessing.central_crop(preprocessing.decode(path.read_bytes()), GREY)
            for path in (folder / "pictures/test").glob("*/*")
        ]
    )
    model, other = (build("lenet5", GREY, seed, images, classes=3) for seed in (0, 1))
    optimizer = SGD2012()
    optimizer.build(model.trainable_variables)
    checkpoints.save(folder / "model", model, optimizer, TrainingState(step=7))
    for name, data_dir, seed in (
        ("model", "pictures", 0),
        ("seed0", "drawn", 2),
        ("seed1", "drawn", 3),
    ):
        trained_with = {"dataset": "folder", "data_dir": str(folder / data_dir), "seed": seed}
        checkpoints.write_settings(
            folder / name,
            {
                "variant": "lenet5",
                "class_names": list(CLASS_NAMES),
                "preprocessing": dataclasses.asdict(GREY),
                "dropout_rate": 0.5,
                "flags": trained_with,
            },
        )
        if name != "model":
            (folder / name / "checkpoints").symlink_to(folder / "model/checkpoints")
            record.write(
                folder / name, record.of(datasets.open_dataset("folder", folder / data_dir, seed))
            )

    trained_with = checkpoints.read_settings(folder / "model")["flags"]
    settings = Settings("lenet5", GREY, CLASS_NAMES, flags=trained_with)
    manifest = Manifest(settings, weights_sha256="0")
    for version, net in ((9, other), (10, model)):
        saved_model.write(net, manifest, folder / f"saved/{version}")
    # of TensorFlow's calibrator about its own interpreter; pytest restores
    warnings.simplefilter("ignore", UserWarning)
    noise = np.random.default_rng(0).uniform(0, 255, (20, 1, 28, 28, 1)).astype(np.float32)
    for name in ("float", "uint8"):
        loaded = tf.saved_model.load(str(folder / "saved/10"))
        one = tf.function(
            lambda images, edge=loaded.signatures["edge"]: edge(images=images)
        ).get_concrete_function(
            tf.TensorSpec(
                [1, GREY.image_size, GREY.image_size, GREY.channels], tf.float32, name="images"
            )
        )
        converter = tf.lite.TFLiteConverter.from_concrete_functions([one], loaded)
        if name == "uint8":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.inference_input_type = converter.inference_output_type = tf.uint8
            converter.representative_dataset = lambda: ({"images": image} for image in noise)
        content = tflite_metadata.complete(converter.convert(), manifest)
        (folder / f"{name}.tflite").write_bytes(content)
    return folder


@pytest.fixture
def evaluate(run, trained):
    """Runs the command among what is trained; returns its standard output and the figures of
    --json.
    """

    def evaluate(*arguments):
        printed = run("-m", "alexnet_tf.evaluate", "--json=figures.json", *arguments, cwd=trained)
        return printed, json.loads((trained / "figures.json").read_text())

    return evaluate


@pytest.mark.long
def test_what_is_deployed_answers_as_what_was_trained(evaluate):
    printed, figures = evaluate(
        "--models=model,saved,saved/9,float.tflite,uint8.tflite",
        "--weights=1,1,0,2,1",
        "--views=10",
        "--batch_size=40",
    )
    model, newest, other, tflite, uint8 = figures["models"]
    assert figures["examples"] == model["examples"] == 9 and figures["views"] == 10
    assert [row["model"] for row in (model, newest, other)] == [
        "model, step 7",
        "saved/10",
        "saved/9",
    ]
    assert [row["weight"] for row in figures["models"]] == [1, 1, 0, 2, 1]
    for same in (newest, tflite):
        assert (
            same["loss"] == pytest.approx(model["loss"], rel=1e-4)
            and same["top_1_error"] == model["top_1_error"]
        )
    assert abs(other["loss"] - model["loss"]) > 0.01
    assert uint8["loss"] == pytest.approx(model["loss"], rel=0.1) and uint8["loss"] != model["loss"]
    assert figures["loss"] == pytest.approx(model["loss"], rel=0.05)  # the other one has weight 0
    assert "  float.tflite\n" in printed and "on folder (test):" in printed

    printed, alone = evaluate("--model_dir=model", "--views=10", "--replicas=2")
    assert (
        alone["loss"] == pytest.approx(model["loss"], rel=1e-5)
        and alone["top_1_error"] == model["top_1_error"]
    )
    assert {row["class"] for row in alone["classes"]} == set(CLASS_NAMES)
    assert sum(row["pictures"] for row in alone["classes"]) == 9
    assert (
        sum(pictures for _, _, pictures in alone["confusions"])
        == round(9 * alone["top_1_error"])
        > 0
    )
    name, answer, pictures = alone["confusions"][0]
    assert f"  {pictures:8}  {name} -> {answer}\n" in printed
    assert evaluate("--models=saved")[1]["loss"] != model["loss"]  # from one view


LARGE = Preprocessing(67, 80, 3, (110.0,) * 3, 1.0)


@pytest.mark.parametrize(
    "variant,layer,pixels",
    [("half", "conv1a", LARGE), ("half", "conv5a", LARGE), ("lenet5", "conv1", GREY)],
)
def test_weights_that_are_no_numbers_are_not_evaluated(split, variant, layer, pixels):
    """Max pooling and some kernels of ReLU swallow NaN, and the layers behind answer as ever."""
    model = build_model(variant, CLASSES, pixels.image_size)
    kernel = model.get_layer(layer).kernel.numpy()
    for where in (np.s_[:], np.s_[1, 2, 0, 3]):
        broken = kernel.copy()
        broken[where] = np.nan
        model.get_layer(layer).kernel.assign(broken)
        with pytest.raises(
            UserError, match=f"{layer}/kernel holds a number that is not finite; go back"
        ):
            evaluation.evaluate_split(one_device(), model, pixels, split, 9)


def test_a_pixel_that_is_no_number_has_no_answer_in_any_form(trained):
    images = np.full([2, 28, 28, 1], 100, np.float32)
    for path in ("model", "saved", "float.tflite", "uint8.tflite"):
        network = networks.load(trained / path)
        for number in (np.nan, np.inf, -np.inf):
            images[1, 14, 3] = number
            answers = network.probabilities(images)
            assert np.isfinite(answers[0]).all() and np.isnan(answers[1]).all(), path


@pytest.mark.parametrize("layer", ["conv1a", "conv2a", "conv4a"])
def test_layers_that_overflow_are_not_evaluated(split, layer):
    model = build_model("half", CLASSES, 67)
    kernel = model.get_layer(layer).kernel
    kernel.assign(1e38 * np.sign(kernel.numpy()))
    with pytest.raises(UserError, match="The network answers 9 of the 9 pictures of test with NaN"):
        evaluation.evaluate_split(one_device(), model, LARGE, split, 9)


def test_a_sound_map_of_half_precision_is_sound_however_large_its_sum():
    """6 x 6 x 64 numbers of 100 are 230,400 together, and float16 ends at 65,504."""
    model = keras.Sequential(
        [
            keras.Input((6, 6, 1)),
            keras.layers.Conv2D(
                64, 1, kernel_initializer="ones", bias_initializer="zeros", dtype="float16"
            ),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(3, kernel_initializer="zeros"),
        ]
    )
    pixels = Preprocessing(6, 6, 1, (0.0,), 1.0)
    answer = evaluation.model_probabilities(model, pixels)(np.full([1, 6, 6, 1], 100, np.uint8))
    np.testing.assert_allclose(answer, np.full([1, 3], 1 / 3))


def test_a_model_directory_of_numbers_that_are_none_is_refused(trained, tmp_path):
    shutil.copytree(trained / "model", tmp_path / "model")
    (checkpoint,) = (tmp_path / "model/checkpoints").iterdir()
    arrays, told = dict(np.load(checkpoint / "weights.npz")), []
    arrays["conv1/kernel"][0, 0, 0, 0] = np.nan
    np.savez(checkpoint / "weights.npz", **arrays)
    (checkpoint / "SHA256SUMS").write_text(
        disk.sums(checkpoint, ("weights.npz", "optimizer.npz", "state.json"))
    )
    with pytest.raises(UserError, match="none of its 1 checkpoints can be read"):
        checkpoints.load_model(tmp_path / "model", told.append)
    assert "conv1/kernel holds a number that is not finite" in told[0]


@pytest.mark.long
def test_pictures_that_were_left_out_at_the_start_are_told_and_counted(run, evaluate, tmp_path):
    bad, gone = write_pictures(tmp_path / "pictures", 3)[:2]
    bad.write_bytes(b"no picture")
    gone.unlink()
    gone.symlink_to("nowhere.jpg")
    _, figures = evaluate(
        "--models=saved,float.tflite", "--dataset=folder", f"--data_dir={tmp_path}/pictures"
    )
    assert (figures["examples"], figures["bad_pictures"]) == (7, 2)
    assert [row["bad_pictures"] for row in figures["models"]] == [2, 2]
    assert f"{bad} cannot be read" in run.notes
    assert f"{gone} cannot be read (a link that leads nowhere)" in run.notes


@pytest.mark.long
def test_a_net_that_gives_one_answer_is_told(run, evaluate, trained, tmp_path):
    shutil.copytree(trained / "model", tmp_path / "model")
    model = checkpoints.load_model(tmp_path / "model").model
    model.layers[-1].set_weights([np.zeros((84, 3)), np.array([0.0, 1.0, 0.0])])
    optimizer = SGD2012()
    optimizer.build(model.trainable_variables)
    checkpoints.save(tmp_path / "model", model, optimizer, TrainingState(step=8))
    figures = evaluate(f"--models=model,{tmp_path}/model")[1]
    assert (
        "step 8 answers every picture with plain star" in run.notes
        and "step 7 answers" not in run.notes
    )
    assert [row.get("only_answer") for row in figures["models"]] == [None, 1]


@pytest.mark.long
def test_top_5_is_shown_where_it_can_be_wrong(run, evaluate, tmp_path):
    printed, figures = evaluate("--models=model,saved")  # of three classes
    assert "top-1 error" in printed and "top-5" not in printed and "top_5" not in printed
    assert figures["top_5"] == 1.0 and figures["models"][0]["top_5_error"] == 0.0
    names = [f"class {number}" for number in range(6)]
    for number, name in enumerate(names):
        (tmp_path / "six/test" / name).mkdir(parents=True)
        (tmp_path / "six/test" / name / "0.jpg").write_bytes(shapes.draw_jpeg("test", number))
        (tmp_path / "six/train" / name).mkdir(parents=True)
        (tmp_path / "six/train" / name / "1.jpg").write_bytes(shapes.draw_jpeg("train", number))
    write_lenet5(tmp_path / "model", names)
    settings = checkpoints.read_settings(tmp_path / "model")
    checkpoints.write_settings(
        tmp_path / "model",
        settings | {"flags": {"dataset": "folder", "data_dir": str(tmp_path / "six"), "seed": 0}},
    )
    printed = run("-m", "alexnet_tf.evaluate", "--model_dir=model", cwd=tmp_path)
    assert "  top-1 error  top-5 error  pictures  class" in printed and "top_5_error" in printed


def test_an_output_of_8_bits_tells_half_a_step_from_zero(trained):
    assert networks.load(trained / "uint8.tflite").classifier().least == pytest.approx(1 / 512)
    assert networks.load(trained / "float.tflite").classifier().least < 1e-37


@pytest.mark.parametrize(
    "arguments,message",
    [
        (["--models=nowhere"], "There is no nowhere; name a model directory"),
        (["--models=saved", "--model_dir=model"], "--models and --model_dir=model both name"),
        (
            ["--models=model,saved", "--precision=mixed_bfloat16"],
            "--precision=mixed_bfloat16 is for model directories and weights files; saved/10 comp",
        ),
        (
            ["--models=model,pictures"],
            "pictures holds no trained model; train one with alexnet train",
        ),
        (
            ["--models=pictures/test/plain star/3.jpg"],
            "3.jpg is in none of the formats known here",
        ),
        (
            ["--models=model,model", "--weights=1"],
            "--weights=1: write a number, 0 or more, for each of the 2 --models",
        ),
        (["--models=model,model", "--weights=0,0"], "--weights=0,0: write"),
        (["--models=model,model", "--weights=1,-1"], "--weights=1,-1: write"),
        (["--models=model,model", "--weights=1,nan"], "--weights=1,nan: write"),
        (["--models=model,model", "--weights=1,one"], "--weights=1,one: write"),
        (["--model_dir=model", "--weights=1,1"], "for each of the 0 --models"),
        (
            ["--models=model", "--validation_split=train", "--test_split=test"],
            "--validation_split=train and --test_split=test both name the pictures to evaluate on",
        ),
        (
            ["--models=model", "--data_dir=two"],
            (
                "two: unknown is not one of the 3 classes (checked disc, plain star, striped disc);"
                " rename the folder"
            ),
        ),
    ],
)
def test_mistakes_are_named(run, trained, arguments, message):
    assert message in run("-m", "alexnet_tf.evaluate", *arguments, cwd=trained, status=2)


@pytest.mark.long
def test_nets_that_held_out_other_pictures_are_judged_by_those_that_all_held_out(
    run, evaluate, trained
):
    held = [record.read(trained / f"seed{seed}").held_out for seed in (0, 1)]
    assert held[0].tolist() != held[1].tolist()
    for seed in (0, 1):
        # alone it is judged by what it kept
        assert evaluate(f"--models=seed{seed}")[1]["examples"] == len(held[seed])
    common = np.intersect1d(*held)
    (trained / "another name").unlink(missing_ok=True)
    (trained / "another name").symlink_to(trained / "drawn")
    together = "--models=seed0,seed1", "--dataset=folder", "--data_dir=another name"
    assert 0 < len(common) < len(held[0])
    figures = evaluate(*together)[1]
    assert figures["examples"] == len(common) and [
        row["trained_on"] for row in figures["models"]
    ] == [0, 0]
    # with a test/
    assert evaluate("--models=seed0,seed1", "--data_dir=pictures")[1]["examples"] == 9


def rewritten(content, manifest=None, labels=None):
    """A .tflite file with other members at its end; `manifest` may be a dict of changes."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        begin = min(member.header_offset for member in archive.infolist())
        members = {name: archive.read(name) for name in archive.namelist()}
    if isinstance(manifest, dict):
        manifest = json.dumps(json.loads(members["manifest.json"]) | manifest)
    others = {"manifest.json": manifest, "labels.txt": labels}
    members |= {name: member for name, member in others.items() if member is not None}
    stream = io.BytesIO(content[:begin])
    stream.seek(begin)
    with zipfile.ZipFile(stream, "a") as archive:
        for name, member in members.items():
            archive.writestr(name, member)
    return stream.getvalue()


NAMES = "".join(f"{name}\n" for name in CLASS_NAMES)


@pytest.mark.parametrize(
    "members,message",
    [
        ({"manifest": b"[]"}, "its manifest is a list of 0, of the type list"),
        ({"manifest": b"[" * 100_000}, "nested too deeply"),
        ({"manifest": b"\xff"}, "decode"),
        ({"manifest": {"training": []}}, "training is a list of 0, of the type list"),
        ({"manifest": {"training": {"flags": 3}}}, "flags is 3, of the type int"),
        ({"manifest": {"step": "1"}}, "step is '1', not a whole number"),
        ({"manifest": {"evaluation": {"loss": float("nan")}}}, "the evaluation 'loss' is nan"),
        ({"manifest": {"dropout_rate": -5}}, "dropout_rate is -5"),
        ({"manifest": {"variant": "\x1b[2J"}}, r"variant '\\x1b\[2J' is unknown"),
        ({"manifest": {"preprocessing": {}}}, "preprocessing lacks"),
        (
            {"manifest": {"preprocessing": dataclasses.asdict(GREY) | {"resize": 10**9}}},
            "resize is 1000000000",
        ),
        (
            {"manifest": {"preprocessing": dataclasses.asdict(GREY) | {"std": 0}}},
            "std is 0, not a positive",
        ),
        (
            {"manifest": {"preprocessing": dataclasses.asdict(GREY) | {"image_size": 30}}},
            r"no images of shape \[1, 30, 30, 1\]",
        ),
        ({"labels": "one\ntwo\n"}, r"no probabilities of shape \[1, 2\]"),
        ({"labels": NAMES.replace("plain", "\x1b[2J")}, "control character"),
        ({"labels": NAMES.encode("utf-16")}, "decode"),
    ],
)
def test_a_tflite_file_of_a_stranger_is_looked_through(trained, tmp_path, members, message):
    path = tmp_path / "strange.tflite"
    path.write_bytes(rewritten((trained / "float.tflite").read_bytes(), **members))
    with pytest.raises(UserError, match=message) as error:
        networks.load(path)
    assert str(error.value).startswith(f"{path} is not a file that alexnet convert wrote (")
    assert len(str(error.value).splitlines()) == 1


def test_a_tflite_file_names_no_folder_that_its_user_did_not_name(trained, run):
    network = networks.load(trained / "float.tflite")
    assert network.settings.flags == {"dataset": "folder", "data_dir": None, "seed": 0}
    line = run("-m", "alexnet_tf.evaluate", "--models=float.tflite", cwd=trained, status=2)
    assert "below --data_dir=; pass --data_dir=DIR" in line
    run("-m", "alexnet_tf.evaluate", "--models=saved,float.tflite", cwd=trained)
    assert f"--data_dir={trained}/pictures, as in training\n" in run.notes


def test_the_manifest_of_an_export_is_looked_through(trained, tmp_path):
    shutil.copytree(trained / "saved/10", tmp_path / "saved/10")
    path = tmp_path / "saved/10/assets.extra/manifest.json"
    path.with_name("SHA256SUMS").unlink()  # whoever changes the one may well change the other
    stored = json.loads(path.read_text())
    for change, message in (
        ({"dropout_rate": -5}, "dropout_rate is -5"),
        ({"preprocessing": stored["preprocessing"] | {"mean": [1, 2]}}, "mean has 2 numbers"),
        ({"training": 7}, "training is 7, of the type int"),
    ):
        path.write_text(json.dumps(stored | change))
        with pytest.raises(UserError, match=f"alexnet export wrote .*{message}"):
            networks.load(tmp_path / "saved")


def test_an_evaluation_is_built_once_for_weights_that_change(picture_folder):
    scale, traces = tf.Variable(1.0), []

    def probabilities(images):
        traces.append(images.shape)
        darkness = scale * tf.reduce_mean(tf.cast(images, tf.float32), (1, 2, 3)) / 255
        return tf.nn.softmax(tf.stack([darkness, 1 - darkness, 0 * darkness], 1))

    split = datasets.open_dataset("folder", picture_folder).evaluation
    again = evaluation.Evaluation(
        one_device(), [Classifier("", probabilities, GREY, (), {})], split, 4
    )
    first, unchanged = (again.answers()[0].figures() for _ in range(2))
    scale.assign(3.0)
    changed = again.answers()[0].figures()
    assert first["examples"] == 9 and first == unchanged
    assert changed["loss"] != pytest.approx(first["loss"], rel=1e-3)
    assert len(traces) == 1


@pytest.mark.long
def test_python_is_told_of_pictures_that_the_network_has_seen_too(picture_folder, tmp_path, capsys):
    model_dir = write_lenet5(tmp_path / "model", list(CLASS_NAMES))
    (picture_folder / "test/notes.txt").write_text("x")
    dataset = datasets.open_dataset("folder", picture_folder)
    alexnet_tf.evaluate(model_dir, dataset)
    told = capsys.readouterr().err
    assert "not used: 1 file of .txt (first test/notes.txt)" in told
    assert "has no record of what it was trained on: it may have seen" in told
    for trained, said in ((dataset.train, ""), (dataset.evaluation, "was trained on 9 of these 9")):
        record.write(model_dir, record.Record(np.unique(trained.identities)))
        alexnet_tf.evaluate(model_dir, dataset)
        line = capsys.readouterr().err
        assert said in line if said else "trained on" not in line
