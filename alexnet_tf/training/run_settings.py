"""What a training says of its model in the model directory, so that every command takes it."""

import contextlib
import copy
import dataclasses
import itertools
import json
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from alexnet_tf import console, disk
from alexnet_tf.classifiers import refuse_class_none
from alexnet_tf.data import class_folders, record
from alexnet_tf.data.splits import Dataset
from alexnet_tf.errors import UserError, one_line
from alexnet_tf.network import surgery
from alexnet_tf.network.layers import is_seed
from alexnet_tf.pixels import Preprocessing
from alexnet_tf.provenance import provenance
from alexnet_tf.settings import OWN, Settings
from alexnet_tf.training import checkpoints, devices, recipe
from alexnet_tf.training.plan import Plan

# What cannot change on the way, by the names in settings.json.
_IDENTITY = (
    "variant",
    "image_size",
    "dropout_rate",
    "dataset",
    "batch_size",
    "seed",
    "class_names",
    "pretrained_sha256",
    "trained_layers",
    "head_solver",
    "preprocessing",
)


# What decides what a training makes, beside these, in settings.json without a recipe: by the names
# of flags, and beside them.
_OF_TRAINING = (
    "optimizer",
    "learning_rate",
    "momentum",
    "weight_decay",
    "bias_rate",
    "schedule",
    "warmup_steps",
    "colour_noise",
)
# Where its pictures lie.
_PLACE = ("data_dir", "train_split", "validation_split", "test_split")
_OF_LOSS = ("loss", "class_weights", "label_smoothing", "augment")
_ALIKE = 1e-3  # of the greatest logit: of the same layers, whatever the order of their sums


def settings_of(
    model: keras.Model,
    dataset: Dataset,
    pixels: Preprocessing,
    plan: Plan,
    flags: dict | None = None,
    min_probability: float = 0.0,
    **others: Any,
) -> Settings:
    """The settings of a training. `flags` are those of a command; `plan` gives them to a training
    from Python; `min_probability` is that of Settings. `others` are further entries, such as those
    of a fine-tuning.

    A model that build_model did not make, or that was changed since, is described as Keras does it.
    Raises UserError for one that does not tell its configuration.
    """
    refuse_class_none(dataset.class_names, "Nothing is trained")
    variant = surgery.variant_of(model) or OWN
    opened = {"dataset": None, "data_dir": None, "seed": plan.seed} | dataset.opened_with
    identity = {"dataset": opened["dataset"], "batch_size": plan.batch_size, "seed": plan.seed}
    try:
        return Settings(
            variant,
            pixels,
            dataset.class_names,
            getattr(model, "dropout_rate", 0.0),
            flags or opened | dataclasses.asdict(plan) | {"seed": opened["seed"]},
            min_probability=min_probability,
            architecture=architecture(model, pixels) if variant == OWN else None,
            others=identity | others | provenance(),
        )
    except ValueError as error:
        raise UserError(f"Nothing is trained: {error}.") from None


def architecture(model: keras.Model, pixels: Preprocessing) -> dict:
    """As Keras writes it, with float32 in the place of mixed dtype policies: whoever opens it says
    how it computes. `model` reads what `pixels` make of images.

    Raises ValueError for a model that does not tell it, that has weights of one path, or that Keras
    would not open again as it is: one with a lambda, or that answers otherwise when it is opened.
    """
    if line := checkpoints.of_one_path(model):
        raise ValueError(line)
    try:
        config = keras.saving.serialize_keras_object(model)
    except (NotImplementedError, TypeError, ValueError) as error:
        raise ValueError(
            f"the model does not give its configuration ({one_line(error, 160)}); its classes "
            "need get_config"
        ) from None
    if '"__lambda__"' in json.dumps(config):
        raise ValueError(
            "the model has a lambda, which Keras cannot load again; make it a function or a class "
            "that is registered with keras.saving.register_keras_serializable"
        )
    config = {key: value for key, value in config.items() if key != "compile_config"}
    _check_opens_alike(model, config, pixels)
    return {key: _unmixed(value) for key, value in config.items()}


