// Calls schedules of jobqueue at the times of Cloudflare's cron triggers.
//
// Two calls for one tick are one run, so a call that got no answer is simply made again. docs/how-to/external-cron.md tells more.

// Which schedules each trigger of wrangler.toml runs. Cloudflare's times are in UTC.
export const SCHEDULES = {
  "*/5 * * * *": ["webhook-retry", "notification-expiry"],
  "0 0 * * *": ["data-archival"],
  "30 1 * * *": ["media-purge"],
};

const ATTEMPTS = 4;
const SECONDS = 20;

export default {
  async scheduled(controller, env, context) {
    // Retries are ours: a trigger that Cloudflare repeats would call what has answered already.
    controller.noRetry?.();
    context.waitUntil(runAll(SCHEDULES[controller.cron] ?? [], env));
  },
};

export async function runAll(names, env) {
  const results = await Promise.allSettled(names.map((name) => run(name, env)));
  const failures = results.filter((result) => result.status === "rejected").map((result) => String(result.reason?.message));
  if (failures.length) {
    // The invocation shows as failed in the dashboard, with these words.
    throw new Error(failures.join("; "));
  }
}

export async function run(name, env, pause = (ms) => new Promise((done) => setTimeout(done, ms))) {
  const url = new URL(`/cron/${encodeURIComponent(name)}`, env.JOBQUEUE_URL);
  let reason = "";
  for (let attempt = 0; attempt < ATTEMPTS; attempt += 1) {
    if (attempt) await pause(1000 * 4 ** (attempt - 1));
    try {
      const answer = await fetch(url, {
        method: "POST",
        headers: { Authorization: `Bearer ${env.CRON_JOB_API_KEY}` },
        redirect: "manual",
        signal: AbortSignal.timeout(SECONDS * 1000),
      });
      if (answer.ok) return (await answer.json()).status;
      reason = `${name}: answered ${answer.status}`;
      // A wrong key and an unknown name stay wrong.
      if (answer.status < 500 && answer.status !== 429) break;
    } catch (error) {
      reason = `${name}: ${error.name}`;
    }
  }
  throw new Error(reason);
}
