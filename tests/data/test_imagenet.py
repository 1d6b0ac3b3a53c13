"""ImageNet as people have it: nested archives through TFDS, labels in synset order with names, and
what is refused.
"""

import io
import shutil
import tarfile
import types

import numpy as np
import pytest
from PIL import Image

from alexnet_tf.data import datasets, imagenet, listing, pipeline, shapes
from alexnet_tf.errors import UserError
from alexnet_tf.preprocessing import Preprocessing

# Real names, in real order: the CMYK JPEG, a plain one of the same class, the PNG, and plain ones
# of the last class.
_TRAIN = {
    "n01739381": ["n01739381_1309.JPEG", "n01739381_7.JPEG"],
    "n02105855": ["n02105855_2933.JPEG"],
    "n15075141": ["n15075141_10.JPEG", "n15075141_11.JPEG"],
}
_VALIDATION = [f"ILSVRC2012_val_{number:08}.JPEG" for number in range(1, 5)]
# pictures of one colour
_FLAT = {"n01739381_1309.JPEG": (20, 200, 90), "n02105855_2933.JPEG": (250, 30, 60)}


def picture(name, number):
    """What archives hold under `name`: a drawn JPEG, or one colour as CMYK JPEG or PNG."""
    if name not in _FLAT:
        return shapes.draw_jpeg("train", number)
    image, stream = Image.new("RGB", (120, 90), _FLAT[name]), io.BytesIO()
    if "n02105855" in name:
        image.convert("RGBA").save(stream, "PNG")
    else:
        image.convert("CMYK").save(stream, "JPEG", quality=95)
    return stream.getvalue()


