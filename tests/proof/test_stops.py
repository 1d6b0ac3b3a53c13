"""A server that is stopped under load loses no request: clients of both protocols ask until nobody
listens any more, and whatever they could send is answered.
"""

import base64
import contextlib
import http.client
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import threading

import grpc
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))
from binaries import Programs
from served import write_export

from alexnet_tf.data import shapes

STOPS, CLIENTS, REQUESTS = 20, 12, 10_000  # of each protocol; over all stops
PICTURE = shapes.draw_jpeg("test", 0)
BODY = json.dumps({"instances": [{"b64": base64.b64encode(PICTURE).decode()}]})


class Clients:
    """Threads that ask until the server is gone."""

    def __init__(self, serving):
        self.answered, self.lost, self._count = {"REST": 0, "gRPC": 0}, [], threading.Condition()
        self._threads = [
            threading.Thread(target=ask, args=[serving[port]])
            for ask, port in ((self._rest, "rest_api_port"), (self._grpc, "port"))
            for _ in range(CLIENTS)
        ]
        for thread in self._threads:
            thread.start()

    def _is_answered(self, protocol):
        with self._count:
            self.answered[protocol] += 1
            self._count.notify_all()

    def wait_for(self, answers):
        """Waits for so many answers of either protocol."""
        with self._count:
            assert self._count.wait_for(lambda: min(self.answered.values()) >= answers, 300)

    def _rest(self, port):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        with contextlib.closing(connection):
            while True:
                try:
                    connection.connect() if connection.sock is None else None
                except OSError:
                    return  # nobody listens: nothing was sent
                try:
                    connection.request("POST", "/v1/models/alexnet:predict", BODY)
                    with connection.getresponse() as answer:
                        assert answer.status == 200 and b"scores" in answer.read()
                except (OSError, http.client.HTTPException, AssertionError) as error:
                    self.lost.append(f"REST: {error!r}")
                    return
                self._is_answered("REST")

    def _grpc(self, port):
        request = predict_pb2.PredictRequest(
            inputs={"image_bytes": tf.make_tensor_proto([PICTURE])}
        )
        request.model_spec.name = "alexnet"
        options = [("grpc.use_local_subchannel_pool", 1)]  # a connection for each client
        with grpc.insecure_channel(f"127.0.0.1:{port}", options) as channel:
            predict = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict
            while True:
                try:
                    predict(request, 120)
                except grpc.RpcError as error:
                    if "failed to connect" not in error.details():
                        self.lost.append(f"gRPC: {error.code().name} {error.details()}")
                    return
                self._is_answered("gRPC")

    def join(self):
        for thread in self._threads:
            thread.join()


@pytest.fixture
def programs(tmp_path):
    (tmp_path / "programs").mkdir()
    programs = Programs(tmp_path / "programs")
    yield programs.folder
    programs.close()


def test_no_request_is_lost_over_many_stops(tmp_path, programs):
    write_export(tmp_path / "served/1")
    rng, answered, lost = random.Random(0), {"REST": 0, "gRPC": 0}, []
    flags = [f"--saved_model={tmp_path}/served", "--port=0", "--rest_api_port=0"]
    for stop in range(STOPS):
        process = subprocess.Popen(
            [programs / "alexnet", "serve", *flags],
            cwd=tmp_path,
            env=os.environ,
            stderr=subprocess.PIPE,
            text=True,
        )
        serving = next(
            event
            for event in map(json.loads, filter(lambda line: line[0] == "{", process.stderr))
            if event["event"] == "serving"
        )
        clients = Clients(serving)
        clients.wait_for(REQUESTS // STOPS // 2 + rng.randrange(100))
        process.send_signal(signal.SIGTERM)
        assert process.wait(120) == 128 + signal.SIGTERM
        process.stderr.close()
        clients.join()
        lost += clients.lost
        for protocol, count in clients.answered.items():
            answered[protocol] += count
        print(f"stop {stop + 1}: {answered} answered so far, {len(lost)} lost {lost[:3]}")
    assert not lost and sum(answered.values()) >= REQUESTS
