"""The bundled master: a Titan-compatible cluster on one machine."""

from __future__ import annotations

from titan_sdk.cluster.app import run_master
from titan_sdk.cluster.local import LocalCluster
from titan_sdk.cluster.server.tls import ServerTLS
from titan_sdk.cluster.settings import ClusterSettings

__all__ = ["ClusterSettings", "LocalCluster", "ServerTLS", "run_master"]
