// Judges deliveries by software that is not ours: reads {"cases": […]} from standard input, writes a verdict for each.
import { createPublicKey, verify } from "node:crypto";
import { Webhook } from "standardwebhooks";

const judges = {
  // The library of the standard's own makers, for v1. The times of the cases are the machine's.
  standardwebhooks: ({ secret, headers, body }) => {
    try {
      new Webhook(secret).verify(body, headers);
      return true;
    } catch (error) {
      if (error.name === "WebhookVerificationError" || error.constructor.name === "WebhookVerificationError") return false;
      throw error;
    }
  },
  // What README tells users of v1a, with the key as the JWKS has it.
  crypto: ({ jwk, headers, body }) => {
    const key = createPublicKey({ key: jwk, format: "jwk" });
    const signed = Buffer.concat([
      Buffer.from(`${headers["webhook-id"]}.${headers["webhook-timestamp"]}.`),
      body,
    ]);
    return headers["webhook-signature"].split(" ").some((entry) => {
      const [version, signature] = entry.split(",");
      return version === "v1a" && verify(null, signed, key, Buffer.from(signature, "base64"));
    });
  },
};

let text = "";
for await (const chunk of process.stdin) text += chunk;
const verdicts = JSON.parse(text).cases.map(({ judge, body, ...rest }) =>
  judges[judge]({ ...rest, body: Buffer.from(body, "base64") }),
);
process.stdout.write(JSON.stringify(verdicts));
