"""Runs the commands of a page as a reader would type them: every block, literally, in order.

A block is fenced and says what it is: sh, python, js, or text, which is no command. Comments before
a block tell the runner, and whoever reads the page's source, what is done with it:

    <!-- journey: not run: REASON -->
    <!-- journey: in make proof: REASON -->      run there, not in make test
    <!-- journey: with --epochs=1 -->            flags replaced or added; make proof does without
    <!-- journey: instead of "A" "B" -->         text replaced; make proof does without
    <!-- journey: first: COMMAND -->             run before the block
    <!-- journey: leaves FILE ... -->            is there afterwards, as is all that flags name
    <!-- journey: stays until URL answers -->    runs on until the page ends

`alexnet` and `python` are those of binaries.Programs.
"""

import contextlib
import dataclasses
import importlib
import os
import pathlib
import re
import shlex
import socket
import subprocess
import time
import urllib.error
import urllib.request

from alexnet_tf.data import shapes

ROOT = pathlib.Path(__file__).parent.parent
LANGUAGES = ("sh", "python", "js", "text")  # js: never run from the page
# The flags that `with` may change: how much is computed, never what.
SMALLER = {"image_size", "epochs", "batch_size", "xla"}
_PORTS = ("8500", "8501")
_DIRECTIVES = (
    "not run: ",
    "in make proof: ",
    "with ",
    "instead of ",
    "first: ",
    "leaves ",
    "stays until ",
)
# Flags that name what a command writes.
_WRITTEN = {
    "train": ["model_dir"],
    "finetune": ["model_dir"],
    "describe": ["picture"],
    "serve": ["emit_config"],
    "visualize": ["features"],
}


@dataclasses.dataclass
class Block:
    """A fenced block of a page, and what its comments say."""

    page: str
    line: int
    language: str
    text: str
    not_run: str = ""
    in_proof: str = ""
    flags: tuple = ()
    instead: tuple = ()
    first: tuple = ()
    leaves: tuple = ()
    stays: str = ""

    def __str__(self):
        return f"{self.page}:{self.line}"


def blocks(page: str, text: str) -> list[Block]:
    """The blocks of a page.

    Raises ValueError where one cannot be read or a comment is not understood.
    """
    found, directives, lines = [], [], iter(enumerate(text.splitlines(), 1))
    for number, line in lines:
        if match := re.fullmatch(r"<!-- journey: (.+) -->", line):
            directives.append(match[1])
        elif line.startswith("```"):
            language, content = line[3:], []
            if language not in LANGUAGES:
                raise ValueError(f"{page}:{number}: {line} is none of {', '.join(LANGUAGES)}")
            for _, inner in lines:
                if inner == "```":
                    break
                content.append(inner)
            else:
                raise ValueError(f"{page}:{number}: the block does not end")
            found.append(
                Block(
                    page,
                    number,
                    language,
                    "\n".join(content) + "\n",
                    **_read(directives, f"{page}:{number}"),
                )
            )
            directives = []
        elif directives:
            raise ValueError(f"{page}:{number}: a comment for the journeys stands before no block")
        elif (
            "```" in line
            or "<!-- journey" in line
            or re.match(r"(    |\t)\s*[^\s*-]", line)
            and not _in_list(text, number)
        ):
            raise ValueError(f"{page}:{number}: blocks are fenced, at the start of a line")
    return found


def _in_list(text, number):
    """Whether an indented line belongs to an item of a list."""
    for line in reversed(text.splitlines()[: number - 1]):
        if re.match(r"\s*([*-]|\d+\.) ", line):
            return True
        if not line.startswith(" "):
            return False
    return False


def _read(directives, place):
    read = {"flags": (), "instead": (), "first": (), "leaves": ()}
    for directive in directives:
        kind = next((kind for kind in _DIRECTIVES if directive.startswith(kind)), None)
        if not kind:
            raise ValueError(f"{place}: {directive!r} is not understood")
        rest = directive.removeprefix(kind)
        if kind in ("not run: ", "in make proof: "):
            read["not_run" if kind == "not run: " else "in_proof"] = rest
        elif kind == "with ":
            read["flags"] += tuple(shlex.split(rest))
            changed = {flag.removeprefix("--").partition("=")[0] for flag in read["flags"]}
            if not changed <= SMALLER:
                raise ValueError(
                    f"{place}: {', '.join(sorted(changed - SMALLER))} would change what the page"
                    " does"
                )
        elif kind == "instead of ":
            old, new = shlex.split(rest)
            read["instead"] += ((old, new),)
        elif kind == "first: ":
            read["first"] += (rest,)
        elif kind == "leaves ":
            read["leaves"] += tuple(shlex.split(rest))
        else:
            read["stays"] = rest.removesuffix(" answers")
    return read


def commands(text):
    """The `alexnet` commands of a block of sh: [(name, [argument, ...]), ...]."""
    found = []
    for line in text.replace("\\\n", " ").splitlines():
        if match := re.search(r"(?:^|\s)alexnet ([a-z-]+)(.*)", line):
            found.append((match[1], shlex.split(match[2], comments=True)))
    return found


def flags_in(arguments):
    """{flag: value} of a command."""
    return dict(
        argument[2:].split("=", 1)
        for argument in arguments
        if argument.startswith("--") and "=" in argument
    )


