"""The command `alexnet`: `alexnet train`, `alexnet finetune`, ... Each is imported when it is
called.

    alexnet --help
    alexnet train --help
"""

import importlib
import importlib.util
import sys
import typing

from alexnet_tf import distribution
from alexnet_tf.console import tensorflow_quiet
from alexnet_tf.errors import UserError

# The name of each command, which is that of its module but for the hyphen, and what it does.
COMMANDS = {
    "train": "trains a network; started again, goes on where it stopped",
    "finetune": "puts a fresh projection on a trained network, for new classes",
    "evaluate": "top-1 and top-5 error of one model or of an ensemble",
    "export": "writes a SavedModel that serves without this package",
    "convert": "writes a .tflite file from a SavedModel",
    "classify": "the most probable classes of pictures",
    "serve": "a server with TensorFlow Serving's interfaces",
    "serve-page": "the page that classifies pictures in a browser",
    "import-weights": "pretrained weights of Caffe, PyTorch and others to one file of ours",
    "prepare": "stores a data set once at 256 x 256, or checks every picture",
    "describe": "layer tables and block pictures of the variants",
    "visualize": "training curves, filters, predictions, neighbours, confusions",
    "data-service": "prepares pictures for trainings on other machines",
    "benchmark": "speed of training, input, inference and serving",
}


def main(arguments: list[str] | None = None) -> None:
    """Runs the command that `arguments` (default: those of the process) name."""
    name, *rest = (sys.argv[1:] if arguments is None else arguments) or ["--help"]
    try:
        distribution.check()
    except UserError as error:
        print(f"alexnet: {error}", file=sys.stderr)
        sys.exit(2)
    if name in ("--help", "-h", "help"):
        print(_help())
    elif name == "--version":
        import alexnet_tf

        print(f"{distribution.name()} {alexnet_tf.__version__}")
    elif name in COMMANDS and not _is_here(name):
        print(
            f"alexnet: {name} needs TensorFlow, and alexnet-tf-edge has none; pip install"
            " alexnet-tf in its place.",
            file=sys.stderr,
        )
        sys.exit(2)
    elif name in COMMANDS:
        launch(name, rest, f"alexnet {name}")
    else:
        print(
            f"alexnet: there is no command {name!r}; alexnet --help lists them all.",
            file=sys.stderr,
        )
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
    with tensorflow_quiet():
        module = importlib.import_module(_module(name))
        from alexnet_tf.commands import app

    app.run(module, called, sys.argv[1:] if arguments is None else arguments)


def _help() -> str:
    here = {name: summary for name, summary in COMMANDS.items() if _is_here(name)}
    width = max(map(len, here))
    lines = [f"  {name:{width}}  {summary}" for name, summary in here.items()]
    return "\n".join(
        [
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
    )


if __name__ == "__main__":
    main()
