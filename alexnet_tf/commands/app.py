"""What the commands share: flags with the same meaning, reports of mistakes, and results.

A command is a module of this folder. It has a docstring, which --help prints; FLAGS, an
absl.flags.FlagValues of its own, so that any two commands can be imported in one process; and
`main()`. A command that takes arguments beside its flags says so by `ARGUMENTS`, a word for them,
and has `main(arguments)`. `alexnet_tf.__main__` is the only caller of
`run`.
"""

import io
import json
import os
import pathlib
import re
import sys
import textwrap
import types
import typing

from absl import app, flags, logging

from alexnet_tf import bounds, console, disk
from alexnet_tf.classifiers import TOP
from alexnet_tf.data import names
from alexnet_tf.errors import UserError, one_line
from alexnet_tf.picture_files import shown

# where no flag says another
MODEL_DIR, SAVED_MODEL, MODEL_NAME = "models/alexnet", "saved_models/alexnet", "alexnet"
TFLITE = "models/shapes/alexnet.tflite"  # as tools/quickstart.py writes it
DRY_RUN = "dry run: nothing is wrong; stopping before the first step"

# Flags that mean the same wherever they occur. A command defines those that it reads, no others.


def define_json(flag_values):
    return flags.DEFINE_string(
        "json",
        None,
        "Also write the printed numbers to this file, as one JSON object.",
        flag_values=flag_values,
    )


# Flags and arguments that name files and folders, whatever command they belong to.
PATHS = (
    "arguments",
    "cache_dir",
    "calibration",
    "data_dir",
    "emit_config",
    "features",
    "features_dir",
    "jpeg_python",
    "json",
    "labels",
    "model",
    "model_dir",
    "models",
    "node_modules",
    "output",
    "picture",
    "pretrained",
    "saved_model",
    "served_model",
    "source",
    "tflite",
    "torch_python",
    "witness_python",
)


def define_dataset(flag_values):
    """Returns the flags (--dataset, --data_dir), and defines those that `split_names` reads."""
    for role in names.USUAL_NAMES:
        flags.DEFINE_string(
            f"{role}_split",
            None,
            f"The {role} split: a folder below --data_dir, or a split of TFDS; "
            "default: found by its usual names."
            + (" A dot: the class folders are in --data_dir itself." if role == "train" else ""),
            flag_values=flag_values,
        )
    return (
        flags.DEFINE_string(
            "dataset",
            "shapes",
            "shapes (drawn on first use), folder (class folders below --data_dir), or the "
            "name of any image-classification data set of TFDS.",
            flag_values=flag_values,
        ),
        flags.DEFINE_string(
            "data_dir",
            None,
            "The folder of pictures; for other data sets, where TFDS keeps them (default: "
            "TFDS's own folder). For either, also what alexnet prepare stored.",
            flag_values=flag_values,
        ),
    )


def split_names(flag_values, trained_with=None):
    """The names.SplitNames of the flags; those not given are taken from `trained_with`, if any."""
    values = {name: flag_values[name].value for name in flag_values}
    given = {name: value for name, value in values.items() if value is not None}
    return names.of_flags((trained_with or {}) | given)


def define_model_dir(flag_values):
    return flags.DEFINE_string(
        "model_dir",
        MODEL_DIR,
        "The model directory: a model's settings, checkpoints and log.",
        flag_values=flag_values,
    )


def define_model_name(flag_values):
    return flags.DEFINE_string(
        "model_name",
        MODEL_NAME,
        "The name of the model on the server, which clients ask for.",
        flag_values=flag_values,
    )


def define_port(flag_values, name, default, what):
    return flags.DEFINE_integer(
        name,
        default,
        f"{what}; 0: any free port.",
        lower_bound=0,
        upper_bound=65535,
        flag_values=flag_values,
    )


def define_variant(flag_values):
    from alexnet_tf.network.model import VARIANTS  # here: `classify` needs no Keras

    return flags.DEFINE_enum(
        "variant",
        "paper",
        list(VARIANTS),
        "Which AlexNet: see docs/variants.md.",
        flag_values=flag_values,
    )


