"""What a person sees: text of others acts on no terminal; one that is gone ends nothing."""

import ast
import os
import pathlib
import subprocess
import sys

import pytest

from alexnet_tf import console

PACKAGE = pathlib.Path(console.__file__).parent


@pytest.mark.parametrize(
    "text,shown",
    [
        ("a daisy, 0.97", "a daisy, 0.97"),
        ("Gänseblümchen 雛菊 \u3000👩\u200d🌾", "Gänseblümchen 雛菊 \u3000👩\u200d🌾"),
        ("\x1b]0;owned\x07\x1b[2J", r"\x1b]0;owned\x07\x1b[2J"),
        ("one\ntwo\rthree\x85four\u2028five", r"one\ntwo\rthree\x85four\u2028five"),
        ("photo\u202egnp.exe", r"photo\u202egnp.exe"),
        (os.fsdecode(b"caf\xe9.jpg"), r"caf\udce9.jpg"),
        ("a\tb\x7f\x9b31m", r"a\tb\x7f\x9b31m"),
        (r"C:\new", r"C:\new"),
    ],
)
def test_text_of_others_is_written_out(text, shown):
    assert console.printable(text) == shown


def test_what_a_terminal_cannot_show_is_written_out():
    assert console.printable("Gänse 雛", "ascii") == r"G\xe4nse \u96db"
    assert console.printable("Gänse 雛", "latin-1") == r"Gänse \u96db"


def test_results_and_notes_are_lines_that_act_on_nothing(capsys):
    console.result("\x1b[31mred\nnext")
    console.result(pathlib.Path("folder"))
    console.note("\x1b[31mred\nnext")
    assert capsys.readouterr() == ("\\x1b[31mred\\nnext\nfolder\n", "\\x1b[31mred\\nnext\n")


def test_nothing_else_of_the_package_writes_to_a_terminal():
    """But for programs of their own, whose output another program reads."""
    for path in PACKAGE.rglob("*.py"):
        if path.name in ("console.py", "package_index.py") or path.parent.name == "elsewhere":
            continue
        called = [
            ast.unparse(node.func)
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Call)
        ]
        assert not {"print", "sys.stdout.write", "sys.stderr.write", "tqdm.write"} & {*called}, path


PROGRAM = """
import contextlib, os, sys
from alexnet_tf import console
console.make_sure_of_streams()
with open(sys.argv[1], "w") as file, console.progress(2, "train") as bar:
    bar.update()
    for _ in range(5000):
        console.note("a note that is long enough to fill what is kept of it")
    with contextlib.suppress(OSError):
        os.write(2, b"of a library")
    print("a checkpoint", file=file)
    bar.update()
console.result("trained")
"""


@pytest.mark.parametrize(
    "streams,status",
    [("2>&-", 0), ("2>/dev/full", 0), ("2>&- >&- <&-", 0), (">&-", 0), (">/dev/full", 2)],
)
def test_a_terminal_that_is_gone_ends_nothing(tmp_path, streams, status):
    """Nor does a file get what libraries write to standard error, whose number it was given."""
    done = subprocess.run(
        ["bash", "-c", f'exec "$0" -c "$1" file {streams}', sys.executable, PROGRAM],
        check=False,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(PACKAGE.parent)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == status and "Traceback" not in done.stderr
    assert (tmp_path / "file").read_text() == "a checkpoint\n"
    assert done.stdout == (
        "trained\n" if streams.startswith("2>") and ">&- <" not in streams else ""
    )
    if status:
        last = done.stderr.splitlines()[-1]
        assert last.startswith("Results cannot be written to standard output: No space left")


def test_who_has_read_enough_ends_the_program():
    done = subprocess.run(
        [
            "bash",
            "-c",
            '"$0" -c "$1" | head -n 1; exit "${PIPESTATUS[0]}"',
            sys.executable,
            "from alexnet_tf import console\nfor _ in range(10**5): console.result('a line')",
        ],
        check=False,
        env=os.environ | {"PYTHONPATH": str(PACKAGE.parent)},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == (141, "a line\n", "")


@pytest.fixture
def no_log_level(monkeypatch):
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL", raising=False)


def test_standard_error_is_back_when_the_last_thread_has_what_it_opened(no_log_level):
    """Blocks of several threads end in any order, and the first must not end the others'."""
    before = os.fstat(2)
    one, other = console.tensorflow_quiet(), console.tensorflow_quiet()
    one.__enter__()
    other.__enter__()
    one.__exit__(None, None, None)
    assert os.path.samestat(os.fstat(2), os.stat(os.devnull))
    other.__exit__(None, None, None)
    assert os.path.samestat(os.fstat(2), before)
    with pytest.raises(ZeroDivisionError), console.tensorflow_quiet():
        raise ZeroDivisionError
    assert os.path.samestat(os.fstat(2), before)


def test_a_standard_error_that_is_closed_is_no_fault(no_log_level):
    kept = os.dup(2)
    os.close(2)
    try:
        with console.tensorflow_quiet():
            pass
        with pytest.raises(OSError):
            os.fstat(2)
    finally:
        os.dup2(kept, 2)
        os.close(kept)
