"""The command `alexnet`: `alexnet train`, `alexnet finetune`, ... Each is imported when it is
called.

    alexnet --help
    alexnet train --help
"""

import contextlib
import importlib
import importlib.util
import json
import os
import pathlib
import sys
import typing

from alexnet_tf import console, distribution
from alexnet_tf.errors import UserError, one_line

# The name of each command, which is that of its module but for the hyphen, and what it does.
COMMANDS = {
    "train": "trains a network; run again, it continues where it stopped",
    "finetune": "adapts a trained network to new classes",
    "evaluate": "measures errors and confusions of one model or of an ensemble",
    "export": "writes a SavedModel, ONNX, Keras or safetensors file",
    "convert": "writes a .tflite file from a SavedModel",
    "classify": "prints the most probable classes of pictures",
    "serve": "serves an export over TensorFlow Serving's interfaces",
    "serve-page": "serves the page that classifies pictures in a browser",
    "import-weights": "converts pretrained weights of Caffe, PyTorch and others",
    "prepare": "stores a data set once at 256 x 256, or checks every picture",
    "describe": "prints layer tables and draws block diagrams of the variants",
    "visualize": "draws curves, filters, answers, and what a network looks at",
    "reproduce": "reruns an experiment of the paper, and draws what was found",
    "data-service": "prepares pictures for training on other machines",
    "benchmark": "times training, input, inference and serving",
}


def main(arguments: list[str] | None = None) -> None:
    """Runs the command that `arguments` (default: those of the process) name."""
    console.make_sure_of_streams()
    name, *rest = (sys.argv[1:] if arguments is None else arguments) or ["--help"]
    try:
        distribution.check()
    except UserError as error:
        console.note(f"alexnet: {error}")
        sys.exit(2)
    if name in ("--help", "-h", "help"):
        for line in _help():
            console.result(line)
    elif name == "--version":
        import alexnet_tf

        console.result(f"{distribution.name()} {alexnet_tf.__version__}")
    elif name in COMMANDS and not _is_here(name):
        console.note(
            f"alexnet: {distribution.needs_tensorflow(name)}; install alexnet-tf in its place."
        )
        sys.exit(2)
    elif name in COMMANDS:
        launch(name, rest, f"alexnet {name}")
    else:
        console.note(f"alexnet: there is no command {name!r}; alexnet --help lists them all.")
        sys.exit(2)


def _module(name: str) -> str:
    return f"alexnet_tf.commands.{name.replace('-', '_')}"


def _is_here(name: str) -> bool:
    """Whether this distribution has the command."""
    return importlib.util.find_spec(_module(name)) is not None


def launch(name: str, arguments: list[str] | None = None, called: str = "") -> typing.NoReturn:
    """Runs one command; `called` is how the user called it, for messages."""
    main_module = sys.modules["__main__"]
    if not called:
        spec = getattr(main_module, "__spec__", None)
        called = f"python -m {spec.name}" if spec else f"python {sys.argv[0]}"
    console.make_sure_of_streams()
    try:
        with console.tensorflow_quiet():
            module = importlib.import_module(_module(name))
            from alexnet_tf.commands import app

        app.run(module, called, sys.argv[1:] if arguments is None else arguments)
    except (ImportError, ValueError) as error:  # some commands import Keras as they run
        if not (line := _without_backend(error)):
            raise
        console.note(f"{called}: {line}")
        sys.exit(UserError.status)


def _without_backend(error: Exception) -> str:
    """What is said of an `error` that kept Keras from importing its backend; "" for any other."""
    began = any(name.startswith("keras.") for name in sys.modules)
    if "keras" in sys.modules or not began:  # it is there once all of it is imported
        return ""
    backend, change = os.environ.get("KERAS_BACKEND"), "unset it or set"
    chosen = f"KERAS_BACKEND={backend}"
    if not backend:
        path = pathlib.Path(os.environ.get("KERAS_HOME") or "~/.keras").expanduser() / "keras.json"
        with contextlib.suppress(OSError, ValueError, AttributeError):
            backend = json.loads(path.read_bytes()).get("backend")
        chosen, change = f"{path} has the backend {backend}", "change it or set"
    if backend in (None, "tensorflow"):
        return ""
    missing = (getattr(error, "name", None) or "").partition(".")[0]
    reason = f"{missing} is not installed" if missing else one_line(error)
    return f"{chosen}, but {reason}; {change} KERAS_BACKEND=tensorflow."


def _help() -> list[str]:
    here = {name: summary for name, summary in COMMANDS.items() if _is_here(name)}
    width = max(map(len, here))
    lines = [f"  {name:{width}}  {summary}" for name, summary in here.items()]
    return [
        "AlexNet for TensorFlow and Keras."
        if len(here) == len(COMMANDS)
        else "AlexNet on devices, without TensorFlow. alexnet-tf has the other commands.",
        "",
        "usage: alexnet COMMAND --flag=value ...",
        "",
        *lines,
        "",
        "alexnet COMMAND --help explains the flags of a command.",
    ]


if __name__ == "__main__":
    main()
