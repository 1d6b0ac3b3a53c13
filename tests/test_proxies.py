"""What a proxy of the environment is not asked for."""

import json
import os

import pytest
import tensorflow as tf

from alexnet_tf import proxies
from alexnet_tf.commands import data_service
from alexnet_tf.data import datasets, pipeline
from alexnet_tf.preprocessing import Preprocessing
from alexnet_tf.training import devices


@pytest.fixture(autouse=True)
def _a_proxy(monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")  # where nobody listens
    monkeypatch.setenv("no_grpc_proxy", "")
    monkeypatch.setenv("no_proxy", "one.org,two.org")


class Reached(Exception):
    """The hosts that gRPC reaches by itself where this is raised."""

    @classmethod
    def here(cls, *arguments, **more):
        raise cls(os.environ[proxies.PAST])


@pytest.mark.parametrize(
    "host,is_here",
    [
        *((host, True) for host in ("127.0.0.1", "127.0.0.9", "::1", "0.0.0.0", "localhost")),
        *((host, False) for host in ("10.0.0.1", "fe80::1", "localhost.org", "host1", "")),
    ],
)
def test_this_machine_is_known_by_its_names_for_itself(host, is_here):
    assert proxies.is_this_machine(host) is is_here


def test_what_the_environment_leaves_out_stays_left_out(monkeypatch):
    proxies.pass_by(["host1", "two.org"])
    assert os.environ[proxies.PAST] == "one.org,two.org,host1"
    monkeypatch.setenv("no_grpc_proxy", "three.org")
    proxies.pass_by(["host1"])
    assert os.environ[proxies.PAST] == "three.org,host1"


def test_workers_ask_no_proxy_for_each_other(monkeypatch):
    cluster = {"worker": ["one:1", "[::2]:2"]}
    task = {"type": "worker", "index": 0}
    monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": cluster, "task": task}))
    monkeypatch.setattr(tf.distribute, "MultiWorkerMirroredStrategy", Reached.here)
    with pytest.raises(Reached, match="^one.org,two.org,one,::2$"):
        devices.distribution("multi_worker", 0)


def test_trainings_ask_no_proxy_for_data_services(picture_folder, monkeypatch):
    split = datasets.open_dataset("folder", picture_folder).train
    pixels = Preprocessing(image_size=28, resize=32, channels=1, mean=(120.0,), std=100.0)
    monkeypatch.setattr(tf.data.experimental.service, "distribute", Reached.here)
    with pytest.raises(Reached, match="^one.org,two.org,host1,::1$"):
        services = ["grpc://host1:5050", "grpc://[::1]:5051"]
        pipeline.training_batches(split, pixels, 4, 5, services=services)


def test_a_data_service_asks_no_proxy_for_its_own_parts(monkeypatch):
    with monkeypatch.context() as patched, pytest.raises(Reached, match=",localhost,::1$"):
        patched.setattr(tf.data.experimental.service, "DispatchServer", Reached.here)
        data_service.serve("[::1]", 0)
    servers, address = data_service.serve("127.0.0.1", 0)
    squares = tf.data.Dataset.range(3).map(lambda number: number * number)
    spread = tf.data.experimental.service.distribute("distributed_epoch", address)
    assert list(squares.apply(spread).as_numpy_iterator()) == [0, 1, 4]
    del servers
