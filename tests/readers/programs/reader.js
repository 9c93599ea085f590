// node reader.js LIBRARY ARCHIVE: names as JSON; with an entry's NAME behind it, its bytes.
"use strict";
const fs = require("fs");
const [library, archive, wanted] = process.argv.slice(2);

const readers = {
  yauzl: () =>
    new Promise((resolve, reject) => {
      const names = [];
      require("yauzl").open(archive, { lazyEntries: true }, (error, zip) => {
        if (error) return reject(error);
        zip.on("error", reject);
        zip.on("end", () => resolve({ names }));
        zip.on("entry", (entry) => {
          names.push(entry.fileName);
          if (entry.fileName !== wanted) return zip.readEntry();
          zip.openReadStream(entry, async (failure, stream) => {
            if (failure) return reject(failure);
            resolve({ bytes: await collect(stream) });
          });
        });
        zip.readEntry();
      });
    }),
  "adm-zip": async () => {
    const zip = new (require("adm-zip"))(archive);
    return { names: zip.getEntries().map((entry) => entry.entryName), bytes: wanted && zip.readFile(wanted) };
  },
  fflate: async () => {
    const files = require("fflate").unzipSync(fs.readFileSync(archive));
    return { names: Object.keys(files), bytes: wanted && Buffer.from(files[wanted]) };
  },
  jszip: async () => {
    const zip = await require("jszip").loadAsync(fs.readFileSync(archive));
    return { names: Object.keys(zip.files), bytes: wanted && (await zip.file(wanted).async("nodebuffer")) };
  },
  unzipper: async () => {
    const { files } = await require("unzipper").Open.file(archive);
    const found = files.find((file) => file.path === wanted);
    return { names: files.map((file) => file.path), bytes: wanted && (await found.buffer()) };
  },
  "@zip.js/zip.js": async () => {
    const { ZipReader, BlobReader, Uint8ArrayWriter } = await import("@zip.js/zip.js");
    const entries = await new ZipReader(new BlobReader(await fs.openAsBlob(archive))).getEntries();
    const found = entries.find((entry) => entry.filename === wanted);
    return {
      names: entries.map((entry) => entry.filename),
      bytes: wanted && Buffer.from(await found.getData(new Uint8ArrayWriter())),
    };
  },
  "node-stream-zip": async () => {
    const zip = new (require("node-stream-zip").async)({ file: archive });
    const names = Object.keys(await zip.entries());
    const bytes = wanted && (await zip.entryData(wanted));
    await zip.close();
    return { names, bytes };
  },
};

async function collect(stream) {
  const pieces = [];
  for await (const piece of stream) pieces.push(piece);
  return Buffer.concat(pieces);
}

readers[library]()
  .then(({ names, bytes }) => process.stdout.write(wanted ? bytes : JSON.stringify(names)))
  .catch((error) => {
    console.error(String(error.message || error).split("\n")[0]);
    process.exitCode = 1;
  });
