"""An `sshd` on a loopback port with keys and settings of its own, for Airflow's SSHOperator. Debian's, where it is installed."""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.peers import installed

__all__ = ["serve"]

_SETTINGS = """
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host
AuthorizedKeysFile {folder}/user.pub
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
PermitRootLogin prohibit-password
"""


@contextlib.contextmanager
def serve(folder: Path) -> Iterator[dict[str, str]]:
    """The environment that gives Airflow its connection; empty, with a sentence, where there can be none.

    Args:
        folder: for its keys and settings; nobody else may read it.
    """
    sshd = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin")
    if sshd is None or not installed("airflow.providers.ssh"):
        print(
            "  left out: SSHOperator, as Debian's openssh-server or apache-airflow-providers-ssh is not installed"
        )
        yield {}
        return
    with socket.create_server(("127.0.0.1", 0)) as chosen:
        port = int(chosen.getsockname()[1])
    for name in ("host", "user"):
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
        subprocess.run(command, check=True)
    settings = folder / "sshd_config"
    settings.write_text(_SETTINGS.format(port=port, folder=folder), encoding="utf-8")
    if os.geteuid() == 0:
        # As Debian's service does before it starts one.
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    log = folder / "sshd.log"
    with log.open("wb") as errors:
        process = subprocess.Popen([sshd, "-D", "-e", "-f", str(settings)], stderr=errors)
    try:
        if _listens(process, port):
            yield {"AIRFLOW_CONN_BENCH_SSH": _connection(port, folder / "user")}
        else:
            print(
                f"  left out: SSHOperator, as sshd does not start: {log.read_text(errors='replace').strip()}"
            )
            yield {}
    finally:
        process.terminate()
        process.wait(timeout=60)


def _listens(process: subprocess.Popen[bytes], port: int) -> bool:
    while process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            time.sleep(0.05)
        else:
            return True
    return False


def _connection(port: int, key: Path) -> str:
    found = {"conn_type": "ssh", "host": "127.0.0.1", "port": port, "login": getpass.getuser()}
    extra = {"key_file": str(key), "no_host_key_check": "true", "look_for_keys": "false"}
    return json.dumps(found | {"extra": extra})
