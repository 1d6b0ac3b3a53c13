"""Pictures to their most probable classes, by a network in whatever form, or by a server.

    alexnet classify --model=saved_models/alexnet flower.jpg
    alexnet classify --model=alexnet.tflite flower.jpg folder
    ls camera/*.jpg | alexnet classify --model=alexnet.tflite --json_lines -
    alexnet classify --model=alexnet.tflite --threads=1 --repeat=100 flower.jpg
    alexnet classify --server=http://127.0.0.1:8501 flower.jpg  # or grpc://127.0.0.1:8500

Prints the five most probable classes of each picture, or all where there are fewer. A folder stands
for the pictures anywhere below it, - for those whose names come on standard input, a line each, and
which are answered one by one. There a picture that cannot be read is told on standard error and
passed over, and the exit status is 2 in the end; one that is named here ends the command at once.
A .tflite file is classified without TensorFlow.
"""

import json
import math
import os
import pathlib
import resource
import statistics
import sys
import time

from absl import flags

from alexnet_tf import console, distribution, picture_files
from alexnet_tf.commands import app
from alexnet_tf.edge import tflite
from alexnet_tf.errors import ServingError, UserError

FLAGS = flags.FlagValues()
_JSON = app.define_json(FLAGS)
_MODEL = flags.DEFINE_string(
    "model",
    "saved_models/alexnet",
    "An export (a version's folder, or the folder of versions: the "
    "newest), a .tflite file, a model directory or a weights file.",
    flag_values=FLAGS,
)
_SERVER = flags.DEFINE_string(
    "server",
    None,
    "Asks this server instead: http://HOST:8501 or grpc://HOST:8500.",
    flag_values=FLAGS,
)
_MODEL_NAME = flags.DEFINE_string(
    "model_name", "alexnet", "The model's name at the server.", flag_values=FLAGS
)
_JSON_LINES = flags.DEFINE_bool(
    "json_lines",
    False,
    'Prints a line for each picture instead: {"picture": name, "classes": [[class, probability], '
    '...]}, or {"picture": name, "error": reason}.',
    flag_values=FLAGS,
)
_THREADS = flags.DEFINE_integer(
    "threads",
    0,
    "Of a .tflite file: the cores that work on a picture; 0: all.",
    lower_bound=0,
    flag_values=FLAGS,
)
_REPEAT = flags.DEFINE_integer(
    "repeat",
    0,
    "Of a .tflite file: classifies each picture so many times more, and tells how long that takes, "
    "and how much memory.",
    lower_bound=0,
    flag_values=FLAGS,
)

ARGUMENTS = "PICTURE..."


class _NoPictureError(Exception):
    """One picture that cannot be classified: what is said of it, to follow its name."""


def main(pictures):
    if not pictures:
        raise UserError(
            "No picture given; pass the paths of JPEG, PNG, GIF, BMP or WebP files, folders of"
            " them, or - for names on standard input."
        )
    for picture in pictures:
        if picture != "-" and not os.path.isdir(picture):
            _check(picture)  # before a network is opened for nothing
    answer, file = _open_network()
    answers, times, count, faults = {}, _Times(), 0, 0
    for picture, is_named in _paths(pictures):
        name, count = picture_files.shown(picture), count + 1
        try:
            content = _read(picture)
            classes = answer(content)
        except _NoPictureError as error:
            if is_named:
                raise UserError(f"{name} {error}") from None
            faults += 1
            if _JSON_LINES.value:
                _print_line(picture=name, error=str(error))
            else:
                console.note(f"{name} {error}")
            continue
        if _JSON_LINES.value:
            _print_line(picture=name, classes=classes)
        else:
            print(name)
            for label, probability in classes:
                print(f"  {probability:.4f}  {label}", flush=True)
        times.of_first()
        if _JSON.value:
            answers[picture] = classes
        for _ in range(_REPEAT.value):
            times.classify(file, content)
    if not count:
        raise UserError("No picture was named on standard input.")
    if _REPEAT.value and count > faults:
        figures = times.figures(file.threads)
        answers = {"answers": answers, "times": figures}
        if _JSON_LINES.value:
            _print_line(times=figures)
        else:
            app.report(figures)
    if faults:
        raise UserError(f"{faults} of {count} pictures could not be classified.")
    app.write_json(answers, _JSON.value)


def _print_line(**values):
    print(json.dumps(values), flush=True)


def _paths(pictures):
    """(path, whether it is named in `pictures`) of each picture."""
    for picture in pictures:
        if picture == "-":
            for line in sys.stdin.buffer:
                if line.strip():
                    yield os.fsdecode(line.rstrip(b"\r\n")), False
        elif os.path.isdir(picture):
            found, others = _walk(picture)
            if others:
                console.note(
                    f"{len(others)} files in {picture} are no pictures, by their names, and are"
                    f" passed over, such as {picture_files.shown(others[0])}"
                )
            yield from ((os.fsdecode(path), False) for path in found)
        else:
            yield picture, True


def _walk(folder):
    try:
        found, others = picture_files.walk(folder)
    except OSError as error:
        raise UserError(f"{error.filename} cannot be read ({error.strerror}).") from None
    if not found:
        raise UserError(f"No picture ({', '.join(picture_files.SUFFIXES)}) in {folder}.")
    return found, others


def _check(picture):
    """Raises UserError if a file cannot be opened."""
    try:
        with open(picture, "rb"):
            pass
    except OSError as error:
        raise UserError(f"{picture} cannot be read ({error.strerror}).") from None


def _read(picture):
    try:
        return pathlib.Path(picture).read_bytes()
    except OSError as error:
        raise _NoPictureError(f"cannot be read ({error.strerror}).") from None


def _no_picture(reason):
    return _NoPictureError(
        f"does not decode as a picture ({reason}); pass JPEG, PNG, GIF, BMP or WebP files."
    )


def _open_network():
    """(what the bytes of a picture are to its best classes, the tflite.Tflite or None)."""
    if not _SERVER.value and tflite.is_tflite(_MODEL.value):
        with console.tensorflow_quiet():
            file = tflite.Tflite(_MODEL.value, threads=_THREADS.value)
        return _of_tflite(file)
    for flag in (_THREADS, _REPEAT):
        if flag.value:
            raise UserError(
                f"--{flag.name}={flag.value} is for a .tflite file, as alexnet convert writes it;"
                " leave it out."
            )
    if not distribution.is_whole():
        given = f"--server={_SERVER.value}" if _SERVER.value else f"--model={_MODEL.value}"
        raise UserError(
            f"{given} needs TensorFlow, and alexnet-tf-edge has none; pass a .tflite file that"
            " alexnet convert wrote, or pip install alexnet-tf in its place."
        )
    return (_of_server() if _SERVER.value else _in_tensorflow()), None


def _of_tflite(file):
    def answer(content):
        try:
            return file.classify(content)
        except ValueError as error:
            raise _no_picture(error) from None

    return answer, file


def _of_server():
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
    import tensorflow as tf

    from alexnet_tf import networks
    from alexnet_tf.data import pictures

    network = networks.load(_MODEL.value)

    def answer(content):
        try:
            return network.answer(content)
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
