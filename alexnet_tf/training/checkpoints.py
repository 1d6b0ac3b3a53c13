"""The model directory: settings and checkpoints; and the weights file, a model in one file. This
file alone knows their layout.

    MODEL_DIR/
      settings.json              what the model is and how it is trained
      metrics.jsonl, tensorboard/  how it went: alexnet_tf/training/metrics.py
      evaluation.json            how right its last answers to a data set were, class by class
      checkpoints/step-00000600/
        weights.npz              float32 arrays by variable path: "conv1a/kernel", ...;
                                 numpy.load reads it
        optimizer.npz            the velocities, likewise
        state.json               step, schedule state, last evaluation
        last.npz                 where weights.npz has the best of earlier steps: those of this
                                 one, from which a longer training goes on
        SHA256SUMS               of them; `sha256sum -c` reads it

    NAME.npz                   what weights.npz holds, and as uint8 "settings.json", that text, and
                               "pictures.npz", the record of what it was trained on, if there is
                               one
    NAME.safetensors           the same arrays, as alexnet export writes them, with the manifest of
                               the export and its labels among its metadata

All appear when they are complete and on disk (`disk.appearing`), so what carries their name is
whole.
"""

import collections
import contextlib
import dataclasses
import hashlib
import itertools
import json
import os
import pathlib
import re
import shlex
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from alexnet_tf import archives, bounds, disk
from alexnet_tf.bounds import LABELS, MANIFEST
from alexnet_tf.data import record
from alexnet_tf.errors import UserError, one_line
from alexnet_tf.manifest import Manifest, not_of_ours
from alexnet_tf.network import surgery
from alexnet_tf.network.layers import is_seed
from alexnet_tf.settings import Settings, check_metrics
from alexnet_tf.training.state import TrainingState
from alexnet_tf.weights import contents, conversion, formats, statements

if TYPE_CHECKING:
    from alexnet_tf.training.optimizer import SGD2012

IF_NOT_FINITE = (
    "try a lower learning_rate or a longer warmup_steps. Any checkpoints there are from before "
    "that."
)
_IMPORT = "alexnet import-weights --source={} --output={}"
_IMPORT_AS = {  # by the order of channels, if that has to be said, too
    None: "alexnet import-weights --source={} --output={} --variant=caffe (or caffenet,"
    " whichever it is)",
    "rgb": "alexnet import-weights --source={} --output={} --variant=caffe --channel_order=rgb"
    " (or caffenet and bgr, whichever it is)",
}
_KEEP = 2
SETTINGS, WEIGHTS = "settings.json", "weights.npz"
_OPTIMIZER, _STATE, _LAST = "optimizer.npz", "state.json", "last.npz"
_SUMMED = WEIGHTS, _OPTIMIZER, _STATE
_STEP = re.compile(r"step-(\d{8})")  # the name of a checkpoint
_EVALUATION = "evaluation.json"


def holds_model(model_dir: str | os.PathLike) -> bool:
    """Whether there are settings, damaged or not, of a training."""
    return (pathlib.Path(model_dir) / SETTINGS).exists()


def read_settings(model_dir: str | os.PathLike) -> dict | None:
    """Returns the settings stored in `model_dir`, JSON that Settings.from_json takes, or None where
    there are none.

    Raises UserError if they are damaged, or out of bounds.
    """
    path = pathlib.Path(model_dir) / SETTINGS
    try:
        return Settings.from_json(disk.read_bytes(path)).to_json()
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path} cannot be read ({error}); is {model_dir} a model directory?"
        ) from None


def check_same(model_dir: str | os.PathLike, stored: dict | None, identity: dict) -> None:
    """Raises UserError if `stored`, the settings in `model_dir` or None, differ in what cannot
    change on the way.
    """
    if stored is None:
        return
    for name, value in identity.items():
        if stored.get(name) != value:
            was, now = told_apart(stored.get(name), value)
            raise UserError(
                f"model_dir={model_dir} holds a model of {name} {was}, not {now}; pass another"
                " model_dir."
            )


