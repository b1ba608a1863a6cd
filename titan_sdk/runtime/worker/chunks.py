"""Bytes of output to the texts of log chunks: whole lines where possible, nothing lost, nothing twice."""

from __future__ import annotations

import codecs

from . import limits


class Chunker:
    """Decodes a stream of output and cuts it where a reader would."""

    def __init__(self) -> None:
        # Incremental: a character may be split over two reads.
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""

    def next(self, data: bytes, final: bool) -> str:
        """The text that may be shipped after `data`; the rest of a line is held back unless `final`."""
        text = self._held + self._decoder.decode(data, final)
        end = len(text) if final else self._cut(text)
        self._held = text[end:]
        return text[:end]

    @staticmethod
    def _cut(text: str) -> int:
        end = text.rfind("\n") + 1
        if not end:
            # Progress bars end their lines with a bare carriage return; the last one may be half of "\r\n".
            end = text.rfind("\r", 0, -1) + 1
        return len(text) if len(text) - end > limits.LINE else end
