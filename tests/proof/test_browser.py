"""The page of examples/browser in a real Chromium: its answers are the interpreter's, what it
learns is what `alexnet finetune` would, its occlusion maps are those of `alexnet visualize`, and it
asks no other host for anything.

Prints the figures of BUILD_NOTES.md. Needs Chromium beside what `make proof` brings.
"""

import base64
import contextlib
import dataclasses
import functools
import http.server
import io
import json
import os
import pathlib
import re
import shutil
import statistics
import subprocess
import sys
import threading

import keras
import numpy as np
import picture_kinds
import pytest
from PIL import Image
from playwright.sync_api import expect, sync_playwright

from alexnet_tf import console, networks, picture_files, preprocessing
from alexnet_tf.classifiers import TOP, best_classes
from alexnet_tf.commands import serve_page
from alexnet_tf.data import shapes
from alexnet_tf.data.names import USUAL_NAMES
from alexnet_tf.edge.pictures import decode
from alexnet_tf.errors import UserError
from alexnet_tf.exports import artifacts, saved_model
from alexnet_tf.figures import saliency
from alexnet_tf.manifest import Manifest
from alexnet_tf.network.model import build_model
from alexnet_tf.preprocessing import Preprocessing
from alexnet_tf.settings import Settings
from alexnet_tf.training import features, head
from alexnet_tf.training.metrics import NoLog

ROOT = pathlib.Path(__file__).parent.parent.parent
PIXELS = Preprocessing(227, 256, 3, (123.0, 117.0, 104.0), 1.0)
WAIT = 120_000  # milliseconds; a page that needs them is broken