def told_apart(was: Any, now: Any) -> tuple[str, str]:
    """Two different entries of settings, as short as may be; of lists, what differs first."""
    if not (isinstance(was, list) and isinstance(now, list)):
        return str(was), str(now)
    if len(was) != len(now):
        return _counted(was), _counted(now)
    place = next(place for place, (a, b) in enumerate(zip(was, now)) if a != b)
    return f"{was[place]} at place {place}", f"{now[place]}"


def _counted(values: list) -> str:
    return f"{len(values)} ({values[0]} to {values[-1]})" if values else "none"


def write_settings(model_dir: str | os.PathLike, settings: dict) -> None:
    """Writes settings.json, creating `model_dir`. Raises UserError if it cannot be written."""
    path = pathlib.Path(model_dir)
    try:
        path.mkdir(parents=True, exist_ok=True)
        disk.replace_text(path / SETTINGS, json.dumps(settings, indent=1) + "\n")
    except OSError as error:
        raise disk.unwritable(model_dir, error) from None


def check_writable(model_dir: str | os.PathLike) -> None:
    """Raises UserError unless checkpoints could be written below `model_dir`; leaves nothing
    behind.
    """
    folder = pathlib.Path(model_dir).absolute()
    if disk.is_called_as_a_file(folder):
        raise UserError(
            f"model_dir={model_dir} is named like a file, but a training writes a folder; pass "
            f"one, such as model_dir={pathlib.Path(model_dir).with_suffix('')}."
        )
    if versions := disk.numbered(folder):
        raise UserError(
            f"model_dir={model_dir} holds versions of an export ({min(versions)}/), which would "
            "be opened instead of what is trained; pass another model_dir."
        )
    try:
        while not folder.exists():
            folder = folder.parent
        if not folder.is_dir():
            raise UserError(f"model_dir={model_dir}: {folder} is a file; pass a folder.")
        os.rmdir(tempfile.mkdtemp(prefix=".probe-", dir=folder))
    except OSError as error:
        raise disk.unwritable(model_dir, error) from None


def save(
    model_dir: str | os.PathLike,
    model: keras.Model,
    optimizer: "SGD2012",
    state: TrainingState,
    keep: int | None = None,
) -> None:
    """Writes the checkpoint of `state`, a TrainingState, and removes all but the newest two and
    that of the step `keep`. Of one that is there already, the last weights stay.

    Raises UserError if it cannot be written, or if a weight is not finite; what was there is
    untouched.
    """
    last = None
    if has_last(model_dir, state.step):
        last = _stored(_folder(model_dir) / _name(state.step) / _LAST)
    write(model_dir, copy_of(model, optimizer, last), state, keep)


def copy_of(
    model: keras.Model, optimizer: "SGD2012", last: dict[str, np.ndarray] | None = None
) -> dict[str, dict[str, np.ndarray]]:
    """A copy in memory of what `write` writes of the two: {file: {path of a variable: array}}.
    `last` are the weights_of the last step, if those of `model` are from another.
    """
    files = {WEIGHTS: weights_of(model), _OPTIMIZER: _arrays(optimizer.velocities)}
    return files | ({_LAST: last} if last else {})


def weights_of(model: keras.Model) -> dict[str, np.ndarray]:
    """All that a checkpoint keeps of `model`, by path, in memory of its own."""
    return _arrays(model.variables)


def has_step(model_dir: str | os.PathLike, step: int) -> bool:
    """Whether there is a checkpoint of `step`, readable or not."""
    return (_folder(model_dir) / _name(step)).is_dir()


def has_last(model_dir: str | os.PathLike, step: int) -> bool:
    """Whether the weights of the checkpoint of `step` are not those that the training had then,
    which it has too.
    """
    return (_folder(model_dir) / _name(step) / _LAST).exists()


