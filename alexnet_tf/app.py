"""What the binaries share: flags of the same meaning, the line that a user's mistake gets, results on standard output."""

import importlib.metadata
import json
import os
import pathlib
import platform
import subprocess
import sys
import time

from absl import app, flags, logging

from alexnet_tf.errors import UserError


def _import_tensorflow_quietly():
    """TensorFlow's notes on the CPU and on absent GPUs are no news to a user, and some of them heed no log level."""
    if os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3") != "3":  # somebody wants to see them
        return
    stderr, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, 2)
        import tensorflow  # noqa: F401
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(null)


_import_tensorflow_quietly()

from alexnet_tf.optimizer import SCHEDULES

JSON = flags.DEFINE_string("json", None, "Writes the figures that are printed to this file as well, as one JSON object.")


# Flags that mean the same wherever they occur. A binary defines those that it reads, and no others.


def define_dataset():
    """Returns the flags (--dataset, --data_dir)."""
    return (flags.DEFINE_string("dataset", "shapes", "shapes (drawn on first use), folder (class folders below --data_dir), or the "
                                "name of any image-classification data set of TFDS."),
            flags.DEFINE_string("data_dir", None, "The folder; for other data sets, where TFDS keeps them (default: TFDS's own). "
                                "Or, for either, what tools/prepare_dataset.py has stored."))


def define_model_dir():
    return flags.DEFINE_string("model_dir", "models/alexnet", "Where settings, checkpoints and log of a model lie.")


def define_devices(batch_size=128):
    """Returns the flags (--batch_size, --precision, --distribution, --replicas)."""
    return (flags.DEFINE_integer("batch_size", batch_size, "Pictures in a step, all replicas together.", lower_bound=1),
            flags.DEFINE_enum("precision", "float32", ["float32", "mixed_bfloat16"], "Arithmetic; weights are float32 always."),
            flags.DEFINE_enum("distribution", "auto", ["auto", "one_device", "mirrored", "multi_worker"],
                              "Of a step over devices; auto: mirrored from two replicas on; multi_worker: over processes that "
                              "the environment variable TF_CONFIG names."),
            flags.DEFINE_integer("replicas", 0, "How many devices: GPUs, or logical CPUs where there is none; 0: all GPUs, or one "
                                 "CPU.", lower_bound=0))


def define_training(learning_rate, rate_help, epochs, schedule, patience):
    """Returns the flags (--learning_rate, --seed, --xla, --epochs, --warmup_steps, --schedule, --momentum, --weight_decay,
    --bias_rate, --patience, --checkpoint_seconds, --max_bad_pictures, --dry_run).
    """
    return (
        flags.DEFINE_float("learning_rate", learning_rate, f"At the start, after warm-up{rate_help}.", lower_bound=0.0),
        flags.DEFINE_integer("seed", 0, "Of initial weights, order, crops and dropout.", lower_bound=0, upper_bound=2**31 - 1),
        flags.DEFINE_enum("xla", "auto", ["auto", "on", "off"], "Compile the step by XLA; auto times both and takes the faster."),
        flags.DEFINE_integer("epochs", epochs, "Passes over the training pictures.", lower_bound=1),
        flags.DEFINE_integer("warmup_steps", 0, "Steps in which the rate rises from 0 to its start.", lower_bound=0),
        flags.DEFINE_enum("schedule", schedule, SCHEDULES, "plateau: divided by 10, three times, when the validation error stops "
                          "improving; steps: at 25/91, 51/91 and 79/91 of the run, conv1 slowed at 67/91 and frozen at 72/91; "
                          "linear: to 0."),
        flags.DEFINE_float("momentum", 0.9, "Share of the velocity that a step keeps.", lower_bound=0.0, upper_bound=0.9999),
        flags.DEFINE_float("weight_decay", 0.0005, "Of weights, not of biases; inside the momentum.", lower_bound=0.0),
        flags.DEFINE_float("bias_rate", 1.0, "Times the rate for biases: 2 in the 2012 source.", lower_bound=0.0),
        flags.DEFINE_integer("patience", patience, "Stops after so many epochs without a lower evaluation error, and keeps the "
                             "best weights; 0: never stops early, and keeps the last.", lower_bound=0),
        flags.DEFINE_integer("checkpoint_seconds", 600, "A checkpoint is written at the end of an epoch and after this time.",
                             lower_bound=1),
        flags.DEFINE_integer(
            "max_bad_pictures", 10, "Pictures that cannot be read are named and passed over; at more, a run stops.", lower_bound=0),
        flags.DEFINE_bool("dry_run", False, "Checks all that can be checked, then stops before the first step."))


