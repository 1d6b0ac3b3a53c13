"""What export and conversion write: every signature's answers, the records beside the graph, files
of all precisions, refusals.
"""

import dataclasses
import functools
import hashlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import flatbuffers
import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.compiled_model import CompiledModel
from ai_edge_litert.interpreter import Interpreter
from binaries import call
from conftest import CLASS_NAMES, little_room, write_pictures
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.lite.python import schema_py_generated as schema
from tensorflow_serving.apis import prediction_log_pb2

from alexnet_tf import disk, networks, preprocessing
from alexnet_tf.commands import convert as convert_command
from alexnet_tf.data import datasets
from alexnet_tf.errors import UserError
from alexnet_tf.exports import artifacts, saved_model, tflite
from alexnet_tf.jobs import convert as job
from alexnet_tf.manifest import Manifest
from alexnet_tf.network.model import build_model
from alexnet_tf.preprocessing import Preprocessing
from alexnet_tf.settings import OWN, Settings
from alexnet_tf.training import checkpoints, run_settings

ROOT = pathlib.Path(__file__).parents[2]
CONVERT = ROOT / "tools/convert_tflite.py"
PIXELS = Preprocessing(67, 77, 3, (121.17, 119.03, 74.73), 1.0)


def lively_model(seed):
    """Activations large enough for response normalisation to act, and clear answers that depend on
    the picture.
    """
    keras.utils.set_random_seed(seed)
    names = (f"{kind}{number}" for number in range(1, 9) for kind in ("conv", "fc"))
    return build_model("half", 3, 67, stddev=dict.fromkeys(names, 0.05) | {"fc8": 0.007})


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """(folder with pictures/ and exports/1, the Keras model); read again by a fresh process."""
    saved_model.PYTHON, quick = sys.executable, saved_model.PYTHON
    folder = tmp_path_factory.mktemp("export")
    write_pictures(folder / "pictures/train", 4)
    write_pictures(folder / "pictures/test", 2, first=4)
    model = lively_model(4)
    flags = {"dataset": "folder", "data_dir": str(folder / "pictures"), "seed": 0}
    settings = Settings("half", PIXELS, CLASS_NAMES, flags=flags)
    manifest = Manifest(settings, weights_sha256=checkpoints.weights_digest(model))
    saved_model.write(model, manifest, folder / "exports/1")
    saved_model.PYTHON = quick
    return folder, model


@pytest.fixture(scope="module")
def loaded(exported):
    return tf.saved_model.load(str(exported[0] / "exports/1"))


@pytest.mark.long
def test_no_file_of_an_export_is_replaced_by_results(exported):
    for path in disk.files_below(exported[0] / "exports/1"):
        with pytest.raises(UserError, match="is where an export keeps a file of its own"):
            disk.check_place(path, "output")


@pytest.mark.long
def test_an_export_answers_in_the_scope_of_a_strategy(exported):
    folder, model = exported
    crop = np.random.default_rng(0).integers(0, 256, (2, 67, 67, 3), np.uint8)
    expected = keras.ops.softmax(model(crop - np.float32(PIXELS.mean)))
    picture = next((folder / "pictures/test").rglob("*.png"))
    outside = networks.load(folder / "exports").classify(picture)
    with tf.distribute.MirroredStrategy(["CPU:0"]).scope():
        network = networks.load(folder / "exports")
        np.testing.assert_allclose(network.probabilities(crop), expected, atol=1e-5)
        assert network.classify(picture) == outside
        again = keras.ops.softmax(network.model(crop - np.float32(PIXELS.mean)))
        np.testing.assert_allclose(again, expected, atol=1e-5)


@pytest.mark.long
def test_an_export_is_converted_in_the_scope_of_a_strategy(exported, converted, tmp_path):
    folder, _ = exported
    with tf.distribute.MirroredStrategy(["CPU:0"]).scope():
        job.convert(folder / "exports/1", tmp_path / "net.tflite")
        with pytest.raises(UserError, match="is not a version that alexnet export wrote"):
            job.convert(tmp_path, tmp_path / "net.tflite")
    assert (tmp_path / "net.tflite").read_bytes() == converted("none")[0].read_bytes()


@pytest.mark.long
def test_an_own_network_that_keras_opens_as_another_is_told(exported, tmp_path):
    """As earlier versions exported it."""
    x = inputs = keras.Input((67, 67, 3))
    x = keras.layers.Rescaling(1 / 255)(x)
    x = keras.layers.Dense(3, kernel_initializer="ones")(keras.layers.Flatten()(x))
    model = keras.Model(inputs, x * np.float32([1, 2, 3]))
    architecture = run_settings.architecture(keras.Model(inputs, x * 1.0), PIXELS)
    settings = Settings(OWN, PIXELS, CLASS_NAMES, architecture=architecture)
    saved_model.write(model, Manifest(settings), tmp_path / "exports/1")
    network = networks.load(tmp_path / "exports")
    with pytest.raises(UserError, match="Keras now builds a network from it that answers"):
        assert network.model