def define_image_size(flag_values):
    return flags.DEFINE_integer(
        "image_size",
        None,
        "Input side in pixels; default: the variant's own.",
        lower_bound=1,
        flag_values=flag_values,
    )


def define_cache_dir(flag_values):
    return flags.DEFINE_string(
        "cache_dir",
        None,
        "Where weights named by --pretrained are kept; default: alexnet_tf in KERAS_HOME, "
        "or in ~/.keras.",
        flag_values=flag_values,
    )


def define_pretrained(flag_values):
    """Returns the flag --pretrained, of weights by name instead of --model_dir, and defines those
    that `fetched` reads.
    """
    from alexnet_tf import pretrained  # here: `classify` needs no TensorFlow

    define_cache_dir(flag_values)
    return flags.DEFINE_string(
        "pretrained",
        None,
        "Weights by name, instead of --model_dir; fetched and kept as by alexnet finetune: "
        f"{', '.join(pretrained.NAMES)}.",
        flag_values=flag_values,
    )


def fetched(flag_values):
    """The weights file that --pretrained names, which it fetches; None without that flag. Raises
    UserError where it names none, or --model_dir names a network too.
    """
    from alexnet_tf import pretrained

    name, cache_dir = flag_values["pretrained"].value, flag_values["cache_dir"].value
    if not name:
        if cache_dir:
            raise UserError(f"--cache_dir={cache_dir} is for --pretrained; omit it.")
        return None
    if flag_values["model_dir"].present:
        model_dir = flag_values["model_dir"].value
        model_dir = model_dir if isinstance(model_dir, str) else ",".join(model_dir)
        raise UserError(
            f"--pretrained={name} and --model_dir={model_dir} are two networks; pass one."
        )
    if name not in pretrained.NAMES:
        raise UserError(
            f"--pretrained={name} is not one of {', '.join(pretrained.NAMES)}; pass a file or a "
            "folder as --model_dir."
        )
    return pretrained.fetch(name, cache_dir)


def define_min_probability(flag_values, default="that of the model"):
    return flags.DEFINE_float(
        "min_probability",
        None,
        'The answer is "none of these" if no class is as probable as this, from 0 to 1; '
        f"default: {default}.",
        lower_bound=0.0,
        upper_bound=1.0,
        flag_values=flag_values,
    )


def define_max_bad_pictures(flag_values):
    from alexnet_tf.training.plan import Plan  # here: `classify` needs no TensorFlow

    return flags.DEFINE_integer(
        "max_bad_pictures",
        Plan.max_bad_pictures,
        "How many unreadable pictures are named and passed over; one more stops the run.",
        lower_bound=0,
        flag_values=flag_values,
    )


def define_precision(flag_values):
    return flags.DEFINE_enum(
        "precision",
        "float32",
        ["float32", "mixed_bfloat16"],
        "Arithmetic of the computation; weights are always float32.",
        flag_values=flag_values,
    )


def define_devices(flag_values, batch_size=None, many_workers=True):
    """Returns the flags (--batch_size, by default that of a Plan, --precision, --distribution,
    --replicas).
    """
    from alexnet_tf.training.plan import Plan  # here: `classify` needs no TensorFlow

    multi_worker = (
        "; multi_worker: over the processes that the environment variable TF_CONFIG names, or, "
        "without it, those that Slurm's srun has started"
    )
    return (
        flags.DEFINE_integer(
            "batch_size",
            batch_size or Plan.batch_size,
            "Pictures in a step, over all replicas together.",
            lower_bound=1,
            flag_values=flag_values,
        ),
        define_precision(flag_values),
        flags.DEFINE_enum(
            "distribution",
            "auto",
            ["auto", "one_device", "mirrored", *["multi_worker"] * many_workers],
            "How a step is spread over devices. auto: mirrored for two or more replicas"
            f"{multi_worker * many_workers}.",
            flag_values=flag_values,
        ),
        flags.DEFINE_integer(
            "replicas",
            0,
            "How many devices: GPUs, or logical CPUs if there is no GPU; 0: all GPUs, or one CPU.",
            lower_bound=0,
            flag_values=flag_values,
        ),
    )


