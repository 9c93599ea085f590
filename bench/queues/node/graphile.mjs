// graphile-worker: see driver.mjs for the commands.
import { EventEmitter, once } from 'node:events';
import { Logger, makeWorkerUtils, run, runMigrations } from 'graphile-worker';
import { chunks, drive, execute, Unsupported } from './driver.mjs';

const TASK = 'noop';

// The documented batched mode (website: performance, "With batching"): jobs are fetched 500 at a time and finished
// ones deleted together, as soon as the event loop comes round. LISTEN/NOTIFY is always on, and an empty local queue
// fetches at once when notified, so the same settings are the fastest for one job on an idle worker too.
const BATCHED = { localQueue: { size: 500 }, completeJobBatchDelay: 0, failJobBatchDelay: 0 };
const CONCURRENCY = 24; // of that page
// Only for jobs that become due, which nothing announces; the default is 2000.
const POLL_MS = 500;
const ADD_BATCH = 5000;

// The default logger writes a line for every job.
const logger = new Logger(() => (level, message) => {
  if (level === 'error' || level === 'warning') process.stderr.write(`${message}\n`);
});

async function sender(dsn) {
  const utils = await makeWorkerUtils({ connectionString: dsn, logger });
  return { send: (payload) => utils.addJob(TASK, payload), close: () => utils.release() };
}

async function enqueue({ dsn, count, delay = 0 }) {
  const utils = await makeWorkerUtils({ connectionString: dsn, logger });
  try {
    const runAt = delay > 0 ? new Date(Date.now() + delay * 1000) : undefined;
    for (const numbers of chunks(count, ADD_BATCH)) {
      await utils.addJobs(numbers.map((i) => ({ identifier: TASK, payload: { i }, runAt })));
    }
  } finally {
    await utils.release();
  }
}

async function work({ dsn, concurrency = CONCURRENCY, job }) {
  const events = new EventEmitter();
  const listening = once(events, 'pool:listen:success');
  const runner = await run({
    preset: {
      worker: {
        connectionString: dsn,
        concurrentJobs: concurrency,
        maxPoolSize: concurrency + 1,
        pollInterval: POLL_MS,
        ...BATCHED,
      },
    },
    logger,
    events,
    noHandleSignals: true,
    parsedCronItems: [],
    taskList: { [TASK]: job },
  });
  await listening;
  return () => runner.stop();
}

async function fill({ dsn, kind, count }) {
  if (kind === 'history') throw new Unsupported('finished jobs are deleted');
  // Far-future jobs have the numbers below the first, so that `remaining` need not read past them.
  const [id, runAt] = kind === 'delayed'
    ? ["(SELECT least(min(id), 0) FROM graphile_worker._private_jobs) - n", "now() + interval '10 years'"]
    : ["nextval(pg_get_serial_sequence('graphile_worker._private_jobs', 'id'))", 'now()'];
  await execute(dsn, [
    ['INSERT INTO graphile_worker._private_tasks (identifier) VALUES ($1) ON CONFLICT DO NOTHING', [TASK]],
    [
      `INSERT INTO graphile_worker._private_jobs (id, task_id, payload, run_at) OVERRIDING SYSTEM VALUE
       SELECT ${id}, tasks.id, json_build_object('i', n), ${runAt}
       FROM graphile_worker._private_tasks AS tasks, generate_series(1, $2::bigint) AS n
       WHERE tasks.identifier = $1`,
      [TASK, count],
    ],
    // As autovacuum would have, had the rows come one by one.
    ['VACUUM (ANALYZE) graphile_worker._private_jobs', []],
  ]);
}

await drive({
  setup: (dsn) => runMigrations({ connectionString: dsn, logger }),
  sender,
  enqueue,
  work,
  fill,
  remaining: 'SELECT count(*) FROM '
    + '(SELECT FROM graphile_worker._private_jobs WHERE id > 0 ORDER BY id DESC LIMIT 1) AS unfinished',
});
