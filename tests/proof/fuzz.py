"""Readers of what comes from anywhere, each under a fuzzer that sees which branches it reaches.

    .venv-fuzz/bin/python tests/proof/fuzz.py weights tests/testdata/fuzz/weights -max_total_time=60

The rest are libFuzzer's arguments. A reader answers, or raises the one exception that its callers
expect; anything else is a finding, whose input is written to "finding" in the current folder.
"""

import os
import pathlib
import sys
import traceback

import atheris

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path[:0] = [str(pathlib.Path(__file__).parents[2]), str(pathlib.Path(__file__).parents[1])]


def kept(read):
    """`read`, which ends the process at a finding, threads of TensorFlow or not."""

    def keep(content):
        try:
            read(content)
        except Exception:
            pathlib.Path("finding").write_bytes(content)
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)

    return keep


if __name__ == "__main__":
    import readers

    name = sys.argv.pop(1)
    with atheris.instrument_imports(include=["alexnet_tf"]):
        read = readers.READERS[name]()
    atheris.Setup(sys.argv, kept(read))
    atheris.Fuzz()
