"""A spam filter of forty lines: a package that no worker has installed."""