# In a process of its own, which gives its memory back. `alexnet convert` itself would refuse int8,
# since answers of random weights hang by a thread; here they only have to be the same in the page
# and out of it.
_CONVERT = """
import numpy as np
import dataclasses
from alexnet_tf.exports import artifacts, tflite, tflite_metadata
from alexnet_tf.manifest import Conversion
version = {folder!r} + "/exports/1"
manifest = artifacts.read_manifest(version)
for quantization in ("none", "int8"):
    images = list(np.load({folder!r} + "/images.npy"))
    content = tflite.convert(version, quantization, images)
    told = dataclasses.replace(manifest, conversion=Conversion(quantization))
    content = tflite_metadata.complete(content, told)
    open(f"{folder}/{{quantization}}.tflite", "wb").write(content)
"""


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Paths of the full-size network as .tflite files, float32 and int8, with weights that make its
    answers differ.
    """
    folder = tmp_path_factory.mktemp("models")
    images = np.stack([prepared(shapes.draw_jpeg("train", index)) for index in range(40)])
    model, rng = build_model("paper", len(shapes.CLASS_NAMES)), np.random.default_rng(7)
    for variable in model.weights:
        fan_in = np.prod(variable.shape[:-1]) if len(variable.shape) > 1 else 1
        variable.assign(
            rng.normal(0, (1.4 if len(variable.shape) > 1 else 0.5) / fan_in**0.5, variable.shape)
        )
    logits = model(preprocessing.to_network_input(images, PIXELS), training=False).numpy()
    fc8, scale = model.get_layer("fc8"), 1.5 / logits.std(0).mean()
    fc8.kernel.assign(fc8.kernel * scale)
    fc8.bias.assign((fc8.bias - logits.mean(0)) * scale)

    manifest = Manifest(Settings("paper", PIXELS, shapes.CLASS_NAMES), weights_sha256="random")
    saved_model.write(model, manifest, folder / "exports/1")
    np.save(folder / "images.npy", images)
    subprocess.run(
        [sys.executable, "-c", _CONVERT.format(folder=str(folder))], cwd=ROOT, check=True
    )
    return {path.stem: path for path in folder.glob("*.tflite")}


def prepared(picture):
    return preprocessing.central_crop(preprocessing.decode(picture, PIXELS.resize), PIXELS).numpy()


@contextlib.contextmanager
def serving(server):
    """The address of a server that runs in a thread."""
    with server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture(scope="module")
def chromium():
    path = shutil.which("chromium")
    assert path, (
        "Chromium is not on this machine: install it (Debian: apt install chromium), and run make"
        " proof again."
    )
    with sync_playwright() as playwright:
        # Names resolve to nothing but this machine: what the page asked of another host would fail,
        # and be seen below.
        browser = playwright.chromium.launch(
            executable_path=path,
            args=[
                "--no-sandbox",
                "--disable-gpu",
                "--disable-quic",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
                "--use-fake-device-for-media-stream",
                "--use-fake-ui-for-media-stream",
                "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
            ],
        )
        yield browser
        browser.close()


@pytest.fixture
def page(chromium):
    context = chromium.new_context(viewport={"width": 1000, "height": 800})
    context.set_default_timeout(WAIT)
    page = context.new_page()
    page.requested = []
    context.on("request", lambda request: page.requested.append(request.url))
    yield page
    context.close()


def opened(page, address):
    """Opens the page and waits for its network; returns the seconds that this took."""
    page.goto(address)
    status = page.get_by_role("status")
    expect(status).to_have_text(re.compile("Ready after"), timeout=WAIT)
    return float(re.search(r"after ([\d.]+) s", status.inner_text())[1])


def choose(page, name, content):
    """Chooses a picture and returns ({class: probability}, milliseconds)."""
    page.evaluate("document.getElementById('time').textContent = ''")
    page.get_by_label("Choose a picture").set_input_files(
        {"name": name, "mimeType": "image/*", "buffer": content}
    )
    expect(page.locator("#time")).to_have_text(re.compile("took"), timeout=WAIT)
    names = page.locator("#classes li div span").all_inner_texts()
    values = page.locator("#classes data").evaluate_all(
        "all => all.map((one) => Number(one.value))"
    )
    return dict(zip(names, values)), int(
        re.search(r"(\d+) ms", page.locator("#time").inner_text())[1]
    )


def square(index):
    """A drawn picture as a PNG file of the size at which nothing is scaled, only cropped."""
    buffer = io.BytesIO()
    Image.open(io.BytesIO(shapes.draw_jpeg("test", index))).resize(
        (PIXELS.resize, PIXELS.resize)
    ).save(buffer, "PNG")
    return buffer.getvalue()


def photograph(index, width):
    """A drawn picture at the size that cameras have, as a JPEG file."""
    image = Image.open(io.BytesIO(shapes.draw_jpeg("test", index)))
    buffer = io.BytesIO()
    image.resize((width, width * image.height // image.width), Image.Resampling.BICUBIC).save(
        buffer, "JPEG", quality=92
    )
    return buffer.getvalue()


def without_headers():
    """The handler of any other web server: it does not send what a browser asks for before it lets
    a page use threads.
    """
    return type(
        "Plain",
        (serve_page.Handler,),
        {"end_headers": http.server.SimpleHTTPRequestHandler.end_headers},
    )


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("quantization", ["none", "int8"])
def test_answers_are_the_interpreters(models, page, quantization, threads):
    # what is kept in float32 is rounded to the next level, up or down
    bound = {"none": 1e-4, "int8": 0.05}[quantization]
    tflite = artifacts.Tflite(models[quantization].read_bytes())
    server = serve_page.Server(models[quantization], 0)
    if threads == 1:
        server.RequestHandlerClass = functools.partial(
            without_headers(), **server.RequestHandlerClass.keywords
        )
    with serving(server) as address:
        ready = opened(page, address)
        largest = 0
        for index in range(10):
            picture = square(index)
            answer, _ = choose(page, "square.png", picture)
            expected = dict(zip(tflite.labels, tflite.probabilities(prepared(picture))))
            assert (
                list(answer) == sorted(answer, key=answer.get, reverse=True) and len(answer) == TOP
            )
            assert (
                min(answer.values())
                >= max(value for name, value in expected.items() if name not in answer) - bound
            )
            largest = max(largest, *(abs(expected[name] - value) for name, value in answer.items()))
        assert largest < bound
        differences, times = [], []
        for index in range(10):
            picture = photograph(index, 1600)
            answer, milliseconds = choose(page, "photograph.jpg", picture)
            expected = dict(tflite.classify(picture))
            first, second = sorted(expected.values(), reverse=True)[:2]
            # The package lets libjpeg halve large pictures, so that pixels may differ by a few
            # levels.
            assert next(iter(answer)) == next(iter(expected)) or first - second < 0.1
            differences.append(
                max(
                    abs(expected[name] - value)
                    for name, value in answer.items()
                    if name in expected
                )
            )
            times.append(milliseconds)
        assert (
            f"on {'one thread' if threads == 1 else f'{os.cpu_count()} threads'}"
            in page.locator("#time").inner_text()
        )
        assert page.requested and all(
            url.startswith((address, "data:", "blob:")) for url in page.requested
        )
    print(
        f"\n{quantization}, {threads} thread(s): ready after {ready} s,"
        f" {statistics.median(times):.0f} ms a picture; largest difference of a probability"
        f" {largest:.1e} on the same pixels, {max(differences):.2f} on JPEG files of 1600 pixels;"
        f" {len(page.requested)} requests, none elsewhere"
    )


@pytest.fixture
def bare(models, page):
    """The page without a network: it is told that there is none beside it."""
    page.route("**/model.tflite", lambda route: route.fulfill(status=404))
    with serving(serve_page.Server(models["int8"], 0)) as address:
        page.goto(address)
        expect(page.get_by_role("status")).to_contain_text("Choose a .tflite file")
        yield page


_CROP = """async ([content, pixels]) => {
  const {centralCrop, decode} = await import("/preprocessing.js");
  const bytes = Uint8Array.from(atob(content), (character) => character.charCodeAt(0));
  return [...centralCrop(await decode(new Blob([bytes])), pixels)];
}"""


@pytest.mark.parametrize("kind,channels,largest", [("PNG", 3, 1), ("PNG", 1, 1), ("JPEG", 3, 6)])
def test_pixels_are_those_of_the_package(bare, rng, kind, channels, largest):
    pixels = dataclasses.replace(PIXELS, channels=channels, mean=PIXELS.mean[:channels])
    levels = []
    for width, height in (
        (256, 256),
        (227, 227),
        (1600, 1200),
        (301, 2000),
        (640, 257),
        (33, 20),
        (1, 1),
    ):
        image = Image.fromarray(rng.integers(0, 256, (9, 9, 3), np.uint8)).resize(
            (width, height), Image.Resampling.BICUBIC
        )
        noisy = np.asarray(image) + rng.normal(0, 6, (height, width, 3))
        buffer = io.BytesIO()
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(buffer, kind)
        expected = preprocessing.central_crop(
            preprocessing.decode(buffer.getvalue(), pixels.resize), pixels
        ).numpy()
        answer = bare.evaluate(
            _CROP, [base64.b64encode(buffer.getvalue()).decode(), dataclasses.asdict(pixels)]
        )
        levels.append(np.abs(np.array(answer) - expected.reshape(-1).astype(int)))
    levels = np.concatenate(levels)
    print(
        f"\n{kind}, {channels} channel(s): {np.mean(levels > 0):.2%} of the values differ, by at"
        f" most {levels.max()} of 255, on average {levels.mean():.1e}"
    )
    assert levels.max() <= largest and (kind == "JPEG" or np.mean(levels > 0) < 1e-3)


_DECODE = """async (contents) => {
  const {decode} = await import("/preprocessing.js");
  const told = [];
  for (const content of contents) {
    const bytes = Uint8Array.from(atob(content), (character) => character.charCodeAt(0));
    const {width, height, data} = await decode(new Blob([bytes]));
    told.push([height, width, [...data]]);
  }
  return told;
}"""
_CHROMIUMS_OWN = {"GIF, no palette"}  # of whose numbers Chromium makes something else


def test_every_kind_of_picture_is_what_the_package_makes_of_it(bare):
    kinds = picture_kinds.kinds()
    for orientation in range(2, 9):  # in several places
        upside_down = picture_kinds.segment(0xE1, picture_kinds.exif(3))
        turned = picture_kinds.segment(0xE1, picture_kinds.exif(orientation, ">", 4))
        kinds[f"JPEG, {orientation} and 3"] = picture_kinds.jpeg_with(
            kinds["JPEG"], turned, upside_down
        )
    twice = picture_kinds.segment(0xE1, b"Exif\0\0" + picture_kinds.exif(6))
    kinds["JPEG, EXIF marked twice"] = picture_kinds.jpeg_with(kinds["JPEG"], twice)
    given = [base64.b64encode(content).decode() for content in kinds.values()]
    for (name, content), (height, width, data) in zip(kinds.items(), bare.evaluate(_DECODE, given)):
        expected = np.asarray(decode(content))
        assert (height, width, 3) == expected.shape, name
        levels = np.reshape(data, (height, width, 4))[..., :3]
        # Chromium rounds alpha and levels of five bits its own way.
        assert name in _CHROMIUMS_OWN or np.abs(levels - expected.astype(int)).max() <= 1, name


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WebP"])
def test_damaged_orientations_leave_a_picture_as_it_is(bare, form):
    kinds = picture_kinds.kinds()
    plain = {"JPEG": "JPEG", "PNG": "PNG, RGB", "WebP": "WebP, lossless"}[form]
    with_exif = {
        "JPEG": lambda exif: picture_kinds.jpeg_with(
            kinds[plain], picture_kinds.segment(0xE1, exif)
        ),
        "PNG": lambda exif: picture_kinds.png_with(kinds[plain], b"eXIf", exif),
        "WebP": lambda exif: picture_kinds.saved(
            Image.open(io.BytesIO(kinds[plain])), "WEBP", lossless=True, exif=exif
        ),
    }[form]
    whole = picture_kinds.exif(6)
    damaged = [
        whole[:6],
        whole[:10],
        whole[:25],
        whole.replace(b"II*", b"II+"),
        whole[:8] + b"\xff" * 40,
        b"Exif\0\0MM\0*\xff\xff\xff\xff\0\1",
    ]
    given = [base64.b64encode(with_exif(exif)).decode() for exif in damaged]
    expected = np.asarray(decode(kinds[plain]))
    for height, width, data in bare.evaluate(_DECODE, given):
        levels = np.reshape(data, (height, width, 4))[..., :3]
        assert np.abs(levels - expected.astype(int)).max() <= 1


def test_a_picture_larger_than_the_canvas_is_refused(bare):
    """A canvas that is too large for a telephone stays empty."""
    bare.evaluate(
        "void (OffscreenCanvasRenderingContext2D.prototype.getImageData ="
        " (left, top, width, height) => new ImageData(width, height))"
    )
    bare.get_by_label("Choose a picture").set_input_files(
        {"name": "large.png", "mimeType": "image/png", "buffer": square(1)}
    )
    expect(bare.get_by_role("alert")).to_have_text(
        "large.png has 256 x 256 pixels, more than this browser can draw; make it smaller."
    )


_CLASSIFY = """async ([levels, least]) => {
  const {Network} = await import("/artifacts.js");
  const classifier = Object.create(Network.prototype);
  const manifest = {min_probability: least};
  const pixels = {image_size: 1, resize: 1, channels: 3};
  Object.assign(classifier, {labels: ["a", "b", "c"], manifest, pixels});
  classifier.probabilities = async () => Float32Array.from(levels);
  const {best} = await classifier.classify(new ImageData(2, 2));
  return best.map(({name, probability}) => [name, probability]);
}"""


@pytest.mark.parametrize("least", [None, 0.0, 0.5, 0.6, 0.61])
def test_what_no_class_is_probable_enough_for_is_none_of_these(bare, least):
    levels = np.array([0.1, 0.6, 0.3], np.float32)  # 0.6 is as probable as 0.6
    expected = best_classes(levels, ("a", "b", "c"), least or 0.0)
    assert (expected[0][0] == "none of these") == (least == 0.61)
    told = bare.evaluate(_CLASSIFY, [levels.tolist(), least])
    assert [name for name, _ in told] == [name for name, _ in expected]
    assert [value for _, value in told] == pytest.approx([value for _, value in expected])


def test_mistakes_are_told_in_one_line(models, bare, tmp_path):
    alert = bare.get_by_role("alert")
    bare.get_by_label("Choose a picture").set_input_files(
        {"name": "notes.txt", "mimeType": "text/plain", "buffer": b"no picture"}
    )
    expect(alert).to_have_text(
        "notes.txt is not a picture that this browser can open; choose a JPEG, PNG or WebP file."
    )
    whole = models["int8"].read_bytes()
    for content in (b"", b"TFL3" * 100, whole[:-1000], whole[:1000] + whole[-5000:]):
        (tmp_path / "other.tflite").write_bytes(content)
        bare.get_by_label("Choose a .tflite file").set_input_files(tmp_path / "other.tflite")
        expect(alert).to_have_text(
            "other.tflite is not a .tflite file that alexnet convert wrote, or it is damaged."
        )
    # One bit of each weight of a block, which no reader of the format minds; one of a name.
    weights, labels = bytearray(whole), bytearray(whole)
    for place in range(len(whole) // 2, len(whole) // 2 + 4096, 4):
        weights[place] ^= 16
    labels[whole.rindex(f"\n{shapes.CLASS_NAMES[1]}\n".encode()) + 1] ^= 1
    for content, told in (
        (
            weights,
            "other.tflite is damaged: its network is not the one that alexnet convert wrote; copy"
            " it again, or convert again.",
        ),
        (
            labels,
            "other.tflite is not a .tflite file that alexnet convert wrote, or it is damaged.",
        ),
    ):
        (tmp_path / "other.tflite").write_bytes(content)
        with pytest.raises(UserError):
            artifacts.Tflite(tmp_path / "other.tflite")
        bare.get_by_label("Choose a .tflite file").set_input_files(tmp_path / "other.tflite")
        expect(alert).to_have_text(told)
    expect(bare.get_by_role("status")).to_have_text("No network yet: choose a .tflite file.")
    # A picture before the network waits for it; a file that the person chooses is as good as the
    # one beside the page.
    picture = {"name": "star.jpg", "mimeType": "image/jpeg", "buffer": photograph(5, 300)}
    bare.get_by_label("Choose a picture").set_input_files(picture)
    expect(bare.locator("#invitation")).to_have_text("Waiting for the network.")
    bare.get_by_label("Choose a .tflite file").set_input_files(models["int8"])
    expect(bare.locator("#time")).to_contain_text("took", timeout=WAIT)
    expect(alert).to_be_empty()
    for width in (320, 1000):
        bare.set_viewport_size({"width": width, "height": 800})
        assert bare.evaluate("document.documentElement.scrollWidth") <= width


def test_a_page_that_cannot_work_says_so(models, page):
    page.goto((ROOT / "examples/browser/index.html").as_uri())
    expect(page.get_by_role("alert")).to_contain_text("This page has to come from a server")
    with serving(serve_page.Server(models["int8"], 0)) as address:
        page.route("**/node_modules/**", lambda route: route.fulfill(status=404))
        page.goto(address)
        expect(page.get_by_role("alert")).to_contain_text(
            "The LiteRT runtime is not next to this page"
        )
        page.unroute_all()
        page.add_init_script("delete globalThis.WebAssembly")
        page.goto(address)
        expect(page.get_by_role("alert")).to_have_text(
            "This browser has no WebAssembly, which the network needs."
        )


# Occlusion ----------------------------------------------------------------------------------------

# Of a probability. The page's float32 sums are the interpreter's in another order; rounding to 8
# bits takes a level, 1/256, up or down.
_MAPS = {"none": 1e-4, "int8": 0.01}

_OCCLUSION = """async ([content, label]) => {
  const {Network, startRuntime} = await import("/artifacts.js");
  const {centralCrop, decode} = await import("/preprocessing.js");
  const {occlusion} = await import("/looking.js");
  const file = await (await fetch("model.tflite")).arrayBuffer();
  const network = await Network.open(new Uint8Array(file), "model.tflite");
  const bytes = Uint8Array.from(atob(content), (character) => character.charCodeAt(0));
  const pixels = centralCrop(await decode(new Blob([bytes])), network.pixels);
  return [...await occlusion(network, pixels, label, () => true)];
}"""


@pytest.mark.parametrize("quantization", ["none", "int8"])
def test_occlusion_is_that_of_the_package(models, page, quantization, tmp_path):
    network = networks.load(models[quantization])
    picture = square(3)
    image = network.prepare(picture)
    label = int(network.probabilities(image[None])[0].argmax())
    side = PIXELS.image_size // 5
    expected = saliency.occlusion(
        network.probabilities, image, label, np.array([123, 117, 104]), side, side // 3
    )
    assert np.ptp(expected) > 0.05  # something is found
    with serving(serve_page.Server(models[quantization], 0)) as address:
        opened(page, address)
        choose(page, "square.png", picture)
        canvas = page.locator("#picture")
        before = canvas.screenshot()
        page.get_by_role("button", name="What does that rest on?").click()
        expect(page.locator("#looked")).to_contain_text("points are lost", timeout=5 * WAIT)
        assert canvas.screenshot(path=tmp_path / "occlusion.png") != before
        told = page.locator("#looked").inner_text().replace("\N{MINUS SIGN}", "-")
        found = np.array(
            page.evaluate(_OCCLUSION, [base64.b64encode(picture).decode(), label])
        ).reshape(expected.shape)
        assert all(url.startswith((address, "data:", "blob:")) for url in page.requested)
    difference = float(np.abs(found - expected).max())
    least, most = map(float, re.findall(r"[-+][\d.]+", told))
    assert (least, most) == pytest.approx((100 * found.min(), 100 * found.max()), abs=0.06)
    print(
        f"\nocclusion, {quantization}: {least} to {most} points, the page's and the package's"
        f" differ by at most {difference:.1e} ({tmp_path}/occlusion.png)"
    )
    assert difference < _MAPS[quantization]


def test_another_picture_ends_an_occlusion(models, page):
    with serving(serve_page.Server(models["int8"], 0)) as address:
        opened(page, address)
        choose(page, "square.png", square(3))
        page.get_by_role("button", name="What does that rest on?").click()
        choose(page, "other.png", square(4))
        expect(page.locator("#looked")).to_be_empty()
        expect(page.locator("#progress")).to_be_hidden()


# Learning -----------------------------------------------------------------------------------------

TAUGHT, ASKED = 3, 4  # pictures of each class: few, so that not all answers are right


@pytest.fixture(scope="module")
def trunks(tmp_path_factory):
    """The features of --pretrained=imagenet as .tflite files, float32 and int8."""
    folder = tmp_path_factory.mktemp("trunks")
    for number in range(20):
        (folder / f"{number}.jpg").write_bytes(shapes.draw_jpeg("train", number))
    commands = [
        ["export", "--pretrained=imagenet", "--output=features"],
        ["convert", "--saved_model=features", "--output=none.tflite"],
        ["convert", "--saved_model=features", "--quantization=int8", "--calibration=."]
        + ["--output=int8.tflite"],
    ]
    for command in commands:
        subprocess.run(
            [sys.executable, "-m", "alexnet_tf", *command],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            check=True,
        )
    return {path.stem: path for path in folder.glob("*.tflite")}


def taught():
    """{class: [(name, bytes of a PNG file), ...]} to learn from."""
    return {
        name: [
            (f"{name} {number}.png", png("train", 10 * number + label)) for number in range(TAUGHT)
        ]
        for label, name in enumerate(shapes.CLASS_NAMES)
    }


def png(split, index):
    """A drawn picture that the page and the package decode to the same pixels."""
    buffer = io.BytesIO()
    Image.open(io.BytesIO(shapes.draw_jpeg(split, index))).resize((256, 256)).save(buffer, "PNG")
    return buffer.getvalue()


def files(pictures):
    return [
        {"name": name, "mimeType": "image/png", "buffer": content} for name, content in pictures
    ]


def teach(page, classes):
    """Gives the page's classes names and pictures."""
    cards = page.locator(".class")
    for number, (name, pictures) in enumerate(classes.items()):
        if cards.count() <= number:
            page.get_by_role("button", name="Add a class").click()
            expect(cards).to_have_count(number + 1)
        card = cards.nth(number)
        card.get_by_label("Name of the class").fill(name)
        card.get_by_label("Add pictures").set_input_files(files(pictures))
        expect(card.locator(".thumbnails canvas")).to_have_count(len(pictures))


