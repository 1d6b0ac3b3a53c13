"""Picture files that are made to cost: whoever reads them is done soon, in little memory, and goes
on. The bounds are those that docs/measurements/hostile.md states.
"""

import base64
import contextlib
import http.client
import json
import os
import pathlib
import re
import resource
import signal
import struct
import subprocess
import sys
import threading
import time

import pytest
import tensorflow as tf

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))
import hostile_pictures
from served import write_export

from alexnet_tf import decoding
from alexnet_tf.data import pictures, shapes
from alexnet_tf.serving import limits

ROOT = pathlib.Path(__file__).parent.parent.parent
SIZE = 23 * 2**20  # bytes: what the largest body of a request holds, in base64
# Of one file: seconds of the processor, and memory; what is decoded has 89 megapixels at most.
SECONDS, MEGABYTES = 15, 1800
FILES = hostile_pictures.files(SIZE)
COMMAND = 4000  # megabytes of a whole command, which decodes several pictures at once
LARGE = hostile_pictures.large(9400)


def in_a_child(function):
    """(what `function` returns, seconds, seconds of the processor, megabytes at most above those
    before), in a process of its own.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            before, begin = resource.getrusage(resource.RUSAGE_SELF), time.monotonic()
            answer = function()
            seconds, after = time.monotonic() - begin, resource.getrusage(resource.RUSAGE_SELF)
            grown = (after.ru_maxrss - before.ru_maxrss) / 1e3
            busy = after.ru_utime - before.ru_utime
            os.write(writing, json.dumps([answer, seconds, busy, grown]).encode())
        finally:
            os._exit(sys.exc_info()[0] is not None)
    os.close(writing)
    with open(reading) as stream:
        text = stream.read()
    assert os.waitpid(child, 0)[1] == 0, "it died"
    return json.loads(text)


PROGRAM = f"""
import json, sys
sys.path[:0] = [{str(ROOT / "tests")!r}, {str(ROOT / "tests/proof")!r}]
import test_hostile as here
read = getattr(here, sys.argv[1])
for name, make in here.makers(sys.argv[1]).items():
    content = make()
    print(json.dumps([name, *here.in_a_child(lambda: read(content))]), flush=True)
"""


def makers(reader):
    """{name: a function that makes the file}, of all that cost and all that are large."""
    files, large = FILES, LARGE
    if reader == "prepare_reads":
        files = hostile_pictures.prepared(SIZE)
        large = hostile_pictures.large_prepared(9400)
    return {name: lambda name=name: files[name] for name in files} | large


def files_are_read(content):
    return pictures.fault_of(lambda: tf.constant(content))


def records_are_read(content):
    try:
        decoding.decode(decoding.within_bounds(tf.constant(content)))
    except tf.errors.OpError as error:
        return pictures.reason(error)
    return None


def prepare_reads(content):
    try:
        pictures.through_pillow(content)
    except ValueError as error:
        return str(error)
    return None


def answers_of(reader):
    """(name, fault or None, seconds, seconds of the processor, megabytes) of each file."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, reader.__name__],
        check=False,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert done.returncode == 0
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    for name, fault, seconds, busy, megabytes in rows:
        print(
            f"{name:40} {seconds:6.2f} s, {busy:5.2f} s of the processor, {megabytes:6.0f} MB "
            f" {fault or 'decoded'}"
        )
    return rows


def test_what_prepare_alone_reads():
    rows = answers_of(prepare_reads)
    assert [name for name, *_ in rows] == list(makers("prepare_reads"))
    for name, fault, _, busy, megabytes in rows:
        assert busy < SECONDS and megabytes < MEGABYTES, name
        assert ("claim" in name) == ("more than" in (fault or "")), name
        assert ":" in name or not fault, name  # what is large and no more is read


@pytest.mark.parametrize("reader", [files_are_read, records_are_read])
def test_every_reader_of_pictures(reader):
    """What goes before each decoder, and the decoder of what is let through: training, evaluation,
    `prepare`, `--check` and classification have no other for files, and none for the records of
    TFDS and of one's own data sets.
    """
    rows = answers_of(reader)
    assert [name for name, *_ in rows] == list(makers(reader.__name__))
    for name, fault, _, busy, megabytes in rows:
        assert busy < SECONDS and megabytes < MEGABYTES, name
        if name in hostile_pictures.REFUSED and reader is files_are_read:
            assert hostile_pictures.REFUSED[name] in fault
        assert name not in LARGE or not fault


def memory(process):
    status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+)", status)[1]) / 1e3


def request_of(picture):
    return json.dumps({"instances": [{"b64": base64.b64encode(picture).decode()}]})


