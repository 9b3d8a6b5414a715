"""What needs a GPU, prepared and run in one go; ``run.py`` is the way in."""
