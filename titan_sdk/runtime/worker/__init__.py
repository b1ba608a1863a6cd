"""The part of the runtime that runs on a worker: standard library only, Python 3.8 and later.

It travels as a zip in which this package is called ``titan_runtime``. Its modules therefore import each other relatively,
and import nothing else of the SDK. Every job pays for the start-up time: a module imports at its top only what each job
needs, and nothing as heavy as json, re, enum, typing, socket, threading or subprocess.
"""
