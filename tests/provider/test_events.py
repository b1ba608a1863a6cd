from __future__ import annotations

import json

import pytest

from titan_provider.events import JobEvent, Outcome
from titan_sdk import JobStatus


@pytest.mark.parametrize("outcome", Outcome)
def test_an_event_survives_the_way_through_airflows_database(outcome: Outcome) -> None:
    event = JobEvent(outcome, {"a": JobStatus.COMPLETED, "b": JobStatus.DEAD}, 7, 120, "what happened")
    assert JobEvent.from_dict(json.loads(json.dumps(event.to_dict()))) == event


@pytest.mark.parametrize("event", [None, {}, {"status": "success"}, {"v": 2}, "done"])
def test_what_is_no_event_is_refused(event: object) -> None:
    with pytest.raises(ValueError, match="version 1"):
        JobEvent.from_dict(event)  # type: ignore[arg-type]
