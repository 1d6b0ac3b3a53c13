"""A .tflite file is opened and classifies without TensorFlow: what it says, what is refused, and
what the command does with one picture, a folder, and names on standard input.
"""

import concurrent.futures
import io
import json
import os
import threading
import types
import zipfile

import flatbuffers
import numpy as np
import pytest
from binaries import call
from PIL import Image
from tensorflow.lite.python import schema_py_generated as schema
from tflite_files import COLOURS, PIXELS, colour_content

from alexnet_tf import archives, classifiers, networks
from alexnet_tf.commands import classify as command
from alexnet_tf.edge import tflite
from alexnet_tf.errors import UserError


@pytest.fixture(scope="module")
def content():
    return colour_content()


@pytest.fixture
def world(content, tmp_path, monkeypatch):
    """The current folder: net.tflite, red.png, blue.jpg and folder/ with both."""
    (tmp_path / "folder/deep").mkdir(parents=True)
    Image.new("RGB", (90, 120), "red").save(tmp_path / "red.png")
    Image.new("RGB", (90, 120), "blue").save(tmp_path / "blue.jpg")
    os.link(tmp_path / "red.png", tmp_path / "folder/red.png")
    os.link(tmp_path / "blue.jpg", tmp_path / "folder/deep/blue.jpg")
    (tmp_path / "net.tflite").write_bytes(content)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def classify(world, monkeypatch, capsys):
    """Runs `alexnet classify --model=net.tflite` here; returns what it printed."""

    def run(*arguments, named=b""):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(named)))
        call(command, "--model=net.tflite", *arguments)
        return capsys.readouterr().out

    return run


def lines_of(text):
    return [json.loads(line) for line in text.splitlines()]


def best_of(text):
    """{picture: best class} of JSON lines."""
    return {line["picture"]: line["classes"][0][0] for line in lines_of(text)}


def test_answers_are_those_of_tensorflow(world, rng):
    network, file = networks.load("net.tflite"), tflite.Tflite("net.tflite", threads=1)
    for number in range(5):
        levels = rng.integers(0, 256, (100 + 40 * number, 150, 3), np.uint8)
        levels[..., number % 3] //= 3
        Image.fromarray(levels).save("noise.png")
        with open("noise.png", "rb") as stream:
            ours = file.classify(stream.read())
        theirs = network.classify("noise.png")
        assert [name for name, _ in ours] == [name for name, _ in theirs]
        for (_, probability), (_, expected) in zip(ours, theirs, strict=True):
            assert probability == pytest.approx(expected, abs=1e-2)  # a level is 1/64 nats
    assert file.labels == list(COLOURS) and file.pixels == PIXELS and file.threads == 1


def test_the_crop_stands_in_the_metadata(content):
    model = schema.Model.GetRootAs(content)
    (entry,) = (
        entry
        for entry in map(model.Metadata, range(model.MetadataLength()))
        if entry.Name() == b"TFLITE_METADATA"
    )
    metadata = model.Buffers(entry.Buffer()).DataAsNumpy().tobytes()

    def field(table, number):
        return table.Offset(4 + 2 * number) + table.Pos

    def first(table, number):
        """The first table of the vector that is a table's field."""
        begin = table.Vector(field(table, number) - table.Pos)
        return flatbuffers.table.Table(table.Bytes, table.Indirect(begin))

    root = flatbuffers.table.Table(
        metadata, flatbuffers.encode.Get(flatbuffers.packer.uoffset, metadata, 0)
    )
    custom = first(first(root, 3), 9)
    assert custom.String(field(custom, 0)) == b"preprocessing"
    begin, length = (of(field(custom, 1) - custom.Pos) for of in (custom.Vector, custom.VectorLen))
    assert json.loads(metadata[begin : begin + length]) == {
        "resize": 77,
        "image_size": 67,
        "channels": 3,
        "mean": [0.0, 0.0, 0.0],
        "std": 1.0,
    }
    manifest = first(root, 6)
    assert manifest.String(field(manifest, 0)) == b"manifest.json"
    assert b"67 x 67 pixels of a picture whose shorter side was scaled to 77" in metadata