def with_flags(text: str, changes: tuple) -> str:
    """A block with the flags `changes` in each command that has them.

    Raises ValueError if none has one of them.
    """
    lines, used = [], set()
    for line in text.replace("\\\n", " ").splitlines():
        match = re.match(r"((?:\S+='[^']*' +)*alexnet ([a-z-]+) )([^#]*)(.*)", line)
        for change in changes if match else ():
            name = change.removeprefix("--").partition("=")[0]
            if (
                name
                in importlib.import_module(
                    f"alexnet_tf.commands.{match[2].replace('-', '_')}"
                ).FLAGS
            ):
                used.add(change)
                words = [word for word in match[3].split() if not word.startswith(f"--{name}=")]
                line = f"{match[1]}{' '.join([*words, change])} {match[4]}"
                match = re.match(r"((?:\S+='[^']*' +)*alexnet ([a-z-]+) )([^#]*)(.*)", line)
        lines.append(line)
    if unused := [change for change in changes if change not in used]:
        raise ValueError(f"no command of the block knows {unused}")
    return "\n".join(lines) + "\n"


def written(text):
    """What the flags of a block's commands say that they write."""
    paths = []
    for name, arguments in commands(text):
        given = flags_in(arguments)
        for flag in ["output", "json", *_WRITTEN.get(name, ())]:
            paths += [given[flag]] if flag in given else []
    return paths


class Journey:
    """One reader's way through a page, in the folder `world`."""

    def __init__(self, world, programs, proof=False):
        self._world, self._proof, self._running = world, proof, contextlib.ExitStack()
        self._environment = {
            name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"
        }
        self._environment |= {
            "PATH": f"{programs}:{self._environment['PATH']}",
            "CUDA_VISIBLE_DEVICES": "-1",
        }
        self._ports = {}
        self.ran = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._running.close()

    def run(self, block):
        """Runs a block, unless it says otherwise.

        Raises AssertionError if it fails or leaves less than it should.
        """
        if block.language == "text" or block.not_run or block.in_proof and not self._proof:
            return
        text = block.text
        if not self._proof:
            text = with_flags(text, block.flags) if block.flags else text
            for old, new in block.instead:
                assert old in text, f"{block}: {old!r} is not in the block"
                text = text.replace(old, new)
        text = self._with_free_ports(text)
        for command in block.first:
            self.shell(command, f"{block}, before it")
        if block.language == "python":
            program = self._world / ".block.py"
            program.write_text(text)
            self.shell("python .block.py", block)
        elif block.stays:
            self._start(text, block)
        else:
            self.shell(text, block)
        for path in (*block.leaves, *(written(text) if block.language == "sh" else ())):
            assert (self._world / path).exists(), f"{block}: there is no {path} afterwards"
        self.ran += 1

    def shell(self, text, name):
        """Runs a script of bash.

        Raises AssertionError unless each command of it ends with status 0.
        """
        done = subprocess.run(
            ["bash", "-e", "-o", "pipefail", "-c", text],
            cwd=self._world,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert done.returncode == 0, (
            f"{name} ended with status {done.returncode}:\n{text}\n{done.stdout}"
        )
        assert "Traceback" not in done.stdout, f"{name}:\n{done.stdout}"
        return done.stdout

    def _with_free_ports(self, text):
        """A block with ports that nobody else on this machine uses instead of those that the pages
        name.
        """
        if any(f":{port}" in text for port in _PORTS) or "alexnet serve " in text:
            for port in _PORTS if not self._ports else ():
                with socket.create_server(("127.0.0.1", 0)) as free:
                    self._ports[port] = str(free.getsockname()[1])
        for port, free in self._ports.items():
            text = text.replace(f":{port}", f":{free}")
        return re.sub(
            r"(alexnet serve (?!.*--emit_config).*)",
            lambda match: (
                f"{match[1]} --port={self._ports['8500']} --rest_api_port={self._ports['8501']}"
            ),
            text,
        )

    def _start(self, text, block):
        with open(self._world / ".running.log", "w") as log:
            process = subprocess.Popen(
                ["bash", "-c", f"exec {text}"],
                cwd=self._world,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self._running.callback(process.wait)
        self._running.callback(process.terminate)
        url = self._with_free_ports(block.stays)
        while True:  # until it answers or ends; a test that hangs is ended by whoever runs it
            assert process.poll() is None, (
                f"{block} ended:\n{(self._world / '.running.log').read_text()}"
            )
            with (
                contextlib.suppress(urllib.error.URLError, ConnectionError),
                urllib.request.urlopen(url),
            ):
                return
            time.sleep(0.05)


def draw(folder, classes, numbers):
    """Class folders of drawn pictures: {name: number of the shape}, under those numbers."""
    for name, shape in classes.items():
        (folder / name).mkdir(parents=True)
        for number in numbers:
            suffix = ".jpg" if name != "iris" or number % 2 == 0 else ".png"
            (folder / name / f"{number}{suffix}").write_bytes(
                shapes.draw_jpeg("train", 10 * number + shape)
            )


BLOCKS = {
    path.relative_to(ROOT).as_posix(): blocks(path.relative_to(ROOT).as_posix(), path.read_text())
    for path in (*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/*.md")))
}
