"""What runs on a node of the Ray cluster, inside Ray's worker processes and beside them."""
