"""Writes the blocking half of the client from the asynchronous one: ``make unasync``.

``CODE`` is what Python and this SDK call otherwise in blocking code, ``PROSE`` what docstrings say otherwise.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SDK = ROOT / "titan_sdk"

HALVES = {
    SDK / "async_client.py": SDK / "client.py",
    SDK / "async_handles.py": SDK / "handles.py",
    SDK / "async_drivers.py": SDK / "drivers.py",
}

CODE = {
    r"^import asyncio\n": "",
    r"\bawait asyncio\.to_thread\((\w+)\)": r"\1()",
    r"\basyncio\.sleep\b": "time.sleep",
    r"\bfor (\w+) in (await .+):\n +yield \1\n": r"yield from \2\n",
    r"\bawait (?=[\w(])": "",
    r"\basync (?=(def|for|with)\b)": "",
    r"\b__a(enter|exit)__\b": r"__\1__",
    r"\bAsync(?=[A-Z])": "",
    r"\btitan_sdk\.async_": "titan_sdk.",
    r"\btransport import aio$": "transport import sync",
    r"\btransport\.aio_pool\b": "transport.pool",
    r"\baio\.": "sync.",
}

PROSE = {
    "the asynchronous entry": "the synchronous entry",
    "Wait until": "Block until",
    "they belong to the event loop they are awaited on, may run concurrently, and are safe to cancel.": (
        "they block, and may be called from several threads."
    ),
    "use it on its client's event loop, as long": "use it from any thread, as long",
    "on the running event loop; any number of tasks": "on the calling thread; any number of threads",
    "Run a flow to its end; cancelling ends it at its current step.": "Run a flow to its end.",
}

SUBSTITUTIONS = [(re.compile(pattern, re.MULTILINE), new) for pattern, new in CODE.items()] + [
    (re.compile(r"\s+".join(map(re.escape, sentence.split()))), new) for sentence, new in PROSE.items()
]


def blocking_halves() -> dict[Path, str]:
    """The text that each blocking module has to have.

    Raises:
        ValueError: nothing says any more what a substitution replaces, so that something may be left as it was.
    """
    unused = {pattern for pattern, _ in SUBSTITUTIONS}
    texts = {}
    for source, target in HALVES.items():
        text = source.read_text(encoding="utf-8")
        for pattern, new in SUBSTITUTIONS:
            text, count = pattern.subn(new, text)
            if count:
                unused.discard(pattern)
        head = f"# Made from {source.name} by `make unasync`: edit that file, not this one.\n"
        texts[target] = formatted(head + text, target)
    if unused:
        raise ValueError(f".ci/unasync.py: nothing matches {sorted(pattern.pattern for pattern in unused)}")
    return texts


def formatted(text: str, target: Path) -> str:
    """As ``make fix`` would leave it."""
    for command in (["check", "--fix-only"], ["format"]):
        ruff = [sys.executable, "-m", "ruff", *command, "--quiet", "--stdin-filename", str(target), "-"]
        done = subprocess.run(
            ruff, cwd=ROOT, input=text, stdout=subprocess.PIPE, encoding="utf-8", check=True
        )
        text = done.stdout
    return text


if __name__ == "__main__":
    for target, text in blocking_halves().items():
        target.write_text(text, encoding="utf-8")
