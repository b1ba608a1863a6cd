"""Bytes in, bytes out: connections and their limits, TLS and the token. Nothing here knows a job."""
