"""Serves the page that classifies pictures in a browser, examples/browser, with a .tflite file for it.

    make browser                                              # once: brings the LiteRT web runtime beside the page
    python tools/serve_page.py --model=alexnet.tflite         # then open the address that it prints

For this machine alone (127.0.0.1). The page is static: any web server may serve that folder instead, with the .tflite file in it
as model.tflite. The two headers below are what a browser asks for before it lets a page use threads.
"""

import functools
import http.server
import pathlib
import sys

from absl import flags

from alexnet_tf.errors import UserError
from alexnet_tf.exports import artifacts

FLAGS = flags.FlagValues()
_MODEL = flags.DEFINE_string("model", "models/shapes/alexnet.tflite", "The .tflite file that the page opens with.", flag_values=FLAGS)
_PORT = flags.DEFINE_integer("port", 8000, "Of this machine, to serve on; 0: any that is free.", lower_bound=0, upper_bound=65535, flag_values=FLAGS)

PAGE = pathlib.Path(__file__).parent.parent / "examples/browser"


class Handler(http.server.SimpleHTTPRequestHandler):
    """The files of PAGE, and the model as /model.tflite."""

    def __init__(self, *arguments, model):
        self._model = model
        super().__init__(*arguments, directory=PAGE)

    def translate_path(self, path):
        return self._model if path.partition("?")[0] == "/model.tflite" else super().translate_path(path)

    def end_headers(self):
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")
        self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        self.send_header("Cache-Control", "no-cache")  # a model that was converted again is loaded again
        super().end_headers()

    def log_request(self, code="-", size="-"):
        """A page that opens is no news; errors still are."""


class Server(http.server.ThreadingHTTPServer):
    """Closes its sockets with its `with` block."""

    def __init__(self, model, port):
        """Raises UserError if the page is not complete, `model` is not a file of ours, or the port is taken."""
        try:
            artifacts.Tflite(pathlib.Path(model).read_bytes(), model)
        except OSError as error:
            raise UserError(f"--model={model} cannot be read ({error.strerror}); tools/convert_tflite.py writes one.") from None
        if not (PAGE / "node_modules/@litertjs/core").is_dir():
            raise UserError("The page has no LiteRT web runtime beside it yet; run make browser first.")
        try:
            super().__init__(("127.0.0.1", port), functools.partial(Handler, model=str(model)))
        except OSError as error:
            raise UserError(f"--port={port} is not to be had ({error.strerror}); pass another, or 0 for any.") from None

    def handle_error(self, request, client_address):
        if not isinstance(sys.exception(), ConnectionError):  # a browser that leaves in the middle of a file may do so
            super().handle_error(request, client_address)


def main():
    with Server(_MODEL.value, _PORT.value) as server:
        print(f"http://127.0.0.1:{server.server_port}/ shows the page, with {_MODEL.value}; Ctrl-C ends it.", flush=True)
        server.serve_forever()
