"""The runtime: the part that travels with every script job, and the reader of its records in TitanStore.

- ``spec``, ``bundle``, ``stub``: make a job's text for the worker from values. Pure.
- ``keys``, ``reader``: names and contents of the runtime's values in TitanStore. Pure.
- ``worker/``: runs on the worker, with Python 3.8 or later and the standard library only.
"""