def learnt(page):
    page.get_by_role("button", name="Learn", exact=True).click()
    expect(page.locator("#learnt")).to_contain_text("Learnt", timeout=WAIT)
    return page.locator("#learnt").inner_text()


def saved(page):
    with page.expect_download() as download:
        page.get_by_role("button", name="Save what was learnt").click()
    return json.loads(pathlib.Path(download.value.path()).read_text())


def answers(page, pictures):
    """[{class: probability}, ...] of the page."""
    return [choose(page, "asked.png", content)[0] for content in pictures]


class _InOrder:
    """Stands for a generator of random numbers: folds are dealt in order, as in the page."""

    def permutation(self, count):
        return np.arange(count)


def fitted(tflite, classes, monkeypatch=None):
    """(kernel, bias) of the package's head on the features of the same pictures, cooled; its folds
    dealt as in the page with `monkeypatch`.
    """
    rows = [
        (tflite.features(tflite.prepare(content)), label)
        for label, pictures in enumerate(classes.values())
        for _, content in pictures
    ]
    inputs, labels = (np.stack(column) for column in zip(*rows))
    found = features.Features(
        inputs[None], labels, inputs[None], labels, 0.0, {"train": [], "evaluation": []}
    )
    units = keras.Input((inputs.shape[1],))
    model = keras.Model(units, keras.layers.Dense(len(classes))(units))
    if monkeypatch:
        monkeypatch.setattr(head.np.random, "default_rng", lambda seed: _InOrder())
    said = []
    state = head.fit(model, found, NoLog(), console.progress, said.append)
    print(f"\nthe package: {said[0]}")
    return [weights / state.temperature for weights in model.get_weights()]


