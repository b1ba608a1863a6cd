"""What a submit or an upload returns equals the word that upstream's SDK returns, and nothing else."""

from __future__ import annotations

import copy
import pickle

from titan_sdk.model.artifact import ArtifactRef
from titan_sdk.model.upstream_words import Accepted


def test_a_submit_is_dag_accepted_and_no_other_submit() -> None:
    one, two = Accepted(), Accepted()
    assert one == "DAG_ACCEPTED"
    assert one != "ERROR"
    assert one not in (two, None, 1)
    assert len({one, two, one}) == 2


def test_a_word_is_looked_for_in_what_was_accepted() -> None:
    assert "ACCEPTED" in Accepted()
    assert "ERROR" not in Accepted()
    assert 1 not in Accepted()


def test_an_artifact_is_the_masters_word_and_tells_what_was_uploaded() -> None:
    ref = ArtifactRef("a.zip", 7, "00ff", "DEPLOY_SUCCESS")
    assert ArtifactRef("a.zip", 7, "00ff") == "UPLOAD_SUCCESS"
    assert repr(ref) == "ArtifactRef(name='a.zip', bytes=7, sha256='00ff')"
    for same in (ref, copy.deepcopy(ref), pickle.loads(pickle.dumps(ref))):
        assert (same, same.name, same.bytes, same.sha256) == ("DEPLOY_SUCCESS", "a.zip", 7, "00ff")
