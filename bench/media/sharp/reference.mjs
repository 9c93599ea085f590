// node reference.mjs SOURCE REPEATS [OUT_PREFIX]
//
// Two separate resizes from the whole source in memory, at sharp's default effort: what a Node worker does without
// further thought. Prints the processor seconds (user and system) of the process as JSON; zero repeats measure its start.
import { readFile, writeFile } from 'node:fs/promises';
import sharp from 'sharp';

sharp.cache(false);
sharp.concurrency(1);

const [source, repeats, prefix] = process.argv.slice(2);
const variant = (buffer, size, quality) =>
  sharp(buffer)
    .rotate()
    .resize(size, size, { fit: 'inside', withoutEnlargement: true })
    .webp({ quality })
    .toBuffer();

let thumb;
let display;
for (let index = 0; index < Number(repeats); index += 1) {
  const buffer = await readFile(source);
  [thumb, display] = await Promise.all([variant(buffer, 400, 80), variant(buffer, 1600, 90)]);
}
if (prefix) {
  await writeFile(`${prefix}-thumb.webp`, thumb);
  await writeFile(`${prefix}-display.webp`, display);
}
const { user, system } = process.cpuUsage();
console.log(JSON.stringify({ cpu_seconds: (user + system) / 1e6, versions: sharp.versions }));
