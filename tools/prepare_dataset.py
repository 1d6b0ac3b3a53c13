"""`python tools/prepare_dataset.py`: the command `alexnet prepare`."""

from alexnet_tf.__main__ import launch

if __name__ == "__main__":
    launch("prepare")
