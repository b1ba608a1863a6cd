"""TitanServiceOperator and TitanServiceStopOperator: a process that listens on a port while other tasks need it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, ClassVar

from titan_provider.compat import BaseOperator
from titan_provider.exceptions import TitanServiceFailed
from titan_provider.hooks.titan import TitanHook
from titan_provider.links.titan import JOB_ID_XCOM, TitanJobLogLink, links
from titan_provider.operators.base import TitanWorkOperator
from titan_provider.values import Duration, as_id, plain, read_durations
from titan_provider.work.cancel import Cancellation
from titan_provider.work.jobs import NamedJob
from titan_provider.work.plan import ONLY, KnownJob, WorkRecord
from titan_provider.work.remote import RemoteWork, new_record
from titan_provider.work.service import (
    END_PATIENCE,
    RemoteService,
    ServiceWatch,
    end_service,
    raise_unless_up,
    stop_in_a_hurry,
)
from titan_provider.work.source import choose_script
from titan_sdk import TitanClient, TitanError

if TYPE_CHECKING:
    from airflow.sdk import Context

__all__ = ["TitanServiceOperator", "TitanServiceStopOperator"]


class TitanServiceOperator(TitanWorkOperator):
    """Starts a service on a worker and waits until its port answers there.

    The task's XCom is ``{"service_id": ..., "host": ..., "port": ..., "master": ...}``. The service goes on until a
    :class:`TitanServiceStopOperator` ends it; when this task fails or is killed, it is stopped.
    Titan starts a service without arguments and environment, so its source must hold all that it needs.

    :param filename: path of the script, relative to the DAG file or to the current folder (templated)
    :param script: the script's source, Python or ``#!`` shell; a value ending in ``.j2`` is a template's path (templated)
    :param port: the port on which the script listens (templated)
    :param host: name of the worker's machine, for the XCom (templated). By default the master's own where that is the
        bundled one, which runs services on its machine, and None on a real one, which does not tell
    :param requirement: tag that the worker must have (templated)
    :param priority: higher starts first
    :param service_id: start of the service's id, in place of dag, task and run (templated)
    :param titan_conn_id: connection of type ``titan`` (templated)
    :param start_timeout: how long the service may take until its port answers, the wait for a worker included;
        seconds. As any duration here it may also be a text such as ``10m``, or a timedelta
    :param poll_interval: seconds between two looks
    :param unreachable_timeout: seconds for which the master may be silent before the task gives up
    :param durable: take up the service of a crashed try instead of starting another
    """

    template_fields: Sequence[str] = (
        "filename",
        "script",
        "port",
        "host",
        "requirement",
        "service_id",
        "titan_conn_id",
    )
    # See operators/titan.py.
    template_ext: Sequence[str] = (".j2", ".jinja2")
    template_fields_renderers: ClassVar[dict[str, str]] = {"script": "python"}
    ui_color = "#dce9f7"
    operator_extra_links = links(TitanJobLogLink())
    work_class = RemoteService

    def __init__(
        self,
        *,
        port: int | str,
        filename: str | None = None,
        script: str | None = None,
        host: str | None = None,
        requirement: str = "GENERAL",
        priority: int = 1,
        service_id: str | None = None,
        titan_conn_id: str = TitanHook.default_conn_name,
        start_timeout: Duration = 120.0,
        poll_interval: Duration = 1.0,
        unreachable_timeout: Duration = 60.0,
        durable: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if (filename is None) == (script is None):
            raise ValueError(f"task {self.task_id!r}: give either filename= or script=, and not both")
        self.port = port
        self.filename = plain(filename)
        self.script = script
        self.host = host
        self.requirement = plain(requirement)
        self.priority = priority
        self.service_id = plain(service_id)
        self.titan_conn_id = plain(titan_conn_id)
        self.start_timeout, self.poll_interval = read_durations(
            self.task_id, start_timeout=start_timeout, poll_interval=poll_interval
        )
        (self.unreachable_timeout,) = read_durations(
            self.task_id, zero=True, unreachable_timeout=unreachable_timeout
        )
        self.durable = durable
        self._cancellation = Cancellation(stop_in_a_hurry, "service")

    def execute(self, context: Context) -> Any:
        """Start the service, or find the one a crashed try left, and wait for its port."""
        return self.run_work(context, new_record(context, as_id(self.service_id)), time.time())

    def follow(self, context: Context, work: RemoteWork, *given: Any) -> Any:
        """As in every operator, but a task that fails or is killed leaves no service running."""
        try:
            return super().follow(context, work, *given)
        except BaseException:  # Airflow's timeout and termination are not Exceptions
            self._leave_nothing(work.client)
            raise

    def read_jobs(self, context: Context, stack: ExitStack | None = None) -> list[NamedJob]:  # noqa: ARG002 - a service brings a file
        """The service."""
        script = choose_script(self.filename, self.script, self.task_id, context.get("dag"))
        fields = {
            "job_type": "SERVICE",
            "port": int(self.port),
            "requirement": as_id(self.requirement),
            "priority": self.priority,
        }
        return [NamedJob(ONLY, (), script, fields, mark="")]

    def push_ids(self, context: Context, record: WorkRecord) -> None:
        """The service's id."""
        if self.do_xcom_push:
            context["ti"].xcom_push(key=JOB_ID_XCOM, value=record.ids[ONLY])

    def make_watch(self, jobs: Mapping[str, KnownJob], **_: Any) -> ServiceWatch:
        """The wait until the service's port answers."""
        (service,) = jobs.values()
        return ServiceWatch(
            service,
            self.log,
            start_timeout=self.start_timeout,
            poll_interval=self.poll_interval,
            unreachable_timeout=min(self.unreachable_timeout, self.start_timeout),
        )

    def take_results(self, work: RemoteWork, *, log_shown: bool) -> dict[str, Any]:  # noqa: ARG002 - a service's is not
        """The address at which the service answers.

        :raises TitanServiceFailed: it has died, or was stopped
        """
        client, service_id = work.client, work.record.ids[ONLY]
        raise_unless_up(client, service_id, client.get_job_status(service_id))
        self.log.info("Service %s answers on port %s", service_id, self.port)
        return {
            "service_id": service_id,
            "host": self._host_of(client, service_id),
            "port": int(self.port),
            "master": client.config.address,
        }

    def _host_of(self, client: TitanClient, service_id: str) -> str | None:
        if self.host:
            return self.host
        if client.server_info().kind == "bundled":
            return client.config.host
        self.log.warning(
            "This master, a real Titan, does not tell on which machine service %s runs, so the XCom's host is None; "
            "give the task host=, the name of the worker's machine",
            service_id,
        )
        return None

    def _leave_nothing(self, client: TitanClient) -> None:
        for service_id in self._cancellation.job_ids:
            try:
                end_service(client, service_id, END_PATIENCE)
            except TitanError as exc:
                self.log.error(
                    "Service %s could not be stopped and may still be running: %s", service_id, exc
                )
            else:
                self.log.info("Nothing of service %s is left running", service_id)


