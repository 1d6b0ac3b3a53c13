"""Serves the page that classifies pictures in a browser, and a .tflite file for it.

    alexnet serve-page --model=alexnet.tflite         # then open the address that it prints

It serves only this machine (127.0.0.1). The page needs the LiteRT web runtime from npm: in a
checkout run `make browser`; elsewhere run `npm install @litertjs/core@2.5.3`, and pass
--node_modules=node_modules.

The page is static: any web server may serve examples/browser instead, with the .tflite file in it
as model.tflite. A browser lets it use threads if that server sends the same two headers as this
one.
"""

import functools
import http.server
import json
import pathlib
import sys
import urllib.parse

from absl import flags

from alexnet_tf import console
from alexnet_tf.commands import app
from alexnet_tf.errors import UserError
from alexnet_tf.exports import artifacts

FLAGS = flags.FlagValues()
_MODEL = flags.DEFINE_string(
    "model",
    app.TFLITE,
    "The .tflite file that the page opens with.",
    flag_values=FLAGS,
)
_NODE_MODULES = flags.DEFINE_string(
    "node_modules",
    None,
    "The node_modules folder into which npm installed the LiteRT web runtime; "
    "default: the one beside the page.",
    flag_values=FLAGS,
)
_PORT = app.define_port(FLAGS, "port", 8000, "The port to serve on")

_PACKAGE = pathlib.Path(__file__).parent.parent
# A wheel carries the page (setup.py); a checkout has it where it is edited.
PAGE = next(
    (
        page
        for page in (_PACKAGE / "browser", _PACKAGE.parent / "examples/browser")
        if page.is_dir()
    ),
    _PACKAGE / "browser",
)
_RUNTIME = "@litertjs/core"


class Handler(http.server.SimpleHTTPRequestHandler):
    """The files of PAGE, the runtime as /node_modules, and the model as /model.tflite."""

    def __init__(self, *arguments, model, node_modules):
        self._model, self._node_modules = model, node_modules
        super().__init__(*arguments, directory=PAGE)

    def _is_for_the_model(self):
        path = getattr(self, "path", "")  # a request that is none has no path
        return path.partition("?")[0] == "/model.tflite"

    def send_head(self):
        # Whoever serves an older file in place of one that the browser has kept would be answered
        # that it is not newer, and see the answers of the other.
        del self.headers["If-Modified-Since"]
        return super().send_head()

    def translate_path(self, path):
        if self._is_for_the_model():
            return self._model
        # without what leads out
        inside = pathlib.Path(super().translate_path(path)).relative_to(PAGE)
        runtime = inside.parts[:1] == ("node_modules",)
        return str(self._node_modules.joinpath(*inside.parts[1:]) if runtime else PAGE / inside)

    def end_headers(self):
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")
        self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        # a model that was converted again is loaded again
        self.send_header("Cache-Control", "no-cache")
        if self._is_for_the_model():  # what the page calls it
            name = urllib.parse.quote(pathlib.Path(self._model).name, errors="replace")
            self.send_header("Content-Disposition", f"inline; filename*=UTF-8''{name}")
        super().end_headers()

    def log_request(self, code="-", size="-"):
        """A page that opens is no news; errors still are."""


class Server(http.server.ThreadingHTTPServer):
    """Closes its sockets with its `with` block."""

    def __init__(self, model, port, node_modules=None):
        """Raises UserError if the page is not complete, `model` is not a file of ours, or the port
        is taken.
        """
        try:
            artifacts.Tflite(pathlib.Path(model).read_bytes(), model)
        except OSError as error:
            raise UserError(
                f"--model={model} cannot be read ({error.strerror}); alexnet convert writes one."
            ) from None
        node_modules = pathlib.Path(node_modules or PAGE / "node_modules").absolute()
        _check_runtime(node_modules)
        try:
            super().__init__(
                ("127.0.0.1", port),
                functools.partial(Handler, model=str(model), node_modules=node_modules),
            )
        except OSError as error:
            raise UserError(
                f"--port={port} is not available ({error.strerror}); pass another, or 0 for any "
                "free port."
            ) from None

    def handle_error(self, request, client_address):
        # a browser that leaves in the middle of a file may do so
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


def _check_runtime(node_modules):
    """Raises UserError unless the folder holds the runtime, in the version that the page is pinned
    to.
    """
    pinned = json.loads((PAGE / "package.json").read_text())["dependencies"][_RUNTIME]
    try:
        found = json.loads((node_modules / _RUNTIME / "package.json").read_text())["version"]
    except (OSError, ValueError, KeyError):
        bring = (
            "run make browser"
            if (PAGE.parent.parent / "Makefile").exists()
            else (
                f"run npm install {_RUNTIME}@{pinned} in any folder, and pass its node_modules as"
                " --node_modules"
            )
        )
        raise UserError(f"{node_modules} does not hold the LiteRT web runtime; {bring}.") from None
    if found != pinned:
        raise UserError(
            f"--node_modules={node_modules} holds {_RUNTIME} {found}, but the page needs {pinned}."
        )


def main():
    with Server(_MODEL.value, _PORT.value, _NODE_MODULES.value) as server:
        console.result(
            f"http://127.0.0.1:{server.server_port}/ shows the page, with {_MODEL.value}; Ctrl-C"
            " ends it.",
        )
        server.serve_forever()
