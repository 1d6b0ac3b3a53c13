"""What the parts share: the flags that several read, timing in turn, and other Pythons."""

import json
import pathlib
import shutil
import statistics
import subprocess
import time

from absl import flags

from alexnet_tf.commands import app
from alexnet_tf.errors import UserError

# scripts for a Python that has other libraries, for instance .venv-proof's
ELSEWHERE = pathlib.Path(__file__).parent / "elsewhere"

FLAGS = flags.FlagValues()  # of all parts together
DATASET, DATA_DIR = app.define_dataset(FLAGS)
OF_DATASET = tuple(FLAGS)  # the names of those that say which data set, and which of its splits
ROUNDS = flags.DEFINE_integer(
    "rounds", 12, "Timed rounds, after one untimed round.", lower_bound=1, flag_values=FLAGS
)


def in_turn(timed):
    """Median seconds of each function of `timed`, by name, called with the number of the round: one
    of each kind a round, so that a machine that slows down slows them all.

    What a function returns is a list whose first element can be read as a float, which waits for
    the device; or None.
    """
    seconds = {name: [] for name in timed}
    for round_number in range(ROUNDS.value + 1):
        for name, function in timed.items():
            begin = time.perf_counter()
            answer = function(round_number)
            if answer is not None:
                float(answer[0])
            seconds[name].append(time.perf_counter() - begin)
    return {name: statistics.median(values[1:]) for name, values in seconds.items()}


def check_python(flag, python):
    """Raises UserError, before anything is timed, if `python`, the value of --`flag`, is given and
    no program.
    """
    if python and not shutil.which(python):
        raise UserError(
            f"--{flag}={python} is not a program; pass a Python, such as .venv-proof/bin/python."
        )


def elsewhere(script, flag, python, *arguments):
    """What a script of ELSEWHERE prints as JSON in its last line, run by `python`, the value of
    --`flag`.

    Raises UserError if it fails there.
    """
    result = subprocess.run(
        [python, "-P", ELSEWHERE / f"{script}.py", *map(str, arguments)],
        capture_output=True,
        text=True,
    )
    if result.returncode:
        raise UserError(f"--{flag}={python} failed: {' '.join(result.stderr[-300:].split())}")
    return json.loads(result.stdout.splitlines()[-1])
