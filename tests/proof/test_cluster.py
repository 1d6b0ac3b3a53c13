"""Hosts of their own on one machine: network namespaces, joined by veth pairs and a bridge, each
with an address and a view of files; and the manifests of examples/cluster against Kubernetes'
schemas.

Needs root, for the namespaces. Prints how long it takes until a loss is told.
"""

import functools
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from hosts import Hosts, bits, draw, newest, weights

ROOT = pathlib.Path(__file__).parent.parent.parent
# What docs/cluster.md promises: seconds until a loss is told, and until the last worker appears.
TOLD_WITHIN, APPEARS_WITHIN = 60, 330
ARGUMENTS = [
    "--dataset=folder",
    "--variant=lenet5",
    "--image_size=28",
    "--batch_size=12",
    "--learning_rate=0.002",
    "--xla=off",
    "--schedule=constant",
]
GOES_ON = ["--epochs=8", "--deterministic"]


@pytest.fixture
def hosts():
    made = []

    def make(count):
        made.append(Hosts(count))
        return made[-1]

    yield make
    for one in made:
        one.end()


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return draw(tmp_path_factory.mktemp("data") / "pictures")


def finish(processes):
    outputs = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes), outputs
    return outputs


def wait_for_steps(model_dir, processes):
    """Returns when there is a checkpoint: then all are in the loop."""
    while not newest(model_dir):
        assert all(process.poll() is None for process in processes), finish(processes)
        time.sleep(0.1)


@pytest.mark.parametrize("count", [2, 4])
def test_hosts_train_as_one(hosts, data, tmp_path, count):
    arguments = [*ARGUMENTS, f"--data_dir={data}", "--epochs=3"]
    subprocess.run(
        [sys.executable, "-m", "alexnet_tf.train", *arguments, "--model_dir=alone"],
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    finish(hosts(count).start_all([*arguments, "--model_dir=together"], tmp_path))
    expected, difference = weights(tmp_path / "alone"), 0.0
    for name, value in weights(tmp_path / "together").items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-4, atol=1e-6, err_msg=name)
        difference = max(difference, np.abs(value - expected[name]).max())
    print(f"{count} hosts: the weights of one, largest difference {difference:.1e}")


def lose(hosts, host, processes, how):
    if how == "killed":
        processes[host].kill()
    elif how == "paused":
        processes[host].send_signal(signal.SIGSTOP)
    else:
        hosts.unplug(host)


@pytest.fixture(scope="module")
def undisturbed(data, tmp_path_factory):
    """The bits of a training on so many hosts that was left alone."""

    @functools.cache
    def train(count):
        folder, several = tmp_path_factory.mktemp("undisturbed"), Hosts(count)
        try:
            arguments = [*ARGUMENTS, f"--data_dir={data}", *GOES_ON, "--model_dir=model"]
            finish(several.start_all(arguments, folder))
        finally:
            several.end()
        return bits(folder / "model")

    return train


@pytest.mark.parametrize("count,lost", [(2, 0), (2, 1), (4, 2)])
@pytest.mark.parametrize("how", ["killed", "paused", "unplugged"])
def test_a_host_that_is_lost_is_told_and_the_training_goes_on(
    hosts, data, undisturbed, tmp_path, how, count, lost
):
    expected, several = undisturbed(count), hosts(count)
    arguments = [*ARGUMENTS, f"--data_dir={data}", *GOES_ON, "--model_dir=model"]
    processes = several.start_all(arguments, tmp_path)
    wait_for_steps(tmp_path / "model", processes)
    begin = time.monotonic()
    lose(several, lost, processes, how)
    for process in processes[:lost] + processes[lost + 1 :]:
        output, _ = process.communicate(timeout=TOLD_WITHIN)
        assert process.returncode == 75, output
        assert "start all workers again" in output and "Traceback" not in output, output
    told = time.monotonic() - begin
    assert told < TOLD_WITHIN
    if how == "paused":
        time.sleep(max(0, 60 - told))
        processes[lost].send_signal(signal.SIGCONT)
    after, _ = processes[lost].communicate(timeout=TOLD_WITHIN)
    if how != "killed":
        assert processes[lost].returncode == 75, after
    several.plug(lost)
    step = newest(tmp_path / "model").name
    outputs = finish(several.start_all(arguments, tmp_path))
    assert f"continuing from step {int(step[5:])} of" in outputs[0]
    assert step < expected[0] and bits(tmp_path / "model") == expected
    print(
        f"host {lost} of {count} {how}: told after {told:.1f} s; went on from {step}, to the same"
        " bits"
    )


def test_a_full_disk_of_the_chief_ends_all(hosts, data, tmp_path):
    (tmp_path / "model").mkdir()
    arguments = [*ARGUMENTS, f"--data_dir={data}", "--epochs=50", "--model_dir=model"]
    two = hosts(2)
    chief = two.start(0, arguments, tmp_path, "mount -t tmpfs -o size=1m none model")
    other = two.start(1, arguments, tmp_path)
    told, _ = chief.communicate(timeout=APPEARS_WITHIN)
    begin = time.monotonic()
    assert chief.returncode == 2 and "No space left on device" in told, told
    assert "make room" in told and "Traceback" not in told, told
    output, _ = other.communicate(timeout=TOLD_WITHIN)
    assert other.returncode == 75 and "start all workers again" in output, output
    print(f"the chief's disk is full: the other ended {time.monotonic() - begin:.1f} s later")