def write(
    model_dir: str | os.PathLike,
    arrays: dict[str, dict[str, np.ndarray]],
    state: TrainingState,
    keep: int | None = None,
) -> None:
    """`save` of the `arrays` of copy_of."""
    for name, array in (item for file in arrays.values() for item in file.items()):
        if not np.isfinite(array).all():
            raise UserError(f"{name} is not finite after step {state.step}; {IF_NOT_FINITE}")
    folder, name = _folder(model_dir), _name(state.step)

    def make_way() -> None:
        """Moves aside the checkpoint of this step, which may be written again with an evaluation or
        a temperature, and later ones: they are damaged, or training would have started after them.
        """
        for other in _steps(model_dir):
            if other.name >= name:
                replaced = other.with_name(f".{other.name}.replaced")
                shutil.rmtree(replaced, ignore_errors=True)  # what could not be removed then
                other.rename(replaced)

    try:
        with disk.appearing(folder / name, folder=True, make_way=make_way) as unfinished:
            for file, content in arrays.items():
                _savez(unfinished.path / file, content)
            (unfinished.path / _STATE).write_text(json.dumps(state.to_json()))
            (unfinished.path / disk.SUMS).write_text(
                disk.sums(unfinished.path, _summed(unfinished.path))
            )
    except OSError as error:
        remove_unfinished(model_dir)
        raise UserError(
            f"The checkpoint of step {state.step} could not be written to {folder} "
            f"({error.strerror or error}); make room and start again: the previous one is "
            "untouched."
        ) from None
    old = [one for one in _steps(model_dir)[_KEEP:] if one.name != _name(keep or 0)]
    for path in [*folder.glob(".step-*.replaced"), *old]:
        shutil.rmtree(path, ignore_errors=True)  # what stays is removed after the next


def _savez(file: Any, arrays: Mapping[str, Any]) -> None:
    """numpy.savez, of arrays of any name: to its types one might be allow_pickle."""
    np.savez(file, **arrays)


def write_evaluation(model_dir: str | os.PathLike, model: keras.Model, evaluation: dict) -> None:
    """Keeps what was measured of the weights of `model`, JSON, for the exports of `model_dir`.

    Raises UserError if it cannot be written.
    """
    path = pathlib.Path(model_dir) / _EVALUATION
    content = {"weights_sha256": weights_digest(model)} | evaluation
    try:
        disk.replace_text(path, json.dumps(content, indent=1) + "\n")
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror}); make room.") from None


def read_evaluation(model_dir: str | os.PathLike, digest: str) -> dict | None:
    """What `write_evaluation` kept, or None where that was of other weights than those of `digest`,
    by weights_digest, or nothing was.
    """
    try:
        content = json.loads(disk.read_bytes(pathlib.Path(model_dir) / _EVALUATION))
        stored = content.pop("weights_sha256")
        check_metrics(content)
    except (OSError, ValueError, KeyError, AttributeError):
        return None
    return content if stored == digest else None


def is_weights_file(path: str | os.PathLike) -> bool:
    """Whether the file is one that load_model may read: .npz or .safetensors, by its content."""
    with open(path, "rb", opener=disk.regular) as stream:
        start = stream.read(10)
    zipped = start.startswith(b"PK") and pathlib.Path(path).suffix.lower() != ".keras"
    return zipped or start[8:] in (b'{"', b"{}")


def is_of_checkpoint(path: str | os.PathLike, names: Iterable[str]) -> bool:
    """Whether a file with arrays of these `names` is the weights.npz of a checkpoint, wherever it
    lies now: other programs call theirs so too.
    """
    file = pathlib.Path(path).absolute()
    is_in_step = _STEP.fullmatch(file.parent.name) is not None
    return file.name == WEIGHTS and (is_in_step or all("/" in name for name in names))


@dataclasses.dataclass(frozen=True)
class Loaded:
    """What `load_model` read."""

    model: keras.Model
    settings: Settings
    step: int  # of its training; a weights file may have none, which is 0
    figures: dict | None  # of its evaluation, or those that were published
    record: record.Record | None  # of the pictures that it was trained on


def load_model(model_dir: str | os.PathLike, report: Callable[[str], None] = print) -> Loaded:
    """Builds the model of `model_dir`, a model directory, the weights.npz of one of its checkpoints
    or a weights file, and loads its weights: of a model directory those of the newest whole
    checkpoint, as `restore` does, its logits divided by the temperature of its state.

    Returns a Loaded. Raises UserError if there is no trained model.
    """
    if pathlib.Path(model_dir).is_file():
        return _load_weights_file(model_dir, report)
    return _load_checkpoint(model_dir, report)


