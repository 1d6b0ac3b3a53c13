"""A trained model in one file: .safetensors, .keras. What tells of it (manifest, labels, record of
the pictures that it was trained on) is in the file.
"""

import dataclasses
import io
import json
import os
import pathlib
import re
import tempfile
import zipfile
from collections.abc import Callable

import keras
import numpy as np

from alexnet_tf import archives, disk
from alexnet_tf.bounds import LABELS, MANIFEST, parse
from alexnet_tf.data import record
from alexnet_tf.errors import UserError
from alexnet_tf.exports import artifacts, card
from alexnet_tf.manifest import Manifest, not_of_ours
from alexnet_tf.network import surgery
from alexnet_tf.network.layers import PixelNormalization
from alexnet_tf.settings import Settings

_DATE = (1980, 1, 1, 0, 0, 0)  # of members of archives: the same content, the same bits
_SAVED = "metadata.json"  # of a .keras file: which Keras wrote it, and when
_CONFIG = "config.json"  # likewise: its layers


def write(
    path: pathlib.Path,
    name: str,
    content: bytes,
    manifest: Manifest,
    pictures: record.Record | None,
    card_text: str,
    next_free: Callable[[pathlib.Path], pathlib.Path] | None = None,
) -> pathlib.Path:
    """Writes a version: the file `name` with the bytes `content`, labels, manifest and record
    beside it, and the model card. It appears in `path` only when it is complete; returns where it
    is: `next_free(path)` where `path` was taken in the meantime.

    Raises UserError if it cannot be written.
    """
    try:
        with disk.appearing(path, folder=True, next_free=next_free) as appearing:
            folder = appearing.path
            (folder / name).write_bytes(content)
            (folder / MANIFEST).write_text(manifest.text())
            (folder / LABELS).write_text(manifest.text_of_labels(), encoding="utf-8")
            if pictures:
                (folder / record.FILE).write_bytes(pictures.to_bytes())
            (folder / card.FILE).write_text(card_text, encoding="utf-8")
            (folder / artifacts.SUMS).write_text(artifacts.sums(folder))
    except OSError as error:
        raise artifacts.unwritable(path, error) from None
    return appearing.path


def add_member(archive: zipfile.ZipFile, name: str, content: str | bytes) -> None:
    """A member of an archive that is open for writing, without the time."""
    archive.writestr(zipfile.ZipInfo(name, _DATE), content)


def add_description(
    archive: zipfile.ZipFile,
    manifest: Manifest,
    pictures: record.Record | None = None,
) -> None:
    """Manifest, labels and record, if there is one, as members of an archive."""
    add_member(archive, MANIFEST, manifest.text())
    add_member(archive, LABELS, manifest.text_of_labels())
    if pictures:
        add_member(archive, record.FILE, pictures.to_bytes())


def safetensors(
    model: keras.Model, manifest: Manifest, pictures: record.Record | None = None
) -> bytes:
    """The bytes of a .safetensors file: the weights by variable path, float32, and what tells of
    them.
    """
    arrays = {
        variable.path: np.ascontiguousarray(variable.value, "<f4") for variable in model.weights
    }
    if pictures:
        arrays[record.FILE] = np.frombuffer(pictures.to_bytes(), np.uint8)
    header: dict = {
        "__metadata__": {
            "format": "alexnet_tf",
            MANIFEST: manifest.text(),
            LABELS: manifest.text_of_labels(),
        }
    }
    begin = 0
    for name in sorted(arrays):
        end = begin + arrays[name].nbytes
        header[name] = {
            "dtype": "U8" if arrays[name].dtype == np.uint8 else "F32",
            "shape": list(arrays[name].shape),
            "data_offsets": [begin, end],
        }
        begin = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # so that the numbers are aligned
    return b"".join(
        [len(text).to_bytes(8, "little"), text, *(arrays[name].data for name in sorted(arrays))]
    )


