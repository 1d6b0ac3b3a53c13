"""Proofs that need another framework as witness.

It runs in an environment that `make proof` makes and TensorFlow is not in.
"""

import collections
import os
import pathlib
import subprocess

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).parent.parent.parent


def pytest_terminal_summary(terminalreporter):
    """Says how long each part took: `make proof PART=NAME` runs one."""
    minutes = collections.Counter()
    for report in (report for reports in terminalreporter.stats.values() for report in reports):
        part = pathlib.Path(getattr(report, "fspath", "")).stem
        minutes[part.removeprefix("test_")] += getattr(report, "duration", 0) / 60
    for part, taken in minutes.items():
        terminalreporter.write_line(f"{part or 'warnings'}: {taken:.1f} minutes")


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