def define_training(flag_values, learning_rate, rate_help, epochs, schedule, patience):
    """Returns the flags of a training, each an attribute that is named as the flag is."""
    # here: `classify` needs no TensorFlow
    from alexnet_tf.training.optimizer import BIAS_RATE, DECAY, MOMENTUM, SCHEDULES
    from alexnet_tf.training.plan import XLA, Plan

    fv = flag_values
    return types.SimpleNamespace(
        learning_rate=flags.DEFINE_float(
            "learning_rate",
            learning_rate,
            f"Learning rate at the start, after warm-up{rate_help}.",
            lower_bound=0.0,
            flag_values=fv,
        ),
        seed=flags.DEFINE_integer(
            "seed",
            Plan.seed,
            "Seed of the initial weights, the order of the pictures, the crops and dropout.",
            lower_bound=0,
            upper_bound=bounds.LARGEST_WHOLE,
            flag_values=fv,
        ),
        xla=flags.DEFINE_enum(
            "xla",
            Plan.xla,
            XLA,
            "Compile the step with XLA; auto times both and uses the faster.",
            flag_values=fv,
        ),
        epochs=flags.DEFINE_integer(
            "epochs", epochs, "Passes over the training pictures.", lower_bound=1, flag_values=fv
        ),
        warmup_steps=flags.DEFINE_integer(
            "warmup_steps",
            Plan.warmup_steps,
            "Steps over which the rate rises from 0 to its starting value.",
            lower_bound=0,
            flag_values=fv,
        ),
        schedule=flags.DEFINE_enum(
            "schedule",
            schedule,
            SCHEDULES,
            "plateau: divided by 10, three times, when the validation error stops improving; "
            "steps: divided at 25/91, 51/91 and 79/91 of the run, conv1 slowed at 67/91 and "
            "frozen at 72/91; linear: falls to 0; poly: falls to 0 with the square of what is "
            "left of the run; constant: stays.",
            flag_values=fv,
        ),
        momentum=flags.DEFINE_float(
            "momentum",
            MOMENTUM,
            "Share of its velocity that a weight keeps from step to step.",
            lower_bound=0.0,
            upper_bound=0.9999,
            flag_values=fv,
        ),
        weight_decay=flags.DEFINE_float(
            "weight_decay",
            DECAY,
            "Decay of weights, not of biases; applied inside the momentum.",
            lower_bound=0.0,
            flag_values=fv,
        ),
        bias_rate=flags.DEFINE_float(
            "bias_rate",
            BIAS_RATE,
            "Factor on the learning rate for biases; 2 in the 2012 source.",
            lower_bound=0.0,
            flag_values=fv,
        ),
        patience=flags.DEFINE_integer(
            "patience",
            patience,
            "Stop after this many epochs without a lower evaluation error, and keep the best "
            "weights; 0: never stop early, and keep the last.",
            lower_bound=0,
            flag_values=fv,
        ),
        checkpoint_seconds=flags.DEFINE_integer(
            "checkpoint_seconds",
            Plan.checkpoint_seconds,
            "Write a checkpoint every so many seconds, in addition to the end of each epoch.",
            lower_bound=1,
            flag_values=fv,
        ),
        max_bad_pictures=define_max_bad_pictures(fv),
        dry_run=flags.DEFINE_bool(
            "dry_run",
            False,
            "Check everything that can be checked, then stop before the first step.",
            flag_values=fv,
        ),
    )


def is_choosing(training):
    """Whether, with the flags of `define_training`, the evaluation decides anything."""
    from alexnet_tf.training import plan

    return plan.is_choosing(training.schedule.value, training.patience.value)


