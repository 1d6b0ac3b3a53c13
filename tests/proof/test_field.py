"""What people bring, as they meet it: by the commands, on drawn pictures, every answer asserted.

It prints a table at its end: the kind, the case, what came out. Kinds: 0 the headline path, 1
learning, A held-out pictures, B weights of others, C folders, D pictures, E every artifact where a
network is meant, F advice and paths, G clients, H provenance.

    .venv/bin/python -m pytest -s tests/proof/test_field.py -k "A-"
"""

import base64
import dataclasses
import gzip
import io
import json
import pathlib
import re
import shutil
import socket
import struct
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable

import numpy as np
import pytest
import weights_files
from conftest import ROOT
from networks_of_others import TORCHVISION_SHAPES
from PIL import Image

from alexnet_tf.data import shapes

CLASSES = ("daisy", "iris", "rose")
FAST = ("--variant=lenet5", "--xla=off", "--batch_size=6")


@dataclasses.dataclass
class Case:
    kind: str
    what: str
    check: Callable
    outcome: str = "not run, or failed"


CASES = []


def case(kind, what):
    """The function gets a Desk and returns what came out, in a few words."""

    def add(check):
        CASES.append(Case(kind, what, check))
        return check

    return add


def draw(number):
    return shapes.draw_jpeg("train", number)


def fill(folder, count, first=0, classes=CLASSES):
    """`count` pictures in each class folder, no two alike; returns `folder`."""
    for label, name in enumerate(classes):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(first, first + count):
            (folder / name / f"{number}.jpg").write_bytes(draw(10 * number + 3 * label))
    return folder


class Desk:
    """A folder and the commands in it. plain/ has 10 pictures of each class; model/ was trained on
    it, and saved/, net.tflite and net.npz are made of that.
    """

    def __init__(self, run, folder):
        self.folder, self._run = folder, run

    def __call__(self, command, *arguments, status=0):
        """What a command printed, or with a status its one line."""
        return self._run("-m", "alexnet_tf", command, *arguments, cwd=self.folder, status=status)

    def __truediv__(self, name):
        return self.folder / name

    @property
    def notes(self):
        return self._run.notes

    def script(self, text):
        (self / "script.py").write_text(text)
        return self._run("script.py", cwd=self.folder)

    def train(self, data_dir, model_dir, *flags, status=0):
        return self(
            "train",
            "--dataset=folder",
            f"--data_dir={data_dir}",
            f"--model_dir={model_dir}",
            *FAST,
            *(() if any(flag.startswith("--epochs") for flag in flags) else ("--epochs=1",)),
            *flags,
            status=status,
        )

    def evaluate(self, models, data_dir=None, *flags):
        on = () if data_dir is None else ("--dataset=folder", f"--data_dir={data_dir}")
        self("evaluate", f"--models={models}", *on, "--json=evaluated.json", *flags)
        return json.loads((self / "evaluated.json").read_text())

    def classify(self, model, *files):
        """{file: {class: probability}}."""
        printed = self("classify", f"--model={model}", *files)
        answers, file = {}, None
        for line in printed.splitlines():
            if match := re.fullmatch(r" +(\d\.\d+)  (.+)", line):
                answers[file][match[2]] = float(match[1])
            else:
                file = line
                answers[file] = {}
        return answers

    def settings(self, model_dir):
        return json.loads((self / model_dir / "settings.json").read_text())

    def record(self, model_dir):
        with np.load(self / model_dir / "pictures.npz") as stored:
            return {  # stored as differences
                name: set(np.cumsum(stored[name], dtype=np.uint64).tolist())
                for name in ("trained", "held_out")
            }


@pytest.fixture(scope="module")
def start(run, tmp_path_factory):
    desk = Desk(run, tmp_path_factory.mktemp("field"))
    fill(desk / "plain", 10)
    desk.train("plain", "model", "--epochs=2")
    desk("export", "--model_dir=model", "--output=saved")
    desk("convert", "--saved_model=saved", "--output=net.tflite")
    desk("import-weights", "--source=model", "--output=net.npz")
    return desk


@pytest.fixture
def desk(run, start, tmp_path):
    for name in ("plain", "model", "saved"):
        shutil.copytree(start / name, tmp_path / name)
    for name in ("net.tflite", "net.npz"):
        shutil.copy(start / name, tmp_path / name)
    return Desk(run, tmp_path)


