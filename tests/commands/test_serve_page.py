"""The page's server: the files, the model under its name, the headers that threads need, and what
is refused.
"""

import contextlib
import http.client
import json
import os
import pathlib
import re
import socket
import threading

import pytest

from alexnet_tf.commands import serve_page
from alexnet_tf.errors import UserError

ROOT = pathlib.Path(__file__).parents[2]
PAGE = ROOT / "examples/browser"


def write_runtime(node_modules, version="2.5.3"):
    core = node_modules / "@litertjs/core"
    core.mkdir(parents=True)
    (core / "package.json").write_text(json.dumps({"version": version}))
    (core / "core.js").write_text(f"the runtime {version}")


@pytest.fixture
def page(tmp_path, monkeypatch):
    """A folder that stands for the page with its runtime, and a model that is taken for one of
    ours.
    """
    write_runtime(tmp_path / "page/node_modules")
    (tmp_path / "page/package.json").write_text('{"dependencies": {"@litertjs/core": "2.5.3"}}')
    (tmp_path / "page/index.html").write_text("the page")
    (tmp_path / "secret.txt").write_text("not of the page")
    (tmp_path / "net.tflite").write_bytes(b"the model")
    monkeypatch.setattr(serve_page, "PAGE", tmp_path / "page")
    monkeypatch.setattr(serve_page.artifacts, "Tflite", lambda content, name: None)
    return tmp_path


@contextlib.contextmanager
def answers(server):
    """Returns a function from a path to (status, headers, body)."""

    def get(path, **headers):
        connection = http.client.HTTPConnection("127.0.0.1", server.server_port)
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        answer = response.status, response.headers, response.read()
        connection.close()
        return answer

    with server:
        threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
        yield get
        server.shutdown()


def test_page_model_and_headers(page):
    with answers(serve_page.Server(page / "net.tflite", 0)) as get:
        for path, body in (
            ("/", b"the page"),
            ("/model.tflite", b"the model"),
            ("/model.tflite?again", b"the model"),
        ):
            status, headers, content = get(path)
            assert (status, content) == (200, body) and headers["Content-Length"] == str(len(body))
            assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
            assert headers["Cross-Origin-Embedder-Policy"] == "require-corp"
        for path in ("/../secret.txt", "/net.tflite", "/other.tflite"):
            assert get(path)[0] == 404


def test_an_older_model_on_the_same_port_is_sent(page):
    """The page would run the one that the browser has kept."""
    older = page / "gänse 2.tflite"
    older.write_bytes(b"an older one")
    os.utime(older, (1e9, 1e9))
    with answers(serve_page.Server(older, 0)) as get:
        kept = {"If-Modified-Since": "Sat, 01 Jan 2022 00:00:00 GMT"}
        status, headers, content = get("/model.tflite", **kept)
        assert (status, content) == (200, b"an older one")
        assert headers["Cache-Control"] == "no-cache"
        told = headers["Content-Disposition"]
        assert told == "inline; filename*=UTF-8''g%C3%A4nse%202.tflite"
        assert "Content-Disposition" not in get("/")[1]


def test_what_is_no_request_is_answered(page):
    server = serve_page.Server(page / "net.tflite", 0)
    with answers(server), socket.create_connection(server.server_address) as asking:
        asking.sendall(b"GET / HTTP/1.1 and more\r\n\r\n")
        assert b"400" in asking.makefile("rb").read()


def test_what_is_refused(page, monkeypatch):
    with (
        serve_page.Server(page / "net.tflite", 0) as server,
        pytest.raises(
            UserError,
            match=f"--port={server.server_port} is not available .Address already in use",
        ),
    ):
        serve_page.Server(page / "net.tflite", server.server_port)
    with pytest.raises(UserError, match="no.tflite cannot be read .No such file"):
        serve_page.Server(page / "no.tflite", 0)
    (page / "page/node_modules/@litertjs/core/package.json").unlink()
    with pytest.raises(
        UserError,
        match=(
            "node_modules does not hold the LiteRT web runtime; run npm install"
            " @litertjs/core@2.5.3"
        ),
    ):
        serve_page.Server(page / "net.tflite", 0)
    (page / "Makefile").write_text("")
    (page / "examples").mkdir()
    (page / "page").rename(page / "examples/browser")
    monkeypatch.setattr(serve_page, "PAGE", page / "examples/browser")
    with pytest.raises(UserError, match="does not hold the LiteRT web runtime; run make browser"):
        serve_page.Server(page / "net.tflite", 0)
    write_runtime(page / "elsewhere", "2.4.0")
    with pytest.raises(
        UserError, match="elsewhere holds @litertjs/core 2.4.0, but the page needs 2.5.3"
    ):
        serve_page.Server(page / "net.tflite", 0, page / "elsewhere")


def test_the_runtime_may_be_elsewhere(page):
    write_runtime(page / "elsewhere/node_modules")
    (page / "page/node_modules/@litertjs/core/core.js").write_text("beside the page")
    for node_modules, body in (
        (None, b"beside the page"),
        (page / "elsewhere/node_modules", b"the runtime 2.5.3"),
    ):
        with answers(serve_page.Server(page / "net.tflite", 0, node_modules)) as get:
            assert get("/node_modules/@litertjs/core/core.js")[::2] == (200, body)
            for path in (
                "/node_modules/../../secret.txt",
                "/node_modules/%2e%2e/%2e%2e/secret.txt",
            ):
                assert get(path)[0] == 404


def test_a_browser_that_leaves_is_no_error(page, capsys):
    with serve_page.Server(page / "net.tflite", 0) as server:
        for error, told in ((ConnectionResetError(), False), (KeyError(), True)):
            try:
                raise error
            except Exception:
                server.handle_error(None, ("127.0.0.1", 1))
            assert bool(capsys.readouterr().err) == told


def test_a_file_that_is_not_ours_is_refused(tmp_path):
    pointer = tmp_path / "net.tflite"
    pointer.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:")
    with pytest.raises(UserError, match=f"^{pointer} is git LFS's pointer to the file, which git"):
        serve_page.Server(pointer, 0)
    with pytest.raises(UserError, match="index.html is not a file that alexnet convert wrote"):
        serve_page.Server(PAGE / "index.html", 0)


def test_the_page_names_no_other_host():
    files = [path for path in PAGE.iterdir() if path.is_file()]
    assert {"index.html", "style.css", "page.js", "package-lock.json", ".npmrc"} <= {
        path.name for path in files
    }
    for path in files:
        assert not re.search(r"//\w+\.\w|registry=", path.read_text()), path
    pinned = json.loads((PAGE / "package.json").read_text())["dependencies"]["@litertjs/core"]
    assert (
        json.loads((PAGE / "package-lock.json").read_text())["packages"][
            "node_modules/@litertjs/core"
        ]["version"]
        == pinned
    )
