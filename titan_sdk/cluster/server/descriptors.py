"""How many connections the descriptors of this process allow."""

from __future__ import annotations

import logging
import resource

from titan_sdk.cluster.settings import ClusterSettings

__all__ = ["capacity"]

log = logging.getLogger(__name__)

_OWN = 128
"""Files, sockets and pipes of the master's own, connections included that are just being accepted or given up."""
_PER_SLOT = 4


def capacity(settings: ClusterSettings) -> int:
    """``max_connections``, or less where the limit of open files is too low; then a line in the log says so."""
    wanted, (limit, _) = settings.max_connections, resource.getrlimit(resource.RLIMIT_NOFILE)
    own = _OWN + _PER_SLOT * settings.slots * len(settings.worker_specs())
    if limit == resource.RLIM_INFINITY or limit >= wanted + own:
        return wanted
    # Where the master itself would not have enough: as many as it has for itself.
    allowed = max(limit - own, limit // 2)
    if allowed >= wanted:
        return wanted
    log.warning(
        "this process may open %d files, so it takes %d connections and not %d; raise the limit to %d (ulimit -n %d)",
        *(limit, allowed, wanted, wanted + own, wanted + own),
    )
    return allowed
