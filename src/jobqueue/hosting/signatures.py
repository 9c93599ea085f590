"""What a handler's signature says: whether it can be called with a job and a context, and what it takes as the first."""

from __future__ import annotations

import inspect
import sys
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from jobqueue.errors import ConfigurationError
from jobqueue.kernel import Job
from jobqueue.kernel.queue import called_name, unfit

if TYPE_CHECKING:
    from collections.abc import Callable

    from jobqueue.hosting.typed_arguments import TypedArgument


@dataclass(frozen=True, slots=True)
class Signature:
    """What a handler takes first: a value of the type `argument`, or the job itself when that is None."""

    argument: TypedArgument | None


def read_signature(handler: Callable[..., object]) -> Signature:
    """Read the signature of a handler. Raises ConfigurationError with what is wrong, each problem as the end of a sentence."""
    if reason := unfit(handler):
        raise ConfigurationError([reason])
    try:
        signature = inspect.signature(handler)
    except (TypeError, ValueError):
        # Some that are written in C do not say. They are called, and then they do.
        return Signature(None)
    try:
        bound = signature.bind(None, None)
    except TypeError as error:
        raise ConfigurationError(
            [f"{called_name(handler)} cannot be called with a job and a context: {error}"]
        ) from None
    first = next(iter(bound.signature.parameters.values()))
    if first.kind is inspect.Parameter.VAR_POSITIONAL:
        return Signature(None)
    form = _resolved(handler, first.annotation)
    if form in (inspect.Parameter.empty, Any) or (isinstance(form, type) and issubclass(form, Job)):
        return Signature(None)
    # It imports pydantic, which takes long: only a program with typed handlers pays for it.
    from jobqueue.hosting.typed_arguments import TypedArgument  # noqa: PLC0415

    return Signature(TypedArgument(form))


def _resolved(handler: Any, annotation: Any) -> Any:
    """The annotation itself, where it is written as a text. Only the first parameter's has to be there while the program runs."""
    if not isinstance(annotation, str):
        return annotation
    inner = inspect.unwrap(handler)
    while isinstance(inner, partial):
        inner = inner.func
    if not hasattr(inner, "__globals__"):
        # A method, or an object that is called.
        inner = getattr(inner, "__func__", None) or vars(type(inner)).get("__call__")
    scope = getattr(inner, "__globals__", None) or vars(sys.modules[type(handler).__module__])
    captured = inspect.getclosurevars(inner).nonlocals if inspect.isfunction(inner) else {}
    try:
        return eval(annotation, scope, dict(captured))  # noqa: S307 - the host's own annotation, as typing resolves it
    except Exception as error:  # noqa: BLE001 - an annotation is an expression, which can raise anything
        problem = (
            f"the type {annotation} of its first parameter is not there while the program runs ({error}): import or define it "
            "in the module itself, not only for type checkers"
        )
        raise ConfigurationError([problem]) from None
