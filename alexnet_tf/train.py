"""`python -m alexnet_tf.train`: the command `alexnet train`, alexnet_tf/commands/train.py."""

from alexnet_tf.__main__ import launch

if __name__ == "__main__":
    launch("train")
