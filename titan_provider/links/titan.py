"""Links from a task in Airflow's UI to its work on Titan's dashboard, where the connection names one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from titan_provider.compat import BaseOperatorLink, conf, read_xcom
from titan_provider.hooks.titan import TitanHook

if TYPE_CHECKING:
    from airflow.sdk.types import TaskInstanceKey

__all__ = ["DAG_NAME_XCOM", "JOB_ID_XCOM", "TitanDagLink", "TitanJobLogLink", "links"]

JOB_ID_XCOM = "titan_job_id"
"""Key of the XCom that holds the job's id."""

DAG_NAME_XCOM = "titan_dag_name"
"""Key of the XCom that holds the name of a Titan DAG."""


class TitanJobLogLink(BaseOperatorLink):
    """The job's log on Titan's dashboard; empty when the connection has no ``dashboard_url``."""

    name = "Titan job log"

    def get_link(self, operator: Any, *, ti_key: TaskInstanceKey) -> str:
        """The URL. Airflow 3 calls this in the task's process, when the task ends.

        :param operator: the task
        :param ti_key: which run of it
        """
        url = TitanHook(operator.titan_conn_id).get_config().dashboard_url
        job_id = read_xcom(ti_key, JOB_ID_XCOM) if url else None
        if not job_id:
            return ""
        return f"{url}/api/logs_raw/DAG-{str(job_id).removeprefix('DAG-')}"


class TitanDagLink(BaseOperatorLink):
    """The task's Titan DAG on Titan's dashboard; empty when the connection has no ``dashboard_url``."""

    name = "Titan DAG"

    def get_link(self, operator: Any, *, ti_key: TaskInstanceKey) -> str:
        """The URL; see :meth:`TitanJobLogLink.get_link`.

        :param operator: the task
        :param ti_key: which run of it
        """
        url = TitanHook(operator.titan_conn_id).get_config().dashboard_url
        name = read_xcom(ti_key, DAG_NAME_XCOM) if url else None
        return f"{url}/dags/DAG-{quote(str(name), safe='')}" if name else ""


def links(*declared: BaseOperatorLink) -> tuple[BaseOperatorLink, ...]:
    """The links of an operator, unless ``[titan_provider] dashboard_links`` says that there is no dashboard.

    Airflow's UI shows a heading also for links that stay empty. While a DAG is parsed, nobody knows whether its
    connection names a dashboard.
    """
    return declared if conf.getboolean("titan_provider", "dashboard_links", fallback=True) else ()
