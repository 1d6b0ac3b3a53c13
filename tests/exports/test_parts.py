"""A part of a network goes out: its features by every signature and in every precision, without
classes; and whatever wants a classifier refuses it in one line.
"""

import base64
import contextlib
import json
import os
import shutil
import warnings
import zipfile

import numpy as np
import pytest
import tensorflow as tf
from binaries import call
from conftest import write_picture_folder
from PIL import Image
from served import Served

import alexnet_tf
from alexnet_tf import networks, preprocessing, pretrained
from alexnet_tf.commands import classify, convert, evaluate, export, import_weights, serve_page
from alexnet_tf.data import record, shapes
from alexnet_tf.edge.tflite import Tflite
from alexnet_tf.errors import UserError
from alexnet_tf.exports import artifacts, saved_model, tflite
from alexnet_tf.jobs import comparison
from alexnet_tf.jobs import convert as job
from alexnet_tf.network import surgery
from alexnet_tf.network.model import build_model
from alexnet_tf.pixels import Preprocessing
from alexnet_tf.serving import client
from alexnet_tf.settings import Settings
from alexnet_tf.training import checkpoints

PIXELS = Preprocessing(28, 32, 1, (120.0,), 64.0)
RECORD = record.Record(np.array([3, 5], np.uint64), np.array([9], np.uint64))
PICTURE = shapes.draw_jpeg("test", 0)
UNITS = 84  # of fc4


def part():
    """A lenet5 without fc5, in memory, its weights drawn anew."""
    source = {"file": "theirs.pth", "sha256": "0", "published": None}
    settings = Settings(
        "lenet5",
        PIXELS,
        (),
        flags={"dataset": "folder"},
        missing=("fc5",),
        source=source,
        others={"versions": {}},
    )
    model = surgery.trunk(build_model("lenet5", 3))
    return networks.Trained("memory", settings, 7, None, RECORD, model)


@pytest.fixture
def unchecked(monkeypatch):
    """What is exported is not opened by another process, which takes seconds."""
    monkeypatch.setattr(saved_model, "_check", lambda *arguments: None)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """(a folder, the Network): exports/1, of a lenet5 without fc5, pictures/ and picture.jpg."""
    folder = tmp_path_factory.mktemp("parts")
    (folder / "pictures").mkdir()
    for number in range(4):
        (folder / f"pictures/{number}.jpg").write_bytes(shapes.draw_jpeg("test", number))
    (folder / "picture.jpg").write_bytes(PICTURE)
    network = part()
    alexnet_tf.export(network, folder / "exports")
    return folder, network


