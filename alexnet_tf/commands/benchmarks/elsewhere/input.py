"""Seconds a picture of libjpeg-turbo, with the accurate DCT as ours, on two threads, and of
PyTorch's loader with torchvision's usual chain on Pillow in two processes.

    python input.py FILE...

Prints JSON, {what: [seconds, seconds of CPU]}.
"""

import concurrent.futures
import json
import random
import resource
import sys
import time

import numpy as np
import simplejpeg
import torch
from PIL import Image


def decode(file):
    with open(file, "rb") as stream:
        return simplejpeg.decode_jpeg(stream.read(), fastdct=False, fastupsample=False).shape


class Pictures(torch.utils.data.Dataset):
    def __init__(self, files, passes):
        self.files, self.passes = files, passes

    def __len__(self):
        return self.passes * len(self.files)

    def __getitem__(self, index):
        image = Image.open(self.files[index % len(self.files)]).convert("RGB")
        scale = 256 / min(image.size)
        if scale != 1:
            image = image.resize(
                [max(256, round(side * scale)) for side in image.size], Image.Resampling.BILINEAR
            )
        left, top = ((side - 256) // 2 + random.randrange(30) for side in image.size)
        image = image.crop((left, top, left + 227, top + 227))
        if random.random() < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        return torch.from_numpy(np.array(image))


def clock():
    """(seconds, seconds of CPU, those of processes that have ended included)."""
    cpu = sum(
        sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    return np.array([time.perf_counter(), cpu])


def main(files):
    answer = {}
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        list(pool.map(decode, files[:50]))
        begin = clock()
        list(pool.map(decode, files * 2))
        answer["libjpeg-turbo"] = ((clock() - begin) / len(files) / 2).tolist()
    torch.set_num_threads(1)
    begin = clock()
    for _ in torch.utils.data.DataLoader(Pictures(files, 3), 64, shuffle=True, num_workers=2):
        pass
    answer["PyTorch"] = ((clock() - begin) / len(files) / 3).tolist()
    print(json.dumps(answer))


if __name__ == "__main__":  # the loader's processes may import this file
    main(sys.argv[1:])