@pytest.fixture(scope="module")
def converted(exported, run):
    """Gives, of a precision, a .tflite file and what the command said: (path, figures)."""
    folder, _ = exported

    @functools.cache
    def convert(quantization):
        run(
            CONVERT,
            "--saved_model=exports/1",
            f"--quantization={quantization}",
            f"--output={quantization}.tflite",
            "--json=figures.json",
            cwd=folder,
        )
        figures = json.loads((folder / "figures.json").read_text())
        return folder / f"{quantization}.tflite", figures

    return convert


def files_of(folder):
    return [path.read_bytes() for path in sorted((folder / "pictures/test").glob("*/*"))]


def cropped(folder):
    return np.stack(
        [
            preprocessing.central_crop(preprocessing.decode(file), PIXELS)
            for file in files_of(folder)
        ]
    )


@pytest.mark.long
def test_what_signatures_share_is_written_and_loaded_once(exported):
    folder, _ = exported
    (path,) = folder.rglob("saved_model.pb")
    (graph,) = saved_model_pb2.SavedModel.FromString(path.read_bytes()).meta_graphs
    names = [one.signature.name for one in graph.graph_def.library.function]
    kinds = [re.sub(r"_\d+$", "", name) for name in names]
    for shared in ("decode", "_decode_other", "_decode_bmp", "_orientation"):
        assert kinds.count(f"__inference_{shared}") == 1, names
    assert kinds.count("__inference_signature_wrapper") == 5
    loaded_besides = [node for node in graph.object_graph_def.nodes if node.HasField("function")]
    assert len(loaded_besides) == 3  # of the table of names: made, filled, given up


def test_signatures_answer_as_the_model_does(exported, loaded):
    folder, model = exported
    images = cropped(folder)
    network_input = preprocessing.to_network_input(images, PIXELS)
    probabilities = tf.nn.softmax(model(network_input, training=False)).numpy()
    assert len(images) == 6 and np.ptp(probabilities, axis=0).max() > 0.1  # the pictures tell
    features = keras.Model(model.inputs, model.get_layer("fc7").output)(
        network_input, training=False
    ).numpy()
    for count in (6, 1):
        for name, dtype in (
            ("images", tf.float32),
            ("images_uint8", tf.uint8),
            ("edge", tf.float32),
        ):
            answer = loaded.signatures[name](images=tf.cast(images[:count], dtype))
            np.testing.assert_allclose(
                answer["probabilities"], probabilities[:count], atol=1e-5, err_msg=name
            )
        files = tf.constant(files_of(folder)[:count])
        answer = loaded.signatures["serving_default"](image_bytes=files)
        np.testing.assert_allclose(answer["probabilities"], probabilities[:count], atol=1e-5)
        best = np.argsort(-probabilities[:count], 1)
        np.testing.assert_array_equal(answer["class_ids"], best)
        assert answer["names"].numpy().tolist() == [
            [CLASS_NAMES[index].encode() for index in row] for row in best
        ]
        answer = loaded.signatures["features"](image_bytes=files)["features"]
        np.testing.assert_allclose(answer, features[:count], atol=1e-4 * features.max())


@pytest.mark.parametrize("variant,image_size", [("source2012", 67), ("caffe", 67), ("lenet5", 28)])
def test_small_devices_get_the_same_of_every_kind_of_normalisation(variant, image_size, rng):
    from alexnet_tf.network.layers import for_small_devices

    model = build_model(
        variant, 3, image_size, stddev={"conv1": 0.1, "conv2": 0.1} if variant != "lenet5" else None
    )
    images = rng.uniform(-120, 130, (2, *model.input_shape[1:])).astype(np.float32)
    edge = for_small_devices(model)
    assert {id(variable) for variable in edge.variables} == {
        id(variable) for variable in model.variables
    }
    expected = model(images, training=False).numpy()
    np.testing.assert_allclose(
        edge(images, training=False), expected, atol=1e-5 * np.abs(expected).max()
    )


def test_small_devices_get_the_same_of_networks_within_networks(rng):
    from alexnet_tf.network import layers

    keras.utils.set_random_seed(1)
    inner = keras.Sequential(
        [keras.Input((9, 9, 8)), layers.LocalResponseNormalization(alpha=0.1, name="lrn")]
    )
    x = inputs = keras.Input((9, 9, 8))
    for _ in range(2):  # called twice
        x = inner(keras.layers.Conv2D(8, 3, padding="same")(x))
    model = keras.Model(inputs, keras.layers.Dense(3)(keras.layers.Flatten()(x)))
    images = rng.normal(0, 1, (2, 9, 9, 8)).astype(np.float32)
    edge = layers.for_small_devices(model)
    kinds = {type(one) for one in edge._flatten_layers()}
    assert layers._WindowByConvolution in kinds
    assert layers.LocalResponseNormalization not in {type(one) for one in edge.layers[2].layers}
    np.testing.assert_allclose(edge(images), model(images), atol=1e-5)
    assert all(one is two for one, two in zip(edge.weights, model.weights, strict=True))
    inside = [keras.layers.Conv2D(2, 3), keras.layers.Flatten()]
    other = keras.Sequential([keras.Input((9, 9, 8)), keras.Sequential(inside)])
    assert layers.for_small_devices(other).layers[0] is other.layers[0]  # nothing to change


