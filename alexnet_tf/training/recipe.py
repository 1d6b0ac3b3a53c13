"""The recipe of a training: what decides what it makes of its pictures besides the model. By it
workers are compared, and what a later call asks for with what has been done.
"""

import functools
import hashlib
import json
import types
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from alexnet_tf.training.objective import Objective, name_of
from alexnet_tf.training.optimizer import SGD2012
from alexnet_tf.training.plan import Plan

_OF_PLAN = "learning_rate", "schedule", "warmup_steps", "colour_noise"
_PLAIN = bool | int | float | complex | str | bytes | None
_CLIPS = "clipnorm", "clipvalue", "global_clipnorm"


def recipe(
    model: keras.Model,
    optimizer: SGD2012,
    plan: Plan,
    objective: Objective,
    crop: Callable | None,
) -> dict[str, Any]:
    """By the names of parameters, JSON that is the same in every process; what is as usual may be
    left out. "code" has a digest of each function of a user's own: another of the same name, such
    as a lambda, is another one.
    """
    config = optimizer.get_config()
    told = {name: getattr(plan, name) for name in _OF_PLAN} | {
        "optimizer": type(optimizer).__name__.lower(),
        "momentum": config["momentum"],
        "weight_decay": config["decay"],
        "bias_rate": config["bias_rate"],
        "precision": precision_of(model),
    }
    # What Keras' own have is told above, or has no effect in a training. Not where this file is
    # imported: an optimizer has a variable, and where there is one no more devices can be made.
    usual = keras.optimizers.Optimizer(0.0).get_config().keys() | {"decay"}
    more = {name: config[name] for name in (*_CLIPS, *sorted(config.keys() - usual))}
    told |= {name: value for name, value in more.items() if value}
    told |= objective.describe() | ({"crop": name_of(crop)} if crop else {})
    functions = {"loss": objective.loss, "augment": objective.augment, "crop": crop}
    code = {name: digest_of(function) for name, function in functions.items() if function}
    told |= {"code": code} if code else {}
    return json.loads(json.dumps(told, default=np.generic.item))  # numbers of NumPy too


def precision_of(model: keras.Model) -> str:
    """The dtype policies of its layers but float32, of which the last one may be in any of them."""
    policies = {layer.dtype_policy.name for layer in model._flatten_layers(include_self=False)}
    return ", ".join(sorted(policies - {"float32"})) or "float32"


def others_in(were: Mapping[str, Any], are: Mapping[str, Any], same_python: bool) -> list[str]:
    """Names of what two recipes have otherwise. Another Python compiles another code: unless it is
    the `same_python`, functions are told apart by their names alone.
    """
    found = [name for name in {**are, **were} if were.get(name) != are.get(name) and name != "code"]
    codes = [told.get("code", {}) for told in (were, are)]
    if same_python:
        found += [name for name in codes[1] if codes[0].get(name, "") != codes[1][name]]
    return list(dict.fromkeys(found))


def digest_of(function: Callable) -> str:
    """Of what `function` computes as far as it tells: its code, its defaults and what it closes
    over, not what it calls.
    """
    return hashlib.sha256(repr(_told(function, 8)).encode()).hexdigest()[:16]


def _told(value: Any, depth: int) -> Any:
    """`value` as plain numbers and texts, without an address in memory or a line of a file."""
    if depth == 0:
        return None
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, tf.Tensor) and hasattr(value, "numpy"):
        value = value.numpy()
    if isinstance(value, np.ndarray | np.generic):
        return str(value.dtype), value.shape, value.tobytes()
    if isinstance(value, set | frozenset):
        return sorted(repr(_told(one, depth - 1)) for one in value)
    if isinstance(value, list | tuple):
        parts: list[Any] = list(value)
    elif isinstance(value, Mapping):
        parts = [part for pair in value.items() for part in pair]
    elif isinstance(value, types.CodeType):
        parts = [value.co_code, value.co_names, value.co_consts]
    elif isinstance(value, functools.partial):
        parts = [value.func, value.args, value.keywords]
    elif isinstance(value, types.MethodType):
        parts = [value.__func__, value.__self__]
    elif isinstance(value, types.FunctionType):
        cells = [_content(cell) for cell in value.__closure__ or ()]
        parts = [value.__code__, value.__defaults__, value.__kwdefaults__, cells]
    elif hasattr(value, "get_config"):
        parts = [name_of(value)]  # with its configuration
    else:
        parts = [name_of(value), getattr(type(value).__call__, "__code__", None)]
        of_object = sorted(getattr(value, "__dict__", {}).items())
        parts += [pair for pair in of_object if isinstance(pair[1], _PLAIN)]
    return [_told(part, depth - 1) for part in parts]


def _content(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # it is empty yet
        return None
