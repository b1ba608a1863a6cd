"""Apache Airflow provider for Titan. Importing this package imports neither Airflow nor the SDK."""

from __future__ import annotations

__all__ = ["__version__"]

__version__ = "0.1.0"
