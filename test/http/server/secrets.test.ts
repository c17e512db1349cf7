import t from "tap";
import { isSecret } from "../../../src/http/server/secrets.ts";

/** A text that counts how often it is looked at. */
function counted(text: string): { readonly text: string; looks: number } {
  const told = { text: "", looks: 0 };
  const charCodeAt = (at: number): number => {
    told.looks++;
    return text.charCodeAt(at);
  };
  told.text = { length: text.length, charCodeAt } as unknown as string;
  return told;
}

t.test("a secret is compared to its end, wherever a text differs", (t) => {
  const secret = "Bearer 0123456789";
  for (const [given, same] of [
    [secret, true],
    ["X".repeat(secret.length), false],
    [`X${secret.slice(1)}`, false],
    [`${secret.slice(0, -1)}X`, false],
  ] as const) {
    const looked = counted(given);
    t.equal(isSecret(secret, looked.text), same, given);
    t.equal(looked.looks, secret.length);
  }
  t.notOk(isSecret(secret, secret.slice(1)));
  t.notOk(isSecret(secret, `${secret}0`));
  t.end();
});
