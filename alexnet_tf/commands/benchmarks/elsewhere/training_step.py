"""Images/s of PyTorch's training step: the network of the paper, and torchvision's, as a user of
PyTorch would write them.

    python training_step.py BATCH_SIZE ROUNDS

Prints JSON, {network: {way: images/s}}; a way that fails is left out, with a line on standard
error.
"""

import json
import statistics
import sys
import time

import torch
from torch import nn
from torch.nn import functional


class Paper(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 96, 11, 4)
        self.conv2 = nn.Conv2d(96, 256, 5, padding=2, groups=2)
        self.conv3 = nn.Conv2d(256, 384, 3, padding=1)
        self.conv4 = nn.Conv2d(384, 384, 3, padding=1, groups=2)
        self.conv5 = nn.Conv2d(384, 256, 3, padding=1, groups=2)
        self.fc6, self.fc7, self.fc8 = (
            nn.Linear(9216, 4096),
            nn.Linear(4096, 4096),
            nn.Linear(4096, 10),
        )

    def block(self, x):
        # alpha is divided by the window's size.
        towers = [
            functional.local_response_norm(tower, 5, 5e-4, 0.75, 2.0)
            for tower in functional.relu(x).chunk(2, 1)
        ]
        return functional.max_pool2d(torch.cat(towers, 1), 3, 2)

    def forward(self, x):
        x = self.block(self.conv2(self.block(self.conv1(x))))
        for conv in (self.conv3, self.conv4, self.conv5):
            x = functional.relu(conv(x))
        x = functional.max_pool2d(x, 3, 2).flatten(1)
        for fc in (self.fc6, self.fc7):
            x = functional.dropout(functional.relu(fc(x)))
        return self.fc8(x)


def torchvision():
    return nn.Sequential(
        nn.Conv2d(3, 64, 11, 4, 2),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(64, 192, 5, padding=2),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(192, 384, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(384, 256, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(256, 256, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, 2),
        nn.AdaptiveAvgPool2d(6),
        nn.Flatten(),
        nn.Dropout(),
        nn.Linear(9216, 4096),
        nn.ReLU(inplace=True),
        nn.Dropout(),
        nn.Linear(4096, 4096),
        nn.ReLU(inplace=True),
        nn.Linear(4096, 10),
    )


def rate(model, side, layout, compiled, batch_size, rounds):
    model = model.to(memory_format=layout)
    optimizer = torch.optim.SGD(model.parameters(), 0.001, 0.9, weight_decay=5e-4)
    run = torch.compile(model) if compiled else model
    x = torch.randn(batch_size, 3, side, side).to(memory_format=layout)
    y = torch.randint(10, (batch_size,))
    seconds = []
    for _ in range(rounds + 2):  # the first two compile and warm up
        begin = time.perf_counter()
        optimizer.zero_grad()
        loss = functional.cross_entropy(run(x), y)
        loss.backward()
        optimizer.step()
        loss.item()
        seconds.append(time.perf_counter() - begin)
    return batch_size / statistics.median(seconds[2:])


def main(batch_size, rounds):
    rates = {}
    for network, make, side in (
        ("the same network", Paper, 227),
        ("torchvision's network", torchvision, 224),
    ):
        rates[network] = {}
        for name, layout in (
            ("channels first", torch.contiguous_format),
            ("channels last", torch.channels_last),
        ):
            for compiled in (False, True):
                way = f"{'compiled' if compiled else 'eager'}, {name}"
                try:
                    rates[network][way] = rate(make(), side, layout, compiled, batch_size, rounds)
                except Exception as error:  # a compiler that is not there, for instance
                    print(f"{way}: {str(error)[:200]}", file=sys.stderr)
    print(json.dumps(rates))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