def test_a_picture_a_folder_and_names(classify):
    printed = classify("red.png", "blue.jpg").splitlines()
    assert printed[0] == "red.png" and printed[1].endswith("  red")
    assert len(printed) == 8 and printed[5].endswith("  blue")  # three classes of each
    assert sum(float(line.split()[0]) for line in printed[1:4]) == pytest.approx(1, abs=1e-3)
    both = {"folder/deep/blue.jpg": "blue", "folder/red.png": "red"}
    assert best_of(classify("--json_lines", "folder")) == both
    named = b"red.png\n\nfolder/deep/blue.jpg\r\n"
    assert best_of(classify("--json_lines", "-", named=named)) == {
        "red.png": "red",
        "folder/deep/blue.jpg": "blue",
    }
    classify("--json=answers.json", "red.png", "folder")
    with open("answers.json") as stream:
        answers = json.load(stream)
    assert {name: classes[0][0] for name, classes in answers.items()} == both | {"red.png": "red"}


def test_what_cannot_be_read_is_told_and_the_others_are_answered(classify, capsys):
    with open("folder/cut.jpg", "wb") as stream:
        stream.write(b"\xff\xd8\xff\xe0")
    with open("folder/notes.txt", "w") as stream:
        stream.write("no picture")
    with pytest.raises(UserError, match=r"^1 of 3 pictures could not be classified"):
        classify("folder", "--json=answers.json")
    told = capsys.readouterr()
    assert "folder/red.png" in told.out and "folder/deep/blue.jpg" in told.out
    one, another = told.err.splitlines()
    assert one == "folder: not used: 1 file of .txt (first notes.txt)."
    assert another.startswith("folder/cut.jpg does not decode as a picture (a damaged JPEG file")
    with open("answers.json") as stream:
        answers = json.load(stream)
    assert len(answers) == 3 and list(answers["folder/cut.jpg"]) == ["error"]
    with pytest.raises(UserError, match=r"^2 of 3 pictures could not be classified"):
        classify("--json_lines", "-", named=b"gone.jpg\nred.png\nfolder\n")
    gone, red, folder = lines_of(capsys.readouterr().out)
    assert gone == {
        "picture": "gone.jpg",
        "error": "cannot be read (No such file or directory).",
    }
    assert red["classes"][0][0] == "red" and "Is a directory" in folder["error"]


@pytest.mark.parametrize(
    "arguments,message",
    [
        ([], "No picture given; pass the paths of"),
        (["gone.jpg"], r"^gone.jpg does not exist"),
        (["net.tflite"], r"net.tflite does not decode as a picture \(neither JPEG"),
        (["net.tflite", "red.png"], "^1 of 2 pictures could not be classified"),
        (["-"], "No picture was named on standard input"),
        (["empty"], r"No picture \(.jpg, .*\) in empty"),
        (["--model=red.png", "--threads=1", "red.png"], "--threads=1 is for a .tflite file"),
        (["--model=folder", "--repeat=9", "red.png"], "--repeat=9 is for a .tflite file"),
    ],
)
def test_mistakes(classify, arguments, message):
    os.mkdir("empty")
    with pytest.raises(UserError, match=message):
        classify(*arguments)


def test_a_name_whose_answer_is_replaced_is_told(world, monkeypatch, capsys):
    def names():
        yield b"red.png\n"
        yield b"blue.jpg\n"
        yield b"blue.jpg\n"
        os.replace("blue.jpg", "red.png")  # as a camera writes over its last picture
        yield b"red.png\n"

    monkeypatch.setattr("sys.stdin", types.SimpleNamespace(buffer=names()))
    call(command, "--model=net.tflite", "--json=answers.json", "-")
    answers = json.loads((world / "answers.json").read_text())
    assert [answer[0][0] for answer in answers.values()] == ["blue", "blue"]
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(
        "json=answers.json keeps only the last answer for each name that came ag"
    )
    assert "(1, such as red.png); --json_lines prints all" in line


def test_a_least_probability_beyond_eight_bits_is_no_fault_of_the_picture(classify):
    with open("eight.tflite", "wb") as file:
        file.write(colour_content(quantized=True))
    asked = "--model=eight.tflite", "--min_probability=0.999"
    for pictures in ["red.png"], ["folder"]:
        with pytest.raises(
            UserError, match="^min_probability=0.999: the 8-bit output of eight.tflite reaches"
        ):
            classify(*asked, *pictures)


