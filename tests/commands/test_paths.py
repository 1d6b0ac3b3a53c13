"""Paths that users pass: ~ is their home in every flag, and addresses are refused."""

import copy
import importlib
import re

import pytest

from alexnet_tf import __main__ as door
from alexnet_tf.commands import app, classify, train
from alexnet_tf.errors import UserError

COMMANDS = [
    importlib.import_module(f"alexnet_tf.commands.{name.replace('-', '_')}")
    for name in door.COMMANDS
]
FLAGS = [
    pytest.param(command, name, id=f"{command.__name__.split('.')[-1]}-{name}")
    for command in COMMANDS
    for name in command.FLAGS
    if name in app.PATHS
]
# They speak of files and folders, and name none.
NO_PATHS = {
    "dataset",
    "mean",
    "weights",
    "figure",
    "version",
    "train_split",
    "validation_split",
    "test_split",
    "check",
    "file_system_poll_wait_seconds",
    "part",
    "records",
    "server",
    "served_requests",
}


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.__name__.split(".")[-1])
def test_no_flag_for_a_path_is_forgotten(command):
    for name in command.FLAGS:
        flag = command.FLAGS[name]
        if (
            flag.flag_type() in ("string", "comma separated list of strings")
            and name not in NO_PATHS
        ):
            spoken = re.search(r"\b(files?|folder|directory|directories|Python)\b", flag.help)
            assert name in app.PATHS or not spoken, f"--{name} of {command.__name__}: {flag.help}"


@pytest.mark.parametrize("command,name", FLAGS)
def test_home_is_expanded_and_addresses_are_refused(command, name, monkeypatch):
    monkeypatch.setenv("HOME", "/home/ada")
    flags = copy.deepcopy(command.FLAGS)
    flags.mark_as_parsed()
    many = isinstance(flags[name].default, list) or "list" in flags[name].flag_type()
    flags[name].value = ["~/a b", "c"] if many else "~/a b"
    app.expand_paths(flags)
    assert flags[name].value == (["/home/ada/a b", "c"] if many else "/home/ada/a b")
    for address in ("gs://bucket/x", "s3://b", "http://host/x", "file:///x", "gs:/bucket"):
        flags[name].value = ["a", address] if many else address
        with pytest.raises(
            UserError, match=f"{name}={address} is an address; pass a path on this machine"
        ):
            app.expand_paths(flags)


@pytest.mark.parametrize("command,name", FLAGS)
def test_an_empty_path_is_no_flag_left_out(command, name):
    """It is a variable of the shell that is not set."""
    flags = copy.deepcopy(command.FLAGS)
    flags.unparse_flags()
    flags.mark_as_parsed()
    flags[name].parse("")
    with pytest.raises(UserError, match=f"^{name}= names no path; pass one, or omit it"):
        app.expand_paths(flags)


@pytest.mark.parametrize(
    "command,flag", [(classify, "server"), (train, "test_split"), (train, "tower_devices")]
)
def test_a_value_that_is_empty_is_no_flag_left_out(command, flag):
    flags = copy.deepcopy(command.FLAGS)
    flags.unparse_flags()
    flags(["alexnet", f"--{flag}="])
    with pytest.raises(UserError, match=f"^{flag}= names no value; pass one, or omit it"):
        app.expand_paths(flags)


@pytest.mark.parametrize(
    "arguments",
    [
        ("train", "--model_dir=gs://bucket/model"),
        ("train", "--dataset=folder", "--data_dir=gs://bucket/pictures"),
        ("finetune", "--pretrained=gs://bucket/model"),
        ("prepare", "--output=s3://bucket/store"),
        ("evaluate", "--json=gs://b/f.json"),
        ("export", "--output=gs://bucket/saved"),
        ("classify", "gs://bucket/1.jpg"),
        ("visualize", "--figure=confusions", "s3://b/x"),
    ],
)
def test_addresses_end_in_a_line_and_nothing_is_written(run, tmp_path, arguments):
    line = run("-m", "alexnet_tf", *arguments, cwd=tmp_path, status=2)
    assert (
        line.startswith(f"alexnet {arguments[0]}: ")
        and "is an address; pass a path on this machine" in line
    )
    assert not list(tmp_path.iterdir())
