"""What every command does: its tables, mistakes, and what is no mistake of its user."""

import importlib.metadata
import json
import os
import pathlib
import re
import subprocess
import sys
import types

import pytest
import tensorflow as tf
from absl import flags
from binaries import call, parsed

from alexnet_tf import distribution
from alexnet_tf.commands import (
    app,
    benchmark,
    describe,
    finetune,
    prepare,
    reproduce,
    serve,
    train,
)
from alexnet_tf.data import datasets
from alexnet_tf.errors import UserError

ROOT = pathlib.Path(__file__).parent.parent.parent

METRICS = {"examples": 12345, "loss": 0.25, "top_1": 0.5, "top_5": 1.0, "validation_top_5": 1.0}


def test_top_5_is_told_where_it_can_be_wrong_and_large_numbers_have_separators(tmp_path, capsys):
    path = tmp_path / "metrics.json"
    app.report_answers(METRICS, ["a", "b"], path, {"classes": []})
    assert capsys.readouterr().out.split() == ["examples", "12,345", "loss", "0.25", "top_1", "0.5"]
    assert json.loads(path.read_text()) == METRICS | {"classes": []}
    app.report_answers(METRICS, list("abcdef"), None)
    assert "  top_5             1\n" in capsys.readouterr().out


def test_a_picture_that_cannot_be_drawn_is_refused_before_the_tables(tmp_path, capsys):
    with pytest.raises(UserError, match="--picture=network.pdf: name a .png file"):
        call(describe, f"--json={tmp_path}/table.json", "--picture=network.pdf")
    assert capsys.readouterr().out == "" and not list(tmp_path.iterdir())


def test_a_data_dir_that_is_not_there_is_told_where_no_data_set_was_named(tmp_path, capsys):
    flag_values = flags.FlagValues()
    app.define_dataset(flag_values)
    with parsed(flag_values, f"--data_dir={tmp_path}/typo"):
        app.tell_of_data_dir(flag_values)
    assert (
        "typo does not exist: dataset=shapes, the default, will be written there"
        in capsys.readouterr().err
    )
    for given in ([f"--data_dir={tmp_path}/new", "--dataset=shapes"], [f"--data_dir={tmp_path}"]):
        with parsed(flag_values, *given):
            app.tell_of_data_dir(flag_values)
    assert not capsys.readouterr().err
    (tmp_path / "labels.csv").write_text("1.jpg,daisy")
    with parsed(flag_values, f"--data_dir={tmp_path}"):
        app.tell_of_data_dir(flag_values)
    assert (
        f"data_dir={tmp_path} holds labels.csv, but no pictures were found in it: dataset=shapes,"
        " the default, will be kept there; for your own pictures, pass their folder and"
        " dataset=folder" in capsys.readouterr().err
    )
    with parsed(flag_values, f"--data_dir={tmp_path}", "--dataset=shapes"):
        app.tell_of_data_dir(flag_values)
    assert not capsys.readouterr().err


@pytest.mark.parametrize(
    "command,arguments",
    [
        (prepare, ["--check"]),
        (prepare, ["--output=store"]),
        (train, []),
        (finetune, ["--pretrained=imagenet"]),
        (reproduce, ["relu"]),
        (benchmark, ["--part=input"]),
        (benchmark, ["--part=training"]),
    ],
)
def test_each_command_tells_where_it_puts_what_nobody_named(
    command, arguments, tmp_path, capsys, monkeypatch
):
    class Opened(Exception):
        pass

    def opened(*_, **__):
        raise Opened

    for name in ("open_dataset", "open_to_check"):
        monkeypatch.setattr(datasets, name, opened)
    monkeypatch.setattr(finetune, "_open_pretrained", opened)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Opened):
        call(command, "--data_dir=typo", *arguments)
    assert "typo does not exist: dataset=shapes, the default" in capsys.readouterr().err


