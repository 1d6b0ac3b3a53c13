"""`python -m alexnet_tf.export`: the command `alexnet export`, alexnet_tf/commands/export.py."""

from alexnet_tf.__main__ import launch

if __name__ == "__main__":
    launch("export")
if __name__ == "alexnet_tf.export":  # imported, it would take the place of the function of its name
    raise ImportError(
        "python -m alexnet_tf.export is a command; the function is alexnet_tf.export, "
        "after `import alexnet_tf`"
    )