@pytest.mark.parametrize("named", [b"red.png\0blue.jpg\0", "red.png\n".encode("utf-16")])
def test_names_that_are_no_lines_are_refused(classify, named):
    with pytest.raises(UserError, match="a zero byte; pass one name per line"):
        classify("-", named=named)


@pytest.mark.parametrize("threads", [-1, 1.5, "2", True, 2**31])
def test_threads_that_no_machine_has_are_refused(threads):
    with pytest.raises(UserError, match="threads=.*pass a whole number from 0 to 1024"):
        tflite.Tflite("net.tflite", threads=threads)


@pytest.mark.parametrize("slow,worst", [(2, 10), (3, 100)])
def test_repeating_tells_how_long_it_takes(classify, monkeypatch, slow, worst):
    clock, calls = [0.0], [0]

    def takes(milliseconds, result):
        def call(self, argument):
            calls[0] += 1
            clock[0] += milliseconds * (10 if 100 < calls[0] <= 100 + 2 * slow else 1) / 1e3
            return result

        return call

    monkeypatch.setattr(tflite.Tflite, "prepare", takes(3, np.zeros((67, 67, 3), np.uint8)))
    monkeypatch.setattr(tflite.Tflite, "probabilities", takes(7, np.array([0.1, 0.2, 0.7])))
    monkeypatch.setattr(command.time, "perf_counter", lambda: clock[0])
    flags = "--json_lines", "--repeat=200", "--threads=2", "--json=t.json"
    answer, times = lines_of(classify(*flags, "red.png"))
    assert answer["classes"][0] == ["blue", 0.7]
    times = times["times"]
    assert times["threads"] == 2 and times["classified again"] == 200
    assert times["picture to pixels, median ms"] == 3 and times["network, median ms"] == 7
    assert times["both, median ms"] == 10 and times["both, 99th percentile ms"] == worst
    assert times["first answer, s after start"] > 0 and times["most memory, MB"] > 50
    with open("t.json") as stream:
        stored = json.load(stream)
    assert stored["times"] == times and stored["answers"].keys() == {"red.png"}


def changed(content, name, change):
    """`content` with a file of its archive changed."""
    begin = zipfile.ZipFile(io.BytesIO(content)).infolist()[0].header_offset
    stream = io.BytesIO(content[:begin])
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(stream, "a") as new:
        for member in old.namelist():
            data = old.read(member)
            new.writestr(member, change(data) if member == name else data)
    return stream.getvalue()


def of_manifest(**changes):
    return "manifest.json", lambda data: json.dumps(json.loads(data) | changes).encode()


def without_digest():
    def change(data):
        manifest = json.loads(data)
        del manifest["flatbuffer_sha256"]
        return json.dumps(manifest).encode()

    return "manifest.json", change


def manifest_with(**changes):
    def change(data):
        manifest = json.loads(data)
        manifest["preprocessing"] |= changes
        return json.dumps(manifest).encode()

    return "manifest.json", change


@pytest.mark.parametrize(
    "name,change,message",
    [
        (*manifest_with(image_size=68), r"its graph has no images of shape \[1, 68, 68, 3\]"),
        (*manifest_with(resize=66), "resize is 66"),
        (*manifest_with(resize=10**9), "resize is 1000000000"),
        (*manifest_with(resize="77"), "resize is '77'"),
        (*manifest_with(mean=None), "NoneType"),
        (*of_manifest(min_probability=2), "min_probability is 2"),
        (
            "labels.txt",
            lambda data: data + b"another\n",
            r"no probabilities of shape \[1, 4\]",
        ),
        ("labels.txt", lambda data: b"a\x1b[2J\nb\nc\n", "control character"),
        ("manifest.json", lambda data: b" " * (2**23 + 1), "8,388,609 bytes of settings"),
        ("manifest.json", lambda data: b"{", "is not a file that alexnet convert wrote"),
    ],
)
def test_files_that_contradict_themselves_are_refused(content, name, change, message):
    with pytest.raises(UserError, match=message) as error:
        tflite.Tflite(changed(content, name, change), "net.tflite")
    assert str(error.value).startswith("net.tflite is not a file that alexnet convert wrote (")