def _check_opens_alike(model: keras.Model, config: dict, pixels: Preprocessing) -> None:
    """Raises ValueError if Keras would open `model` from `config` and a checkpoint's weights as one
    that answers differently.
    """
    try:  # of a copy, for Keras takes entries out of what it reads
        with surgery.drawing_apart():
            opened = keras.saving.deserialize_keras_object(copy.deepcopy(config))
    except (TypeError, ValueError, KeyError, AttributeError):  # whoever opens it is told so
        return
    if name := surgery.other_function(model, opened):
        raise ValueError(
            f"Keras would load the model with another function than the {name}, such as its own "
            "of the same name; give yours a name that Keras does not use, and register it with "
            "keras.saving.register_keras_serializable"
        )
    stored = checkpoints.weights_of(model)
    kept = [variable for variable in opened.variables if not is_seed(variable)]
    try:
        names = checkpoints.match(stored, kept)
    except checkpoints.OtherWeights as error:
        raise ValueError(f"Keras would load the model with other weights: {error}") from None
    surgery.give_weights(opened, [(one, stored[name]) for one, name in zip(kept, names)])
    said, again, then = (surgery.logits_of_noise(one, pixels) for one in (model, model, opened))
    near = _ALIKE * np.abs(said).max()
    is_random = not np.allclose(said, again, 0, near, equal_nan=True)
    if not is_random and not np.allclose(said, then, 0, near, equal_nan=True):
        raise ValueError(
            "the model answers differently when Keras loads it again: its logits differ by up to "
            f"{np.abs(said - then).max():.3g}, and are {np.abs(said).max():.3g} at most; what a "
            "layer computes with has to be among its weights or in its get_config, and a "
            "Normalization whose weights were set needs a call of finalize_state"
        )


def _unmixed(described: Any) -> Any:
    """`described`, as Keras writes it, with float32 in the place of mixed dtype policies."""
    if isinstance(described, dict):
        return {key: _unmixed(value) for key, value in described.items()}
    if isinstance(described, list | tuple):
        return [_unmixed(value) for value in described]
    return "float32" if described in ("mixed_bfloat16", "mixed_float16") else described


def _check_architecture(
    model_dir: str | os.PathLike, stored: dict | None, new: dict | None
) -> None:
    """Raises UserError unless the layers of two models of the user's own compute the same, as far
    as they say. Names may differ: Keras numbers them anew for each model of a process.
    """
    for was, now in itertools.zip_longest(*map(surgery.layers_of, (stored or {}, new or {}))):
        if was and now and was[1:] == now[1:]:
            continue
        if was and now and was[1] == now[1]:
            entry = next(key for key in was[2] | now[2] if was[2].get(key) != now[2].get(key))
            was, now = (
                f"{one[0]} of {entry} {one[2].get(entry, 'as usual')}" for one in (was, now)
            )
        else:
            was, now = (f"{one[0]} ({one[1]})" if one else "no further layer" for one in (was, now))
        raise UserError(
            f"model_dir={model_dir} holds a model with {was} where this one has {now}; pass the "
            "model that was trained there, or another model_dir."
        )


def check_apart(
    model_dir: str | os.PathLike, dataset: Dataset, parameter: str = "model_dir"
) -> None:
    """Raises UserError if what is written to `model_dir`, the value of `parameter`, would be taken
    for a class of `dataset`, whose class folders lie beside it, or for pictures of one.
    """
    if dataset.opened_with.get("dataset") != "folder":
        return
    root = pathlib.Path(dataset.opened_with["data_dir"])
    folder = pathlib.Path(model_dir).resolve()
    around = [one for one in (folder, *folder.parents) if one.is_relative_to(root.resolve())]
    if any(class_folders.holds_class(one, dataset.class_names) for one in around if one.is_dir()):
        raise UserError(
            f"{parameter}={model_dir} lies among the classes in data_dir={root}; pass a "
            f"{parameter} outside."
        )


