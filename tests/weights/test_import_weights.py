"""The weights file, and the command that makes one of the weights of others."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
import weights_files
from binaries import call
from networks_of_others import (
    HALF,
    caffe_arrays,
    light,
    random_network,
    same,
    source_of,
    torchvision,
)

from alexnet_tf.commands import import_weights
from alexnet_tf.data import imagenet
from alexnet_tf.errors import UserError
from alexnet_tf.exports import card
from alexnet_tf.manifest import Manifest
from alexnet_tf.network.model import build_model
from alexnet_tf.preprocessing import Preprocessing
from alexnet_tf.settings import Settings
from alexnet_tf.training import checkpoints
from alexnet_tf.training.optimizer import SGD2012
from alexnet_tf.training.state import TrainingState
from alexnet_tf.weights import conversion, formats, layouts, published, pytorch
from alexnet_tf.weights.caffe import CAFFE_MEAN
from alexnet_tf.weights.contents import Weights

SAMPLES = weights_files.samples()
TOOL = weights_files.ROOT / "tools/import_weights.py"


def settings(**changes):
    return {
        "variant": "lenet5",
        "class_names": ["a", "b", "c"],
        "dropout_rate": 0.5,
        "versions": {},
        "commit": "",
        "preprocessing": {
            "image_size": 28,
            "resize": 32,
            "channels": 1,
            "mean": [100.0],
            "std": 128.0,
        },
        "flags": {"dataset": "shapes", "data_dir": None, "seed": 0},
        "source": {"published": None},
    } | changes


@pytest.fixture
def arrays(rng):
    return {
        weight.path: rng.standard_normal(weight.shape, np.float32)
        for weight in build_model("lenet5", 3).weights
    }


@pytest.mark.parametrize("dataset", [{"dataset": "shapes"}, {}], ids=["named", "of its user"])
def test_a_weights_file_is_a_model(tmp_path, arrays, dataset):
    of_file = settings(flags={"data_dir": None, "seed": 0} | dataset)
    checkpoints.write_weights_file(tmp_path / "net.npz", arrays, of_file)
    assert [path.name for path in tmp_path.iterdir()] == ["net.npz"]
    loaded = checkpoints.load_model(tmp_path / "net.npz")
    assert loaded.settings.to_json() == Settings.from_json(of_file).to_json()
    assert (loaded.step, loaded.figures, loaded.record) == (0, None, None)
    assert same({weight.path: np.asarray(weight.value) for weight in loaded.model.weights}, arrays)


@pytest.mark.parametrize(
    "change,message",
    [
        ({"class_names": ["a", "b"]}, "fc5/.* has the shape"),
        ({"variant": "vgg"}, "unknown"),
        ({"variant": "caffe"}, "image_size is 28, not a whole number from 67"),
        (
            {"class_names": [str(number) for number in range(50_001)]},
            "more than a weights file may",
        ),
        ({"class_names": None}, "not a weights file"),
        (
            {"preprocessing": settings()["preprocessing"] | {"image_size": 513, "resize": 600}},
            "more than a weights file may",
        ),
        ({"preprocessing": settings()["preprocessing"] | {"code": 1}}, "not a weights file"),
        ({"source": None}, "not a weights file"),
        ({"class_names": [1, 2, 3]}, "a class name is 1"),
        ({"versions": None}, "lack versions"),
        (
            {"preprocessing": settings()["preprocessing"] | {"image_size": 28.5}},
            "image_size is 28.5, not a whole number",
        ),
    ],
)
def test_settings_that_do_not_fit_are_refused(tmp_path, arrays, change, message):
    text = np.frombuffer(json.dumps(settings(**change)).encode(), np.uint8)
    with open(tmp_path / "net.npz", "wb") as stream:
        np.savez(stream, **arrays, **{"settings.json": text})
    with pytest.raises(UserError, match=message):
        checkpoints.load_model(tmp_path / "net.npz")


def test_files_of_others_are_refused_with_the_command_that_imports_them(tmp_path, monkeypatch):
    def line(name, arrays=None, triples=None):
        """What a command says that is given the file where a network of ours is meant."""
        path = tmp_path / name
        if arrays:
            path.write_bytes(b"")
            found = Weights(".pth", arrays, triples=triples or {})
            monkeypatch.setattr(formats, "parse", lambda *_: found)
        with pytest.raises(UserError) as error:
            checkpoints.load_model(path)
        return str(error.value)

    shutil.copy(weights_files.TESTDATA / "module.pth", tmp_path / "module.pth")
    assert "whole object of the class" in line("module.pth")
    assert "save model.state_dict() instead" in line("module.pth")
    (tmp_path / "net.onnx").write_bytes(b"\x08\x07\x12\x07pytorch")
    assert "such as an ONNX file or a mean of Caffe; pass a model dir" in line("net.onnx")
    shutil.copy(weights_files.TESTDATA / "state.pth", tmp_path / "state.pth")
    assert "is not an AlexNet as published: conv1 is" in line("state.pth")
    folder = tmp_path / "model/checkpoints/step-00000007"
    folder.mkdir(parents=True)
    (folder / "SHA256SUMS").write_text("")
    shutil.copy(weights_files.TESTDATA / "state.npz", folder / "weights.npz")
    told = line("model/checkpoints/step-00000007/weights.npz")
    assert told.endswith("which would describe its pixels; pass the model directory.")

    command = f"alexnet import-weights --source={tmp_path}/a.pth --output={tmp_path}/a.npz makes"
    assert command in line("a.pth", torchvision())
    (tmp_path / "a.npz").write_bytes(b"")
    assert f"--output={tmp_path}/a-imported.npz makes" in line("a.pth", torchvision())
    assert "--source='" in line("a b.pth", torchvision())
    assert "a.npz --variant=caffe (or caffenet" in line("a.pth", caffe_arrays()).replace(
        "-imported", ""
    )
    # which a checkpoint's are called, too
    assert f"--output={tmp_path}/weights.npz makes" in line("weights.pth", torchvision())
    assert "/weights-imported.npz makes one from it" in line("weights.npz", torchvision())
    told = line("a.pth", caffe_arrays(), HALF)
    assert "--variant=caffe --channel_order=rgb (or caffenet and bgr, whichever it is) m" in told


def test_a_weights_file_that_cannot_be_written_leaves_nothing(tmp_path, arrays):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"):
        checkpoints.write_weights_file(tmp_path / "file/net.npz", arrays, settings())
    with pytest.raises(UserError, match="is not written: .*fc5/bias .*not finite"):
        checkpoints.write_weights_file(
            tmp_path / "net.npz", arrays | {"fc5/bias": np.full(3, np.nan, np.float32)}, settings()
        )
    of_zeros = arrays | {"conv2/kernel": np.zeros_like(arrays["conv2/kernel"])}
    with pytest.raises(UserError, match="is not written: all of conv2/kernel is 0: it was never"):
        checkpoints.write_weights_file(tmp_path / "net.npz", of_zeros, settings())
    of_integers = {name: array.astype(np.int32) for name, array in arrays.items()}
    with pytest.raises(UserError, match="is not written: .* holds int32, but weights are float"):
        checkpoints.write_weights_file(tmp_path / "net.npz", of_integers, settings())
    del arrays["fc5/bias"]
    with pytest.raises(UserError, match="is not written: 'fc5/bias' is missing"):
        checkpoints.write_weights_file(tmp_path / "net.npz", arrays, settings())
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


@pytest.mark.long
def test_from_a_caffemodel_to_a_weights_file(run, tmp_path):
    network = random_network("caffe")
    layers = source_of(network, "caffe")
    (tmp_path / "net.caffemodel").write_bytes(
        weights_files.caffemodel(weights_files.caffe_layers(), layers)
    )
    run(TOOL, "--source=net.caffemodel", "--output=net.npz", "--json=figures.json", cwd=tmp_path)
    assert "named class 0 to class 999. --labels=FILE names them; --labels=imagenet" in run.notes
    assert "net.caffemodel does not say what its pixels are; assumed, as in Caffe's" in run.notes
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert (
        figures["variant"] == "caffe"
        and figures["parameters"] == 60_965_224
        and figures["classes"] == 1000
    )
    with np.load(tmp_path / "net.npz", allow_pickle=False) as stored:  # plain NumPy reads it
        assert same({name: stored[name] for name in stored if name != "settings.json"}, network)
        settings = json.loads(stored["settings.json"].tobytes())
        assert settings["class_names"] == [f"class {number}" for number in range(1000)]
        assert settings["flags"] == {"dataset": "folder", "data_dir": None, "seed": 0}
    run(TOOL, "--source=net.npz", "--labels=imagenet", "--output=named.npz", cwd=tmp_path)
    with np.load(tmp_path / "named.npz", allow_pickle=False) as stored:
        names = json.loads(stored["settings.json"].tobytes())["class_names"]
        assert len(names) == 1000 and names[0] == "tench (n01440764)"  # as the data set has them


@pytest.mark.long
def test_a_weights_file_is_exported_and_imported_again(run, tmp_path, arrays):
    checkpoints.write_weights_file(tmp_path / "net.npz", arrays, settings())
    run("-m", "alexnet_tf.export", "--model_dir=net.npz", "--output=exports", cwd=tmp_path)
    assert (tmp_path / "exports/1/assets/labels.txt").read_text().splitlines() == ["a", "b", "c"]
    assert "--labels=imagenet, but net.npz has 3 outputs, not 1000; pass --labels=FILE" in run(
        TOOL, "--source=net.npz", "--labels=imagenet", "--output=named.npz", cwd=tmp_path, status=2
    )
    (tmp_path / "names.txt").write_text("x\ny\nz\n")
    run(TOOL, "--source=net.npz", "--labels=names.txt", "--output=named.npz", cwd=tmp_path)
    assert checkpoints.load_model(tmp_path / "named.npz").settings.class_names == ("x", "y", "z")
    assert "1 already exists, with different class names; pass --version=next" in run(
        "-m",
        "alexnet_tf.export",
        "--model_dir=named.npz",
        "--output=exports",
        cwd=tmp_path,
        status=2,
    )


def test_a_checkpoint_is_imported_with_its_temperature(tmp_path, arrays):
    """Its weights alone would answer otherwise than the model directory does."""
    model, optimizer = build_model("lenet5", 3), SGD2012()
    for weight in model.weights:
        weight.assign(arrays[weight.path])
    optimizer.build(model.trainable_variables)
    checkpoints.write_settings(tmp_path / "model", settings())
    for step, temperature in ((7, 2.0), (9, 4.0)):
        state = TrainingState(step=step, temperature=temperature)
        checkpoints.save(tmp_path / "model", model, optimizer, state)
    file = tmp_path / "model/checkpoints/step-00000007/weights.npz"
    once = tmp_path / "new/once.npz"  # in a folder that is made
    call(import_weights, f"--source={file}", f"--output={once}")
    call(import_weights, f"--source={once}", f"--output={tmp_path}/again.npz")
    loaded = checkpoints.load_model(tmp_path / "again.npz")
    model = loaded.model
    assert loaded.settings.class_names == ("a", "b", "c")
    cooled = {
        name: array / 2 if name.startswith("fc5/") else array for name, array in arrays.items()
    }
    assert same({weight.path: np.asarray(weight.value) for weight in model.weights}, cooled)
    (file.parent / "state.json").write_text("{}")
    with pytest.raises(UserError, match="none of its 1 checkpoints can be read"):
        call(import_weights, f"--source={file}", f"--output={tmp_path}/no.npz")


def test_the_licence_of_weights_outlives_another_import(tmp_path, arrays, capsys):
    """Of weights of others, and of what was trained from them."""
    theirs = {"file": "theirs.pth", "sha256": "0", "licence": "BSD", "published": {"top_1": 0.5}}
    (tmp_path / "labels.txt").write_text("x\ny\nz\n")
    for others, told in (
        ({"source": theirs}, ("these are the weights of `theirs.pth`", "the publisher of the wei")),
        ({"pretrained": theirs}, ("Training started from weights by others: `theirs.pth`",)),
    ):
        checkpoints.write_weights_file(tmp_path / "0.npz", arrays, settings(**others))
        flags = f"--source={tmp_path}/0.npz", f"--output={tmp_path}/1.npz"
        call(import_weights, *flags, f"--labels={tmp_path}/labels.txt")
        call(import_weights, f"--source={tmp_path}/1.npz", f"--output={tmp_path}/2.npz")
        assert "grey in 0..255 minus (100)" in capsys.readouterr().out
        for name in ("0.npz", "1.npz", "2.npz"):
            loaded = checkpoints.load_model(tmp_path / name)
            found = loaded.settings
            assert found.descent == theirs
            of_it = card.text(Manifest(found, evaluation=loaded.figures), "keras")
            assert "license: bsd" in of_it and all(words in of_it for words in told)
        assert found.class_names == ("x", "y", "z")


def test_lines_of_labels_are_in_the_order_of_the_outputs(tmp_path, arrays, capsys):
    checkpoints.write_weights_file(tmp_path / "net.npz", arrays, settings())

    def names(text):
        (tmp_path / "labels.txt").write_text(text)
        flags = (f"--source={tmp_path}/net.npz", f"--output={tmp_path}/named.npz")
        call(import_weights, *flags, f"--labels={tmp_path}/labels.txt")
        return checkpoints.load_model(tmp_path / "named.npz").settings.class_names

    assert names("\ufeffcat \r\ndog\r\n\thorse\r\n") == ("cat", "dog", "horse")
    assert names("1 euro\n2 euro\n3 euro\n") == ("1 euro", "2 euro", "3 euro")
    for text in ("0 cat\n1 dog\n2 horse\n", "1: cat\n2: dog\n3: horse", "cat,0\ndog,1\nhorse,2\n"):
        assert names(text) == ("cat", "dog", "horse")
        assert "the number on each line is dropped from the name" in capsys.readouterr().err
    assert names("type 1\ntype 2\ntype 3\n") == ("type 1", "type 2", "type 3")
    assert names("10 m\n12 km\n13 kg\n") == ("10 m", "12 km", "13 kg")
    assert names("type 7\ntype 5\ntype 6\n") == ("type 7", "type 5", "type 6")
    for text in ("cat 2\ndog 0\nhorse 1\n", "2,cat\n1,dog\n3,horse\n", "n2 1\nn1 0\nn0 2\n"):
        with pytest.raises(UserError, match="numbered lines that are out of order; sort them"):
            names(text)
    with pytest.raises(
        UserError, match="labels.txt: the class name 'crane' is given to two output"
    ):
        names("crane\nhorse\ncrane\n")
    # one name a line, as ImageNet's are often published
    for text in (
        '["cat",\n"dog",\n"horse"]\n',
        "{0: 'cat',\n 1: 'dog',\n 2: 'horse'}",
        '{"0": ["n1", "cat"], "1": ["n2", "dog"], "2": ["n3", "horse"]}',
    ):
        with pytest.raises(UserError, match="labels.txt holds a list or a dict, .* one class name"):
            names(text)
    # as folders are sorted, whose names are numbers or end in one
    for text in (
        "0\n2\n1\n",
        "1\n3 a\n2 b\n",
        "type 3\ntype 1\ntype 2\n",
        "2 euro\n3 euro\n1 euro\n",
    ):
        assert names(text) == tuple(text.splitlines())
    (tmp_path / "labels.txt").write_text("cat\ndog\nhorse\n", "utf-16")
    with pytest.raises(UserError, match="labels.txt is not UTF-8 text; save it in UTF-8"):
        call(
            import_weights,
            f"--source={tmp_path}/net.npz",
            f"--output={tmp_path}/named.npz",
            f"--labels={tmp_path}/labels.txt",
        )


def test_labels_of_a_network_are_not_its_own_in_another_order(tmp_path, arrays):
    checkpoints.write_weights_file(tmp_path / "net.npz", arrays, settings())
    own = settings()["class_names"]

    def write(names):
        (tmp_path / "labels.txt").write_text("\n".join(names))
        flags = (f"--source={tmp_path}/net.npz", f"--output={tmp_path}/named.npz")
        call(import_weights, *flags, f"--labels={tmp_path}/labels.txt")
        return checkpoints.load_model(tmp_path / "named.npz").settings.class_names

    assert write(own) == tuple(own)
    assert write([own[1], own[0], "another"]) == (own[1], own[0], "another")
    with pytest.raises(UserError, match=f"output 1 is '{own[1]}' there, not '{own[2]}'; omit --l"):
        write([own[0], own[2], own[1]])


@pytest.fixture
def import_light(tmp_path, monkeypatch):
    """A function: the names of the classes that a network of so many outputs is written with."""
    written: list = []
    monkeypatch.setattr(checkpoints, "write_weights_file", lambda *given: written.append(given[2]))
    (tmp_path / "net.caffemodel").write_bytes(b"what parse finds below")
    (tmp_path / "net.npz").touch()

    def write(outputs, labels):
        found = Weights(".caffemodel", {"fc8.1": light(outputs)})
        pixels = Preprocessing(227, 256, 3, CAFFE_MEAN, 1.0)
        converted = layouts.Converted("caffe", {"fc8/bias": light(outputs)}, pixels)
        monkeypatch.setattr(formats, "parse", lambda content, source: found)
        monkeypatch.setattr(conversion, "convert", lambda *_: converted)
        if not isinstance(labels, str):
            (tmp_path / "labels.txt").write_text("\n".join(labels))
            labels = tmp_path / "labels.txt"
        flags = f"--source={tmp_path}/net.caffemodel", f"--output={tmp_path}/net.npz"
        call(import_weights, *flags, f"--labels={labels}")
        return written.pop()["class_names"]

    return write


def test_labels_of_a_published_file_are_not_in_another_order(import_light, monkeypatch):
    """Such as that of ImageNet's development kit: its outputs go by the ids of the synsets."""
    monkeypatch.setattr(published, "recognise", lambda _: (published.PUBLISHED[0], "0"))
    ids = list(imagenet.names_by_synset())
    assert import_light(1000, ids)[0] == "tench (n01440764)"
    assert import_light(1000, [f"{one} as Caffe has it" for one in ids])[0] == (
        "n01440764 as Caffe has it"
    )
    assert import_light(1000, ["a fish", *ids[1:]])[0] == "a fish"
    ids[:2] = reversed(ids[:2])
    for ending in ("", " as Caffe has it"):
        with pytest.raises(UserError, match="output 0 is 'tench .*' there, not 'n01443537"):
            import_light(1000, [f"{one}{ending}" for one in ids])