def test_one_broken_picture_fails_its_batch_and_no_other(exported, loaded):
    files = files_of(exported[0])
    with pytest.raises(tf.errors.InvalidArgumentError):
        loaded.signatures["serving_default"](image_bytes=tf.constant([files[0], b"no picture"]))
    assert loaded.signatures["serving_default"](image_bytes=tf.constant(files[:1]))[
        "names"
    ].shape == (1, 3)


def test_warmup_requests_are_what_tensorflow_serving_reads(exported, loaded):
    version = exported[0] / "exports/1"
    sizes_told = artifacts.read_manifest(version).batch_sizes
    sizes = []
    for record in tf.data.TFRecordDataset(str(version / "assets.extra/tf_serving_warmup_requests")):
        request = prediction_log_pb2.PredictionLog.FromString(record.numpy()).predict_log.request
        assert (request.model_spec.name, request.model_spec.signature_name) == (
            "alexnet",
            "serving_default",
        )
        (files,) = (tf.make_ndarray(tensor) for tensor in request.inputs.values())
        answer = loaded.signatures["serving_default"](
            **{name: tf.constant(files) for name in request.inputs}
        )
        sizes.append(answer["names"].shape[0])
    assert tuple(sizes) == sizes_told == (1, 2, 4, 8, 16, 32)


def test_checksums_find_one_bit(exported, run, tmp_path):
    version = tmp_path / "1"
    shutil.copytree(exported[0] / "exports/1", version)
    subprocess.run(
        ["sha256sum", "--check", "--quiet", "assets.extra/SHA256SUMS"], cwd=version, check=True
    )
    weights = version / "variables/variables.data-00000-of-00001"
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(content)
    assert f"{version} is damaged or incomplete ({WEIGHTS} differs from assets.extra/SHA256" in run(
        CONVERT, f"--saved_model={version}", "--output=net.tflite", cwd=tmp_path, status=2
    )
    assert not (tmp_path / "net.tflite").exists()


def damaged(version, name, change):
    content = bytearray((version / name).read_bytes())
    (version / name).write_bytes(change(content))


