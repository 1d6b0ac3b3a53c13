"""`python tools/benchmark.py`:

the command `alexnet benchmark`, alexnet_tf/commands/benchmark.py.
"""

from alexnet_tf.__main__ import launch

if __name__ == "__main__":
    launch("benchmark")
