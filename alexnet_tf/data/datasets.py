"""Where pictures come from: the embedded shapes, a folder of class folders, or any TFDS image-classification data set.

`open_dataset` checks what can be checked before any long work and returns a `Dataset`, from which `pipeline` reads.
"""

import itertools
import pathlib

from alexnet_tf.data import folders, pictures, prepared, tfds
from alexnet_tf.errors import UserError


def open_dataset(name, data_dir=None, seed=0, by_pillow=False):
    """Opens data set `name`: "folder" reads `data_dir`, anything else is a TFDS name, prepared on first use.

    `by_pillow`: with pictures in a folder that Pillow alone reads, for alexnet prepare.
    If `data_dir` holds a prepared data set, such as tools/prepare_dataset.py writes, that is read. Raises UserError, before any
    long work, if there is nothing to read. Pictures of a folder that cannot be read are left out.
    """
    stored = prepared.find(data_dir) if data_dir else None
    if stored:
        return tfds.open_prepared(name, stored)
    if name == "folder":
        try:
            return folders.open_folder(data_dir, seed, by_pillow)
        except OSError as error:
            raise UserError(f"{error.filename} cannot be read ({error.strerror}).") from None
    some_files = itertools.islice(pathlib.Path(data_dir).glob("*/*"), 1000) if data_dir else ()
    if any(path.suffix.lower() in pictures.SUFFIXES for path in some_files):
        raise UserError(f"--data_dir={data_dir} holds class folders of pictures; pass --dataset=folder with it.")
    return tfds.open_named(name, data_dir)




































