"""The bundle with its bytecode inside, kept beside the fetched one: compiling it anew would cost each job 10 ms.

Its name carries its own SHA-256, so the stub verifies it as strictly as what it fetched.
"""

from __future__ import annotations

import os

from .c_modules import sha256

_FOR_OTHERS = tuple(
    "titan_runtime/" + name for name in ("lib/", "__init__", "environment", "limits", "c_modules")
)


def compile_bundle(bundle: str, folder: str, prefix: str) -> None:
    """Write ``<prefix><sha256>.zip`` into the cache folder, atomically; concurrent jobs write the same.

    Failure to do so costs the next job time and nothing else.
    """
    import importlib.util
    import io
    import marshal
    import zipfile

    target = io.BytesIO()
    # An unchecked hash-based pyc: valid whatever the time stamp of the source beside it.
    header = importlib.util.MAGIC_NUMBER + (1).to_bytes(4, "little") + bytes(8)
    with zipfile.ZipFile(bundle) as source, zipfile.ZipFile(target, "w") as compiled:
        for name in source.namelist():
            text = source.read(name)
            # Fixed dates: every launcher that does this at the same time makes the same bytes.
            if name.startswith(_FOR_OTHERS):
                # For other versions of Python that the job may start; the less there is, the sooner it is read.
                compiled.writestr(zipfile.ZipInfo(name), text)
            code = compile(text, name, "exec", dont_inherit=True)
            compiled.writestr(zipfile.ZipInfo(name + "c"), header + marshal.dumps(code))
    data = target.getvalue()
    temporary = "%s/.%s%d" % (folder, prefix, os.getpid())
    with open(temporary, "wb") as file:
        file.write(data)
    os.replace(temporary, "%s/%s%s.zip" % (folder, prefix, sha256(data).hexdigest()))
