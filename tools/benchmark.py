"""How fast each part is, as ratios within one run.

    python tools/benchmark.py --part=training --precision=mixed_bfloat16 --batch_size=32
    python tools/benchmark.py --batch_size=64 --torch_python=.venv-proof/bin/python     # PyTorch on the same network

The parts are the files in tools/benchmarks/.
"""

import importlib
import pathlib

from absl import flags

from alexnet_tf import app  # before TensorFlow, which it quiets

_PARTS = {path.stem: importlib.import_module(f"benchmarks.{path.stem}")
          for path in sorted((pathlib.Path(__file__).parent / "benchmarks").glob("*.py")) if path.stem != "timing"}
_PART = flags.DEFINE_enum("part", "training", list(_PARTS), "What to time.")


def main():
    figures = _PARTS[_PART.value].figures()
    origin = app.provenance()
    print(f"{_PART.value}; {origin['machine']}, commit {origin.get('commit', 'unknown')}:")
    app.report(figures)


if __name__ == "__main__":
    app.run(main)
