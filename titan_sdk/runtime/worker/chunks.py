"""Turns output bytes into the texts of log chunks: in whole lines if possible, without loss or repetition."""

from __future__ import annotations

import codecs

from . import limits


class Chunker:
    """Decodes a stream of output, and cuts it at line ends."""

    def __init__(self) -> None:
        # Incremental, because two reads may split a character.
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""

    def next(self, data: bytes, final: bool) -> str:
        """The text to ship after `data`. An unfinished line is held back unless `final`."""
        text = self._held + self._decoder.decode(data, final)
        end = len(text) if final else self._cut(text)
        self._held = text[end:]
        return text[:end]

    @staticmethod
    def _cut(text: str) -> int:
        end = text.rfind("\n") + 1
        if not end:
            # Progress bars end lines with a carriage return. The last one may be half of "\r\n".
            end = text.rfind("\r", 0, -1) + 1
        return len(text) if len(text) - end > limits.LINE else end
