"""Input functions that tests ship with a job, as the text of a file."""

WITH_A_PAUSE = """
import time

import numpy as np


def batches(ctx):
    position = ctx.position + ctx.rank
    while True:
        time.sleep({seconds})  # a batch of a real run isn't there at once either
        rng = np.random.default_rng(position)
        x = rng.normal(size=(8, 6)).astype(np.float32)
        yield {{"x:0": x, "y:0": np.argmax(x[:, :3], axis=1)}}
        position += ctx.world_size
"""
WITHOUT_END = WITH_A_PAUSE.format(seconds=0.01)
