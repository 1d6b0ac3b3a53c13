"""The commands of this project for the tests, each in a process of its own that need not import
TensorFlow again.

This file is also the program from which those processes are forked: `python tests/binaries.py
SOCKET` imports what they all import, and then forks for each client that connects.
"""

import contextlib
import gc
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).parent.parent


class Binaries:
    """Call it with a command's arguments after `python`; close it at the end."""

    def __init__(self):
        self._folder = tempfile.TemporaryDirectory()
        self.programs = Programs(pathlib.Path(self._folder.name))

    def __call__(self, *arguments, cwd, status=0):
        """Returns the standard output of a command, or, where it is to fail with `status`, its one
        line on standard error.

        `self.notes` is what it wrote to standard error.
        """
        environment = {
            name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"
        }
        done = subprocess.run(
            [self.programs.folder / "python", *map(str, arguments)],
            cwd=cwd,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        assert done.returncode == status, done.stderr
        self.notes = done.stderr
        if status:
            (line,) = done.stderr.splitlines()
            assert done.stdout == ""
            return line
        assert "Traceback" not in done.stderr
        return done.stdout

    def close(self):
        self.programs.close()
        self._folder.cleanup()


class Programs:
    """Programs `alexnet` and `python` in `folder`, which start in milliseconds; close it at the
    end.
    """

    def __init__(self, folder):
        self.folder, path = folder, f"{folder}/socket"
        environment = {
            name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"
        }
        self._server = subprocess.Popen(
            [sys.executable, __file__, path], env=environment, stdout=subprocess.PIPE, text=True
        )
        for name in ("alexnet", "python"):
            (folder / name).write_text(
                f"#!{sys.executable} -IS\n{_CLIENT.format(path=path, name=name)}"
            )
            (folder / name).chmod(0o755)
        self._server.stdout.readline()

    def close(self):
        self._server.terminate()
        self._server.communicate()


_CLIENT = """
import json, os, signal, socket, sys
server = socket.socket(socket.AF_UNIX)
server.connect({path!r})
socket.send_fds(server, [b"x"], [0, 1, 2])
call = [[{name!r}, *sys.argv[1:]], os.getcwd(), dict(os.environ)]
server.sendall(json.dumps(call).encode() + b"\\n")
answers = server.makefile()
child = int(answers.readline())
for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, lambda number, _: os.kill(child, number))
sys.exit(int(answers.readline()) % 256)
"""


def _serve(path):
    sys.path[0] = str(ROOT)
    from alexnet_tf.console import tensorflow_quiet

    with tensorflow_quiet():
        import alexnet_tf.commands.app
        import alexnet_tf.exports.artifacts
        import alexnet_tf.training.loop  # noqa: F401

    # What a command starts in a process of its own is forked from here too.
    sys.executable = str(pathlib.Path(path).parent / "python")
    gc.freeze()  # a collection in a child would copy every page of what is shared with it
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        print("ready", flush=True)
        while True:
            client, _ = listener.accept()
            if os.fork() == 0:
                _attend(client)
            client.close()


def _attend(client):
    """Has a child do what the client asks, and tells the client how it ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    _, descriptors, _, _ = socket.recv_fds(client, 1, 3)
    arguments, cwd, environment = json.loads(client.makefile().readline())
    child = os.fork()
    if child == 0:
        for number, descriptor in enumerate(descriptors):
            os.dup2(descriptor, number)
        os.chdir(cwd)
        os.environ.clear()
        os.environ.update(environment)
        _become(*arguments)
    for descriptor in (*descriptors, 0, 1, 2):
        os.close(descriptor)
    client.sendall(f"{child}\n".encode())
    _, status = os.waitpid(child, 0)
    with contextlib.suppress(BrokenPipeError):
        client.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
    os._exit(0)


def _become(program, *arguments):
    import runpy
    import traceback

    from alexnet_tf.__main__ import main

    status = 1
    try:
        sys.modules.pop("alexnet_tf.__main__", None)  # or runpy warns that it is there
        if program == "alexnet":
            sys.argv = [program, *arguments]
            main()
        elif "-c" in arguments[:3]:
            _, code, *rest = arguments[arguments.index("-c") :]
            sys.argv = ["-c", *rest]
            exec(compile(code, "<string>", "exec"), {"__name__": "__main__"})
        elif arguments[0] == "-m":
            sys.argv = list(arguments[1:])
            runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
        else:
            sys.argv, sys.path[0] = list(arguments), str(pathlib.Path(arguments[0]).parent)
            runpy.run_path(arguments[0], run_name="__main__")
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


@contextlib.contextmanager
def parsed(flag_values, *arguments):
    """The flags of a command as `arguments` give them; before and behind, none is given. Gives the
    arguments that are no flags.
    """
    try:
        yield flag_values(["alexnet", *map(str, arguments)])[1:]
    finally:
        for name in flag_values:
            flag_values[name].unparse()


def call(command, *arguments):
    """Runs a command in this process; returns its --json."""
    with parsed(command.FLAGS, *arguments) as rest:
        command.main(rest) if getattr(command, "ARGUMENTS", None) else command.main()
    path = next(
        (str(one).removeprefix("--json=") for one in arguments if str(one).startswith("--json=")),
        None,
    )
    return json.loads(pathlib.Path(path).read_text()) if path else None


if __name__ == "__main__":
    _serve(sys.argv[1])
