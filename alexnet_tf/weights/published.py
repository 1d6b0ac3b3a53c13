"""Published weights onto our variants: the layouts of Caffe, of Toronto's file and of torchvision,
and what their pixels are.

Our networks read RGB in 0..255, less a mean per channel, over one scalar. What other networks
expect instead is folded into the kernel of conv1, exactly: zeros that pad the input are zeros in
both.

All of a file finds its place, or is told as what no answer depends on (an optimizer's state, an
average that was not chosen), or the file is refused. What its layers are described as is compared
with our variants. What no file says, `Stated` does.
"""

import dataclasses
import hashlib
import os
import re
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import numpy as np

from alexnet_tf.bounds import LARGEST_RESIZE, check_trained
from alexnet_tf.errors import UserError
from alexnet_tf.network.layers import BETA
from alexnet_tf.network.model import DROPOUT_RATE, VARIANTS, projection_name
from alexnet_tf.pixels import Preprocessing
from alexnet_tf.weights.formats import CLASS_NAMES, WHOLE_MODULE, Layer, Weights

Arrays = dict[str, np.ndarray]  # by name
Layers = dict[str, tuple[np.ndarray, np.ndarray]]  # kernel and bias of each
# Kernels as their publishers store them: [outputs, inputs of a group, height, width] and [outputs,
# inputs].
_GROUPED = {
    "conv1": (96, 3, 11, 11),
    "conv2": (256, 48, 5, 5),
    "conv3": (384, 256, 3, 3),
    "conv4": (384, 192, 3, 3),
    "conv5": (256, 192, 3, 3),
    "fc6": (4096, 9216),
    "fc7": (4096, 4096),
    "fc8": (None, 4096),
}
_ONE_TOWER = {
    "conv1": (64, 3, 11, 11),
    "conv2": (192, 64, 5, 5),
    "conv3": (384, 192, 3, 3),
    "conv4": (256, 384, 3, 3),
    "conv5": (256, 256, 3, 3),
    "fc6": (4096, 9216),
    "fc7": (4096, 4096),
    "fc8": (None, 4096),
}
_TORCHVISION_NAMES = {
    "conv1": "features.0",
    "conv2": "features.3",
    "conv3": "features.6",
    "conv4": "features.8",
    "conv5": "features.10",
}
# Where the three projections stand among dropout, which has no weights, and ReLU.
_CLASSIFIERS = ("1", "4", "6"), ("0", "3", "6"), ("0", "2", "4")
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
_KERNELS, _BIASES = {"0", "weights", "weight", "kernel", "W", "w"}, {"1", "biases", "bias", "b"}
_LAST_MAP = (256, 6, 6)  # what fc6 reads, in the order of Caffe and PyTorch: channels first
# Channel means of the mean image that Caffe publishes (data/ilsvrc12/imagenet_mean.binaryproto), as
# RGB.
CAFFE_MEAN = (122.679, 116.669, 104.007)
# torchvision.transforms: Normalize(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225]) of RGB in
# 0..1.
_TORCHVISION_MEAN, _TORCHVISION_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclasses.dataclass(frozen=True)
class Published:
    """A file that is known by its digest, with the accuracy that is claimed for it:

    ImageNet's validation pictures, centre crop.
    """

    name: str
    digest: str  # sha1 (40 digits), or the beginning of sha256
    variant: str
    top_1: float
    top_5: float
    licence: str
    url: str


_CAFFE_URL, _TORCH_URL = (
    "http://dl.caffe.berkeleyvision.org/",
    "https://download.pytorch.org/models/",
)
PUBLISHED = (
    # models/bvlc_alexnet/readme.md and models/bvlc_reference_caffenet/readme.md of
    # https://github.com/BVLC/caffe.
    Published(
        "bvlc_alexnet.caffemodel",
        "9116a64c0fbe4459d18f4bb6b56d647b63920377",
        "caffe",
        0.571,
        0.802,
        "unrestricted use",
        _CAFFE_URL + "bvlc_alexnet.caffemodel",
    ),
    Published(
        "bvlc_reference_caffenet.caffemodel",
        "4c8d77deb20ea792f84eb5e6d0a11ca0a8660a46",
        "caffenet",
        0.574,
        0.804,
        "unrestricted use",
        _CAFFE_URL + "bvlc_reference_caffenet.caffemodel",
    ),
    # Toronto publishes no digest; this one is of a user who names the file and its address.
    Published(
        "bvlc_alexnet.npy",
        "1294ef51496c52f2e4879ee3b5e1da22c35d61f3240937491b4469403d5428cc",
        "caffe",
        0.571,
        0.802,
        "none stated; bvlc_alexnet.caffemodel in another format",
        "https://www.cs.toronto.edu/~guerzhoy/tf_alexnet/bvlc_alexnet.npy",
    ),
    # torchvision/models/alexnet.py; the name carries the digits.
    Published(
        "alexnet-owt-7be5be79.pth",
        "7be5be79",
        "one_weird_trick",
        0.56522,
        0.79066,
        "torchvision's, BSD 3-Clause",
        _TORCH_URL + "alexnet-owt-7be5be79.pth",
    ),
    Published(
        "alexnet-owt-4df8aa71.pth",
        "4df8aa71",
        "one_weird_trick",
        0.5655,
        0.7909,
        "torchvision's, BSD 3-Clause",
        _TORCH_URL + "alexnet-owt-4df8aa71.pth",
    ),
)


