"""A small export and a server of it, for the tests of serving."""

import asyncio
import concurrent.futures
import contextlib
import json
import threading
import urllib.error
import urllib.request

import keras

from alexnet_tf.exports import saved_model
from alexnet_tf.manifest import Manifest
from alexnet_tf.network.model import build_model
from alexnet_tf.preprocessing import Preprocessing
from alexnet_tf.serving import grpc_api, monitoring, rest_api, versions
from alexnet_tf.settings import Settings

CLASS_NAMES = [
    "checked disc",
    "plain star",
    "striped disc",
    "ringed star",
    "dotted disc",
    "plain disc",
]
SIZES = [1, 2, 4, 8]


def write_export(path, seed=1):
    """An export of lenet5, of six classes; a seed has its own weights."""
    keras.utils.set_random_seed(seed)
    pixels = Preprocessing(28, 32, 1, (120.0,), 64.0)
    manifest = Manifest(Settings("lenet5", pixels, CLASS_NAMES), batch_sizes=tuple(SIZES))
    saved_model.write(build_model("lenet5", len(CLASS_NAMES)), manifest, path)


class Served:
    """A server in this process:

    `url` of its REST interface, `address` of its gRPC one, `core` the versions.Server.
    """

    def __init__(self, folder):
        # Polled by the tests alone.
        self.core = versions.Server(
            "alexnet", folder, poll_seconds=threading.TIMEOUT_MAX, metrics=monitoring.Metrics()
        )
        self._loop, started = asyncio.new_event_loop(), concurrent.futures.Future()
        self._thread = threading.Thread(
            target=self._loop.run_until_complete, args=[self._serve(started)]
        )
        self._thread.start()
        port, grpc_port = started.result()
        self.url, self.address = f"http://127.0.0.1:{port}", f"127.0.0.1:{grpc_port}"
        self.port = port

    async def _serve(self, started):
        socket = rest_api.bind("127.0.0.1", 0)
        grpc_server, grpc_port = await grpc_api.start(self.core, "127.0.0.1", 0)
        self._rest = rest_api.rest_server(self.core)
        started.set_result((socket.getsockname()[1], grpc_port))
        await self._rest.serve(sockets=[socket])
        await grpc_server.stop(None)

    def close(self):
        self._rest.should_exit = True
        self._thread.join()
        self._loop.close()
        self.core.close()

    def request(self, path, body=None, method=None, headers=()):
        """(status, body) of a request; `body` is bytes, or an object to be sent as JSON."""
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, dict(headers), method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with contextlib.closing(error):
                return error.code, error.read().decode()

    def predict(self, body, path="/v1/models/alexnet:predict", headers=()):
        status, text = self.request(path, body, headers=headers)
        return status, json.loads(text)
