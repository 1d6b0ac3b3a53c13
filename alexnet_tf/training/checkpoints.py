"""The model directory: settings and checkpoints; and the weights file, a model in one file. This
file alone knows their layout.

    MODEL_DIR/
      settings.json              what the model is and how it is trained
      metrics.jsonl, tensorboard/  how it went: alexnet_tf/training/metrics.py
      checkpoints/step-00000600/
        weights.npz              float32 arrays by variable path: "conv1a/kernel", ...;
                                 numpy.load reads it
        optimizer.npz            the velocities, likewise
        state.json               step, schedule state, last evaluation
        SHA256SUMS               of the three; `sha256sum -c` reads it

    NAME.npz                   what weights.npz holds, and "settings.json": that text, as uint8

Both are written under another name and renamed when complete and on disk, so what carries their
name is whole.
"""

import hashlib
import json
import os
import pathlib
import shutil
import tempfile
import zipfile

import numpy as np

from alexnet_tf import disk
from alexnet_tf.errors import UserError
from alexnet_tf.settings import Settings
from alexnet_tf.weights import formats

IF_NOT_FINITE = (
    "try a lower learning_rate or a longer warmup_steps. The last checkpoint is from before."
)
_KEEP = 2
_SETTINGS = "settings.json"
_SUMS = "SHA256SUMS"
_UNREADABLE = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, NotImplementedError)


def read_settings(model_dir):
    """Returns the settings stored in `model_dir`, or None where there are none.

    Raises UserError if they are damaged.
    """
    path = pathlib.Path(model_dir) / _SETTINGS
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path} cannot be read ({error}); is {model_dir} a model directory?"
        ) from None


def check_same(model_dir, stored, identity):
    """Raises UserError if `stored`, the settings in `model_dir` or None, differ in what cannot
    change on the way.
    """
    for name, value in identity.items() if stored else ():
        if stored.get(name) != value:
            was, now = (
                f"{len(v)} ({v[0]} to {v[-1]})" if isinstance(v, list) else v
                for v in (stored.get(name), value)
            )
            raise UserError(
                f"model_dir={model_dir} holds a model of {name} {was}, not {now}; pass another"
                " model_dir."
            )


def write_settings(model_dir, settings):
    """Writes settings.json, creating `model_dir`. Raises UserError if it cannot be written."""
    path = pathlib.Path(model_dir)
    try:
        path.mkdir(parents=True, exist_ok=True)
        disk.replace_text(path / _SETTINGS, json.dumps(settings, indent=1) + "\n")
    except OSError as error:
        raise UserError(
            f"model_dir={model_dir} cannot be written ({error.strerror}); pass a folder that can."
        ) from None


def check_writable(model_dir):
    """Raises UserError unless checkpoints could be written below `model_dir`; leaves nothing
    behind.
    """
    folder = pathlib.Path(model_dir).absolute()
    try:
        while not folder.exists():
            folder = folder.parent
        if not folder.is_dir():
            raise UserError(f"model_dir={model_dir}: {folder} is a file; pass a folder.")
        os.rmdir(tempfile.mkdtemp(prefix=".probe-", dir=folder))
    except OSError as error:
        raise UserError(
            f"model_dir={model_dir} cannot be written ({error.strerror}); pass a folder that can."
        ) from None


def save(model_dir, model, optimizer, state, keep=None):
    """Writes the checkpoint of state["step"] and removes all but the newest two and that of the
    step `keep`.

    Raises UserError if it cannot be written, or if a weight is not finite; what was there is
    untouched.
    """
    write(model_dir, copy_of(model, optimizer), state, keep)


def copy_of(model, optimizer):
    """What `write` writes of the two, in memory of its own: {file: {path of a variable: array}}."""
    return {
        "weights.npz": _arrays(model.variables),
        "optimizer.npz": _arrays(optimizer.velocities),
    }