@pytest.mark.parametrize("quantization", ["none", "int8"])
def test_the_page_learns_as_finetune_does(trunks, page, tmp_path, monkeypatch, quantization):
    tflite = artifacts.Tflite(trunks[quantization].read_bytes())
    names = shapes.CLASS_NAMES
    asked = [png("test", number) for number in range(ASKED * len(names))]
    labels = np.arange(len(asked)) % len(names)
    with serving(serve_page.Server(trunks[quantization], 0)) as address:
        opened(page, address)
        expect(page.locator("#model-status")).to_contain_text("features of pool5")
        teach(page, taught())
        said = learnt(page)
        given = answers(page, asked)
        page.screenshot(path=tmp_path / "learning.png", full_page=True)
        stored = saved(page)
        (tmp_path / "learnt.json").write_text(json.dumps(stored))
        # A page that is opened anew knows what was saved.
        opened(page, address)
        page.get_by_label("Open what was learnt").set_input_files(tmp_path / "learnt.json")
        expect(page.locator("#learnt")).to_have_text(said)
        assert page.locator("#known").text_content() == ", ".join(names)
        assert answers(page, asked[:4]) == given[:4]
        assert page.requested and all(
            url.startswith((address, "data:", "blob:")) for url in page.requested
        )
    right = float(np.mean([next(iter(one)) == names[label] for one, label in zip(given, labels)]))
    images = np.stack([tflite.features(tflite.prepare(content)) for content in asked])
    kernel, bias = fitted(tflite, taught())
    of_package = float(np.mean((images @ kernel + bias).argmax(1) == labels))
    kernel, bias = fitted(tflite, taught(), monkeypatch)
    found = [np.frombuffer(base64.b64decode(stored[name]), "<f4") for name in ("kernel", "bias")]
    logits = images @ kernel + bias
    difference = np.abs(images @ found[0].reshape(kernel.shape) + found[1] - logits).max()
    print(
        f"{quantization}: {said} Of {len(asked)} pictures the page has {right:.1%} right, the"
        f" package's head {of_package:.1%}; dealt alike, logits differ by {difference:.1e} of"
        f" {np.abs(logits).max():.1f} ({tmp_path}/learning.png)"
    )
    assert difference < 0.02 * np.abs(logits).max()
    assert abs(right - of_package) <= 0.05 and right > 0.5
    bound = {"none": 0.01, "int8": 0.06}[quantization]
    for answer, row in zip(given, logits):
        expected = np.exp(row - row.max()) / np.exp(row - row.max()).sum()
        for name, probability in answer.items():
            assert probability == pytest.approx(expected[names.index(name)], abs=bound)