def recognise(content: bytes) -> tuple[Published | None, str]:
    """(the `Published` that `content` is, or None; sha256 of `content`)."""
    sha1, sha256 = (hashlib.new(name, content).hexdigest() for name in ("sha1", "sha256"))
    return (
        next(
            (one for one in PUBLISHED if one.digest == sha1 or sha256.startswith(one.digest)), None
        ),
        sha256,
    )


@dataclasses.dataclass(frozen=True)
class Stated:
    """What a user says of a file; None for what is left to the file. It may not contradict it."""

    variant: str | None = None  # "caffe" or "caffenet", which have the same arrays
    mean: tuple | None = None  # one level of 0..255 for all channels, or one each, as read there
    std: tuple | None = None  # likewise; the difference is divided by it
    resize: int | None = None  # the shorter side of a picture before cropping, in pixels
    channel_order: str | None = None  # "rgb" or "bgr", as the network reads its pixels
    weights: str | None = None  # "model", "ema", or the prefix of one of several networks

    def __post_init__(self) -> None:
        """Raises UserError for levels of 0..1, which are easily meant, and impossible ones."""
        for name, values in (("mean", self.mean), ("std", self.std)):
            text = f"{name}={_listed(values or ())}"
            if values is None:
                continue
            if len(values) not in (1, 3) or not all(abs(value) < 1e6 for value in values):
                raise no_levels(text)
            small = name == "std" and max(values) < 1 or name == "mean" and 0 < max(values) <= 1
            if small and min(values) >= 0:
                raise UserError(
                    f"{text}: give levels of 0..255, {_listed(255 * v for v in values)} for these."
                )
            if name == "std" and min(values) <= 0:
                raise UserError(f"{text}: pixels are divided by it; give positive numbers.")


def no_levels(told: str) -> UserError:
    """What is to be raised for levels that were `told` as name=values, and are none."""
    return UserError(f"{told}: give one number, or three with commas between.")


@dataclasses.dataclass(frozen=True)
class Converted:
    """A network of others as one of our variants."""

    variant: str
    arrays: Arrays  # by variable path, float32
    preprocessing: Preprocessing
    dropout_rate: float = DROPOUT_RATE
    notes: tuple = ()  # lines that the user has to see: what was assumed, what was passed over
    missing: tuple = ()  # layers that there are no weights of: settings.Settings


def convert(
    weights: Weights,
    name: str | os.PathLike,
    stated: Stated | None = None,
    known: Published | None = None,
) -> Converted:
    """The `Converted` network in `weights`, those of a file called `name`.

    `stated` is what the user says of it. A file that is `known` by its digest is what was
    published, and is not compared with anything. Raises UserError for weights that are not those
    of one of our AlexNets, whole, finite and alone, and for a description that differs from ours.
    """
    stated = stated or Stated()
    arrays = _without_wrappers(weights.arrays, name)
    prefixes = [
        key.removesuffix("features.0.weight")
        for key in arrays
        if re.search(r"(^|\.)features\.0\.weight$", key)
    ]
    if prefixes:
        if stated.variant:
            raise UserError(
                f"variant={stated.variant}, but {name} holds torchvision's network of one tower; "
                "leave variant= out."
            )
        return _from_torchvision(weights, arrays, prefixes, name, stated, known)
    if prefixes := [
        key.removesuffix("Conv_0.kernel")
        for key in arrays
        if re.search(r"(^|\.)AlexNet_\d+\.Conv_0\.kernel$", key)
    ]:
        return _from_flax(weights, arrays, prefixes, name, stated)
    prefixes = [
        key.removesuffix(found[0].lstrip("."))
        for key in arrays
        if (found := re.search(rf"(^|\.)conv1\.({'|'.join(sorted(_KERNELS))})$", key))
    ]
    if prefixes or weights.layers:
        if stated.weights and not any(prefixes):
            raise UserError(
                f"weights={stated.weights}, but {name} holds one network; leave weights= out."
            )
        notes: list[str] = []
        if any(prefixes):
            weights, arrays, notes = _unwrapped(weights, arrays, prefixes, stated.weights, name)
        converted = _from_caffe(weights, arrays, name, stated, known)
        return dataclasses.replace(converted, notes=(*notes, *converted.notes))
    if weights.module:
        raise UserError(f"{name} holds {WHOLE_MODULE.format(weights.module)}.")
    first = ", ".join(repr(key[:40]) for key in list(arrays)[:3]) or "nothing"
    raise UserError(
        f"{name} holds neither an AlexNet of Caffe (conv1 to fc8) nor one of torchvision"
        f" (features.0.weight to classifier.6.bias), but {first}{' and so on' * (len(arrays) > 3)}."
    )


def _without_wrappers(arrays: dict[str, Any], name: str | os.PathLike) -> dict[str, Any]:
    """The same by names without what DataParallel and torch.compile put into them."""
    found = {}
    for key, array in arrays.items():
        bare = _bare(key)
        if bare in found:
            raise UserError(
                f"{name} holds {bare[:80]} twice, under different prefixes; save the "
                "state_dict of one network alone."
            )
        found[bare] = array
    return found


def _bare(key: str) -> str:
    return ".".join(part for part in key.split(".") if part not in _WRAPPERS)


def _listed(values: Iterable[float]) -> str:
    return ",".join(f"{value:.6g}" for value in values)


