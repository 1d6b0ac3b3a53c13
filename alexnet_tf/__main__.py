"""The command `alexnet`: `alexnet train`, `alexnet finetune`, ... Each is imported when it is
called.

    alexnet --help
    alexnet train --help
"""

import contextlib
import importlib
import os
import sys
import typing

from alexnet_tf import console

# The name of each command, which is that of its module but for the hyphen, and what it does.
COMMANDS = {
    "train": "trains a network; run again, it continues where it stopped",
    "finetune": "fits a trained network to new classes",
    "evaluate": "measures errors and confusions of one model or of an ensemble",
    "export": "writes a SavedModel that serves without this package",
    "convert": "writes a .tflite file from a SavedModel",
    "classify": "prints the most probable classes of pictures",
    "serve": "serves an export over TensorFlow Serving's interfaces",
    "serve-page": "serves the page that classifies pictures in a browser",
    "import-weights": "turns pretrained weights of Caffe, PyTorch and others into a file of ours",
    "prepare": "stores a data set once at 256 x 256, or checks every picture",
    "describe": "prints layer tables and draws block diagrams of the variants",
    "visualize": "draws training curves, filters, predictions, neighbours, confusions",
    "data-service": "prepares pictures for trainings on other machines",
    "benchmark": "times training, input, inference and serving",
}


def main(arguments: list[str] | None = None) -> None:
    """Runs the command that `arguments` (default: those of the process) name."""
    console.make_sure_of_streams()
    name, *rest = (sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if name in ("--help", "-h", "help"):
        for line in _help():
            console.result(line)
    elif name == "--version":
        import alexnet_tf

        console.result(f"alexnet-tf {alexnet_tf.__version__}")
    elif name in COMMANDS:
        launch(name, rest, f"alexnet {name}")
    else:
        console.note(f"alexnet: there is no command {name!r}; alexnet --help lists them all.")
        sys.exit(2)


def launch(name: str, arguments: list[str] | None = None, called: str = "") -> typing.NoReturn:
    """Runs one command; `called` is how the user called it, for messages."""
    main_module = sys.modules["__main__"]
    if not called:
        spec = getattr(main_module, "__spec__", None)
        called = f"python -m {spec.name}" if spec else f"python {sys.argv[0]}"
    console.make_sure_of_streams()
    with tensorflow_quiet():
        module = importlib.import_module(f"alexnet_tf.commands.{name.replace('-', '_')}")
        from alexnet_tf.commands import app

    app.run(module, called, sys.argv[1:] if arguments is None else arguments)


@contextlib.contextmanager
def tensorflow_quiet():
    """TensorFlow's notes on the CPU and on absent GPUs are no news, and some heed no log level."""
    if os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3") != "3":  # somebody wants to see them
        yield
        return
    stderr, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, 2)
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(null)


def _help() -> list[str]:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {summary}" for name, summary in COMMANDS.items()]
    return [
        "AlexNet for TensorFlow and Keras.",
        "",
        "usage: alexnet COMMAND --flag=value ...",
        "",
        *lines,
        "",
        "alexnet COMMAND --help explains the flags of a command.",
    ]


if __name__ == "__main__":
    main()
