"""Checks of what the operator wrote: the environment, the file of schedules, and what the platform grants a stop."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, Final

from jobqueue.doctor.checkup import Checkup, Verdict, fail, named, warn, well
from jobqueue.errors import ConfigurationError
from jobqueue.schedule.schedules_file import SchedulesPlan, read_plan
from jobqueue.schedule.targets import open_targets, secrets_of
from jobqueue.settings.environment import Settings
from jobqueue.settings.secret import KeyName, Secret

if TYPE_CHECKING:
    from collections.abc import Iterator

# Variables of nobody else.
_OURS: Final = ("B2_", "RAID_PUB")

# Characters under which a secret is one that somebody made up.
_MADE_UP: Final = 16

# Seconds that a process needs after its last job has ended.
_TO_LEAVE: Final = 5

# Seconds that Heroku, and nobody can change it, gives a process to stop.
_HEROKU: Final = 30


def environment(checkup: Checkup) -> Iterator[Verdict]:
    """Every variable is well formed, and none that is needed is missing."""
    for problem in checkup.problems:
        says, _, example = problem.partition("; for example ")
        yield fail(says, f"set it, for example {example}")
    if checkup.problems:
        return
    checkup.facts.add("settings")
    if checkup.settings.has_media:
        try:
            checkup.settings.require_media()
        except ConfigurationError as error:
            names = named((problem.split()[0] for problem in error.problems), most=10)
            yield fail(f"publishing and zipping lack {names}", f"set {names}")
            return
        checkup.facts.add("media")
    yield well("every variable that is set is well formed")


def publishing(checkup: Checkup) -> Verdict:
    """The variables of publishing are set."""
    if "media" in checkup.facts:
        return well("the origin, the object store and the CDN are configured")
    return warn(
        "publishing and zipping are not configured, and `jobqueue worker` refuses to start without them",
        "set the variables RAID_*, B2_* and CDN_BASE_URL, or start it with --queue jobs --queue webhook_deliveries",
    )


def unknown_variables(checkup: Checkup) -> Verdict:
    """No variable looks like a misspelt one of ours."""
    known = {field.upper() for field in Settings.model_fields}
    known |= {variable for variable in _targets_variables(checkup) if variable}
    for name in sorted(checkup.environ.keys() - known):
        near = get_close_matches(name.upper(), known, 1, cutoff=0.87) if len(name) >= 6 else []
        if near and (near[0] not in checkup.environ or name.startswith(_OURS)):
            return warn(f"the variable {name} is not read", f"call it {near[0]}")
        if name.startswith(_OURS):
            return warn(f"the variable {name} is not read by this version", f"remove {name}")
    return well("no variable looks like a misspelt one")


def secrets(checkup: Checkup) -> Verdict:
    """No secret is an example's or short, and none is used twice."""
    seen: dict[str, str] = {}
    for field in Settings.model_fields:
        value = getattr(checkup.settings, field)
        if not isinstance(value, Secret) or isinstance(value, KeyName):
            continue
        variable = field.upper()
        if value.first in (Settings.model_fields[field].examples or ()):
            return fail(f"{variable} is the example's, which everybody knows", f"set {variable} to a random text")
        if len(value.first) < _MADE_UP:
            return warn(
                f"{variable} has {len(value.first)} characters and may be guessed",
                f"set {variable} to a random text of 32: openssl rand -hex 32",
            )
        if other := seen.get(value.first):
            return warn(f"{variable} is the same secret as {other}", f"give {variable} one of its own")
        seen[value.first] = variable
    return well("secrets are long and used once")


def schedules_file(checkup: Checkup) -> Verdict:
    """The file of schedules can be read, and its targets' variables are set."""
    try:
        plan = read_plan(checkup.settings.schedules_file, max_retries=checkup.settings.max_retries)
        targets = open_targets(checkup.settings, plan.targets, checkup.environ)
    except ConfigurationError as error:
        says, _, example = error.problems[0].partition("; for example ")
        return fail(says, f"mend it, for example {example}" if example else "mend the file")
    checkup.secrets += secrets_of(targets)
    lost = {str(entry.payload["target"]) for entry in plan.entries if entry.kind == "post"} - targets.keys()
    if lost and checkup.settings.schedules_file is not None:
        return warn(
            f"schedules post to {named(sorted(lost))}, which is not configured: they do not tick",
            "set BACKEND_URL and WORKER_API_KEY",
        )
    where = checkup.settings.schedules_file or "the packaged defaults"
    return well(f"{len(plan.entries)} schedules in {where}")


def drain(checkup: Checkup) -> Verdict | None:
    """The platform waits for a stop as long as we do."""
    wanted = checkup.settings.drain_timeout + _TO_LEAVE
    environ = checkup.environ
    if any(name.startswith("RAILWAY_") for name in environ):
        given = environ.get("RAILWAY_DEPLOYMENT_DRAINING_SECONDS", "")
        if not given.isdigit() or int(given) < wanted:
            return warn(
                f"Railway gives a stop {given or 0} s, and DRAIN_TIMEOUT is {checkup.settings.drain_timeout} s",
                f"set the variable RAILWAY_DEPLOYMENT_DRAINING_SECONDS={wanted} of the service",
            )
        return well(f"Railway gives a stop {given} s")
    if "DYNO" in environ and wanted > _HEROKU:
        return warn(
            f"Heroku gives a stop {_HEROKU} s, and DRAIN_TIMEOUT is {checkup.settings.drain_timeout} s",
            f"set DRAIN_TIMEOUT={_HEROKU - _TO_LEAVE}",
        )
    return well(f"jobs in flight get {checkup.settings.drain_timeout} s at a stop: the platform must give {wanted} s")


def proxies(checkup: Checkup) -> Verdict:
    """No variable sends requests to the store through a proxy that nothing else uses."""
    for name in ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        if checkup.environ.get(name):
            return warn(
                f"{name} is set: requests to the object store go through that proxy, and no others do",
                f"unset {name}, or add the store's host to NO_PROXY",
            )
    return well("requests go out directly")


def _targets_variables(checkup: Checkup) -> Iterator[str | None]:
    try:
        plan = read_plan(checkup.settings.schedules_file)
    except ConfigurationError:
        plan = SchedulesPlan((), ())
    for entry in plan.targets:
        yield from (entry.base_url_variable, entry.secret_variable)
