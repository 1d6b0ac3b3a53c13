r"""Pictures per second of the training input alone, beside libjpeg-turbo that does nothing but
decode, and PyTorch's loader.

    alexnet benchmark --part=input --dataset=folder --data_dir=pictures \
        --jpeg_python=.venv-proof/bin/python

Counted are seconds of CPU for a picture, which other work on the machine disturbs less, and
pictures per second.
"""

import pathlib
import resource
import statistics
import tempfile
import time

import numpy as np
import tensorflow as tf
from absl import flags

from alexnet_tf import preprocessing
from alexnet_tf.commands import app
from alexnet_tf.commands.benchmarks.timing import (
    DATA_DIR,
    DATASET,
    FLAGS,
    OF_DATASET,
    ROUNDS,
    check_python,
    elsewhere,
)
from alexnet_tf.data import datasets, pipeline, splits
from alexnet_tf.errors import UserError
from alexnet_tf.pixels import Preprocessing

_BATCH = 64
_JPEG_PYTHON = flags.DEFINE_string(
    "jpeg_python",
    None,
    "A Python that has simplejpeg, Pillow and PyTorch: times libjpeg-turbo and PyTorch's loader"
    " there.",
    flag_values=FLAGS,
)
_RECORDS = flags.DEFINE_list(
    "records",
    [],
    "Also time the input from this many records, such as 1000,1000000: the pictures over and over.",
    flag_values=FLAGS,
)
READS = (*OF_DATASET, "rounds", "jpeg_python", "records")


def figures():
    """Figures of the input, by name, as text."""
    check_python("jpeg_python", _JPEG_PYTHON.value)
    if not all(count.isdecimal() and int(count) >= _BATCH for count in _RECORDS.value):
        raise UserError(
            f"--records={','.join(_RECORDS.value)}: numbers of {_BATCH} or more, with commas"
            " between."
        )
    split = datasets.open_dataset(DATASET.value, DATA_DIR.value, names=app.split_names(FLAGS)).train
    pixels = Preprocessing(227, 256, 3, (0.0,) * 3, 1.0)
    with tempfile.TemporaryDirectory() as folder:
        originals = _write(split, pathlib.Path(folder) / "originals", lambda picture: picture)
        stored = _write(split, pathlib.Path(folder) / "stored", _stored)
        kinds = {"originals": originals, "stored at 256 x 256": stored}
        rates = {kind: [] for kind in kinds}
        others = {}
        for _ in range(ROUNDS.value):
            for kind, files in kinds.items():
                batches = pipeline.training_batches(
                    _split_of(files), pixels, _BATCH, 0, way=pipeline.Way.JPEG
                )
                rates[kind].append(_time(batches, len(files)))
                if _JPEG_PYTHON.value:
                    for what, figure in elsewhere(
                        "input", "jpeg_python", _JPEG_PYTHON.value, *files
                    ).items():
                        others.setdefault(f"{what}, {kind}", []).append(figure)
        answer = {kind: _line(values) for kind, values in (rates | others).items()}
        cpu = {
            kind: statistics.median(value[1] for value in values)
            for kind, values in (rates | others).items()
        }
        answer["stored against originals"] = (
            f"{cpu['originals'] / cpu['stored at 256 x 256']:.2f} times"
        )
        for kind in kinds if _JPEG_PYTHON.value else ():
            answer[f"{kind} against libjpeg-turbo"] = (
                f"{cpu[f'libjpeg-turbo, {kind}'] / cpu[kind]:.2f} times"
            )
            answer[f"{kind} against PyTorch"] = f"{cpu[f'PyTorch, {kind}'] / cpu[kind]:.2f} times"
        for count in map(int, _RECORDS.value):
            files = [stored[index % len(stored)] for index in range(count)]
            value = _time(
                pipeline.training_batches(
                    _split_of(files), pixels, _BATCH, 0, way=pipeline.Way.JPEG
                ),
                2000,
            )
            memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
            answer[f"{count} records"] = f"{_line([value])}; memory so far {memory:.2f} GB at most"
    return answer


def _stored(picture):
    """The picture as the 2012 pipeline stored it: 256 x 256, as JPEG."""
    square = preprocessing.central_crop(
        preprocessing.decode(picture), Preprocessing(256, 256, 3, (0.0,) * 3, 1.0)
    )
    return tf.io.encode_jpeg(square, quality=90).numpy()


def _write(split, folder, change, most=500):
    """Writes the first pictures of `split`, changed, to files in `folder`; returns their names."""
    folder.mkdir()
    names = []
    for number, record in enumerate(split.read(tf.constant(0, tf.int64)).take(most)):
        picture = int(record["picture"])
        if not tf.io.is_jpeg(record["image"]):
            raise UserError(f"{split.name_of(picture)} is not a JPEG; only JPEGs are timed.")
        if split.fault_of(picture):
            raise UserError(
                f"{split.describe_fault(picture)} cannot be read; replace it or take it out."
            )
        names.append(str(folder / f"{number}.jpg"))
        pathlib.Path(names[-1]).write_bytes(change(record["image"].numpy()))
    if len(names) < _BATCH:
        raise UserError(
            f"--data_dir has {len(names)} training pictures; at least {_BATCH} are timed."
        )
    return names


def _split_of(files):
    return splits.split_of_files(
        "timed", np.array([file.encode() for file in files], object), np.zeros(len(files), np.int64)
    )


def _time(batches, pictures):
    """(seconds, seconds of CPU) a picture, after the first batches."""
    batches = iter(batches)
    for _ in range(3):
        next(batches)
    count = max(1, pictures // _BATCH)
    begin, cpu = time.perf_counter(), time.process_time()
    for _ in range(count):
        next(batches)
    return tuple(
        seconds / count / _BATCH
        for seconds in (time.perf_counter() - begin, time.process_time() - cpu)
    )


def _line(values):
    seconds, cpu = (statistics.median(column) for column in zip(*values))
    return f"{1000 * cpu:.2f} ms of CPU a picture, {1 / seconds:.0f} images/s"
