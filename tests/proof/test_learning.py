"""Every variant learns with its defaults: rate, initial weights, schedule, warm-up, noise and
dropout are what `python -m alexnet_tf.train --variant=...` takes when nothing else is said. What is
set is how long it runs and, but for lenet5, how large the pictures are, so that two cores do it in
minutes.

    .venv/bin/python -m pytest -s tests/proof/test_learning.py -k paper
"""

import json
import os
import resource
import subprocess
import sys

import keras
import pytest
from conftest import ROOT

from alexnet_tf.data import datasets, pipeline, shapes
from alexnet_tf.network.model import VARIANTS
from alexnet_tf.preprocessing import Preprocessing, to_network_input

CHANCE = 0.1  # ten classes of as many pictures each
# Flags, the top-1 that three seeds are to exceed, and the minutes of the processor that each may
# take: on two cores about half as many by the clock.
SETTINGS = {
    "paper": (["--image_size=67", "--epochs=7"], 0.6, 8),
    "source2012": (["--image_size=67", "--epochs=7"], 0.6, 8),
    "caffe": (["--image_size=67", "--epochs=10"], 0.4, 12),
    "caffenet": (["--image_size=67", "--epochs=10"], 0.4, 12),
    "half": (["--image_size=67", "--epochs=10"], 0.5, 6),
    "one_gpu": (["--image_size=67", "--epochs=7"], 0.6, 8),
    "conv6": (["--image_size=67", "--epochs=10"], 0.5, 12),
    "one_weird_trick": (["--image_size=67", "--epochs=14"], 0.3, 25),
    "one_weird_trick_pool5": (["--image_size=67", "--epochs=14"], 0.3, 25),
    "lenet5": (["--epochs=20"], 0.8, 8),
}


def test_every_variant_has_its_setting():
    assert SETTINGS.keys() == VARIANTS.keys()


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("variant", SETTINGS)
def test_it_learns_with_its_defaults(variant, seed, tmp_path):
    given, bound, minutes = SETTINGS[variant]
    top_1, taken = trained([f"--variant={variant}", f"--seed={seed}", *given], tmp_path)
    print(f"\n{variant}, seed {seed}: top-1 {top_1:.1%}, {taken:.1f} minutes of the processor")
    assert top_1 > bound > 2 * CHANCE
    assert taken < minutes


def test_a_linear_classifier_hardly_learns_the_shapes():
    """Softmax regression on the very pixels that the network reads, cropped and mirrored as in
    training: what the network finds in them is not there for the taking.
    """
    epochs, batch = 10, 100
    dataset = datasets.open_dataset("shapes")
    pixels = Preprocessing(227, 256, 3, (0.0,) * 3, 1.0)
    mean, _ = pipeline.channel_statistics(dataset.train, pixels)
    pixels = Preprocessing(227, 256, 3, mean, 64.0)

    def prepared(batches):
        return batches.map(lambda batch: (to_network_input(batch["image"], pixels), batch["label"]))

    model = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(len(dataset.class_names))])
    model.compile(
        keras.optimizers.Adam(1e-4),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    found = model.fit(
        prepared(pipeline.training_batches(dataset.train, pixels, batch, seed=0)),
        epochs=epochs,
        steps_per_epoch=dataset.train.examples // batch,
        verbose=0,
        validation_data=prepared(pipeline.evaluation_batches(dataset.evaluation, pixels, batch)),
    ).history
    held_out = max(found["val_accuracy"])
    print(f"\nlinear: held-out top-1 {held_out:.1%}, in training {found['accuracy'][-1]:.1%}")
    assert held_out < 2 * CHANCE


@pytest.fixture(scope="module")
def two_classes(tmp_path_factory):
    """A folder of 1600 training pictures and 300 for evaluation, of two of the ten classes."""
    folder = tmp_path_factory.mktemp("two")
    for split, count in (("train", 800), ("test", 150)):
        for label in (0, 3):
            (one := folder / split / shapes.CLASS_NAMES[label]).mkdir(parents=True)
            for number in range(count):
                (one / f"{number}.jpg").write_bytes(shapes.draw_jpeg(split, 10 * number + label))
    return folder


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("variant", ["paper", "caffenet"])
def test_it_learns_two_classes_with_its_defaults(two_classes, variant, seed, tmp_path):
    given = [f"--variant={variant}", f"--seed={seed}", "--dataset=folder"]
    size = [f"--data_dir={two_classes}", "--image_size=67", "--epochs=20"]
    top_1, taken = trained([*given, *size], tmp_path)
    print(f"\n{variant}, two classes, seed {seed}: top-1 {top_1:.1%}, {taken:.1f} minutes")
    assert top_1 > 0.9
    assert taken < 12


def trained(flags, folder):
    """(top-1, minutes of the processor) of a training on the drawn shapes, or on the data of
    `flags`.
    """
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [
        sys.executable,
        "-m",
        "alexnet_tf.train",
        "--dataset=shapes",
        f"--model_dir={folder}/model",
        f"--json={folder}/figures.json",
        "--xla=off",  # not to be timed: it is slower on processors
        *flags,
    ]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    minutes = (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / 60
    return json.loads((folder / "figures.json").read_text())["top_1"], minutes
