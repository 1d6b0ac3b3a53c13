"""The network in the file of a training is found, and what lies beside it is told or refused."""

import numpy as np
import pytest
from networks_of_others import convert_nested, convert_torch, light, nested, same, torchvision

from alexnet_tf.errors import UserError


@pytest.mark.parametrize(
    "prefix",
    [
        "",
        "module.",
        "_orig_mod.",
        "model.",
        "state_dict.model._orig_mod.module.",
        "net.0.backbone.",
    ],
)
def test_prefixes_say_nothing(prefix):
    found = convert_torch(torchvision(prefix))
    assert np.array_equal(found.arrays["fc8/kernel"][7], light(3)) and found.arrays[
        "conv1/kernel"
    ].shape == (11, 11, 3, 64)


def test_data_parallel_over_the_features_alone():
    arrays = {
        name.replace("features.", "features.module."): array
        for name, array in torchvision().items()
    }
    assert convert_torch(arrays).arrays["conv5/bias"].shape == (256,)


@pytest.mark.parametrize(
    "beside",
    [
        {"state_dict.fc9.weight": light(10, 3)},
        {"state_dict.features.1.running_mean": light(64)},
        {"head.weight": light(10, 1000)},
        {"state_dict.scale": light(1)},
        {"state_dict.mean": light(3)},
        {"state_dict.optimizer.weight": light(3, 3)},
        {"x.features.3.weight": light(192, 64, 5, 5)},
    ],
)
def test_what_may_be_a_part_of_the_network_is_refused(beside):
    (name,) = beside
    with pytest.raises(
        UserError,
        match=f"more than an AlexNet: {name} .*save its state_dict without",
    ):
        convert_torch(torchvision("state_dict.") | beside)


def test_a_number_in_the_state_dict_is_a_part_of_the_network():
    """Such as a temperature, which answers depend on; one beside the state dict is a figure."""
    number = {"temperature": light(1)}
    with pytest.raises(UserError, match="more than an AlexNet: temperature "):
        convert_torch(torchvision("model.") | number, entries=("model.features.0.weight",))
    with pytest.raises(UserError, match="an AlexNet: state_dict.temperature "):
        inside = {"state_dict.temperature": light(1)}
        convert_torch(torchvision("state_dict.net.") | inside, entries=("state_dict", "epoch"))
    with pytest.raises(UserError, match="an AlexNet: state_dict.metric_fc.weight "):
        layer = {"state_dict.metric_fc.weight": light(10, 3)}
        convert_torch(torchvision("state_dict.net.") | layer, entries=("state_dict",))
    found = convert_torch(torchvision("model.") | {"prec": light(1)}, entries=("model", "prec"))
    assert found.notes[0] == "x: skipped, as not part of the network: prec."


def test_a_quantised_tensor_beside_is_refused():
    with pytest.raises(
        UserError, match="more than .*: state_dict.bn is made by torch._utils._rebuild_qtensor"
    ):
        convert_torch(
            torchvision("state_dict."),
            unreadable={"state_dict.bn": "is made by torch._utils._rebuild_qtensor"},
        )


def test_what_belongs_to_a_training_is_told():
    beside = {
        "optimizer.state.0.exp_avg": light(64, 3, 11, 11),
        "rng": np.zeros(5, np.uint8),
        "best_acc1": light(1).reshape(()),
        "train_losses": light(90),
        "state_dict.n_averaged": np.array(3),
    }
    found = convert_torch(
        torchvision("state_dict.") | beside, entries=("epoch", "args", "state_dict", "optimizer")
    )
    assert (
        found.notes[0]
        == "x: skipped, as not part of the network: epoch, args, optimizer, rng, best_acc1,"
        " train_losses, state_dict.n_averaged."
    )
    assert len(found.arrays) == 16


@pytest.mark.parametrize("prefix", ["", "module.", "net."])
def test_a_state_dict_that_is_the_whole_file_is_no_part_passed_over(prefix):
    arrays = torchvision(prefix)
    found = convert_torch(arrays, entries=tuple(arrays))
    assert len(found.arrays) == 16 and not any("skipped" in line for line in found.notes)


