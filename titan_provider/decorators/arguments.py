"""The arguments of a function on the worker: values that can travel, and the JSON part of Airflow's context."""

from __future__ import annotations

import ast
import datetime
import inspect
from collections.abc import Callable, Collection, Mapping
from typing import Any

from titan_provider.exceptions import TitanFunctionRefused
from titan_provider.values import to_json
from titan_sdk.values import is_envelope

__all__ = ["check_arguments", "check_context_use", "check_literals", "job_arguments"]

_DATES = {
    "data_interval_end",
    "data_interval_start",
    "execution_date",
    "logical_date",
    "next_execution_date",
    "partition_date",
    "prev_data_interval_end_success",
    "prev_data_interval_start_success",
    "prev_end_date_success",
    "prev_execution_date",
    "prev_execution_date_success",
    "prev_start_date_success",
}
_ONLY_IN_AIRFLOW = {
    "asset_state_store",
    "conf",
    "conn",
    "dag",
    "dag_run",
    "exception",
    "inlet_events",
    "inlets",
    "macros",
    "outlet_events",
    "outlets",
    "task",
    "task_instance",
    "task_state_store",
    "ti",
    "triggering_asset_events",
    "triggering_dataset_events",
    "var",
}
_NEVER_ASKED = _DATES | _ONLY_IN_AIRFLOW
"""Keys that ``**context`` leaves out. None of these values is JSON, and some cost a request to Airflow's server."""


def check_context_use(function: Callable[..., Any], node: ast.FunctionDef) -> None:
    """Refuse a function that reads a key of ``**context`` that does not travel.

    :param node: the function's definition
    :raises TitanFunctionRefused: the sentence names the key
    """
    if node.args.kwarg is None:
        return
    context = node.args.kwarg.arg
    for inner in ast.walk(node):
        asked: ast.expr | None = None
        if isinstance(inner, ast.Subscript):
            whole, asked = inner.value, inner.slice
        elif isinstance(inner, ast.Call) and isinstance(inner.func, ast.Attribute) and inner.args:
            whole, asked = inner.func.value, inner.args[0]
        if not isinstance(asked, ast.Constant) or asked.value not in _NEVER_ASKED:
            continue
        if isinstance(whole, ast.Name) and whole.id == context:
            key = str(asked.value)
            raise TitanFunctionRefused(
                f"@task.titan: {function.__name__}() uses {context}[{key!r}], {_why(key)}"
            )


def check_arguments(function: Callable[..., Any], args: Collection[Any], kwargs: Mapping[str, Any]) -> None:
    """Refuse arguments that cannot travel, while the DAG file is read. Outputs of other tasks are not known yet.

    :param args: the positional arguments of the call in the DAG file
    :param kwargs: the keyword arguments
    :raises TitanFunctionRefused: the sentence names the parameter and the type
    """
    name = function.__name__
    signature = inspect.signature(function)
    bound = signature.bind_partial(*args, **kwargs).arguments
    check_literals(function, bound)
    for parameter in signature.parameters:
        if parameter in _ONLY_IN_AIRFLOW and parameter not in bound:
            raise TitanFunctionRefused(f"@task.titan: {name}()'s argument {parameter!r} is {_why(parameter)}")


def check_literals(function: Callable[..., Any], given: Mapping[str, Any]) -> None:
    """Refuse arguments with a part that cannot travel. Parts that other tasks will make are skipped.

    :param given: the arguments by name
    :raises TitanFunctionRefused: the sentence names the place and the type
    """
    for parameter, value in given.items():
        _check_literal(value, f"@task.titan: {function.__name__}()'s argument {parameter!r}")


def _why(key: str) -> str:
    if key in _DATES:
        return "a date of Airflow's context, which does not travel with all of it; name it as a parameter of the function"
    return "an object of Airflow's context, which does not exist on a worker; give what is needed of it as an argument"


def _check_literal(value: Any, where: str) -> None:
    if hasattr(value, "iter_references"):  # resolved when the task runs
        return
    if type(value) is dict:
        to_json(dict.fromkeys(value), where)
        for key, item in value.items():
            _check_literal(item, f"{where}[{key!r}]")
    elif type(value) in (list, tuple):
        for index, item in enumerate(value):
            _check_literal(item, f"{where}[{index}]")
    else:
        to_json(value, where)


def job_arguments(
    function: Callable[..., Any],
    args: Collection[Any],
    kwargs: Mapping[str, Any],
    context: Mapping[str, Any],
    serializer: str = "json",
) -> Any:
    """The function's arguments, as the job's params.

    :param context: Airflow's context. As with ``@task``, a parameter with the name of one of its keys gets that value.
        ``**kwargs`` gets all of its JSON values
    :param serializer: ``cloudpickle`` for objects of any class
    :raises TitanFunctionRefused: a value cannot travel; the sentence names its place
    """
    signature = inspect.signature(function)
    parameters = signature.parameters
    given = dict(kwargs)
    taken = {*given, *list(parameters)[: len(args)]}
    takes_all = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    for key, value in context.items():
        # Before anything looks at the value: it may be a proxy that asks Airflow's database.
        if key in taken or not (key in parameters or (takes_all and key not in _NEVER_ASKED)):
            continue
        found = value.dump() if key == "params" and hasattr(value, "dump") else value
        if isinstance(found, datetime.datetime):  # pendulum's, perhaps behind a proxy of Airflow's
            found = found.replace(tzinfo=found.tzinfo)
            found = getattr(found, "__wrapped__", found)
        if key in parameters or _is_json(key, found):
            given[key] = found
    bound = signature.bind(*args, **given)
    if serializer == "json":
        for parameter, value in bound.arguments.items():
            to_json(value, f"@task.titan: {function.__name__}()'s argument {parameter!r}")
    call = {"args": list(bound.args), "kwargs": bound.kwargs}
    return to_json(call, f"@task.titan: {function.__name__}()'s call", serializer)


def _is_json(key: str, value: Any) -> bool:
    try:
        return not is_envelope(to_json(value, key))
    except TitanFunctionRefused:
        return False
