"""Rules about the tests themselves: none waits for a fixed time, and one that takes long says why."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from tests.rules.sources import Source, sources

LOOPS = (ast.While, ast.For, ast.AsyncFor)


def is_sleep(function: ast.expr) -> bool:
    return isinstance(function, ast.Attribute) and function.attr == "sleep"


def fixed_pauses(node: ast.AST) -> Iterator[ast.Call]:
    """Sleeps that no loop repeats until a condition holds; ``asyncio.sleep(0)`` only gives others their turn."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Call) and is_sleep(child.func) and ast.unparse(child.args[0]) != "0":
            yield child
        elif not isinstance(child, LOOPS):
            yield from fixed_pauses(child)


def unexplained_marks(source: Source) -> Iterator[int]:
    """Lines with the mark ``slow`` and no comment ``# Slow: ...`` in the four lines above."""
    lines = source.text.split("\n")
    for node in ast.walk(source.tree):
        if (
            isinstance(node, ast.Attribute)
            and node.attr == "slow"
            and ast.unparse(node) == "pytest.mark.slow"
        ):
            above = [line.strip() for line in lines[max(node.lineno - 5, 0) : node.lineno]]
            if not any(line.startswith("# Slow: ") for line in above):
                yield node.lineno


def test_no_test_waits_for_a_fixed_time() -> None:
    found = [f"{s.name}:{call.lineno}" for s in sources("tests") for call in fixed_pauses(s.tree)]
    assert not found, "a busy machine needs longer: wait for the condition, or make the clock a parameter"


def test_a_slow_test_says_why() -> None:
    found = [f"{source.name}:{line}" for source in sources("tests") for line in unexplained_marks(source)]
    assert not found, 'write "# Slow: the reason" above the mark'
