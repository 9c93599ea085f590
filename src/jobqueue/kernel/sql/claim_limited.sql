-- Leases as the claim inside does, as many jobs as the queue's limits over all processes permit now.
-- in: as the claim inside; concurrency, spacing, burst (this process' own limits, NULL: none), back (seconds: leases that ran
-- out longer ago are not looked for; NULL: all), patience (milliseconds that the client may stand still in the transaction).
-- out: one row a job, or one with NULL for the job: how many were permitted, in how many seconds it is
-- worth to ask again (NULL: at once), whether leases were counted that have run out; then as the claim inside.
-- Plan: the lease index, then as the claim inside. No more rows are locked than are leased.
WITH permitted AS MATERIALIZED (
SELECT p.*
FROM jobqueue.permit({queue}, {relation}, {processing}, {limit}, %(concurrency)s::int, %(spacing)s::bigint, %(burst)s::int,
                     %(back)s::float8, %(patience)s::text) AS p),
claimed AS (
{claiming}),
taken AS MATERIALIZED (
SELECT jobqueue.take_permits({queue}, (SELECT count(*) FROM claimed), permitted.spacing, permitted.burst, permitted.due) AS again
FROM permitted)
SELECT permitted.jobs, greatest(permitted.again, taken.again), permitted.lagging, claimed.*
FROM permitted CROSS JOIN taken LEFT JOIN claimed ON true
