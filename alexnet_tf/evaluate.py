"""`python -m alexnet_tf.evaluate`: the command `alexnet evaluate`, alexnet_tf/commands/evaluate.py."""

from alexnet_tf.__main__ import launch

if __name__ == "__main__":
    launch("evaluate")