@pytest.fixture(scope="module", autouse=True)
def table():
    yield
    width = max(len(one.what) for one in CASES)
    print()
    for one in CASES:
        print(f"  {one.kind}  {one.what:{width}}  {one.outcome}")


@case("0", "default flags, then finetune, and finetune of that")
def _(desk):
    flags = ("--dataset=folder", "--data_dir=plain", "--xla=off", "--epochs=2")
    desk("finetune", "--pretrained=model", "--model_dir=tuned", *flags)
    desk("finetune", "--pretrained=tuned", "--model_dir=again", *flags)
    first, second = desk.record("tuned"), desk.record("again")
    assert first == second == desk.record("model")
    figures = desk.evaluate("again")
    assert figures["examples"] == len(first["held_out"])
    assert figures["models"][0]["trained_on"] == 0
    return f"{figures['examples']} held out all along, none of them trained on"


@case("0", "the same fine-tuning a second time")
def _(desk):
    flags = ("--pretrained=model", "--dataset=folder", "--data_dir=plain", "--xla=off")
    desk("finetune", *flags, "--model_dir=tuned", "--epochs=1")
    before = {path: path.read_bytes() for path in (desk / "tuned/features").rglob("*.bin")}
    desk("finetune", *flags, "--model_dir=tuned", "--epochs=2")
    assert "pictures already exist" in desk.notes
    assert {path: path.read_bytes() for path in before} == before
    return "the features of the first are found again"


@case("0", "export, convert, classify and serve-config of what finetune wrote")
def _(desk):
    fill(desk / "others", 6, first=20, classes=("ant", "bee"))
    flags = ("--dataset=folder", "--data_dir=others", "--xla=off", "--epochs=1")
    desk("finetune", "--pretrained=model", "--model_dir=tuned", *flags)
    desk("export", "--model_dir=tuned", "--output=out")
    desk("convert", "--saved_model=out", "--output=tuned.tflite")
    answers = [
        desk.classify(model, "others/ant/20.jpg")["others/ant/20.jpg"]
        for model in ("tuned", "out", "tuned.tflite")
    ]
    assert answers[0] == answers[1] and answers[0].keys() == {"ant", "bee"}
    # Pillow decodes for devices, and its pixels of a JPEG may be one level away.
    assert answers[2] == pytest.approx(answers[0], abs=0.001)
    return "three forms, one answer"


@case("1", "a model of one's own with BatchNorm, stopped and gone on")
def _(desk):
    desk.script(
        """
import keras, numpy as np, alexnet_tf
from alexnet_tf.preprocessing import Preprocessing

dataset = alexnet_tf.open_dataset("folder", "plain")
pixels = Preprocessing(28, 32, 1, (120.0,), 1.0)

def trained(folder, *all_epochs):
    for epochs in all_epochs:
        keras.utils.set_random_seed(1)
        model = keras.Sequential([keras.Input((28, 28, 1)), keras.layers.Conv2D(4, 5, 4),
            keras.layers.BatchNormalization(), keras.layers.Flatten(), keras.layers.Dense(3)])
        network = alexnet_tf.train(folder, dataset, model=model, preprocessing=pixels, batch_size=6,
            epochs=epochs, learning_rate=0.001, xla="off", schedule="constant")
    return [np.asarray(one) for one in network.model.weights]

once, twice = trained("once", 2), trained("twice", 1, 2)
assert all(map(np.array_equal, once, twice))
mean, variance = once[4], once[5]
assert np.abs(mean).min() > 0.1 and np.abs(variance - 1).min() > 1, (mean, variance)
"""
    )
    return "learnt, the same bits after going on, whatever Keras calls the layers of the second"


@case("1", "a rate far too large")
def _(desk):
    desk.train("plain", "wild", "--learning_rate=1e6", "--epochs=3")
    assert "above that of guessing" in desk.notes and "the steps are too large" in desk.notes
    return "told that the steps are too large"


@case("A", "three added, one removed, one renamed, then evaluate")
def _(desk):
    before = desk.record("model")
    fill(desk / "plain", 1, first=77)
    (desk / "plain/iris/3.jpg").rename(desk / "plain/iris/another name.jpg")
    figures = desk.evaluate("model", "plain")
    assert figures["examples"] == len(before["held_out"]) + 3
    assert figures["models"][0]["trained_on"] == 0 and "3 that are new are evaluated" in desk.notes
    return f"{figures['examples']} judged: those held out and the three new ones"


