"""The examination: every check in its order, with what must be known before it can be made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

import psycopg

from jobqueue.doctor import (
    configuration_checks,
    machine_checks,
    peer_checks,
    schema_checks,
    server_checks,
    store_checks,
    work_checks,
)
from jobqueue.doctor.checkup import CheckFunction, Checkup, Status, Verdict, fail
from jobqueue.errors import ConfigurationError, JobError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence


class Check(NamedTuple):
    """One check: what it is called, its function, and the fact without which it cannot be made."""

    name: str
    look: CheckFunction
    needs: str | None


CHECKS: Final = (
    Check("environment", configuration_checks.environment, None),
    Check("publishing", configuration_checks.publishing, "settings"),
    Check("unknown-variables", configuration_checks.unknown_variables, "settings"),
    Check("secrets", configuration_checks.secrets, "settings"),
    Check("schedules-file", configuration_checks.schedules_file, "settings"),
    Check("drain", configuration_checks.drain, "settings"),
    Check("proxies", configuration_checks.proxies, None),
    Check("memory", machine_checks.memory, "settings"),
    Check("disk", machine_checks.disk, "settings"),
    Check("descriptors", machine_checks.descriptors, None),
    Check("port", machine_checks.port, "settings"),
    Check("pictures", machine_checks.pictures, "media"),
    Check("database", server_checks.database, "settings"),
    Check("encryption", server_checks.encryption, "database"),
    Check("version", server_checks.version, "database"),
    Check("writable", server_checks.writable, "database"),
    Check("role", server_checks.role, "database"),
    Check("server-settings", server_checks.server_settings, "database"),
    Check("pooler", server_checks.pooler, "database"),
    Check("direct-connection", server_checks.direct_connection, "database"),
    Check("clock", server_checks.clock, "database"),
    Check("connections", server_checks.connections, "database"),
    Check("oldest-transaction", server_checks.oldest_transaction, "database"),
    Check("migrations", schema_checks.migrated, "database"),
    Check("queues", schema_checks.vanished_queues, "schema"),
    Check("table-rights", schema_checks.table_rights, "schema"),
    Check("row-security", schema_checks.row_security, "schema"),
    Check("drift", schema_checks.drift, "schema"),
    Check("triggers", schema_checks.disabled_triggers, "schema"),
    Check("indexes", schema_checks.invalid_indexes, "schema"),
    Check("dead-rows", schema_checks.dead_rows, "schema"),
    Check("workers", work_checks.workers, "schema"),
    Check("kinds", work_checks.kinds, "schema"),
    Check("failures", work_checks.failures, "schema"),
    Check("paused-queues", work_checks.paused_queues, "schema"),
    Check("schedules", work_checks.schedules, "schema"),
    Check("webhooks", work_checks.disabled_webhooks, "schema"),
    Check("webhook-targets", peer_checks.webhook_targets, "schema"),
    Check("webhook-secrets", peer_checks.webhook_secrets, "schema"),
    Check("origin", peer_checks.origin, "media"),
    Check("backend", peer_checks.backend, "settings"),
    Check("object-store", store_checks.object_store, "media"),
)


@dataclass(frozen=True, slots=True)
class Finding:
    """A verdict, with the name of what it is about."""

    name: str
    status: Status
    says: str
    remedy: str | None

    def document(self) -> dict[str, str | None]:
        """For JSON."""
        return {"check": self.name, "status": self.status, "says": self.says, "remedy": self.remedy}


@dataclass(frozen=True, slots=True)
class Examination:
    """What was found, and the names of the checks that could not be made because of it."""

    findings: list[Finding]
    left_out: list[str]

    def count(self, status: Status) -> int:
        """How many findings have this status."""
        return sum(finding.status == status for finding in self.findings)


def examine(
    checkup: Checkup,
    on_finding: Callable[[Finding], object] = lambda _finding: None,
    *,
    checks: Sequence[Check] = CHECKS,
) -> Examination:
    """Make each of `checks` that can be made, and tell `on_finding` of each finding at once. Changes nothing that stays.

    A check that itself fails has found something; the others are made all the same.
    """
    findings: list[Finding] = []
    left_out: list[str] = []
    for check in checks:
        if check.needs is not None and check.needs not in checkup.facts:
            left_out.append(check.name)
            continue
        for verdict in _verdicts(check, checkup):
            finding = Finding(verdict.about or check.name, verdict.status, verdict.says, verdict.remedy)
            findings.append(finding)
            on_finding(finding)
    return Examination(findings, left_out)


def _verdicts(check: Check, checkup: Checkup) -> Iterator[Verdict]:
    try:
        said = check.look(checkup)
        if isinstance(said, Verdict):
            yield said
        elif said is not None:
            yield from said
    except psycopg.Error as error:
        words = error.diag.message_primary or " ".join(str(error).split())
        yield fail(f"the database did not answer: {words}", "try again; if it stays, look into the server's log")
    except (JobError, ConfigurationError) as error:
        yield fail(str(error), "mend it, and look again")
    except Exception as error:  # noqa: BLE001 - the boundary: one check that is wrong must not hide what the others find
        # Only the type: the message may hold anything.
        yield fail(f"the check itself failed with {type(error).__name__}", "report it: this is a fault of jobqueue")