def _settle(
    parameter: str, stated: Any, told: Any, name: str | os.PathLike, default: Any = None
) -> Any:
    """What the user or the file says, or `default`. Raises UserError if they contradict."""
    if None not in (stated, told) and not np.allclose(stated, told, rtol=1e-4):
        said, tells = (_listed(np.atleast_1d(value)) for value in (stated, told))
        raise UserError(f"{parameter}={said}, but {name} says {tells}; leave {parameter}= out.")
    return next((value for value in (stated, told) if value is not None), default)


def _order_of(stated: Stated, usual: str, is_known: bool, name: str | os.PathLike) -> str:
    """The order of the channels that a network reads: the `usual` one, which a file that `is_known`
    has, or what the user says. Raises UserError if they contradict.
    """
    if is_known and stated.channel_order not in (None, usual):
        raise UserError(
            f"channel_order={stated.channel_order}, but {name} reads {usual}; leave channel_order= "
            "out."
        )
    return stated.channel_order or usual


def _pixels(
    variant: str,
    kernel: np.ndarray,
    mean: Sequence[float],
    std: Sequence[float],
    resize: int,
    order: str,
    name: str | os.PathLike,
) -> tuple[np.ndarray, Preprocessing]:
    """(conv1's kernel for RGB, Preprocessing) for a network that reads its channels in `order`,
    "rgb" or "bgr", less `mean` and over `std`, each one number or three.

    A deviation for each channel becomes the variant's one: conv1 takes the ratio.
    """
    row = VARIANTS[variant]
    mean, std = (tuple(np.broadcast_to(np.array(values, float), 3)) for values in (mean, std))
    if order == "bgr":
        kernel, mean, std = kernel[:, :, ::-1], mean[::-1], std[::-1]
    if len(set(std)) > 1:
        kernel = (kernel * (row["std"] / np.array(std))[:, None]).astype(np.float32)
        std = (row["std"],)
    if not row["image_size"] <= resize <= LARGEST_RESIZE:
        raise UserError(
            f"resize={resize}: {name} reads {row['image_size']} pixels of a side; "
            f"give a number from {row['image_size']} to {LARGEST_RESIZE}."
        )
    return kernel, Preprocessing(row["image_size"], resize, row["channels"], mean, float(std[0]))


# torchvision


def _from_torchvision(
    weights: Weights,
    arrays: Arrays,
    prefixes: list[str],
    name: str | os.PathLike,
    stated: Stated,
    known: Published | None,
) -> Converted:
    prefix, notes = _choose(prefixes, stated.weights, name)
    layers, parts = _torchvision_parts(arrays, prefix, name)
    notes += _told_passed_over(weights, arrays, parts, prefix, prefixes, name)
    told: tuple = (_TORCHVISION_MEAN, _TORCHVISION_STD)
    if not known:
        told = _told_of_pixels(weights, prefix, name, None in (stated.mean, stated.std))
        notes += _as_it_says(told, name)
    mean, std = (
        _settle(parameter, of_user, of_file and _levels(of_file), name)
        for parameter, of_user, of_file in zip(("mean", "std"), (stated.mean, stated.std), told)
    )
    order = _order_of(stated, "rgb", bool(known), name)
    if mean is None or std is None:
        usual = _levels(_TORCHVISION_MEAN), _levels(_TORCHVISION_STD)
        if order == "bgr":
            usual = usual[0][::-1], usual[1][::-1]
        mean, std = mean or usual[0], std or usual[1]
        notes.append(
            f"{name} does not say what its pixels are; assumed, as torchvision has them: "
            f"{order.upper()} less {_listed(mean)} over {_listed(std)}. Where that is wrong, pass "
            "mean=, std= or channel_order=."
        )
    resize = stated.resize or VARIANTS["one_weird_trick"]["resize"]
    kernel, pixels = _pixels(
        "one_weird_trick",
        layers["conv1"][0],
        mean,
        std,
        resize,
        order,
        name,
    )
    layers["conv1"] = kernel, layers["conv1"][1]
    return Converted("one_weird_trick", _by_path(layers), pixels, notes=tuple(notes))


def _as_it_says(told: tuple, name: str | os.PathLike) -> list[str]:
    """[a line on the mean and the deviation that a training's file says], or []."""
    if None in told:
        return []
    less, over = (", ".join(f"{share:g}" for share in shares) for shares in told)
    return [f"{name}: its pixels are less ({less}) over ({over}) of 0..1, as it says."]


def _levels(shares: Iterable[float]) -> tuple[float, ...]:
    """In 0..255, of numbers in 0..1."""
    return tuple(255 * share for share in shares)


def _told_of_pixels(weights: Weights, prefix: str, name: str | os.PathLike, needed: bool) -> tuple:
    """(mean, deviation) of pixels in 0..1, each a tuple of three, where a training's file says in
    one place beside the network, and in one alone, what its pixels are; else (None, None).

    It may tell them of 0..255. Raises UserError where they are of neither, and `needed`.
    """
    numbers = weights.triples | {
        key: tuple(array.astype(float).flat)
        for key, array in weights.arrays.items()
        if array.size == 3 and array.dtype.kind in "iuf"
    }
    pairs = {
        (numbers[key], numbers[beside])
        for key in numbers
        if re.search(r"(^|[._])mean$", key) and not (prefix and key.startswith(prefix))
        if (beside := f"{key[:-4]}std") in numbers
    }
    if len(pairs) != 1:
        return None, None
    ((mean, std),) = pairs
    most = 1
    if max(mean) > 1 or not any(mean) and max(std) > 1:  # less 0 over 255
        most = 255
    if 0 <= min(mean) <= max(mean) <= most and 0 < min(std) <= max(std) <= most:
        return tuple(tuple(number / most for number in numbers) for numbers in (mean, std))
    if not needed:
        return None, None
    raise UserError(
        f"{name} says that its pixels are less ({_listed(mean)}) over ({_listed(std)}), which is "
        "neither of 0..1 nor of 0..255; pass mean= and std=."
    )


