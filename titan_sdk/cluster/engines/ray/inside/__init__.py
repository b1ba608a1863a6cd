"""The code in Ray's processes: drivers, actors and workers. The front does not import it."""
