"""`alexnet serve` against the bare model: throughput, latency, overload, memory; on loopback, with
this process as the clients.
"""

import asyncio
import base64
import contextlib
import json
import re
import statistics
import subprocess
import sys
import time
import urllib.request

import grpc
import numpy as np
import tensorflow as tf
from absl import flags
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from alexnet_tf import console
from alexnet_tf.commands import app
from alexnet_tf.commands.benchmarks.timing import FLAGS
from alexnet_tf.data import shapes
from alexnet_tf.errors import UserError
from alexnet_tf.exports import artifacts
from alexnet_tf.manifest import DEFAULT_SIGNATURE
from alexnet_tf.serving import monitoring

_SERVED_MODEL = flags.DEFINE_string(
    "served_model",
    app.SAVED_MODEL,
    "serving: the folder that holds the versions.",
    flag_values=FLAGS,
)
_SERVED_SECONDS = flags.DEFINE_float(
    "served_seconds", 10, "serving: length of each measurement.", lower_bound=0.5, flag_values=FLAGS
)
_SERVED_REQUESTS = flags.DEFINE_integer(
    "served_requests",
    0,
    "serving: watch the server's memory over this many further requests; a small model will do.",
    flag_values=FLAGS,
)
READS = ("served_model", "served_seconds", "served_requests")

_ROUNDS = 3
_CLIENTS = 96  # that each wait for an answer before they ask again: two batches run, one fills


def figures():
    """Figures of serving, by name, as text."""
    there = artifacts.saved_models(_SERVED_MODEL.value, "served_model")
    version = there[max(there)]
    if not artifacts.read_manifest(version).labels:
        raise UserError(
            f"served_model={_SERVED_MODEL.value}: {version} gives features of a part of a network,"
            " and no classes, which are what is asked for; pass an export of a classifier."
        )
    bare = artifacts.load(version).signatures[DEFAULT_SIGNATURE]
    pictures = [shapes.draw_jpeg("test", index) for index in range(64)]
    with _served(_SERVED_MODEL.value) as (address, port):
        return asyncio.run(
            _figures(bare, artifacts.allowed_batch_sizes(version), pictures, address, port)
        )


async def _figures(bare, sizes, pictures, address, port):
    seconds = _SERVED_SECONDS.value
    rest = [_rest_request(picture) for picture in pictures]
    rpcs = [_rpc_request(picture) for picture in pictures]
    stub = prediction_service_pb2_grpc.PredictionServiceStub(
        grpc.aio.insecure_channel(f"{address[0]}:{port}")
    )
    rates = {"bare": [], "REST": [], "gRPC": []}
    for _ in range(_ROUNDS):  # in turn: a machine that slows down slows them all
        rates["bare"].append(
            max((_bare_rate(bare, pictures, size, seconds / len(sizes)), size) for size in sizes)
        )
        rates["REST"].append(await _closed_loop(_rest_clients(address, rest), seconds))
        rates["gRPC"].append(await _closed_loop(_rpc_clients(stub, rpcs), seconds))
    bare_rate, size = statistics.median(rates["bare"])
    served = {name: statistics.median(rates[name]) for name in ("REST", "gRPC")}
    found = {"bare model": f"{bare_rate:.1f} images/s in batches of {size}"}
    for name, rate in served.items():
        found[f"{name}, {_CLIENTS} clients"] = (
            f"{rate:.1f} images/s, {rate / bare_rate:.3f} of the bare model"
        )
    found |= await _latency(bare, pictures, address, rest, stub, rpcs)
    found |= await _overload(address, rest, 2 * served["REST"])
    if _SERVED_REQUESTS.value:
        found |= await _memory(address, rest)
    return found


@contextlib.contextmanager
def _served(folder):
    """A server in a process of its own; gives its REST address and gRPC port."""
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "alexnet_tf",
            "serve",
            f"--saved_model={folder}",
            "--port=0",
            "--rest_api_port=0",
        ],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        for line in process.stderr:
            event = json.loads(line) if line.startswith("{") else {"event": line}
            if event["event"] == "serving":
                yield (event["host"], event["rest_api_port"]), event["port"]
                break
        else:
            raise UserError(f"The server did not start: {event['event']}")
    finally:
        process.terminate()
        process.communicate()


def _bare_rate(bare, pictures, size, seconds):
    """Images/s of one call after the other in batches of `size`, in this process."""
    batch, calls = tf.constant((pictures * size)[:size]), 0
    bare(image_bytes=batch)
    begin = time.perf_counter()
    while (elapsed := time.perf_counter() - begin) < seconds:
        bare(image_bytes=batch)["scores"].numpy()
        calls += 1
    return calls * size / elapsed


def _rest_request(picture):
    body = json.dumps({"instances": [{"b64": base64.b64encode(picture).decode()}]}).encode()
    return (
        f"POST /v1/models/{app.MODEL_NAME}:predict HTTP/1.1\r\nHost: localhost\r\n"
        f"Content-Length: {len(body)}\r\n\r\n".encode()
        + body
    )


def _rpc_request(picture):
    request = predict_pb2.PredictRequest(inputs={"image_bytes": tf.make_tensor_proto([picture])})
    request.model_spec.name = app.MODEL_NAME
    return request