def _load_checkpoint(
    model_dir: str | os.PathLike, report: Callable[[str], None], step: int | None = None
) -> Loaded:
    stored = read_settings(model_dir)
    untrained = f"{model_dir} holds no trained model; train one with alexnet train."
    if stored is None or newest_step(model_dir) < 0:
        raise UserError(untrained)
    settings = Settings.from_json(stored)
    try:
        model = settings.build()
    except UserError:
        raise
    except ValueError as error:
        raise UserError(f"{model_dir} holds settings.json, but {error}.") from None
    state = restore(model_dir, model, report=report, step=step)
    if state is None:  # its checkpoints were removed meanwhile
        raise UserError(untrained)
    surgery.cool(model, state.temperature)
    return Loaded(model, settings, state.step, state.figures, record.read(model_dir))


def write_weights_file(
    path: str | os.PathLike,
    arrays: Mapping[str, np.ndarray],
    settings: dict,
    pictures: record.Record | None = None,
) -> None:
    """Writes `arrays` by variable path, and what load_model and the binaries ask of settings.json,
    to one file.

    `settings` are JSON, those of a model directory, and "source": {"published": figures or None,
    ...}; `pictures` is the data.record.Record of what it was trained on, or None. Raises UserError
    if they are none that a weights file may have, if the arrays are not those of the model that
    they describe, or if `path` cannot be written.
    """
    try:
        stored = _settings_of_weights(settings)
        _build(arrays, stored)
        text = json.dumps(stored.to_json(), indent=1).encode()
        texts = {SETTINGS: text} | ({record.FILE: pictures.to_bytes()} if pictures else {})
        told = {name: np.frombuffer(content, np.uint8) for name, content in texts.items()}
        with disk.appearing(path) as unfinished, open(unfinished.path, "wb") as stream:
            _savez(stream, {**arrays, **told})
    except ValueError as error:
        raise UserError(f"{path} is not written: {error}.") from None
    except OSError as error:
        raise UserError(
            f"{path} cannot be written ({error.strerror}); pass another output."
        ) from None


def _load_weights_file(path: str | os.PathLike, report: Callable[[str], None]) -> Loaded:
    ours = "a model directory, a weights file that alexnet import-weights wrote, or an export"
    weights = formats.parse(formats.read_content(path), path, ours)
    if MANIFEST in weights.metadata:
        return _of_safetensors(path, weights)
    arrays = dict(weights.arrays)
    if SETTINGS not in arrays:
        file = pathlib.Path(path).absolute()
        if file.name == WEIGHTS and (file.parents[2] / SETTINGS).is_file():
            step = _STEP.fullmatch(file.parent.name)
            if step:
                return _load_checkpoint(file.parents[2], report, int(step[1]))
        raise UserError(
            f"{path} is not a weights file of this project, which would hold the settings of its"
            f" network too; {_how_to_import(pathlib.Path(path), weights)} makes one from it, to"
            " pass instead."
        )
    try:
        if weights.unreadable:
            name, reason = next(iter(weights.unreadable.items()))
            raise ValueError(f"{name[:80]!r} {reason}")
        settings = _settings_of_weights(arrays.pop(SETTINGS).tobytes())
        figures, seen = (settings.source or {})["published"], _pop_record(arrays, path)
        return Loaded(_build(arrays, settings), settings, 0, figures, seen)
    except UserError:
        raise
    except ValueError as error:
        raise UserError(
            f"{path} is not a weights file that alexnet import-weights wrote ({one_line(error)})."
        ) from None


def _of_safetensors(path: str | os.PathLike, weights: contents.Weights) -> Loaded:
    """As load_model, of a file that alexnet export wrote."""
    texts = weights.metadata
    try:
        manifest = Manifest.from_json(texts[MANIFEST], texts[LABELS].splitlines())
        settings = manifest.settings.of_a_stranger()
        arrays = dict(weights.arrays)
        seen = _pop_record(arrays, path)
        model = _build(arrays, settings)
        if manifest.weights_sha256 not in ("", weights_digest(model, arrays)):
            raise UserError(
                f"{path} is damaged: its weights do not match its manifest; copy it again, or "
                "export again."
            )
        return Loaded(model, settings, manifest.step, manifest.evaluation, seen)
    except UserError:
        raise
    except (ValueError, KeyError) as error:
        raise not_of_ours(path, error) from None