def test_where_the_data_set_of_the_training_is_put_is_told_as_it_was_not_named(tmp_path, capsys):
    flag_values = flags.FlagValues()
    app.define_dataset(flag_values)
    (tmp_path / "labels.csv").write_text("1.jpg,daisy")

    def told(trained_with, *given):
        with parsed(flag_values, *given):
            app.dataset_or(flag_values, {"dataset": trained_with})
        return capsys.readouterr().err

    for place, there in (
        ("", "holds labels.csv, but no pictures"),
        ("/new", "does not exist: data"),
    ):
        line = told("shapes", f"--data_dir={tmp_path}{place}")
        assert there in line and "dataset=shapes, as in training, will be " in line
        assert not told("folder", f"--data_dir={tmp_path}{place}")
        assert not told("folder", f"--data_dir={tmp_path}{place}", "--dataset=shapes")


def refused(error, capsys, batch_size=None):
    """The one line on standard error of a command that raises `error`."""
    flag_values = flags.FlagValues()
    if batch_size:
        app.define_devices(flag_values, batch_size)

    def main():
        raise error

    command = types.SimpleNamespace(__doc__="Nothing.", FLAGS=flag_values, main=main)
    with pytest.raises(SystemExit) as end:
        app.run(command, "alexnet nothing", [])
    assert end.value.code == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1
    return err.strip()


@pytest.mark.parametrize(
    "error,detail",
    [
        (MemoryError(), ""),
        (
            MemoryError("Unable to allocate 3.00 GiB for an array"),
            " (Unable to allocate 3.00 GiB for an array)",
        ),
        (
            tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor\n\t [[node]]"),
            " (OOM when allocating tensor)",
        ),
    ],
)
def test_running_out_of_memory_ends_in_one_line(capsys, error, detail):
    assert refused(error, capsys) == (
        f"alexnet nothing: There is not enough memory{detail}; free some."
    )
    assert refused(error, capsys, batch_size=64) == (
        f"alexnet nothing: There is not enough memory{detail}; pass a --batch_size= below 64."
    )


def test_text_of_others_in_a_mistake_is_written_out(capsys):
    line = refused(UserError("\x1b]0;owned\x07 is no\n  picture"), capsys)
    assert line == r"alexnet nothing: \x1b]0;owned\x07 is no picture"


def test_results_that_cannot_be_written_to_their_file_are_told(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="json=.*/file/x.json cannot be written .Not a directory"):
        app.write_json({"top_1": 0.5}, tmp_path / "file/x.json")


