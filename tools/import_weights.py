"""`python tools/import_weights.py`: the command `alexnet import-weights`,
alexnet_tf/commands/import_weights.py.
"""

from alexnet_tf.__main__ import launch

if __name__ == "__main__":
    launch("import-weights")
