"""The unit for a Raspberry Pi answers what came while it was not running, and tells what it hears.

tests/commands/test_classify.py has when it ends.
"""

import os
import pathlib
import re
import subprocess
import sys

from tflite_files import colour_content

ROOT = pathlib.Path(__file__).parents[2]
UNIT = ROOT / "examples/raspberry_pi/alexnet.service"


def commands(folder):
    """{ExecStartPre: [...], ...} of the unit, as bash has them, in `folder` in place of its own."""
    text = UNIT.read_text().replace("\\\n", " ").replace("%%", "%").replace("$$", "$")
    for theirs, ours in (
        ("/opt/alexnet/bin/alexnet", f"{folder}/alexnet"),
        ("/opt/alexnet/bin/python", sys.executable),
        ("/var/lib/alexnet", str(folder)),
        ("/run/alexnet", str(folder)),
    ):
        text = text.replace(theirs, ours)
    found = {}
    for name, command in re.findall(r"^(Exec\w+)=(.*)$", text, re.M):
        found.setdefault(name, []).append(command)
    return found


def run(command, folder):
    environment = {"PATH": f"{folder}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        ["bash", "-c", command], env=os.environ | environment, capture_output=True
    )


def program(path, text):
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def after(path, others):
    """Writes an empty file at `path`, later than `others` by the clock of the disk."""
    latest = max((other.stat().st_ctime_ns for other in others), default=0)
    path.touch()
    while path.stat().st_ctime_ns <= latest:
        path.touch()
    return path


def answered(folder, power_cut=False):
    """The names that the classifier reads in one run of the unit, which a `power_cut` may end, and
    what goes to the journal beside the answers.
    """
    program(folder / "alexnet", "cat")
    unit = commands(folder)
    assert run(unit["ExecStartPre"][0], folder).returncode == 0
    done = run(unit["ExecStart"][0], folder)
    assert (folder / "ran").exists() == (b"Watches established." in done.stderr)
    if not power_cut:
        assert run(unit["ExecStopPost"][0], folder).returncode == done.returncode == 0
    (folder / "ran").unlink(missing_ok=True)  # as systemd empties what it made in /run
    named = [pathlib.Path(line).name for line in done.stdout.decode().splitlines()]
    return sorted(named), done.stderr


def test_what_came_while_it_did_not_run_is_answered_once(tmp_path):
    pictures, state = tmp_path / "pictures", tmp_path / "state"
    pictures.mkdir()
    state.mkdir()
    program(
        tmp_path / "inotifywait",
        'echo "Setting up watches." >&2; echo "Watches established." >&2\n'
        f"echo {pictures}/event.jpg",
    )
    first = [pictures / "old.jpg", pictures / "other.PNG"]
    for path in (*first, pictures / "notes.txt"):
        path.touch()
    (pictures / "folder.jpg").mkdir()
    named, told = answered(tmp_path, power_cut=True)  # the first: all that is there, and the event
    assert named == ["event.jpg", "old.jpg", "other.PNG"]
    assert b"Watches established." in told
    after(pictures / "meanwhile.webp", [state / "last"])
    assert answered(tmp_path)[0] == ["event.jpg", "meanwhile.webp"]
    came = after(pictures / "running.jpg", [state / "last"])  # when the folder is watched
    (tmp_path / "ran").touch()
    while (state / "last").stat().st_mtime_ns <= came.stat().st_ctime_ns:
        assert run(commands(tmp_path)["ExecStopPost"][0], tmp_path).returncode == 0
    (tmp_path / "ran").unlink()
    assert answered(tmp_path)[0] == ["event.jpg"]


def test_a_start_that_failed_loses_nothing(tmp_path):
    (tmp_path / "state").mkdir()
    (tmp_path / "state/last").touch()
    os.utime(tmp_path / "state/last", (7, 7))
    assert run(commands(tmp_path)["ExecStopPost"][0], tmp_path).returncode == 0
    assert run(commands(tmp_path)["ExecStartPre"][0], tmp_path).returncode == 0
    assert (tmp_path / "state/last").stat().st_mtime == 7


def test_what_inotifywait_cannot_watch_is_told(tmp_path):
    (tmp_path / "state").mkdir()
    program(tmp_path / "inotifywait", "echo Cannot watch >&2; exit 1")
    assert answered(tmp_path) == ([], b"Cannot watch\n")


def test_a_file_that_does_not_open_keeps_the_unit_from_starting(tmp_path):
    _, opens = commands(tmp_path)["ExecStartPre"]
    content = bytearray(colour_content())
    (tmp_path / "alexnet.tflite").write_bytes(content)
    assert run(opens, tmp_path).returncode == 0
    content[content.index(b"PK\3\4") // 2] ^= 1
    (tmp_path / "alexnet.tflite").write_bytes(content)
    done = run(opens, tmp_path)
    assert done.returncode and b"alexnet.tflite is damaged" in done.stderr.splitlines()[-1]


def test_events_and_the_list_have_the_same_endings():
    patterns = re.findall(r'"(\[[.]\].*?)\$\$"', UNIT.read_text())
    assert len(patterns) == 2 and len(set(patterns)) == 1