_DROP = """([selector, dropped]) => {
  const transfer = new DataTransfer();
  for (const [name, content] of dropped) {
    const bytes = Uint8Array.from(atob(content), (character) => character.charCodeAt(0));
    transfer.items.add(new File([bytes], name));
  }
  const event = new DragEvent("drop", {dataTransfer: transfer, bubbles: true, cancelable: true});
  document.querySelector(selector).dispatchEvent(event);
}"""


def drop(page, selector, pictures):
    page.evaluate(
        _DROP,
        [selector, [(name, base64.b64encode(content).decode()) for name, content in pictures]],
    )


def test_pictures_come_by_drop_by_folder_and_from_the_camera(trunks, page, tmp_path):
    for name, pictures in taught().items():
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for file, content in pictures[:2]:
            (tmp_path / "pictures" / name / file).write_bytes(content)
        (tmp_path / "pictures" / name / ".hidden").write_bytes(b"no picture")
    alert = page.get_by_role("alert")
    with serving(serve_page.Server(trunks["int8"], 0)) as address:
        opened(page, address)
        page.get_by_label("Choose a folder").set_input_files(tmp_path / "pictures")
        cards = page.locator(".class")
        expect(cards).to_have_count(10)
        expect(page.locator(".thumbnails canvas")).to_have_count(20)
        names = cards.get_by_label("Name of the class").evaluate_all(
            "all => all.map((x) => x.value)"
        )
        assert sorted(names) == sorted(shapes.CLASS_NAMES)
        expect(alert).to_be_empty()
        drop(page, ".class", [("one.png", png("train", 90)), ("two.png", png("train", 100))])
        expect(cards.first.locator(".thumbnails canvas")).to_have_count(4)
        cards.first.locator(".thumbnails button").last.click()
        expect(cards.first.locator(".thumbnails canvas")).to_have_count(3)
        page.get_by_role("button", name="Use the camera").click()
        cards.nth(1).get_by_role("button", name="From the camera").click()
        expect(cards.nth(1).locator(".thumbnails canvas")).to_have_count(3)
        assert "22 pictures" in learnt(page)
        page.get_by_role("button", name="What is this?").click()
        expect(page.locator("#time")).to_contain_text("took", timeout=WAIT)
        page.get_by_role("button", name="Turn the camera off").click()
        expect(page.locator("#view")).to_be_hidden()
        for width in (320, 1000):
            page.set_viewport_size({"width": width, "height": 800})
            assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert all(url.startswith((address, "data:", "blob:")) for url in page.requested)


