"""Training that is killed, stopped and damaged ends with the bits of the training that was left
alone.
"""

import os
import pathlib
import random
import re
import signal
import subprocess
import sys
import time

import keras
import pytest
from hosts import draw

from alexnet_tf.training import checkpoints
from alexnet_tf.training.optimizer import SGD2012
from alexnet_tf.training.state import TrainingState

KILLS, STOPS, DAMAGES, WORKER_KILLS = 50, 20, 1000, 6
WITHIN = 30  # seconds from a signal to the end, if the cores are free: docs/cluster.md
# A checkpoint of 160 MB every second: many of the kills fall into one.
ARGUMENTS = [
    "--image_size=67",
    "--batch_size=6",
    "--epochs=20",
    "--learning_rate=0.002",
    "--warmup_steps=10",
    "--deterministic",
    "--checkpoint_seconds=1",
]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return draw(tmp_path_factory.mktemp("data") / "pictures", 12)


def start(data, model_dir, *more, environment=None):
    return subprocess.Popen(
        [
            sys.executable,
            "-m",
            "alexnet_tf.train",
            "--dataset=folder",
            f"--data_dir={data}",
            f"--model_dir={model_dir}",
            *ARGUMENTS,
            *more,
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
    )


def finished(process):
    output, _ = process.communicate()
    assert process.returncode == 0, output[-2000:]


def result(model_dir):
    """The bits of weights and velocities, and of the lines after each epoch."""
    newest = (
        pathlib.Path(model_dir) / "checkpoints" / f"step-{checkpoints.newest_step(model_dir):08d}"
    )
    log = [
        line
        for line in (pathlib.Path(model_dir) / "metrics.jsonl").read_text().splitlines()
        if '"loss"' in line
    ]
    sums = (newest / "SHA256SUMS").read_text().splitlines()
    return newest.name, [line for line in sums if ".npz" in line], log


@pytest.fixture(scope="module")
def undisturbed(data, tmp_path_factory):
    model_dir = tmp_path_factory.mktemp("undisturbed")
    begin = time.monotonic()
    finished(start(data, model_dir))
    return result(model_dir), time.monotonic() - begin


def through(data, model_dir, moment, interrupt):
    """Trains to the end, through interruptions: after `moment()` seconds, unless it is None,
    `interrupt(process)` ends the process and says whether there is anything left to train.
    """
    while True:
        process = start(data, model_dir)
        try:
            process.wait(moment())
        except subprocess.TimeoutExpired:
            if interrupt(process):
                continue
        else:
            finished(process)
        return result(model_dir)


def test_killed_at_any_moment(data, undisturbed, tmp_path):
    expected, seconds = undisturbed
    rng, kills, in_saves, runs = random.Random(0), 0, 0, 0

    def kill(process):
        nonlocal kills, in_saves
        process.kill()
        process.communicate()
        kills, in_saves = kills + 1, in_saves + bool(list(model_dir.glob("checkpoints/.step-*")))
        return True

    while kills < KILLS:
        model_dir, runs = tmp_path / str(runs), runs + 1
        assert (
            through(
                data,
                model_dir,
                lambda: rng.uniform(seconds / 4, seconds) if kills < KILLS else None,
                kill,
            )
            == expected
        )
        assert not list(model_dir.glob("checkpoints/.step-*"))
    assert in_saves > 0
    print(
        f"{kills} kills, {in_saves} of them inside a save, in {runs} trainings: the bits of the"
        " undisturbed one"
    )


def test_stopped_by_sigterm(data, undisturbed, tmp_path):
    expected, seconds = undisturbed
    rng, stops, early, runs = random.Random(1), 0, 0, 0

    def stop(process):
        nonlocal stops, early
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate()
        assert process.returncode in (0, 143, -signal.SIGTERM), output[-2000:]
        # before the loop: there is nothing to save yet
        early += process.returncode == -signal.SIGTERM
        if process.returncode:
            stops += 1
            assert process.returncode < 0 or "stopped by SIGTERM after step" in output
        return process.returncode != 0

    while stops < STOPS:
        model_dir, runs = tmp_path / str(runs), runs + 1
        assert (
            through(
                data,
                model_dir,
                lambda: rng.uniform(seconds / 3, seconds) if stops < STOPS else None,
                stop,
            )
            == expected
        )
    assert early < stops
    print(
        f"{stops} SIGTERMs, {early} of them before the first step, in {runs} trainings: the bits of"
        " the undisturbed one"
    )


def test_from_a_signal_to_the_end_at_full_size(tmp_path):
    """At the worst moment: the step has begun, and a checkpoint is being written."""
    data, model_dir = draw(tmp_path / "pictures", 128), tmp_path / "model"
    full = ["--image_size=227", "--batch_size=128", "--xla=off", "--epochs=100"]
    process = start(data, model_dir, *full)
    while not checkpoints.newest_step(model_dir) > 0:  # the second: memory and disk are warm
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    while not list(model_dir.glob("checkpoints/.step-*")):
        time.sleep(0.01)
    begin, used = time.monotonic(), cpu_seconds(process.pid)
    process.send_signal(signal.SIGTERM)
    with process.stdout:
        output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - begin
    used = usage.ru_utime + usage.ru_stime - used
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 143, output[-2000:]
    (step,) = re.findall(r"stopped by SIGTERM after step (\d+)", output)
    assert checkpoints.newest_step(model_dir) == int(step)
    print(
        f"from SIGTERM to the end {seconds:.1f} s, {used:.1f} s of CPU; load of the machine"
        f" {os.getloadavg()[0]:.0f} on {os.cpu_count()} cores"
    )
    assert used < WITHIN


def cpu_seconds(number):
    """That a process has used."""
    fields = pathlib.Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


def test_damaged_checkpoints_are_never_taken(tmp_path):
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [keras.Input((20,)), keras.layers.Dense(30, name="fc1"), keras.layers.Dense(5, name="fc2")]
    )
    optimizer = SGD2012()
    optimizer.build(model.trainable_variables)
    contents = {}
    for step in (5, 10):
        for variable in (*model.trainable_variables, *optimizer.velocities):
            variable.assign(variable + step)
        checkpoints.save(
            tmp_path, model, optimizer, TrainingState(step=step, sums=[0.5, 1.0, step])
        )
        folder = tmp_path / "checkpoints" / f"step-{step:08d}"
        contents[step] = {path.name: path.read_bytes() for path in folder.iterdir()}
    rng, counts = random.Random(2), {}
    for _ in range(DAMAGES):
        name = rng.choice(sorted(contents[10]))
        whole, path = contents[10][name], folder / name
        how = rng.choice(["bit", "bytes", "truncated", "missing", "longer", "older", "zeros"])
        counts[how] = counts.get(how, 0) + 1
        damaged = bytearray(whole)
        if how == "bit":
            damaged[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
        elif how == "bytes":
            position = rng.randrange(len(whole))
            damaged[position : position + 16] = bytes(
                255 - byte for byte in whole[position : position + 16]
            )
        elif how == "truncated":
            damaged = whole[: rng.randrange(len(whole))]
        elif how == "longer":
            damaged += bytes(rng.randrange(1, 100))
        elif how == "older":
            damaged = contents[5][name]
        elif how == "zeros":
            damaged = bytes(len(whole))
        path.unlink() if how == "missing" else path.write_bytes(damaged)
        told = []
        state = checkpoints.restore(tmp_path, model, optimizer, told.append)
        assert state.step == 5 and len(told) == 1 and "step-00000010 is damaged" in told[0], (
            name,
            how,
        )
        path.write_bytes(whole)
    assert checkpoints.restore(tmp_path, model, optimizer).step == 10
    print(f"{DAMAGES} damaged checkpoints, none taken: {counts}")


def test_a_lost_worker_ends_the_job_and_the_job_goes_on(data, tmp_path, worker_environments):
    def job(model_dir):
        return [
            start(data, model_dir, "--distribution=multi_worker", environment=environment)
            for environment in worker_environments()
        ]

    begin = time.monotonic()
    for worker in job(tmp_path / "whole"):
        finished(worker)
    expected, seconds, rng = result(tmp_path / "whole"), time.monotonic() - begin, random.Random(3)
    kills, stops, waits, runs = 0, 0, [], 0
    while kills < WORKER_KILLS or stops < 2:
        model_dir, runs = tmp_path / str(runs), runs + 1
        while True:
            workers = job(model_dir)
            try:
                workers[0].wait(rng.uniform(seconds / 2, seconds))
            except subprocess.TimeoutExpired:
                victim, survivor = rng.sample(workers, 2)
                begin = time.monotonic()
                if kills < WORKER_KILLS:
                    victim.kill()
                    output, _ = survivor.communicate()
                    victim.communicate()
                    waits.append(time.monotonic() - begin)
                    kills += 1
                    told = "start all workers again" in output
                    # 0: it was done already
                    assert (survivor.returncode, told) in ((75, True), (0, False)), output[-2000:]
                else:
                    victim.send_signal(signal.SIGTERM)
                    outputs = [worker.communicate()[0] for worker in workers]
                    statuses = [worker.returncode for worker in workers]
                    # The signal may also end a worker at once: one that has trained to the end and
                    # is about to leave, or one before its first step, which the other then tells.
                    assert sorted(statuses) in (
                        [143, 143],
                        [0, 0],
                        [-signal.SIGTERM, 0],
                        [-signal.SIGTERM, 75],
                    ), (statuses, outputs)
                    stops += 1
                continue
            for worker in workers:
                finished(worker)
            break
        assert result(model_dir) == expected
    print(
        f"{kills} workers killed, the other ended after at most {max(waits):.1f} s; {stops}"
        f" SIGTERMs to one of them; in {runs} trainings the bits of the undisturbed one"
    )
