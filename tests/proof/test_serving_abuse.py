"""Whatever a client or an operator does to tools/serve.py: it answers or hangs up, lives, and goes
on to answer others rightly.
"""

import asyncio
import base64
import contextlib
import http.client
import io
import json
import os
import pathlib
import random
import re
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time

import grpc
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from tensorflow.core.framework import tensor_pb2
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))
from served import write_export

from alexnet_tf.data import shapes
from alexnet_tf.serving import grpc_api, limits

ROOT = pathlib.Path(__file__).parent.parent.parent
PICTURE = shapes.draw_jpeg("test", 0)
PREDICT = "/v1/models/alexnet:predict"
MUTATIONS, SLOW, VANISHING, IDLE, SWITCHES = 2000, 200, 500, 500, 20


@pytest.fixture(scope="module")
def exports(tmp_path_factory):
    folder = tmp_path_factory.mktemp("exports")
    for version in (1, 2):
        write_export(folder / str(version), seed=version)
    return folder


def scores(export):
    answer = tf.saved_model.load(str(export)).signatures["serving_default"](
        image_bytes=tf.constant([PICTURE])
    )
    return answer["probabilities"][0].numpy()


class Process:
    """tools/serve.py over version 1 of `exports`, in a process of its own."""

    def __init__(self, exports, folder):
        self.folder, self.exports, self.events, self.refusals = folder, exports, [], 0
        self.golden = {version: scores(exports / str(version)) for version in (1, 2)}
        shutil.copytree(exports / "1", folder / "1")
        self._process = subprocess.Popen(
            [
                sys.executable,
                ROOT / "tools/serve.py",
                f"--saved_model={folder}",
                "--port=0",
                "--rest_api_port=0",
                "--file_system_poll_wait_seconds=0.05",
            ],
            stderr=subprocess.PIPE,
            text=True,
        )
        started = threading.Event()
        self._reader = threading.Thread(target=self._read, args=[started])
        self._reader.start()
        assert started.wait(120)
        (serving,) = (event for event in self.events if event["event"] == "serving")
        self.rest, self.grpc = (
            ("127.0.0.1", serving["rest_api_port"]),
            (
                "127.0.0.1",
                serving["port"],
            ),
        )
        self.stub = prediction_service_pb2_grpc.PredictionServiceStub(
            grpc.insecure_channel("{}:{}".format(*self.grpc))
        )

    def _read(self, started):
        for line in self._process.stderr:
            # C libraries write there too
            self.events.append(json.loads(line) if line.startswith("{") else {"event": line})
            if self.events[-1]["event"] == "serving":
                started.set()

    def post(self, body, path=PREDICT):
        """(status, answer) of one request over a connection of its own."""
        with contextlib.closing(http.client.HTTPConnection(*self.rest, timeout=120)) as connection:
            connection.request("POST", path, body if isinstance(body, bytes) else json.dumps(body))
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())

    def version(self):
        """The version whose answer to PICTURE is given, over REST and gRPC alike."""
        while (answer := self.post({"instances": [b64(PICTURE)]}))[0] == 503:
            self.refusals += 1
        status, answer = answer
        assert status == 200, answer
        request = predict_pb2.PredictRequest(
            inputs={"image_bytes": tf.make_tensor_proto([PICTURE])}
        )
        request.model_spec.name = "alexnet"
        over_grpc = self.stub.Predict(request, 120).outputs["probabilities"].float_val
        found = [
            {
                version
                for version, golden in self.golden.items()
                if np.allclose(given, golden, rtol=1e-4)
            }
            for given in (answer["predictions"][0]["probabilities"], over_grpc)
        ]
        assert all(found), (answer, list(over_grpc))
        return max(found[1])

    def memory(self, peak=False):
        """Megabytes that are resident, or were at most."""
        status = pathlib.Path(f"/proc/{self._process.pid}/status").read_text()
        return int(re.search(r"VmHWM:\s+(\d+)" if peak else r"VmRSS:\s+(\d+)", status)[1]) / 1e3

    def descriptors(self):
        return len(os.listdir(f"/proc/{self._process.pid}/fd"))

    def close(self):
        self._process.terminate()
        self._process.wait()
        self._reader.join()
        self._process.stderr.close()
        return self._process.returncode


@pytest.fixture(scope="module")
def server(exports, tmp_path_factory):
    process = Process(exports, tmp_path_factory.mktemp("served"))
    yield process
    assert process.close() == 143
    assert not [event for event in process.events if "traceback" in event]