def flipped(content):
    content[len(content) // 2] ^= 1
    return content


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:"
WEIGHTS = "variables/variables.data-00000-of-00001"


@pytest.mark.parametrize(
    "name,change,reason",
    [
        (WEIGHTS, lambda content: content[:1000], "IndexError: Read less bytes than requested"),
        (WEIGHTS, flipped, "Checksum does not match"),
        (WEIGHTS, lambda _: POINTER, f"{WEIGHTS} is git LFS's pointer to the file, which git"),
        ("variables/variables.index", lambda content: content[:100], "not an sstable"),
        ("saved_model.pb", lambda content: content[:1000], "OSError: Cannot parse file"),
        ("saved_model.pb", lambda content: content.replace(b"BiasAdd", b"BiasAdq"), "Op type not"),
        ("assets/labels.txt", lambda content: content[:-3], None),
    ],
)
def test_a_damaged_version_gets_one_line(exported, tmp_path, name, change, reason):
    version = tmp_path / "1"
    shutil.copytree(exported[0] / "exports/1", version)
    damaged(version, name, change)
    line = (
        rf"^{version} is damaged or incomplete \(.*\); copy it again, or remove it and export again"
    )
    for open_it in (networks.load, artifacts.load):
        with pytest.raises(UserError, match=line) as error:
            open_it(version)
        assert (
            f"({name} differs from assets.extra/SHA256SUMS" in str(error.value) or "LFS" in reason
        )
    (version / "assets.extra/SHA256SUMS").unlink()  # and as others' have none
    if reason:
        with pytest.raises(UserError, match=line) as error:
            tflite.convert(version, "none", [])
        assert reason in str(error.value) and "\n" not in str(error.value)


def test_a_version_whose_folders_are_links_is_whole(exported, tmp_path):
    for number in "12":
        shutil.copytree(exported[0] / "exports/1", tmp_path / number)
    (tmp_path / "1/variables").rename(tmp_path / "kept")
    (tmp_path / "1/variables").symlink_to("../kept")
    artifacts.check_sums(tmp_path / "1")
    damaged(tmp_path / "kept", pathlib.Path(WEIGHTS).name, flipped)
    with pytest.raises(UserError, match="is damaged"):
        artifacts.check_sums(tmp_path / "1")


@pytest.mark.parametrize("name", ["a[b]", "a\\b"])
def test_a_path_that_is_taken_for_a_pattern_is_refused(exported, tmp_path, name):
    shutil.copytree(exported[0] / "exports/1", tmp_path / name)
    with pytest.raises(UserError, match=r" has .* in its path, which TensorFlow takes for a patt"):
        networks.load(tmp_path / name)


@pytest.mark.parametrize("name", ["a*b", "a?b", "a[b", "a]b"])
def test_a_path_that_as_a_pattern_matches_itself_is_opened(exported, tmp_path, name):
    (tmp_path / name).symlink_to(exported[0] / "exports/1")
    assert networks.load(tmp_path / name).class_names


def test_what_others_put_into_a_version_is_not_its_damage(tmp_path):
    for name in (
        "saved_model.pb",
        "variables/a",
        "assets/labels.txt",
        "assets.extra/m",
        "README.md",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    list_of_sums = tmp_path / "assets.extra/SHA256SUMS"
    of_card = (
        f"{hashlib.sha256(b'README.md').hexdigest()}  README.md\n"  # an earlier version has it
    )
    text = artifacts.sums(tmp_path)
    assert [line[66:] for line in text.splitlines()] == [
        *("assets/labels.txt", "assets.extra/m", "saved_model.pb", "variables/a")
    ]
    (tmp_path / "README.md").write_text("license: mit")  # as the page says that one may
    for name in (  # nothing of a SavedModel is looked for there
        *(".DS_Store", ".gitattributes", "variables/.DS_Store", ".git/config"),
        *("assets/desktop.ini", "variables/Thumbs.db", "assets.extra/Icon\r", "Desktop.ini"),
        *("variables/@eaDir/a@SynoEAStream", "assets/#recycle/labels.txt"),
        *("net.tflite", "keras_metadata.pb", "images/curve.jpg", "images/assets/labels.txt"),
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("not of the version")
    for listed in (text, of_card + text):
        list_of_sums.write_text(listed)
        artifacts.check_sums(tmp_path)


@pytest.mark.parametrize(
    "of_list,message",
    [
        (lambda text: text.replace(text[:64], 64 * "0"), r"damaged .* \(assets/labels.txt differs"),
        (lambda text: text + f"{64 * '0'}  assets/x\n", r"damaged .* \(assets/x is missing\)"),
        (lambda text: text + f"{64 * '0'}  \x1b\n", r"damaged .* \(b'.x1b' is missing\)"),
        (lambda text: text + "nonsense\n", r"damaged .*SHA256SUMS has a line that names no file"),
        (lambda text: text[:-3], r"damaged .* \(variables/variables.ind is missing\)"),
        (lambda text: text[: text.index("  saved") + 10], r"damaged .* \(saved_mo is missing\)"),
        (lambda text: text.encode()[:-1] + b"\xff", r"damaged .* \(assets.extra/SHA256SUMS: 'utf"),
        *(
            (
                lambda text, name=name: "".join(
                    line
                    for line in text.splitlines(keepends=True)
                    if not line.endswith(f"{name}\n")
                ),
                f"holds {name}, which assets.extra/SHA256SUMS does not list; remove that file, or, "
                "if alexnet export wrote it, copy the version again.$",
            )
            for name in (
                *("assets/labels.txt", "assets.extra/m", "saved_model.pb", "fingerprint.pb"),
                "variables/variables.index",
            )
        ),
    ],
)
def test_what_is_wrong_with_a_version_is_named(tmp_path, of_list, message):
    for name in (
        *("saved_model.pb", "fingerprint.pb", "assets/labels.txt", "assets.extra/m"),
        "variables/variables.index",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    changed = of_list(artifacts.sums(tmp_path))
    (tmp_path / "assets.extra/SHA256SUMS").write_bytes(
        changed if isinstance(changed, bytes) else changed.encode()
    )
    with pytest.raises(UserError, match=message):
        artifacts.check_sums(tmp_path)


def test_a_version_of_another_format_has_no_folders(tmp_path):
    (tmp_path / "model.keras").write_text("")
    (tmp_path / "SHA256SUMS").write_text(artifacts.sums(tmp_path))
    for name in ("images/grey.jpg", "assets/curve.png"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text("for the card")
    artifacts.check_sums(tmp_path)
    (tmp_path / "SHA256SUMS").write_text("")
    with pytest.raises(UserError, match="holds model.keras, which SHA256SUMS does not list; "):
        artifacts.check_sums(tmp_path)


@pytest.mark.parametrize(
    "quantization,share",
    [
        ("none", 1.01),
        pytest.param("float16", 0.51, marks=pytest.mark.long),
        pytest.param("dynamic", 0.27, marks=pytest.mark.long),
        ("int8", 0.27),
    ],
)
def test_files_are_as_small_as_said_and_need_no_foreign_operator(
    exported, converted, quantization, share
):
    path, figures = converted(quantization)
    # a small net's graph counts
    assert path.stat().st_size < share * 4 * exported[1].count_params() + 20_000
    model = schema.Model.GetRootAs(path.read_bytes())
    codes = {
        model.OperatorCodes(index).BuiltinCode() for index in range(model.OperatorCodesLength())
    }
    assert schema.BuiltinOperator.CUSTOM not in codes
    assert schema.BuiltinOperator.CONV_2D in codes
    assert figures["top-1 agreement"] == 1.0 and figures["pictures compared"] == 6
    assert {(row["class"], row["pictures"], row["drop"]) for row in figures["by class"]} == {
        (name, 2, 0.0) for name in CLASS_NAMES
    }


def test_int8_takes_bytes_and_keeps_normalisation_in_float(converted):
    path, figures = converted("int8")
    assert figures["in float32"] == "conv1, less_mean, lrn1, lrn2"
    interpreter = Interpreter(str(path))
    (given,), (answer,) = interpreter.get_input_details(), interpreter.get_output_details()
    assert given["dtype"] == answer["dtype"] == np.uint8
    assert given["quantization"] == (1.0, 0) and answer["quantization"] == (1 / 256, 0)
    in_bytes = " ".join(artifacts.operator_outputs(path.read_bytes(), np.int8))
    assert all(name in in_bytes for name in ("conv2a", "conv3a", "conv5a", "fc6", "fc7", "fc8"))


@pytest.mark.parametrize("quantization", ["none", "int8"])
def test_the_compiled_model_answers_as_the_interpreter(exported, converted, quantization):
    path, _ = converted(quantization)
    tflite = artifacts.Tflite(path.read_bytes())
    image = cropped(exported[0])[0]
    compiled = CompiledModel.from_file(str(path))
    inputs, outputs = compiled.create_input_buffers(0), compiled.create_output_buffers(0)
    dtype = np.float32 if quantization == "none" else np.uint8
    inputs[0].write(np.ascontiguousarray(image[None], dtype))
    compiled.run_by_index(0, inputs, outputs)
    answer = outputs[0].read(3, dtype) / (1 if quantization == "none" else 256)
    np.testing.assert_allclose(answer, tflite.probabilities(image), atol=1e-6)


def test_metadata_stands_where_other_programs_look(converted):
    content = converted("none")[0].read_bytes()
    model = schema.Model.GetRootAs(content)
    (entry,) = (
        entry
        for entry in map(model.Metadata, range(model.MetadataLength()))
        if entry.Name() == b"TFLITE_METADATA"
    )
    metadata = model.Buffers(entry.Buffer()).DataAsNumpy().tobytes()
    assert flatbuffers.util.BufferHasIdentifier(metadata, 0, b"M001")
    assert b"labels.txt" in metadata and b"RGB 0..255" in metadata
    tflite = artifacts.Tflite(content)
    assert tflite.labels == list(CLASS_NAMES) and tflite.manifest.conversion.quantization == "none"


def test_an_export_of_before_is_named(run, exported, tmp_path):
    class Old(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([1, 67, 67, 3], tf.float32)])
        def image(self, images):
            return {"probabilities": tf.reduce_mean(images, [1, 2])}

    old = Old()
    tf.saved_model.save(old, str(tmp_path / "1"), {"image": old.image})
    for assets in ("assets", "assets.extra"):
        shutil.copytree(
            exported[0] / "exports/1" / assets, tmp_path / "1" / assets, dirs_exist_ok=True
        )
    (tmp_path / "1/assets.extra/SHA256SUMS").write_text(artifacts.sums(tmp_path / "1"))
    line = run(CONVERT, "--saved_model=1", "--output=net.tflite", cwd=tmp_path, status=2)
    assert "1 has no signature named edge, only image" in line
    assert sorted(os.listdir(tmp_path)) == ["1"]


def test_no_pictures_no_file(run, exported, tmp_path):
    line = run(
        CONVERT,
        f"--saved_model={exported[0]}/exports/1",
        "--quantization=int8",
        "--dataset=folder",
        "--data_dir=gone",
        "--output=net.tflite",
        cwd=tmp_path,
        status=2,
    )
    assert "--data_dir=gone is not a folder" in line and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "arguments,message",
    [
        (["--test_split=nonsense"], "nonsense"),
        (["--validation_split=nonsense"], "nonsense"),
        (["--data_dir={}/pictures/test", "--test_split=nonsense"], "nonsense"),
        (["--train_split=train"], "--train_split=train only calibrates, for"),
        (["--calibration={}"], r"--calibration=.* is for --quantization=int8; omit it"),
    ],
)
def test_splits_and_pictures_that_are_named_are_read(exported, tmp_path, arguments, message):
    folder, _ = exported
    with pytest.raises(UserError, match=message.replace("--", "")):
        call(
            convert_command,
            f"--saved_model={folder}/exports/1",
            f"--output={tmp_path}/net.tflite",
            *(argument.format(folder) for argument in arguments),
        )
    assert not list(tmp_path.iterdir())


@pytest.mark.long
def test_the_split_that_is_named_is_compared_on(exported, tmp_path):
    folder, _ = exported
    call(
        convert_command,
        f"--saved_model={folder}/exports/1",
        f"--output={tmp_path}/net.tflite",
        "--validation_split=train",
        f"--json={tmp_path}/figures.json",
    )
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["pictures compared"] == 12 and figures["compared on"] == "train"


@pytest.fixture(scope="module")
def others(exported):
    """The folder of `exported`, with own/ of all three splits, lacks/ of a test split without one
    of the classes, thin/ with one class to train on, and bare/ of class folders beside pictures/.
    """
    folder, _ = exported
    for split, count, first in (("train", 2, 6), ("val", 3, 8), ("test", 1, 11)):
        write_pictures(folder / "own" / split, count, first)
    (folder / "own/train" / CLASS_NAMES[0] / "bad.jpg").write_text("no picture")
    write_pictures(folder / "thin/test", 1, first=15)
    shutil.copytree(folder / "thin/test" / CLASS_NAMES[0], folder / "thin/train" / CLASS_NAMES[0])
    write_pictures(folder / "lacks/test", 1, first=12)
    shutil.rmtree(folder / "lacks/test" / CLASS_NAMES[1])
    write_pictures(folder / "bare", 2, first=13)
    return folder


@pytest.fixture
def report(exported, tmp_path, monkeypatch):
    """What a conversion of exports/1, with flags of the command, compares and calibrates on, as a
    dict; nothing is converted.
    """

    def compare(saved_model, content, split, pixels, quantization, count, labelled, *others):
        return {
            "pictures compared": split.examples,
            "compared on": split.name,
            "labelled": labelled,
        }

    monkeypatch.setattr(job.tflite, "convert", lambda *_: b"")
    monkeypatch.setattr(job.tflite_metadata, "complete", lambda content, *_: content)
    monkeypatch.setattr(job.tflite, "compare", compare)
    monkeypatch.setattr(job.artifacts, "operator_outputs", lambda *_: [])
    saved_model, output = f"--saved_model={exported[0]}/exports/1", tmp_path / "net.tflite"
    return lambda *flags: call(
        convert_command, saved_model, f"--output={output}", f"--json={tmp_path}/json", *flags
    )


@pytest.mark.parametrize(
    "flags,compared,overlap,calibrated,elsewhere",
    [
        pytest.param(
            *([], (6, "test of {}/pictures"), "", "12 of train", False), marks=pytest.mark.long
        ),
        (["--test_split=test"], (6, "test"), "", "12 of train", False),
        (
            ["--test_split=train"],
            (12, "train"),
            ", the pictures it was calibrated on: others would tell more",
            "12 of train",
            True,
        ),
        pytest.param(
            *(["--data_dir={}/own"], (3, "test"), "", "6 of train", False), marks=pytest.mark.long
        ),
        (["--data_dir={}/own", "--validation_split=val"], (9, "val"), "", "6 of train", False),
        (["--data_dir={}/lacks"], (2, "test"), "", "12 of train", True),
        (
            ["--data_dir={}/bare"],
            (6, "pictures"),
            ", 3 of which it was also calibrated on: others would tell more",
            "3 of bare",
            False,
        ),
    ],
    ids=["none", "test", "train", "all three", "validation", "a class less", "bare"],
)
def test_int8_is_compared_on_the_pictures_of_the_other_forms(
    others, report, capsys, flags, compared, overlap, calibrated, elsewhere
):
    """It judged by those that choose, whatever split was named, and by no accuracy where a class
    had no picture.
    """
    folder = others
    flags = [flag.format(folder) for flag in flags]
    for quantization in ("float16", "int8"):
        figures = report(f"--quantization={quantization}", *flags)
        of_int8 = overlap * (quantization == "int8")
        assert figures["pictures compared"] == compared[0] and figures["labelled"]
        assert figures["compared on"] == compared[1].format(folder) + of_int8
    assert figures["calibrated on"] == calibrated
    told = f"Calibrated on train of {folder}/pictures, which the network was trained on: the"
    err = capsys.readouterr().err
    assert (told in err) == elsewhere
    assert err.count("bad.jpg cannot be read") == (calibrated == "6 of train")


def test_pictures_that_are_named_to_calibrate_on_are_read(others, report):
    """And none of another folder take their place."""
    with pytest.raises(UserError, match="thin/train holds 1 folder of pictures"):
        report("--quantization=int8", f"--data_dir={others}/thin", "--train_split=train")


def test_another_split_of_one_data_set_is_another_comparison(
    exported, others, tmp_path, monkeypatch
):
    """Of a file that is there already, nobody would compare what is to be compared now."""
    found, told = [], []
    monkeypatch.setattr(
        job, "_is_there", lambda _, manifest: found.append(manifest.conversion) or True
    )
    (tmp_path / "net.tflite").touch()
    dataset = datasets.open_dataset("folder", others / "own")
    for one in (dataset, dataclasses.replace(dataset, test=None), dataset):
        how = exported[0] / "exports/1", tmp_path / "net.tflite", "int8"
        job.convert(*how, pictures=one, note=told.append)
    assert found[0] == found[2] and found[0].calibration == found[1].calibration
    assert found[0].compared_with != found[1].compared_with


def test_folders_of_the_classes_tell_the_accuracy_from_python_too(
    exported, report, tmp_path, monkeypatch
):
    """They were passed over, with advice to name them by a flag of the command."""
    folder, there, told = exported[0], [], []
    monkeypatch.setattr(job, "_is_there", lambda _, one: there.append(one.conversion) and False)

    def convert(pictures):
        how = folder / "exports/1", tmp_path / "net.tflite", "dynamic"
        return job.convert(*how, pictures=pictures, note=told.append)

    assert convert(folder / "pictures/test")["labelled"]
    shutil.copytree(folder / "pictures/test", tmp_path / "moved")
    first, second = (tmp_path / "moved" / name for name in CLASS_NAMES[:2])
    next(first.iterdir()).rename(second / "of_first.png")
    assert convert(tmp_path / "moved")["labelled"] and not told
    assert there[0].compared_with != there[1].compared_with  # the same pictures, otherwise named
    second.rename(tmp_path / "moved/zebra")
    assert not convert(tmp_path / "moved")["labelled"]
    assert "3 of the 6 pictures of" in told[0] and "are in no folder named after a class" in told[0]
    with pytest.raises(UserError, match="no labels of this network.*; compare on folders of its"):
        job.convert(
            folder / "exports/1",
            tmp_path / "net.tflite",
            "dynamic",
            pictures=tmp_path / "moved",
            max_accuracy_drop=0.1,
            note=str,
        )


@pytest.mark.long
@pytest.mark.filterwarnings("ignore::UserWarning")  # of TensorFlow's calibrator about itself
def test_what_is_calibrated_and_compared_alike_says_so(exported, tmp_path):
    pictures = exported[0] / "pictures/test"
    how = exported[0] / "exports/1", tmp_path / "net.tflite", "int8"
    figures = job.convert(*how, pictures=pictures, calibration=pictures, note=str)
    assert figures["compared on"].endswith(
        "test, the pictures it was calibrated on: others would tell more"
    )
    assert "already exists" in job.convert(*how, pictures=pictures, calibration=pictures)
    content = bytearray((tmp_path / "net.tflite").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "net.tflite").write_bytes(content)
    figures = job.convert(*how, pictures=exported[0] / "pictures/train", calibration=pictures)
    assert figures["compared on"].endswith("train")


@pytest.mark.long
def test_a_picture_that_cannot_be_read_is_not_compared(run, exported, tmp_path):
    write_pictures(tmp_path / "pictures/train", 2)
    write_pictures(tmp_path / "pictures/test", 2, first=4)
    victim = next((tmp_path / "pictures/test").rglob("*.png"))
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 255  # the ends are whole
    victim.write_bytes(content)
    run(
        CONVERT,
        f"--saved_model={exported[0]}/exports/1",
        "--dataset=folder",
        "--data_dir=pictures",
        "--output=net.tflite",
        "--json=figures.json",
        cwd=tmp_path,
    )
    assert json.loads((tmp_path / "figures.json").read_text())["pictures compared"] == 5


@pytest.mark.long
def test_a_file_of_other_labels_is_made_again(run, exported, converted, tmp_path):
    folder, _ = exported
    shutil.copytree(folder / "exports/1", tmp_path / "1")
    shutil.copytree(folder / "pictures", tmp_path / "pictures")
    for split in ("train", "test"):
        (tmp_path / f"pictures/{split}/{CLASS_NAMES[0]}").rename(
            tmp_path / f"pictures/{split}/Another"
        )
    (tmp_path / "1/assets/labels.txt").write_text(
        "".join(f"{name}\n" for name in ("Another", *CLASS_NAMES[1:]))
    )
    (tmp_path / "1/assets.extra/SHA256SUMS").write_text(artifacts.sums(tmp_path / "1"))
    shutil.copy(converted("none")[0], tmp_path / "net.tflite")
    run(
        CONVERT,
        "--saved_model=1",
        "--output=net.tflite",
        "--dataset=folder",
        "--data_dir=pictures",
        cwd=tmp_path,
    )
    assert artifacts.Tflite((tmp_path / "net.tflite").read_bytes()).labels == [
        "Another",
        *CLASS_NAMES[1:],
    ]


@pytest.mark.long
def test_pictures_of_other_classes_are_compared_and_their_accuracy_is_not(run, exported, tmp_path):
    write_pictures(tmp_path / "pictures", 2)
    (tmp_path / "pictures/plain star").rename(tmp_path / "pictures/zebra")
    run(
        CONVERT,
        f"--saved_model={exported[0]}/exports/1",
        "--dataset=folder",
        "--data_dir=pictures",
        "--output=net.tflite",
        "--json=figures.json",
        cwd=tmp_path,
    )
    assert "zebra is not one of the 3 classes" in run.notes and (tmp_path / "net.tflite").exists()
    assert json.loads((tmp_path / "figures.json").read_text())["accuracy"].startswith("not checked")


@pytest.fixture
def full_disk():
    with little_room(1_000_000):
        yield


def _manifest():
    return Manifest(Settings("half", PIXELS, CLASS_NAMES))


def test_a_disk_that_fills_leaves_no_version(exported, tmp_path, full_disk):
    with pytest.raises(UserError, match="cannot be written .*make room"):
        saved_model.write(exported[1], _manifest(), tmp_path / "out/1")
    assert list((tmp_path / "out").iterdir()) == []


def test_an_export_runs_nothing_of_the_current_folder(exported, tmp_path, monkeypatch):
    (tmp_path / "random.py").write_text("raise SystemExit('of the user')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(saved_model, "PYTHON", sys.executable)
    monkeypatch.setattr(
        saved_model, "_FRESH_PROCESS", "import random, sys; sys.exit(random.__file__)"
    )
    with pytest.raises(UserError, match=r"does not load \(/.*/lib/.*random.py\)"):
        saved_model.write(exported[1], _manifest(), tmp_path / "out/1")


@pytest.mark.long
def test_what_does_not_answer_as_the_model_is_not_published(exported, tmp_path, monkeypatch):
    other = lively_model(2)
    check = saved_model._check
    monkeypatch.setattr(
        saved_model, "_check", lambda path, model, pixels: check(path, other, pixels)
    )
    with pytest.raises(UserError, match="differs from the Keras model"):
        saved_model.write(exported[1], _manifest(), tmp_path / "out/1")
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.long
def test_logits_may_be_large(tmp_path):
    """Two classes nearly as probable, by logits of 242: float32 tells their probabilities less
    exactly than those of small ones.
    """
    keras.utils.set_random_seed(1)
    model = build_model("lenet5", 6)
    kernel = model.weights[-2]
    kernel.assign(1000 * np.asarray(kernel))
    settings = Settings("lenet5", Preprocessing(28, 32, 1, (120.0,), 64.0), list("abcdef"))
    assert saved_model.write(model, Manifest(settings), tmp_path / "1").is_dir()


# Runs the command with a conversion that has gone wrong in the way that the first argument says.
_GONE_WRONG = """
import os, pathlib, resource, signal, sys, runpy
from alexnet_tf.exports import tflite_metadata
complete, way = tflite_metadata.complete, sys.argv.pop(1)

def other(content, *rest):
    if way == "interrupted":
        # where tests run in the background, it is ignored
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.raise_signal(signal.SIGINT)
    if way == "full disk":
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
        return complete(content, *rest)
    return complete(open(way, "rb").read(), *rest)

tflite_metadata.complete = other
sys.argv = sys.argv[1:]
standard_error = os.dup(2)
# the bar of the comparison, and a line of the runtime's
os.dup2(os.open("said", os.O_CREAT | os.O_RDWR), 2)
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
finally:
    os.dup2(standard_error, 2)
    print(pathlib.Path("said").read_text().splitlines()[-1], file=sys.stderr)
    os.remove("said")
"""


@pytest.mark.long
@pytest.mark.parametrize(
    "way,status,message",
    [
        ("interrupted", 130, "stopped by Ctrl-C"),
        ("other.tflite", 2, "differs from"),
        ("full disk", 2, "--output=net.tflite cannot be written (File too large)"),
    ],
)
def test_a_conversion_gone_wrong_writes_nothing(run, exported, tmp_path, way, status, message):
    folder, _ = exported
    (tmp_path / "wrong.py").write_text(_GONE_WRONG)
    other = tf.function(
        lambda images: {"probabilities": tf.nn.softmax(-tf.reduce_mean(images, [1, 2]))}
    ).get_concrete_function(tf.TensorSpec([1, 67, 67, 3], tf.float32, name="images"))
    (tmp_path / "other.tflite").write_bytes(
        tf.lite.TFLiteConverter.from_concrete_functions([other], tf.Module()).convert()
    )
    (tmp_path / "net.tflite").write_text("what was there")
    line = run(
        "wrong.py",
        way,
        CONVERT,
        f"--saved_model={folder}/exports/1",
        "--output=net.tflite",
        cwd=tmp_path,
        status=status,
    )
    assert message in line
    assert (tmp_path / "net.tflite").read_text() == "what was there"
    assert sorted(os.listdir(tmp_path)) == ["net.tflite", "other.tflite", "wrong.py"]


@pytest.mark.parametrize("sizes", [[], [0], [True], ["8"], [1e9], [8, 10**6], {"8": 1}, None])
def test_batch_sizes_that_make_no_sense_are_refused(tmp_path, sizes):
    (tmp_path / "assets.extra").mkdir()
    file = tmp_path / "assets.extra/manifest.json"
    for serving in ({"allowed_batch_sizes": sizes}, [sizes]):
        file.write_text(json.dumps({"serving": serving}))
        with pytest.raises(UserError, match="manifest.json is not valid"):
            artifacts.allowed_batch_sizes(tmp_path)


def test_batch_sizes_are_those_of_the_manifest_or_the_usual(tmp_path):
    assert artifacts.allowed_batch_sizes(tmp_path) == (1, 2, 4, 8, 16, 32)
    (tmp_path / "assets.extra").mkdir()
    file = tmp_path / "assets.extra/manifest.json"
    for manifest, sizes in (
        ({}, (1, 2, 4, 8, 16, 32)),
        ({"serving": {"allowed_batch_sizes": [4, 2]}}, (2, 4)),
    ):
        file.write_text(json.dumps(manifest))
        assert artifacts.allowed_batch_sizes(tmp_path) == sizes
