"""`python tools/convert_tflite.py`: the command `alexnet convert`."""

from alexnet_tf.__main__ import launch

if __name__ == "__main__":
    launch("convert")
