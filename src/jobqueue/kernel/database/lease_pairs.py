"""Leases as a statement's parameters: parallel arrays of ids and tokens, and of what else belongs to each job."""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import isfinite
from operator import attrgetter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jobqueue.kernel.job import LeasedJob

Stages = Mapping[str, float]
"""Seconds by the name of a stage."""

_LEASE = attrgetter("id", "renewed_at")

# The largest number that the column takes.
_MOST_ATTEMPTS = 2**63 - 1


def lease_pairs(jobs: Sequence[LeasedJob], **more: Sequence[Any]) -> dict[str, Any]:
    """Parallel arrays in the order of ids, as the statements expect them.

    Of two leases on one job the later comes last: it is the one that counts. The order also keeps statements that lock the
    same rows from deadlocking. Ids and tokens are written as the text of an array: the driver's own way costs more than the
    statement itself does.
    """
    if more:
        order = sorted(range(len(jobs)), key=lambda n: _LEASE(jobs[n]))
        jobs = [jobs[n] for n in order]
        more = {name: [values[n] for n in order] for name, values in more.items()}
    else:
        jobs = sorted(jobs, key=_LEASE)
    # The jobs of one claim share one token object.
    texts: dict[int, str] = {}
    tokens = []
    for job in jobs:
        token = job.token
        text = texts.get(id(token))
        if text is None:
            text = texts[id(token)] = str(token)
        tokens.append(text)
    return {"ids": "{" + ",".join([str(job.id) for job in jobs]) + "}", "tokens": "{" + ",".join(tokens) + "}", **more}


def attempt_rows(
    worker: str | None, jobs: Sequence[LeasedJob], stages: Sequence[Stages], **more: Sequence[Any]
) -> dict[str, Any]:
    """The pairs, and what the rows of these attempts need besides. `stages` are of each job, or none at all."""
    numbers = [min(job.attempt, _MOST_ATTEMPTS) for job in jobs]
    documents = [_document(of_job) for of_job in stages] if stages else [None] * len(jobs)
    return {**lease_pairs(jobs, attempts=numbers, stages=documents, **more), "worker": worker}


def _document(stages: Stages) -> str | None:
    """The stages in milliseconds, as JSON that any database takes: a name or a number that does not fit it must not cost the
    outcome."""
    # A copy: another thread of the handler's may be at the end of a stage.
    took = {
        name.encode("ascii", "replace").decode().replace("\0", "?"): round(seconds * 1000, 1)
        for name, seconds in dict(stages).items()
        if isfinite(seconds * 1000)
    }
    return json.dumps(took) if took else None