def plan(training, **others):
    """The Plan that the flags of `define_training` ask for, and `others`, its other fields."""
    from alexnet_tf.training.plan import Plan

    of_flags = (
        "epochs",
        "warmup_steps",
        "schedule",
        "seed",
        "checkpoint_seconds",
        "patience",
        "max_bad_pictures",
    )
    return Plan(**{name: getattr(training, name).value for name in of_flags}, **others)


def dataset_or(flag_values, trained_with):
    """(--dataset, --data_dir, seed, names of splits): as given, or else those of `trained_with`, a
    model's flags."""
    given = {
        name: flag_values[name].value
        for name in ("dataset", "data_dir")
        if flag_values[name].present
    }
    before = {"dataset": None, "data_dir": None, "seed": 0} | trained_with
    is_other = (before | given)["dataset"] != before["dataset"]
    if is_other:
        given.setdefault("data_dir", None)  # that of another data set is of no use
    used = before | given
    folders = [one["data_dir"] and os.path.realpath(one["data_dir"]) for one in (before, used)]
    is_other |= folders[0] != folders[1]
    if used["data_dir"] and "data_dir" not in given:
        console.note(f"data_dir={used['data_dir']}, as in training")
    if used["dataset"] is None:
        raise UserError(
            "dataset= is missing: the network does not say which data set it was trained on, or "
            "your own program made it; name the data set, and data_dir= if it needs one."
        )
    if given.keys() == {"data_dir"} and used["data_dir"]:
        _tell_of_place(used["dataset"], used["data_dir"], "as in training")
    return (
        used["dataset"],
        used["data_dir"],
        used["seed"],
        split_names(flag_values, {} if is_other else trained_with),
    )


def run(command: types.ModuleType, called: str, arguments: list[str]) -> typing.NoReturn:
    """Runs a command, a module, with `arguments`; `called` is how the user called it.

    A UserError or a bad flag ends as one line on standard error and exit status 2, or 75 if it may
    pass; Ctrl-C ends with status 130.
    """
    flag_values = command.FLAGS
    takes = getattr(command, "ARGUMENTS", None)

    def guarded(argv):
        try:
            if len(argv) > 1 and not takes:
                raise flags.Error(f"{argv[1]!r} does not belong to a flag; write --name=value.")
            _check_finite(flag_values)
            expand_paths(flag_values)
            _check_written(flag_values, argv[1:])
            with console.worded(lambda line: _with_dashes(line, flag_values)):
                command.main(_paths("arguments", argv[1:])) if takes else command.main()
        except (flags.Error, UserError) as error:
            _refuse(called, error, flag_values)
        except (MemoryError, *_out_of_memory_in_tensorflow()) as error:
            _refuse(called, _out_of_memory(error, flag_values), flag_values)
        except KeyboardInterrupt:
            console.note("stopped by Ctrl-C")
            sys.exit(130)

    def parse(argv):
        flags.FLAGS.mark_as_parsed()  # absl's own, which app.run reads
        if {"--help", "-h", "--helpfull", "-help"} & set(argv[1:]):
            for line in _help(command, called, takes):
                console.result(line)
            sys.exit(0)
        try:
            return flag_values(argv)
        except flags.Error as error:
            return _refuse(called, error, flag_values)

    logging.use_absl_handler()
    logging.set_verbosity(logging.ERROR)
    app.run(guarded, [called, *arguments], flags_parser=parse)


def _help(command, called, takes):
    arguments = f" {takes}" if takes else ""
    lines = [
        *command.__doc__.strip().splitlines(),
        "",
        f"usage: {called} --flag=value ...{arguments}",
        "",
    ]
    for name in sorted(command.FLAGS):
        flag = command.FLAGS[name]
        if name != flag.name:
            continue
        values = (
            f"={{{','.join(flag.parser.enum_values)}}}" if flag.flag_type() == "string enum" else ""
        )
        shown = f"--[no]{name}" if flag.boolean else f"--{name}{values}"
        text = re.sub(r"^<.*?>: ", "", flag.help)  # absl's list of values, which stands above
        if flag.default is not None:
            text += f" (default: {flag.default_as_str.strip(chr(39))})"
        lines += [f"  {shown}", *indented(text)]
    return lines


