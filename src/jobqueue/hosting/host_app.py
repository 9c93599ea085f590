"""App: what a host's program registers its handlers in."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from jobqueue.errors import ConfigurationError, Seconds
from jobqueue.hosting.adapters import giving, permanently
from jobqueue.hosting.column_types import can_become, name_of
from jobqueue.hosting.middleware import AsyncMiddleware, Call, Middleware, wrap
from jobqueue.hosting.queue_policy import read_policy
from jobqueue.hosting.signatures import read_signature
from jobqueue.kernel import Backoff, Context, Queue, Rate
from jobqueue.kernel.queue import called_name
from jobqueue.kinds import QUEUE, Kinds

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jobqueue.hosting.typed_arguments import TypedArgument

HandlerT = TypeVar("HandlerT", bound=Callable[[Any, Context], object])
MiddlewareT = TypeVar("MiddlewareT", bound=Middleware | AsyncMiddleware)


@dataclass(frozen=True, slots=True)
class _OwnQueue:
    """A queue as its decorator was called; `policy` are the arguments of the kernel's Queue."""

    name: str
    handler: Callable[..., object]
    columns: tuple[str, ...] | str | None
    policy: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _OwnKind:
    """A kind as its decorator was called."""

    name: str
    handler: Callable[..., object]
    permanent: tuple[type[BaseException], ...] = field(default=())


class App:
    """The queues and the kinds that a program has handlers for.

    A decorator registers the function and returns it as it is, so that a test can call it. What is wrong with any of them is
    told by `queues()`, all of it at once, and so at the start of `jobqueue worker --app`.
    """

    def __init__(self) -> None:
        self._queues: list[_OwnQueue] = []
        self._kinds: list[_OwnKind] = []
        self._layers: list[Middleware | AsyncMiddleware] = []

    def queue(
        self,
        name: str,
        *,
        concurrency: int | None = None,
        global_concurrency: int | None = None,
        rate: str | Rate | None = None,
        timeout: Seconds | str | None = None,
        on_timeout: Literal["retry", "permanent"] = "retry",
        retries: int | None = None,
        backoff: Backoff | None = None,
        permanent: tuple[type[BaseException], ...] = (),
        columns: Sequence[str] | None = None,
        keep_attempts: Literal["all", "failed"] = "failed",
    ) -> Callable[[HandlerT], HandlerT]:
        """Register a handler for the jobs of the table that was adopted as the queue `name`.

        The type of the handler's first parameter says which columns are read: the fields of a dataclass or a pydantic model.
        A handler that takes a `Job` finds the columns named in `columns` in `job.columns`, as middleware does. `concurrency`
        bounds the queue's jobs in flight in this process, below the worker's own. A handler that is an `async def` runs on one
        event loop beside those, 1,000 jobs at once unless `concurrency` says another number. `global_concurrency` bounds them, and `rate`
        ("10/s", "600/m") how fast they start, over all processes. A handler that takes longer than `timeout` (seconds, a
        timedelta, "2m") has failed the attempt, or with `on_timeout="permanent"` the job. `retries` replaces the table's default
        of max_retries, and `backoff` gives the seconds before a failed job's next attempt. What is raised of the classes in
        `permanent` ends the job `failed` at once. `keep_attempts` says which attempts are kept in `jobqueue.attempts`.
        """
        policy = {
            "limit": concurrency,
            "global_concurrency": global_concurrency,
            "rate": rate,
            "timeout": timeout,
            "on_timeout": on_timeout,
            "retries": retries,
            "backoff": backoff or Backoff(),
            "permanent": permanent,
            "keep_attempts": keep_attempts,
        }
        named = columns if columns is None or isinstance(columns, str) else tuple(columns)

        def register(handler: HandlerT) -> HandlerT:
            self._queues.append(_OwnQueue(name, handler, named, policy))
            return handler

        return register

    def kind(self, name: str, *, permanent: tuple[type[BaseException], ...] = ()) -> Callable[[HandlerT], HandlerT]:
        """Register a handler for the jobs of one kind in the queue `jobs`; those of other kinds are left to others.

        The type of the handler's first parameter is the payload's shape: a payload that does not fit ends the job `failed`. A
        handler that takes a `Job` gets the job, and the payload in `job.columns`. What is raised of the classes in
        `permanent` ends the job `failed` at once.
        """

        def register(handler: HandlerT) -> HandlerT:
            self._kinds.append(_OwnKind(name, handler, permanent))
            return handler

        return register

    def around(self, middleware: MiddlewareT) -> MiddlewareT:
        """Have `middleware(call_next, job, context)` called around the handlers of this app. The first is the outermost.

        One that is an `async def` goes around async handlers, and awaits `call_next()`; a plain one goes around the others.
        """
        self._layers.append(middleware)
        return middleware

    def queues(self) -> list[Queue]:
        """The queues to give to a worker: one for each table, and `jobs` with this app's kinds when it has any.

        Raises ConfigurationError with one line per problem.
        """
        problems: list[str] = []
        made = _gather(problems, self.own_queues) or []
        kinds = Kinds()
        _gather(problems, lambda: self.register(kinds))
        if problems:
            raise ConfigurationError(problems)
        return [*made, kinds.queue()] if self._kinds else made

    def own_queues(self) -> list[Queue]:
        """The queues of the app's own tables, without its kinds. Raises ConfigurationError with one line per problem."""
        twice = Counter(own.name for own in self._queues)
        problems = [f"the queue {name} is registered twice" for name, times in twice.items() if times > 1]
        problems += [reason for layer in self._layers if (reason := _unfit_around(layer))]
        made = [queue for own in self._queues if (queue := _gather(problems, lambda own=own: self._queue(own)))]  # type: ignore[misc]
        if problems:
            raise ConfigurationError(problems)
        return made

    def register(self, kinds: Kinds) -> None:
        """Add the app's kinds to `kinds`. Raises ConfigurationError with one line per problem."""
        problems: list[str] = []
        for own in self._kinds:
            try:
                kinds.register(own.name, self._do_kind(own))
            except ValueError as error:
                problems.append(str(error))
            except ConfigurationError as error:
                problems += [f"the kind {own.name} cannot use its handler: {problem}" for problem in error.problems]
        if problems:
            raise ConfigurationError(problems)

    def _queue(self, own: _OwnQueue) -> Queue:
        if own.name == QUEUE:
            raise ConfigurationError(
                [f"the queue {QUEUE} is shared with others: register a kind of yours, @app.kind('...')"]
            )
        if isinstance(own.columns, str):
            raise ConfigurationError([f"the queue {own.name} takes columns as a list of names: [{own.columns!r}]"])
        try:
            argument = read_signature(own.handler).argument
        except ConfigurationError as error:
            raise ConfigurationError(
                [f"the queue {own.name} cannot use its handler: {problem}" for problem in error.problems]
            ) from error
        named, policy = own.columns or (), read_policy(own.name, own.policy)
        if argument is None:
            return Queue(own.name, wrap(own.handler, self._layers), columns=named, **policy)
        if argument.columns is None:
            problem = (
                f"the queue {own.name} cannot use its handler: it takes {argument.name}, whose fields are no columns; "
                "give it a dataclass, a pydantic model or a jobqueue.Job"
            )
            raise ConfigurationError([problem])
        return Queue(
            own.name,
            wrap(giving(own.handler, lambda job: argument.row(job.columns)), self._layers),
            columns=(*argument.columns, *(name for name in named if name not in argument.columns)),
            check_types=_checks(own.name, argument),
            **policy,
        )

    def _do_kind(self, own: _OwnKind) -> Call:
        argument = read_signature(own.handler).argument
        handler: Call = own.handler
        if argument is not None:
            handler = giving(own.handler, lambda job: argument.read(job.columns["payload"], "payload"))
        return permanently(wrap(handler, self._layers), own.permanent)


