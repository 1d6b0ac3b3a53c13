"""What is written appears whole or not at all, whoever is killed, and by how many at once."""

import errno
import fcntl
import multiprocessing
import os
import pathlib
import signal
import socket
import stat
import subprocess
import sys

import pytest
from conftest import little_room, write_lenet5

from alexnet_tf import bounds, disk, networks
from alexnet_tf.data import prepared, record
from alexnet_tf.errors import UserError
from alexnet_tf.exports import artifacts, card
from alexnet_tf.training import checkpoints, features, metrics


@pytest.mark.parametrize("folder", [False, True])
def test_a_block_that_fails_leaves_nothing_and_what_was_there_stays(tmp_path, folder):
    path = tmp_path / "deep" / "it"
    with pytest.raises(ZeroDivisionError), disk.appearing(path, folder) as unfinished:
        (unfinished.path / "part" if folder else unfinished.path).write_text("half")
        raise ZeroDivisionError
    assert list(path.parent.iterdir()) == []
    with disk.appearing(path, folder) as unfinished:
        (unfinished.path / "part" if folder else unfinished.path).write_text("whole")
        assert not path.exists()
    assert unfinished.path == path and os.listdir(path.parent) == ["it"]
    assert (path / "part" if folder else path).read_text() == "whole"


def test_a_file_is_replaced_and_a_folder_is_not(tmp_path):
    (tmp_path / "file").write_text("old")
    disk.replace_text(tmp_path / "file", "new")
    assert (tmp_path / "file").read_text() == "new"
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/mine").touch()
    with pytest.raises(OSError) as error, disk.appearing(tmp_path / "folder", folder=True):
        pass
    assert error.value.errno == errno.ENOTEMPTY
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]


def test_what_is_replaced_keeps_its_link_and_its_mode(tmp_path):
    (tmp_path / "served").mkdir()
    file, link = tmp_path / "served/net.tflite", tmp_path / "newest"
    file.write_text("old")
    file.chmod(0o640)
    link.symlink_to("served/net.tflite")
    disk.replace_text(link, "new")
    assert os.readlink(link) == "served/net.tflite" and file.read_text() == "new"
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    assert sorted(os.listdir(tmp_path)) == ["newest", "served"]
    file.unlink()  # a link to nothing yet
    disk.replace_text(link, "anew")
    assert link.is_symlink() and file.read_text() == "anew"


def test_what_is_no_file_is_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(os.devnull)
    (tmp_path / "folder").mkdir()
    for name, message in (
        ("pipe", "not a regular file"),
        ("link", "not a regular file"),
        ("folder", "Is a directory"),
    ):
        with pytest.raises(OSError, match=message):
            disk.replace_text(tmp_path / name, "text")
    assert sorted(os.listdir(tmp_path)) == ["folder", "link", "pipe"]


def test_what_is_written_out_goes_into_a_device_and_replaces_a_file_whole(tmp_path):
    pipe, file = tmp_path / "pipe", tmp_path / "file"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    disk.check_place(pipe, "json", device=True)
    disk.write_out(pipe, b"through it")
    assert os.read(reader, 99) == b"through it" and stat.S_ISFIFO(pipe.stat().st_mode)
    os.close(reader)
    disk.write_out(file, b"old")
    with little_room(1000), pytest.raises(OSError, match="File too large"):
        disk.write_out(file, bytes(2000))
    assert file.read_bytes() == b"old" and sorted(os.listdir(tmp_path)) == ["file", "pipe"]


def test_what_else_is_printed_to_a_file_stays_beside_what_is_written_out(tmp_path):
    """/dev/stdout is that file: to replace it would lose all that is printed afterwards."""
    code = (
        "from alexnet_tf import disk; print('before', flush=True);"
        " disk.check_place('/dev/stdout', 'json', device=True);"
        " disk.write_out('/dev/stdout', b'{}\\n'); print('after')"
    )
    with open(tmp_path / "printed", "w") as printed:
        subprocess.run([sys.executable, "-c", code], stdout=printed, check=True)
    assert (tmp_path / "printed").read_text() == "before\n{}\nafter\n"