_STANDS_STILL = """
import runpy, sys, threading
from alexnet_tf.training import devices, stopping
devices._ANSWER_SECONDS = 20
if sys.argv[1] == "stands-still":
    del sys.argv[1]
    stopping.StopSignal.agree = lambda *arguments: threading.Event().wait()
runpy.run_module("alexnet_tf.train", run_name="__main__", alter_sys=True)
"""


def test_a_host_that_lives_and_does_not_answer_is_told(hosts, data, tmp_path):
    """With 20 s in place of ten minutes. Its process stays in touch, and makes no step more."""
    arguments = [*ARGUMENTS, f"--data_dir={data}", "--model_dir=model"]
    two, program = hosts(2), ("-c", _STANDS_STILL)
    alive = two.start(0, arguments, tmp_path, program=program)
    two.start(1, arguments, tmp_path, program=(*program, "stands-still"))
    output, _ = alive.communicate(timeout=APPEARS_WITHIN)
    assert alive.returncode == 75, output
    assert "another worker has not answered for 20 s; start all workers again" in output, output


def test_threads_do_not_add_up(hosts, data, tmp_path):
    """Each collective of TensorFlow that has a time limit leaves two asleep."""
    arguments = [*ARGUMENTS, f"--data_dir={data}", "--epochs=100", "--model_dir=model"]
    processes, counts = hosts(2).start_all(arguments, tmp_path), []
    for epoch in (2, 8):
        while not (there := newest(tmp_path / "model")) or there.name < f"step-{2 * epoch:08d}":
            assert all(process.poll() is None for process in processes), finish(processes)
            time.sleep(0.1)
        counts.append(len(os.listdir(f"/proc/{processes[0].pid}/task")))
    print(f"threads after two and after eight epochs: {counts}")
    assert counts[1] < counts[0] + 20


def test_a_host_with_other_versions_or_other_pictures_is_told(hosts, data, tmp_path):
    arguments = [*ARGUMENTS, f"--data_dir={data}", "--model_dir=model"]
    (tmp_path / "other").mkdir()
    (tmp_path / "other/sitecustomize.py").write_text(
        "import importlib.metadata as m\nold = m.version\n"
        "m.version = lambda name: '3.99' if name == 'keras' else old(name)\n"
    )
    draw(tmp_path / "pictures")
    changed = next((tmp_path / "pictures/train").glob("*/*.jpg"))
    changed.unlink()
    path = os.pathsep.join([str(tmp_path / "other"), os.environ.get("PYTHONPATH", str(ROOT))])
    two = hosts(2)
    for what, how in (
        ("versions", {"PYTHONPATH": path}),
        # and in the mean that is subtracted
        ("data and preprocessing", {"first": f"mount --bind {tmp_path / 'pictures'} {data}"}),
    ):
        processes = [two.start(0, arguments, tmp_path), two.start(1, arguments, tmp_path, **how)]
        for process in processes:
            output, _ = process.communicate(timeout=APPEARS_WITHIN)
            assert process.returncode == 2, output
            assert f"worker 1 differs from worker 0 in {what}. This one" in output, output
    assert not (tmp_path / "model/checkpoints").exists()


def test_a_host_that_never_comes_is_told(hosts, data, tmp_path):
    begin = time.monotonic()
    alone = hosts(2).start(0, [*ARGUMENTS, f"--data_dir={data}"], tmp_path)
    output, _ = alone.communicate(timeout=APPEARS_WITHIN)
    assert alone.returncode == -signal.SIGKILL
    assert "not all of 10.77.0.1:2222, 10.77.0.2:2222 appeared in 300 s; start all" in output
    print(f"a host that never comes: told after {time.monotonic() - begin:.0f} s")


def test_a_signal_to_one_host_ends_all_with_a_checkpoint(hosts, data, tmp_path):
    arguments = [*ARGUMENTS, f"--data_dir={data}", "--epochs=200", "--model_dir=model"]
    two = hosts(2)
    processes = two.start_all(arguments, tmp_path)
    wait_for_steps(tmp_path / "model", processes)
    begin = time.monotonic()
    processes[1].send_signal(signal.SIGTERM)
    outputs = [process.communicate(timeout=TOLD_WITHIN)[0] for process in processes]
    assert [process.returncode for process in processes] == [143, 143], outputs
    (step,) = re.findall(r"stopped by SIGTERM after step (\d+)", outputs[0])
    assert newest(tmp_path / "model").name == f"step-{int(step):08d}"
    print(f"a signal to one of two hosts: both ended after {time.monotonic() - begin:.1f} s")


def test_a_slow_link_changes_no_bit(hosts, data, undisturbed, tmp_path):
    expected, two = undisturbed(2), hosts(2)
    for folder, name, slow_down in (
        ("fast", "no limit", lambda: None),
        ("narrow", "1 Gbit/s", lambda: two.slow("1gbit")),
        ("far", "1 Gbit/s and 10 ms each way", lambda: two.delay(0.01)),
    ):
        slow_down()
        trip, begin = two.round_trip(1), time.monotonic()
        arguments = [*ARGUMENTS, f"--data_dir={data}", *GOES_ON, f"--model_dir={folder}"]
        finish(two.start_all(arguments, tmp_path))
        assert bits(tmp_path / folder) == expected
        seconds = time.monotonic() - begin
        print(f"{name}: there and back in {1000 * trip:.1f} ms, trained in {seconds:.1f} s")
    assert trip > 0.02


@pytest.mark.parametrize("file", ["shared.yaml", "job.yaml", "data_service.yaml"])
def test_the_manifests_are_valid(file):
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "kubernetes_validate",
            "--strict",
            ROOT / "examples/cluster/kubernetes" / file,
        ],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    print(done.stdout)
