"""Naive Bayes over words."""

from __future__ import annotations

import math
import re
from collections import Counter

UNKNOWN = ""
"""Stands in a label's weights for a word that none of its messages has."""


def words(message: str) -> list[str]:
    """The words of a message, in small letters."""
    return re.findall(r"[a-z']+", message.lower())


def fit(labelled: list[tuple[str, str]]) -> dict[str, dict[str, float]]:
    """The weight of each word, by label."""
    counts: dict[str, Counter[str]] = {label: Counter() for label, _ in labelled}
    for label, message in labelled:
        counts[label].update(words(message))
    known = len(set().union(*counts.values()))
    weights = {}
    for label, count in counts.items():
        total = sum(count.values()) + known
        weights[label] = {word: math.log((n + 1) / total) for word, n in count.items()}
        weights[label][UNKNOWN] = math.log(1 / total)
    return weights


def label_of(weights: dict[str, dict[str, float]], message: str) -> str:
    """The label under which the message is likeliest."""
    return max(weights, key=lambda label: _likelihood(weights[label], message))


def _likelihood(weight: dict[str, float], message: str) -> float:
    return sum(weight.get(word, weight[UNKNOWN]) for word in words(message))
