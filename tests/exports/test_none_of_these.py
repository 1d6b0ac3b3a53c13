"""How sure a network says it is: one temperature and one least probability in every form of it."""

import dataclasses
import json
import pathlib
import re
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf
from binaries import call
from conftest import CLASS_NAMES, LENET5_PIXELS, write_pictures

import alexnet_tf
from alexnet_tf import networks, preprocessing
from alexnet_tf.classifiers import NONE, Answers, best_classes
from alexnet_tf.commands import classify, evaluate
from alexnet_tf.errors import UserError
from alexnet_tf.manifest import Manifest
from alexnet_tf.network.model import build_model
from alexnet_tf.pixels import Preprocessing
from alexnet_tf.settings import Settings
from alexnet_tf.training import checkpoints
from alexnet_tf.training.optimizer import SGD2012
from alexnet_tf.training.state import TrainingState

ROOT = pathlib.Path(__file__).parents[2]
_TOO_MUCH = "min_probability=0.999: .* reaches 0.9961 at most, .* pass 0.996 or less"
CLASSIFY = ROOT / "tools/classify.py"
TEMPERATURE = 2.5


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """model/, a lenet5 whose checkpoint has a temperature, and what was made of it: strict/1 and
    strict.tflite, with the least probability of strict.txt.
    """
    folder = tmp_path_factory.mktemp("certainty")
    write_pictures(folder / "pictures", 3)
    keras.utils.set_random_seed(5)
    model, optimizer = build_model("lenet5", 3), SGD2012()
    model.layers[-1].kernel.assign(4 * model.layers[-1].kernel)
    optimizer.build(model.trainable_variables)
    settings = {
        "variant": "lenet5",
        "class_names": list(CLASS_NAMES),
        "preprocessing": dataclasses.asdict(LENET5_PIXELS),
        "flags": {},
    }
    checkpoints.write_settings(folder / "model", settings)
    state = TrainingState(step=3, temperature=TEMPERATURE)
    checkpoints.save(folder / "model", model, optimizer, state)
    logits = model(preprocessing.to_network_input(crops(folder), LENET5_PIXELS), training=False)
    np.save(folder / "logits.npy", logits)
    network = alexnet_tf.load(folder / "model")
    # The fifth of the nine as it is: what is just as probable is not less.
    least = float(np.sort(network.probabilities(crops(folder)).max(1))[4])
    (folder / "strict.txt").write_text(str(least))
    alexnet_tf.export(network, folder / "strict", min_probability=least)
    alexnet_tf.convert(folder / "strict", folder / "strict.tflite", note=str)
    return folder


def files(folder):
    return sorted((folder / "pictures").glob("*/*"))


def crops(folder):
    return np.stack(
        [
            preprocessing.central_crop(
                preprocessing.decode(file.read_bytes(), LENET5_PIXELS.resize), LENET5_PIXELS
            )
            for file in files(folder)
        ]
    )


def expected(folder):
    return tf.nn.softmax(np.load(folder / "logits.npy") / np.float32(TEMPERATURE)).numpy()


@pytest.mark.long
@pytest.mark.parametrize("form", ["model", "strict", "strict.tflite"])
def test_every_form_divides_its_logits_by_the_temperature(folder, form):
    network, wanted = networks.load(folder / form), expected(folder)
    np.testing.assert_allclose(network.probabilities(crops(folder)), wanted, atol=1e-6)
    for file, row in zip(files(folder), wanted):
        answer = network.classify(file, min_probability=0.0)
        assert [name for name, _ in answer] == [CLASS_NAMES[i] for i in np.argsort(-row)]
        np.testing.assert_allclose([p for _, p in answer], np.sort(row)[::-1], atol=1e-6)
    raw = tf.nn.softmax(np.load(folder / "logits.npy")).numpy()
    assert np.abs(raw - wanted).max() > 0.1  # so that it makes a difference here


