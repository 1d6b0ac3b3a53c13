"""`python -m alexnet_tf.train`: the command `alexnet train`, alexnet_tf/commands/train.py."""

from alexnet_tf.__main__ import launch

if __name__ == "__main__":
    launch("train")
if __name__ == "alexnet_tf.train":  # imported, it would take the place of the function of its name
    raise ImportError(
        "python -m alexnet_tf.train is a command; the function is alexnet_tf.train, "
        "after `import alexnet_tf`"
    )