def _from_flax(
    weights: Weights, arrays: Arrays, prefixes: list[str], name: str | os.PathLike, stated: Stated
) -> Converted:
    """The convolutions of torchvision's network as LPIPS uses them: they read normalised pixels."""
    for parameter in ("variant", "weights"):
        if given := getattr(stated, parameter):
            raise UserError(
                f"{parameter}={given}, but {name} holds torchvision's convolutions alone; leave "
                f"{parameter}= out."
            )
    prefix = prefixes[0]
    parts = {
        f"conv{number + 1}": [f"{prefix}Conv_{number}.{part}" for part in ("kernel", "bias")]
        for number in range(5)
    }
    shapes = {layer: _ONE_TOWER[layer] for layer in parts}
    layers = _layers(arrays, parts, shapes, name, outputs_first=False)
    beside = arrays.keys() - {key for pair in parts.values() for key in pair}
    strange = sorted(
        key
        for key in [*beside, *weights.unreadable]
        # what LPIPS weighs their differences by
        if not re.match(r"NetLinLayer_\d\.", key)
    )
    if strange:
        raise UserError(
            f"{name} holds more than the convolutions of an AlexNet: "
            f"{', '.join(strange)[:200]}; no variant computes with it."
        )
    variant = "one_weird_trick_pool5"
    mean, std = (
        _settle(flag, of_user, tuple(255 * level for level in usual), name)
        for flag, of_user, usual in (
            ("mean", stated.mean, _TORCHVISION_MEAN),
            ("std", stated.std, _TORCHVISION_STD),
        )
    )
    resize = stated.resize or VARIANTS[variant]["resize"]
    order = _order_of(stated, "rgb", True, name)
    kernel, pixels = _pixels(variant, layers["conv1"][0], mean, std, resize, order, name)
    layers["conv1"] = kernel, layers["conv1"][1]
    return Converted(variant, _by_path(layers), pixels, missing=(projection_name(variant),))


def _by_path(layers: Layers) -> Arrays:
    return {
        f"{layer}/{part}": array
        for layer, pair in layers.items()
        for part, array in zip(("kernel", "bias"), pair)
    }


def _choose(
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
            "or leave weights= out."
        )
    if len(chosen) > 1:
        raise UserError(
            f"{name} holds {len(chosen)} networks: "
            f"{', '.join(names[prefix] for prefix in chosen)}; choose one by "
            f"weights={names[chosen[0]]}, or save one alone."
        )
    if len(prefixes) == 1:
        alone = f"{name} holds no other network than {names[chosen[0]]}, an average: it is taken."
        return chosen[0], [alone] if averages and not wanted else []
    others = ", ".join(names[prefix] for prefix in prefixes if prefix != chosen[0])
    return chosen[0], [
        f"{name} holds more than one network: {names[chosen[0]]} is taken, not "
        f"{others}; weights={{model,ema,NAME}} takes another."
    ]


def _unwrapped(
    weights: Weights,
    arrays: Arrays,
    prefixes: list[str],
    wanted: str | None,
    name: str | os.PathLike,
) -> tuple[Weights, Arrays, list[str]]:
    """(Weights, arrays by bare names, lines) of the network that is meant among those that lie in
    dicts of a file, as {"epoch": ..., "net": {"conv1.weight": ...}} has one.
    """
    prefix, notes = _choose(prefixes, wanted, name)
    unreadable = _without_wrappers(weights.unreadable, name)
    inner = {
        key
        for key in (*arrays, *unreadable)
        if key.startswith(prefix)
        and not any(key.startswith(one) for one in prefixes if len(one) > len(prefix))
    }
    notes += _told_passed_over(weights, arrays, inner, prefix, prefixes, name)
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


def _words(key: str) -> set[str]:
    return set(re.split(r"[._-]", key.lower()))


def _torchvision_parts(
    arrays: Arrays, prefix: str, name: str | os.PathLike
) -> tuple[Layers, set[str]]:
    """({layer: (kernel, bias)}, the names of these arrays)."""
    classifier: Sequence[str] = sorted(
        {
            ".".join(key.removeprefix(prefix).split(".")[1:-1])
            for key in arrays
            if key.startswith(f"{prefix}classifier.")
        },
        key=_natural,
    )
    # A last layer that was put into a Sequential, as classifier.6.1, is one still.
    firsts = tuple(place.split(".")[0] for place in classifier)
    if len(firsts) < 3:
        classifier = _CLASSIFIERS[0]  # of which some are missing
    elif firsts not in _CLASSIFIERS or any("." in place for place in classifier[:2]):
        listed = ", ".join(f"classifier.{place}" for place in classifier[:5]) or "none"
        raise UserError(
            f"{name} has its fully connected layers in other places than an AlexNet of "
            f"torchvision (classifier.1, 4 and 6; or 0, 3 and 6): {listed}."
        )
    places = _TORCHVISION_NAMES | {
        layer: f"classifier.{place}" for layer, place in zip(("fc6", "fc7", "fc8"), classifier)
    }
    parts = {
        layer: [f"{prefix}{place}.{part}" for part in ("weight", "bias")]
        for layer, place in places.items()
    }
    return _layers(arrays, parts, _ONE_TOWER, name), {
        key for pair in parts.values() for key in pair
    }