@case("A", "the same, then train goes on and evaluate")
def _(desk):
    before = desk.record("model")
    fill(desk / "plain", 2, first=77)
    (desk / "plain/rose/3.jpg").unlink()
    desk.train("plain", "model", "--epochs=3")
    after = desk.record("model")
    assert before["held_out"] <= after["held_out"] and before["trained"] <= after["trained"]
    assert not after["trained"] & after["held_out"]
    assert desk.evaluate("model")["models"][0]["trained_on"] == 0
    return "nothing changed sides"


@case("A", "the folder moved and linked to")
def _(desk):
    (desk / "plain").rename(desk / "elsewhere")
    (desk / "link").symlink_to("elsewhere")
    figures = desk.evaluate("model", "link")
    assert figures["examples"] == len(desk.record("model")["held_out"])
    return "known by what the pictures are"


@case("A", "two nets of different seeds as an ensemble")
def _(desk):
    desk.train("plain", "other", "--seed=9")
    held = desk.record("model")["held_out"] & desk.record("other")["held_out"]
    if held:
        assert desk.evaluate("model,other")["examples"] == len(held)
    else:
        flags = ("--models=model,other", "--dataset=folder", "--data_dir=plain")
        assert "all of its 30 pictures were trained on" in desk("evaluate", *flags, status=2)
    return f"judged by the {len(held)} pictures that both held out"


@case("A", "two pictures of each class")
def _(desk):
    fill(desk / "two", 2, first=40)
    desk.train("two", "small", "--batch_size=3")
    figures = desk.evaluate("small")
    assert [row["pictures"] for row in figures["classes"]] == [1, 1, 1]
    return "one of each is kept for evaluation"


@case("A", "a class of one picture")
def _(desk):
    (fill(desk / "two", 2, first=40) / "rose/40.jpg").unlink()
    desk.train("two", "small", "--batch_size=3")
    assert "Not evaluated" in desk.notes and "rose" in desk.notes
    return "trained on, named as not evaluated"


@case("A", "convert, told to compare on training pictures")
def _(desk):
    trained = desk.record("model")["trained"]
    desk.script(
        f"""
import pathlib
from alexnet_tf.data import pictures
for path in pathlib.Path("plain").glob("*/*"):
    if pictures.identity(path.read_bytes()) not in {trained}:
        path.unlink()
"""
    )
    flags = ("--saved_model=saved", "--output=new.tflite", "--dataset=folder", "--data_dir=plain")
    desk("convert", *flags, "--json=figures.json")
    figures = json.loads((desk / "figures.json").read_text())
    assert "not checked" in figures["accuracy"]
    return "compared, and no accuracy is claimed"


# a prime number of them, so that no two rows are alike
DRAWN = np.random.default_rng(5).normal(0, 0.01, 100_003).astype(np.float16)


def torchvision(classes=3, prefix="", extra=(), last="classifier.6", dtype="F16"):
    """A .safetensors file in torchvision's layout, of drawn weights."""
    shapes_of = dict(TORCHVISION_SHAPES)
    del shapes_of["classifier.6"]
    shapes_of[last] = classes, 4096
    arrays = {}
    for name, shape in shapes_of.items():
        arrays[f"{prefix}{name}.weight"] = np.resize(DRAWN, shape)
        arrays[f"{prefix}{name}.bias"] = np.zeros(shape[0], np.float16)
    arrays[f"{prefix}{last}.bias"] = np.arange(classes).astype(np.float16)
    arrays |= dict(extra)
    header, place = {}, 0
    for name, array in arrays.items():
        header[name] = {
            "dtype": dtype,
            "shape": list(array.shape),
            "data_offsets": [place, place + array.nbytes],
        }
        place += array.nbytes
    header = json.dumps(header).encode()
    return struct.pack("<Q", len(header)) + header + b"".join(map(bytes, arrays.values()))


