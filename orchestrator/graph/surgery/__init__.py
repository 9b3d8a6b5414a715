"""Edits of a graph that the user asks for at a resume, each on protos, each undone by asking no more."""
