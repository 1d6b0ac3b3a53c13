"""Installs the package `alexnet_tf`; requirements.txt pins what `make` installs, with hashes."""

import pathlib
import re
import shutil

import setuptools
from setuptools.command.build_py import build_py

_ROOT = pathlib.Path(__file__).parent


class BuildWithPage(build_py):
    """A wheel carries examples/browser as alexnet_tf/browser; a checkout is served from where it
    lies.
    """

    def run(self):
        super().run()
        if not self.editable_mode:
            page = pathlib.Path(self.build_lib, "alexnet_tf/browser")
            shutil.rmtree(page, ignore_errors=True)  # of an earlier build
            page.mkdir(parents=True)
            for path in (_ROOT / "examples/browser").iterdir():
                if path.is_file():
                    shutil.copy2(path, page)


setuptools.setup(
    name="alexnet-tf",
    version=re.search(r'__version__ = "(.+)"', (_ROOT / "alexnet_tf/__init__.py").read_text())[1],
    description=(
        "AlexNet for TensorFlow and Keras: the two-tower network of 2012, trained, exported,"
        " converted."
    ),
    long_description=(_ROOT / "README.md").read_text(),
    long_description_content_type="text/markdown",
    license_expression="Apache-2.0",
    license_files=["LICENSE"],
    keywords=["AlexNet", "TensorFlow", "Keras", "image classification", "LiteRT", "SavedModel"],
    classifiers=[
        "Development Status :: 4 - Beta",
        "Environment :: Console",
        "Environment :: GPU :: NVIDIA CUDA",
        "Intended Audience :: Developers",
        "Intended Audience :: Education",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Topic :: Scientific/Engineering :: Image Recognition",
        "Typing :: Typed",
    ],
    packages=setuptools.find_packages(include=["alexnet_tf", "alexnet_tf.*"]),
    cmdclass={"build_py": BuildWithPage},
    package_data={
        "alexnet_tf": ["py.typed"],
        "alexnet_tf.commands.benchmarks": ["elsewhere/*.py"],  # programs for other environments
        "alexnet_tf.data": ["imagenet_classes.txt"],
    },
    python_requires=">=3.11,<3.14",
    install_requires=[
        "absl-py>=2.1,<3",
        "ai-edge-litert>=2.3,<3",
        "flatbuffers>=24,<26",
        "importlib_resources>=6,<8",  # tensorflow-datasets imports it and does not say so
        "keras>=3.15.1,<4",
        "matplotlib>=3.10,<4",
        "ml_dtypes>=0.5,<1",
        "numpy>=2,<3",
        "pillow>=11,<14",
        "requests>=2.31,<3",
        "tensorboard>=2.20,<3",
        "tensorflow>=2.21,<2.22",
        "tensorflow-datasets>=4.9.10,<5",
        "tqdm>=4.66,<5",
    ],
    extras_require={
        "cuda": ["tensorflow[and-cuda]>=2.21,<2.22"],
        "onnx": ["onnx>=1.19,<2", "onnxruntime>=1.23,<2"],  # alexnet export --format=onnx
        "pictures": ["pillow-heif>=1,<2"],  # HEIC, for alexnet prepare
        "serving": [
            "grpcio>=1.80,<2",
            "prometheus-client>=0.22,<1",
            "starlette>=1,<2",
            "tensorflow-serving-api>=2.21,<2.22",
            "uvicorn>=0.50,<1",
        ],
        "test": [
            "mypy>=2,<3",
            "pillow-heif>=1,<2",
            "pytest>=8,<10",
            "pytest-xdist>=3.6,<4",
            "PyYAML>=6,<7",
            "ruff>=0.12,<1",
        ],
        "proof": [
            "kubernetes-validate>=1.37,<2",
            "playwright>=1.60,<2",  # drives the Chromium of the machine; it brings none
        ],
    },
    entry_points={"console_scripts": ["alexnet = alexnet_tf.__main__:main"]},
)
