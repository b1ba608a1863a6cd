"""Facts about a Titan task for Airflow's OpenLineage provider, where that is installed.

Standard facets (``externalQuery``, ``errorMessage``, ``sourceCode``) and one of our own, ``titan_jobs``: how each job
ended, where, after how many attempts. Data sets are the task's own ``inlets`` and ``outlets``, which Airflow reports.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from titan_provider.work.source import is_shell
from titan_sdk import JobReport

if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors import OperatorLineage

__all__ = ["TitanLineage", "job_facts"]

_PRODUCER = "https://github.com/ramn51/titan-orchestrator"


class TitanLineage:
    """The methods that the OpenLineage provider looks for on an operator."""

    lineage_reports: tuple[JobReport, ...] = ()
    """The ends of the task's jobs; set by the operator once it knows them."""

    def get_openlineage_facets_on_start(self) -> OperatorLineage[Any, Any] | None:
        """The code that the task is about to run."""
        return self._facets(failed=False)

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> OperatorLineage[Any, Any] | None:  # noqa: ARG002 - the provider's signature
        """The ends of the task's jobs.

        :param task_instance: unused; all of it is known here
        """
        return self._facets(failed=False)

    def get_openlineage_facets_on_failure(self, task_instance: Any) -> OperatorLineage[Any, Any] | None:  # noqa: ARG002 - the provider's signature
        """As on completion, and the remote error.

        :param task_instance: unused; all of it is known here
        """
        return self._facets(failed=True)

    def lineage_source(self) -> str | None:
        """The code that the job runs, where the task holds it."""
        source = getattr(self, "script", None)
        return source if isinstance(source, str) and source else None

    def _facets(self, *, failed: bool) -> OperatorLineage[Any, Any] | None:
        try:
            from airflow.providers.openlineage.conf import is_source_enabled
            from airflow.providers.openlineage.extractors import OperatorLineage
            from openlineage.client.facet_v2 import error_message_run, external_query_run, source_code_job
        except ImportError:
            return None
        run: dict[str, Any] = {}
        job: dict[str, Any] = {}
        reports = self.lineage_reports
        if reports:
            run["titan_jobs"] = _own_facet()(jobs=[job_facts(report) for report in reports])
            conn_id = getattr(self, "titan_conn_id", "titan")
            run["externalQuery"] = external_query_run.ExternalQueryRunFacet(
                externalQueryId=reports[0].job_id, source=f"titan:{conn_id}"
            )
        bad = next((r for r in reports if not r.state.is_success and not r.upstream_failed), None)
        if failed and bad is not None:
            run["errorMessage"] = error_message_run.ErrorMessageRunFacet(
                message=bad.describe(),
                programmingLanguage="python" if bad.exception else "unknown",
                stackTrace=bad.exception.traceback if bad.exception else None,
            )
        source = self.lineage_source()
        if source and is_source_enabled():
            language = "shell" if is_shell(source) else "python"
            job["sourceCode"] = source_code_job.SourceCodeJobFacet(language=language, sourceCode=source)
        return OperatorLineage(run_facets=run, job_facets=job)


def job_facts(report: JobReport) -> dict[str, Any]:
    """A report as a facet has it: no result, no log."""
    facts = {
        "jobId": report.job_id,
        "state": str(report.state),
        "exitCode": report.exit_code,
        "signal": report.signal,
        "attempts": report.attempts,
        "worker": report.worker,
        "seconds": None if report.seconds is None else round(report.seconds, 3),
    }
    return {name: value for name, value in facts.items() if value is not None}


@cache
def _own_facet() -> Any:
    """Made when the OpenLineage client is there, whose class it extends."""
    import attr
    from openlineage.client.generated.base import RunFacet

    @attr.define
    class TitanJobsRunFacet(RunFacet):
        """The ends of the Titan jobs of a task."""

        jobs: list[dict[str, Any]]

        @staticmethod
        def _get_schema() -> str:
            return f"{_PRODUCER}#TitanJobsRunFacet"

    return TitanJobsRunFacet