def test_mistakes_in_teaching_are_told_in_one_line(models, trunks, page, tmp_path):
    alert, good = page.get_by_role("alert"), png("train", 0)
    with serving(serve_page.Server(trunks["int8"], 0)) as address:
        opened(page, address)
        cards, button = page.locator(".class"), page.get_by_role("button", name="Learn", exact=True)
        button.click()
        expect(alert).to_have_text("class 1 has no pictures; add some, or remove the class.")
        drop(
            page,
            ".class",
            [("good.png", good), ("notes.txt", b"no picture"), ("bad.png", good[:50])],
        )
        expect(alert).to_have_text(
            "Not pictures that this browser can open: notes.txt, bad.png; choose JPEG, PNG or WebP"
            " files. The others were added."
        )
        expect(page.locator(".thumbnails canvas")).to_have_count(1)
        cards.nth(1).get_by_label("Name of the class").fill("class 1")
        button.click()
        expect(alert).to_have_text("Two classes are called class 1; give one of them another name.")
        cards.nth(1).get_by_label("Name of the class").fill(" ")
        button.click()
        expect(alert).to_have_text("Class number 2 has no name; give it one.")
        cards.nth(1).get_by_role("button", name="Remove", exact=True).click()
        button.click()
        expect(alert).to_have_text("One class cannot be told from others; add another.")
        expect(page.get_by_role("button", name="Save what was learnt")).to_be_disabled()
        drop(page, "#drop", [("good.png", good), ("other.png", good)])
        expect(alert).to_have_text(
            "2 files were dropped here; drop one, or drop several on the class that they show."
        )
        # One picture of each: nothing can be left out, and it learns all the same.
        page.get_by_role("button", name="Add a class").click()
        cards.nth(1).get_by_label("Add pictures").set_input_files(files([("a.png", good)]))
        expect(cards.nth(1).locator(".thumbnails canvas")).to_have_count(1)
        assert "it could be tested" in learnt(page)
        whole = saved(page)
        values = base64.b64encode(np.full(len(whole["classes"]), np.nan, np.float32)).decode()
        short = base64.b64encode(np.zeros(6, np.float32)).decode()
        for change, message in (
            ({"format": "2"}, "is not a file that this page saved, or it is damaged."),
            ({"classes": ["one"]}, "is not a file that this page saved, or it is damaged."),
            ({"bias": values}, "is not a file that this page saved, or it is damaged."),
            ({"kernel": short[:5]}, "is not a file that this page saved, or it is damaged."),
            (
                {"kernel": short},
                "was learnt on a network other than the open one; choose that .tflite file first.",
            ),
            (
                {"network": {"weights_sha256": "other"}},
                "was learnt on a network other than the open one; choose that .tflite file first.",
            ),
        ):
            (tmp_path / "odd.json").write_text(json.dumps(whole | change))
            page.get_by_label("Open what was learnt").set_input_files(tmp_path / "odd.json")
            expect(alert).to_have_text(f"odd.json {message}")
        pixels = whole["network"]["preprocessing"]
        for changed, told in (
            (pixels | {"mean": [0, 0, 0]}, re.compile("was learnt on a network other")),
            (pixels | {"of a later version": 1}, ""),
        ):
            network = whole["network"] | {"preprocessing": changed}
            (tmp_path / "odd.json").write_text(json.dumps(whole | {"network": network}))
            page.get_by_label("Open what was learnt").set_input_files(tmp_path / "odd.json")
            expect(alert).to_have_text(told)
        (tmp_path / "odd.json").write_text("{")
        page.get_by_label("Open what was learnt").set_input_files(tmp_path / "odd.json")
        expect(alert).to_have_text("odd.json is not a file that this page saved, or it is damaged.")
        # A whole network learns nothing here.
        page.get_by_label("Choose a .tflite file").set_input_files(models["int8"])
        expect(page.locator("#learning")).to_be_hidden(timeout=WAIT)
        drop(page, "#drop", [("odd.json", json.dumps(whole).encode())])
        expect(alert).to_have_text(
            "odd.json is for a network that learns classes; choose the .tflite file that it was"
            " learnt on first."
        )


