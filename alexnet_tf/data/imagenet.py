"""Facts of ImageNet 2012 (ILSVRC2012), the data set of the paper: its archives, its size, its 1000
classes and their names.

Label i is the i-th of the 1000 synset ids in sorted order, as in TFDS, Keras and torchvision; there
is no background class. A record of TFDS's imagenet2012 5.1.0, for example: {"image": bytes of a
JPEG file, "label": 0, "file_name": "n01440764_10026.JPEG"}.

Odd files among them: one PNG named .JPEG (n02105855_2933), 22 CMYK JPEGs in train and one in
validation (ILSVRC2012_val_00019877), one with broken EXIF (n04152593_17460). TFDS turns the PNG and
the 22 into RGB JPEGs of quality 100, and `preprocessing.decode` reads them all.
https://github.com/cytsai/ilsvrc-cmyk-image-list
"""

import functools
import pathlib
import tarfile
from collections.abc import Sequence

from alexnet_tf.errors import UserError

# What image-net.org gives to those who sign up, in bytes; sizes and counts as TFDS 4.9.10 states
# them.
ARCHIVES = {"ILSVRC2012_img_train.tar": 147_897_477_120, "ILSVRC2012_img_val.tar": 6_744_924_160}
PICTURES = {"train": 1_281_167, "validation": 50_000}


@functools.cache
def names_by_synset() -> dict[str, str]:
    """{"n01440764": "tench", ...}: the 1000 synset ids in label order, with the first word of each
    in WordNet 3.0.

    Two names occur twice: crane (n02012849 the bird, n03126707 the machine) and maillot (n03710637,
    n03710721).
    """
    lines = (pathlib.Path(__file__).parent / "imagenet_classes.txt").read_text().splitlines()
    return dict(line.split(" ", 1) for line in lines if not line.startswith("#"))


def readable(class_names: Sequence[str]) -> tuple[str, ...]:
    """Class names as people read them: synset ids of ImageNet to "tench (n01440764)", if all are
    such ids; others as they are.
    """
    names = names_by_synset()
    if not set(class_names) <= names.keys():
        return tuple(class_names)
    return tuple(f"{names[synset]} ({synset})" for synset in class_names)


def refuse_background(class_names: Sequence[str]) -> None:
    """Raises UserError for a list of 1001 classes that is ImageNet's 1000 and a background class,
    as TF-Slim counted them.
    """
    if len(class_names) != 1 + len(names_by_synset()):
        return
    strangers = [name for name in class_names if name not in names_by_synset()]
    if len(strangers) == 1 or class_names[0].lower() in ("background", "dummy"):
        background = strangers[0] if len(strangers) == 1 else class_names[0]
        raise UserError(
            f"1001 classes, of which {background!r} is not a class of ImageNet: the network's 1000"
            " outputs are its 1000 classes, in the order of their synset ids and without a"
            " background class; take that one out."
        )


def check_archives(folder: pathlib.Path, command: str, training: bool = True) -> None:
    """Raises UserError if the archives that TFDS builds imagenet2012 from are not in `folder`;
    `command` is what to run again.

    Only `training` needs more than the validation archive.
    """
    missing = [
        name for name in ARCHIVES if not (folder / name).is_file() and (training or "val" in name)
    ]
    if missing:
        sizes = " and ".join(f"{name} ({ARCHIVES[name] / 1e9:.1f} GB)" for name in missing)
        raise UserError(
            "dataset=imagenet2012 is built from archives that image-net.org gives to those who"
            f" sign up. Put {sizes} into the folder {folder} (a link will do), then run again:"
            f" {command}"
        )
    try:
        with tarfile.open(folder / "ILSVRC2012_img_val.tar") as archive:
            names = sorted(archive.getnames())
    except tarfile.TarError as error:
        raise UserError(
            f"{folder}/ILSVRC2012_img_val.tar is damaged ({error}); fetch it again."
        ) from None
    # TFDS gives the n-th label to the n-th name.
    if names != [f"ILSVRC2012_val_{number:08}.JPEG" for number in range(1, len(names) + 1)]:
        raise UserError(
            f"{folder}/ILSVRC2012_img_val.tar does not hold ILSVRC2012_val_00000001.JPEG and so on"
            " without gaps, which the labels go by; take the archive as image-net.org offers it."
        )
