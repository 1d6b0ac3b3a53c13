"""The network in the file of a training of PyTorch: its arrays by bare names, one network of
several, and what lies beside it.

All of a file finds its place, or is told as what no answer depends on (an optimizer's state, an
average that was not chosen), or the file is refused.
"""

import dataclasses
import os
import re
from collections.abc import Collection
from typing import Any

from alexnet_tf.errors import UserError, first_few
from alexnet_tf.weights.contents import CLASS_NAMES, PIXEL_LEVELS, Weights
from alexnet_tf.weights.layouts import Arrays

# Components that wrappers of PyTorch put into names, and that say nothing.
_WRAPPERS = {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
# Words of an entry's name by which it belongs to a training and not to its network.
_OF_AN_OPTIMIZER = {
    "optim",
    "optimizer",
    "optimizers",
    "optims",
    "opt",
    "scheduler",
    "schedulers",
    "sched",
    "scaler",
    "amp",
    "rng",
    "random",
}
_AVERAGES = {"ema", "swa", "shadow", "averaged", "avg"}
# Of whose numbers, within the state dict of a network, some may be kernels and no part of it.
_MAY_BE_KERNELS = _OF_AN_OPTIMIZER | _AVERAGES | {"criterion", "loss", "losses"}
_OF_A_TRAINING = _MAY_BE_KERNELS | {
    "args",
    "config",
    "hparams",
    "epoch",
    "epochs",
    "step",
    "steps",
    "lr",
    "acc",
    "accuracy",
    "acc1",
    "acc5",
    "metric",
    "metrics",
    "history",
    "best",
    "callbacks",
    "loops",
    "meter",
    "meters",
    "momentum",
    "stats",
    "confusion",
    "log",
    "logs",
}
_COUNTERS = {"n_averaged", "num_updates", "num_batches_tracked", "epoch", "step", "global_step"}


def without_wrappers(arrays: dict[str, Any], name: str | os.PathLike) -> dict[str, Any]:
    """`arrays` by names without what DataParallel and torch.compile put into them."""
    found = {}
    for key, array in arrays.items():
        bare = _bare(key)
        if bare in found:
            raise UserError(
                f"{name} holds {bare[:80]} twice, under different prefixes; save the "
                "state_dict of only one network."
            )
        found[bare] = array
    return found


def _bare(key: str) -> str:
    return ".".join(part for part in key.split(".") if part not in _WRAPPERS)


def choose(
    prefixes: list[str], wanted: str | None, name: str | os.PathLike
) -> tuple[str, list[str]]:
    """(the prefix of the network that is meant, [a line on the others])."""
    names = {prefix: prefix.removesuffix(".") or "the file itself" for prefix in prefixes}
    averages = [prefix for prefix in prefixes if _words(prefix) & _AVERAGES]
    models = [prefix for prefix in prefixes if prefix not in averages]
    if wanted in ("model", "ema"):
        chosen = models if wanted == "model" else averages
    elif wanted:
        chosen = [prefix for prefix in prefixes if names[prefix] == wanted]
    else:
        chosen = models or averages
    if not chosen:
        raise UserError(
            f"weights={wanted}, but {name} holds {', '.join(names.values())}; name one of these, "
            "or omit weights=."
        )
    if len(chosen) > 1:
        raise UserError(
            f"{name} holds {len(chosen)} networks: "
            f"{', '.join(names[prefix] for prefix in chosen)}; choose one by "
            f"weights={names[chosen[0]]}, or save only one."
        )
    if len(prefixes) == 1:
        alone = f"{name} holds no network but {names[chosen[0]]}, an average: it is used."
        return chosen[0], [alone] if averages and not wanted else []
    others = ", ".join(names[prefix] for prefix in prefixes if prefix != chosen[0])
    return chosen[0], [
        f"{name} holds more than one network: {names[chosen[0]]} is used, not "
        f"{others}; weights={{model,ema,NAME}} chooses another."
    ]


def _words(key: str) -> set[str]:
    return set(re.split(r"[._-]", key.lower()))


def unwrapped(
    weights: Weights,
    arrays: Arrays,
    prefixes: list[str],
    wanted: str | None,
    name: str | os.PathLike,
) -> tuple[Weights, Arrays, list[str]]:
    """(Weights, arrays by bare names, lines) of the network that is meant among those that lie in
    dicts of a file, as {"epoch": ..., "net": {"conv1.weight": ...}} has one.
    """
    prefix, notes = choose(prefixes, wanted, name)
    unreadable = without_wrappers(weights.unreadable, name)
    inner = {
        key
        for key in (*arrays, *unreadable)
        if key.startswith(prefix)
        and not any(key.startswith(one) for one in prefixes if len(one) > len(prefix))
    }
    notes += told_passed_over(weights, arrays, inner, prefix, prefixes, name)
    return (
        dataclasses.replace(
            weights,
            unreadable={
                key.removeprefix(prefix): why for key, why in unreadable.items() if key in inner
            },
            triples={
                key: numbers
                for key, numbers in weights.triples.items()
                if not (prefix and key.startswith(prefix))
            },
        ),
        {key.removeprefix(prefix): array for key, array in arrays.items() if key in inner},
        notes,
    )


def told_passed_over(
    weights: Weights,
    arrays: Arrays,
    used: Collection[str],
    prefix: str,
    prefixes: list[str],
    name: str | os.PathLike,
) -> list[str]:
    """[a line on what the file holds beside the arrays `used`], or [].

    Raises UserError for anything that may be part of the network.
    """
    strange: list[str] = []
    harmless: list[str] = []
    # The state dict that the network is in: an entry of the file, or all of it.
    place = next(iter(used)).split(".")[0]
    state_dict = f"{place}." if place in weights.entries else ""
    unreadable = without_wrappers(weights.unreadable, name)
    for key in [*arrays, *unreadable]:
        if key in used:
            continue
        array, outside = arrays.get(key), not key.startswith(prefix)
        counts = array is not None and array.dtype.kind in "iub"
        single = array is not None and array.size == 1
        levels = array is not None and array.size == 3 and PIXEL_LEVELS.search(key)
        words = _OF_A_TRAINING if outside else set() if prefix else _OF_AN_OPTIMIZER
        if outside and key.startswith(state_dict) and array is not None and array.ndim > 1:
            words = _MAY_BE_KERNELS  # metric_fc is a layer, and so may be whatever has a kernel
        sound = (
            any(key.startswith(one) for one in prefixes if outside or len(one) > len(prefix))
            or _words(_beside(key, prefix)) & words
            or outside
            and (counts or (single or levels) and not key.startswith(state_dict))
            or counts
            and single
            and key.split(".")[-1] in _COUNTERS
        )
        (harmless if sound else strange).append(key)
    if strange:
        listed = first_few(
            f"{key[:80]} {arrays[key].shape if key in arrays else unreadable[key]}"
            for key in strange
        )
        raise UserError(
            f"{name} holds more than an AlexNet: {listed}; no "
            "variant uses them. If they are not part of the network, "
            "save its state_dict without them."
        )
    placed = {key.split(".")[0] for key in used}
    # An entry of a file that is a state dict itself is an array, by its whole name.
    tops = dict.fromkeys(
        top
        for entry in (*weights.entries, *harmless)
        if (top := _bare(entry).split(".")[0]) and top not in placed
    )
    if weights.class_names:
        tops = {top: None for top in tops if top not in CLASS_NAMES}
    if prefix == "":
        tops = {top: None for top in tops if top not in ("features", "classifier")}
    inner = [key for key in harmless if key.split(".")[0] in placed]
    names = [top[:40] for top in tops] + [key[:80] for key in inner]
    if not names:
        return []
    some = first_few(names, 20)
    return [f"{name}: skipped, as not part of the network: {some}."]


def _beside(key: str, prefix: str) -> str:
    """The first component of a name that is not also one of the prefix: "opt" of opt.state.0."""
    parts, of_prefix = key.split("."), prefix.split(".")
    return next(
        (part for part, own in zip(parts, [*of_prefix[:-1], *[None] * len(parts)]) if part != own),
        parts[-1],
    )
