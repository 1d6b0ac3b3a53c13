"""Proofs that need another framework as witness.

It runs in an environment that `make proof` makes and TensorFlow is not in.
"""

import os
import pathlib
import subprocess

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).parent.parent.parent


@pytest.fixture
def witness(tmp_path):
    """Runs Python source in another environment: arrays in as `arrays`, out as whatever it puts
    into the dict `answer`.
    """

    def run(source, backend=None, environment=".venv-proof", **arrays):
        np.savez(tmp_path / "in.npz", **arrays)
        source = (
            f"import numpy as np\narrays = dict(np.load({str(tmp_path / 'in.npz')!r}))\nanswer ="
            f" {{}}\n{source}\nnp.savez({str(tmp_path / 'out.npz')!r}, **answer)\n"
        )
        variables = (
            os.environ | {"PYTHONPATH": str(ROOT)} | ({"KERAS_BACKEND": backend} if backend else {})
        )
        result = subprocess.run(
            [ROOT / environment / "bin/python", "-c", source],
            env=variables,
            capture_output=True,
            text=True,
        )
        assert result.returncode == 0, result.stderr[-3000:]
        return dict(np.load(tmp_path / "out.npz"))

    return run