def imported(desk, content, *flags, name="theirs.safetensors", status=0):
    (desk / name).write_bytes(content)
    line = desk("import-weights", f"--source={name}", "--output=ours.npz", *flags, status=status)
    if status:
        assert not (desk / "ours.npz").exists()
        return line
    with np.load(desk / "ours.npz") as stored:
        return json.loads(stored["settings.json"].tobytes()), stored["fc8/bias"].tolist()


@case("B", "torch.compile within DataParallel, 3 classes")
def _(desk):
    settings, bias = imported(desk, torchvision(prefix="_orig_mod.module."))
    assert bias == [0, 1, 2] and settings["class_names"] == ["class 0", "class 1", "class 2"]
    answers = desk.classify("ours.npz", "plain/daisy/0.jpg")["plain/daisy/0.jpg"]
    assert answers.keys() == set(settings["class_names"])
    return "read and used"


@case("B", "a layer on top of the last")
def _(desk):
    top = {
        "classifier.8.weight": np.zeros((5, 3), np.float16),
        "classifier.8.bias": np.zeros(5, np.float16),
    }
    line = imported(desk, torchvision(extra=top), status=2)
    assert "classifier.8" in line
    return "refused, named"


@case("B", "BatchNorm between the layers")
def _(desk):
    norm = {f"features.1.{name}": np.ones(64, np.float16) for name in ("weight", "running_mean")}
    assert "features.1" in imported(desk, torchvision(extra=norm), status=2)
    return "refused, named"


@case("B", "mean, std and scale stated by the user")
def _(desk):
    flags = ("--mean=127.5,127.5,127.5", "--std=127.5", "--resize=232")
    pixels = imported(desk, torchvision(), *flags)[0]["preprocessing"]
    assert (pixels["mean"], pixels["std"], pixels["resize"]) == ([127.5] * 3, 127.5, 232)
    return "obeyed"


@case("B", "a download that was cut off")
def _(desk):
    line = imported(desk, torchvision()[:-1000], status=2)
    assert "theirs.safetensors" in line and "damaged" in line
    return "said to be damaged"


@case("B", "Caffe with BatchNorm and Scale")
def _(desk):
    layers = weights_files.caffe_layers()
    layers[1:1] = [("bn1", "BatchNorm", "conv1", ""), ("sc1", "Scale", "bn1", "")]
    shapes_of = {"conv1": (96, 3, 11, 11), "fc8": (1000, 4096), "bn1": (96,), "sc1": (96,)}
    arrays = {
        name: [np.resize(DRAWN, shape).astype(np.float32), np.ones(shape[0], np.float32)]
        for name, shape in shapes_of.items()
    }
    line = imported(desk, weights_files.caffemodel(layers, arrays), name="bn.caffemodel", status=2)
    assert "bn1" in line or "BatchNorm" in line
    return "refused, named"


@case("C", "class folders that are called train, test and val")
def _(desk):
    fill(desk / "odd", 5, classes=("train", "test", "val"))
    line = desk.train("odd", "classes", status=2)
    assert "splits, or classes? Pass --train_split=. if they are classes" in line
    desk.train("odd", "classes", "--train_split=.")
    assert desk.settings("classes")["class_names"] == ["test", "train", "val"]
    assert desk.evaluate("classes")["models"][0]["trained_on"] == 0
    return "asked; then three classes"


@case("C", "train_set and test_set, as the line says")
def _(desk):
    fill(desk / "set/train_set", 4)
    fill(desk / "set/test_set", 2, first=50)
    line = desk.train("set", "named", status=2)
    flags = re.search(r"or (--train_split=\S+) and (--test_split=\S+) if", line).groups()
    desk.train("set", "named", *flags)
    assert desk.settings("named")["class_names"] == list(CLASSES)
    assert desk.evaluate("named")["examples"] == 6
    return "the flags of the line work"


@case("C", "one folder too high, as the line says")
def _(desk):
    fill(desk / "wrapped/archive/data", 5)
    line = desk.train("wrapped", "high", status=2)
    desk.train(re.search(r"pass --data_dir=(\S+), which", line)[1], "high")
    assert desk.settings("high")["class_names"] == list(CLASSES)
    return "the folder of the line works"


@case("C", "all pictures saved anew after the training")
def _(desk):
    for path in (desk / "plain").glob("*/*.jpg"):
        Image.open(path).save(path, quality=80)
    assert desk.evaluate("model", "plain")["examples"] == 30
    return "all judged, as others"


