"""AlexNet for TensorFlow and Keras: the two-tower network of 2012, its training, its data path and
its exports.

    import alexnet_tf

    network = alexnet_tf.load("models/flowers")  # or a weights file, an export, a .tflite file
    network.classify("daisy.jpg")                # [("daisy", 0.97), ...]

    dataset = alexnet_tf.open_dataset("folder", "pictures")
    network = alexnet_tf.train("models/flowers", dataset, epochs=30)
    alexnet_tf.evaluate(network, dataset).figures()
    alexnet_tf.export(network, "saved_models/flowers")
    alexnet_tf.convert("saved_models/flowers", "flowers.tflite", "float16")

Each name is imported when it is first used. Keras opens .keras files with our layers from
`import alexnet_tf` on.
"""

import importlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from alexnet_tf.applications import AlexNet, decode_predictions, preprocess_input
    from alexnet_tf.classifiers import Answers
    from alexnet_tf.data.datasets import open_dataset
    from alexnet_tf.data.own import from_tf_data
    from alexnet_tf.data.splits import Dataset
    from alexnet_tf.errors import UserError
    from alexnet_tf.jobs.convert import convert
    from alexnet_tf.jobs.evaluate import evaluate
    from alexnet_tf.jobs.export import export
    from alexnet_tf.jobs.train import train
    from alexnet_tf.network.layers import (
        Dropout,
        LocalResponseNormalization,
        SpatialResponseNormalization,
    )
    from alexnet_tf.network.model import VARIANTS, build_model
    from alexnet_tf.networks import Network, load
    from alexnet_tf.pixels import Preprocessing
    from alexnet_tf.training.optimizer import LARS, SGD2012

__version__ = "0.1.0"

__all__ = [
    "AlexNet",
    "Answers",
    "Dataset",
    "Dropout",
    "LARS",
    "LocalResponseNormalization",
    "Network",
    "Preprocessing",
    "SGD2012",
    "SpatialResponseNormalization",
    "UserError",
    "VARIANTS",
    "build_model",
    "convert",
    "decode_predictions",
    "evaluate",
    "export",
    "from_tf_data",
    "load",
    "open_dataset",
    "preprocess_input",
    "train",
]

_HOMES = {
    "AlexNet": "applications",
    "Answers": "classifiers",
    "Dataset": "data.splits",
    "Dropout": "network.layers",
    "LARS": "training.optimizer",
    "LocalResponseNormalization": "network.layers",
    "Network": "networks",
    "Preprocessing": "pixels",
    "SGD2012": "training.optimizer",
    "SpatialResponseNormalization": "network.layers",
    "UserError": "errors",
    "VARIANTS": "network.model",
    "build_model": "network.model",
    "convert": "jobs.convert",
    "decode_predictions": "applications",
    "evaluate": "jobs.evaluate",
    "export": "jobs.export",
    "from_tf_data": "data.own",
    "load": "networks",
    "open_dataset": "data.datasets",
    "preprocess_input": "applications",
    "train": "jobs.train",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        module = importlib.import_module(f"alexnet_tf.{_HOMES[name]}")
    except ModuleNotFoundError as error:
        if (error.name or "").startswith(f"{__name__}."):
            from alexnet_tf import distribution

            raise ImportError(
                f"{distribution.needs_tensorflow(f'alexnet_tf.{name}')}; it classifies by"
                " alexnet_tf.edge.tflite.Tflite. The distribution alexnet-tf has all of it."
            ) from None
        raise
    value = globals()[name] = getattr(module, name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _register() -> None:
    """Imports the modules whose classes Keras finds by their registered names."""
    importlib.import_module("alexnet_tf.network.layers")
    if sys.modules["keras"].backend.backend() == "tensorflow":  # elsewhere it may be missing
        importlib.import_module("alexnet_tf.training.optimizer")


class _AfterKeras:
    """Registers our classes when Keras has been imported, by whomever. A finder of sys.meta_path.

    Keras opens files with registered classes alone, and `import alexnet_tf` is not to import Keras.
    """

    @classmethod
    def find_spec(cls, name: str, path: Any = None, target: Any = None) -> Any:
        if name != "keras":
            return None
        others = (finder for finder in list(sys.meta_path) if finder is not cls)
        spec = next(filter(None, (finder.find_spec(name, path, target) for finder in others)), None)
        if spec and spec.loader:
            loader: Any = spec.loader  # of one import; ours to change
            load = loader.exec_module

            def load_and_register(module: Any) -> None:
                load(module)
                if cls in sys.meta_path:  # to be found is not yet to be imported
                    sys.meta_path.remove(cls)
                    _register()

            loader.exec_module = load_and_register
        return spec


if sys.modules.get("keras"):
    _register()
elif _AfterKeras not in sys.meta_path:
    sys.meta_path.insert(0, _AfterKeras)