@pytest.fixture(scope="module")
def files(world):
    """{quantization: path}, by the command, compared on pictures/; make proof has all four."""
    folder, _ = world
    for quantization in ("none", "int8"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the interpreter that the converter calibrates with
            figures = call(
                convert,
                f"--saved_model={folder}/exports",
                f"--output={folder}/{quantization}.tflite",
                f"--quantization={quantization}",
                f"--data_dir={folder}/pictures",
                f"--json={folder}/figures.json",
                *[f"--calibration={folder}/pictures"] * (quantization == "int8"),
            )
        assert 0 < figures["largest difference"] <= {"none": 1e-4, "int8": 0.2}[quantization]
        assert figures["pictures compared"] == 4 and "accuracy" not in figures
    return {path.stem: path for path in folder.glob("*.tflite")}


def expected(network):
    """float32 [1, units] of PICTURE."""
    image = network.prepare(PICTURE)[None]
    return network.model(preprocessing.to_network_input(image, PIXELS), training=False).numpy()


@pytest.mark.long
def test_every_signature_gives_features_and_no_classes(world):
    folder, network = world
    loaded = tf.saved_model.load(str(folder / "exports/1"))
    image, file = network.prepare(PICTURE)[None], tf.constant([PICTURE])
    given = {
        "serving_default": {"image_bytes": file},
        "features": {"image_bytes": file},
        "images": {"images": tf.constant(image, tf.float32)},
        "images_uint8": {"images": tf.constant(image)},
        "edge": {"images": tf.constant(image, tf.float32)},
    }
    assert set(loaded.signatures) == set(given)
    for name, inputs in given.items():
        answer = loaded.signatures[name](**inputs)
        assert set(answer) == {"features"}
        np.testing.assert_allclose(answer["features"], expected(network), atol=1e-5, err_msg=name)
    bad = tf.fill(image.shape, np.float32(np.nan))
    assert np.isnan(loaded.signatures["images"](images=bad)["features"]).all()
    # whose operators are those of small runtimes, where a pool makes a number of what is none
    with pytest.raises(tf.errors.InvalidArgumentError, match="images : Tensor had NaN values"):
        loaded.signatures["edge"](images=bad)


@pytest.mark.long
def test_the_export_says_what_it_is_and_comes_back(world, tmp_path):
    folder, network = world
    version = folder / "exports/1"
    assert not (version / "assets/labels.txt").exists()
    manifest = artifacts.read_manifest(version)
    assert (manifest.settings.missing, manifest.features, manifest.labels) == (("fc5",), "fc4", ())
    card = (version / "README.md").read_text()
    assert (
        "pipeline_tag: image-feature-extraction" in card and "# AlexNet, lenet5: features" in card
    )
    assert 'version.signatures["features"]' in card and "classify" not in card
    assert "`alexnet finetune --pretrained=.` turns it into one" in card
    found = alexnet_tf.load(folder / "exports")
    assert found.settings.missing == ("fc5",) and found.class_names == ()
    assert checkpoints.weights_digest(found.model) == checkpoints.weights_digest(network.model)
    np.testing.assert_array_equal(found.record.trained, RECORD.trained)
    call(import_weights, f"--source={folder}/exports", f"--output={tmp_path}/part.npz")
    again = alexnet_tf.load(tmp_path / "part.npz")
    assert checkpoints.weights_digest(again.model) == checkpoints.weights_digest(network.model)
    # Exported again from itself it is there already, and another is not.
    assert alexnet_tf.export(found, folder / "exports") == version
    with pytest.raises(UserError, match="exports/1 already exists, with different weights_sha256"):
        alexnet_tf.export(part(), folder / "exports")


@pytest.mark.long
def test_a_file_gives_features_and_says_of_which_layer(world, files):
    _, network = world
    for quantization, bound in (("none", 1e-5), ("int8", 0.2)):
        opened = Tflite(files[quantization])
        features = opened.features(network.prepare(PICTURE))
        assert features.shape == (UNITS,) and features.dtype == np.float32
        distance = np.linalg.norm(features - expected(network)) / np.linalg.norm(expected(network))
        assert distance < bound, quantization
        with zipfile.ZipFile(files[quantization]) as archive:
            assert sorted(archive.namelist()) == ["manifest.json", "pictures.npz"]
            assert json.loads(archive.read("manifest.json"))["features"] == "fc4"
        content = files[quantization].read_bytes()
        assert b"The output of fc4." in content and b"Computes features of the picture." in content
        assert b"labels.txt" not in content
    bad = np.full((28, 28, 1), np.nan, np.float32)
    assert np.isnan(Tflite(files["none"]).features(bad)).all()
    # It is left as it is where it is there already.
    folder, _ = world
    told = job.convert(folder / "exports", files["none"], pictures=folder / "pictures")
    assert told["already exists"] == "from the same weights"


@pytest.mark.long
def test_a_file_that_was_made_or_compared_otherwise_is_not_left(
    world, files, tmp_path, monkeypatch
):
    """Or nobody would compare what is to be compared now."""
    folder, _ = world
    again = {"pictures": folder / "pictures", "calibration": folder / "pictures"}
    shutil.copytree(folder / "pictures", tmp_path / "fewer")
    made = []
    monkeypatch.setattr(job.tflite, "convert", lambda *_: made.append(1) or 1 / 0)

    def is_left(quantization, **changes):
        del made[:]
        with contextlib.suppress(ZeroDivisionError):
            job.convert(folder / "exports", files[quantization], quantization, **changes)
        return not made

    assert is_left("int8", **again) and is_left("none", pictures=tmp_path / "fewer")
    (tmp_path / "fewer/0.jpg").unlink()
    assert not is_left("int8", **again | {"calibration": tmp_path / "fewer"})
    assert not is_left("int8", **again | {"pictures": tmp_path / "fewer"})
    assert not is_left("none") and not is_left("none", pictures=folder / "pictures", count=3)
    assert not is_left("none", pictures=tmp_path / "fewer")


@pytest.mark.long
def test_pictures_that_nobody_names_are_told_apart_too(world, tmp_path, monkeypatch):
    """Those that the network was trained on may have changed since a file was made of them."""
    folder, _ = world
    pictures, version = tmp_path / "pictures", tmp_path / "1"
    write_picture_folder(pictures)
    shutil.copytree(folder / "exports/1", version)
    manifest = version / "assets.extra/manifest.json"
    changed = json.loads(manifest.read_text())
    changed["training"]["flags"]["data_dir"] = str(pictures)
    manifest.write_text(json.dumps(changed))
    found = []
    monkeypatch.setattr(comparison, "drawn_pictures", lambda count: 1 / 0)  # it takes seconds
    monkeypatch.setattr(
        job, "_is_there", lambda _, manifest: found.append(manifest.conversion) or True
    )

    def told(saved_model, quantization="none", **given):
        output = tmp_path / "net.tflite"
        output.touch()
        job.convert(saved_model, output, quantization, note=pytest.fail, **given)
        conversion = found.pop()
        return conversion.compared_with, conversion.calibration

    drawn, named = told(folder / "exports"), told(folder / "exports", "int8", calibration=pictures)
    of_training = told(version)
    assert drawn == told(folder / "exports") and of_training == told(version)
    assert len({drawn, named, of_training}) == 3
    dataset, calibrated = told(version, "int8")
    assert (dataset, None) == of_training and dataset == f"{calibrated} test"
    assert told(version, "int8", calibration=folder / "pictures")[1] != calibrated
    next((pictures / "test").glob("*/*.jpg")).unlink()
    assert told(version) != of_training and told(version, "int8")[1] != calibrated


@pytest.mark.long
def test_a_file_that_tells_other_figures_is_not_left(world, files, tmp_path, monkeypatch):
    """Or it would tell for ever what an earlier evaluation said."""
    folder, _ = world
    version = tmp_path / "1"
    shutil.copytree(folder / "exports/1", version)
    manifest = version / "assets.extra/manifest.json"
    told, made = json.loads(manifest.read_text()), []
    monkeypatch.setattr(job.tflite, "convert", lambda *_: made.append(1) or 1 / 0)
    metrics = {"dataset": "folder", "split": "test", "views": 1, "classes": []}
    metrics["figures"] = {"examples": 4, "loss": 1.0, "top_1": 0.5, "top_5": 1.0}
    for changes in ({}, {"metrics": metrics}, {"evaluation": metrics["figures"]}):
        manifest.write_text(json.dumps(told | changes))
        (version / "assets.extra/SHA256SUMS").write_text(artifacts.sums(version))
        with contextlib.suppress(ZeroDivisionError):
            job.convert(version, files["none"], pictures=folder / "pictures")
        assert len(made) == bool(changes)
        made.clear()


@pytest.mark.long
def test_a_part_is_compared_on_the_split_that_is_named(world, tmp_path, monkeypatch):
    """Of a part of a network no class is asked for, and its splits were passed over."""
    folder, _ = world
    write_picture_folder(tmp_path / "pictures")
    monkeypatch.setattr(job.tflite, "convert", lambda *_: b"")
    monkeypatch.setattr(job.tflite_metadata, "complete", lambda content, *_: content)
    monkeypatch.setattr(
        job.tflite,
        "compare_features",
        lambda saved_model, content, split, *_: {"compared on": f"{split.examples} {split.name}"},
    )
    output = ["--dataset=folder", f"--output={tmp_path}/net.tflite", f"--json={tmp_path}/json"]
    for flags, split in (([], "9 folder, test"), (["--test_split=train"], "24 folder, train")):
        figures = call(
            convert,
            f"--saved_model={folder}/exports",
            f"--data_dir={tmp_path}/pictures",
            *output,
            *flags,
        )
        assert figures["compared on"] == split


@pytest.mark.long
def test_levels_mean_what_they_are_however_dim_the_pictures_of_the_calibration(world, files):
    """These have none above 213."""
    _, network = world
    assert max(network.prepare(shapes.draw_jpeg("test", number)).max() for number in range(4)) < 240
    (told,) = Tflite(files["int8"]).interpreter.get_input_details()
    scale, zero_point = told["quantization"]
    assert (scale, zero_point) == (pytest.approx(1), 0)


def test_features_that_differ_are_refused(world, files, monkeypatch):
    folder, _ = world
    features = Tflite.features
    monkeypatch.setattr(Tflite, "features", lambda file, image: 1.001 * features(file, image))
    message = r"by 0.001 of their length, where 0.0001 is allowed, on 4 pictures .*; nothing"
    with pytest.raises(UserError, match=message):
        tflite.compare_features(
            str(folder / "exports/1"),
            files["none"].read_bytes(),
            comparison.split_of(folder / "pictures"),
            PIXELS,
            "none",
        )


def test_what_wants_a_classifier_refuses_an_export(world, tmp_path):
    folder, network = world
    version, picture = folder / "exports/1", folder / "picture.jpg"
    opened = alexnet_tf.load(version)
    line = (
        f"{version} holds conv1 to fc4 of a network, without fc5: it is not a classifier yet; "
        f"alexnet finetune --pretrained={version} makes one of it."
    )
    for wants in (
        lambda: call(classify, f"--model={folder}/exports", picture),
        lambda: call(
            evaluate,
            f"--model_dir={folder}/exports",
            "--dataset=folder",
            f"--data_dir={folder}/pictures",
        ),
        lambda: opened.probabilities(np.zeros((1, 28, 28, 1), np.uint8)),
        lambda: alexnet_tf.export(opened, tmp_path / "out", min_probability=0.5),
        lambda: alexnet_tf.export(opened, tmp_path / "out", format="keras"),
    ):
        with pytest.raises(UserError) as raised:
            wants()
        assert str(raised.value) == line
    with pytest.raises(UserError, match="max_accuracy_drop=0.01: .*exports/1 gives features"):
        job.convert(folder / "exports", tmp_path / "net.tflite", "int8", max_accuracy_drop=0.01)
    with pytest.raises(UserError, match="int8 needs pictures to find the range"):
        job.convert(folder / "exports", tmp_path / "net.tflite", "int8", note=str)
    assert not os.listdir(tmp_path)


def test_what_wants_a_classifier_refuses_a_file(world, files):
    folder, _ = world
    path = files["int8"]
    line = (
        f"{path} holds a part of a network, which gives features and no classes; pass a file with a"
    )
    for wants in (
        lambda: call(classify, f"--model={path}", folder / "picture.jpg"),
        lambda: call(
            evaluate, f"--model_dir={path}", "--dataset=folder", f"--data_dir={folder}/pictures"
        ),
        lambda: Tflite(path).classify(PICTURE),
        lambda: alexnet_tf.load(path).classify(PICTURE),
    ):
        with pytest.raises(UserError) as raised:
            wants()
        assert str(raised.value).startswith(line)
    with serve_page_of(path):
        pass  # the page learns from it


def serve_page_of(path):
    """The page's server, without the runtime, which npm brings."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(serve_page, "_check_runtime", lambda node_modules: None)
        return serve_page.Server(path, 0)


def test_a_whole_file_gives_no_features(tmp_path):
    from tflite_files import colour_content

    opened = Tflite(colour_content())
    with pytest.raises(UserError, match="gives probabilities, not features"):
        opened.features(np.zeros((67, 67, 3), np.uint8))


def test_a_server_answers_with_features_and_is_no_classifier(world):
    folder, network = world
    served = Served(folder / "exports")
    try:
        body = {"instances": [{"b64": base64.b64encode(PICTURE).decode()}]}
        status, answer = served.predict(body)
        assert status == 200
        np.testing.assert_allclose(answer["predictions"], expected(network), atol=1e-4)
        for address in (served.url, f"grpc://{served.address}"):
            with pytest.raises(UserError, match=f"server={address} answers without classes"):
                client.open_server(address, "alexnet")(PICTURE)
    finally:
        served.close()


def test_weights_by_name_are_one_network(world, unchecked, tmp_path, monkeypatch):
    folder, network = world
    arrays = {variable.path: variable.numpy() for variable in network.model.weights}
    path = tmp_path / "part.npz"
    checkpoints.write_weights_file(path, arrays, network.settings.to_json())
    monkeypatch.setattr(pretrained, "fetch", lambda name, cache_dir: path)
    told = call(
        export, "--pretrained=imagenet", f"--output={tmp_path}/out", f"--json={tmp_path}/told.json"
    )
    assert told["parameters"] == network.model.count_params()
    assert artifacts.read_manifest(tmp_path / "out/1").settings.missing == ("fc5",)
    with pytest.raises(UserError, match="--pretrained=trunk and --model_dir=a are two networks"):
        call(export, "--pretrained=trunk", "--model_dir=a")
    with pytest.raises(
        UserError, match="--pretrained=p.npz is not one of imagenet, trunk, .*model_dir"
    ):
        call(export, "--pretrained=p.npz")
    with pytest.raises(UserError, match="--cache_dir=b is for --pretrained; omit it"):
        call(export, "--cache_dir=b")


def test_a_damaged_part_is_told_so(files, tmp_path):
    image = np.asarray(Image.new("L", (28, 28)))[..., None]
    assert np.isfinite(Tflite(files["none"]).features(image)).all()
    content = files["none"].read_bytes()
    with zipfile.ZipFile(files["none"]) as archive:
        manifest = json.loads(archive.read("manifest.json"))
    del manifest["flatbuffer_sha256"]
    for change in ({"missing": []}, {"missing": ["fc8"]}, {"missing": 5}, {"preprocessing": {}}):
        text = json.dumps(manifest | change).encode()
        path = tmp_path / "odd.tflite"
        path.write_bytes(content)
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("manifest.json", text)
        path.write_bytes(content[: content.rindex(b"PK\x03\x04")] + path.read_bytes())
        with pytest.raises(UserError, match="odd.tflite is not a file that alexnet convert wrote"):
            artifacts.Tflite(path.read_bytes(), path)
