"""`python -m alexnet_tf.finetune`: the command `alexnet finetune`, commands/finetune.py."""

from alexnet_tf.__main__ import launch

if __name__ == "__main__":
    launch("finetune")
