"""What users and files say of pixels."""

import numpy as np
import pytest
from networks_of_others import HALF, convert_nested, convert_torch, nested, torchvision

from alexnet_tf.errors import UserError
from alexnet_tf.preprocessing import Preprocessing
from alexnet_tf.weights import conversion, statements
from alexnet_tf.weights.contents import Weights


def test_what_no_file_says_can_be_stated():
    found = convert_torch(
        torchvision(), mean=(10.0, 20.0, 30.0), std=(50.0,), resize=300, channel_order="bgr"
    )
    assert (
        found.preprocessing == Preprocessing(224, 300, 3, (30.0, 20.0, 10.0), 50.0)
        and found.notes == ()
    )
    ours = found.arrays["conv1/kernel"]
    assert np.array_equal(
        ours, np.moveaxis(torchvision()["features.0.weight"][:, ::-1], (0, 1), (-1, -2))
    )
    assert (
        "x does not say what its pixels are; assumed, as in torchvision: RGB minus"
        " 123.675,116.28,103.53, divided by " in (convert_torch(torchvision()).notes[0])
    )
    with pytest.raises(
        UserError, match="resize=223: x reads 224 x 224 pixels; give a number from 224 to"
    ):
        convert_torch(torchvision(), resize=223)
    with pytest.raises(UserError, match="omit variant="):
        convert_torch(torchvision(), variant="caffe")


@pytest.mark.parametrize(
    "stated,message",
    [
        ({"mean": (0.485, 0.456, 0.406)}, "levels of 0..255, 123.675,116.28,103.53"),
        ({"mean": (1.0, 2.0)}, "one number, or three"),
        ({"std": (0.229, 0.224, 0.225)}, "58.395,57.12,57.375"),
        ({"std": (0.0, 5.0, 5.0)}, "give positive numbers"),
        ({"std": (-3.0,)}, "positive"),
    ],
)
def test_impossible_pixels_are_refused(stated, message):
    with pytest.raises(UserError, match=message):
        statements.Stated(**stated)


def convert_trained(triples=None, arrays=None, **stated):
    """A training's file of torchvision's network, with numbers beside it."""
    found = Weights(
        ".pth",
        torchvision("state_dict.") | (arrays or {}),
        entries=("state_dict", "config"),
        triples=triples or {},
    )
    return conversion.convert(found, "x", statements.Stated(**stated))


def test_a_training_says_what_its_pixels_are():
    for found in (
        convert_trained(HALF),
        convert_trained(
            {
                key.replace("mean", "image_mean").replace("std", "image_std"): levels
                for key, levels in HALF.items()
            }
        ),
        convert_trained(
            arrays={key: np.array(levels).reshape(1, 3, 1, 1) for key, levels in HALF.items()}
        ),
        convert_trained(arrays={key[7:]: np.array(levels) for key, levels in HALF.items()}),
        convert_trained(HALF | {f"args.{key[7:]}": levels for key, levels in HALF.items()}),
        convert_trained({key.upper(): levels for key, levels in HALF.items()}),
        convert_trained(HALF, std=(127.5,)),
    ):
        assert found.preprocessing.mean == (127.5, 63.75, 127.5)
        assert (
            "x says that its pixels, in 0..1, have the mean (0.5, 0.25, 0.5) and the"
            in found.notes[1]
        )
        assert "does not say" not in " ".join(found.notes)
    with pytest.raises(UserError, match="mean=128, but x says 127.5,63.75,127.5; leave mean= out"):
        convert_trained(HALF, mean=(128,))


def test_of_two_things_that_pixels_may_be_none_is_taken():
    two = HALF | {"val.mean": (0.4, 0.4, 0.4), "val.std": (0.2, 0.2, 0.2)}
    with pytest.raises(UserError, match=r"the means \(0.4,.* and \(0.5,.*; pass mean= and std="):
        convert_trained(two)
    assert convert_trained(two, mean=(1, 2, 3), std=(4,)).preprocessing.mean == (1, 2, 3)