def check(
    model_dir: str | os.PathLike,
    settings: Settings,
    dataset: Dataset,
    seen_before: record.Record | None = None,
) -> str | None:
    """What has changed of the pictures since the training in `model_dir` began: a line, or None.
    `seen_before` are those that the layers below the projection had been trained on before that.

    Raises UserError if `model_dir` holds a model of other settings, cannot be written, lies among
    the classes, or was trained on pictures that are to judge it now.
    """
    checkpoints.check_writable(model_dir)
    check_apart(model_dir, dataset)
    stored, seen = begun(model_dir)
    if stored is None:
        return None
    new = settings.to_json()
    names = [name for name in _IDENTITY if name != "batch_size" or not _trains_one_layer(new)]
    checkpoints.check_same(model_dir, stored, {name: new.get(name) for name in names})
    inits = [told.get("flags", {}).get("init") or "source2012" for told in (stored, new)]
    checkpoints.check_same(model_dir, *({"init": init} for init in inits))
    _check_architecture(model_dir, stored.get("architecture"), new.get("architecture"))
    anew = _trains_one_layer(new)
    line = record.check_goes_on(model_dir, seen, dataset, seen_before, anew)
    if line or anew:
        return line
    state = checkpoints.newest_state(model_dir)
    if state is None or state.data in (None, dataset.fingerprint):
        return None
    return (
        f"{model_dir}: since this training began, pictures have changed their classes or their "
        "order"
    )


def begun(model_dir: str | os.PathLike) -> tuple[dict | None, record.Record | None]:
    """(settings, record of the pictures) of the training that has left a checkpoint in `model_dir`;
    None for each that there is not. One that never made a step, for want of memory say, binds
    nobody.

    Raises UserError where they cannot be read, and for checkpoints without settings.
    """
    if checkpoints.newest_step(model_dir) < 0:
        return None, None
    stored = checkpoints.read_settings(model_dir)
    if stored is None:
        raise UserError(
            f"model_dir={model_dir} holds checkpoints, but no settings.json, which describes "
            "their training; restore it from a copy, or pass another model_dir."
        )
    return stored, record.read(model_dir)


def _trains_one_layer(settings: dict) -> bool:
    """Whether only the projection is trained, which starts over whatever the batches were."""
    return len(settings.get("trained_layers", ())) == 1


@contextlib.contextmanager
def held(
    strategy: tf.distribute.Strategy,
    model_dir: str | os.PathLike,
    settings: Settings,
    dataset: Dataset,
    seen_before: record.Record | None = None,
    note: Callable[[str], None] = console.note,
    dry_run: bool = False,
) -> Iterator[Callable[..., None]]:
    """Keeps other trainings out of `model_dir`, and yields the function that writes the settings
    there, and the record of the pictures: those of `dataset`, and those that the layers below the
    projection had `seen_before`. It is to be called when nothing is left that could be refused:
    what trains nothing leaves them as they are. A projection that was trained anew is written by
    `save`, its argument, so that the three go together: see _save_between. A `dry_run` keeps nobody
    out, and calls it not.

    All workers have to call both; the chief writes, and tells by `note` what `check` does. Raises
    UserError on all as `check` does, and if another training is at work there.
    """
    with contextlib.ExitStack() as until_trained:

        def begin() -> None:
            if not devices.is_chief(strategy):
                return
            line = check(model_dir, settings, dataset, seen_before)
            if dry_run:
                disk.check_unlocked(model_dir)
            else:
                until_trained.enter_context(disk.locked(model_dir))
                checkpoints.remove_unfinished(model_dir)
            if line:
                note(line)

        def write(save: Callable[[], None] | None = None) -> None:
            if not devices.is_chief(strategy):
                return
            stored, seen = begun(model_dir)
            seen_now = _record_of(settings, dataset, seen_before, seen)
            if save and stored:
                _save_between(model_dir, save, seen, seen_now)
            checkpoints.write_settings(model_dir, settings.to_json())
            if seen_now:
                record.write(model_dir, seen_now)
            if save and not stored:  # no checkpoint is to lie where there are no settings
                save()

        devices.together(strategy, begin)
        yield lambda save=None: devices.together(strategy, lambda: write(save))


