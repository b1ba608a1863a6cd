"""What travels with every script job, and how to read what it leaves in TitanStore.

- ``spec``, ``bundle``, ``stub``: a job's text for the worker, made from values. Pure.
- ``keys``, ``reader``: names and contents of the runtime's values in TitanStore. Pure.
- ``worker/``: runs on the worker, on Python 3.8 and the standard library alone.
"""