def test_what_was_learnt_is_of_the_classes_that_the_page_shows(trunks, page):
    classes = dict(list(taught().items())[:2])
    first, second = classes
    changed = "The classes have changed since; press Learn."
    with serving(serve_page.Server(trunks["int8"], 0)) as address:
        opened(page, address)
        teach(page, classes)
        said = learnt(page)
        told, save = (
            page.locator("#learnt"),
            page.get_by_role("button", name="Save what was learnt"),
        )
        cards, answer = page.locator(".class"), page.locator("#classes li div span").all_inner_texts
        (before,) = answers(page, [classes[first][0][1]])
        # Another name needs no learning.
        name = cards.first.get_by_label("Name of the class")
        name.fill("renamed")
        name.blur()
        expect(page.locator("#known")).to_have_text(f"renamed, {second}")
        expect(page.locator("#classes")).to_contain_text("renamed")
        assert first not in answer() and set(answer()) == {"renamed", second}
        expect(told).to_have_text(said)
        assert answers(page, [classes[first][0][1]])[0]["renamed"] == before[first]
        assert saved(page)["classes"] == ["renamed", second]
        # Names that could not be learnt are not taken over.
        for odd in (second, " "):
            name.fill(odd)
            name.blur()
            expect(told).to_have_text(changed)
            expect(save).to_be_disabled()
        assert set(answer()) == {"renamed", second}
        name.fill(first)
        name.blur()
        expect(told).to_have_text(said)
        expect(save).to_be_enabled()
        # Pictures and classes do.
        drop(page, ".class", [("more.png", png("train", 90))])
        expect(told).to_have_text(changed)
        expect(save).to_be_disabled()
        cards.first.locator(".thumbnails button").last.click()
        expect(told).to_have_text(said)
        cards.first.locator(".thumbnails button").last.click()
        expect(told).to_have_text(changed)
        said = learnt(page)
        assert saved(page)["pictures"] == [TAUGHT - 1, TAUGHT]
        page.get_by_role("button", name="Add a class").click()
        expect(told).to_have_text(changed)
        cards.last.get_by_role("button", name="Remove", exact=True).click()
        expect(told).to_have_text(said)
        cards.last.get_by_role("button", name="Remove", exact=True).click()
        expect(told).to_have_text(changed)
        expect(save).to_be_disabled()


def test_pictures_of_a_class_count_once(trunks, page, tmp_path):
    folder = tmp_path / "flowers"
    for place in ("daisy/2020", "daisy/2021", "iris/2022", "iris/@eaDir"):
        (folder / place).mkdir(parents=True)
        (folder / place / "1.png").write_bytes(png("train", 0))
    (folder / "beside.png").write_bytes(png("train", 1))
    with serving(serve_page.Server(trunks["int8"], 0)) as address:
        opened(page, address)
        alert, beside = (
            page.get_by_role("alert"),
            "Outside the class folders, so left out: flowers/beside.png.",
        )
        page.get_by_label("Choose a folder").set_input_files(folder)
        expect(alert).to_have_text(f"{beside} The others were added.")
        page.get_by_label("Choose a folder").set_input_files(folder)
        expect(alert).to_contain_text(
            re.compile(r"^Already there, and counted once: (\w+/1.png(, |\. )){3}" + beside)
        )
        thumbnails = page.locator(".class").locator(".thumbnails canvas")
        expect(thumbnails).to_have_count(3)
        names = page.get_by_label("Name of the class").evaluate_all(
            "all => all.map((x) => x.value)"
        )
        assert sorted(names) == ["daisy", "iris"]
        for told in ("", "Already there, and counted once: beside.png."):
            page.get_by_label("Add pictures").first.set_input_files(folder / "beside.png")
            expect(alert).to_have_text(told)
            expect(thumbnails).to_have_count(4)


def test_the_camera_is_off_where_nothing_shows_that_it_is_on(models, trunks, page):
    track = "document.getElementById('view').srcObject.getTracks()[0]"
    alert, button = page.get_by_role("alert"), page.get_by_role("button", name="Use the camera")
    with serving(serve_page.Server(trunks["int8"], 0)) as address:
        opened(page, address)
        button.click()
        expect(page.locator("#view")).to_be_visible()
        # Chromium's camera cannot be pulled out: it is stopped, which fires no event.
        page.evaluate(f"{track}.stop()")
        page.get_by_role("button", name="What is this?").click()
        expect(alert).to_have_text("The camera is off, and no picture was taken; turn it on again.")
        page.evaluate(f"{track}.dispatchEvent(new Event('ended'))")
        expect(alert).to_have_text(
            "The camera has stopped; turn it on again, or choose picture files."
        )
        expect(page.locator("#view")).to_be_hidden()
        button.click()
        expect(page.locator("#view")).to_be_visible()
        page.evaluate(f"globalThis.before = {track}")
        page.get_by_label("Choose a .tflite file").set_input_files(models["int8"])
        expect(page.locator("#learning")).to_be_hidden(timeout=WAIT)
        assert page.evaluate("before.readyState") == "ended"
        assert page.evaluate("document.getElementById('view').srcObject") is None


def test_over_plain_http_the_page_says_what_it_cannot_do(trunks, page):
    with serving(serve_page.Server(trunks["int8"], 0)) as address:
        host = "http://alexnet.test/"  # no name of this machine; only the address is trusted
        page.route(
            f"{host}**",
            lambda route: route.fulfill(
                response=route.fetch(url=route.request.url.replace(host, address))
            ),
        )
        opened(page, host)
        expect(page.get_by_role("status")).to_contain_text(
            "It was not checked for damage: browsers can do that only for pages over https, or from"
            " this machine itself."
        )
        page.get_by_role("button", name="Use the camera").click()
        expect(page.get_by_role("alert")).to_have_text(
            "Browsers give the camera only to pages over https, or from this machine itself; choose"
            " picture files instead."
        )
        opened(page, address)
        expect(page.get_by_role("status")).not_to_contain_text("damage")