@pytest.mark.parametrize(
    "arguments,named",
    [
        (["--json=here/x", "--output=./here/../here/x"], "--output="),
        (["--json=link", "here/x"], "an argument"),
        (["--output=link", "y", "here/x"], "an argument"),
        (["--output=here/x", "--source=link"], "--source="),
    ],
)
def test_results_do_not_replace_what_else_is_named(arguments, named, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").mkdir()
    (tmp_path / "here/x").write_text("kept")
    (tmp_path / "link").symlink_to("here/x")
    flag_values = flags.FlagValues()
    app.define_json(flag_values)
    for name in ("output", "source"):
        flags.DEFINE_string(name, None, "A file.", flag_values=flag_values)
    command = types.SimpleNamespace(
        __doc__="Nothing.", FLAGS=flag_values, ARGUMENTS="PICTURE", main=lambda pictures: None
    )
    with pytest.raises(SystemExit) as end:
        app.run(command, "alexnet nothing", arguments)
    assert end.value.code == 2
    assert f"{arguments[0]} would replace what {named} names" in capsys.readouterr().err


@pytest.mark.parametrize(
    "before,is_kept", [(b"\xff\xd8picture", True), (b"", False), (b" {}", False)]
)
def test_json_replaces_nothing_but_json(before, is_kept, tmp_path, capsys):
    """--json a.jpg b.jpg, of whoever takes --json for a switch, would replace the first picture."""
    path = tmp_path / "a.jpg"
    path.write_bytes(before)
    flag_values = flags.FlagValues()
    app.define_json(flag_values)
    command = types.SimpleNamespace(
        __doc__="Nothing.",
        FLAGS=flag_values,
        ARGUMENTS="PICTURE",
        main=lambda pictures: app.write_json({"pictures": len(pictures)}, flag_values.json),
    )
    with pytest.raises(SystemExit) as end:
        app.run(command, "alexnet nothing", ["--json", str(path), "b.jpg"])
    told = capsys.readouterr().err
    assert (end.value.code == 2, path.read_bytes() == before) == (is_kept, is_kept), told
    assert ("is an existing file that is not JSON; pass another file" in told) == is_kept


@pytest.mark.parametrize("flag", ["json", "output", "features", "picture"])
def test_no_file_of_a_model_directory_is_replaced_by_results(flag, tmp_path, capsys):
    for name in ("settings.json", "checkpoints/step-00000007/weights.npz"):
        (tmp_path / "m" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "m" / name).write_text("{}")
    (tmp_path / "new").mkdir()
    flag_values = flags.FlagValues()
    for name in (flag, "model_dir"):
        flags.DEFINE_string(name, None, "A path.", flag_values=flag_values)
    command = types.SimpleNamespace(
        __doc__="Nothing.",
        FLAGS=flag_values,
        main=lambda: app.write_json({"top_1": 0.5}, flag_values[flag].value),
    )
    for place in ("m/settings.json", "m/evaluation.json", "new/settings.json"):
        with pytest.raises(SystemExit) as end:
            app.run(
                command,
                "alexnet nothing",
                [f"--{flag}={tmp_path}/{place}", f"--model_dir={tmp_path}/new"],
            )
        assert end.value.code == 2
        told = f"--{flag}={tmp_path}/{place} is where a model directory keeps a file of its own;"
        assert told in capsys.readouterr().err
    assert (tmp_path / "m/settings.json").read_text() == "{}"


def test_results_of_a_log_that_goes_on_are_written_into_it(tmp_path):
    (tmp_path / "log").write_text("a log\n")
    with open(tmp_path / "log", "a") as log:
        subprocess.run(
            [sys.executable, "-m", "alexnet_tf", "describe", "--variant=lenet5"]
            + ["--json=/dev/stdout"],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdout=log,
            check=True,
        )
    lines = (tmp_path / "log").read_text().splitlines()
    assert lines[:2] == ["a log", "lenet5:"] and lines[-1] == "}"


@pytest.mark.parametrize(
    "arguments,backend,line",
    [
        (["serve"], "jax", "KERAS_BACKEND=jax, but jax is not installed; unset it or set "),
        # it imports Keras as it runs
        (["classify", "--model=.", "keras.json"], "mxnet", "KERAS_BACKEND=mxnet, but Unable to im"),
        (["describe"], None, "keras.json has the backend torch, but torch is not installed; chan"),
    ],
)
def test_a_backend_that_keras_does_not_find_gets_one_line(tmp_path, arguments, backend, line):
    # as where they are not installed, whatever this machine has
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\nsys.modules['jax'] = sys.modules['torch'] = None\n"
    )
    (tmp_path / "keras.json").write_text('{"backend": "torch"}')
    others = {name: value for name, value in os.environ.items() if name != "KERAS_BACKEND"}
    ended = subprocess.run(
        [sys.executable, "-m", "alexnet_tf", *arguments],
        cwd=tmp_path,
        env=others
        | {"KERAS_HOME": str(tmp_path), "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
        | ({"KERAS_BACKEND": backend} if backend else {}),
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 2 and not ended.stdout
    said = ended.stderr.splitlines()[-1]
    assert said.startswith(f"alexnet {arguments[0]}: ") and line in said
    assert said.endswith(" set KERAS_BACKEND=tensorflow.") and "Traceback" not in ended.stderr


def test_serve_advises_to_install_what_its_extra_brings():
    brought = re.findall(r"'([\w-]+)", distribution.how_to_install("serving"))
    modules = {
        module
        for module, packages in importlib.metadata.packages_distributions().items()
        if {package.replace("_", "-") for package in packages} & set(brought)
    }
    assert modules == set(serve._OF_EXTRA)
    source = "import sys; sys.modules['starlette'] = None; from alexnet_tf import __main__"
    ended = subprocess.run(
        [sys.executable, "-c", f"{source}; __main__.main(['serve'])"],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 2 and "starlette is not installed; run pip install" in ended.stderr
