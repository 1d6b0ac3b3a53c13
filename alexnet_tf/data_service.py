"""`python -m alexnet_tf.data_service`: the command `alexnet data-service`,
alexnet_tf/commands/data_service.py.
"""

from alexnet_tf.__main__ import launch

if __name__ == "__main__":
    launch("data-service")