async def _post(connection, request):
    """Sends one request over an open connection; returns its status."""
    reader, writer = connection
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    await reader.readexactly(int(re.search(rb"(?i)content-length: (\d+)", head)[1]))
    return int(head[9:12])


def _rest_clients(address, requests):
    async def client(number):
        connection = await asyncio.open_connection(*address)
        while True:
            assert await _post(connection, requests[number % len(requests)]) == 200
            number += 1
            yield

    return client


def _rpc_clients(stub, requests):
    async def client(number):
        while True:
            await stub.Predict(requests[number % len(requests)])
            number += 1
            yield

    return client


async def _closed_loop(client, seconds):
    """Answers a second, of clients of which each asks again when it is answered."""
    answers, stop = 0, time.perf_counter() + 1 + seconds

    async def ask(number):
        nonlocal answers
        async for _ in client(number):
            now = time.perf_counter()
            answers += stop - seconds < now <= stop  # after a second in which the queue has filled
            if now > stop:
                return

    await asyncio.gather(*(ask(number) for number in range(_CLIENTS)))
    return answers / seconds


async def _latency(bare, pictures, address, rest, stub, rpcs):
    """One picture at a time, in turn: bare, over REST, over gRPC."""
    connection, times = (
        await asyncio.open_connection(*address),
        {
            "bare": [],
            "REST": [],
            "gRPC": [],
        },
    )
    for index in range(200):
        begin = time.perf_counter()
        bare(image_bytes=tf.constant([pictures[index % 64]]))["scores"].numpy()
        times["bare"].append(time.perf_counter() - begin)
        begin = time.perf_counter()
        await _post(connection, rest[index % 64])
        times["REST"].append(time.perf_counter() - begin)
        begin = time.perf_counter()
        await stub.Predict(rpcs[index % 64])
        times["gRPC"].append(time.perf_counter() - begin)
    medians = {name: statistics.median(values) for name, values in times.items()}
    connection[1].close()
    return {"one bare call": f"{1e3 * medians['bare']:.2f} ms"} | {
        f"one client, {name}": (
            f"{1e3 * medians[name]:.2f} ms, {medians[name] / medians['bare']:.3f} of a bare call"
        )
        for name in ("REST", "gRPC")
    }


async def _overload(address, requests, rate):
    """Requests that come in at `rate`, whether the last are answered or not."""
    times, asked, given_up = {200: [], 503: []}, int(rate * _SERVED_SECONDS.value), 0
    idle = [await asyncio.open_connection(*address) for _ in range(256)]

    async def ask(number):
        nonlocal given_up
        connection = idle.pop() if idle else await asyncio.open_connection(*address)
        begin = time.perf_counter()
        try:
            status = await _post(connection, requests[number % len(requests)])
        except (ConnectionError, asyncio.IncompleteReadError):
            given_up += 1  # of more connections than it holds, the server closes idle ones
            return
        times[status].append(time.perf_counter() - begin)
        idle.append(connection)

    tasks, begin = [], time.perf_counter()
    for number in range(asked):
        await asyncio.sleep(max(0, begin + number / rate - time.perf_counter()))
        tasks.append(asyncio.ensure_future(ask(number)))
    await asyncio.gather(*tasks)
    elapsed = time.perf_counter() - begin
    for _, writer in idle:
        writer.close()
    answered, refused = (
        np.percentile(times[status] or [0], [50, 99, 100]) for status in (200, 503)
    )
    return {
        "twice as many requests": (
            f"{rate:.1f}/s for {_SERVED_SECONDS.value:.0f} s: {len(times[200]) / elapsed:.1f}"
            f" images/s answered, {len(times[503])} of {asked} refused, {given_up} cut off"
        ),
        "of the answered": "median {:.3f} s, 99 % within {:.3f} s, all within {:.3f} s".format(
            *answered
        ),
        "of the refused": "median {:.3f} s, 99 % within {:.3f} s, all within {:.3f} s".format(
            *refused
        ),
    }


async def _memory(address, requests):
    """Resident memory of the server, read from its metrics, along many requests."""
    connections = [await asyncio.open_connection(*address) for _ in range(32)]
    curve, done, total = [_resident(address)], 0, _SERVED_REQUESTS.value
    with console.progress(total, "memory") as bar:
        while done < total:
            for _ in range(10):
                share = min(total // 100, total - done)

                async def ask(connection, share=share):
                    for number in range(share // 32 + 1):
                        assert await _post(connection, requests[number % len(requests)]) == 200

                await asyncio.gather(*(ask(connection) for connection in connections))
                done += 32 * (share // 32 + 1)
                bar.update(32 * (share // 32 + 1))
            curve.append(_resident(address))
    return {
        "memory": (
            f"{done} requests, MB after each tenth: " + " ".join(f"{value:.0f}" for value in curve)
        )
    }


def _resident(address):
    with urllib.request.urlopen("http://{}:{}{}".format(*address, monitoring.PATH)) as page:
        return float(re.search(rb"(?m)^process_resident_memory_bytes (\S+)", page.read())[1]) / 1e6
