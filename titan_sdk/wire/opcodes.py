"""Operation codes of Titan v1 (protocol sections 1.1, 2 and 2.1) and our extensions (docs/protocol.md)."""

from __future__ import annotations

from enum import IntEnum

__all__ = ["FAILURE_WORDS", "STORE_FAILED", "Opcode", "reply_opcode"]


class Opcode(IntEnum):
    """The second header byte. Sender in brackets: C client, W worker, M master."""

    REGISTER = 0x02  # [W]
    SUBMIT_JOB = 0x03  # [C] not used by this SDK: 60 s limit, no parents (section 4.7)
    SUBMIT_DAG = 0x04  # [C]
    DEPLOY = 0x05  # [C]
    RUN = 0x06  # [C] broken on a real master (section 2)
    STOP = 0x07  # [C]
    STATS = 0x08  # [C]
    STATS_JSON = 0x09  # [C]
    UNREGISTER_SERVICE = 0x0A  # [C/W]
    CLEAN_STATS = 0x0B  # [C]
    KILL_WORKER = 0x11  # [C]
    JOB_COMPLETE = 0x12  # [W]
    LOG_STREAM = 0x15  # [W]
    GET_LOGS = 0x16  # [C]
    LOG_BATCH = 0x17  # [W]
    # 0x40-0x4F are ours; a real master answers UNKNOWN_OPCODE to each (docs/protocol.md)
    HELLO = 0x40  # [C]
    WAIT = 0x41  # [C]
    JOB_INFO = 0x42  # [C]
    LOG_READ = 0x43  # [C]
    ASSET_WRITE = 0x44  # [C]
    ASSET_READ = 0x45  # [C]
    STORE_DELETE = 0x46  # [C]
    STORE_KEYS = 0x47  # [C]
    STORE_SWAP = 0x48  # [C]
    STORE_EXPIRE = 0x49  # [C]
    ONCE = 0x4A  # [C]
    SUBMIT = 0x4B  # [C]
    LIST = 0x4C  # [C]
    CHANGES = 0x4D  # [C]
    ASSET_DELETE = 0x4E  # [C]
    ENGINE = 0x4F  # between the front of a Ray cluster and its nodes alone
    ACK = 0x50  # [M]
    ERROR = 0x51  # [M]
    DATA = 0x52  # [M] defined, never sent by a real master
    UPLOAD_ASSET = 0x53  # [C]
    FETCH_ASSET = 0x54  # [C]
    GET_JOB_STATUS = 0x55  # [C]
    CANCEL_JOB = 0x56  # [C]
    DEPLOY_SCRIPT = 0x57  # [C]
    KV_SET = 0x60  # [C]
    KV_GET = 0x61  # [C]
    KV_SADD = 0x62  # [C]
    KV_SMEMBERS = 0x63  # [C]


FAILURE_WORDS = ("ERROR", "UNKNOWN", "SERVER_ERROR", "UPLOAD_FAILED", "DEPLOY_FAILED")

STORE_FAILED = "SERVER_ERROR: the master's store does not do this: "
"""Begins the bundled master's reply to a request that its store cannot serve at the moment."""


def reply_opcode(text: str) -> Opcode:
    """The opcode of a master's reply. It is derived from the reply's text, user data included (section 1.1)."""
    return Opcode.ERROR if text.startswith(FAILURE_WORDS) else Opcode.ACK
