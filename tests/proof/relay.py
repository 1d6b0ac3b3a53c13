"""Passes frames of Ethernet on between two TAP devices, each after a delay in seconds:

python relay.py tap0 tap1 0.01
"""

import collections
import fcntl
import os
import select
import struct
import sys
import time

_TUNSETIFF, _TAP, _NO_HEADER = 0x400454CA, 0x0002, 0x1000


def opened(name):
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(device, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _TAP | _NO_HEADER))
    return device


def relay(names, delay):
    devices = [opened(name) for name in names]
    to = dict(zip(devices, reversed(devices)))
    waiting = collections.deque()  # (when, to which device, frame)
    while True:
        wait = max(0, waiting[0][0] - time.monotonic()) if waiting else None
        for device in select.select(devices, [], [], wait)[0]:
            waiting.append((time.monotonic() + delay, to[device], os.read(device, 65536)))
        while waiting and waiting[0][0] <= time.monotonic():
            _, device, frame = waiting.popleft()
            os.write(device, frame)


if __name__ == "__main__":
    relay(sys.argv[1:3], float(sys.argv[3]))
