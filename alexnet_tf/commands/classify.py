"""Prints the most probable classes of pictures, by a network in any form, or by a server.

    alexnet classify --model=saved_models/alexnet flower.jpg
    alexnet classify --model=alexnet.tflite flower.jpg pictures/test  # and all below a folder
    ls camera/*.jpg | alexnet classify --model=alexnet.tflite --json_lines -
    alexnet classify --model=alexnet.tflite --threads=1 --repeat=100 flower.jpg
    alexnet classify --server=http://127.0.0.1:8501 flower.jpg  # or grpc://127.0.0.1:8500

For each picture it prints the five most probable classes, or all if there are fewer. If none
reaches --min_probability (by default that of the model), "none of these" comes first, with the
probability that the most probable class is wrong.

A folder stands for all pictures anywhere below it, and - for pictures whose names come on standard
input, one a line, which are answered one by one. If one of several is not a picture, it is reported
on standard error and skipped, and the exit status is 2 in the end; if one named on the command line
does not exist, the command ends before the first answer. For a .tflite file TensorFlow is not
needed.
"""

import json
import math
import os
import pathlib
import re
import resource
import statistics
import sys
import time

from absl import flags

from alexnet_tf import console, disk, distribution, picture_files
from alexnet_tf.classifiers import never_answers
from alexnet_tf.commands import app
from alexnet_tf.edge import tflite
from alexnet_tf.errors import ServingError, UserError

FLAGS = flags.FlagValues()
_JSON = app.define_json(FLAGS)
_MODEL = flags.DEFINE_string(
    "model",
    app.SAVED_MODEL,
    "An export (one version, or the folder of versions, from which the newest is "
    "taken), a .tflite file, a model directory or a weights file.",
    flag_values=FLAGS,
)
_SERVER = flags.DEFINE_string(
    "server",
    None,
    "Ask this server instead: http://HOST:PORT, https://HOST:PORT or grpc://HOST:PORT.",
    flag_values=FLAGS,
)
_MODEL_NAME = app.define_model_name(FLAGS)
_MIN_PROBABILITY = app.define_min_probability(FLAGS)
_JSON_LINES = flags.DEFINE_bool(
    "json_lines",
    False,
    'Print a line for each picture instead: {"picture": name, "classes": [[class, '
    'probability], ...]}, or {"picture": name, "error": reason}.',
    flag_values=FLAGS,
)
_THREADS = flags.DEFINE_integer(
    "threads",
    0,
    "For a .tflite file: the cores that work on a picture; 0: all.",
    lower_bound=0,
    flag_values=FLAGS,
)
_REPEAT = flags.DEFINE_integer(
    "repeat",
    0,
    "For a .tflite file: classify each picture this many more times, and report how "
    "long that takes and how much memory.",
    lower_bound=0,
    flag_values=FLAGS,
)

ARGUMENTS = "PICTURE_OR_FOLDER..."


class _NoPictureError(Exception):
    """One picture that cannot be classified: what is said of it, to follow its name."""


