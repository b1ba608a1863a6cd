"""The stub, the script that a worker runs: one line of bash that finds a Python, then Python code in the same file.

Only one interpreter starts: bash replaces itself with it, so the worker's SIGKILL reaches the launcher directly.

The Python part must parse on Python 2.7, to be able to report that that is too old. It finds the runtime bundle in a
private cache folder or fetches it from the master. It runs only a bundle with the expected SHA-256.
"""

from __future__ import annotations

import functools
import json
import re
import shlex

from titan_sdk.model.rules import CANCEL_GRACE, LONGEST_GRACE
from titan_sdk.runtime.bundle import Asset
from titan_sdk.runtime.spec import RunSpec

__all__ = ["build_stub", "first_line", "grace_of", "is_launcher", "spec_for", "takes_any_python"]

_ANY = "python3 python python3.{14,13,12,11,10,9,8}"
_IS_LAUNCHER = "shopt -s execfail;set -- "
_FIND = (
    _IS_LAUNCHER + "{candidates};{check}"
    'while [ $# -gt 0 ];do p=$1;shift;command -v -- "$p">/dev/null&&exec "$p" -EsSx "$0" "$@";done;'
)


_GRACE = re.compile(rb" # cancel_grace=(\d+(?:\.\d+)?)$")
_LAST_WORDS = 5.0
"""Seconds for a launcher to hand in the record and the last output of a stopped job."""


_CHECK = (
    'if command -v -- "$1">/dev/null&&[ "$("$1" -EsSc "print(6*7)" 2>/dev/null </dev/null)" != 42 ];'
    "then echo {no_python};exit 98;fi;"
)

_NOT_FOUND = (
    "titan-runtime: this worker has no Python for job {id}: {what} on its PATH. The job's code was not started. "
    "Install Python 3.8 or later there, or name one with python="
)

_NO_PYTHON = "titan-runtime: what this worker has as {python!r} is no Python, so job {id} was not started; name one with python="

_TEXT = rb"'[^'\\\n]*'"
_BUNDLE = re.compile(
    rb"\{'v': 1, 'id': %s, 'nonce': %s, 'master': \[%s, \d+\], 'runtime': \{'asset': '([\w.-]+)', 'sha256': '(\w+)'\}, "
    % (_TEXT, _TEXT, _TEXT)
)
"""The beginning of a spec, up to its launcher. Ids that need quoting do not match."""

# Comments and three of four spaces of indentation are removed before the stub travels.
_PYTHON = r"""
import sys
del sys.path[0]  # the workspace, where a staged json.py would shadow the module
import os, time
S = {spec}
H, P = S["master"]
N, X = S["runtime"]["asset"], S["runtime"]["sha256"]
E = os.environ.get
def die(code, text):
    sys.stdout.write("titan-runtime: job %s was not started: %s\n" % (S["id"], text))
    sys.stdout.flush()
    os._exit(code)
if sys.version_info < (3, 8):
    for i in range(1, len(sys.argv)):
        try:
            os.execvp(sys.argv[i], [sys.argv[i], "-EsSx", __file__] + sys.argv[i + 1:])
        except OSError:
            pass
    die(98, "Python here is %d.%d; install 3.8 or later, or set python=" % sys.version_info[:2])
for m in "_sha2", "_sha256", "hashlib":  # the first two load without OpenSSL
    try:
        sha = __import__(m).sha256
        break
    except ImportError:
        pass
def good(path, digest):
    try:
        with open(path, "rb") as f:
            return sha(f.read()).hexdigest() == digest
    except OSError:
        pass
def fetch():
    import base64, socket
    begun, pause = time.time(), .1
    while 1:
        end = begun + float(E("TITAN_RUNTIME_START_PATIENCE") or 10)
        try:
            u = E("TITAN_SOCKET")  # a private way to the worker's own master
            if u:
                s = socket.socket(socket.AF_UNIX)
                s.connect(u)
            else:
                s = socket.create_connection((H, P), 5)
            s.settimeout(30)
            s.sendall(b"\1\x54\0\0" + len(N).to_bytes(4, "big") + N.encode())
            f = s.makefile("rb")
            t = f.read(int.from_bytes(f.read(8)[4:], "big"))
            s.close()
            why = "master %s:%s has no intact %s (%r); submit again" % (H, P, N, t[:60])
            b = base64.b64decode(t)
            if sha(b).hexdigest() == X:
                return b
        except OSError as e:
            end = max(end, begun + float(E("TITAN_RUNTIME_AWAY_PATIENCE") or 0))
            why = "cannot reach the Titan master at %s:%s (%s). If workers know it by another address, set worker_address (ClientConfig, or the connection's extra)" % (H, P, e)
        except ValueError:
            pass
        if time.time() > end:
            die(97, why)
        time.sleep(pause)
        pause *= 2
def folder():
    for d in E("TITAN_RUNTIME_CACHE"), (E("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")) + "/titan-runtime", "%s/titan-runtime-%d" % (E("TMPDIR") or "/tmp", os.getuid()):
        try:
            os.makedirs(d, 448, True)  # 0700; only a folder that nobody else can write to will do
            s = os.lstat(d)
            if s.st_uid == os.getuid() and s.st_mode & 61503 == 16384 and os.access(d, 7):
                return d
        except (OSError, TypeError):
            pass
    die(98, "no private folder for the runtime; set TITAN_RUNTIME_CACHE on the worker")
D = folder()
T = X[:32] + "-" + sys.implementation.cache_tag + "-"
for Z in os.listdir(D):
    if Z.startswith(T) and good(D + "/" + Z, Z[len(T):-4]):
        Z, T = D + "/" + Z, None
        break
else:
    Z = D + "/" + X + ".zip"
    if not good(Z, X):
        b = fetch()
        t = "%s/.%d" % (D, os.getpid())
        with open(t, "wb") as f:
            f.write(b)
        os.replace(t, Z)
sys.path.insert(0, Z)
from titan_runtime.main import main
main(S, Z, D, T)
"""