@pytest.mark.long
def test_training_goes_on_from_the_weights_as_they_were_trained(folder):
    model = build_model("lenet5", 3)
    state = checkpoints.restore(folder / "model", model)
    logits = model(preprocessing.to_network_input(crops(folder), LENET5_PIXELS), training=False)
    assert state.temperature == TEMPERATURE
    np.testing.assert_allclose(logits, np.load(folder / "logits.npy"), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("form", ["strict", "strict.tflite"])
def test_what_no_class_is_probable_enough_for_is_none_of_these(folder, form):
    network, least = networks.load(folder / form), float((folder / "strict.txt").read_text())
    unknown = 0
    for file, row in zip(files(folder), expected(folder)):
        order = np.argsort(-row)
        answer = network.classify(file)
        assert len(answer) == 3
        if row.max() < least - 1e-5:
            unknown += 1
            assert [name for name, _ in answer] == [NONE, *(CLASS_NAMES[i] for i in order[:2])]
            wanted = [1 - row.max(), *row[order[:2]]]
        elif row.max() > least + 1e-5:
            assert [name for name, _ in answer] == [CLASS_NAMES[i] for i in order]
            wanted = row[order]
        else:
            continue  # the one that sets the bound: the file's own rounding decides
        np.testing.assert_allclose([p for _, p in answer], wanted, atol=1e-6)
        assert network.classify(file, min_probability=0)[0][0] == CLASS_NAMES[order[0]]
        assert network.classify(file, min_probability=1)[0][0] == NONE
    assert unknown == 4


def test_the_signature_says_so_too(folder):
    version, least = folder / "strict/1", float((folder / "strict.txt").read_text())
    loaded = tf.saved_model.load(str(version))
    contents = tf.constant([file.read_bytes() for file in files(folder)])
    answer = loaded.signatures["serving_default"](image_bytes=contents)
    answer = {name: values.numpy() for name, values in answer.items()}
    rows = answer["probabilities"]
    np.testing.assert_allclose(rows, expected(folder), atol=1e-6)
    for row, scores, ids, names in zip(rows, *map(answer.get, ("scores", "class_ids", "names"))):
        told = list(zip([name.decode() for name in names], scores.tolist()))
        assert told == best_classes(row, CLASS_NAMES, least)  # to the bit
        assert (ids[0] == -1) == (names[0].decode() == NONE) == (row.max() < np.float32(least))
        assert [CLASS_NAMES[i] if i >= 0 else NONE for i in ids] == [name for name, _ in told]
    assert (answer["class_ids"][:, 0] == -1).sum() == 4
    assert json.loads((version / "assets.extra/manifest.json").read_text())[
        "min_probability"
    ] == pytest.approx(least)


def test_a_class_whose_name_is_gone_is_not_none_of_these(folder, tmp_path):
    version = tmp_path / "1"
    shutil.copytree(folder / "strict/1", version)
    (version / "assets/labels.txt").write_text(f"{CLASS_NAMES[0]}\n")
    signature = tf.saved_model.load(str(version)).signatures["serving_default"]
    answer = signature(image_bytes=tf.constant([file.read_bytes() for file in files(folder)]))
    names, ids = answer["names"].numpy().ravel(), answer["class_ids"].numpy().ravel()
    assert (ids > 0).any() and (ids == -1).any()
    known = {-1: NONE, 0: CLASS_NAMES[0]}
    assert [name.decode() for name in names] == [known.get(i, "class without a name") for i in ids]


def test_no_class_of_that_name_goes_out(tmp_path):
    model = keras.Sequential(
        [keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(2)]
    )
    pixels = Preprocessing(8, 9, 1, (0.0,), 1.0)
    with pytest.raises(UserError, match="is not exported: a class is called 'none of these', "):
        alexnet_tf.export(
            model, tmp_path / "out", class_names=["daisy", NONE], preprocessing=pixels
        )
    assert not (tmp_path / "out").exists()


def test_a_manifest_tells_it_where_it_is_none_and_before_the_flags():
    settings = Settings("lenet5", LENET5_PIXELS, CLASS_NAMES, flags={"min_probability": 0.9})
    text = Manifest(settings).text()
    assert json.loads(text)["min_probability"] == 0
    assert text.index("min_probability") < text.index('"training"')


@pytest.mark.long
def test_the_command_shows_it_and_may_be_asked_otherwise(run, folder, tmp_path):
    picture = next(
        file
        for file in files(folder)
        if networks.load(folder / "strict.tflite").classify(file)[0][0] == NONE
    )
    asked = [f"--model={folder}/strict", "--json=answers.json", picture]
    printed = run(CLASSIFY, *asked, cwd=tmp_path)
    answer = json.loads((tmp_path / "answers.json").read_text())[str(picture)]
    assert answer[0][0] == NONE and f"{answer[0][1]:.4f}  none of these" in printed
    run(CLASSIFY, "--min_probability=0", *asked, cwd=tmp_path)
    plain = json.loads((tmp_path / "answers.json").read_text())[str(picture)]
    assert plain[:2] == answer[1:] and answer[0][1] == pytest.approx(1 - plain[0][1], abs=1e-7)
    assert "a server uses that of its export" in run(
        CLASSIFY,
        "--server=http://127.0.0.1:1",
        "--min_probability=0.5",
        picture,
        cwd=tmp_path,
        status=2,
    )


def test_classify_tells_of_one_that_every_answer_reaches_for_a_tflite_file_too(folder, capsys):
    for asked, told in (([], False), (["--min_probability=0.2"], True)):
        call(classify, f"--model={folder}/strict.tflite", *asked, files(folder)[0])
        assert ("one of 3 classes is always that probable" in capsys.readouterr().err) == told


def test_an_evaluation_says_of_how_many_pictures_it_is_the_answer(folder, capsys):
    pictures = "--dataset=folder", f"--data_dir={folder}/pictures"
    call(evaluate, f"--models={folder}/model,{folder}/strict/1", *pictures)
    (line,) = [line for line in capsys.readouterr().err.splitlines() if NONE in line]
    # of nine the fifth is as probable as it has to be, to the last bit
    assert re.search(rf"strict/1: [45] of 9 pictures are answered '{NONE}' \(", line)
    assert line.endswith("the figures count the best class all the same.")
    labels, highest = np.zeros(3, np.int64), np.float32([0.2, 0.5, 0.9])
    answers = Answers(labels, labels, labels[:, None], highest=highest)
    assert answers.tell_of_none(0.5).startswith("1 of 3 pictures")
    assert answers.tell_of_none(0.0) is None


def test_another_least_probability_is_another_export(folder, tmp_path):
    network, version = networks.load(folder / "model"), folder / "strict/1"
    least = float((folder / "strict.txt").read_text())
    assert alexnet_tf.export(network, folder / "strict", min_probability=least) == version
    # what was exported is exported as it was
    assert alexnet_tf.export(version, folder / "strict") == version
    with pytest.raises(UserError, match="with different min_probability; pass version=next"):
        alexnet_tf.export(network, folder / "strict")
    with pytest.raises(UserError, match="min_probability=1.5 is not a probability"):
        alexnet_tf.export(network, tmp_path / "no", min_probability=1.5)


@pytest.mark.long
def test_fine_tuning_stores_it_and_changes_it_without_training_again(
    run, folder, picture_folder, tmp_path
):
    tune = [
        "-m",
        "alexnet_tf.finetune",
        f"--pretrained={folder}/model",
        "--dataset=folder",
        f"--data_dir={picture_folder}",
        "--model_dir=tuned",
        "--epochs=2",
    ]
    for arguments, stored in (
        (["--min_probability=0.25"], 0.25),
        (["--min_probability=0.75"], 0.75),
        (["--trainable=fc4", "--xla=off", "--model_dir=more", "--min_probability=0.5"], 0.5),
    ):
        run(*tune, *arguments, cwd=tmp_path)
        name = "more" if "--trainable=fc4" in arguments else "tuned"
        network = networks.load(tmp_path / name)
        assert network.settings.min_probability == stored
        # those that chose have calibrated it
        state = checkpoints.newest_state(tmp_path / name)
        assert state.temperature != 1
        assert ("is already trained" in run.notes) == (stored == 0.75)
        model = build_model("lenet5", 3)
        checkpoints.restore(tmp_path / name, model)
        np.testing.assert_allclose(
            network.model.layers[-1].kernel,
            model.layers[-1].kernel / state.temperature,
            rtol=1e-6,
        )


@pytest.mark.long
@pytest.mark.filterwarnings("ignore::UserWarning")  # of TensorFlow's calibrator about itself
def test_what_eight_bits_cannot_reach_is_no_least_probability(folder, tmp_path):
    """The largest number of an int8 file is 255/256: each of its answers was "none of these"."""
    network, pictures = alexnet_tf.load(folder / "model"), folder / "pictures"
    alexnet_tf.export(network, tmp_path / "sure", min_probability=0.999)
    how = {"quantization": "int8", "pictures": pictures, "calibration": pictures, "note": str}
    with pytest.raises(UserError, match=_TOO_MUCH):
        alexnet_tf.convert(tmp_path / "sure", tmp_path / "sure.tflite", **how)
    assert not (tmp_path / "sure.tflite").exists()
    alexnet_tf.convert(folder / "strict", tmp_path / "int8.tflite", **how)
    opened = alexnet_tf.load(tmp_path / "int8.tflite")
    picture = next(pictures.rglob("*.jpg"))
    for answer in (opened.classify, opened.opened.classify):
        assert answer(picture, 0.9)
        with pytest.raises(UserError, match=_TOO_MUCH):
            answer(picture, 0.999)