def _pop_record(arrays: dict[str, np.ndarray], path: str | os.PathLike) -> record.Record | None:
    """The data.record.Record among `arrays`, which it leaves, or None."""
    stored = arrays.pop(record.FILE, None)
    return record.stored(None if stored is None else stored.tobytes(), path)


def _how_to_import(path: pathlib.Path, weights: contents.Weights) -> str:
    """The command that makes a weights file of the `weights` in the file `path`, as others store
    them. Raises UserError where none does.
    """
    if is_of_checkpoint(path, weights.arrays):
        raise UserError(
            f"{path} is not in a model directory, which would describe its pixels; pass the model"
            " directory."
        )
    output = path.with_suffix(".npz")
    if output.exists():
        output = path.with_name(f"{path.stem}-imported.npz")
    files = [shlex.quote(str(one)) for one in (path, output)]
    try:
        conversion.convert(weights, path)
        return _IMPORT.format(*files)
    except UserError as error:
        reason = error
    # Two variants have the same arrays, which may be all that a file leaves open; or the order of
    # its channels, too.
    for order, command in _IMPORT_AS.items():
        with contextlib.suppress(UserError):
            conversion.convert(weights, path, statements.Stated("caffe", channel_order=order))
            return command.format(*files)
    raise reason


def _settings_of_weights(content: bytes | dict) -> Settings:
    """The Settings of a weights file, which may come from anywhere. Raises ValueError."""
    settings = Settings.from_json(content).of_a_stranger()
    there = {"source": settings.source, "versions": settings.others.get("versions")}
    if missing := [name for name, value in there.items() if value is None]:
        raise ValueError(f"its settings lack {', '.join(missing)}")
    return settings


def _build(arrays: Mapping[str, np.ndarray], settings: Settings) -> keras.Model:
    """The model that `settings` describe, with its weights. Raises ValueError if `arrays` are not
    its weights.
    """
    model = settings.build()
    expected = {variable.path: tuple(variable.shape) for variable in model.weights}
    for name in sorted(expected.keys() ^ arrays.keys()):
        what = "missing" if name in expected else f"not a weight of {settings.variant}"
        raise ValueError(f"{name[:80]!r} is {what}")
    for name, array in arrays.items():
        if array.dtype.kind != "f":
            raise ValueError(f"{name} holds {array.dtype}, but weights are floating-point numbers")
        if array.shape != expected[name] or not np.isfinite(array).all():
            raise ValueError(
                f"{name} has the shape {array.shape}, or numbers that are not finite, instead of"
                f" {expected[name]}"
            )
        bounds.check_trained(name, array)
    surgery.give_weights(model, [(one, arrays[one.path]) for one in model.weights])
    return model


def restore(
    model_dir: str | os.PathLike,
    model: keras.Model,
    optimizer: "SGD2012 | None" = None,
    report: Callable[[str], None] = print,
    step: int | None = None,
    last: bool = False,
) -> TrainingState | None:
    """Loads the newest whole checkpoint into `model` (and `optimizer`); returns its TrainingState,
    or None where there is none.

    With `step` it is that one or none; with `last` the weights are those that the training had
    then, where the network's are others. A damaged checkpoint is named through `report` and the one
    before it is taken. Raises UserError if all are damaged: a training that has begun never starts
    again from nothing unasked; and if the weights are those of another model.
    """
    checkpoints = [path for path in _steps(model_dir) if step is None or path.name == _name(step)]
    for checkpoint in checkpoints:
        try:
            disk.check_sums(checkpoint, _summed(checkpoint))
            state = _read_state(checkpoint)
            file = _LAST if last and has_last(model_dir, state.step) else WEIGHTS
            weights = _read(checkpoint / file, model.variables)
            velocities = _read(checkpoint / _OPTIMIZER, optimizer.velocities) if optimizer else []
        except OtherWeights as error:
            raise UserError(
                f"{checkpoint} holds the weights of another network: {error}; build the model as "
                "it was when it was trained, including the names of its layers, or pass another "
                "model_dir."
            ) from None
        except (OSError, ValueError, KeyError) as error:
            instead = "; trying the one before" if step is None else ""
            report(f"{checkpoint} is damaged ({one_line(error, 160)}){instead}.")
            continue
        surgery.give_weights(model, weights + velocities)
        if optimizer:
            optimizer.iterations.assign(state.step)
        return state
    if checkpoints or step is not None:
        raise UserError(
            f"{model_dir}: none of its {len(checkpoints)} checkpoints can be read; restore one from"
            " a copy, or pass another model_dir to start from scratch."
        )
    return None