def indented(text):
    """Lines of `text`, to stand below a name in what --help prints."""
    return textwrap.wrap(text, 92, initial_indent=" " * 6, subsequent_indent=" " * 6)


def expand_paths(flag_values):
    """Expands ~ in paths, which a shell leaves in --flag=~/folder. Raises UserError for a
    flag without a value, as an unset variable of the shell leaves it.
    """
    for name in flag_values:
        value = flag_values[name].value
        empty = value in ("", []) or isinstance(value, list) and "" in value
        if flag_values[name].present and empty:
            what = "path" if name in PATHS else "value"
            given = ",".join(value)
            raise UserError(f"{name}={given} names no {what}; pass one, or omit it.")
        if value and name in PATHS:
            flag_values[name].value = (
                _paths(name, value) if isinstance(value, list) else _paths(name, [value])[0]
            )


def tell_of_data_dir(flag_values):
    """Notes that a --data_dir which is not there, or holds something else, will hold the default
    data set: its name may be mistyped, and pictures of one's own be meant.
    """
    if "dataset" in flag_values and "data_dir" in flag_values:
        dataset, folder = flag_values["dataset"], flag_values["data_dir"].value
        if dataset.value and folder and not dataset.present:
            _tell_of_place(dataset.value, folder, "the default")


def _tell_of_place(dataset, folder, whence):
    """Notes that `dataset`, which the user has not named, will be written to `folder`, which they
    have, if that does not exist or holds something other than pictures; pictures are refused.
    """
    meant = "for your own pictures, pass their folder and dataset=folder"
    if dataset == "folder":
        return
    if not os.path.exists(folder):
        console.note(
            f"data_dir={folder} does not exist: dataset={dataset}, {whence}, will be written "
            f"there; {meant}"
        )
        return
    from alexnet_tf.data import datasets  # here: `classify` needs no TensorFlow

    if stranger := datasets.stranger_in(folder, dataset):
        console.note(
            f"data_dir={folder} holds {shown(stranger)}, but no pictures were found in it: "
            f"dataset={dataset}, {whence}, will be kept there; {meant}"
        )


def _check_finite(flag_values):
    """Raises UserError for nan and inf, which pass any bound and make the loss useless."""
    for name in flag_values:
        value = flag_values[name].value
        if isinstance(value, float):
            bounds.check_number(value, name)


def _paths(name, values):
    """`values` with the home folder for ~. Raises UserError for an address."""
    parameter = "" if name == "arguments" else name
    for value in values:
        disk.local(value, parameter)
    return list(map(os.path.expanduser, values))  # else as they were given: ./imagenet is a path


def _check_written(flag_values, arguments):
    """Raises UserError if an output file would overwrite an input, another output, or a file that
    belongs to one of our folders, or if --json cannot be written.
    """
    named = {name: flag_values[name].value for name in PATHS if name in flag_values}
    named = {f"{name}=": value for name, value in named.items() if value}
    model_dirs = flag_values["model_dir"].value if "model_dir" in flag_values else None
    model_dirs = [model_dirs] if isinstance(model_dirs, str) else model_dirs or []
    for written in ("json", "output", "features", "picture"):
        value = named.get(f"{written}=")
        if not value or os.path.isdir(value) and written != "json":
            continue
        for name, paths in ({"an argument": arguments} | named).items():
            paths = [paths] if isinstance(paths, str) else paths
            if name != f"{written}=" and os.path.realpath(value) in map(os.path.realpath, paths):
                raise UserError(
                    f"{written}={value} would replace what {name} names; pass another path."
                )
        disk.check_not_ours(value, written, model_dirs)
    if path := named.get("json="):
        disk.check_place(path, "json", device=True)
        if disk.stream_at(path) is None and os.path.isfile(path) and not _may_be_json(path):
            raise UserError(f"json={path} is an existing file that is not JSON; pass another file.")


