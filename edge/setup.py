"""Builds alexnet-tf-edge, for devices that have no TensorFlow: the modules of ../alexnet_tf that
classify by a .tflite file, and no copies of them.

    pip wheel --no-deps ./edge

From a checkout alone: an sdist of this folder would lack them.
"""

import pathlib
import re

import setuptools

_ROOT = pathlib.Path(__file__).resolve().parent.parent
# All that `alexnet classify --model=FILE.tflite` imports.
MODULES = [
    "__main__",
    "archives",
    "bounds",
    "classifiers",
    "commands.app",
    "commands.classify",
    "console",
    "data.names",
    "disk",
    "distribution",
    "edge.pictures",
    "edge.tflite",
    "errors",
    "picture_files",
    "picture_headers",
    "pixels",
]
_VERSION = re.search(r'__version__ = "(.+)"', (_ROOT / "alexnet_tf/__init__.py").read_text())[1]

setuptools.setup(
    name="alexnet-tf-edge",
    version=_VERSION,
    description="Classifies pictures by an AlexNet in a .tflite file, without TensorFlow.",
    long_description=(_ROOT / "docs/edge.md").read_text(),
    long_description_content_type="text/markdown",
    license_expression="Apache-2.0",
    license_files=["LICENSE"],
    keywords=["AlexNet", "LiteRT", "TFLite", "image classification", "Raspberry Pi"],
    classifiers=[
        "Development Status :: 4 - Beta",
        "Environment :: Console",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3 :: Only",
        "Topic :: Scientific/Engineering :: Image Recognition",
    ],
    package_dir={"": ".."},
    options={"egg_info": {"egg_base": "."}},  # not beside the modules
    py_modules=[f"alexnet_tf.{name}" for name in MODULES],
    python_requires=">=3.11",
    install_requires=[
        "absl-py>=2.1,<3",
        "ai-edge-litert>=2.3,<3",
        "numpy>=2,<3",
        "pillow>=11,<14",
    ],
    entry_points={"console_scripts": ["alexnet = alexnet_tf.__main__:main"]},
)