@case("C", "a picture in two classes, hidden ones, and a class that begins with a dot")
def _(desk):
    fill(desk / "set", 4)
    fill(desk / "set", 2, first=50, classes=(".net",))
    shutil.copy(desk / "set/iris/1.jpg", desk / "set/rose/1 copy.jpg")
    desk.train("set", "told")
    assert "2 hidden pictures (first .net/50.jpg)" in desk.notes
    assert "2 pictures of set are in more than one class" in desk.notes
    return "told"


@case("C", "TRAIN/ and Validation/, pictures in folders in folders")
def _(desk):
    fill(desk / "set/TRAIN", 3)
    fill(desk / "set/Validation", 2, first=50)
    (desk / "set/TRAIN/iris/2023/may").mkdir(parents=True)
    (desk / "set/TRAIN/iris/0.jpg").rename(desk / "set/TRAIN/iris/2023/may/0.jpg")
    desk.train("set", "nested")
    assert "9 pictures to train, 6 to evaluate (Validation)" in desk.notes
    return "9 to train, 6 to evaluate"


@case("C", "train, val and test")
def _(desk):
    fill(desk / "set/train", 4)
    fill(desk / "set/val", 2, first=50)
    fill(desk / "set/test", 3, first=60)
    desk.train("set", "three")
    figures = desk.evaluate("three")
    assert figures["examples"] == 9
    return "test/ is what is reported"


@case("C", "a folder that is linked into itself, and class folders that are links")
def _(desk):
    fill(desk / "set", 6)
    (desk / "set/iris/up").symlink_to("..")
    (desk / "links").mkdir()
    for name in CLASSES:
        (desk / "links" / name).symlink_to(f"../plain/{name}")
    desk.train("set", "looped", status=0)
    count = int(re.search(r"folder: (\d+) pictures to train, (\d+)", desk.notes)[1])
    held = int(re.search(r"folder: (\d+) pictures to train, (\d+)", desk.notes)[2])
    assert count + held == 18
    assert desk.evaluate("model", "links")["examples"] == len(desk.record("model")["held_out"])
    return "each picture once, in the class nearest above"


@case("C", "telephone pictures, strays, dead links and lists beside the pictures")
def _(desk):
    fill(desk / "set", 5)
    for number in range(3):
        (desk / f"set/iris/p{number}.HEIC").write_bytes(b"\0\0\0\x18ftypheic")
    (desk / "set/labels.csv").write_text("a")
    (desk / "set/stray.jpg").write_bytes(draw(1))
    (desk / "set/rose/dead.jpg").symlink_to("nowhere.jpg")
    desk.train("set", "told")
    for part in ("3 files of .heic", "1 file of .csv", "stray.jpg", "dead.jpg"):
        assert part in desk.notes, part
    figures = desk.evaluate("model", "set")
    assert "dead.jpg" in desk.notes and figures["bad_pictures"] == 1
    return "each kind told, by train and by evaluate"


@case("C", "evaluate on an evaluation split alone")
def _(desk):
    fill(desk / "set/Testing", 3, first=50)
    assert desk.evaluate("saved", "set")["examples"] == 9
    return "all nine"


@case("C", "evaluate on class folders that were never trained on")
def _(desk):
    fill(desk / "set", 4, first=50)
    figures = [desk.evaluate(model, "set")["examples"] for model in ("net.npz", "net.tflite")]
    assert figures == [12, 12]
    return "all twelve, not a tenth"


@case("C", "blanks and another Unicode form in the names of classes")
def _(desk):
    fill(desk / "set/train", 4, classes=("cafe\u0301", "the "))
    fill(desk / "set/test", 2, first=50, classes=("caf\u00e9", "the"))
    desk.train("set", "names", "--batch_size=4")
    assert desk.settings("names")["class_names"] == ["caf\u00e9", "the"]
    assert desk.evaluate("names")["examples"] == 4
    return "the same classes"


def upright():
    """A picture, RGB [60, 90, 3], whose quarters differ."""
    return Image.open(io.BytesIO(draw(4))).convert("RGB").resize((90, 60))