def main(pictures):
    if not pictures:
        raise UserError(
            f"No picture given; pass the paths of {picture_files.FORMATS} files, folders of"
            " them, or - for names on standard input."
        )
    _check_flags()
    found = [[] if path == "-" else picture_files.pictures_below(path) for path in pictures]
    for path, files in zip(pictures, found):
        if not os.path.isdir(path):
            for file in files:
                _check(file)  # before a network is opened for nothing
    answer, opened = _open_network()
    answers, replaced, times, count, faults = {}, set(), _Times(), 0, 0

    def keep(name, answer):
        if _JSON.value:
            if answers.get(name, answer) != answer:
                replaced.add(name)
            answers[name] = answer

    for file, is_named in _files(pictures, found):
        name, count = picture_files.shown(file), count + 1
        try:
            content = _read(file, is_named)
            classes = answer(content)
        except _NoPictureError as error:
            if is_named and len(pictures) == 1:
                raise UserError(f"{name} {error}") from None
            faults += 1
            if _JSON_LINES.value:
                _print_line(picture=name, error=str(error))
            else:
                console.note(f"{name} {error}")
            keep(name, {"error": str(error)})
            continue
        if _JSON_LINES.value:
            _print_line(picture=name, classes=classes)
        else:
            console.result(name)
            for class_name, probability in classes:
                console.result(f"  {probability:.4f}  {class_name}")
        times.of_first()
        keep(name, classes)
        for _ in range(_REPEAT.value):
            times.classify(opened, content)
    if not count:
        raise UserError("No picture was named on standard input.")
    if replaced:
        console.note(
            f"json={_JSON.value} keeps only the last answer for each name that came again with "
            f"another ({len(replaced)}, such as {min(replaced)}); --json_lines prints all"
        )
    if _REPEAT.value and count > faults:
        figures = times.figures(opened.threads)
        answers = {"answers": answers, "times": figures}
        if _JSON_LINES.value:
            _print_line(times=figures)
        else:
            app.report(figures)
    app.write_json(answers, _JSON.value)
    if faults:
        raise UserError(f"{faults} of {count} pictures could not be classified.")


def _check_flags():
    """Raises UserError for a flag that would change nothing."""
    if _SERVER.value and _MIN_PROBABILITY.value is not None:
        raise UserError(
            f"--min_probability={_MIN_PROBABILITY.value}: a server uses that of its export; omit "
            "it, or export with alexnet export --min_probability."
        )
    if _SERVER.value and _MODEL.present:
        raise UserError(
            f"--server={_SERVER.value} answers with its own network, and --model={_MODEL.value} "
            "names another; pass one of the two. --model_name picks one of the server's."
        )
    if _MODEL_NAME.present and not _SERVER.value:
        raise UserError(
            f"--model_name={_MODEL_NAME.value} is for --server; omit it, or name a network with "
            "--model."
        )


def _print_line(**values):
    console.result(json.dumps(values))


def _files(pictures, found):
    """(file, whether it is itself one of `pictures`) of each that these stand for; `found` are
    those that each does, but for those of standard input.
    """
    for path, files in zip(pictures, found):
        if path == "-":
            for line in sys.stdin.buffer:
                if b"\0" in line:  # find -print0, or UTF-16
                    raise UserError(
                        "Standard input holds a zero byte; pass one name per line in UTF-8, as "
                        "find prints them without -print0."
                    )
                if line.strip():
                    yield line.rstrip(b"\r\n"), False
        else:
            is_named = not os.path.isdir(path)
            yield from ((file, is_named) for file in files)


def _check(file):
    """Raises UserError for a file, named on the command line, that cannot be opened."""
    try:
        open(file, "rb", opener=_opener(file, True)).close()
    except OSError as error:
        raise UserError(f"{picture_files.shown(file)} cannot be read ({error.strerror}).") from None


def _opener(file, is_named):
    """Whoever names a pipe of a shell means it, as <(command) or /dev/stdin; to any other nobody
    may be writing, and a device may have no end.
    """
    of_shell = re.fullmatch(rb"/dev/stdin|/dev/fd/\d+|/proc/self/fd/\d+", file)
    return None if is_named and of_shell else disk.regular


def _read(file, is_named):
    try:
        with open(file, "rb", opener=_opener(file, is_named)) as stream:
            return stream.read()
    except OSError as error:
        raise _NoPictureError(f"cannot be read ({error.strerror}).") from None


def _no_picture(reason):
    return _NoPictureError(picture_files.no_picture(reason))


def _open_network():
    """(what the bytes of a picture are to its best classes, the tflite.Tflite or None)."""
    if not _SERVER.value:
        _check_model()
    if not _SERVER.value and tflite.is_tflite(_MODEL.value):
        return _of_tflite(tflite.Tflite(_MODEL.value, threads=_THREADS.value))
    for flag in (_THREADS, _REPEAT):
        if flag.value:
            raise UserError(
                f"--{flag.name}={flag.value} is for a .tflite file, as alexnet convert writes it; "
                "omit it."
            )
    if not distribution.is_whole():
        given = f"--server={_SERVER.value}" if _SERVER.value else f"--model={_MODEL.value}"
        raise UserError(
            f"{distribution.needs_tensorflow(given)}; pass a .tflite file that alexnet convert "
            "wrote, or install alexnet-tf instead."
        )
    return (_of_server() if _SERVER.value else _in_tensorflow()), None


