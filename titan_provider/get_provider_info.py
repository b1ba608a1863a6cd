"""The provider's metadata. Airflow loads this module unguarded in every process, so it imports nothing.

The connection form of Airflow 3 is drawn from here alone, without importing the hook. A field whose type
lacks ``"null"`` would keep the form's Save button disabled while the field is empty.
"""

from __future__ import annotations

__all__ = ["get_provider_info"]


def get_provider_info() -> dict[str, object]:
    """Provider metadata in the form of Airflow's ``provider_info.schema.json``."""
    return {
        "package-name": "airflow-provider-titan",
        "name": "Titan",
        "description": "Dispatch GPU and general work from Airflow DAGs to a Titan cluster.",
        "integrations": [
            {
                "integration-name": "Titan",
                "external-doc-url": "https://github.com/ramn51/titan-orchestrator",
                "tags": ["service"],
            }
        ],
        "hooks": [{"integration-name": "Titan", "python-modules": ["titan_provider.hooks.titan"]}],
        "operators": [
            {
                "integration-name": "Titan",
                "python-modules": [
                    "titan_provider.operators.titan",
                    "titan_provider.operators.dag",
                    "titan_provider.operators.service",
                ],
            }
        ],
        "sensors": [{"integration-name": "Titan", "python-modules": ["titan_provider.sensors.titan"]}],
        "triggers": [
            {
                "integration-name": "Titan",
                "python-modules": [
                    "titan_provider.triggers.admission",
                    "titan_provider.triggers.job",
                    "titan_provider.triggers.jobs",
                    "titan_provider.triggers.dag",
                ],
            }
        ],
        "task-decorators": [{"name": "titan", "class-name": "titan_provider.decorators.titan.titan_task"}],
        "extra-links": [
            "titan_provider.links.titan.TitanJobLogLink",
            "titan_provider.links.titan.TitanDagLink",
        ],
        "connection-types": [_connection_type()],
        "config": {"titan_provider": {"description": _CONFIG, "options": _config_options()}},
    }


_CONFIG = "Options of the Titan provider: its XCom backend, and its links."


def _connection_type() -> dict[str, object]:
    return {
        "connection-type": "titan",
        "hook-class-name": "titan_provider.hooks.titan.TitanHook",
        "hook-name": "Titan",
        "conn-fields": {
            "worker_address": {
                "label": "Worker address",
                "description": "host:port under which the workers reach the master, if not the one above",
                "schema": {"type": ["string", "null"]},
            },
            "dashboard_url": {
                "label": "Dashboard URL",
                "description": "Titan's HTTP dashboard, such as http://titan.example:5000",
                "schema": {"type": ["string", "null"], "format": "uri"},
            },
            "timeout": {
                "label": "Timeout",
                "description": "Seconds one request to the master may take (default 30)",
                "schema": {"type": ["number", "null"], "minimum": 0.1},
            },
            "max_unfinished": {
                "label": "Unfinished jobs per tag",
                "description": "So many jobs of one tag are sent at most; other tasks wait until one ends (default: any)",
                "schema": {"type": ["integer", "null"], "minimum": 1},
            },
            **_security_fields(),
        },
        "ui-field-behaviour": {
            "hidden-fields": ["schema", "login", "password"],
            "relabeling": {"host": "Master host", "port": "Master port"},
            "placeholders": {"host": "localhost", "port": "9090"},
        },
    }


def _security_fields() -> dict[str, object]:
    text = {"type": ["string", "null"]}
    return {
        "tls": {
            "label": "TLS",
            "description": "Encrypt, and verify the master's certificate",
            "schema": {"type": ["boolean", "null"]},
        },
        "ca_cert": {
            "label": "CA certificate",
            "description": "PEM file on the Airflow machines; empty: what their operating system trusts",
            "schema": text,
        },
        "client_cert": {
            "label": "Client certificate",
            "description": "PEM file, for a master that asks for one",
            "schema": text,
        },
        "client_private_key": {
            "label": "Client private key",
            "description": "PEM file with the certificate's key, not encrypted",
            "schema": text,
        },
        "auth_token": {
            "label": "Token",
            "description": "The token of a bundled master (titan up --token-file)",
            "schema": {"type": ["string", "null"], "format": "password"},
        },
    }


def _config_options() -> dict[str, object]:
    return {
        "dashboard_links": {
            "description": "Whether tasks have links to Titan's dashboard; without one they stay empty.",
            "version_added": "0.1.0",
            "type": "boolean",
            "example": "False",
            "default": "True",
        },
        "xcom_conn_id": {
            "description": "Connection of the Titan master whose store keeps the XCom values.",
            "version_added": "0.1.0",
            "type": "string",
            "example": None,
            "default": "titan_default",
        },
        "xcom_threshold": {
            "description": "Values whose JSON is shorter than this many bytes stay in Airflow's database; 0 puts all into TitanStore, where jobs read them.",
            "version_added": "0.1.0",
            "type": "integer",
            "example": "0",
            "default": "1024",
        },
        "xcom_compression": {
            "description": "How stored values are compressed: none or zlib. Jobs read both.",
            "version_added": "0.1.0",
            "type": "string",
            "example": "zlib",
            "default": "none",
        },
        "xcom_preview": {
            "description": "Characters of a stored value that its reference shows in Airflow's UI; 0 for none.",
            "version_added": "0.1.0",
            "type": "integer",
            "example": None,
            "default": "80",
        },
    }