def dataset_or(trained_with):
    """(--dataset, --data_dir, seed): as given, or else those in `trained_with`, the flags of a model's training."""
    given = {name: flags.FLAGS[name].value for name in ("dataset", "data_dir") if flags.FLAGS[name].present}
    if given.get("dataset", trained_with["dataset"]) != trained_with["dataset"]:
        given.setdefault("data_dir", None)  # that of another data set is of no use
    used = trained_with | given
    return used["dataset"], used["data_dir"], used["seed"]


def run(main, arguments=False):
    """Runs a binary: a UserError or a bad flag ends as one line on standard error and exit status 2.

    `main` is called without arguments, or, if the binary takes any, with the list of them. Ctrl-C ends with status 130.
    """
    def guarded(argv):
        try:
            _check_json()
            if arguments:
                main(argv[1:])
            elif len(argv) > 1:
                raise flags.Error(f"{argv[1]!r} belongs to no flag; write --name=value.")
            else:
                main()
        except (flags.Error, UserError) as error:
            _refuse(error)
        except BrokenPipeError:  # whoever read our results has seen enough: `| head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(141)
        except KeyboardInterrupt:
            print("stopped by Ctrl-C", file=sys.stderr)
            sys.exit(130)

    for flag in flags.FLAGS.flags_by_module_dict().get(__name__, ()):  # --help lists a binary's own flags alone
        flags.FLAGS.register_key_flag_for_module(sys.argv[0], flag)
    logging.use_absl_handler()
    logging.set_verbosity(logging.ERROR)
    app.run(guarded, flags_parser=_parse_flags)


def _parse_flags(argv):
    try:
        return flags.FLAGS(argv)
    except flags.Error as error:
        _refuse(error)


def _check_json():
    if JSON.value:
        path = pathlib.Path(JSON.value)
        if path.is_dir() or not os.access(path.absolute().parent, os.W_OK):
            raise UserError(f"--json={JSON.value} cannot be written; name a file in a folder that exists.")


def _refuse(error):
    print(f"{pathlib.Path(sys.argv[0]).name}: {' '.join(str(error).split())}", file=sys.stderr)
    sys.exit(2)


def report(figures, more=None):
    """Prints a table of `figures` (name to value) and writes it, and `more` that is not printed, to --json."""
    width = max(map(len, figures))
    for name, value in figures.items():
        print(f"  {name:<{width}}  {f'{value:.4g}' if isinstance(value, float) else value}")
    write_json(figures | (more or {}))


def write_json(figures):
    """Writes `figures` to --json, if it is given."""
    if JSON.value:
        pathlib.Path(JSON.value).write_text(json.dumps(figures, indent=1) + "\n")


def flag_values():
    """The flags of this project and their values in this run."""
    values = {flag.name: flag.value for module, of_module in flags.FLAGS.flags_by_module_dict().items()
              if "alexnet_tf" in module for flag in of_module}
    if values.get("data_dir"):
        values["data_dir"] = str(pathlib.Path(values["data_dir"]).absolute())  # to be found again from any folder
    return values


def provenance():
    """What it takes to trace a result: versions, machine and time, and the git commit if this is a checkout."""
    names = ("alexnet-tf", "tensorflow", "keras", "numpy")
    versions = {name: importlib.metadata.version(name) for name in names}
    commit = _commit(pathlib.Path(__file__).resolve().parent.parent)
    return {"versions": versions, **({"commit": commit} if commit else {}), "python": platform.python_version(),
            "machine": f"{platform.machine()}, {os.cpu_count()} CPUs", "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}


def _commit(folder):
    """The git commit of `folder` if it is a checkout of this project, else None: an installed package may lie
    within a repository of its user, which says nothing about it."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}  # a hook's

    def git(*arguments):
        return subprocess.run(["git", *arguments], cwd=folder, env=environment, capture_output=True, text=True,
                              check=True).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", "setup.py", f"{pathlib.Path(__file__).parent.name}/app.py")
        if pathlib.Path(git("rev-parse", "--show-toplevel")).resolve() == folder:
            return git("describe", "--always", "--dirty")
    except (OSError, subprocess.CalledProcessError):  # no git, or nothing of it here
        pass
    return None
