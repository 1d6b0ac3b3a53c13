"""`python tools/visualize.py`: the command `alexnet visualize`."""

from alexnet_tf.__main__ import launch

if __name__ == "__main__":
    launch("visualize")
