"""The log formats of ``titan up``: lines for people, or one JSON object per line for collectors."""

from __future__ import annotations

import json
import logging
import time
from enum import StrEnum

from titan_sdk.errors import InvalidArgument

__all__ = ["JsonFormatter", "LogFormat", "configure_logging"]

_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}


class LogFormat(StrEnum):
    """Values of ``--log-format``."""

    TEXT = "text"
    JSON = "json"


class JsonFormatter(logging.Formatter):
    """One object per record: ``time`` (UTC), ``level``, ``logger``, ``message``, and what was passed as ``extra``."""

    def format(self, record: logging.LogRecord) -> str:
        stamp = self.formatTime(record, "%Y-%m-%dT%H:%M:%S")
        entry: dict[str, object] = {
            "time": f"{stamp}.{record.msecs:03.0f}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        entry |= {key: value for key, value in vars(record).items() if key not in _OWN}
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str)


def configure_logging(how: LogFormat, level: str) -> None:
    """Log to stderr.

    Raises:
        InvalidArgument: there is no such level.
    """
    number = logging.getLevelNamesMapping().get(level.upper())
    if number is None:
        raise InvalidArgument(f"--log-level {level!r} is none of debug, info, warning, error")
    handler = logging.StreamHandler()
    text = logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
    handler.setFormatter(JsonFormatter() if how is LogFormat.JSON else text)
    if how is LogFormat.JSON and handler.formatter is not None:
        handler.formatter.converter = time.gmtime
    logger = logging.getLogger("titan_sdk")
    logger.handlers = [handler]
    logger.setLevel(number)