def test_outputs_of_which_one_is_the_background_are_called_as_the_labels_have_it(import_light):
    """As TF-Slim counted ImageNet's classes: with 1001 outputs there is no other way to say so."""
    with pytest.raises(UserError, match="has 1001 outputs: .*Pass --labels=FILE"):
        import_light(1001, "imagenet")
    names = ["background", *imagenet.readable(imagenet.names_by_synset())]
    assert import_light(1001, names) == names


@pytest.mark.parametrize(
    "arguments,message",
    [
        ((), "--source"),
        (("--source=no.npy", "--output=a.npz"), "no.npy does not exist"),
        (("--source=no.npy", "--output=a.h5"), "name a .npz file"),
        (
            ("--source=bad.pth", "--output=a.npz"),
            "bad.pth is a pickle that torch.save did not write",
        ),
        (("--source=half.pth", "--output=a.npz"), "half.pth is damaged"),
        (("--source=small.pth", "--output=a.npz"), "conv1 is"),
        (("--source=small.pth", "--output=a.npz", "--mean=x"), "--mean=x: give one number"),
        (
            ("--source=small.pth", "--output=a.npz", "--mean=0.485,0.456,0.406"),
            "give levels of 0..255, 123.675,116.28,103.53",
        ),
        (("--source=weights.npz", "--output=a.npz", "--std=2"), "omit --std"),
        (("--source=.", "--output=a.npz"), ". is not a model, but holds weights.npz"),
        (("--source=weights.npz", "--output=a.npz"), "pass the model directory"),
        (("--source=theirs/weights.npz", "--output=a.npz"), "is not an AlexNet as published: co"),
    ],
)
def test_mistakes_get_one_line_and_write_nothing(run, tmp_path, arguments, message):
    folder = tmp_path / "a/b/c"
    folder.mkdir(parents=True)
    (folder / "bad.pth").write_bytes(b"\x80\2cposix\nsystem\n.")
    (folder / "small.pth").write_bytes(SAMPLES["pth"][0])
    (folder / "half.pth").write_bytes(SAMPLES["pth"][0][:1500])
    np.savez(folder / "weights.npz", **{"conv1a/bias": light(48)})  # of a checkpoint
    (folder / "theirs").mkdir()
    (folder / "theirs/weights.npz").write_bytes(SAMPLES["npz"][0])
    before = sorted(tmp_path.rglob("*"))
    line = run(TOOL, *arguments, cwd=folder, status=2)
    assert message in line and line.startswith(f"python {TOOL}: ")
    assert sorted(tmp_path.rglob("*")) == before


