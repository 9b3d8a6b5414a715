"""The command ``doctor``: `facts` gathers on a node, `diagnosis` judges, `nodes` reaches every node
of a cluster.
"""