def with_ends(model: keras.Model, settings: Settings) -> keras.Model:
    """What a .keras file holds: pixels in 0..255, float [batch, s, s, c], to probabilities, float32
    [batch, classes], around `model`, a layer of the name "network".
    """
    pixels = settings.preprocessing
    images = keras.Input((pixels.image_size, pixels.image_size, pixels.channels), name="images")
    levels = pixels.mean, pixels.std, settings.variant, settings.descent
    x = PixelNormalization(*levels, name="pixels")(images)
    logits = keras.Model(model.inputs[0], model.outputs[0], name="network")(x)
    softmax = keras.layers.Softmax(name="probabilities", dtype="float32")
    return keras.Model(images, softmax(logits), name="alexnet")


def keras_file(
    model: keras.Model,
    manifest: Manifest,
    pictures: record.Record | None = None,
) -> bytes:
    """The bytes of a .keras file: from pixels to probabilities, and what tells of it."""
    settings = manifest.settings
    try:
        whole = with_ends(settings.build(), settings)
    except ValueError as error:
        raise UserError(f"Nothing was exported: {error}.") from None
    surgery.give_weights(whole, zip(whole.weights, model.get_weights(), strict=True))
    _settle_seeds(whole)
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "model.keras")
        whole.save(path)
        stream = io.BytesIO()
        with zipfile.ZipFile(path) as saved, zipfile.ZipFile(stream, "w") as archive:
            for name in sorted(saved.namelist()):
                content = saved.read(name)
                if name == _SAVED:
                    about = json.loads(content)
                    about.pop("date_saved", None)
                    content = json.dumps(about).encode()
                if name == _CONFIG:
                    content = _renumbered(content)
                add_member(archive, name, content)
            add_description(archive, manifest, pictures)
    return stream.getvalue()


def _renumbered(config: bytes) -> bytes:
    """Numbers what several layers share, such as relu, from 0 on: Keras numbers it by addresses in
    memory, which differ from process to process.
    """
    numbers: dict[bytes, int] = {}
    return re.sub(
        rb'("shared_object_id": )(\d+)',
        lambda found: found[1] + b"%d" % numbers.setdefault(found[2], len(numbers)),
        config,
    )


def _settle_seeds(model: keras.Model) -> None:
    """Dropout draws a seed when it is made; a trained network has no use for it."""
    for number, layer in enumerate(model._flatten_layers()):
        if getattr(layer, "seed", None) is not None:
            layer.seed = number
        generator = getattr(layer, "seed_generator", None)
        if generator is not None:
            generator.state.assign([number, 0])


def read_keras(path: str | os.PathLike) -> tuple[keras.Model, Manifest, record.Record | None]:
    """(model, manifest, data.record.Record or None) of a .keras file that `keras_file`
    wrote: the network within it, from network input to logits.

    Raises UserError for another.
    """
    try:
        with open(path, "rb") as stream:
            members = archives.members(stream)
        told, labels = parse(members[MANIFEST]), members[LABELS].decode().splitlines()
        stored = members.get(record.FILE)
    except (KeyError, archives.CompressedError):
        raise UserError(
            f"{path} holds neither class names nor preprocessing; open it with "
            "keras.saving.load_model, or pass the model directory, or a file that alexnet export "
            "--format=keras wrote."
        ) from None
    except ValueError as error:
        raise UserError(
            f"{path} is damaged, or not a .keras file ({error}); copy it again, or export again."
        ) from None
    try:
        manifest = Manifest.from_json(told, labels)
        settings = manifest.settings
        # A network of the user's own is what Keras makes of it, as keras.saving.load_model would.
        own = settings.architecture is not None
        settings = settings.without_folder() if own else settings.of_a_stranger()
        model = settings.build()
        with tempfile.TemporaryDirectory() as folder:
            named = pathlib.Path(folder, "model.keras")  # as Keras has it, in no capitals
            named.symlink_to(pathlib.Path(path).absolute())
            with_ends(model, settings).load_weights(named)
    except UserError:
        raise
    except (ValueError, KeyError, OSError) as error:
        raise not_of_ours(path, error) from None
    manifest = dataclasses.replace(manifest, settings=settings)
    return model, manifest, record.stored(stored, path)
