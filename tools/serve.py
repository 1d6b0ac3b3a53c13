"""`python tools/serve.py`: the command `alexnet serve`, alexnet_tf/commands/serve.py."""

from alexnet_tf.__main__ import launch

if __name__ == "__main__":
    launch("serve")
