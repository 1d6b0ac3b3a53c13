"""Installs the package `alexnet_tf`; constraints.txt pins the versions that `make` uses."""

import pathlib
import re

import setuptools

_ROOT = pathlib.Path(__file__).parent

setuptools.setup(
    name="alexnet-tf",
    version=re.search(r'__version__ = "(.+)"', (_ROOT / "alexnet_tf/__init__.py").read_text())[1],
    description="AlexNet for TensorFlow and Keras: the two-tower network of 2012, trained, exported, converted.",
    long_description=(_ROOT / "README.md").read_text() if (_ROOT / "README.md").exists() else "",
    long_description_content_type="text/markdown",
    packages=setuptools.find_packages(include=["alexnet_tf", "alexnet_tf.*"]),
    package_data={"alexnet_tf": ["py.typed"], "alexnet_tf.data": ["imagenet_classes.txt"]},
    python_requires=">=3.11",
    install_requires=[
        "absl-py>=2.1,<3",
        "ai-edge-litert>=2.3,<3",
        "flatbuffers>=24,<26",
        "importlib_resources>=6,<8",  # tensorflow-datasets imports it and does not say so
        "keras>=3.15.1,<4",
        "matplotlib>=3.10,<4",
        "numpy>=2,<3",
        "pillow>=11,<14",
        "requests>=2.31,<3",
        "tensorboard>=2.20,<3",
        "tensorflow>=2.21,<2.22",
        "tensorflow-datasets>=4.9.10,<5",
        "tqdm>=4.66,<5",
    ],
    extras_require={
        "serving": ["grpcio>=1.80,<2", "prometheus-client>=0.22,<1", "starlette>=1,<2", "tensorflow-serving-api>=2.21,<2.22",
                    "uvicorn>=0.50,<1"],
        "test": ["pytest>=8,<10", "pytest-xdist>=3.6,<4", "PyYAML>=6,<7", "ruff>=0.12,<1"],
        "proof": ["playwright>=1.60,<2"],  # drives the Chromium of the machine; it brings none
    },
    entry_points={"console_scripts": ["alexnet = alexnet_tf.__main__:main"]},
)
