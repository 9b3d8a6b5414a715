"""The picture of a run: one self-contained page from its journal, manifests and run record."""
