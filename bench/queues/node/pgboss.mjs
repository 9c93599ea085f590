// pg-boss: see driver.mjs for the commands.
import { PgBoss } from 'pg-boss';
import { chunks, drive, execute } from './driver.mjs';

const QUEUE = 'noop';

// Documented for work(): batches, the next fetched at once while they come back full, and several fetchers in one
// process, so that one fetches while another's batch is being completed. No size is recommended; from 200 to 2,000
// the server's work for a job halves, beyond it hardly falls. A batch is completed, or fails, as a whole.
const BATCHED = { batchSize: 2000, burstWhenBatchFull: true };
const FETCHERS = 2;
// LISTEN/NOTIFY, to which the instance and the queue must both agree, wakes an idle fetcher, with the same settings.
// The polling beside it finds only jobs that become due; it is as short as is allowed (default 30).
const POLLING = { pollingIntervalSeconds: 0.5, notifyPollingIntervalSeconds: 0.5 };
const INSERT_BATCH = 5000;

const SENDER = { supervise: false, schedule: false };

/** A started instance. Its errors and warnings, which would otherwise end the process or be lost, go to stderr. */
async function started(dsn, options) {
  const boss = new PgBoss({ connectionString: dsn, ...options });
  boss.on('error', (error) => process.stderr.write(`${error.message}\n`));
  boss.on('warning', (warning) => process.stderr.write(`${warning.message}\n`));
  await boss.start();
  return boss;
}

async function setup(dsn) {
  const boss = await started(dsn, SENDER);
  try {
    await boss.createQueue(QUEUE, { notify: true });
  } finally {
    await boss.stop();
  }
}

async function sender(dsn) {
  const boss = await started(dsn, SENDER);
  return { send: (payload) => boss.send(QUEUE, payload), close: () => boss.stop() };
}

async function enqueue({ dsn, count, delay = 0 }) {
  const boss = await started(dsn, SENDER);
  try {
    const startAfter = delay > 0 ? new Date(Date.now() + delay * 1000).toISOString() : undefined;
    for (const numbers of chunks(count, INSERT_BATCH)) {
      await boss.insert(QUEUE, numbers.map((i) => ({ data: { i }, startAfter })));
    }
  } finally {
    await boss.stop();
  }
}

async function work({ dsn, concurrency = FETCHERS, job }) {
  const boss = await started(dsn, { useListenNotify: true });
  await boss.work(QUEUE, { ...BATCHED, ...POLLING, localConcurrency: concurrency }, async (jobs) => {
    for (const { data } of jobs) job(data);
  });
  return () => boss.stop();
}

// The values of its own INSERT: what a queue hands down, and a payload.
const ROWS = `INSERT INTO pgboss.job
    (name, data, state, created_on, start_after, started_on, completed_on, keep_until, retry_limit, retry_delay,
     retry_backoff, expire_seconds, deletion_seconds, policy)
  SELECT queue.name, jsonb_build_object('i', n), $3::pgboss.job_state, now() + $4::interval, now() + $5::interval,
         now() + $6::interval, now() + $6::interval, now() + $5::interval + queue.retention_seconds * interval '1 s',
         queue.retry_limit, queue.retry_delay, queue.retry_backoff, queue.expire_seconds, queue.deletion_seconds,
         queue.policy
  FROM pgboss.queue, generate_series(1, $2::bigint) AS n WHERE queue.name = $1`;

// State, then made, due, and started and finished, from now. Far-future jobs were made two days ago: the index that
// jobs are fetched by is in the order of making, so `remaining` need not read past them (pg-boss itself must).
const KINDS = {
  history: ['completed', '-1 hour', '-1 hour', '-1 hour'],
  delayed: ['created', '-2 days', '10 years', null],
  pending: ['created', '0', '0', null],
};

async function fill({ dsn, kind, count }) {
  await execute(dsn, [
    [ROWS, [QUEUE, count, ...KINDS[kind]]],
    // As autovacuum would have, had the rows come one by one.
    ['VACUUM (ANALYZE) pgboss.job', []],
  ]);
}

// In the order of the fetch index while any job waits; only then are the rows searched for one under way, which no
// index holds: with a million finished jobs that takes a few tenths of a second.
const RECENT = `SELECT 1 FROM pgboss.job WHERE name = '${QUEUE}' AND created_on > now() - interval '1 day'`;
const REMAINING = 'SELECT coalesce('
  + `(${RECENT} AND state < 'active' AND NOT blocked AND priority = 0 ORDER BY created_on LIMIT 1), `
  + `(${RECENT} AND state = 'active' LIMIT 1), 0)`;

await drive({ setup, sender, enqueue, work, fill, remaining: REMAINING });
