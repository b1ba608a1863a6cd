"""The code on a node of the Ray cluster, in Ray's worker processes and beside them."""
