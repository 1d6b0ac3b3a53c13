"""What fine-tuning costs and gains on a folder of pictures, beside one pass over them and beside a
training from nothing.

Not part of `make proof`: it wants a trained network and pictures, and up to an hour.

    python tests/proof/finetuning.py --pretrained=models/cifar --data_dir=flowers --rows=pass,head

Each row is a command as a user gives it, in a process of its own. `pass` writes the features of all
the pictures, and so is one forward pass over them; `head` is to take at most 1.15 times as long
with any number of epochs. Seconds of the processor are given beside those of the clock: they count,
more or less, the same on a machine that is busy with other things.
"""

import json
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile
import time

from absl import flags

from alexnet_tf.commands import app
from alexnet_tf.training import checkpoints

_PRETRAINED = flags.DEFINE_string("pretrained", "models/alexnet", "A model directory.")
_DATA_DIR = flags.DEFINE_string("data_dir", "flowers", "Class folders below train/ and test/.")
_ROWS = flags.DEFINE_list(
    "rows", ["pass", "head", "fc7", "all", "scratch"], "Which commands to run, in this order."
)
_ROUNDS = flags.DEFINE_integer("rounds", 1, "How often; medians are printed.")
_EPOCHS = flags.DEFINE_integer("epochs", 30, "Of each training.")
_PATIENCE = flags.DEFINE_integer("patience", 10, "Of each training.")
_PRECISION = flags.DEFINE_enum(
    "precision", "float32", ["float32", "mixed_bfloat16"], "Of the arithmetic."
)
_ROOT = pathlib.Path(__file__).parent.parent.parent


def command(row, folder):
    data = [
        f"--data_dir={_DATA_DIR.value}",
        "--dataset=folder",
        "--xla=off",
        f"--epochs={_EPOCHS.value}",
        "--batch_size=32",
        "--schedule=linear",
        f"--patience={_PATIENCE.value}",
        f"--precision={_PRECISION.value}",
        f"--model_dir={folder}/model",
        f"--json={folder}/figures.json",
    ]
    if row == "pass":
        return [
            "tools/visualize.py",
            f"--features={folder}/features.npz",
            f"--model_dir={_PRETRAINED.value}",
            f"--precision={_PRECISION.value}",
            _DATA_DIR.value,
        ]
    if row == "scratch":
        settings = checkpoints.read_settings(_PRETRAINED.value)
        return [
            "-m",
            "alexnet_tf.train",
            *data,
            f"--variant={settings['variant']}",
            f"--image_size={settings['image_size']}",
            "--learning_rate=0.005",
            "--warmup_steps=40",
        ]
    return [
        "-m",
        "alexnet_tf.finetune",
        *data,
        f"--pretrained={_PRETRAINED.value}",
        f"--trainable={row}",
    ]


def measure(row):
    """(seconds of the clock, seconds of the processor, figures) of one run."""
    with tempfile.TemporaryDirectory() as folder:
        before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        subprocess.run(
            [sys.executable, *command(row, folder)],
            check=True,
            cwd=_ROOT,
            stdout=subprocess.DEVNULL,
            env=os.environ | {"PYTHONPATH": str(_ROOT)},
        )
        seconds, after = time.monotonic() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
        figures = pathlib.Path(folder, "figures.json")
        return (
            seconds,
            after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
            json.loads(figures.read_text()) if figures.exists() else {},
        )


def main():
    runs = {row: [] for row in _ROWS.value}
    for _ in range(_ROUNDS.value):
        for row in runs:
            runs[row].append(measure(row))
    first = next(iter(runs))
    print(
        f"{'':10}{'top-1':>8}{'loss':>8}{'seconds':>10}{'of processor':>14}"
        f"{f'times {first}':>14}{'of processor':>14}"
    )
    medians = {
        row: [statistics.median(run[place] for run in of_row) for place in (0, 1)]
        for row, of_row in runs.items()
    }
    for row, (clock, processor) in medians.items():
        figures = runs[row][-1][2]
        accuracy = f"{figures['top_1']:8.1%}{figures['loss']:8.3f}" if figures else " " * 16
        print(
            f"{row:10}{accuracy}{clock:10.1f}{processor:14.1f}{clock / medians[first][0]:14.2f}"
            f"{processor / medians[first][1]:14.2f}"
        )


if __name__ == "__main__":
    app.run(main)
