"""AlexNet for TensorFlow and Keras: the two-tower network of 2012, its training, its data path and its exports."""

__version__ = "0.1.0"