def test_two_copies_of_a_layer_are_refused():
    for beside in ("module.features.3.weight", "_orig_mod.module.classifier.6.bias"):
        with pytest.raises(
            UserError,
            match="holds (features.3.weight|classifier.6.bias) twice, under different prefixes",
        ):
            convert_torch(torchvision() | {beside: light(192, 64, 5, 5)})


def test_model_and_average_side_by_side():
    both = torchvision("state_dict.") | torchvision("state_dict_ema.module.")
    both["state_dict_ema.module.classifier.6.bias"] = np.full(3, 9, np.float32)
    for stated, bias in (
        (None, light(3)),
        ("model", light(3)),
        ("state_dict", light(3)),
        ("ema", [9] * 3),
        ("state_dict_ema", [9] * 3),
    ):
        found = convert_torch(both, weights=stated)
        assert np.array_equal(found.arrays["fc8/bias"], bias)
        names = ["state_dict", "state_dict_ema"][
            :: 1 if bias is not [9] * 3 and bias[0] != 9 else -1
        ]
        assert f"{names[0]} is used, not {names[1]}" in found.notes[0]
    with pytest.raises(
        UserError,
        match="weights=other, but x holds state_dict, state_dict_ema; name one of these",
    ):
        convert_torch(both, weights="other")
    with pytest.raises(UserError, match="weights=ema, but x holds state_dict;"):
        convert_torch(torchvision("state_dict."), weights="ema")
    found = convert_torch(torchvision("model_ema."))  # the only one
    assert len(found.arrays) == 16
    assert "no network but model_ema, an average: it is used" in found.notes[0]
    asked = convert_torch(torchvision("model_ema."), weights="ema")
    assert "average" not in " ".join(asked.notes)


def test_two_networks_are_chosen_by_name():
    both = torchvision("student.", classes=3) | torchvision("best.", classes=4)
    with pytest.raises(UserError, match="2 networks: student, best; choose one by weights=student"):
        convert_torch(both)
    assert len(convert_torch(both, weights="best").arrays["fc8/bias"]) == 4


@pytest.mark.parametrize("prefix", ["net.", "model.state_dict.", "state_dict.module."])
def test_a_network_of_caffes_layers_lies_in_the_dicts_of_a_training(prefix):
    beside = {"optimizer.state.0.exp_avg": light(96, 3, 11, 11), "epoch": np.array(7)}
    entries = ("epoch", prefix.split(".")[0], "optimizer")
    found = convert_nested(beside | nested(prefix), entries, {"scaler.scale": "is of no type"})
    assert same(found.arrays, convert_nested(nested("")).arrays)
    assert found.notes[0] == "x: skipped, as not part of the network: epoch, optimizer, scaler."
    with pytest.raises(UserError, match=r"more than an AlexNet: extra.weight \(3, 3\)"):
        convert_nested(nested(prefix) | {"extra.weight": light(3, 3)}, entries)
    with pytest.raises(UserError, match="more than an AlexNet of Caffe: bn1; no variant"):
        convert_nested(nested(prefix) | {f"{prefix}bn1.weight": light(96)}, entries)
    with pytest.raises(UserError, match="more than an AlexNet of Caffe: fc8.scale; no variant"):
        convert_nested(nested(prefix), entries, {f"{prefix}fc8.scale": "is quantised"})


def test_of_several_networks_of_caffes_layers_one_is_named():
    both = nested("teacher.", "student.", "ema.")
    with pytest.raises(UserError, match="2 networks: teacher, student; choose .* weights=teacher"):
        convert_nested(both)
    for stated, classes in (("teacher", 20), ("student", 21), ("ema", 22)):
        assert len(convert_nested(both, weights=stated).arrays["fc8/bias"]) == classes
    found = convert_nested(nested("", "ema."))
    assert len(found.arrays["fc8/bias"]) == 20
    assert "the file itself is used, not ema; weights={model,ema,NAME}" in found.notes[0]
    with pytest.raises(UserError, match="weights=ema, but x holds one network; omit weights="):
        convert_nested(nested(""), weights="ema")
