"""``python variables.py PREFIX OUT.npz``: what does plain TensorFlow read from a checkpoint?"""

import sys

import numpy as np
import tensorflow as tf

reader = tf.train.load_checkpoint(sys.argv[1])
np.savez(
    sys.argv[2], **{name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}
)