def write(model_dir, arrays, state, keep=None):
    """`save` of the `arrays` of copy_of."""
    for name, array in (item for file in arrays.values() for item in file.items()):
        if not np.isfinite(array).all():
            raise UserError(f"{name} is not finite after step {state['step']}; {IF_NOT_FINITE}")
    folder = pathlib.Path(model_dir) / "checkpoints"
    name = f"step-{state['step']:08d}"
    unfinished = folder / f".{name}.{os.getpid()}"
    try:
        unfinished.mkdir(parents=True)
        for file, content in arrays.items():
            np.savez(unfinished / file, **content)
        (unfinished / "state.json").write_text(json.dumps(state))
        (unfinished / _SUMS).write_text(_sums(unfinished))
        for path in (*unfinished.iterdir(), unfinished):
            disk.flush(path)
        # this step or later: damaged, or we would have started after it
        for other in _steps(model_dir):
            if other.name >= name:
                shutil.rmtree(other)
        unfinished.rename(folder / name)
        disk.flush(folder)
    except OSError as error:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise UserError(
            f"The checkpoint of step {state['step']} could not be written to {folder}"
            f" ({error.strerror or error}); make room and start again: the one before is untouched."
        ) from None
    for old in _steps(model_dir)[_KEEP:]:
        if old.name != f"step-{keep or 0:08d}":
            shutil.rmtree(old)


def load_model(model_dir, report=print):
    """Builds the model of `model_dir`, a model directory or a weights file, and loads its weights.

    Returns (model, Settings, state): of the newest whole checkpoint, as `restore` does; a weights
    file has step 0 and, as its figures, those that were published. Raises UserError if there is no
    trained model.
    """
    if pathlib.Path(model_dir).is_file():
        return _load_weights_file(model_dir)
    stored = read_settings(model_dir)
    if stored is None or newest_step(model_dir) < 0:
        raise UserError(f"{model_dir} holds no trained model; train one with alexnet train.")
    try:
        settings = Settings.from_json(stored)
        model = settings.build()
    except ValueError as error:
        raise UserError(f"{model_dir} holds settings.json, but {error}.") from None
    return model, settings, restore(model_dir, model, report=report)


def write_weights_file(path, arrays, settings):
    """Writes `arrays` by variable path, and what load_model and the binaries ask of settings.json,
    to one file.

    `settings` are JSON, those of a model directory, and "source": {"published": figures or None,
    ...}. Raises UserError if they are none that a weights file may have, if the arrays are not
    those of the model that they describe, or if `path` cannot be written.
    """
    path = pathlib.Path(path)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        stored = _settings_of_weights(settings)
        _build(arrays, stored)
        text = json.dumps(stored.to_json(), indent=1).encode()
        with open(unfinished, "wb") as stream:
            np.savez(stream, **arrays, **{_SETTINGS: np.frombuffer(text, np.uint8)})
        disk.flush(unfinished)
        unfinished.replace(path)
    except ValueError as error:
        raise UserError(f"{path} is not written: {error}.") from None
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        raise UserError(
            f"{path} cannot be written ({error.strerror}); pass another output."
        ) from None


def _load_weights_file(path):
    arrays = dict(formats.parse(formats.read_content(path), path).arrays)
    if _SETTINGS not in arrays:
        raise UserError(
            f"{path} is no weights file of this project, which holds the settings of "
            "its network too; alexnet import-weights makes one of it."
        )
    try:
        settings = _settings_of_weights(arrays.pop(_SETTINGS).tobytes())
        figures = settings.source["published"]
        return _build(arrays, settings), settings, {"step": 0, "figures": figures}
    except ValueError as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"{path} is no weights file that alexnet import-weights wrote ({reason})."
        ) from None


def _settings_of_weights(content):
    """The Settings of a weights file, which may come from anywhere. Raises ValueError."""
    settings = Settings.from_json(content).of_a_stranger()
    there = {
        "flags": settings.flags.get("dataset"),
        "source": settings.source,
        "versions": settings.others.get("versions"),
    }
    if missing := [name for name, value in there.items() if value is None]:
        raise ValueError(f"its settings lack {', '.join(missing)}")
    return settings


def _build(arrays, settings):
    """The model that `settings` describe, with its weights. Raises ValueError if `arrays` are not
    its weights.
    """
    model = settings.build()
    expected = {variable.path: tuple(variable.shape) for variable in model.weights}
    for name in sorted(expected.keys() ^ arrays.keys()):
        what = "missing" if name in expected else f"no weight of {settings.variant}"
        raise ValueError(f"{name[:80]!r} is {what}")
    for name, array in arrays.items():
        if array.dtype.kind != "f":
            raise ValueError(f"{name} holds {array.dtype}, and weights are floating-point numbers")
        if array.shape != expected[name] or not np.isfinite(array).all():
            raise ValueError(
                f"{name} has the shape {array.shape}, or numbers that are not finite, instead of"
                f" {expected[name]}"
            )
    for variable in model.weights:
        variable.assign(arrays[variable.path])
    return model