def _natural(key: str) -> list[tuple[bool, int | str]]:
    return [(part.isdecimal(), int(part) if part.isdecimal() else part) for part in key.split(".")]


def _told_passed_over(*arguments: Any) -> list[str]:
    """[a line on what _passed_over names], or []."""
    (*_, name), passed_over = arguments, _passed_over(*arguments)
    told = f"{name}: passed over, as no part of the network: {', '.join(passed_over)}."
    return [told] if passed_over else []


def _passed_over(
    weights: Weights,
    arrays: Arrays,
    used: Collection[str],
    prefix: str,
    prefixes: list[str],
    name: str | os.PathLike,
) -> list[str]:
    """Names of what the file holds beside the arrays `used`, shortest first.

    Raises UserError for anything that may be part of the network.
    """
    strange: list[str] = []
    harmless: list[str] = []
    # The state dict that the network is in: an entry of the file, or all of it.
    place = next(iter(used)).split(".")[0]
    state_dict = f"{place}." if place in weights.entries else ""
    unreadable = _without_wrappers(weights.unreadable, name)
    for key in [*arrays, *unreadable]:
        if key in used:
            continue
        array, outside = arrays.get(key), not key.startswith(prefix)
        counts = array is not None and array.dtype.kind in "iub"
        single = array is not None and array.size == 1
        words = _OF_A_TRAINING if outside else set() if prefix else _OF_AN_OPTIMIZER
        if outside and key.startswith(state_dict) and array is not None and array.ndim > 1:
            words = _MAY_BE_KERNELS  # metric_fc is a layer, and so may be whatever has a kernel
        sound = (
            any(key.startswith(one) for one in prefixes if outside or len(one) > len(prefix))
            or _words(_beside(key, prefix)) & words
            or outside
            and (counts or single and not key.startswith(state_dict))
            or counts
            and single
            and key.split(".")[-1] in _COUNTERS
        )
        (harmless if sound else strange).append(key)
    if strange:
        listed = ", ".join(
            f"{key[:80]} {_described(arrays, unreadable, key)}" for key in strange[:3]
        )
        more = f" and {len(strange) - 3} more" if len(strange) > 3 else ""
        raise UserError(
            f"{name} holds more than an AlexNet: {listed}{more}; none "
            "of our variants computes with them. If they are no part of the network, "
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
    return names[:20] + ["..."] * (len(names) > 20)


def _beside(key: str, prefix: str) -> str:
    """The first component of a name that is not also one of the prefix: "opt" of opt.state.0."""
    parts, of_prefix = key.split("."), prefix.split(".")
    return next(
        (part for part, own in zip(parts, [*of_prefix[:-1], *[None] * len(parts)]) if part != own),
        parts[-1],
    )


def _described(arrays: Arrays, unreadable: dict[str, str], key: str) -> str:
    return str(arrays[key].shape) if key in arrays else unreadable[key]


# Caffe

_COMPUTE = {"Convolution", "ReLU", "LRN", "Pooling", "InnerProduct"}
_CHANGE_NOTHING = {"Dropout", "Flatten"}  # of an answer
_READ_PICTURES = {"Data", "ImageData", "MemoryData", "HDF5Data", "DummyData", "Input"}
_AFTER_THE_ANSWER = {
    "Softmax",
    "SoftmaxWithLoss",
    "Accuracy",
    "ArgMax",
    "Silence",
    "MultinomialLogisticLoss",
    "InfogainLoss",
}
_NORM_FIRST = ("Convolution", "ReLU", "LRN", "Pooling") * 2
_POOL_FIRST = ("Convolution", "ReLU", "Pooling", "LRN") * 2
_UPPER = (*("Convolution", "ReLU") * 3, "Pooling", *("InnerProduct", "ReLU") * 2, "InnerProduct")
_CHAINS = {"caffe": _NORM_FIRST + _UPPER, "caffenet": _POOL_FIRST + _UPPER}
_PLACES = {
    "conv1": (11, 4, 0, 1),
    "conv2": (5, 1, 2, 2),
    "conv3": (3, 1, 1, 1),
    "conv4": (3, 1, 1, 2),
    "conv5": (3, 1, 1, 2),
}  # kernel, stride, pad, group


def _from_caffe(
    weights: Weights,
    arrays: Arrays,
    name: str | os.PathLike,
    stated: Stated,
    known: Published | None,
) -> Converted:
    pairs: dict[str, dict[int, str]] = {}  # the arrays of each layer of the file
    for key in arrays:
        layer, _, part = key.rpartition(".")
        which = 0 if part in _KERNELS else 1 if part in _BIASES else None
        if which is None or which in pairs.setdefault(layer, {}):
            raise UserError(
                f"{name} holds {key[:80]} {arrays[key].shape}, which is neither the "
                "kernel nor the bias of a layer; no variant computes with it."
            )
        pairs[layer][which] = key
    notes, dropout_rate, told_variant = [], DROPOUT_RATE, known and known.variant
    told: dict[str, tuple] = {}
    order: list[str] = []
    if weights.layers and not known:
        told_variant, order, told, rates = _caffe_description(weights.layers, name)
        dropout_rate = rates.pop() if len(rates) == 1 else DROPOUT_RATE
        if rates:
            notes.append(
                f"{name} drops out different shares in its layers; {DROPOUT_RATE} is taken for a"
                " training that goes on from it. No answer depends on it."
            )
    if not told_variant or known:
        # Names alone tell; the last layer is called otherwise where other classes were trained.
        others = [layer for layer in pairs if layer not in _GROUPED]
        last = others[0] if "fc8" not in pairs and len(others) == 1 else "fc8"
        order = [*list(_GROUPED)[:-1], last]
    beside = [*(pairs.keys() - set(order)), *weights.unreadable]
    if beside:
        raise UserError(
            f"{name} holds more than an AlexNet of Caffe: {', '.join(sorted(beside))[:200]}; "
            "no variant computes with it."
        )
    if order[-1] != "fc8":
        notes.append(f"{name}: {order[-1]} is taken for its last layer, fc8.")
    if told_variant and stated.variant not in (None, told_variant):
        raise UserError(
            f"variant={stated.variant}, but {name} has its pools and LRN in the order of "
            f"{told_variant}; leave variant= out."
        )
    variant = told_variant or stated.variant
    if variant is None:
        raise UserError(
            f"{name} does not say whether it normalises before it pools, and answers "
            "depend on it; pass variant=caffe (as bvlc_alexnet: LRN, then pool) or "
            "variant=caffenet (as bvlc_reference_caffenet: pool, then LRN)."
        )
    parts = {
        ours: [pairs.get(theirs, {}).get(which, f"{theirs}.{which}") for which in (0, 1)]
        for ours, theirs in zip(_GROUPED, order)
    }
    # Toronto's has kernels as TensorFlow does; who saves the blobs of pycaffe has those of Caffe.
    outputs_first = arrays.get(parts["conv1"][0], np.zeros(0)).shape != (11, 11, 3, 96)
    layers = _layers(arrays, parts, _GROUPED, name, outputs_first)
    of_training = _told_of_pixels(weights, "", name, None in (stated.mean, stated.std))
    if None not in of_training:
        if not stated.channel_order:
            raise UserError(
                f"{name} says what its pixels are less, and over, but not whether its network, of "
                "Caffe's layers, reads RGB or BGR; pass channel_order=rgb, as most programs of "
                "PyTorch read pictures, or channel_order=bgr."
            )
        notes += _as_it_says(of_training, name)
        told |= dict(zip(("mean_value", "std"), map(_levels, of_training)))
    channels = _order_of(stated, "bgr", bool(known), name)
    mean, std, resize = _caffe_pixels(told, variant, name, stated, channels, known, notes)
    kernel, pixels = _pixels(variant, layers["conv1"][0], mean, std, resize, channels, name)
    layers["conv1"] = kernel, layers["conv1"][1]
    return Converted(variant, _towers(layers), pixels, dropout_rate, tuple(notes))


def _caffe_description(
    layers: Sequence[Layer], name: str | os.PathLike
) -> tuple[str | None, list[str], dict[str, tuple], set[float]]:
    """(the variant, or None where the file has layers with weights alone; the names of these
    layers in order; {parameter of its pictures: values}; its dropout rates, a set).

    Raises UserError, with all that differs, for a network that no variant is.
    """
    chain, wrong = _chain(layers)
    kinds = tuple(layer.type for layer in chain if layer.type not in _CHANGE_NOTHING)
    of_weights = [layer for layer in chain if layer.type in ("Convolution", "InnerProduct")]
    variant = next((variant for variant, kinds_of in _CHAINS.items() if kinds_of == kinds), None)
    if variant is None and not wrong and len(of_weights) < len(kinds):
        wrong.append(
            _first_difference([layer for layer in chain if layer.type not in _CHANGE_NOTHING])
        )
    numbers = dict.fromkeys(_COMPUTE, 0)
    for layer in chain:
        if layer.type in numbers:
            numbers[layer.type] += 1
        wrong += _differences(layer, numbers.get(layer.type))
    first = set(chain[0].inputs) if chain else set()
    sources = [
        layer
        for layer in layers
        if layer.type in _READ_PICTURES
        and (not first or not layer.outputs or first & set(layer.outputs))
    ]
    told, strange = _told_of_pictures(sources)
    wrong += strange
    if wrong:
        raise UserError(
            f"{name} is a network that fits no variant: {'; '.join(wrong[:6])}"
            f"{'; and more' * (len(wrong) > 6)}."
        )
    rates = {round(_dropout_ratio(layer), 6) for layer in chain if layer.type == "Dropout"}
    return variant, [layer.name for layer in of_weights], told, rates


def _chain(layers: Sequence[Layer]) -> tuple[list[Layer], list[str]]:
    """(the layers from the picture to the answer, what is wrong with the others)."""
    chain, wrong, blobs = [], [], set()
    for layer in layers:
        if layer.type in _READ_PICTURES:
            blobs |= set(layer.outputs)
        elif layer.type == "Split":
            blobs |= set(layer.outputs) if set(layer.inputs) & blobs else set()
        elif layer.type in _COMPUTE | _CHANGE_NOTHING:
            if len(layer.inputs) > 1 or (layer.inputs and blobs and not set(layer.inputs) & blobs):
                wrong.append(
                    f"{layer.name} reads {', '.join(layer.inputs)[:80]}, not what is before it"
                )
            chain.append(layer)
            blobs = set(layer.outputs)
        elif layer.type not in _AFTER_THE_ANSWER:
            wrong.append(f"{layer.name} is a layer of the type {layer.type}")
    return chain, wrong


def _first_difference(chain: list[Layer]) -> str:
    if not any(layer.type == "LRN" for layer in chain):
        return "it has no LRN, which caffe and caffenet have"

    def same(expected: Sequence[str]) -> int:
        pairs = zip([*(layer.type for layer in chain), "nothing"], [*expected, "nothing"])
        return next(index for index, (one, other) in enumerate(pairs) if one != other)

    variant = max(_CHAINS, key=lambda variant: same(_CHAINS[variant]))
    place, expected = same(_CHAINS[variant]), [*_CHAINS[variant], "nothing"]
    there = f"{chain[place].name} ({chain[place].type})" if place < len(chain) else "nothing"
    before = f"after {chain[place - 1].name}" if place else "at first"
    return f"{before} comes {there}, where {variant} has {expected[place]}"


def _one(layer: Layer, name: str, default: Any) -> Any:
    values = set(layer.parameters.get(name, ()))
    return values.pop() if len(values) == 1 else ("several numbers" if values else default)


def _dropout_ratio(layer: Layer) -> Any:
    return _one(layer, "dropout_ratio", 0.5)  # which Caffe takes where none is stated


def _differences(layer: Layer, number: int | None) -> list[str]:
    """What the description of the `number`-th layer of its type differs in from our variants."""
    stated = layer.parameters
    if layer.type == "Convolution" and f"conv{number}" not in _PLACES:
        return []  # there are too many
    expected: dict[str, tuple[float, float | None]]  # ours, and what none stated is
    if layer.type == "LRN":
        expected = {
            "local_size": (5, 5),
            "alpha": (1e-4, 1.0),
            "beta": (BETA, 0.75),
            "norm_region": (0, 0),
            "k": (1.0, 1.0),
        }
    elif layer.type == "ReLU":
        expected = {"negative_slope": (0.0, 0.0)}
    elif layer.type == "Dropout":
        expected = {
            "scale_train": (1, 1),
            "dropout_ratio": (_dropout_ratio(layer),) * 2,
        }
    elif layer.type == "InnerProduct":
        expected = {"bias_term": (1, 1), "axis": (1, 1), "transpose": (0, 0)}
    elif layer.type in ("Convolution", "Pooling") and stated:  # a size has no default there
        pool = layer.type == "Pooling"
        kernel, stride, pad, group = (3, 2, 0, 1) if pool else _PLACES[f"conv{number}"]
        expected = (
            {"pool": (0, 0), "global_pooling": (0, 0)}
            if pool
            else {"group": (group, 1), "bias_term": (1, 1), "axis": (1, 1), "dilation": (1, 1)}
        )
        for name, value, default in (
            ("kernel", kernel, None),
            ("stride", stride, 1),
            ("pad", pad, 0),
        ):
            whole = "kernel_size" if name == "kernel" else name
            for one in [f"{name}_h", f"{name}_w"] if f"{name}_h" in stated else [whole]:
                expected[one] = value, default
    else:
        return []
    wrong = [
        f"{layer.name} has a {name.replace('field', 'parameter')} that is not known here"
        for name in stated
        if name.startswith("field")
    ]
    stray = stated.keys() - expected.keys() - {name for name in stated if name.startswith("field")}
    wrong += [f"{layer.name} has {name} besides" for name in sorted(stray)]
    for name, (ours, usual) in expected.items():
        found = _one(layer, name, usual)
        same = isinstance(found, int | float) and np.isclose(found, ours, rtol=1e-5)
        if not same:
            shown = "none" if found is None else found if isinstance(found, str) else f"{found:.6g}"
            wrong.append(f"{layer.name} has {name} {shown} instead of {ours:g}")
    return wrong


def _told_of_pictures(sources: Sequence[Layer]) -> tuple[dict[str, tuple], list[str]]:
    """({parameter: values}, what is wrong) of the layers that read pictures, which must agree."""
    told: dict[str, tuple] = {}
    wrong = []
    for layer in sources:
        for name, values in layer.parameters.items():
            if not values and name != "shape":
                wrong.append(f"{layer.name} has {name}, and no number for it")
            elif (
                name.startswith("field")
                or name in ("force_gray", "is_color")
                and values[-1] != (name == "is_color")
            ):
                wrong.append(f"{layer.name} has {name.replace('field', 'parameter')} {values[-1]}")
            elif told.setdefault(name, values) != values:
                wrong.append(f"{layer.name} has {name} {values}, and another layer {told[name]}")
    if any(layer.type in ("Data", "ImageData", "MemoryData") for layer in sources):
        told["reads"] = ()  # as Caffe does: what is not stated is 1 and 0
    for name, expected in (("channels", 3), ("height", 227), ("width", 227)):
        if name in told and told[name][-1] != expected:
            wrong.append(f"its pictures have {name} {told[name][-1]} instead of {expected}")
    if "shape" in told and told["shape"] and told["shape"][1:] != (3, 227, 227):
        wrong.append(f"its input is {told['shape']} instead of (N, 3, 227, 227)")
    scale = told.get("scale", (1.0,))
    if len(set(scale)) > 1 or not 1e-6 < scale[0] < 1e6:
        wrong.append(f"its pixels are multiplied by {_listed(scale)}")
    if len(told.get("mean_value", (0.0,))) not in (1, 3) or not all(
        abs(level) < 1e6 for level in told.get("mean_value", ())
    ):
        wrong.append(f"it has {len(told['mean_value'])} mean values for 3 channels")
    if told.get("crop_size", (0,))[-1] not in (0, 227):
        wrong.append(f"crop_size is {told['crop_size'][-1]} instead of 227")
    return told, wrong


def _caffe_pixels(
    told: dict[str, tuple],
    variant: str,
    name: str | os.PathLike,
    stated: Stated,
    order: str,
    known: Published | None,
    notes: list[str],
) -> tuple[Sequence[float], Sequence[float], int]:
    """(mean, std, resize) as the file and the user say, the channels in `order`, rgb or bgr."""
    row = VARIANTS[variant]
    usual = CAFFE_MEAN if order == "rgb" else CAFFE_MEAN[::-1]
    scale = told["scale"][0] if "scale" in told else 1.0 if known else None
    of_scale = told.get("std") or (scale and (1 / scale,))
    std = _settle("std", stated.std, of_scale, name, (row["std"],))
    of_file = usual if known else told.get("mean_value")
    nothing = (0.0,) if "reads" in told and "mean_file" not in told else None
    mean = _settle("mean", stated.mean, of_file, name, nothing)
    if mean is None and "mean_file" in told:
        raise UserError(
            f"{name} subtracts the mean in {told['mean_file'][-1]!r}, another file; "
            "pass the mean of that file's channels as "
            f"mean={','.join(order.upper())} (ImageNet's: "
            f"mean={_listed(usual)})."
        )
    if mean is None:
        mean = usual
        notes.append(
            f"{name} does not say what its pixels are; assumed, as Caffe's examples have "
            f"them: {order.upper()} less {_listed(mean)} over "
            f"{_listed(std)}. Where that is wrong, pass mean=, std= or channel_order=."
        )
    resize = None
    sides = {told[side][-1] for side in ("new_height", "new_width") if side in told} - {0}
    if len(sides) > 1:
        raise UserError(
            f"{name} squeezes its pictures to {told['new_height'][-1]} x "
            f"{told['new_width'][-1]}, which is not done here."
        )
    if sides:
        (resize,) = sides
    elif "reads" in told and not told.get("crop_size", (0,))[-1] and stated.resize is None:
        raise UserError(
            f"{name} says no crop_size, so its pictures had the size at which they "
            "were stored; pass resize=227 if that was 227 x 227."
        )
    return mean, std, _settle("resize", stated.resize, resize, name, row["resize"])


def _layers(
    arrays: Arrays,
    parts: dict[str, list[str]],
    shapes: dict[str, tuple],
    name: str | os.PathLike,
    outputs_first: bool = True,
) -> Layers:
    """{layer: (kernel [height, width, inputs, outputs] or [inputs, outputs], bias [outputs])},
    float32.

    `parts` names the arrays of each layer. Without `outputs_first` the kernels are laid out as ours
    are. Raises UserError with all that is missing, of another shape, or no weights.
    """
    layers: Layers = {}
    wrong = []
    for layer, keys in parts.items():
        if missing := [key for key in keys if key not in arrays]:
            wrong.append(f"{layer} is missing ({', '.join(key[:80] for key in missing)})")
            continue
        kernel, bias = (
            _without_leading_ones(arrays[key], ndim)
            for key, ndim in zip(keys, (len(shapes[layer]), 1))
        )
        shape = (shapes[layer][0] or bias.size, *shapes[layer][1:])
        expected = shape if outputs_first else (*shape[2:], shape[1], shape[0])
        if kernel.shape != expected or bias.shape != shape[:1]:
            wrong.append(
                f"{layer} is {kernel.shape} and {bias.shape} instead of {expected} and {shape[:1]}"
            )
            continue
        if strange := [str(part.dtype) for part in (kernel, bias) if part.dtype.kind in "iub"]:
            wrong.append(f"{layer} is of {strange[0]}, and weights are floating-point numbers")
            continue
        with np.errstate(over="ignore"):  # of float64; it shows below
            kernel = np.asarray(_as_ours(layer, kernel) if outputs_first else kernel, np.float32)
            bias = np.asarray(bias, np.float32)
        layers[layer] = kernel, bias
        if not np.isfinite(kernel).all() or not np.isfinite(bias).all():
            wrong.append(f"{layer} has numbers that are not finite")
        else:
            try:
                check_trained(layer, kernel)
            except ValueError as error:
                wrong.append(str(error))
        if layer == "fc8" and bias.size < 2:
            wrong.append(f"it has {bias.size} output, and a classifier has two or more")
    if wrong:
        raise UserError(f"{name} is not an AlexNet as published: {'; '.join(wrong)}.")
    return layers


def _without_leading_ones(array: np.ndarray, ndim: int) -> np.ndarray:
    """Caffe gave every array four dimensions until 2015."""
    return (
        array.reshape(array.shape[-ndim:])
        if array.shape[:-ndim] == (1,) * (array.ndim - ndim)
        else array
    )


def _as_ours(layer: str, kernel: np.ndarray) -> np.ndarray:
    """[outputs, inputs, height, width] to [height, width, inputs, outputs], and so the inputs of
    fc6, which are a map.
    """
    if layer == "fc6":
        return kernel.reshape(-1, *_LAST_MAP).transpose(2, 3, 1, 0).reshape(kernel.shape[::-1])
    return kernel.transpose(2, 3, 1, 0) if kernel.ndim == 4 else kernel.T


def _towers(layers: Layers) -> Arrays:
    """Groups become towers."""
    arrays = {}
    for layer, (kernel, bias) in layers.items():
        towers = "ab" if layer.startswith("conv") else ("",)
        for tower, *parts in zip(
            towers, np.split(kernel, len(towers), -1), np.split(bias, len(towers))
        ):
            arrays[f"{layer}{tower}/kernel"], arrays[f"{layer}{tower}/bias"] = parts
    return arrays