def test_files_of_others_are_refused(content, tmp_path):
    for name, data in (("cut", content[:-100]), ("empty", b""), ("text", b"no network")):
        path = tmp_path / name
        path.write_bytes(data)
        for file in (path, data):
            with pytest.raises(UserError, match="is not a file that alexnet convert wrote"):
                tflite.Tflite(file)
    (tmp_path / "pointer").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:")
    for file, name in (
        (tmp_path / "pointer", ""),
        ((tmp_path / "pointer").read_bytes(), "a.tflite"),
    ):
        with pytest.raises(
            UserError, match=f"{name or file} is git LFS's pointer to the file, whi"
        ):
            tflite.Tflite(file, name)
    assert tflite.is_tflite(tmp_path / "cut") and not tflite.is_tflite(tmp_path / "text")
    assert not tflite.is_tflite(tmp_path) and not tflite.is_tflite(tmp_path / "gone")


def test_a_path_may_begin_at_home_and_what_cannot_be_read_says_why(world, monkeypatch):
    monkeypatch.setenv("HOME", str(world))
    assert tflite.Tflite("~/net.tflite").classify("red.png")[0][0] == "red"
    os.mkfifo("pipe")  # to which nobody writes
    wanted = "pass a .tflite file that alexnet convert wrote."
    for path, message in {
        "~/gone.tflite": f"There is no ~/gone.tflite; {wanted}",
        "folder": f"folder cannot be read (Is a directory); {wanted}",
        "net.tflite/1": f"net.tflite/1 cannot be read (Not a directory); {wanted}",
        "pipe": f"pipe cannot be read (Not a regular file); {wanted}",
    }.items():
        with pytest.raises(UserError) as error:
            tflite.Tflite(path)
        assert str(error.value) == message


def test_the_best_five_in_order_and_ties_as_they_come():
    probabilities = np.array([0.1, 0.3, 0.1, 0.3, 0.05, 0.15], np.float32)
    best = classifiers.best_classes(probabilities, "abcdef")
    assert [name for name, _ in best] == ["b", "d", "f", "a", "c"]
    assert best[0][1] == pytest.approx(0.3)
    assert classifiers.best_classes(probabilities[:2], "ab")[-1][0] == "a"
    probabilities[2] = np.nan
    with pytest.raises(UserError, match="The network answers NaN: a layer's output is not finite"):
        classifiers.best_classes(probabilities, "abcdef")


def test_no_class_is_the_answer_where_none_reaches_the_least_probability(tmp_path):
    path = tmp_path / "net.tflite"
    path.write_bytes(colour_content(min_probability=0.5))
    stream = io.BytesIO()
    Image.new("RGB", (90, 120), (90, 90, 90)).save(stream, "PNG")
    grey = stream.getvalue()
    file = tflite.Tflite(path)
    third = pytest.approx(1 / 3, abs=1e-6)
    assert file.classify(grey) == [
        (classifiers.NONE, pytest.approx(2 / 3, abs=1e-6)),
        ("red", third),
        ("green", third),
    ]
    assert [name for name, _ in file.classify(grey, 0.3)] == list(COLOURS)


def test_the_flag_prevails_over_the_least_probability_of_the_file(classify):
    Image.new("RGB", (90, 120), (90, 90, 90)).save("grey.png")
    (line,) = lines_of(classify("--json_lines", "--min_probability=0.9", "grey.png"))
    assert line["classes"][0] == [classifiers.NONE, pytest.approx(2 / 3, abs=1e-6)]
    (line,) = lines_of(classify("--json_lines", "grey.png"))
    assert line["classes"][0][0] == "red"


def test_what_is_no_number_gives_none(content):
    image = np.zeros([67, 67, 3], np.float32)
    file = tflite.Tflite(content)
    assert np.isfinite(file.probabilities(image)).all()
    image[3, 4, 1] = np.nan
    assert np.isnan(file.probabilities(image)).all()