def _summed(checkpoint: pathlib.Path) -> tuple[str, ...]:
    """The files of a checkpoint, except the one that holds their checksums."""
    return (*_SUMMED, _LAST) if (checkpoint / _LAST).exists() else _SUMMED


def weights_digest(model: keras.Model, arrays: Mapping[str, np.ndarray] | None = None) -> str:
    """sha256 over all weights in the order of their paths: tells whether two models have the same
    weights. The paths of a model that is not one of the variants, which change from one process to
    the next, do not count: its weights are taken in its own order.

    `arrays` by path take the place of the weights: those of a file, which a model in half precision
    rounds. Where all numbers in float64 are ones of float32, they count as such: Keras opens any
    file in float64 after set_floatx.
    """
    digest, weights = hashlib.sha256(), model.weights
    if hasattr(model, "variant"):
        weights = sorted(weights, key=lambda variable: variable.path)
    values = [variable.value if arrays is None else arrays[variable.path] for variable in weights]
    in_single = all(map(_is_of_single, values))
    for variable, value in zip(weights, values):
        digest.update(variable.path.encode() if hasattr(model, "variant") else b"")
        array = np.ascontiguousarray(value)
        if in_single and array.dtype == np.float64:
            array = array.astype(np.float32)
        # NumPy says that an array is a buffer from Python 3.12 on, where Python can say so
        digest.update(array)  # type: ignore[arg-type]
    return digest.hexdigest()


def _is_of_single(value: Any) -> bool:
    """Whether float32 holds the numbers of an array or a tensor exactly, if it is in float64."""
    if "float64" not in str(value.dtype):
        return True
    array = np.asarray(value)
    with np.errstate(over="ignore"):
        return np.array_equal(array, array.astype(np.float32))


def newest_step(model_dir: str | os.PathLike) -> int:
    """The step of the newest checkpoint, readable or not; -1 where there is none."""
    return max((int(path.name[-8:]) for path in _steps(model_dir)), default=-1)


def newest_state(model_dir: str | os.PathLike) -> TrainingState | None:
    """The TrainingState in the newest checkpoint, whose other files may be damaged; None where
    there is none that can be read.
    """
    try:
        return _read_state(_steps(model_dir)[0])
    except (IndexError, OSError, ValueError):
        return None


def _read_state(checkpoint: pathlib.Path) -> TrainingState:
    """Raises OSError and ValueError."""
    return TrainingState.from_json(json.loads(disk.read_bytes(checkpoint / _STATE)))


def remove_unfinished(model_dir: str | os.PathLike) -> None:
    """Removes what killed runs left of checkpoints that they did not finish, and of those that they
    replaced; one that was to be replaced, and was not, is there again.
    """
    for path in _folder(model_dir).glob(".step-*"):
        whole = path.with_name(path.stem.removeprefix("."))
        if path.suffix == ".replaced" and not whole.exists():
            with contextlib.suppress(OSError):  # at the next start
                path.rename(whole)
        else:
            shutil.rmtree(path, ignore_errors=True)


def _steps(model_dir: str | os.PathLike) -> list[pathlib.Path]:
    found = _folder(model_dir).glob("step-*")
    return sorted((path for path in found if _STEP.fullmatch(path.name)), reverse=True)


def _folder(model_dir: str | os.PathLike) -> pathlib.Path:
    return pathlib.Path(model_dir) / "checkpoints"


def _name(step: int) -> str:
    return f"step-{step:08d}"