def test_a_dash_is_no_name_of_a_file():
    with pytest.raises(UserError, match="^json=- is not a file; pass a path, or /dev/stdout"):
        disk.check_place("-", "json", device=True)


def test_a_place_is_checked_where_a_link_leads(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(os, "access", lambda path, mode: asked.append(str(path)))
    (tmp_path / "out").symlink_to("there/out")
    for path, place in (("out", f"{tmp_path}/there"), ("/dev/zero", "/dev/zero")):
        with pytest.raises(UserError, match=f"^json=.*{path} cannot be written; name a file in a"):
            disk.check_place(tmp_path / path, "json", device=True)
        assert asked.pop() == place
    with pytest.raises(UserError, match="^output=/dev/zero cannot be written"):
        disk.check_place("/dev/zero", "output")
    assert not asked


# By a folder of ours what it holds, and what it may get.
OURS = {
    "a model directory": (
        ["settings.json", "checkpoints"],
        ["settings.json", "metrics.jsonl", "evaluation.json", record.FILE],
    ),
    "a checkpoint": (["weights.npz", disk.SUMS], [*checkpoints._SUMMED, checkpoints._LAST]),
    "stored features": ([features._SUMMED[2], disk.SUMS], features._SUMMED),
    "an export": (
        [bounds.MANIFEST, disk.SUMS],
        [*list(artifacts.FORMATS.values())[1:], bounds.LABELS, bounds.MANIFEST, record.FILE]
        + [card.FILE, artifacts.WARMUP],
    ),
    "a prepared data set": (
        ["dataset_info.json", "features.json"],
        [prepared.STATISTICS, prepared.MEAN_IMAGE, prepared.IDENTITIES, prepared.CLASS_NAMES],
    ),
}


@pytest.mark.parametrize("what", OURS)
def test_what_a_folder_of_ours_keeps_is_not_replaced(what, tmp_path):
    holds, names = OURS[what]
    for name in names:
        disk.check_place(tmp_path / name, "json")  # of a folder that is none of ours
    for name in holds:
        (tmp_path / name).touch()
    (tmp_path / "link.json").symlink_to(holds[0])
    for name in {*holds, *names, "link.json"}:
        with pytest.raises(
            UserError,
            match=f"^json={tmp_path}/{name} is where {what} keeps a file of its own; pass another"
            f" name, such as json={tmp_path}/my_{name.replace('link.json', holds[0])}.$",
        ):
            disk.check_place(tmp_path / name, "json")
    disk.check_place(tmp_path / "figures.json", "json")
    (tmp_path / holds[0]).unlink()
    with pytest.raises(UserError, match=f"{holds[0]} is where {what} keeps a file of its own"):
        disk.check_place(tmp_path / holds[0], "json")  # as it may come back


def test_a_folder_that_becomes_a_model_directory_is_known(tmp_path):
    disk.check_not_ours(tmp_path / "settings.json", "json")
    with pytest.raises(UserError, match="is where a model directory keeps a file of its own"):
        disk.check_not_ours(tmp_path / "settings.json", "json", [f"{tmp_path}/."])
    disk.check_not_ours(tmp_path / "state.json", "json", [tmp_path])


def test_a_file_system_without_locks_is_told(tmp_path, monkeypatch):
    """As Lustre's is, where it was not mounted with them."""

    def flock(descriptor, operation):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", flock)
    message = f"^{tmp_path} is on a file system without locks .Function not implemented"
    with pytest.raises(UserError, match=message), disk.locked(tmp_path):
        pass
    with pytest.raises(UserError, match=message):
        disk.replace_text(tmp_path / "file", "text")
    with pytest.raises(UserError, match=message):  # before hours of work
        disk.check_place(tmp_path / "file", "json", device=True)
    assert os.listdir(tmp_path) == [".lock"]


def test_a_folder_that_cannot_be_flushed_is_no_fault_and_a_file_is(tmp_path, monkeypatch):
    fsync, refused = os.fsync, {errno.EINVAL: "folder", errno.ENOTSUP: "folder"}

    def of(number):
        def fsync_of(descriptor):
            is_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
            if is_folder == (refused[number] == "folder"):
                raise OSError(number, os.strerror(number))
            fsync(descriptor)

        return fsync_of

    for number in refused:
        monkeypatch.setattr(os, "fsync", of(number))
        disk.replace_text(tmp_path / "file", f"{number}")
        assert (tmp_path / "file").read_text() == f"{number}"
    for number, where in ((errno.EIO, "folder"), (errno.EINVAL, "file")):
        refused[number] = where
        monkeypatch.setattr(os, "fsync", of(number))
        with pytest.raises(OSError):
            disk.replace_text(tmp_path / "file", "text")


@pytest.mark.parametrize(
    "content,message",
    [
        (b"", "file is an empty file; copy it again"),
        (disk.LFS + b".github.com/spec/v1", "file is git LFS's pointer to the file, which git"),
        (None, "file cannot be read .No such file or directory"),
    ],
)
def test_what_stands_in_place_of_a_file_is_told(tmp_path, content, message):
    if content is not None:
        (tmp_path / "file").write_bytes(content)
    with pytest.raises(UserError, match=message):
        disk.check_fetched(tmp_path / "file")
    with pytest.raises(UserError, match=message if content is not None else "There is no"):
        networks.load(tmp_path / "file")
    (tmp_path / "file").write_bytes(b"version https://gi")
    disk.check_fetched(tmp_path / "file")


_KILLED = """
import os, signal, sys
from alexnet_tf import disk
with disk.appearing(sys.argv[1], folder=True) as unfinished:
    (unfinished.path / "part").write_text("half")
    print(unfinished.path, flush=True)
    signal.pause() if sys.argv[2] == "stay" else os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_killed_processes_left_is_removed_and_what_others_write_is_not(tmp_path):
    def start(what):
        return subprocess.Popen(
            [sys.executable, "-c", _KILLED, tmp_path / "it", what],
            text=True,
            stdout=subprocess.PIPE,
        )

    with start("stay") as staying:
        theirs = pathlib.Path(staying.stdout.readline().strip())
        with start("die") as dying:
            left = pathlib.Path(dying.stdout.readline().strip())
            assert dying.wait() == -signal.SIGKILL
        assert (left / "part").exists()
        (tmp_path / ".it.backup").write_text("the user's")
        with disk.appearing(tmp_path / "it"):
            assert not left.exists() and (theirs / "part").exists()
        staying.kill()
    assert (tmp_path / ".it.backup").exists()


@pytest.mark.parametrize("folder", [False, True])
def test_a_file_is_locked_as_nfs_wants_it(tmp_path, folder, monkeypatch):
    """NFS refuses to lock a file that is open for reading alone; a folder it locks."""
    flock, locked = fcntl.flock, []

    def of_nfs(descriptor, operation):
        mode = fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE
        if stat.S_ISREG(os.fstat(descriptor).st_mode) and mode == os.O_RDONLY:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        locked.append(operation)
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", of_nfs)
    left = tmp_path / ".it.0.unfinished"
    left.mkdir() if folder else left.touch()
    with disk.appearing(tmp_path / "it", folder):
        assert not left.exists()
    assert os.listdir(tmp_path) == ["it"] and len(locked) == 3


def _export(folder):
    def next_free(path):
        return path.with_name(str(max(disk.numbered(folder)) + 1))

    with disk.appearing(folder / "1", folder=True, next_free=next_free) as unfinished:
        (unfinished.path / "saved_model.pb").touch()


def test_what_is_left_of_other_numbers_is_removed(tmp_path):
    for name in (".1.0.unfinished", ".30.0.unfinished", ".mine.0.unfinished"):
        (tmp_path / name).mkdir()
    _export(tmp_path)
    assert sorted(os.listdir(tmp_path)) == [".mine.0.unfinished", "1"]


@pytest.mark.long
def test_exports_at_once_get_a_number_each(tmp_path):
    processes = [
        multiprocessing.get_context("spawn").Process(target=_export, args=[tmp_path])
        for _ in range(4)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert sorted(os.listdir(tmp_path)) == ["1", "2", "3", "4"]


def test_versions_are_numbers_that_a_server_takes(tmp_path):
    assert disk.numbered(tmp_path) == {}
    for name in (
        "2",
        "10",
        "9" * 20,
        "1.5",
        ".11.abc.unfinished",
        "\N{ARABIC-INDIC DIGIT NINE}9",
        "model",
    ):
        (tmp_path / name).mkdir()
    (tmp_path / "11").touch()
    assert disk.numbered(tmp_path) == {2: tmp_path / "2", 10: tmp_path / "10"}
    (tmp_path / "007").mkdir()
    assert disk.numbered(tmp_path)[7] == tmp_path / "007"
    (tmp_path / "02").mkdir()
    with pytest.raises(UserError, match="holds 02/ and 2/, which are both version 2; remove one"):
        disk.numbered(tmp_path)


def test_files_are_found_behind_links_and_not_round_in_circles(tmp_path):
    (tmp_path / "kept/deep").mkdir(parents=True)
    (tmp_path / "kept/deep/a").touch()
    (tmp_path / "it").mkdir()
    (tmp_path / "it/b").touch()
    (tmp_path / "it/one").symlink_to("../kept")
    (tmp_path / "it/another").symlink_to("../kept/deep")
    (tmp_path / "it/gone").symlink_to("../nothing")
    (tmp_path / "it/round").symlink_to("..")
    (tmp_path / "it/self").symlink_to(".")
    os.mkfifo(tmp_path / "it/pipe")
    found = [str(path.relative_to(tmp_path / "it")) for path in disk.files_below(tmp_path / "it")]
    assert sorted(found) == ["another/a", "b", "one/deep/a"]


@pytest.mark.parametrize("kind", ["pipe", "folder", "socket"])
def test_what_is_no_file_is_not_waited_for(tmp_path, kind):
    path = tmp_path / "here"
    with socket.socket(socket.AF_UNIX) as listening:
        if kind == "pipe":
            os.mkfifo(path)  # to which nobody writes
        elif kind == "folder":
            path.mkdir()
        else:
            listening.bind(os.path.relpath(path))  # a name has 107 bytes at most
        with pytest.raises(OSError, match="regular file|a directory|No such device"):
            disk.read_bytes(path)
        with pytest.raises(OSError, match="regular file|a directory|No such device"):
            disk.sums(tmp_path, ["here"])


def test_a_pipe_in_place_of_a_file_of_a_model_is_told(tmp_path):
    """Of a model directory and of features, which are read by name."""
    write_lenet5(tmp_path / "model", ["cat", "dog"])
    files = [path for path in (tmp_path / "model").rglob("*") if path.suffix in (".json", ".npz")]
    files += list((tmp_path / "model").rglob("SHA256SUMS"))
    assert len(files) == 5
    for path in files:
        kept = path.rename(tmp_path / "kept")
        os.mkfifo(path)
        with pytest.raises(UserError, match="can(not)? be read"):
            networks.load(tmp_path / "model", note=[].append)
        path.unlink()
        kept.rename(path)
    networks.load(tmp_path / "model")


def test_a_pipe_in_place_of_the_log_or_of_labels_is_told(tmp_path):
    os.mkfifo(tmp_path / "metrics.jsonl")
    assert metrics.read_log(tmp_path) == []
    (tmp_path / "assets").mkdir()
    os.mkfifo(tmp_path / "assets/labels.txt")
    with pytest.raises(UserError, match="is not a version that alexnet export wrote"):
        artifacts.read_labels(tmp_path)


@pytest.mark.parametrize(
    "path,message",
    [
        ("", "^output= is an empty path; pass a file"),
        (
            "~nobody_is_called_so/x",
            "^output=~nobody_is_called_so/x is in the home folder of a user",
        ),
        ("$OUT/x", r"^output=\$OUT/x begins with \$OUT, a shell variable that"),
        (pathlib.Path("${OUT}/x"), r"begins with \$\{OUT\}, a shell variable"),
    ],
)
def test_paths_that_stand_for_another_are_refused(path, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message):
        disk.local(path, "output")
    (tmp_path / "$OUT").touch()
    assert disk.local("$OUT") == pathlib.Path("$OUT") and disk.local("a$OUT").name == "a$OUT"
