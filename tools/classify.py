"""`python tools/classify.py`: the command `alexnet classify`, alexnet_tf/commands/classify.py."""

from alexnet_tf.__main__ import launch

if __name__ == "__main__":
    launch("classify")
