"""``@task.titan``: a Python function of the DAG file that runs on a worker."""

from __future__ import annotations

import ast
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.common.compat.sdk import DecoratedOperator, task_decorator_factory

from titan_provider.decorators.arguments import (
    check_arguments,
    check_context_use,
    check_literals,
    job_arguments,
)
from titan_provider.decorators.shipping import plan_shipment
from titan_provider.exceptions import TitanFunctionRefused
from titan_provider.operators.titan import TitanJobOperator
from titan_provider.values import plain

if TYPE_CHECKING:
    from airflow.sdk import Context
    from airflow.sdk.bases.decorator import TaskDecorator

    from titan_provider.work.jobs import NamedJob

__all__ = ["titan_task"]

# The function takes the place of these parameters, so they would have no effect.
_TAKEN = ("filename", "script", "module", "args", "job_params")


class _TitanDecoratedOperator(DecoratedOperator, TitanJobOperator):
    """A task made by ``@task.titan``."""

    custom_operator_name = "@task.titan"
    template_fields: Sequence[str] = (
        "op_args",
        "op_kwargs",
        *(name for name in TitanJobOperator.template_fields if name not in _TAKEN),
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {"op_args": "py", "op_kwargs": "py", "env": "json"}

    def __init__(
        self,
        *,
        python_callable: Callable[..., Any],
        op_args: Collection[Any] | None = None,
        op_kwargs: Mapping[str, Any] | None = None,
        serializer: str = "json",
        **kwargs: Any,
    ) -> None:
        self.serializer = serializer
        super().__init__(
            python_callable=python_callable,
            op_args=plain(op_args),
            op_kwargs=plain(op_kwargs),
            # The source is set when the task runs. As a template it would be damaged.
            kwargs_to_upstream={"script": ""},
            **kwargs,
        )
        # By now the rest of the file and the call's arguments are known. A mapped task knows them when it runs, and then
        # execute() refuses them, which Airflow reports better.
        if not getattr(self, "_BaseOperator__from_mapped", False):
            plan_shipment(python_callable, self.project).check()
            if serializer == "json":
                check_arguments(python_callable, self.op_args, self.op_kwargs)

    def execute(self, context: Context) -> Any:
        """Send the function with its arguments, and wait for its return value."""
        # Not by DecoratedOperator, because its method for the returned value has another signature on Airflow 2.
        return TitanJobOperator.execute(self, context)

    def read_jobs(self, context: Context, stack: ExitStack | None = None) -> list[NamedJob]:
        """The job that calls the function.

        :param stack: removes the unpacked files of a packed DAG
        """
        # Not in execute(), because a task that was deferred before its submit resumes as a new instance.
        shipment = plan_shipment(self.python_callable, self.project)
        self.script = shipment.script(self.serializer)
        self.script_name = shipment.file_name
        self.job_params = job_arguments(
            self.python_callable, self.op_args, self.op_kwargs, context, self.serializer
        )
        return super().read_jobs(context, stack)

    def lineage_source(self) -> str:
        """The function as it is in the DAG file."""
        shipment = plan_shipment(self.python_callable, self.project)
        return ast.get_source_segment("\n".join(shipment.module.lines), shipment.node) or ""


@cache
def _checking(made: Any) -> Any:
    """Airflow's class of decorated functions, with a check of the literals in a mapping while the DAG file is read."""

    class Checking(made):
        def partial(self, **given: Any) -> Any:
            check_literals(self.function, given)
            return super().partial(**given)

        def expand(self, **given: Any) -> Any:
            check_literals(self.function, given)
            return super().expand(**given)

        def expand_kwargs(self, kwargs: Any, **options: Any) -> Any:
            for each in kwargs if isinstance(kwargs, list | tuple) else ():
                check_literals(self.function, each if isinstance(each, dict) else {})
            return super().expand_kwargs(kwargs, **options)

    return Checking


def titan_task(
    python_callable: Callable[..., Any] | None = None,
    multiple_outputs: bool | None = None,
    *,
    serializer: str = "json",
    **kwargs: Any,
) -> TaskDecorator | Callable[[Callable[..., Any]], TaskDecorator]:
    """Make a task of a function, which runs on a Titan worker. Its return value is the task's XCom.

    :param python_callable: the function
    :param multiple_outputs: push each value of the returned dict under its own key
    :param serializer: ``cloudpickle`` for arguments and results of any class. Both ends need cloudpickle and the same
        version of Python, and a task that takes the result must choose it too
    :param kwargs: parameters of :class:`~titan_provider.operators.titan.TitanJobOperator` and of any task, except
        ``filename``, ``script``, ``module``, ``args`` and ``job_params``
    :raises TitanFunctionRefused: the function cannot travel. If possible, this is raised while the DAG file is read
    """
    if taken := [name for name in _TAKEN if name in kwargs]:
        raise TitanFunctionRefused(
            f"@task.titan takes no {taken[0]}=: the function is the script, and its arguments are what the call gives it"
        )

    def decorate(function: Callable[..., Any]) -> TaskDecorator:
        shipment = plan_shipment(function, kwargs.get("project"))
        shipment.check()
        check_context_use(function, shipment.node)
        made: TaskDecorator = task_decorator_factory(
            python_callable=function,
            multiple_outputs=multiple_outputs,
            decorated_operator_class=_TitanDecoratedOperator,
            **({} if serializer == "json" else {"serializer": serializer}),
            **kwargs,
        )
        if serializer == "json":
            made.__class__ = _checking(type(made))
        return made

    return decorate if python_callable is None else decorate(python_callable)