@pytest.fixture(autouse=True)
def unharmed(server):
    """Before and after each attack the same answers, and after it no connection too many."""
    assert server.version() == 1
    before = server.descriptors()
    yield
    assert server.version() == 1
    deadline = time.monotonic() + 90
    while server.descriptors() > before + 5:
        assert time.monotonic() < deadline, "connections are left open"


def b64(picture):
    return {"b64": base64.b64encode(picture).decode()}


def picture(side, kind, **options):
    file = io.BytesIO()
    Image.new("RGB", (side, side), "red").save(file, kind, **options)
    return file.getvalue()


def test_mutated_pictures(server):
    rng, counts = random.Random(0), {}
    originals = [PICTURE, *(picture(60, kind) for kind in ("PNG", "GIF", "BMP", "WEBP"))]
    for _ in range(MUTATIONS):
        damaged = bytearray(rng.choice(originals))
        for _ in range(rng.choice([0, 1, 10])):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        if rng.random() < 0.5:
            damaged = damaged[: rng.randrange(len(damaged))]
        status, answer = server.post({"instances": [b64(damaged)]})
        assert status in (200, 400) and (status == 200 or answer["error"])
        counts[status] = counts.get(status, 0) + 1
    print(f"{MUTATIONS} mutated pictures: {counts}")


