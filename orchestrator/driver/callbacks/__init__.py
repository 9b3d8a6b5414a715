"""Other people's trackers, which look on while a run trains."""
