"""Writes tests/testdata/: a state dict, and what training scripts put beside it, as PyTorch and
safetensors write them. Run it in the proof environment:

    .venv-proof/bin/python tests/proof/write_testdata.py
"""

import argparse
import collections
import copy
import datetime
import pathlib
import random

import numpy as np
import safetensors.torch
import torch

folder = pathlib.Path(__file__).parent.parent / "testdata"
torch.manual_seed(0)
net = torch.nn.Module()
net.features = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU())
net.classifier = torch.nn.Sequential(torch.nn.Dropout(), torch.nn.Linear(6, 5))
state = copy.deepcopy(net.state_dict())  # the optimizer below goes on
torch.save(state, folder / "state.pth")
torch.save(state, folder / "state_pickles.pth", _use_new_zipfile_serialization=False)
safetensors.torch.save_file(state, folder / "state.safetensors")
np.savez(folder / "state.npz", **{name: array.numpy() for name, array in state.items()})

# A checkpoint of an ordinary script: what is beside the weights has classes of its own.
optimizer = torch.optim.Adam(net.parameters())
sum(parameter.sum() for parameter in net.parameters()).backward()
optimizer.step()
random.seed(0)
training = {
    "args": argparse.Namespace(lr=0.1, data=pathlib.PurePosixPath("/data"), seed=None),
    "epoch": 3,
    "best_acc1": torch.tensor(57.25),
    "accuracy": np.float64(0.5),
    "time": datetime.date(2026, 1, 1),
    "rng": torch.get_rng_state(),
    "numpy_rng": np.random.RandomState(0).get_state(),
    "losses": [1 / (step + 1) for step in range(500)],
    "confusion": collections.Counter("aab"),
    "by_class": collections.defaultdict(list, {"cat": [1.0]}),
    "device": torch.device("cpu"),
    "seen": {1, 2},
    "state_dict": state,
    "optimizer": optimizer.state_dict(),
    "scheduler": torch.optim.lr_scheduler.StepLR(optimizer, 30).state_dict(),
}
torch.save(training, folder / "training.pth")
torch.save(training, folder / "training_pickles.pth", _use_new_zipfile_serialization=False)
torch.save(torch.nn.Sequential(torch.nn.Linear(2, 3)), folder / "module.pth")
half = {name: array.to(torch.bfloat16) for name, array in state.items()}
torch.save(half, folder / "bfloat16.pth")
safetensors.torch.save_file(half, folder / "bfloat16.safetensors")