def test_a_training_of_caffes_layers_says_what_its_pixels_are():
    """But not in which order their channels come, which Caffe has otherwise than PyTorch."""

    def convert(triples, **stated):
        entries = ("state_dict", "config")
        return convert_nested(nested("state_dict."), entries, triples=triples, **stated)

    with pytest.raises(UserError, match="reads RGB or BGR; pass channel_order=rgb, as most PyT"):
        convert(HALF)
    for order, mean in (("rgb", (127.5, 63.75, 12.75)), ("bgr", (12.75, 63.75, 127.5))):
        told = HALF | {"config.mean": (0.5, 0.25, 0.05)}
        found = convert(told, channel_order=order)
        assert found.preprocessing.mean == pytest.approx(mean)
        assert found.preprocessing.std == 127.5
        assert "the mean (0.5, 0.25, 0.05) and the std (0.5, 0.5, 0.5)" in found.notes[1]
        assert "does not say" not in " ".join(found.notes)
        with pytest.raises(UserError, match="std=9, but x says 127.5,127.5,127.5; leave std= out"):
            convert(told, channel_order=order, std=(9.0,))
    # within the network it is something else
    inner = {"state_dict.mean": (0.5, 0.5, 0.5), "state_dict.std": (0.5, 0.5, 0.5)}
    assert "does not say what its pixels are" in convert(inner).notes[-1]


@pytest.mark.parametrize(
    "triples",
    [
        {},
        {"config.mean": (0.5, 0.5, 0.5)},
        {"config.mean": (0.5, 0.5, 0.5), "args.std": (0.5, 0.5, 0.5)},
        {"state_dict.mean": (0.5, 0.5, 0.5), "state_dict.std": (0.5, 0.5, 0.5)},
    ],
)
def test_what_may_be_something_else_is_not_taken_for_pixels(triples):
    found = convert_trained(triples)
    assert found.preprocessing.mean[0] == pytest.approx(255 * 0.485)
    assert "does not say what its pixels are" in found.notes[-1]


@pytest.mark.parametrize(
    ("mean", "std", "levels"),
    [
        ((127.5, 63.75, 127.5), (127.5,) * 3, (127.5, 63.75, 127.5)),
        ((104.0, 117.0, 123.0), (1.0,) * 3, (104.0, 117.0, 123.0)),
        ((0.0,) * 3, (255.0,) * 3, (0.0,) * 3),
        ((0.0,) * 3, (1.0,) * 3, (0.0,) * 3),
    ],
)
def test_a_training_may_say_it_of_0_to_255(mean, std, levels):
    found = convert_trained({"config.mean": mean, "config.std": std})
    assert found.preprocessing.mean == pytest.approx(levels)
    assert "does not say" not in " ".join(found.notes)


@pytest.mark.parametrize(
    "strange",
    [
        {"std": (2.0,) * 3},
        {"std": (0.0, 0.5, 0.5)},
        {"mean": (np.nan,) * 3},
        {"mean": (300.0,) * 3},
    ],
)
def test_pixels_that_make_no_sense_are_asked_for(strange):
    told = HALF | {f"config.{name}": numbers for name, numbers in strange.items()}
    with pytest.raises(UserError, match="which fit neither 0..1 nor 0..255; pass mean= and"):
        convert_trained(told)
    assert convert_trained(told, mean=(127.5,), std=(127.5,)).preprocessing.mean[0] == 127.5


def test_what_is_assumed_of_pixels_is_in_their_order():
    colours = {}
    for order in ("rgb", "bgr"):
        found = convert_torch(torchvision(), channel_order=order)
        colours[order] = found.preprocessing.mean
    assert colours["bgr"] == colours["rgb"] == pytest.approx((123.675, 116.28, 103.53))
    assert "BGR minus 103.53,116.28,123.675, divided by 57.375,57.12,58.395" in found.notes[-1]