def join(apps: Sequence[App], kinds: Kinds) -> list[Queue]:
    """The queues of the own tables of all `apps`; adds their kinds to `kinds`.

    Raises ConfigurationError with one line per problem, also for what two of them register.
    """
    problems: list[str] = []
    queues: list[Queue] = []
    for app in apps:
        queues += _gather(problems, app.own_queues) or []
        _gather(problems, lambda app=app: app.register(kinds))  # type: ignore[misc]
    names = Counter(queue.name for queue in queues)
    problems += [f"the queue {name} is registered twice" for name, times in names.items() if times > 1]
    if problems:
        raise ConfigurationError(problems)
    return queues


def _gather(problems: list[str], make: Callable[[], Any]) -> Any:
    """What `make` gives, or None when it raises ConfigurationError, whose problems are added to `problems`."""
    try:
        return make()
    except ConfigurationError as error:
        problems += error.problems
        return None


def _checks(queue: str, argument: TypedArgument) -> Callable[[Mapping[str, str]], list[str]]:
    """What tells, of the types of a table's columns, which of them the handler's type cannot take."""

    def check(types: Mapping[str, str]) -> list[str]:
        return [
            f"the queue {queue} cannot use its handler: {argument.name}.{name} is {name_of(wanted)}, and the column is {types[name]}"
            for name, wanted in (argument.columns or {}).items()
            if name in types and not can_become(types[name], wanted)
        ]

    return check


def _unfit_around(layer: object) -> str | None:
    """Why `layer` cannot be called around handlers, or None."""
    if not callable(layer):
        return f"what goes around handlers is of the type {type(layer).__name__}, which cannot be called"
    try:
        inspect.signature(layer).bind(None, None, None)
    except TypeError:
        return f"the middleware {called_name(layer)} cannot be called with call_next, a job and a context"
    except ValueError:
        return None
    return None
