"""The renderer: what comes from a name, a word or a value is escaped for the driver, and what we wrote is taken as it is."""

from __future__ import annotations

from psycopg import sql

from jobqueue.kernel.database.statements import Description, Statements, render

TAXES = Description("tax", 'public."tax %s"', "bigint", "0%", "busy", "100%", "%(ids)s", "{gone}")


def test_names_words_and_values_are_escaped_and_fragments_keep_their_parameters() -> None:
    condition = sql.SQL("({} OR t.id = ANY (%(ids)s::{}[]))").format(
        sql.SQL("t.status = {}").format(sql.Literal(TAXES.completed)), sql.SQL(TAXES.id_type)
    )
    rendered = render(
        b"SELECT {column} FROM {table} AS t WHERE {source} AND t.status <> ALL ({words}) AND t.status <> {cancelled} LIMIT {limit}",
        TAXES,
        column=sql.SQL("t.") + sql.Identifier("rate %"),
        source=condition,
        words=sql.Literal([TAXES.pending, TAXES.failed]),
        limit=sql.Literal(5),
    )
    assert rendered == (
        b'SELECT t."rate %%" FROM public."tax %%s" AS t '
        b"WHERE (t.status = '100%%' OR t.id = ANY (%(ids)s::bigint[])) "
        b"AND t.status <> ALL ('{0%%,%%(ids)s}') AND t.status <> '{gone}' LIMIT 5"
    )


def test_a_workers_statements_keep_theirs() -> None:
    rendered = Statements(TAXES, ("rate %",))("complete_jobs")
    assert b"SET status = '100%%'" in rendered
    assert b"%(ids)s::bigint[]" in rendered
    assert b"(%(tokens)s::uuid[])[width_bucket(t.id, %(ids)s::bigint[])]" in rendered
    assert b', t."rate %%"' in Statements(TAXES, ("rate %",))("claim_jobs", 3)
