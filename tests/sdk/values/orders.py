"""A class that needs a package of its own."""

from __future__ import annotations

from typing import Any

import pydantic


class Order(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow", arbitrary_types_allowed=True)
    number: int
    items: Any = None
    _secret: int = pydantic.PrivateAttr(default=1)
