"""Runs the binaries of this project for the tests, each in a process of its own that need not import TensorFlow again.

This file is also the program from which those processes are forked: `python tests/binaries.py` imports what they all import and
then forks for each line of JSON that it reads, {"arguments", "cwd", "output"}; it answers with the exit status.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import traceback

ROOT = pathlib.Path(__file__).parent.parent


class Binaries:
    """Call it with a command's arguments after `python`; close it at the end."""

    def __init__(self):
        environment = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
        self._server = subprocess.Popen([sys.executable, __file__], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True)

    def __call__(self, *arguments, cwd, status=0):
        """Returns the standard output of a command, or, where it is to fail with `status`, its one line on standard error.

        `self.notes` is what it wrote to standard error.
        """
        with tempfile.TemporaryDirectory() as output:
            request = {"arguments": list(map(str, arguments)), "cwd": str(cwd), "output": output}
            self._server.stdin.write(json.dumps(request) + "\n")
            self._server.stdin.flush()
            answer = json.loads(self._server.stdout.readline())
            stdout, stderr = ((pathlib.Path(output) / name).read_text() for name in ("stdout", "stderr"))
        assert answer == status, stderr
        self.notes = stderr
        if status:
            (line,) = stderr.splitlines()
            assert stdout == ""
            return line
        assert "Traceback" not in stderr
        return stdout

    def close(self):
        self._server.communicate()


def _serve():
    sys.path[0] = str(ROOT)
    from alexnet_tf.__main__ import tensorflow_quiet

    with tensorflow_quiet():
        import alexnet_tf.commands.app
        import alexnet_tf.exports.artifacts
        import alexnet_tf.training.loop  # noqa: F401

    for line in sys.stdin:
        request = json.loads(line)
        child = os.fork()
        if child == 0:
            _become(**request)
        _, status = os.waitpid(child, 0)
        print(json.dumps(os.waitstatus_to_exitcode(status)), flush=True)


def _become(arguments, cwd, output):
    import runpy

    os.chdir(cwd)
    for descriptor, name in ((0, os.devnull), (1, f"{output}/stdout"), (2, f"{output}/stderr")):
        os.dup2(os.open(name, os.O_RDWR | os.O_CREAT), descriptor)
    status = 1
    try:
        sys.modules.pop("alexnet_tf.__main__", None)  # or runpy warns that it is there
        if arguments[0] == "-m":
            sys.argv = arguments[1:]
            runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
        else:
            sys.argv, sys.path[0] = arguments, str(pathlib.Path(arguments[0]).parent)
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


if __name__ == "__main__":
    _serve()