def _record_of(
    settings: Settings,
    dataset: Dataset,
    seen_before: record.Record | None,
    seen: record.Record | None,
) -> record.Record | None:
    """The record of a training by `settings`, where `seen` is there; None where pictures are not
    known.
    """
    here, trunk = record.of(dataset), None
    if here is None:
        return None
    if _trains_one_layer(settings.others):
        # a projection is trained anew, and has seen nothing else than is there
        seen, trunk = None, seen_before or record.Record()
    return dataclasses.replace(record.union([seen, seen_before, here]), trunk=trunk)


def _save_between(
    model_dir: str | os.PathLike,
    save: Callable[[], None],
    before: record.Record | None,
    after: record.Record | None,
) -> None:
    """Calls `save`, which writes a checkpoint in the place of another, while the record is that of
    both: whichever is there when a process is killed, none of its pictures counts as unseen. One
    that cannot be written leaves the record as it was.
    """
    if not (before and after):
        save()
        return
    record.write(model_dir, dataclasses.replace(before | after, trunk=after.trunk))
    try:
        save()
    except UserError:
        with contextlib.suppress(UserError):  # where there is no room for that either
            record.write(model_dir, before)
        raise


def flags_of(stored: dict) -> dict[str, Any]:
    """The flags in `stored`, settings as JSON, but of the batch size what was made of it."""
    return stored.get("flags", {}) | {"batch_size": stored.get("batch_size")}


def are_of(
    model_dir: str | os.PathLike,
    settings: Settings,
    dataset: Dataset,
    seen_before: record.Record | None,
    flags: Iterable[str],
) -> bool:
    """Whether the settings in `model_dir` have the `flags`, names, of `settings`, and the record is
    that of such a training: a process may have been killed before it wrote them.
    """
    stored, seen = begun(model_dir)
    were, are = map(flags_of, (stored or {}, settings.to_json()))
    seen_now = _record_of(settings, dataset, seen_before, seen)
    is_same = seen_now is None or seen is not None and seen.to_bytes() == seen_now.to_bytes()
    return is_same and all(were.get(name) == are.get(name) for name in flags)


def keep_place(model_dir: str | os.PathLike, settings: Settings) -> None:
    """Writes to `model_dir` where its pictures lie by `settings`, which a training has gone by:
    where nothing was left to train, its settings stay as they were otherwise.
    """
    stored = checkpoints.read_settings(model_dir)
    if stored is None:
        return
    were, are = stored.get("flags", {}), settings.flags
    if all(were.get(name) == are.get(name) for name in _PLACE):
        return
    flags = were | {name: are.get(name) for name in _PLACE if name in were or name in are}
    checkpoints.write_settings(model_dir, stored | {"flags": flags})


def without_effect(model_dir: str | os.PathLike, settings: Settings) -> list[str]:
    """The names of settings that differ from those in `model_dir`, whose training is over, and
    would have trained another network.
    """
    stored = checkpoints.read_settings(model_dir) or {}
    new = settings.to_json()
    were, are = stored.get("flags", {}), new["flags"]

    def flags(names: tuple[str, ...]) -> list[str]:
        both = [name for name in names if name in were and name in are]
        return [name for name in both if were[name] != are[name]]

    if "recipe" in stored and "recipe" in new:
        same_python = stored.get("python") == new.get("python")
        found = recipe.others_in(stored["recipe"], new["recipe"], same_python)
        return found + flags(("patience", "deterministic"))
    # of an earlier version
    return flags(_OF_TRAINING) + [name for name in _OF_LOSS if stored.get(name) != new.get(name)]