def restore(model_dir, model, optimizer=None, report=print, step=None):
    """Loads the newest whole checkpoint into `model` (and `optimizer`); returns its state, or None
    where there is none.

    With `step` it is that one or none. A damaged checkpoint is named through `report` and the one
    before it is taken. Raises UserError if all are damaged: a training that has begun never starts
    again from nothing unasked.
    """
    checkpoints = [
        path for path in _steps(model_dir) if step is None or path.name == f"step-{step:08d}"
    ]
    for checkpoint in checkpoints:
        try:
            _check_sums(checkpoint)
            state = json.loads((checkpoint / "state.json").read_text())
            weights = _read(checkpoint / "weights.npz", model.variables)
            velocities = (
                _read(checkpoint / "optimizer.npz", optimizer.velocities) if optimizer else []
            )
        except _UNREADABLE as error:
            report(
                f"{checkpoint} is damaged ({' '.join(str(error).split())[:160]}); trying the one"
                " before."
            )
            continue
        for variable, value in zip(model.variables, weights):
            variable.assign(value)
        if optimizer:
            for variable, value in zip(optimizer.velocities, velocities):
                variable.assign(value)
            optimizer.iterations.assign(state["step"])
        return state
    if checkpoints or step is not None:
        raise UserError(
            f"{model_dir}: none of its {len(checkpoints)} checkpoints can be read; restore one from"
            " a copy, or pass another model_dir to start from nothing."
        )
    return None


def weights_digest(model):
    """sha256 over all weights in the order of their paths: tells whether two models have the same
    weights.
    """
    digest = hashlib.sha256()
    for variable in sorted(model.weights, key=lambda variable: variable.path):
        digest.update(variable.path.encode())
        digest.update(np.ascontiguousarray(variable.value))
    return digest.hexdigest()


def newest_step(model_dir):
    """The step of the newest checkpoint, readable or not; -1 where there is none."""
    return max((int(path.name.removeprefix("step-")) for path in _steps(model_dir)), default=-1)


def newest_state(model_dir):
    """The state in the newest checkpoint, whose other files may be damaged; None where there is
    none that can be read.
    """
    try:
        return json.loads((_steps(model_dir)[0] / "state.json").read_text())
    except (IndexError, OSError, ValueError):
        return None


def remove_unfinished(model_dir):
    """Removes what killed runs left of checkpoints that they did not finish."""
    for path in (pathlib.Path(model_dir) / "checkpoints").glob(".step-*"):
        shutil.rmtree(path, ignore_errors=True)


def _steps(model_dir):
    return sorted(
        (pathlib.Path(model_dir) / "checkpoints").glob("step-" + "[0-9]" * 8), reverse=True
    )


def paths(model):
    """Those of the variables of `model` that a checkpoint keeps: by them they are told apart."""
    return [variable.path for variable in model.variables if "seed_generator" not in variable.path]


def _arrays(variables):
    # Seeds of dropout are derived from the step and are not part of a model.
    return {
        variable.path: _owned(np.asarray(variable.value))
        for variable in variables
        if "seed_generator" not in variable.path
    }


def _owned(array):
    """`array`, or a copy where its memory is that of a tensor, which the next step may change."""
    return array if array.flags.owndata else array.copy()


def _stored_as(path, arrays):
    """The name in `arrays` of the variable `path`.

    Keras puts the name of a Sequential model before the paths of its variables where it was built
    layer by layer, and not where it was made from its configuration.
    """
    longer = [name for name in arrays if name.endswith(f"/{path}")]
    return longer[0] if path not in arrays and len(longer) == 1 else path


def _read(path, variables):
    with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as arrays:
        values = []
        for variable in variables:
            if "seed_generator" in variable.path:
                values.append(np.asarray(variable.value))
                continue
            value = arrays[_stored_as(variable.path, arrays)]
            if value.shape != tuple(variable.shape):
                raise ValueError(
                    f"{path.name}: {variable.path} is {value.shape} instead of"
                    f" {tuple(variable.shape)}"
                )
            if not np.isfinite(value).all():
                raise ValueError(f"{path.name}: {variable.path} holds a number that is not finite")
            values.append(value)
        return values


def _check_sums(checkpoint):
    """Raises ValueError unless the three files are those that were written, bit for bit."""
    if (checkpoint / _SUMS).read_text() != _sums(checkpoint):
        raise ValueError(f"its files differ from {_SUMS}")


def _sums(checkpoint):
    return disk.sums(checkpoint, ("weights.npz", "optimizer.npz", "state.json"))
