"""A member of a ``(str, Enum)`` stands for its value wherever a text goes, not for the name that an f-string writes."""

from __future__ import annotations

from enum import Enum

from titan_sdk import JobStatus, TitanJob


def test_values_keys_members_ids_and_tags(api, unique, script):
    class Text(str, Enum):  # noqa: UP042 - not StrEnum, whose members print as their values
        KEY = unique("key")
        SET = unique("set")
        JOB = unique("job")
        DAG = unique("dag")
        TAG = "GPU"
        VALUE = "value"

    api.store_put(Text.KEY, Text.VALUE)
    assert (api.store_get(Text.KEY.value), api.store_get(Text.KEY)) == ("value", "value")
    api.store_sadd(Text.SET, Text.VALUE)
    assert api.store_smembers(Text.SET.value) == ["value"]
    job = TitanJob(Text.JOB, script("print('ran')"), requirement=Text.TAG, params={"tag": Text.TAG})
    assert api.submit_dag(Text.DAG, [job]).wait(timeout=300).state is JobStatus.COMPLETED
    assert api.find_dag(Text.DAG.value).jobs[0].job_id == Text.JOB.value
    assert (api.get_job_status(Text.JOB), api.fetch_logs(Text.JOB)) == ("COMPLETED", "ran\n")
