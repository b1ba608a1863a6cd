"""Runs ``keeper.py``, and for a fork server ``keeper_fork.py`` before it. Python keeps the syntax tree of the script
it was started with until that ends, and each fork would take a copy of it apart; of this one there is next to none.
"""

from __future__ import annotations

import sys

space = dict(globals())
for part in ("keeper",) if sys.argv[-1] == "COLD" else ("keeper_fork", "keeper"):
    space["__file__"] = __file__.replace("keeper_start", part)
    with open(space["__file__"], "rb") as file:
        code = compile(file.read(), space["__file__"], "exec", dont_inherit=True)
    exec(code, space)
