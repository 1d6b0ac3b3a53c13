"""Training pictures of a folder that are kept from training, to judge by."""

import pathlib

import numpy as np

from alexnet_tf.data import record
from alexnet_tf.data.part import Part
from alexnet_tf.errors import UserError

HELD_OUT = 0.1  # of the training pictures
# The settings with which the evaluation decides nothing: training/plan.py.
NOTHING_CHOOSES = "patience=0, a schedule= other than plateau and no callback that may choose"


class AllSeenError(UserError):
    """Nothing can be held out: the network was trained on all of it."""


def divide(
    root: pathlib.Path,
    train: Part,
    test: Part | None,
    seed: int,
    seen: record.Record | None,
    notes: list[str],
) -> tuple[Part, Part]:
    """(the Part to train on, the one held out).

    Raises UserError if there is nothing to hold out.
    """
    held = record.divide(train.labels, train.identities, HELD_OUT, seed, seen)
    missing = "no validation split" if test else "no evaluation split (val/, validation/, test/)"
    if not held.any() and seen and seen.has_seen(train.identities).all():
        todo = "add pictures, of which some will be held out"
        if test:
            todo = f"pass {NOTHING_CHOOSES}, so that nothing is chosen on them"
        raise AllSeenError(
            f"{root} has {missing}, and all its pictures were trained on already; {todo}, or add a"
            " folder val/."
        )
    if not held.any():
        todo = "add pictures, or a folder val/"
        if test:
            todo += f", or pass {NOTHING_CHOOSES}, so that nothing is chosen"
        raise UserError(
            f"{root} has {missing}, and no class with two different pictures, to keep one for"
            f" evaluation; {todo}."
        )
    what = "choose the weights and the rate; test/ does not" if test else "are kept for evaluation"
    before = int((held & (seen or record.Record()).keeps_apart(train.identities)).sum())
    how = f"drawn per class with seed={seed}"
    if before == held.sum():
        how = "held out before"
    elif before:
        how = f"{before} held out before and {held.sum() - before} {how}"
    notes.append(f"{root} has {missing}: {held.sum()} of {len(held)} pictures, {how}, {what}.")
    return _parted(root, train, held)


def kept_apart(
    root: pathlib.Path, train: Part, seen: record.Record, notes: list[str]
) -> tuple[Part, Part]:
    """Like divide, for where nothing is chosen any more: what `seen` held out stays held out."""
    held = seen.keeps_apart(train.identities)
    notes.append(
        f"{root}: {held.sum()} of its {len(held)} training pictures were held out when the training"
        " began, and stay held out; a training in another model directory would use them."
    )
    return _parted(root, train, held)


def _parted(root: pathlib.Path, train: Part, held: np.ndarray) -> tuple[Part, Part]:
    """(the Part to train on, the one `held` out). Raises UserError for a class of which nothing is
    left to train on.
    """
    empty = set(train.labels.tolist()) - set(train.labels[~held].tolist())
    if empty:
        raise UserError(
            f"{root}: all pictures of {train.class_names[min(empty)]} were held out from the"
            " training and none is left to train on; add some, or train in another model directory."
        )
    return train.where(~held), train.where(held).kept_apart()
