"""The page of examples/browser in a real Chromium: its answers are the interpreter's, and it asks
no other host for anything.

Prints the figures of BUILD_NOTES.md. Needs Chromium beside what `make proof` brings.
"""

import base64
import contextlib
import dataclasses
import functools
import http.server
import io
import os
import pathlib
import re
import shutil
import statistics
import subprocess
import sys
import threading

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect, sync_playwright

from alexnet_tf import preprocessing
from alexnet_tf.classifiers import TOP, best_classes
from alexnet_tf.commands import serve_page
from alexnet_tf.data import shapes
from alexnet_tf.exports import artifacts, saved_model
from alexnet_tf.network.model import build_model
from alexnet_tf.preprocessing import Preprocessing

ROOT = pathlib.Path(__file__).parent.parent.parent
PIXELS = Preprocessing(227, 256, 3, (123.0, 117.0, 104.0), 1.0)
WAIT = 120_000  # milliseconds; a page that needs them is broken


# In a process of its own, which gives its memory back. `alexnet convert` itself would refuse int8,
# since answers of random weights hang by a thread; here they only have to be the same in the page
# and out of it.
_CONVERT = """
import numpy as np
from alexnet_tf import preprocessing
from alexnet_tf.exports import artifacts, tflite, tflite_metadata
version = {folder!r} + "/exports/1"
manifest = artifacts.read_manifest(version)
labels = "".join(f"{{name}}\\n" for name in artifacts.read_labels(version))
pixels = preprocessing.Preprocessing(**manifest["preprocessing"])
for quantization in ("none", "int8"):
    images = list(np.load({folder!r} + "/images.npy"))
    content = tflite.convert(version, quantization, images)
    told = manifest | {{"quantization": quantization}}
    content = tflite_metadata.complete(content, pixels, labels, told)
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

    manifest = {
        "variant": "paper",
        "preprocessing": dataclasses.asdict(PIXELS),
        "weights_sha256": "random",
    }
    saved_model.write(model, PIXELS, shapes.CLASS_NAMES, manifest, folder / "exports/1")
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
            without_headers(), model=str(models[quantization])
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


_CLASSIFY = """async ([levels, least]) => {
  const {Classifier} = await import("/artifacts.js");
  const classifier = Object.create(Classifier.prototype);
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
        "notes.txt is no picture that this browser can open; choose a JPEG, PNG or WebP file."
    )
    whole = models["int8"].read_bytes()
    for content in (b"", b"TFL3" * 100, whole[:-1000], whole[:1000] + whole[-5000:]):
        (tmp_path / "other.tflite").write_bytes(content)
        bare.get_by_label("Choose a .tflite file").set_input_files(tmp_path / "other.tflite")
        expect(alert).to_have_text(
            "other.tflite is not a .tflite file that tools/convert_tflite.py wrote, or it is"
            " damaged."
        )
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
            "The LiteRT runtime is not beside this page"
        )
        page.unroute_all()
        page.add_init_script("delete globalThis.WebAssembly")
        page.goto(address)
        expect(page.get_by_role("alert")).to_have_text(
            "This browser has no WebAssembly, which the network runs in."
        )
