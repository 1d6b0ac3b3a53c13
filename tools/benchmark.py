"""`python tools/benchmark.py`: the command `alexnet benchmark`."""

from alexnet_tf.__main__ import launch

if __name__ == "__main__":
    launch("benchmark")