def _check_model():
    """Raises UserError where --model is no file at all, before anything is said of its kind."""
    if os.path.isfile(_MODEL.value):
        disk.check_fetched(_MODEL.value)
    of_tflite = _THREADS.value or _REPEAT.value or not distribution.is_whole()
    if of_tflite and not os.path.exists(_MODEL.value):
        raise UserError(
            f"There is no {_MODEL.value}; name a .tflite file that alexnet convert wrote."
        )


def _tell_of_never(classes):
    """Notes a --min_probability that every answer reaches."""
    if line := never_answers(_MIN_PROBABILITY.value or 0, classes):
        console.note(line)


def _of_tflite(file):
    file.check_whole()
    _tell_of_never(len(file.labels))

    def answer(content):
        try:
            return file.classify(content, _MIN_PROBABILITY.value)
        except UserError:  # it is not the picture that is wrong
            raise
        except ValueError as error:
            raise _no_picture(error) from None

    return answer, file


def _of_server():
    with console.tensorflow_quiet():
        from alexnet_tf.serving import client

    classify = client.open_server(_SERVER.value, _MODEL_NAME.value)

    def answer(content):
        try:
            return classify(content)
        except ServingError as error:
            raise _NoPictureError(
                f"is refused by --server={_SERVER.value}: {error.message}"
            ) from None

    return answer


def _in_tensorflow():
    with console.tensorflow_quiet():
        import tensorflow as tf

        from alexnet_tf import networks
        from alexnet_tf.data import pictures

    network = networks.load(_MODEL.value)
    _tell_of_never(len(network.class_names))

    def answer(content):
        try:
            return network.answer(content, _MIN_PROBABILITY.value)
        except tf.errors.InvalidArgumentError as error:
            raise _no_picture(pictures.reason(error)) from None

    return answer


class _Times:
    """How long a .tflite file takes, in milliseconds."""

    def __init__(self):
        self._first, self._prepare, self._network = None, [], []

    def of_first(self):
        if self._first is None:
            self._first = _since_start()

    def classify(self, file, content):
        begin = time.perf_counter()
        image = file.prepare(content)
        middle = time.perf_counter()
        file.probabilities(image)
        end = time.perf_counter()
        self._prepare.append(1e3 * (middle - begin))
        self._network.append(1e3 * (end - middle))

    def figures(self, threads):
        """What is reported: medians, and the times that one in a hundred is above."""
        figures = {"threads": threads, "classified again": len(self._network)}
        for name, values in (
            ("picture to pixels", self._prepare),
            ("network", self._network),
            ("both", [sum(pair) for pair in zip(self._prepare, self._network)]),
        ):
            values = sorted(values)
            figures[f"{name}, median ms"] = round(statistics.median(values), 3)
            worst = values[math.ceil(0.99 * len(values)) - 1]
            figures[f"{name}, 99th percentile ms"] = round(worst, 3)
        if self._first is not None:
            figures["first answer, s after start"] = round(self._first, 2)
        figures["most memory, MB"] = round(_most_memory() / 1e6)
        return figures


def _most_memory():
    """Bytes that this program has had at most."""
    try:
        status = pathlib.Path("/proc/self/status").read_text()
    except OSError:  # not Linux. There, getrusage also counts what the caller had before this began
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return 1024 * int(status.partition("VmHWM:")[2].split()[0])


def _since_start():
    """Seconds since this process began, to 10 ms; None where the system does not tell."""
    try:
        fields = pathlib.Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        began = int(fields[19]) / os.sysconf("SC_CLK_TCK")
        return time.clock_gettime(time.CLOCK_BOOTTIME) - began
    except (OSError, AttributeError):  # not Linux
        return None
