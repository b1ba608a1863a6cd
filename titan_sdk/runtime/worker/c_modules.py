"""The C halves of standard modules whose Python halves take too long to import.

``socket``, ``signal`` and ``json`` import enum, re and selectors: about 12 ms per job together. CPython has had these C
modules under these names since before 3.8. Other Pythons use the public module with the same interface.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def _first(*names: str) -> Any:
    for name in names:
        try:
            return __import__(name)
        except ImportError:
            continue
    raise ImportError("none of %s can be imported" % ", ".join(names))


socket = _first("_socket", "socket")
signal = _first("_signal", "signal")
partial = _first("_functools", "functools").partial
sha256 = _first("_sha2", "_sha256", "hashlib").sha256


def _quoter() -> Any:
    try:
        return _first("_json").encode_basestring_ascii
    except (ImportError, AttributeError):
        from json.encoder import encode_basestring_ascii

        return encode_basestring_ascii


_quote = _quoter()


def dumps(value: Any) -> str:
    """JSON text, ASCII only, of None, bool, int, float, str, list and dict with text keys."""
    # Another thread may be importing it at this moment, and has not come to that name.
    whole = getattr(sys.modules.get("json"), "dumps", None)
    return _written(value) if whole is None else str(whole(value, separators=(",", ":")))


def _written(value: Any) -> str:
    if value is None:
        return "null"
    if value is True:
        return "true"
    if value is False:
        return "false"
    if isinstance(value, str):
        return str(_quote(value))
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, dict):
        return "{" + ",".join(_quote(key) + ":" + _written(item) for key, item in value.items()) + "}"
    return "[" + ",".join(map(_written, value)) + "]"


def signal_name(number: int) -> str:
    """``SIGKILL`` for 9; ``SIG34`` for a number without a name."""
    for name in dir(signal):
        if (
            name.startswith("SIG")
            and not name.startswith(("SIG_", "SIGRT"))
            and getattr(signal, name) == number
        ):
            return name
    return "SIG%d" % number
