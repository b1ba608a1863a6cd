"""Questions about the master: broken statistics are asked for again, absent operations are named."""

from __future__ import annotations

import pytest

from tests.support.flow_runner import FlowRunner, MasterModel
from titan_sdk import ClientConfig, NotFound, PeerProtocolError
from titan_sdk.errors import NotSupported
from titan_sdk.flows.server import cluster_stats, job_details
from titan_sdk.session import Session
from titan_sdk.wire.opcodes import Opcode

GOOD = '{"active_workers": 0, "queue_size": 3, "workers": []}'


def test_statistics_with_a_broken_comma_are_asked_for_again():
    answers = ["{,", "{,", GOOD]
    runner = FlowRunner(lambda call: answers.pop(0))
    assert runner.run(cluster_stats()).queue_size == 3
    assert runner.time == pytest.approx(0.4)


def test_statistics_that_stay_broken_are_an_error():
    with pytest.raises(PeerProtocolError):
        FlowRunner(lambda call: "{,").run(cluster_stats())


def test_an_operation_a_real_master_lacks_is_named_with_what_to_do_instead():
    with pytest.raises(NotSupported, match=r"job_details: the Titan master at .* ask job_report\(\)"):
        FlowRunner(MasterModel()).run(job_details(Session(ClientConfig()), "a"))


def test_what_the_bundled_master_knows_of_a_job_is_asked_of_it():
    def answer(call):
        if call.opcode is Opcode.HELLO:
            return '{"server":"x","version":"1","features":["job_info"]}'
        return "ERROR_NOT_FOUND"

    with pytest.raises(NotFound):
        FlowRunner(answer).run(job_details(Session(ClientConfig()), "a"))
