"""Compiles the bundle to bytecode, once per worker: compiling it again would cost each job 10 ms.

The compiled bundle is named by its own SHA-256, so the stub verifies it as strictly as the fetched one.
"""

from __future__ import annotations

import os

from .c_modules import sha256

_FOR_OTHERS = tuple(
    "titan_runtime/" + name for name in ("lib/", "__init__", "environment", "limits", "c_modules")
)


def compile_bundle(bundle: str, folder: str, prefix: str) -> None:
    """Write ``<prefix><sha256>.zip`` into the cache folder, atomically. Concurrent jobs write the same file.

    A failure only costs the next job time.
    """
    import importlib.util
    import io
    import marshal
    import zipfile

    target = io.BytesIO()
    # An unchecked hash-based pyc is valid for any time stamp of the source beside it.
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
