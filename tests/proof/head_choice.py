"""What the head's default is worth: beside the best of a small search.

    python tests/proof/head_choice.py --flowers=flowers12 --cifar10=cifar10 --store=features

`--flowers` has train/ and test/ as the flowers of docs/measurements; `--cifar10` likewise, a part
of CIFAR-10. Every setting is drawn five times anew, pictures to train and to test, all from one
pass through the trunk of `--pretrained=imagenet`, whose features are kept in `--store`. Prints
top-1 of the default, which sees the training pictures alone, of every decay, and of three fresh
layers, fc6 to fc8, at two rates, on the test pictures: the best of these has been chosen by them,
so it is what no search could beat.
"""

import dataclasses
import pathlib

import keras
import numpy as np
import tensorflow as tf
from absl import app, flags

from alexnet_tf import console, networks, pretrained
from alexnet_tf.data import listing
from alexnet_tf.errors import UserError
from alexnet_tf.network import surgery
from alexnet_tf.training import features, head, loop
from alexnet_tf.training.metrics import NoLog
from alexnet_tf.training.optimizer import SGD2012

_FLOWERS = flags.DEFINE_string("flowers", None, "Folder of 12 x (60 + 20) photographs.")
_CIFAR10 = flags.DEFINE_string("cifar10", None, "Folder of CIFAR-10's train/ and test/.")
_STORE = flags.DEFINE_string("store", "features", "Folder for the features.")
_DRAWS = flags.DEFINE_integer("draws", 5, "Of each setting.")
_FRESH = flags.DEFINE_bool("fresh", True, "Train three fresh layers too, which takes longest.")
_RATES = (0.003, 0.01)  # of fresh layers
_DECAYS = (1.0, 0.1, 0.01, 1e-3, 1e-4, 1e-5)


class _Quiet:
    n = total = 0

    def __call__(self, *arguments):
        return self

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def update(self, count):
        pass

    def set_postfix_str(self, text):
        pass


def pooled(network, path):
    """(features, labels) of the pictures of `path`/train and `path`/test."""
    stored = pathlib.Path(_STORE.value, f"{pathlib.Path(path).name}.npz")
    if not stored.exists():
        names = sorted(folder.name for folder in pathlib.Path(path, "train").iterdir())
        split, _ = listing.list_pictures([f"{path}/train", f"{path}/test"], names)
        trunk, parts = surgery.trunk(network.model), []
        extract = features.extractor(tf.distribute.get_strategy(), trunk, network.preprocessing)
        with console.progress(split.examples, "features") as bar:
            for outputs, labels, _ in extract(split):
                parts.append((outputs, labels))
                bar.update(len(labels))
        inputs, labels = map(np.concatenate, zip(*parts))
        stored.parent.mkdir(parents=True, exist_ok=True)
        np.savez(stored, inputs=inputs, labels=labels)
    with np.load(stored) as arrays:
        return arrays["inputs"], arrays["labels"]


def draws(pool, train, test, count):
    """Yields Features: of each class `train` pictures to train on and `test` others."""
    inputs, labels = pool
    for draw in range(count):
        rng = np.random.default_rng(draw)
        chosen = [rng.permutation(np.flatnonzero(labels == label)) for label in np.unique(labels)]
        here, there = (
            np.sort(np.concatenate([numbers[part] for numbers in chosen]))
            for part in (slice(test, test + train), slice(test))
        )
        yield features.Features(
            inputs[None, here],
            labels[here],
            inputs[None, there],
            labels[there],
            0.0,
            {"evaluation": []},
        )


def measured(classes, found):
    """{member of the search: top-1 of the test pictures}, the default among them."""

    def fit():
        inputs = keras.Input((found.train.shape[-1],))
        projection = keras.Model(inputs, keras.layers.Dense(classes)(inputs))
        state = head.fit(projection, found, NoLog(), _Quiet(), notes.append)
        return state.figures["top_1"]

    notes, choose = [], head.choose
    rows = {"default": fit()}
    for decay in _DECAYS:
        head.choose = lambda *rest, decay=decay: head.Choice(decay)
        rows[f"decay {decay:g}"] = fit()
    head.choose = choose
    for rate in _RATES if _FRESH.value else ():
        rows[f"fresh, rate {rate:g}"] = fresh(classes, found, rate)
    print("   ", notes[0], flush=True)
    return rows


def fresh(classes, found, rate):
    """Top-1 of fc6 to fc8, fresh on the features: 30 epochs, their rate falling to 0; NaN where
    they diverge.
    """
    shift, scale = head.standardisation(found.train)
    scale *= found.train.shape[-1] ** 0.5  # each about 1, as what follows expects
    found = dataclasses.replace(
        found, train=(found.train - shift) * scale, evaluation=(found.evaluation - shift) * scale
    )
    keras.utils.set_random_seed(0)
    inputs = units = keras.Input((found.train.shape[-1],))
    for _ in range(2):
        units = keras.layers.Dense(4096, "relu", kernel_initializer="he_normal")(units)
        units = keras.layers.Dropout(0.5)(units)
    model = keras.Model(inputs, keras.layers.Dense(classes)(units))
    plan = loop.Plan(
        batch_size=min(32, len(found.train_labels)),
        epochs=30,
        learning_rate=rate,
        warmup_steps=10,
        schedule="linear",
    )
    try:
        state = head.train(model, SGD2012(), found, plan, NoLog(), _Quiet(), console.silence, False)
    except UserError:
        return np.nan
    return state.figures["top_1"]


def main(_):
    network = networks.load(pretrained.fetch("imagenet", None))
    settings = []  # (name, pool, pictures of a class to train, and to test)
    if _FLOWERS.value:
        pool = pooled(network, _FLOWERS.value)
        settings += [(f"{n} flowers a class", pool, n, 20) for n in (5, 20, 60)]
    if _CIFAR10.value:
        pool = pooled(network, _CIFAR10.value)
        settings += [("CIFAR-10, 50 a class", pool, 50, 50)]
    for name, pool, train, test in settings:
        print(name, flush=True)
        table = [
            measured(len(np.unique(pool[1])), found)
            for found in draws(pool, train, test, _DRAWS.value)
        ]
        for member in table[0]:
            values = [100 * row[member] for row in table]
            print(f"  {member:16}{np.mean(values):8.2f}   {' '.join(f'{v:.1f}' for v in values)}")


if __name__ == "__main__":
    app.run(main)