class TitanServiceStopOperator(BaseOperator):
    """Stops a service, such as one that a :class:`TitanServiceOperator` started. One that is gone is fine.

    As a teardown: ``TitanServiceStopOperator(task_id="stop", service=start.output).as_teardown(setups=start)``.

    :param service: the XCom of the task that started it, or the service's id (templated)
    :param titan_conn_id: connection of type ``titan`` (templated)
    :param copy_log: copy what the service printed into the task log
    """

    template_fields: Sequence[str] = ("service", "titan_conn_id")
    ui_color = "#dce9f7"

    def __init__(
        self,
        *,
        service: Any,
        titan_conn_id: str = TitanHook.default_conn_name,
        copy_log: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.service = plain(service)
        self.titan_conn_id = plain(titan_conn_id)
        self.copy_log = copy_log

    def execute(self, context: Context) -> None:  # noqa: ARG002 - Airflow's signature
        """Stop it."""
        given = self.service
        service_id = given.get("service_id") if isinstance(given, Mapping) else given
        if service_id is None:
            self.log.info("No service was started, so there is nothing to stop")
            return
        if not isinstance(service_id, str):
            raise TitanServiceFailed(
                f"service {given!r} is neither a service's id nor the XCom of a TitanServiceOperator"
            )
        hook = TitanHook(self.titan_conn_id)
        with ExitStack() as stack:
            client = stack.enter_context(hook.get_conn())
            found = end_service(client, service_id, END_PATIENCE)
            started_at = given.get("master") if isinstance(given, Mapping) else None
            if not found and started_at and (there := hook.at(started_at)) is not hook:
                self.log.warning(
                    "Service %s was started at the master at %s, while the connection names %s now; ending it there",
                    service_id,
                    started_at,
                    client.config.address,
                )
                client = stack.enter_context(there.get_conn())
                found = end_service(client, service_id, END_PATIENCE)
            self.log.info("Service %s %s", service_id, "was stopped" if found else "was not running any more")
            if self.copy_log and (text := client.fetch_logs(service_id)):
                self.log.info("::group::Log of service %s", service_id)
                for line in text.splitlines():
                    self.log.info("%s", line)
                self.log.info("::endgroup::")