def write_kinds(folder):
    """One picture in lossless kinds of file, turned and not; returns the names."""
    folder.mkdir()
    image = upright()
    for orientation in range(1, 9):
        back = {
            2: Image.Transpose.FLIP_LEFT_RIGHT,
            3: Image.Transpose.ROTATE_180,
            4: Image.Transpose.FLIP_TOP_BOTTOM,
            5: Image.Transpose.TRANSPOSE,
            6: Image.Transpose.ROTATE_90,
            7: Image.Transpose.TRANSVERSE,
            8: Image.Transpose.ROTATE_270,
        }.get(orientation)
        stored = image.transpose(back) if back is not None else image
        tag = Image.Exif()
        tag[0x112] = orientation
        stored.save(folder / f"{orientation}.png", exif=tag)
        stored.save(folder / f"{orientation}.webp", lossless=True, exif=tag)
    image.save(folder / "plain.bmp")
    image.save(folder / "png without an ending", "PNG")
    image.save(folder / "png.jfif", "PNG")
    return sorted(str(path.relative_to(folder.parent)) for path in folder.iterdir())


@case("D", "one picture in 19 files: turned, PNG, WebP, BMP, wrong ending or none")
def _(desk):
    names = write_kinds(desk / "kinds")
    answers = {}
    for model in ("model", "saved", "net.tflite", "net.npz"):
        answers[model] = desk.classify(model, *names)
        assert len(answers[model]) == 19
        assert len({tuple(one.items()) for one in answers[model].values()}) == 1, answers[model]
    assert len({tuple(one[names[0]].items()) for one in answers.values()}) == 1
    return "one answer, by four forms of the network"


@case("D", "black drawings on transparent ground")
def _(desk):
    grey = np.asarray(upright().convert("L"))
    clear = np.zeros((*grey.shape, 4), np.uint8)
    clear[..., 3] = 255 - grey  # laid on white it is the grey picture
    Image.fromarray(clear).save(desk / "clear.png")
    Image.fromarray(grey).save(desk / "grey.png")
    for model in ("saved", "net.tflite"):
        answers = desk.classify(model, "clear.png", "grey.png")
        assert answers["clear.png"] == answers["grey.png"]
    return "as on white"


@case("D", "palettes: PNG, BMP, GIF")
def _(desk):
    few = upright().quantize(16)
    for ending in ("png", "bmp", "gif"):
        few.save(desk / f"few.{ending}")
    few.convert("RGB").save(desk / "full.png")
    names = ["few.png", "few.bmp", "few.gif", "full.png"]
    answers = desk.classify("saved", *names)
    assert len({tuple(one.items()) for one in answers.values()}) == 1
    return "as their colours"


@case("D", "evaluate on odd kinds, by every form of the network")
def _(desk):
    for label, name in enumerate(CLASSES):
        for part in write_kinds(desk / f"kinds{label}"):
            target = desk / "set" / name / pathlib.Path(part).name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(desk / part, target)
    figures = [desk.evaluate(model, "set") for model in ("model", "saved", "net.tflite")]
    assert [one["examples"] for one in figures] == [57] * 3
    losses = [one["loss"] for one in figures]
    np.testing.assert_allclose(losses, losses[0], rtol=1e-4)
    assert abs(figures[0]["top_1"] - 1 / 3) < 1e-6  # one picture, said to be of three classes
    return "one loss, one third right"


@case("D", "TIFF: classify, then as the line says")
def _(desk):
    upright().save(desk / "a.tiff")
    line = desk("classify", "--model=saved", "a.tiff", status=2)
    assert "TIFF" in line and "save it as JPEG or PNG" in line
    Image.open(desk / "a.tiff").save(desk / "a.png")
    assert desk.classify("saved", "a.png")["a.png"].keys() == set(CLASSES)
    return "named; saved as PNG it is read"


@case("D", "a folder of TIFF: train, then as the line says")
def _(desk):
    for label, name in enumerate(CLASSES):
        for number in range(6):
            path = desk / f"set/{name}/{number}.tif"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((40, 50, 3), 80 * label + number, np.uint8)).save(path)
    line = desk.train("set", "tiff", status=2)
    assert ".tif" in line and "prepare" in line
    desk("prepare", "--dataset=folder", "--data_dir=set", "--output=stored")
    desk.train("stored", "tiff")
    assert desk.settings("tiff")["class_names"] == list(CLASSES)
    return "named with prepare, which stores them"


