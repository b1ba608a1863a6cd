"""State in Redis or Valkey; see ``store.py``."""
