"""Pictures and folders of pictures get the answers of the network, and what is not used is told."""

import json
import os
import pathlib
import re
import subprocess

import pytest
from binaries import call
from conftest import CLASS_NAMES, write_lenet5, write_pictures

from alexnet_tf import distribution, networks, picture_files
from alexnet_tf.commands import classify
from alexnet_tf.errors import UserError

LFS_POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory):
    return write_lenet5(tmp_path_factory.mktemp("model"), list(CLASS_NAMES))


def test_a_folder_stands_for_the_pictures_below_it(model_dir, tmp_path, capsys):
    pictures = write_pictures(tmp_path / "pictures", 2)
    (tmp_path / "pictures/notes.txt").write_text("not a picture")
    (tmp_path / "alone.jpg").write_bytes(pictures[0].read_bytes())
    json_path = tmp_path / "answers.json"
    call(
        classify,
        f"--model={model_dir}",
        f"--json={json_path}",
        tmp_path / "alone.jpg",
        tmp_path / "pictures",
    )
    answers, network = json.loads(json_path.read_text()), networks.load(model_dir)
    assert list(answers) == [str(tmp_path / "alone.jpg"), *map(str, sorted(pictures))]
    for picture, answer in answers.items():
        assert [tuple(row) for row in answer] == network.classify(picture)
    said = capsys.readouterr()
    assert "is never the answer" not in said.err
    assert [line for line in said.out.splitlines() if line[0] != " "] == list(answers)
    assert f"{tmp_path}/pictures: not used: 1 file of .txt (first notes.txt)." in said.err
    call(classify, f"--model={model_dir}", "--min_probability=0.2", pictures[0])
    assert "one of 3 classes is always that probable" in capsys.readouterr().err


def test_pictures_of_a_folder_that_cannot_be_read_are_told_with_the_answers(model_dir, tmp_path):
    good, *_ = write_pictures(tmp_path / "pictures", 1)
    (tmp_path / "pictures/bad.jpg").write_bytes(good.read_bytes()[:300])
    (tmp_path / "pictures/lost.jpg").symlink_to("nowhere.jpg")
    os.mkfifo(tmp_path / "pictures/pipe.jpg")  # to which nobody writes
    json_path = tmp_path / "answers.json"
    json_path.write_text("of an earlier run")
    with pytest.raises(UserError, match="3 of 6 pictures could not be classified"):
        call(classify, f"--model={model_dir}", f"--json={json_path}", tmp_path / "pictures")
    answers = json.loads(json_path.read_text())
    assert len(answers) == 6 and len(answers[str(good)]) == 3
    for name, error in (
        ("bad", "does not decode as a picture"),
        ("lost", "cannot be read (No such file or directory)"),
        ("pipe", "cannot be read (Not a regular file"),
    ):
        assert error in answers[f"{tmp_path}/pictures/{name}.jpg"]["error"]


def test_the_unit_for_devices_passes_on_what_is_a_picture():
    unit = pathlib.Path(__file__).parents[2] / "examples/raspberry_pi/alexnet.service"
    (pattern,) = re.findall(r'--includei "(.*)\$\$"', unit.read_text())
    assert all(re.fullmatch(pattern, suffix) for suffix in picture_files.SUFFIXES)


@pytest.mark.parametrize(
    "watcher,network,status",
    [
        ("echo a.jpg; exec tail --pid=$PPID -f /dev/null", "exit 2", 2),  # it finds no file
        ("echo a.jpg; exit 1", 'read name; test "$name" = a.jpg; exit 5', 5),
        ("exit 1", "read name || exit 6", 6),
    ],
)
def test_the_unit_ends_where_either_program_does(tmp_path, watcher, network, status):
    unit = pathlib.Path(__file__).parents[2] / "examples/raspberry_pi/alexnet.service"
    (command,) = re.findall(r"^ExecStart=/bin/bash -c '(.*?)'$", unit.read_text(), re.M | re.S)
    command = command.replace("\\\n", " ").replace("%%", "%").replace("$$", "$")
    for name, program in (("inotifywait", watcher), ("alexnet", network)):
        (tmp_path / name).write_text(f"#!/bin/sh\n{program}\n")
        (tmp_path / name).chmod(0o755)
    command = command.replace("/opt/alexnet/bin/alexnet", f"{tmp_path}/alexnet")
    done = subprocess.run(
        ["bash", "-c", command],
        env=os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"},
        timeout=60,
    )
    assert done.returncode == status


@pytest.mark.parametrize(
    "flags,message",
    [
        (["--model_name=net"], "--model_name=net is for --server"),
        (["--server=http://127.0.0.1:1", "--model=net"], "answers with its own network"),
    ],
)
def test_a_flag_without_effect_is_refused(tmp_path, flags, message):
    picture, *_ = write_pictures(tmp_path, 1)
    with pytest.raises(UserError, match=message):
        call(classify, *flags, picture)


@pytest.mark.parametrize("flags", [[], ["--threads=1"], ["--repeat=1"], ["on a device"]])
@pytest.mark.parametrize(
    "content,message",
    [
        (None, "There is no {}; name a "),
        (b"", "{} is an empty file; copy it again"),
        (LFS_POINTER, "{} is git LFS's pointer to the file, which git lfs pull fetches"),
    ],
)
def test_a_model_that_is_no_file_is_told_before_its_kind(
    tmp_path, monkeypatch, flags, content, message
):
    picture, *_ = write_pictures(tmp_path / "pictures", 1)
    path = tmp_path / "net.tflite"
    if content is not None:
        path.write_bytes(content)
    if "on a device" in flags:
        flags = []
        monkeypatch.setattr(distribution, "is_whole", lambda: False)
    with pytest.raises(UserError) as raised:
        call(classify, f"--model={path}", *flags, picture)
    assert str(raised.value).startswith(message.format(path))


def test_what_is_named_and_cannot_be_read_is_refused_before_any_answer(model_dir, tmp_path, capsys):
    picture, *_ = write_pictures(tmp_path / "pictures", 1)
    (tmp_path / "empty").mkdir()
    os.mkfifo(tmp_path / "pipe.jpg")  # to which nobody writes
    for arguments, message in (
        ([picture.parent, tmp_path / "empty"], "No picture .* in .*empty"),
        ([picture, tmp_path / "no.jpg"], "no.jpg does not exist"),
        ([picture, tmp_path / "pipe.jpg"], "pipe.jpg cannot be read .Not a regular file"),
        (["/dev/zero"], "/dev/zero cannot be read .Not a regular file"),
        ([], "No picture given"),
    ):
        with pytest.raises(UserError, match=message):
            call(classify, f"--model={model_dir}", f"--json={tmp_path}/answers.json", *arguments)
    assert capsys.readouterr().out == "" and not (tmp_path / "answers.json").exists()


def test_a_pipe_of_the_shell_is_read(model_dir, tmp_path, capsys):
    (picture, *_) = write_pictures(tmp_path / "pictures", 1)
    read, write = os.pipe()
    os.write(write, picture.read_bytes())
    os.close(write)
    try:
        call(classify, f"--model={model_dir}", f"/dev/fd/{read}")
    finally:
        os.close(read)
    (_, name), *_ = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()[1:]]
    assert name == networks.load(model_dir).classify(picture)[0][0]


def test_python_waits_for_no_pipe_either(model_dir, tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(UserError, match="pipe.jpg cannot be read .Not a regular file"):
        networks.load(model_dir).classify(tmp_path / "pipe.jpg")