def test_threads_that_share_a_file_get_the_answers_of_their_own_pictures(content, monkeypatch):
    file, come, told = tflite.Tflite(content), threading.Event(), []
    first = threading.get_ident()

    def ask(level):
        return file.probabilities(np.full([67, 67, 3], level, np.uint8))[0]

    class Runner:
        """As LiteRT's, of one set of buffers: what it is given is there until it is read, and in
        between another thread comes.
        """

        def __call__(self, images):
            self.images = images
            if threading.get_ident() == first:
                told.append(threads.submit(ask, 9))
                come.wait()
            come.set()
            return {"probabilities": np.full([1, 3], self.images[0, 0, 0, 0], np.float32)}

    class Lock:
        def __init__(self, lock):
            self._lock = lock

        def __enter__(self):
            if threading.get_ident() != first:
                come.set()
            self._lock.acquire()

        def __exit__(self, *error):
            self._lock.release()

    monkeypatch.setattr(file, "_run", Runner())
    monkeypatch.setattr(file, "_alone", Lock(file._alone))
    with concurrent.futures.ThreadPoolExecutor(1) as threads:
        assert ask(5) == 5 and told[0].result() == 9


def test_a_picture_is_a_path_or_bytes(world):
    file = tflite.Tflite("net.tflite")
    content = (world / "red.png").read_bytes()
    expected = file.classify(content)
    assert file.classify("red.png") == file.classify(world / "red.png") == expected
    np.testing.assert_array_equal(file.prepare("red.png"), file.prepare(content))
    for picture in (None, memoryview(content), bytearray(content), [content], 3):
        for ask in (file.classify, file.prepare, networks.load("net.tflite").classify):
            with pytest.raises(UserError, match="^picture= is of the type .*; pass a path, or the"):
                ask(picture)
    with pytest.raises(UserError, match=r"^gone.png cannot be read \(No such file"):
        file.classify("gone.png")


def test_an_image_is_an_array_of_its_shape(content):
    file = tflite.Tflite(content)
    image = np.zeros([67, 67, 3], np.uint8)
    np.testing.assert_array_equal(file.probabilities(image.tolist()), file.probabilities(image))
    for given in (None, "red.png", [], image[None], image[:3], image[..., 0]):
        with pytest.raises(UserError, match=r"has the shape \(.*; pass \(67, 67, 3\), as prepare"):
            file.probabilities(given)
    with pytest.raises(UserError, match="image= is not an array"):
        file.probabilities([[1], [1, 2]])


def test_one_bit_of_a_file_is_missed(content, tmp_path):
    assert b"flatbuffer_sha256" in content
    for place in (len(content) // 4, len(content) // 2):
        damaged = bytearray(content)
        damaged[place] ^= 1
        with pytest.raises(
            UserError, match="^net.tflite is damaged: its network is not the one th"
        ):
            tflite.Tflite(bytes(damaged), "net.tflite")
    (tmp_path / "cut.tflite").write_bytes(damaged)
    with pytest.raises(UserError, match="cut.tflite is damaged"):
        networks.load(tmp_path / "cut.tflite")
    before = changed(content, *without_digest())  # of an earlier version, which has none
    assert tflite.Tflite(before).labels == list(COLOURS)


def test_levels_between_two_are_rounded_for_a_file_of_integers():
    file = tflite.Tflite(colour_content(quantized=True))

    def answers(less):
        levels = np.zeros([67, 67, 3], np.float32)
        return [file.probabilities(levels + [red - less, 0, 0]).tolist() for red in range(90, 110)]

    assert answers(0.4) == answers(0) != answers(1)


def test_a_compressed_archive_is_refused(content):
    begin = zipfile.ZipFile(io.BytesIO(content)).infolist()[0].header_offset
    stream = io.BytesIO(content[:begin])
    with (
        zipfile.ZipFile(io.BytesIO(content)) as old,
        zipfile.ZipFile(stream, "a", zipfile.ZIP_DEFLATED) as new,
    ):
        for member in old.namelist():
            new.writestr(member, old.read(member))
    with pytest.raises(UserError, match="a member is compressed, and might be of any size"):
        tflite.Tflite(stream.getvalue())


def test_an_archive_of_too_many_members_is_refused(monkeypatch):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for number in range(9):
            archive.writestr(f"{number}", b"")
    monkeypatch.setattr(archives, "_BLOCK", 5)  # the directory lies across the blocks
    monkeypatch.setattr(archives, "_MOST_MEMBERS", 9)
    assert len(archives.members(stream)) == 9
    monkeypatch.setattr(archives, "_MOST_MEMBERS", 8)
    with pytest.raises(ValueError, match="more than 8 members"):
        archives.members(stream)
