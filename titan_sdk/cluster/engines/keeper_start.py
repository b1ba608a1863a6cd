"""Runs ``keeper.py``. Python keeps the syntax tree of the script it was started with until that ends, and each
fork would take a copy of it apart; of this one there is next to none.
"""

from __future__ import annotations

path = __file__.replace("keeper_start", "keeper")
with open(path, "rb") as file:
    code = compile(file.read(), path, "exec", dont_inherit=True)
exec(code, {**globals(), "__file__": path})