def build_stub(spec: RunSpec, bundle: Asset) -> bytes:
    """The staged ``.sh`` file of a job with the runtime. Equal arguments give equal bytes."""
    what = "neither python3 nor python" if spec.python is None else f"no {spec.python!r}"
    line = first_line(
        spec.python,
        _NOT_FOUND.format(id=spec.job_id, what=what),
        _NO_PYTHON.format(id=spec.job_id, python=spec.python),
        spec.cancel_grace,
    )
    # A Python literal rather than JSON: the launcher starts without the json module.
    python = _minified().replace("{spec}", ascii(json.loads(spec.to_json(bundle))))
    return f"{line}\n{python}".encode()


def spec_for(script: bytes, bundle: Asset) -> str | None:
    """The spec in a script of ``build_stub``, a Python literal. ``None`` unless the script accepts any Python, needs this
    very bundle, and was written by this version.
    """
    before, _, after = _minified().partition("{spec}")
    program = script.partition(b"\n")[2]
    if not (
        takes_any_python(script) and program.startswith(before.encode()) and program.endswith(after.encode())
    ):
        return None
    spec = program[len(before) : -len(after)]
    found = _BUNDLE.match(spec)
    is_own = found is not None and found.groups() == (bundle.name.encode(), bundle.sha256.encode())
    return spec.decode("ascii") if is_own and spec.isascii() else None


@functools.cache
def _minified() -> str:
    lines = [re.sub(r"  #.*$", "", line) for line in _PYTHON.strip().splitlines()]
    return "\n".join(re.sub(r"^(    )+", lambda m: " " * (len(m[0]) // 4), line) for line in lines) + "\n"


# ---------------------------------------------------------------------- the first line of the stub


def first_line(python: str | None, sentence: str, no_python: str, grace: float = CANCEL_GRACE) -> str:
    """The line of bash that runs the rest of the file with this Python (``None``: the first on the PATH).

    Args:
        sentence: printed if there is no such program.
        no_python: printed if the program is not Python. Checked only if its name leaves that open, because the check
            starts an interpreter.
        grace: seconds for the job to end after SIGTERM. A master that stops the job reads them here.
    """
    candidates = _ANY if python is None else shlex.quote(python)
    asks = python is not None and not re.match(r"(python|pypy)[\d.]*$", python.rpartition("/")[2])
    check = _CHECK.format(no_python=shlex.quote(no_python)) if asks else ""
    told = "" if grace == CANCEL_GRACE else f" # cancel_grace={grace:.3f}"
    return f"{_FIND.format(candidates=candidates, check=check)}echo {shlex.quote(sentence)};exit 98{told}"


def grace_of(script: bytes) -> tuple[float, float]:
    """Two times in seconds: for a run of this script to end after SIGTERM, and for its other processes to end after its
    first process was killed. The guard of a job with the runtime uses the second to end the job itself.
    """
    if not is_launcher(script):
        return CANCEL_GRACE, 0.0
    found = _GRACE.search(script.partition(b"\n")[0])
    seconds = CANCEL_GRACE if found is None else min(float(found[1]), LONGEST_GRACE)
    return seconds + _LAST_WORDS, seconds + _LAST_WORDS


def is_launcher(script: bytes) -> bool:
    """Whether this is the stub of a job with the runtime, which contains the user's script."""
    return script.startswith(_IS_LAUNCHER.encode())


def takes_any_python(script: bytes) -> bool:
    """Whether this is the stub of a job with the runtime without ``python=``."""
    return script.startswith(_FIND.format(candidates=_ANY, check="").encode())
