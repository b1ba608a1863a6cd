"""Bytes in, bytes out: connections, room for them, TLS and the token. Nothing here knows a job."""
