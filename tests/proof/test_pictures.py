"""20,000 damaged picture files and 100 damaged record files through the training input: no crash,
no hang, no wrong shape.
"""

import io
import time

import numpy as np
import tensorflow as tf
from PIL import Image

from alexnet_tf.data import datasets, pipeline, shapes, splits
from alexnet_tf.preprocessing import Preprocessing

PIXELS = Preprocessing(image_size=56, resize=64, channels=3, mean=(0.0,) * 3, std=1.0)
FILES, RECORD_FILES, SEED = 20_000, 100, 2012
_SLOWEST = 60  # seconds for a batch: beyond, it hangs


def originals():
    """Twenty small pictures in every form that is read:

    JPEG plain, progressive, grey and CMYK, PNG of several kinds.
    """
    files = []
    for index in range(4):
        image = Image.open(io.BytesIO(shapes.draw_jpeg("train", index))).resize((90, 70 + index))
        for mode, form, options in (
            ("RGB", "JPEG", {}),
            ("RGB", "JPEG", {"progressive": True}),
            ("CMYK", "JPEG", {}),
            ("RGBA", "PNG", {}),
            ("P", "PNG", {}),
        ):
            stream = io.BytesIO()
            image.convert(mode).save(stream, form, **options)
            files.append(stream.getvalue())
    return files


def mutated(rng, content):
    """`content` cut, with some bytes changed anywhere or in the first 64, or with a part of it
    repeated or dropped.
    """
    content, kind = bytearray(content), rng.integers(5)
    if kind == 0:
        return bytes(content[: rng.integers(len(content))])
    if kind in (1, 2):
        for place in rng.integers(0, len(content) if kind == 1 else 64, rng.integers(1, 6)):
            content[place] = rng.integers(256)
        return bytes(content)
    begin, end = sorted(rng.integers(0, len(content), 2))
    return bytes(content[:end] + content[begin:] if kind == 3 else content[:begin] + content[end:])


def batches_of(split, epochs=1):
    """(pictures read right, pictures passed over) in some epochs of batches of 20, each of the
    right shape and in time.
    """
    bad, good = 0, 0
    steps = epochs * split.examples // 20
    batches = iter(pipeline.training_batches(split, PIXELS, 20, seed=0))
    for _ in range(steps):
        begin = time.monotonic()
        batch = next(batches)
        assert time.monotonic() - begin < _SLOWEST
        assert batch["image"].shape == (20, 56, 56, 3) and batch["image"].dtype == tf.uint8
        assert set(batch["label"].numpy()) <= set(range(10))
        bad += int((batch["bad"].numpy() >= 0).sum())
        good += int((batch["bad"].numpy() < 0).sum())
    return good, bad


def test_damaged_files(tmp_path):
    rng, sources, names = np.random.default_rng(SEED), originals(), []
    # each eleventh is whole, so that there is always a neighbour
    for number in range(FILES + FILES // 10):
        names.append(str(tmp_path / f"{number}.jpg").encode())
        source = sources[rng.integers(len(sources))]
        with open(names[-1], "wb") as stream:
            stream.write(source if number % 11 == 0 else mutated(rng, source))
    split = splits.split_of_files("damaged", np.array(names, object), np.arange(len(names)) % 10)
    good, bad = batches_of(split)
    print(
        f"\n{FILES} damaged files among {len(names)}, seed {SEED}: {bad} passed over, {good} read,"
        " no crash, no hang"
    )
    assert bad > FILES / 5 and good > FILES / 10


def test_damaged_records(tmp_path):
    dataset = datasets.open_dataset("shapes", tmp_path)
    rng, split = np.random.default_rng(SEED), dataset.evaluation
    (file,) = tmp_path.rglob("*test.tfrecord*")
    whole, lost = file.read_bytes(), 0
    serialized = [stub["serialized"].numpy() for stub in split.stubs(None)]
    for _ in range(RECORD_FILES):
        place = rng.integers(len(whole))
        file.write_bytes(
            whole[:place]
            if rng.integers(2)
            else whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :]
        )
        found = [stub["serialized"].numpy() for stub in split.stubs(None)]
        first = found.index(b"")
        assert found == serialized[:first] + [b""] * (len(serialized) - first)
        lost += len(found) - first
    print(
        f"\n{RECORD_FILES} damaged record files, seed {SEED}: {lost} records behind the damage,"
        " every one noticed"
    )
