"""Exact conversion of Python values to JSON and back. The package travels with each job, so both ends use the same code.

A value of JSON's own types stays unchanged. Any other value becomes an envelope:

    {"titan_value": 1, "value": TREE}

In a tree, ``null``, true and false, numbers, texts, arrays and objects have their usual meaning. Any other value is an
object with the key ``$``, which names its kind:

| ``$`` | more fields |
|---|---|
| ``int`` | ``v``: hexadecimal text of a number beyond 4,000 digits |
| ``float`` | ``v``: ``nan``, ``inf`` or ``-inf`` |
| ``str`` | ``v``: BUFFER of its UTF-8 with surrogates, for a text in which JSON would join two surrogates |
| ``bytes``, ``bytearray`` | ``v``: BUFFER |
| ``tuple``, ``set``, ``frozenset`` | ``v``: array of trees |
| ``dict`` | ``v``: array of ``[key, value]``; an object with text keys, none of them ``$``, needs no such form |
| ``datetime``, ``time`` | ``v``: ISO 8601 without zone; ``fold``: 1; ``tz``: ZONE |
| ``date``, ``decimal``, ``uuid`` | ``v``: its text |
| ``timedelta`` | ``v``: ``[days, seconds, microseconds]`` |
| ``path`` | ``kind``: ``Path``, ``PurePosixPath`` or ``PureWindowsPath``; ``v``: its text |
| ``enum`` | ``class``: ``module:Name``; ``name``, or ``value`` of a flag; ``plain``: the text or number of a member that is also one |
| ``namedtuple`` | ``class``; ``v``: array of trees |
| ``dataclass`` | ``class``; ``v``: object of its fields |
| ``pydantic`` | ``class``; ``v``, ``set``, ``extra``, ``private`` |
| ``numpy.scalar`` | ``dtype``; ``v``: a number or text, or BUFFER |
| ``numpy.array`` | ``dtype``, ``shape``, ``order``; ``v``: BUFFER, or ``items``: array of trees for objects |
| ``pandas.DataFrame``, ``pandas.Series``, ``pandas.Index`` | ``shape``, ``dtypes``; the rest is explained in ``frames.py`` |
| ``pandas.Timestamp``, ``pandas.Timedelta``, ``pandas.NA``, ``pandas.NaT`` | ``v``, ``unit``, ``tz`` |
| ``polars.DataFrame``, ``polars.Series`` | ``shape``, ``dtypes``; ``v``: BUFFER with uncompressed Arrow IPC |

A whole tree, but not a part of one, may be ``{"$": "pickle", "python": "3.11", "v": BUFFER}``: a value written by
cloudpickle. Only a reader that has chosen pickles accepts it.

BUFFER is base64 text. ZONE is ``{"zone": "Europe/Berlin"}`` or ``{"offset": [seconds, microseconds], "name": ...}``.
"""

from __future__ import annotations

from .errors import NotAllowed, Refused, Unreadable
from .reading import load
from .writing import MARK, Envelope, dump, is_envelope

__all__ = ["MARK", "Envelope", "NotAllowed", "Refused", "Unreadable", "dump", "is_envelope", "load"]
