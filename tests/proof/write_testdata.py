"""Writes tests/testdata/: a state dict as PyTorch and safetensors write it. Run it in the proof environment:

    .venv-proof/bin/python tests/proof/write_testdata.py
"""

import pathlib

import numpy as np
import safetensors.torch
import torch

folder = pathlib.Path(__file__).parent.parent / "testdata"
torch.manual_seed(0)
net = torch.nn.Module()
net.features = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU())
net.classifier = torch.nn.Sequential(torch.nn.Dropout(), torch.nn.Linear(6, 5))
state = net.state_dict()
torch.save(state, folder / "state.pth")
torch.save(state, folder / "state_pickles.pth", _use_new_zipfile_serialization=False)
safetensors.torch.save_file(state, folder / "state.safetensors")
np.savez(folder / "state.npz", **{name: array.numpy() for name, array in state.items()})