def ask(port, method, path, body=None):
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=120)) as client:
        client.request(method, path, body)
        answer = client.getresponse()
        return answer.status, answer.read()


@pytest.fixture
def server(tmp_path):
    """(the process of a server, the port of its REST interface)."""
    write_export(tmp_path / "served/1")
    flags = [f"--saved_model={tmp_path}/served", "--port=0", "--rest_api_port=0"]
    process = subprocess.Popen(
        [sys.executable, "-m", "alexnet_tf", "serve", *flags],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )
    while '"serving"' not in (line := process.stderr.readline()):
        assert line, "it ended"
    reader = threading.Thread(target=process.stderr.read)
    reader.start()
    yield process, json.loads(line)["rest_api_port"]
    process.kill()
    process.wait()
    reader.join()
    process.stderr.close()


def test_the_server(server):
    process, port = server
    predict, begin = "/v1/models/alexnet:predict", memory(process)
    body = json.dumps(
        {"instances": [{"b64": base64.b64encode(shapes.draw_jpeg("test", 0)).decode()}]}
    )
    right = ask(port, "POST", predict, body)
    assert right[0] == 200
    slowest, ended = [0.0], threading.Event()

    def others():
        while not ended.wait(0.05):
            since = time.monotonic()
            assert ask(port, "GET", "/livez")[0] == 200
            slowest[0] = max(slowest[0], time.monotonic() - since)

    watching = threading.Thread(target=others)
    watching.start()
    for name, content in FILES.items():
        since, slowest[0] = time.monotonic(), 0.0
        status, answer = ask(port, "POST", predict, request_of(content))
        seconds, grown = time.monotonic() - since, memory(process) - begin
        print(
            f"{name:40} {status} {seconds:6.2f} s, others at most {slowest[0]:5.2f} s,"
            f" {grown:6.0f} MB so far  {answer[:90]!r}"
        )
        assert status in ((400,) if name in hostile_pictures.REFUSED else (200, 400)), name
        assert seconds < limits.REQUEST_SECONDS and grown < MEGABYTES, name
    ended.set()
    watching.join()
    assert ask(port, "POST", predict, body) == right
    process.send_signal(signal.SIGTERM)
    assert process.wait(limits.REQUEST_SECONDS + 10) == 128 + signal.SIGTERM


def test_every_command(tmp_path):
    """Among honest pictures, every file that is refused is named and left out, and the others are
    decoded: trained on, chosen by, judged and stored.
    """
    for split, count in (("train", 9), ("val", 3), ("test", 3)):
        for label, name in enumerate(shapes.CLASS_NAMES[:2]):
            folder = tmp_path / "pictures" / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                picture = shapes.draw_jpeg(
                    "train" if split == "train" else "test",
                    label + (number + 3 * (split == "val")) * len(shapes.CLASS_NAMES),
                )
                (folder / f"{number}.jpg").write_bytes(picture)
        for number, (name, content) in enumerate(FILES.items()):
            path = folder / f"{name.replace(': ', ' ')}.jpg"
            path.write_bytes(content + struct.pack("<I", number) + split.encode())
    commands = (
        ["prepare", "--check", "--json=check.json"],
        ["prepare", "--output=stored", "--max_bad_pictures=1000", "--json=stored.json"],
        [
            "train",
            "--variant=lenet5",
            "--batch_size=6",
            "--epochs=1",
            "--max_bad_pictures=1000",
            "--model_dir=model",
            "--json=figures.json",
        ],
        ["evaluate", "--model_dir=model", "--json=judged.json"],
    )
    for command, *flags in commands:
        begin = time.monotonic()
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "alexnet_tf",
                command,
                "--dataset=folder",
                f"--data_dir={tmp_path}/pictures",
                *flags,
            ],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stderr=subprocess.PIPE,
            text=True,
        )
        errors = process.stderr.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        process.stderr.close()
        print(
            f"{command} {flags[0]}: {time.monotonic() - begin:.1f} s, {usage.ru_utime:.1f} s of the"
            f" processor, {usage.ru_maxrss / 1e3:.0f} MB"
        )
        assert process.returncode == ("--check" in flags), errors
        assert usage.ru_utime < 3 * len(FILES) * SECONDS and usage.ru_maxrss / 1e3 < COMMAND
    bad = json.loads((tmp_path / "check.json").read_text())["bad"]
    print(f"{len(bad)} of {3 * len(FILES)} are refused")
    for name, reason in hostile_pictures.REFUSED.items():
        told = [line for line in bad if f"/{name.replace(': ', ' ')}.jpg" in line]
        assert len(told) == 3 and all(reason in line for line in told), name
    judged = json.loads((tmp_path / "judged.json").read_text())
    assert judged["examples"] == 6 + len(FILES) - len(bad) // 3