# What no browser can be made to do: folders are dropped, and file names come from other systems.
# Node runs the page's own files; the elements of the page are the least that they need.
_ELEMENTS = """
globalThis.createImageBitmap = async (one) => {
  if (one instanceof Blob && await one.text() === "no picture") throw new Error("no picture");
  return {width: 4, height: 4};
};
globalThis.OffscreenCanvas = class {
  getContext() {
    const getImageData = () => ({width: 4, height: 4, data: []});
    return {fillRect() {}, setTransform() {}, drawImage() {}, getImageData};
  }
};
const cards = [];
class Element {
  inner = {};
  querySelector(selector) { return this.inner[selector] ??= new Element(); }
  append() {}
  addEventListener() {}
  getContext() { return {drawImage() {}}; }
  remove() { cards.splice(cards.indexOf(this), 1); }
}
const template = {content: {cloneNode: () => ({firstElementChild: new Element()})}};
globalThis.document = {
  querySelectorAll: () => cards,
  createElement: () => new Element(),
  getElementById: (id) => id === "card" ? template : {append: (card) => cards.push(card)},
};
console.error = () => {};
const [page, nobodys, splits] = [process.argv[1], ...process.argv.slice(2).map(JSON.parse)];
const learning = await import(page);
const fileAt = (path) => {
  const name = path.split("/").at(-1), content = name.endsWith(".txt") ? "no picture" : "picture";
  return {path, file: new File([content], name, {lastModified: 1})};
};
const entry = (isDirectory) => ({kind: "file", webkitGetAsEntry: () => ({isDirectory})});
const told = async (paths) => {
  cards.length = 0;
  const error = await learning.addFolders(paths.map(fileAt)).catch((error) => error);
  const named = (card) => [card.querySelector("[type=text]").value, card.pictures.length];
  return [error?.message ?? "", Object.fromEntries(cards.map(named))];
};
const {files, folders} = learning.sorted({
  files: [{name: "cat"}, {name: "dog.jpg"}],
  items: [{kind: "string"}, entry(true), entry(false)],
});
console.log(JSON.stringify({
  bad: await told(["p/cat/1.jpg", "p/cat/1.txt", "p/dog/1.jpg", "p/dog/2.txt"]),
  many: await told([..."abcdefghijkl"].map((name) => `p/cat/${name}.txt`)),
  twice: await told(["train/emu/1.jpg", "train/cat/1.jpg", "test/emu/2.jpg"]),
  nested: await told([
    "p/cat/a/1.jpg", "p/cat/b/1.jpg", "p/cat/1.jpg", "p/dog/a/b/1.jpg", "p/3.jpg",
  ]),
  flat: await told(["cat/1.jpg", "cat/2.jpg", "dog/1.jpg", "dog/old/2.jpg"]),
  roots: await told(["p/cat/1.jpg", "q/emu/1.jpg", "q/emu/old/2.jpg"]),
  nobodys: await told([
    ".p/cat/1.jpg", ...nobodys.flatMap((name) => [`.p/cat/${name}/2.jpg`, `.p/${name}/3.jpg`]),
  ]),
  nobodysRoots: await told(["cat/1.jpg", ...nobodys.map((name) => `${name}/1.jpg`)]),
  splits: await Promise.all(splits.map((name) => told([`p/${name}/cat/1.jpg`]))),
  folds: await told(["1/cat/1.jpg", "1/dog/1.jpg", "2/cat/2.jpg", "2/dog/2.jpg"].map(
    (path) => `p/fold ${path}`
  )),
  years: await told(["cat/2020/1.jpg", "cat/2021/1.jpg", "dog/2020/2.jpg", "dog/2021/2.jpg"].map(
    (path) => `p/${path}`
  )),
  again: await told(["p/cat/1.jpg", "p/cat/a/1.jpg", "p/cat/1.jpg"]),
  route: await told(["p/cat/1.jpg", "p/cat/a/1.jpg"]).then(async () => {
    const found = ["cat/1.jpg", "cat/2.jpg"].map(fileAt);
    const dropped = await learning.addFolders(found).catch((error) => error);
    const one = fileAt("1.jpg").file;
    const chosen = await learning.addPictures(cards[0], [one]).catch((error) => error);
    return [dropped.message, chosen.message, cards[0].pictures.length];
  }),
  forms: await told(["p/ga\\u0308nse/1.jpg"]).then(async ([, first]) => {
    await learning.addFolders([fileAt("q/g\\u00e4nse/2.jpg")]);
    return [first, cards.map((card) => card.pictures.length)];
  }),
  sorted: [files, folders.length],
}));
"""


def test_folders_are_classes_and_what_is_amiss_is_told_of_all():
    splits = [one for words in USUAL_NAMES.values() for one in words]
    nobodys = [name.decode() for name in picture_files._NOBODYS_FOLDERS]
    given = [str(serve_page.PAGE / "learning.js"), json.dumps(nobodys), json.dumps(splits)]
    done = subprocess.run(
        ["node", "--input-type=module", "--eval", _ELEMENTS, *given],
        check=True,
        capture_output=True,
        text=True,
    )
    told, advice = json.loads(done.stdout), "choose JPEG, PNG or WebP files."
    unreadable = "Not pictures that this browser can open: "
    split = (
        "{0} holds folders, as a split does, so nothing was added; choose {0} itself, or drop its"
        " pictures on the class that they show."
    )
    assert told == {
        "bad": [
            f"{unreadable}cat/1.txt, dog/2.txt; {advice} The others were added.",
            {"cat": 1, "dog": 1},
        ],
        "many": [
            f"{unreadable}{', '.join(f'cat/{name}.txt' for name in 'abcdefghij')} and 2 more;"
            f" {advice}",
            {"cat": 0},
        ],
        "twice": [
            "train/emu and test/emu would be one class, so nothing was added; choose the folder of"
            " one of them, or give one another name.",
            {},
        ],
        "nested": [
            "Outside the class folders, so left out: p/3.jpg. The others were added.",
            {"cat": 3, "dog": 1},
        ],
        "flat": [
            "",
            {"cat": 2, "dog": 2},
        ],
        "roots": ["", {"cat": 1, "emu": 2}],
        "nobodys": ["", {"cat": 1}],
        "nobodysRoots": ["", {"cat": 1}],
        "splits": [[split.format(f"p/{name}"), {}] for name in splits],
        "folds": [split.format("p/fold 1"), {}],
        "years": ["", {"cat": 2, "dog": 2}],
        "route": [
            "Already there, and counted once: cat/1.jpg. The others were added.",
            "Already there, and counted once: 1.jpg.",
            3,
        ],
        "again": ["Already there, and counted once: cat/1.jpg. The others were added.", {"cat": 2}],
        "forms": [{"g\u00e4nse": 1}, [2]],
        "sorted": [[{"name": "dog.jpg"}], 1],
    }