def paths(model: keras.Model) -> list[str]:
    """The paths of `model`'s variables that a checkpoint keeps, by which it tells them apart."""
    return [variable.path for variable in model.variables if not is_seed(variable)]


def of_one_path(model: keras.Model) -> str | None:
    """What to say of a model with weights of one path, of which a file by paths would keep one; or
    None. Keras puts no name of a model within a model into the paths of its weights.
    """
    for path, count in collections.Counter(paths(model)).most_common(1):
        if count > 1:
            return (
                f"{count} weights of the model are called {path}, and a checkpoint would keep "
                "only one of them; give their layers different names, or build each part of the "
                "model in a scope, as with keras.name_scope('left'): left = AlexNet(...)"
            )
    return None


def _arrays(variables: Iterable[keras.Variable]) -> dict[str, np.ndarray]:
    return {
        variable.path: owned(np.asarray(variable.value))
        for variable in variables
        if not is_seed(variable)
    }


def owned(array: np.ndarray) -> np.ndarray:
    """`array`, or a copy where its memory is that of a tensor, which the next step may change."""
    return array if array.flags.owndata else array.copy()


def match(stored: Mapping[str, np.ndarray], variables: Sequence[keras.Variable]) -> list[str]:
    """The names of `variables`, a list, among those of `stored`, which are in the order of the
    model that they were stored of.

    They are the paths of the variables, or differ in what Keras puts into names of its own accord
    alone: it numbers the layers of a process as they are made (dense, dense_1), and puts the name
    of a Sequential model before the paths of its variables where it was built layer by layer, and
    not where it was made from its configuration. So their order comes first, which is that of what
    is computed; where it does not fit names without numbers, and shapes, names tell. Raises
    OtherWeights for any others.
    """
    names, paths = list(stored), [variable.path for variable in variables]
    if len(names) == len(paths) and all(
        _end_alike(_without_numbers(name), _without_numbers(variable.path))
        and stored[name].shape == tuple(variable.shape)
        for name, variable in zip(names, variables)
    ):
        return names
    for key in (str, _without_numbers):
        theirs, ours = ({key(name): name for name in some} for some in (names, paths))
        if theirs.keys() == ours.keys() and len(theirs) == len(names) == len(ours) == len(paths):
            return [theirs[key(path)] for path in paths]
    for name, path in itertools.zip_longest(names, paths):
        if not (name and path and _end_alike(_without_numbers(name), _without_numbers(path))):
            raise OtherWeights(
                f"{name or 'nothing'!r} stands where this model has {path or 'nothing'!r}"
            )
    return names


def _without_numbers(path: str) -> tuple[str, ...]:
    """The words of a path but for the optimizer, whose velocities have paths of one part."""
    words = re.split("[/_]", path.rpartition("sgd2012/")[2])
    return tuple(word for word in words if not word.isdecimal())


def _end_alike(words: Sequence[str], others: Sequence[str]) -> bool:
    least = min(len(words), len(others))
    return words[-least:] == others[-least:]


def stored_as(path: str, names: Collection[str]) -> str:
    """The name of the variable `path` among `names`, which are in no order: those of a SavedModel.

    As with `match`, they may begin with the name of a Sequential model.
    """
    longer = [name for name in names if name.endswith(f"/{path}")]
    return longer[0] if path not in names and len(longer) == 1 else path


class OtherWeights(Exception):
    """What differs between the weights that are stored and those of a model."""


def _read(
    path: pathlib.Path, variables: Sequence[keras.Variable]
) -> list[tuple[keras.Variable, np.ndarray]]:
    kept = [variable for variable in variables if not is_seed(variable)]
    stored, values = _stored(path), []
    for variable, name in zip(kept, match(stored, kept)):
        value = stored[name]
        if value.shape != tuple(variable.shape):
            raise OtherWeights(f"{name} is {value.shape} instead of {tuple(variable.shape)}")
        if not np.isfinite(value).all():
            raise ValueError(f"{path.name}: {variable.path} holds a number that is not finite")
        values.append((variable, value))
    return values


def _stored(path: pathlib.Path) -> dict[str, np.ndarray]:
    with open(path, "rb", opener=disk.regular) as stream:
        return archives.arrays(stream)
