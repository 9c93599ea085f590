// node verify.mjs LIBRARY: reads {secret, raw, body, headers} as JSON; ends with 0 where the library verifies.
import { readFileSync } from "node:fs";

const { secret, raw, body, headers } = JSON.parse(readFileSync(0, "utf8"));

const libraries = {
  standardwebhooks: async () => {
    const { Webhook } = (await import("standardwebhooks")).default ?? (await import("standardwebhooks"));
    new Webhook(secret, raw ? { format: "raw" } : {}).verify(body, headers);
  },
  svix: async () => {
    const { Webhook } = (await import("svix")).default ?? (await import("svix"));
    new Webhook(secret, raw ? { format: "raw" } : {}).verify(body, headers);
  },
  openai: async () => {
    const { default: OpenAI } = await import("openai");
    await new OpenAI({ apiKey: "none" }).webhooks.verifySignature(body, headers, secret);
  },
};

try {
  await libraries[process.argv[2]]();
} catch (error) {
  console.error(error.message);
  process.exitCode = 1;
}
