"""Starts a worker process. Run by its path: ``python3 -I -S bootstrap.py LISTENER NAME STATE_FOLDER RUNTIME [orphan]``.

The modules are imported under their full names, but without the packages above them: those load the whole SDK, and every
fork of the process would contain it.
"""

from __future__ import annotations

import os
import sys
import types
from os.path import dirname


def _bare(name: str, folder: str) -> None:
    package = types.ModuleType(name)
    package.__path__ = [folder]
    sys.modules[name] = package


if __name__ == "__main__":
    _root = dirname(dirname(dirname(__file__)))
    for _name in ("titan_sdk", "titan_sdk.cluster", "titan_sdk.runtime"):
        _bare(_name, _root + _name[len("titan_sdk") :].replace(".", "/"))
    if sys.argv[5:] == ["orphan"] and os.fork():
        os._exit(0)
    from titan_sdk.cluster.worker.process import main

    main(int(sys.argv[1]), *sys.argv[2:5])