@case("E", "evaluate of five forms of one network")
def _(desk):
    forms = ("model", "net.npz", "saved", "saved/1", "net.tflite")
    losses = [desk.evaluate(form, "plain")["loss"] for form in forms]
    np.testing.assert_allclose(losses, losses[0], rtol=1e-5)
    return "one loss"


@case("E", "convert with pictures of other classes")
def _(desk):
    fill(desk / "zoo", 4, first=50, classes=("ant", "bee"))
    flags = ("--saved_model=saved", "--output=new.tflite", "--dataset=folder", "--data_dir=zoo")
    desk("convert", *flags, "--json=figures.json")
    figures = json.loads((desk / "figures.json").read_text())
    assert figures["pictures compared"] >= 1 and "not checked" in figures["accuracy"]
    assert "accuracy is not" in desk.notes
    return "compared; the accuracy said to be unchecked"


@case("E", "convert where the pictures are gone")
def _(desk):
    shutil.rmtree(desk / "plain")
    desk("export", "--model_dir=net.npz", "--output=from_npz")
    settings = json.loads((desk / "from_npz/1/assets.extra/manifest.json").read_text())
    where = settings["training"]["flags"]["data_dir"]
    if where and pathlib.Path(where).exists():  # the folder that they were copied from
        return "not gone"
    desk("convert", "--saved_model=from_npz", "--output=new.tflite")
    assert "drawn pictures" in desk.notes
    return "compared on drawn ones"


@case("E", "finetune from an export, and from .tflite")
def _(desk):
    fill(desk / "zoo", 6, first=50, classes=("ant", "bee"))
    flags = ("--dataset=folder", "--data_dir=zoo", "--xla=off", "--epochs=1")
    desk("finetune", "--pretrained=saved", "--model_dir=tuned", *flags)
    assert desk.record("tuned")["trained"] > desk.record("model")["trained"]
    line = desk("finetune", "--pretrained=net.tflite", "--model_dir=other", *flags, status=2)
    assert "pass the model directory or the export" in line and not (desk / "other").exists()
    return "works; refused with what to pass"


@case("F", "damaged pictures: replaced and removed, then on")
def _(desk):
    known = sorted((desk / "plain/iris").iterdir())
    for path in known[:3]:
        path.write_bytes(b"gone")
    line = desk.train("plain", "model", "--epochs=3", "--max_bad_pictures=2", status=2)
    assert "3 pictures cannot be read" in line
    known[0].write_bytes(draw(999))
    known[1].unlink()
    known[2].unlink()
    desk.train("plain", "model", "--epochs=3", "--max_bad_pictures=0")
    assert "continuing from step" in desk.notes
    return "goes on"


@case("F", "evaluate beside damaged pictures")
def _(desk):
    fill(desk / "set", 3, first=50)
    (desk / "set/iris/bad.jpg").write_bytes(b"no picture")
    figures = desk.evaluate("model", "set")
    assert (figures["examples"], figures["bad_pictures"]) == (9, 1)
    assert "bad.jpg" in desk.notes
    return "nine judged, one named and counted"


@case("F", "~ in every path of the way")
def _(desk):
    home = pathlib.Path.home()
    where = home / ".cache/alexnet_tf_field"
    shutil.rmtree(where, ignore_errors=True)
    where.parent.mkdir(exist_ok=True)
    shutil.copytree(desk / "plain", where / "plain")
    at = "~/.cache/alexnet_tf_field"
    try:
        desk.train(f"{at}/plain", f"{at}/model")
        desk("export", f"--model_dir={at}/model", f"--output={at}/saved")
        desk("convert", f"--saved_model={at}/saved", f"--output={at}/net.tflite")
        desk.evaluate(f"{at}/model,{at}/net.tflite")
        desk("classify", f"--model={at}/net.tflite", f"{at}/plain/iris/1.jpg")
        assert not (desk / "~").exists() and (where / "net.tflite").exists()
    finally:
        shutil.rmtree(where)
    return "expanded"


