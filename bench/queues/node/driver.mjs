// What the drivers of the Node queues share: the command line, the clock and the lines on standard output.
//
//   DRIVER setup   --dsn DSN                       make the peer's schema in a fresh database
//   DRIVER enqueue --dsn DSN --count N [--delay S] N no-op jobs in bulk; with --delay due S seconds from now
//   DRIVER trickle --dsn DSN --count N --every S   one job every S seconds; `sent I T` after each commit
//   DRIVER work    --dsn DSN [--concurrency C] [--report]  until SIGTERM; `ready`, then `progress COUNT FIRST LAST`
//                                                  (jobs ended here, first start, last end) or `began I T` per job
//   DRIVER remaining --dsn DSN                     SQL that returns 0 when no job is left to do or under way, else 1
//   DRIVER fill    --dsn DSN --kind history|delayed|pending --count N   rows already there; exits 3 if it cannot be
//
// Times are epoch seconds with microseconds. The number I is in the job's payload as `i`.
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import pg from 'pg';

const PROGRESS_EVERY_MS = 50;
const UNSUPPORTED_EXIT = 3;

// The handler's clock: Date.now() has only milliseconds.
const now = () => (performance.timeOrigin + performance.now()) / 1000;
const print = (line) => process.stdout.write(`${line}\n`);

/** What `fill` throws where the peer has no such rows. */
export class Unsupported extends Error {}

/** What one worker process tells: each job as it begins, or the count and the two times that bound the work. */
class Report {
  #eachJob;
  #count = 0;
  #printed = 0;
  #first = 0;
  #last = 0;
  #timer;

  constructor(eachJob) {
    this.#eachJob = eachJob;
  }

  /** The whole body of a no-op job. */
  job(payload) {
    if (this.#eachJob) {
      print(`began ${payload.i} ${now().toFixed(6)}`);
      return;
    }
    if (this.#count === 0) this.#first = now();
    this.#last = now();
    this.#count += 1;
  }

  start() {
    print('ready');
    this.#timer = setInterval(() => this.#print(), PROGRESS_EVERY_MS);
  }

  stop() {
    clearInterval(this.#timer);
    this.#print();
  }

  #print() {
    if (this.#count === this.#printed) return;
    this.#printed = this.#count;
    print(`progress ${this.#count} ${this.#first.toFixed(6)} ${this.#last.toFixed(6)}`);
  }
}

/** Run statements one after another, each in its own transaction, on one connection. */
export async function execute(dsn, statements) {
  const client = new pg.Client({ connectionString: dsn });
  await client.connect();
  try {
    for (const [text, values] of statements) await client.query(text, values);
  } finally {
    await client.end();
  }
}

/** The numbers 0 to `count` in arrays of at most `size`. */
export function* chunks(count, size) {
  for (let from = 0; from < count; from += size) {
    yield Array.from({ length: Math.min(size, count - from) }, (_, index) => from + index);
  }
}

async function trickle(peer, { dsn, count, every }) {
  const sender = await peer.sender(dsn);
  try {
    // Against one start, so that what a commit takes does not lengthen the next pause.
    const start = performance.now();
    for (let i = 0; i < count; i += 1) {
      await sleep(Math.max(0, start + i * every * 1000 - performance.now()));
      await sender.send({ i });
      print(`sent ${i} ${now().toFixed(6)}`);
    }
  } finally {
    await sender.close();
  }
}

async function work(peer, { dsn, concurrency, report: eachJob }) {
  // Listened for before anything starts: a signal during the start is kept, not fatal.
  const stopped = new Promise((resolve) => process.once('SIGTERM', resolve));
  const report = new Report(eachJob);
  const stop = await peer.work({ dsn, concurrency, job: (payload) => report.job(payload) });
  report.start();
  await stopped;
  await stop();
  report.stop();
}

async function fill(peer, { dsn, kind, count }) {
  try {
    await peer.fill({ dsn, kind, count });
  } catch (error) {
    if (!(error instanceof Unsupported)) throw error;
    print('unsupported');
    process.exitCode = UNSUPPORTED_EXIT;
  }
}

const COMMANDS = {
  setup: { required: ['dsn'], run: (peer, { dsn }) => peer.setup(dsn) },
  enqueue: { required: ['dsn', 'count'], run: (peer, options) => peer.enqueue(options) },
  trickle: { required: ['dsn', 'count', 'every'], run: trickle },
  work: { required: ['dsn'], run: work },
  remaining: { required: ['dsn'], run: (peer) => print(peer.remaining) },
  fill: { required: ['dsn', 'kind', 'count'], run: fill },
};

const NUMBERS = {
  count: (value) => Number.isSafeInteger(value) && value >= 0,
  concurrency: (value) => Number.isSafeInteger(value) && value > 0,
  delay: (value) => Number.isFinite(value) && value >= 0,
  every: (value) => Number.isFinite(value) && value >= 0,
};
const KINDS = ['history', 'delayed', 'pending'];

function parse() {
  const text = { type: 'string' };
  const { positionals, values } = parseArgs({
    allowPositionals: true,
    options: {
      dsn: text, count: text, delay: text, every: text, concurrency: text, kind: text, report: { type: 'boolean' },
    },
  });
  const command = COMMANDS[positionals[0]];
  if (command === undefined || positionals.length !== 1) {
    throw new TypeError(`one command of ${Object.keys(COMMANDS).join(', ')} is needed`);
  }
  for (const name of command.required) {
    if (values[name] === undefined) throw new TypeError(`${positionals[0]} needs --${name}`);
  }
  for (const [name, valid] of Object.entries(NUMBERS)) {
    if (values[name] === undefined) continue;
    const number = Number(values[name]);
    if (!valid(number)) throw new TypeError(`--${name} cannot be ${values[name]}`);
    values[name] = number;
  }
  if (values.kind !== undefined && !KINDS.includes(values.kind)) {
    throw new TypeError(`--kind is one of ${KINDS.join(', ')}`);
  }
  return { command, options: { report: false, ...values } };
}

/** Run the command line against a peer: `setup`, `enqueue`, `sender`, `work`, `remaining` and `fill`. */
export async function drive(peer) {
  const { command, options } = parse();
  await command.run(peer, options);
}