def test_a_bad_picture_among_good_ones_of_others(server):
    body = {True: {"instances": [b64(PICTURE)]}, False: {"instances": [b64(PICTURE[:1500])]}}
    statuses = {True: set(), False: set()}

    def ask(good):
        for _ in range(50):
            statuses[good].add(server.post(body[good])[0])

    threads = [threading.Thread(target=ask, args=[index % 4 > 0]) for index in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == {True: {200}, False: {400}}


def test_decompression_bombs(server):
    largest = [
        picture(7000, "PNG", optimize=True),
        picture(7000, "JPEG", quality=30),
        picture(7000, "GIF"),
    ] * 2
    threads = [
        threading.Thread(target=server.post, args=[{"instances": [b64(bomb)]}]) for bomb in largest
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for kind, place, form in (("PNG", 16, ">II"), ("GIF", 6, "<HH"), ("BMP", 18, "<ii")):
        for side in (8000, 65000):
            bomb = bytearray(picture(100, kind))
            struct.pack_into(form, bomb, place, side, side)
            status, answer = server.post({"instances": [b64(bomb)]})
            assert status == 400 and answer["error"]
    assert server.post({"instances": [b64(largest[0])] * 2})[0] == 400
    print(
        f"bombs of 49 million pixels, {len(largest)} at once: at most"
        f" {server.memory(peak=True):.0f} MB"
    )


def raw(address, data, then=b""):
    """What comes back until the server hangs up, or for a whole answer."""
    with socket.create_connection(address, timeout=120) as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(data)
            for _ in range(100_000 if then else 0):
                connection.sendall(then)
        received = b""
        with contextlib.suppress(ConnectionError):
            while part := connection.recv(100_000):
                received += part
        return received


def test_bodies_without_end(server):
    head = f"POST {PREDICT} HTTP/1.1\r\nHost: x\r\n".encode()
    before = server.memory()
    for declared, chunk in (
        (b"Content-Length: 1073741824\r\n\r\n", b"[" * 65536),
        (b"Transfer-Encoding: chunked\r\n\r\n", b"10000\r\n" + b"[" * 65536 + b"\r\n"),
    ):
        answer = raw(server.rest, head + declared, chunk)
        # a client that goes on sending may not hear it
        assert answer == b"" or answer.startswith(b"HTTP/1.1 413")
    assert raw(server.rest, head + b"X: " + b"x" * 10**6).startswith(
        (b"HTTP/1.1 400", b"HTTP/1.1 431")
    )
    status, answer = server.post(b" " * (32 * 2**20 + 1))
    assert status == 413 and "longer than" in answer["error"]
    print(f"bodies without end: {server.memory() - before:+.0f} MB")


@pytest.mark.parametrize(
    "body",
    [
        b'{"instances": ' + b"[" * 50_000 + b"]" * 50_000 + b"}",
        b'{"instances": ' + b'{"a":' * 500_000,
        b"[" * 10**6,
        b'{"instances": [' + b"[]," * 10**7 + b"[]]}",
        b'{"instances": [' + b"9" * 10**6 + b"]}",
        b"\0" * 10**6,
        b'{"instances": [' + b'"x",' * 10**6 + b'"x"]}',
        b'{"signature_name": "images", "instances": [[[[1e999]]]]}',
    ],
    ids=["lists", "objects", "open", "empty lists", "digits", "zeros", "strings", "infinity"],
)
def test_hostile_json(server, body):
    status, answer = server.post(body)
    assert status == 400 and len(answer["error"]) < 1000


def test_mutated_json(server):
    rng, counts = random.Random(1), {}
    original = json.dumps(
        {
            "signature_name": "serving_default",
            "instances": [{"image_bytes": b64(picture(20, "PNG"))}],
        }
    ).encode()
    for _ in range(MUTATIONS):
        damaged = bytearray(original)
        for _ in range(rng.choice([1, 3])):
            position = rng.randrange(len(damaged))
            damaged[position : position + rng.randrange(3)] = bytes(
                rng.choice(b'{}[]":,\\ 019.eE-ntf\xff\0') for _ in range(2)
            )
        status, answer = server.post(bytes(damaged))
        assert status in (200, 400) and (status == 200 or answer["error"])
        counts[status] = counts.get(status, 0) + 1
    print(f"{MUTATIONS} mutated bodies: {counts}")


@pytest.mark.parametrize(
    "path",
    [
        "/v1/models/../../etc/passwd",
        "/v1/models/%2e%2e%2fetc%2fpasswd",
        "/v1/models/alexnet/versions/../../x",
        "//etc/passwd",
        "/v1/models/alexnet/labels/..%2F..%2Fetc",
        "/v1/models/%00",
        "/v1/models/alexnet%0d%0aX: y",
        "/v1/models/" + "a" * 50_000,
        "/v1/models/alexnet/versions/" + "9" * 4000,
        "/monitoring/../../etc/passwd",
        "/%ff%fe",
        "/v1/models/;id;$(id)",
    ],
)
@pytest.mark.parametrize("suffix", ["", ":predict", "/metadata"])
def test_tricks_in_paths(server, path, suffix):
    for method in (b"GET", b"POST"):
        answer = raw(
            server.rest,
            method
            + b" "
            + (path + suffix).encode()
            + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
        )
        assert answer[9:12] in (b"400", b"404") and b"root:" not in answer


def test_hostile_grpc(server):
    rng = random.Random(2)
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    for index in range(200):
        with (
            socket.create_connection(server.grpc, timeout=120) as connection,
            contextlib.suppress(ConnectionError),
        ):
            connection.sendall(preface * (index % 2) + rng.randbytes(rng.randrange(1, 5000)))
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(10_000):
                pass
    request = predict_pb2.PredictRequest(
        inputs={"image_bytes": tf.make_tensor_proto([b"x" * (65 * 2**20)])}
    )
    request.model_spec.name = "alexnet"
    with pytest.raises(grpc.RpcError, match="RESOURCE_EXHAUSTED"):
        server.stub.Predict(request, 120)
    for dims, values in (
        ([2**40], {}),
        ([2**31, 2**31, 2**31], {}),
        ([-1], {}),
        ([8, 227, 227, 3], {"float_val": [0.0]}),
        ([2**62], {"tensor_content": b"xxxx"}),
    ):
        for signature, dtype in (
            ("images", 1),
            ("serving_default", 7),
            ("serving_default", 99),
            ("images", 21),
        ):
            proto = tensor_pb2.TensorProto(dtype=dtype, **values)
            for dim in dims:
                proto.tensor_shape.dim.add(size=dim)
            request = predict_pb2.PredictRequest(
                inputs={"images" if signature == "images" else "image_bytes": proto}
            )
            request.model_spec.name, request.model_spec.signature_name = "alexnet", signature
            with pytest.raises(grpc.RpcError, match="INVALID_ARGUMENT"):
                server.stub.Predict(request, 120)


def test_slow_vanishing_and_idle_clients(server):
    """All at once; meanwhile others are answered."""
    head = f"POST {PREDICT} HTTP/1.1\r\nHost: x\r\n".encode()
    body = json.dumps({"instances": [b64(PICTURE)]}).encode()
    whole = head + b"Content-Length: %d\r\n\r\n" % len(body) + body
    rng, times = random.Random(3), []

    async def slow(number):
        """A byte now and then, until the server hangs up."""
        reader, writer = await asyncio.open_connection(*server.rest)
        closed = asyncio.ensure_future(reader.read())
        for byte in whole if number % 2 else head + b"X-Slow: " + b"x" * 10_000:
            writer.write(bytes([byte]))
            done, _ = await asyncio.wait({closed}, timeout=0.2)
            if done:
                break
        assert closed.done() and closed.result()[9:12] in (b"", b"408")
        writer.close()

    async def vanish(number):
        _, writer = await asyncio.open_connection(*(server.rest if number % 5 else server.grpc))
        writer.write(whole[: rng.randrange(len(whole) + 1)] if number % 2 else whole)
        if number % 3:
            writer.transport.abort()
        else:
            writer.close()

    async def idle(number):
        reader, writer = await asyncio.open_connection(
            *(server.rest if number % 5 else server.grpc)
        )
        with contextlib.suppress(ConnectionError):
            await reader.read()
        writer.close()

    async def others():
        for _ in range(100):
            begin = time.monotonic()
            assert await asyncio.to_thread(server.version) == 1
            times.append(time.monotonic() - begin)

    async def crowd():
        await asyncio.gather(
            others(),
            *(slow(number) for number in range(SLOW)),
            *(vanish(number) for number in range(VANISHING)),
            *(idle(number) for number in range(IDLE)),
        )

    asyncio.run(crowd())
    print(
        f"{SLOW} slow, {VANISHING} vanishing and {IDLE} idle clients: two predictions took"
        f" {np.median(times):.3f} s, at most {max(times):.3f} s"
    )


def test_requests_that_never_come_at_full_number(server):
    """More POSTs without a body, and gRPC calls without a request, than may be under way."""
    head = f"POST {PREDICT} HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n".encode()
    over = threading.Event()

    def never():
        over.wait()
        yield from ()

    with contextlib.ExitStack() as stack:
        channel = stack.enter_context(grpc.insecure_channel("{}:{}".format(*server.grpc)))
        stack.callback(over.set)
        for _ in range(limits.MAX_CONNECTIONS + 100):
            stack.enter_context(socket.create_connection(server.rest)).sendall(head)
        predict = channel.stream_unary("/tensorflow.serving.PredictionService/Predict")
        calls = [predict.future(never()) for _ in range(grpc_api.MAX_REQUESTS + 100)]
        given_up = threading.Semaphore(0)
        for call in calls:
            call.add_done_callback(lambda _: given_up.release())
        for _ in range(100):
            assert given_up.acquire(timeout=60)
        begin = time.monotonic()
        assert server.version() == 1
        took = time.monotonic() - begin
    print(
        f"{limits.MAX_CONNECTIONS + 100} POSTs without a body, {len(calls)} calls without a "
        f"request: two predictions took {took:.2f} s"
    )
    assert took < limits.READ_SECONDS, "they were waited for"


def test_more_than_the_queue_holds(server):
    statuses = []

    def ask():
        for _ in range(5):
            statuses.append(server.post({"instances": [b64(PICTURE)] * 8})[0])

    threads = [threading.Thread(target=ask) for _ in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(statuses) <= {200, 503} and statuses.count(200) > 0
    print(f"100 clients of 8 pictures each: {statuses.count(503)} of 500 requests refused")


def test_versions_come_and_go_under_load(server):
    """A version copied file by file, one that is damaged, and many switches: no request fails."""
    versions, stop = set(), threading.Event()

    def ask():
        while not stop.is_set():
            versions.add(server.version())

    def wait_for(number, event):
        seen = len(server.events)
        while not any(
            entry["event"] == event and entry["version"] == number for entry in server.events[seen:]
        ):
            assert not stop.wait(0.01)

    clients = [threading.Thread(target=ask) for _ in range(4)]
    for client in clients:
        client.start()
    try:
        for number in range(2, 2 + SWITCHES):
            for file in sorted(
                path for path in (server.exports / str(1 + number % 2)).rglob("*") if path.is_file()
            ):
                copy = (
                    server.folder
                    / str(number)
                    / file.relative_to(server.exports / str(1 + number % 2))
                )
                copy.parent.mkdir(parents=True, exist_ok=True)
                copy.write_bytes(file.read_bytes())
                if number % 5 == 0 and copy.name.startswith("variables.data"):
                    os.truncate(copy, 1000)
            wait_for(number, "version does not load" if number % 5 == 0 else "version available")
        for number in range(2, 2 + SWITCHES):
            shutil.rmtree(server.folder / str(number))
        while server.post(b"", "/v1/models/alexnet/versions/1:predict")[0] == 404:
            assert not stop.wait(0.01)
    finally:
        stop.set()
        for client in clients:
            client.join()
    assert versions == {1, 2}
    print(
        f"{SWITCHES} versions under load, each fifth damaged; at the end {server.memory():.0f} MB"
    )