@case("F", "addresses where a path is meant")
def _(desk):
    before = sorted(desk.folder.iterdir())
    for command, *arguments in (
        ("convert", "--saved_model=saved", "--output=gs://b/x.tflite"),
        ("import-weights", "--source=https://host/x.pth", "--output=x.npz"),
        ("serve", "--saved_model=s3://b/x"),
        ("evaluate", "--models=model,gs://b/model"),
        ("describe", "--picture=hdfs://b/x.png"),
    ):
        line = desk(command, *arguments, status=2)
        assert "://" in line, line
    assert sorted(desk.folder.iterdir()) == before
    return "one line each, nothing written"


@case("F", "the advice of a run that does not learn")
def _(desk):
    for name in CLASSES:  # the same grey for all
        for number in range(6):
            path = desk / f"set/{name}/{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            level = np.full((32, 32), 120, np.uint8)
            level[0, 0] = 10 * number + len(name)
            Image.fromarray(level).save(path)
    # a hundred steps are evidence, if they are small enough for the loss to stay where it is
    desk.train("set", "grey", "--epochs=55", "--learning_rate=0.001")
    advice = re.search(r"What may help: (.*)\.\s", desk.notes)
    assert advice and "init=source2012" not in advice[1], desk.notes
    flags = [f"--{name}={value}" for name, value in re.findall(r"(\w+)=([\w.]+)", advice[1])]
    assert flags
    desk.train("set", "grey2", "--epochs=3", *flags)
    return f"can be followed: {' '.join(flags)}"


def port():
    with socket.create_server(("127.0.0.1", 0)) as one:
        return one.getsockname()[1]


@case("G", "gzip and base64 with line breaks, against classify")
def _(desk):
    rest, grpc = port(), port()
    server = subprocess.Popen(
        [
            desk._run.programs.folder / "alexnet",
            "serve",
            "--saved_model=saved",
            f"--port={grpc}",
            f"--rest_api_port={rest}",
        ],
        cwd=desk.folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        for line in server.stdout:
            if str(rest) in line:
                break
        picture = (desk / "plain/iris/1.jpg").read_bytes()
        text = base64.encodebytes(picture).decode()
        assert text.count("\n") > 10

        def ask(instances):
            request = urllib.request.Request(
                f"http://127.0.0.1:{rest}/v1/models/alexnet:predict",
                gzip.compress(json.dumps({"instances": instances}).encode()),
                {"Content-Encoding": "gzip", "Content-Type": "application/json"},
            )
            return json.load(urllib.request.urlopen(request))["predictions"]

        (answer,) = ask([{"b64": text}])
        with pytest.raises(urllib.error.HTTPError) as refused:
            ask([{"b64": base64.b64encode(b"no picture").decode()}])
        told = refused.value.read().decode()
    finally:
        server.terminate()
        server.communicate()
    probabilities = answer["probabilities"] if isinstance(answer, dict) else answer
    wanted = desk.classify("saved", "plain/iris/1.jpg")["plain/iris/1.jpg"]
    wanted = [wanted[name] for name in CLASSES]
    np.testing.assert_allclose(probabilities, wanted, atol=1e-4)
    assert refused.value.code == 400 and "{{" not in told and "[[" not in told
    return "the answer of classify; errors without names of nodes"


@case("G", "TF_CONFIG with a chief and a quoted index")
def _(desk):
    config = {"cluster": {"chief": [f"127.0.0.1:{port()}"]}, "task": {"type": "chief"}}
    config["task"]["index"] = "0"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TF_CONFIG", json.dumps(config))
        desk.train("plain", "chief")
    assert desk.evaluate("chief")["models"][0]["trained_on"] == 0
    return "trains"


@case("H", "a user's own repository around the run")
def _(desk):
    git = ("git", "-c", "user.name=a", "-c", "user.email=a@b")
    for arguments in (("init", "-q"), ("commit", "-q", "--allow-empty", "-m", "theirs")):
        subprocess.run([*git, *arguments], cwd=desk.folder, check=True)
    describe = ("git", "describe", "--always", "--dirty")
    theirs = subprocess.check_output(describe, cwd=desk.folder, text=True).strip()
    ours = subprocess.run(describe, cwd=ROOT, capture_output=True, text=True).stdout.strip()
    desk.train("plain", "new")
    assert desk.settings("new").get("commit") in (ours, None) and theirs != ours
    return "the project's commit or none"


@pytest.mark.parametrize("one", CASES, ids=[f"{one.kind}-{one.what}" for one in CASES])
def test_field(one, desk):
    one.outcome = one.check(desk)
