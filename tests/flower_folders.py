"""Folders of flowers, filled with drawn pictures, and what is read of them."""

from alexnet_tf.data import datasets, shapes
from alexnet_tf.data.names import SplitNames

BOTH = ("daisy", "iris")


def fill(root, **counts):
    """Writes pictures into folders: {"train/daisy": 3, ...}; returns `root`."""
    for folder, count in counts.items():
        (root / folder).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            path = root / folder / f"{number}.jpg"
            path.write_bytes(
                shapes.draw_jpeg("train", number) + str(path.relative_to(root)).encode()
            )
    return root


def flowers(*splits, count=3):
    return {f"{split}/{name}": count for split in splits for name in BOTH}


def opened(root, class_names=None, **arguments):
    """(the classes, training pictures, (name, pictures) to choose by and to report on, notes)."""
    dataset = datasets.open_dataset("folder", root, **arguments)
    reported = dataset.test or dataset.evaluation
    return (
        dataset.class_names,
        dataset.train.examples,
        (dataset.evaluation.name, dataset.evaluation.examples),
        (reported.name, reported.examples),
        [note.replace(str(root), "ROOT") for note in dataset.notes],
    )


def judged(root, class_names=BOTH, names=None):
    dataset = datasets.open_evaluation("folder", root, class_names, (), names or SplitNames())
    return dataset.evaluation.name, dataset.evaluation.examples
