// node next.mjs LIBRARY: reads [[expression, zone, after, count], ...] as JSON; writes the ticks of each, or null where it refuses.
import { readFileSync } from "node:fs";

const given = JSON.parse(readFileSync(0, "utf8"));

const libraries = {
  "cron-parser": async () => {
    const { CronExpressionParser } = await import("cron-parser");
    return (expression, zone, after, count) => {
      const cron = CronExpressionParser.parse(expression, { tz: zone, currentDate: new Date(after) });
      return Array.from({ length: count }, () => cron.next().toDate());
    };
  },
  croner: async () => {
    const { Cron } = await import("croner");
    return (expression, zone, after, count) =>
      new Cron(expression, { timezone: zone, paused: true }).nextRuns(count, new Date(after));
  },
};

const next = await libraries[process.argv[2]]();
const answers = given.map(([expression, zone, after, count]) => {
  try {
    return next(expression, zone, after, count).map((tick) => tick.toISOString());
  } catch {
    return null;
  }
});
process.stdout.write(JSON.stringify(answers));
