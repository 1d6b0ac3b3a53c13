r"""Reruns an experiment: a claim of the paper or about its network, with several seeds of each arm.

    alexnet reproduce relu --dataset=folder --data_dir=cifar10
    alexnet reproduce start --seeds=3 --length=0.2

It continues where it was stopped: each finished run leaves one file below --output, and each
unfinished one its checkpoint. The picture is --output/EXPERIMENT.png. Without an experiment it
lists them.
"""

import dataclasses
import textwrap

from absl import flags

from alexnet_tf import console
from alexnet_tf.commands import app
from alexnet_tf.data import datasets
from alexnet_tf.data.names import USUAL_NAMES
from alexnet_tf.errors import UserError
from alexnet_tf.experiments.reproduce import EXPERIMENTS, OUTPUT, reproduce
from alexnet_tf.training import devices

FLAGS = flags.FlagValues()
_JSON = app.define_json(FLAGS)
_DATASET, _DATA_DIR = app.define_dataset(FLAGS)
_OUTPUT = flags.DEFINE_string(
    "output", OUTPUT, "The folder for results and pictures.", flag_values=FLAGS
)
_SEEDS = flags.DEFINE_integer(
    "seeds",
    None,
    "How many seeds of each arm, counted from 0; more can be added later. Default: "
    "the experiment's own number.",
    lower_bound=1,
    upper_bound=1000,
    flag_values=FLAGS,
)
_LENGTH = flags.DEFINE_float(
    "length",
    1.0,
    "How long each training is, as a multiple of the experiment's own length; the "
    "same for all arms.",
    lower_bound=0.0,
    upper_bound=1000.0,
    flag_values=FLAGS,
)

ARGUMENTS = "EXPERIMENT"


def _listed():
    """Lines: each experiment, how long it takes, and its claim."""
    lines = ["Experiments, with the hours that two cores take at --length=1:", ""]
    for one in EXPERIMENTS.values():
        lines.append(f"  {one.name:<15} {one.hours:>4.1f} h, {one.seeds} seeds")
        lines += app.indented(one.claim)
    return lines


__doc__ = "\n".join([__doc__, *_listed()])  # what --help prints


def main(arguments):
    if not arguments:
        if given := [name for name in FLAGS if FLAGS[name].present]:
            raise UserError(
                f"--{given[0]} is for an experiment; name one: {', '.join(EXPERIMENTS)}."
            )
        for line in _listed():
            console.result(line)
        return
    if len(arguments) > 1:
        raise UserError(f"{' '.join(arguments)}: one experiment at a time.")
    (name,) = arguments
    if _LENGTH.value == 0:
        raise UserError("length=0 would train on no pictures; pass a number above 0.")
    devices.check_one_process("an experiment")  # before each process fetches and reads the data set
    dataset = None
    splits = [f"--{role}_split" for role in USUAL_NAMES if FLAGS[f"{role}_split"].present]
    if splits and not _names_data():
        raise UserError(f"{splits[0]} is a split of --dataset or --data_dir; pass one of them too.")
    if name in EXPERIMENTS and (_names_data() or not EXPERIMENTS[name].draws_pictures):
        app.tell_of_data_dir(FLAGS)
        dataset = datasets.open_dataset(
            _DATASET.value, _DATA_DIR.value, names=app.split_names(FLAGS)
        )
    found = reproduce(name, _OUTPUT.value, dataset, seeds=_SEEDS.value, length=_LENGTH.value)
    for text in (f"{name}. {found.experiment.claim}", found.experiment.how):
        for line in textwrap.wrap(text, 98):
            console.result(line)
        console.result()
    app.report(
        found.under | found.table | {"picture": str(found.picture)},
        _JSON.value,
        {"results": [dataclasses.asdict(one) for one in found.results]},
    )


def _names_data():
    return _DATASET.present or _DATA_DIR.present