def test_a_training_says_what_its_outputs_are_called(tmp_path, monkeypatch, capsys):
    """As scripts store it that train on torchvision's ImageFolder."""
    numbers = {"tulip": 2, "daisy": 0, "rose": 1}
    held = pytorch.torch_weights({"class_to_idx": numbers}, {})
    assert held.class_names == ("daisy", "rose", "tulip")
    for others in ({"a": 1, "b": 2}, {"a": "x", "b": 0}, {"a": [0], "b": 1}, {0: [0], 1: "a"}, {}):
        assert pytorch.torch_weights({"class_to_idx": others}, {}).class_names == ()
    in_order = ["daisy", "rose", "tulip"]
    for key, others in (
        ("idx_to_class", {number: name for name, number in numbers.items()}),
        ("idx_to_class", {str(number): name for name, number in numbers.items()}),
        ("classes", in_order),
        ("class_names", tuple(in_order)),
    ):
        told = {"args": {key: others, "classes": [0, 1, 2]}} if key != "classes" else {key: others}
        assert pytorch.torch_weights(told, {}).class_names == held.class_names
        both = told | {"class_to_idx": numbers}
        assert pytorch.torch_weights(both, {}).class_names == held.class_names
        other = told | {"class_to_idx": {"daisy": 1, "rose": 0, "tulip": 2}}  # which of the two?
        assert pytorch.torch_weights(other, {}).class_names == ()
    # folders that are called by numbers stand as texts do: 0, 1, 10, 11, 2, ...
    folders = tuple(sorted(map(str, range(12))))
    for key, others, expected in (
        ("class_to_idx", {name: number for number, name in enumerate(folders)}, folders),
        ("class_to_idx", {int(name): number for number, name in enumerate(folders)}, folders),
        ("idx_to_class", dict(enumerate(folders)), folders),
        ("idx_to_class", {str(number): int(name) for number, name in enumerate(folders)}, folders),
        ("classes", dict(enumerate(folders)), ()),  # which of the two are the numbers?
        ("classes", dict(enumerate("012")), ("0", "1", "2")),
    ):
        assert pytorch.torch_weights({key: others}, {}).class_names == expected
    found = Weights(
        ".pth",
        torchvision("state_dict.", classes=3),
        entries=("state_dict", "class_to_idx", "classes"),
        class_names=held.class_names,
    )
    (tmp_path / "net.pth").write_bytes(b"as the next line has it")
    monkeypatch.setattr(formats, "parse", lambda content, source: found)
    flags = f"--source={tmp_path}/net.pth", f"--output={tmp_path}/net.npz"
    call(import_weights, *flags)
    told = capsys.readouterr().err
    assert "have the names in the file: daisy to tulip." in told
    assert "not part of the network" not in told
    monkeypatch.undo()
    stored = formats.parse((tmp_path / "net.npz").read_bytes(), "net.npz").arrays["settings.json"]
    assert json.loads(bytes(stored))["class_names"] == ["daisy", "rose", "tulip"]
    monkeypatch.setattr(formats, "parse", lambda content, source: found)
    (tmp_path / "labels.txt").write_text("rose\ndaisy\ntulip\n")
    with pytest.raises(UserError, match="in another order: output 0 is 'daisy' there"):
        call(import_weights, *flags, f"--labels={tmp_path}/labels.txt")
    found = dataclasses.replace(found, class_names=("daisy", "rose"))
    monkeypatch.setattr(checkpoints, "write_weights_file", lambda *_: None)
    call(import_weights, *flags)
    told = capsys.readouterr().err
    assert "names 2 classes, and its network has 3 outputs; they are named class 0 to" in told
