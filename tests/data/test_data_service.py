"""Batches that other processes prepare are those that this one would have prepared."""

import functools
import os
import signal
import subprocess
import types

import numpy as np
import pytest
import tensorflow as tf

from alexnet_tf.commands import data_service as command
from alexnet_tf.data import datasets, pipeline
from alexnet_tf.errors import TryAgain, UserError
from alexnet_tf.network.model import build_model
from alexnet_tf.preprocessing import Preprocessing
from alexnet_tf.training import loop
from alexnet_tf.training.optimizer import SGD2012

PIXELS = Preprocessing(image_size=28, resize=32, channels=1, mean=(120.0,), std=100.0)


def start(run):
    """One service in a process of its own, on a free port, and its address."""
    process = subprocess.Popen(
        [run.programs.folder / "python", "-m", "alexnet_tf.data_service", "--port=0"],
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    return process, process.stdout.readline().removeprefix("serving at ").strip()


@pytest.fixture(scope="module")
def services(run):
    started = [start(run) for _ in range(2)]
    yield [address for _, address in started]
    for process, _ in started:
        process.send_signal(signal.SIGTERM)
    for process, _ in started:
        _, error = process.communicate()
        assert process.returncode == 0
        assert error == (
            "listening on all interfaces of this machine: keep the port behind a firewall\n"
        )


@pytest.mark.long
def test_two_services_give_the_same_batches_in_the_same_order(picture_folder, services):
    split = datasets.open_dataset("folder", picture_folder).train
    # into the third epoch
    here = pipeline.training_batches(split, PIXELS, 4, 5, first_step=3).take(9)
    there = pipeline.training_batches(split, PIXELS, 4, 5, first_step=3, services=services).take(9)
    pairs = list(zip(here.as_numpy_iterator(), there.as_numpy_iterator()))
    assert len(pairs) == 9
    for expected, batch in pairs:
        for key in ("image", "label", "bad"):
            np.testing.assert_array_equal(batch[key], expected[key])


@pytest.fixture
def service():
    """The address of a service in this process."""
    dispatcher = tf.data.experimental.service.DispatchServer()
    address = dispatcher.target.partition("://")[2]
    worker = tf.data.experimental.service.WorkerServer(
        tf.data.experimental.service.WorkerConfig(dispatcher_address=address)
    )
    yield dispatcher.target
    worker._stop()
    dispatcher._stop()


@pytest.mark.long
def test_a_service_that_has_other_pictures_at_the_same_path_is_refused(
    picture_folder, service, monkeypatch
):
    split = datasets.open_dataset("folder", picture_folder).train
    pictures = sorted((picture_folder / "train").rglob("*.*"))
    kept = {path: path.read_bytes() for path in pictures}
    pictures[0].unlink()  # which neither can read
    pipeline.check_services(split, 5, [service])
    by_service = pipeline._by_service
    # on the service's machine one picture is another, or all are gone
    for there in ({pictures[1]: kept[pictures[2]]}, dict.fromkeys(pictures[1:])):

        def on_another_machine(address, there=there):
            for path, content in there.items():
                path.write_bytes(content) if content else path.unlink()
            return by_service(address)

        monkeypatch.setattr(pipeline, "_by_service", on_another_machine)
        with pytest.raises(UserError, match=f"^data_service={service} finds other pictures of tr"):
            pipeline.check_services(split, 5, [service])
        pictures[1].write_bytes(kept[pictures[1]])


def test_services_are_asked_before_anything_is_written(picture_folder, tmp_path):
    dataset = datasets.open_dataset("folder", picture_folder)
    plan = loop.Plan(batch_size=4, epochs=1, xla="off", data_service=("grpc://localhost:1",))
    model, model_dir = build_model("lenet5", 3), tmp_path / "model"
    strategy = tf.distribute.get_strategy()
    with pytest.raises(TryAgain, match="^data_service=grpc://localhost:1 does not answer"):
        loop.train(strategy, model, SGD2012(0.01), dataset, PIXELS, plan, model_dir)
    assert os.listdir(model_dir) == [".lock"]


def test_a_picture_that_a_service_cannot_read_is_not_said_to_be_of_this_machine(picture_folder):
    split = datasets.open_dataset("folder", picture_folder).train

    def batches_by(**_):
        yield from ()
        raise tf.errors.NotFoundError(None, None, "1.jpg; No such file or directory")

    strategy = tf.distribute.OneDeviceStrategy("CPU:0")
    batches = pipeline.resilient_training(strategy, split, batches_by, 0, True, ["grpc://there:1"])
    with pytest.raises(UserError, match="cannot be read by data_service=grpc://there:1, which mus"):
        next(batches)


@pytest.mark.long
def test_a_service_that_begins_anew_ends_the_training_at_once(picture_folder):
    split = datasets.open_dataset("folder", picture_folder).train
    ways = []

    def make_batches(context, first_step, way, first=1):
        ways.append(way)
        batches = pipeline.training_batches(split, PIXELS, 4, 0, first_step, context, way=way)
        numbered = batches.enumerate(first).enumerate()
        return numbered.map(functools.partial(pipeline.checked_order, 1))

    strategy = tf.distribute.OneDeviceStrategy("CPU:0")
    sound = functools.partial(make_batches, first=0)
    batch = next(pipeline.resilient_training(strategy, split, sound, 0, guarded=False))
    assert batch["image"].shape == (4, 28, 28, 1)
    del ways[:]
    with pytest.raises(TryAgain, match="A data service restarted"):
        next(pipeline.resilient_training(strategy, split, make_batches, 0, guarded=True))
    assert len(ways) == 1  # no other way was tried


@pytest.mark.parametrize(
    "address,message",
    [
        ("host:5050", "write it as grpc://host:5050"),
        ("grpc://localhost:65537", "write it as grpc://host:5050"),  # to systems that is 1
        ("grpc://localhost:1", "does not answer"),
    ],
)
def test_an_address_where_nothing_answers_is_refused(run, tmp_path, address, message):
    """What may come yet has a status of its own, at which a scheduler starts the training again."""
    status = 75 if message == "does not answer" else 2
    line = run("-m", "alexnet_tf.train", f"--data_service={address}", cwd=tmp_path, status=status)
    assert message in line


@pytest.mark.parametrize("host", ["0.0.0.0", "[::]", "", "::1", "grpc://a", "a:5050", "a b"])
def test_a_host_that_no_training_reaches_is_refused(monkeypatch, host):
    """Trainings on other machines would look for the pictures on their own."""
    monkeypatch.setattr(command, "_HOST", types.SimpleNamespace(value=host))
    with pytest.raises(UserError, match="is not a name by which trainings can reach this"):
        command.main()
