"""`python tools/describe.py`: the command `alexnet describe`, alexnet_tf/commands/describe.py."""

from alexnet_tf.__main__ import launch

if __name__ == "__main__":
    launch("describe")
