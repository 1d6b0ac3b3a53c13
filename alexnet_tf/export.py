"""`python -m alexnet_tf.export`: the command `alexnet export`, alexnet_tf/commands/export.py."""

from alexnet_tf.__main__ import launch

if __name__ == "__main__":
    launch("export")