def tar(contents):
    """Bytes of a tar archive of {name: bytes}."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, content in contents.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return stream.getvalue()


def write_archives(data_dir, validation=_VALIDATION):
    folder = data_dir / "downloads/manual"
    folder.mkdir(parents=True)
    pictures = {name: picture(name, number) for number, name in enumerate(sum(_TRAIN.values(), []))}
    nested = {
        f"{synset}.tar": tar({name: pictures[name] for name in names})
        for synset, names in _TRAIN.items()
    }
    (folder / "ILSVRC2012_img_train.tar").write_bytes(tar(nested))
    (folder / "ILSVRC2012_img_val.tar").write_bytes(
        tar({name: picture(name, index) for index, name in enumerate(validation)})
    )
    return folder


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("imagenet")
    write_archives(folder)
    return folder


def test_archives_become_a_data_set_of_1000_named_classes(data_dir, capfd):
    dataset = datasets.open_dataset("imagenet2012", data_dir)
    captured = capfd.readouterr()
    # TFDS shows its progress, and not where results go
    assert captured.out == "" and "examples" in captured.err
    assert len(dataset.class_names) == len(set(dataset.class_names)) == 1000
    assert [dataset.class_names[label] for label in (0, 134, 517, 639, 999)] == [
        "tench (n01440764)",
        "crane (n02012849)",
        "crane (n03126707)",
        "maillot (n03710721)",
        "toilet tissue (n15075141)",
    ]
    synsets = sorted(imagenet.names_by_synset())
    labels = sorted(int(record["label"]) for record in dataset.train.read(None))
    assert labels == [synsets.index(synset) for synset, names in _TRAIN.items() for _ in names]
    # The first lines of ILSVRC2012_validation_ground_truth, as synsets.
    assert sorted(synsets[int(record["label"])] for record in dataset.evaluation.read(None)) == [
        "n01751748",
        "n02105855",
        "n04263257",
        "n09193705",
    ]
    assert dataset.notes == (
        "imagenet2012: only 5 of its 1281167 train pictures are here.",
        "imagenet2012: only 4 of its 50000 validation pictures are here.",
    )


@pytest.mark.long
def test_cmyk_and_png_come_out_in_their_colours(data_dir):
    train = datasets.open_dataset("imagenet2012", data_dir).train
    pixels = Preprocessing(image_size=64, resize=64, channels=3, mean=(0.0,) * 3, std=1.0)
    batch = next(iter(pipeline.training_batches(train, pixels, 5, seed=0)))
    colours = np.reshape(batch["image"], [5, -1, 3]).astype(float)
    flat = [colour.mean(0) for colour in colours if colour.std(0).max() < 1]
    assert len(flat) == 2
    for expected in _FLAT.values():
        assert min(np.abs(colour - expected).max() for colour in flat) < 4


def test_missing_archives_are_named_with_their_place_and_the_command(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "sys.orig_argv",
        ["python3", "-m", "alexnet_tf.train", "--dataset=imagenet2012", "--data_dir=my data"],
    )
    with pytest.raises(UserError) as error:
        datasets.open_dataset("imagenet2012", tmp_path)
    for part in (
        "ILSVRC2012_img_train.tar",
        "ILSVRC2012_img_val.tar",
        f"the folder {tmp_path}/downloads/manual ",
        "run again: python3 -m alexnet_tf.train --dataset=imagenet2012 '--data_dir=my data'",
    ):
        assert part in str(error.value)
    write_archives(tmp_path)
    (tmp_path / "downloads/manual/ILSVRC2012_img_val.tar").unlink()
    with pytest.raises(UserError, match=r"Put ILSVRC2012_img_val.tar \(6.7 GB\) into"):
        datasets.open_dataset("imagenet2012", tmp_path)


def test_archives_that_would_give_wrong_labels_or_none_are_refused(tmp_path, monkeypatch):
    folder = write_archives(tmp_path, _VALIDATION[1:])
    with pytest.raises(UserError, match="without gaps"):
        datasets.open_dataset("imagenet2012", tmp_path)
    (folder / "ILSVRC2012_img_val.tar").write_bytes(b"<html>sign in first</html>")
    with pytest.raises(UserError, match="val.tar is damaged"):
        datasets.open_dataset("imagenet2012", tmp_path)
    (folder / "ILSVRC2012_img_val.tar").write_bytes(
        tar({name: picture(name, 0) for name in _VALIDATION})
    )
    whole = (folder / "ILSVRC2012_img_train.tar").read_bytes()
    for damaged in (b"<html>sign in first</html>", whole[: len(whole) // 2]):
        (folder / "ILSVRC2012_img_train.tar").write_bytes(damaged)
        with pytest.raises(UserError, match="imagenet2012 could not be prepared") as error:
            datasets.open_dataset("imagenet2012", tmp_path)
        assert "\n" not in str(error.value)
        assert not list(tmp_path.glob("imagenet2012/*"))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: types.SimpleNamespace(free=1000))
    with pytest.raises(UserError, match=r"needs 0.0 GB on a disk that has 0.0 GB left"):
        datasets.open_dataset("imagenet2012", tmp_path)


def test_folders_named_by_synsets_get_readable_names_and_others_stay(tmp_path):
    for synset in ("n01440764", "n03126707"):
        for index in range(2):
            path = tmp_path / synset / f"{index}.jpg"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(shapes.draw_jpeg("train", index))
    assert datasets.open_dataset("folder", tmp_path).class_names == (
        "tench (n01440764)",
        "crane (n03126707)",
    )
    assert imagenet.readable(["n01440764", "other"]) == ("n01440764", "other")


@pytest.mark.parametrize(
    "names",
    [
        ["background", *imagenet.names_by_synset()],
        [*imagenet.names_by_synset(), "void"],
        ["dummy", *imagenet.names_by_synset().values()],
    ],
)
def test_a_background_class_is_refused(names):
    with pytest.raises(
        UserError,
        match=f"1001 classes, of which '({names[0]}|{names[-1]})' is not a class of ImageNet",
    ):
        imagenet.refuse_background(names)
    imagenet.refuse_background(names[:3])
    imagenet.refuse_background([str(number) for number in range(1001)])


def test_synsets_are_in_label_order_and_the_names_are_words():
    synsets = list(imagenet.names_by_synset())
    assert synsets == sorted(synsets) and len(synsets) == 1000
    assert all(
        name and name.isprintable() and name == name.strip()
        for name in imagenet.names_by_synset().values()
    )


def test_pictures_in_folders_named_by_synsets_are_of_the_class_of_that_name(tmp_path):
    (tmp_path / "n03126707").mkdir()
    (tmp_path / "n03126707/1.jpg").write_bytes(shapes.draw_jpeg("train", 1))
    split, _ = listing.list_pictures([tmp_path], ["tench (n01440764)", "crane (n03126707)"])
    assert [int(record["label"]) for record in split.read(None)] == [1]


def test_the_validation_archive_alone_is_enough_to_evaluate(tmp_path):
    folder = write_archives(tmp_path)
    (folder / "ILSVRC2012_img_train.tar").rename(tmp_path / "train.tar")
    names = imagenet.readable(list(imagenet.names_by_synset()))
    dataset = datasets.open_evaluation("imagenet2012", tmp_path, names)
    assert (dataset.train, dataset.evaluation.name, dataset.evaluation.examples) == (
        None,
        "validation",
        4,
    )
    assert dataset.class_names == names
    assert dataset.notes == ("imagenet2012: only 4 of its 50000 validation pictures are here.",)
    with pytest.raises(
        UserError,
        match=(
            "has no split named train, only validation; .* remove .*/imagenet2012/5.1.0 and run"
            " again"
        ),
    ):
        datasets.open_dataset("imagenet2012", tmp_path)
    shutil.rmtree(tmp_path / "imagenet2012")
    with pytest.raises(UserError, match="Put ILSVRC2012_img_train.tar"):
        datasets.open_dataset("imagenet2012", tmp_path)
    (folder / "ILSVRC2012_img_val.tar").unlink()
    with pytest.raises(UserError, match="Put ILSVRC2012_img_val.tar"):
        datasets.open_evaluation("imagenet2012", tmp_path, names)
