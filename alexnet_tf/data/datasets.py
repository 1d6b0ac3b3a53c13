"""Where pictures come from: the embedded shapes, a folder of class folders, or any TFDS image-classification data set.

`open_dataset` checks what can be checked before any long work and returns a `Dataset`, from which `pipeline` reads.
"""

import dataclasses
import itertools
import pathlib

from alexnet_tf.data import folders, pictures, prepared, splits, tfds
from alexnet_tf.errors import UserError


def open_dataset(name: str, data_dir: str | None = None, seed: int = 0) -> splits.Dataset:
    """Opens data set `name`: "folder" reads `data_dir`, anything else is a TFDS name, prepared on first use.

    If `data_dir` holds a prepared data set, such as alexnet prepare writes, that is read. Raises UserError, before any
    long work, if there is nothing to read. Pictures of a folder that cannot be read are left out.
    """
    # The folder is to be found again from any other.
    folder = str(pathlib.Path(data_dir).absolute()) if data_dir else None
    return dataclasses.replace(_open(name, data_dir, seed),
                               opened_with={"dataset": name, "data_dir": folder, "seed": seed})


def _open(name, data_dir, seed):
    stored = prepared.find(data_dir) if data_dir else None
    if stored:
        return tfds.open_prepared(name, stored)
    if name == "folder":
        try:
            return folders.open_folder(data_dir, seed)
        except OSError as error:
            raise UserError(f"{error.filename} cannot be read ({error.strerror}).") from None
    some_files = itertools.islice(pathlib.Path(data_dir).glob("*/*"), 1000) if data_dir else ()
    if any(path.suffix.lower() in pictures.SUFFIXES for path in some_files):
        raise UserError(f"--data_dir={data_dir} holds class folders of pictures; pass --dataset=folder with it.")
    return tfds.open_named(name, data_dir)
