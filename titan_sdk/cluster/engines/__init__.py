"""The engines, which run jobs: local processes, or a Ray cluster."""
