"""`python -m alexnet_tf.evaluate`: the command `alexnet evaluate`, commands/evaluate.py."""

from alexnet_tf.__main__ import launch

if __name__ == "__main__":
    launch("evaluate")
# imported, it would take the place of the function of its name
if __name__ == "alexnet_tf.evaluate":
    raise ImportError(
        "python -m alexnet_tf.evaluate is a command; the function is alexnet_tf.evaluate, "
        "after `import alexnet_tf`"
    )
