"""What the head's default is worth: beside the best of a small search, and training from nothing.

    python tests/proof/head_choice.py --flowers=flowers12 --cifar10=cifar10

`--flowers` has train/ and test/ as the flowers of docs/measurements; `--cifar10` likewise, from
CIFAR-10. Every setting is drawn five times anew: pictures to train and to test, all from one pass
through the trunk of `--pretrained=imagenet`. Prints top-1 of the default, which sees the training
pictures alone, and of every member of the search, on the test pictures: the best of them has been
chosen by those, so it is what no search could beat.
"""

import sys

import numpy as np
import tensorflow as tf
from absl import app, flags

from alexnet_tf import console, networks, pretrained
from alexnet_tf.data import folders
from alexnet_tf.network import surgery
from alexnet_tf.training import features, head, loop
from alexnet_tf.training.metrics import NoLog
from alexnet_tf.training.optimizer import SGD2012

_FLOWERS = flags.DEFINE_string("flowers", None, "Folder of 12 x (60 + 20) photographs.")
_CIFAR10 = flags.DEFINE_string("cifar10", None, "Folder of CIFAR-10's train/ and test/.")
_DRAWS = flags.DEFINE_integer("draws", 5, "Of each setting.")
_DECAYS = (1.0, 0.1, 0.01, 1e-3, 1e-4, 1e-5)
_RATES = (1 / 3, 1, 3)  # of steps, times what head.fitting_rate gives


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


def pooled(network, paths, most=None):
    """(features, labels) of the pictures below `paths`, of each class the first `most`."""
    split, _ = folders.list_pictures(paths, _classes(paths[0]))
    extract = features.extractor(
        tf.distribute.get_strategy(), surgery.trunk(network.model), network.preprocessing
    )
    parts = []
    with console.progress(split.examples, "features") as bar:
        for outputs, labels, _ in extract(split):
            parts.append((outputs, labels))
            bar.update(len(labels))
    return tuple(map(np.concatenate, zip(*parts)))


def _classes(path):
    import pathlib

    return sorted(folder.name for folder in pathlib.Path(path).iterdir())


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


def measured(model, found):
    """{member of the search: top-1 of the test pictures}, the default among them."""
    notes, rows = [], {}

    def fit():
        return head.fit(surgery.projection(model), found, NoLog(), _Quiet(), notes.append)

    state = fit()
    rows["default"] = state["figures"]["top_1"]
    choose = head._choose
    for decay in _DECAYS:
        head._choose = lambda *rest, decay=decay: head._Choice(decay)
        rows[f"decay {decay:g}"] = fit()["figures"]["top_1"]
    head._choose = choose
    for factor in _RATES:
        rate = factor * head.fitting_rate(found)
        plan = loop.Plan(batch_size=32, epochs=30, seed=0, learning_rate=rate, schedule="linear")
        trained = head.train(
            surgery.projection(model), SGD2012(rate), found, plan, NoLog(), _Quiet(), str
        )
        rows[f"steps, {factor:.2g} x"] = trained["figures"]["top_1"]
    print("   ", notes[0], flush=True)
    return rows


def main(_):
    network = networks.load(pretrained.fetch("imagenet", None))
    settings = []
    if _FLOWERS.value:
        pool = pooled(network, [f"{_FLOWERS.value}/train", f"{_FLOWERS.value}/test"])
        settings += [(f"{n} flowers a class", pool, n, 20) for n in (5, 20, 60)]
    if _CIFAR10.value:
        pool = pooled(network, [f"{_CIFAR10.value}/train", f"{_CIFAR10.value}/test"])
        settings += [("CIFAR-10, 50 a class", pool, 50, 100)]
    for name, pool, train, test in settings:
        model = surgery.with_fresh_projection(network.model, len(np.unique(pool[1])))
        print(name, flush=True)
        table = [measured(model, found) for found in draws(pool, train, test, _DRAWS.value)]
        for member in table[0]:
            values = [100 * row[member] for row in table]
            print(f"  {member:16}{np.mean(values):8.2f}   {' '.join(f'{v:.1f}' for v in values)}")
        sys.stdout.flush()


if __name__ == "__main__":
    app.run(main)