def _may_be_json(path):
    """Whether a regular file is empty, or begins as an object or a list of JSON."""
    with open(path, "rb") as stream:
        return stream.read(64).lstrip()[:1] in (b"", b"{", b"[")


def _refuse(called, error, flag_values):
    """Ends with one line."""
    text = _with_dashes(one_line(error, None), flag_values)
    console.note(f"{called}: {text}")
    sys.exit(getattr(error, "status", UserError.status))


def _out_of_memory_in_tensorflow():
    """Its error, where anything can have raised that; a `.tflite` file runs without TensorFlow."""
    if "tensorflow" not in sys.modules:
        return ()
    return (sys.modules["tensorflow"].errors.ResourceExhaustedError,)


def _out_of_memory(error, flag_values):
    """The message for an error of Python or TensorFlow that says there is no memory."""
    detail = one_line(str(getattr(error, "message", error)).partition("\n")[0], 160)
    advice = "free some"
    if "batch_size" in flag_values:
        advice = f"pass a batch_size= below {flag_values['batch_size'].value}"
    return f"There is not enough memory{f' ({detail})' if detail else ''}; {advice}."


def _with_dashes(text, flag_values):
    """Puts dashes before the parameters in a message of the library, name=, that are flags here."""
    return re.sub(
        r"(?<![-\w./'\"])(\w+)=",
        lambda match: f"--{match[0]}" if match[1] in flag_values else match[0],
        text,
    )


def report(metrics, json_path=None, more=None):
    """Prints a table of `metrics` (name to value), and writes it, and `more`, to `json_path`."""
    write_json(metrics | (more or {}), json_path)  # first: the terminal may be gone
    width = max(map(len, metrics))
    for name, value in metrics.items():
        console.result(f"  {name:<{width}}  {_printed(value)}")


def _printed(value):
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else value


def report_answers(metrics, class_names, json_path, more=None):
    """As `report`, but without top-5 if it is always right, and with the only answer by name; the
    JSON file has both unchanged.
    """
    of_few = len(class_names) <= TOP
    hidden = {name: metrics[name] for name in metrics if of_few and "top_5" in name}
    shown = {name: value for name, value in metrics.items() if name not in hidden}
    if "only_answer" in shown:
        hidden["only_answer"] = shown["only_answer"]
        shown["only_answer"] = class_names[shown["only_answer"]]
    report(shown, json_path, hidden | (more or {}))


def tell_of_only_answer(name, figures, class_names):
    """Notes it if `name` answers pictures of several classes with one and the same class."""
    if "only_answer" in figures:
        console.note(
            f"{name} answers every picture with {class_names[figures['only_answer']]}: it does not "
            "tell the classes apart."
        )


def write_json(metrics, json_path):
    """Writes `metrics` to `json_path`, if it is given."""
    if json_path:
        try:
            disk.write_out(json_path, (json.dumps(metrics, indent=1) + "\n").encode())
        except OSError as error:
            raise UserError(f"json={json_path} cannot be written ({error.strerror}).") from None


def check_png(path, parameter):
    """Raises UserError unless `path`, the value of `parameter`, is named like a PNG file and can
    be written.
    """
    if pathlib.Path(path).suffix.lower() != ".png":
        raise UserError(f"{parameter}={path}: name a .png file.")
    disk.check_place(path, parameter, device=True)


def write_png(draw, path, parameter):
    """Writes the PNG file that `draw` writes to a stream of bytes to `path`, whole or not at all.

    Raises UserError, naming the `parameter`, where it cannot be written.
    """
    stream = io.BytesIO()
    draw(stream)
    try:
        disk.write_out(path, stream.getvalue())
    except OSError as error:
        raise UserError(f"{parameter}={path} cannot be written ({error.strerror}).") from None


def values_of(flag_values):
    """The flags of a command and their values in this run, for the settings of what it writes."""
    values = {name: flag_values[name].value for name in flag_values}
    if values.get("data_dir"):
        # To be found again from any folder.
        values["data_dir"] = str(pathlib.Path(values["data_dir"]).absolute())
    return values
