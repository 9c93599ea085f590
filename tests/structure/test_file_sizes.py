"""A file is one thing. One of more than 300 lines says here why it is."""

from __future__ import annotations

from tests.structure.helpers import ROOT, project_files

LONG = 300

WHY = {
    "src/jobqueue/kernel/claiming/claimer.py": "the one loop that claims: its turns share the sources, the room and who runs alone",
    "src/jobqueue/kernel/database/store.py": "a method for each statement on one queue's table; they share its description and who asks",
    "src/jobqueue/kernel/worker.py": "starts the loops in order and stops them in order; each half is wrong without the other",
    "tests/doctor/test_examination.py": "one table of everything that can be wrong with an installation, and how it is found",
    "tests/kernel/database/test_prepared.py": "the driver's way and ours side by side: every value, answer and error on both",
    "tests/kernel/running/test_completer.py": "every outcome of a handler, alone, in a batch, and of a lease that is lost",
    "tests/kernel/running/test_endings.py": "a hundred ways for a handler to end, and the one test of them all",
    "tests/kernel/running/test_loop_thread.py": "one event loop, and all that its jobs and its worker may do to it; they share a gate",
    "tests/kernel/test_adopt.py": "one function of SQL and the tables that it is asked to adopt",
    "tests/kernel/test_listener.py": "every way in which a rest begins and ends; they share a listener with a clock",
    "tests/media/test_media_purge.py": "one purge over files that share objects in every way",
    "tests/media/test_publisher.py": "one picture's path, and every fault of the origin and the store on it",
    "tests/media/test_tiff.py": "one format, and each way in which its samples, planes, pages and blocks can lie or be lost",
    "tests/media/test_variants.py": "one rendering: size, orientation, colour, transparency, metadata, damage",
    "tests/model/helpers.py": "the database under the model; the machine's steps need all of it",
    "tests/model/test_interleavings.py": "the plays and the stage that they are stepped on",
    "tests/net/test_download.py": "one download, and everything that a peer may do to it",
    "tests/observe/test_logging.py": "a line's form and its secrecy: each field is looked at for both",
    "tests/plans/helpers.py": "one scene: a table in a given situation, what the planner believes of it, and a statement explained there",
    "tests/retention/test_archival.py": "one archival, killed at each of its steps; they share the rows and the store",
    "tests/schedule/test_target_caller.py": "one call to a target: what is sent, what each answer means, and the breaker",
    "tests/storage/test_objects.py": "one bucket, and every answer of a store that is not the expected one",
    "tests/test_daemon.py": "one daemon from its start to its end, as its surroundings see it",
    "tests/test_migrations.py": "one migration of databases in every state in which a host may have them",
    "tests/test_settings.py": "one environment: each variable's default, limits and complaint",
    "tests/webhooks/test_webhook_delivery.py": "one delivery, and every answer of a receiver",
}


def long_files() -> dict[str, int]:
    """Python files of src/ and tests/ that are longer than LONG, with their lines."""
    found = {}
    for path in project_files():
        if path.suffix == ".py" and path.parts[0] in {"src", "tests"}:
            lines = len((ROOT / path).read_text().splitlines())
            if lines > LONG:
                found[path.as_posix()] = lines
    return found


def test_long_files_say_why() -> None:
    assert {path: lines for path, lines in long_files().items() if path not in WHY} == {}


def test_no_reason_is_left_of_a_file_that_is_short_or_gone() -> None:
    assert sorted(WHY.keys() - long_files().keys()) == []
