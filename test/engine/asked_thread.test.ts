import { Worker } from "node:worker_threads";
import t from "tap";
import { AskedThread } from "../../src/engine/asked_thread.ts";

interface Doubled {
  readonly id: number;
  readonly twice?: number;
  readonly error?: string;
}

const DOUBLES = `
const { parentPort } = require("node:worker_threads");
parentPort.on("message", ({ kind, id, number }) => {
  if (kind === "close") parentPort.close();
  else if (kind === "die") throw new Error("out of order");
  else parentPort.postMessage(number < 0 ? { id, error: "below zero" } : { id, twice: 2 * number });
});`;

type Question = { readonly number: number } | { readonly kind: "die" };

function doubling(): AskedThread<Question, Doubled> {
  const start = (): Worker => new Worker(DOUBLES, { eval: true });
  return new AskedThread("doubling", start, ({ twice = 0 }: Doubled) => {
    if (twice > 100) throw new RangeError("more than 100");
    return twice;
  });
}

t.test("answers find who asked, and so do errors", async (t) => {
  const thread = doubling();
  thread.start();
  t.same(await Promise.all([1, 2, 3].map((number) => thread.ask({ number }))), [2, 4, 6]);
  await t.rejects(thread.ask({ number: -1 }), { message: "doubling: below zero" });
  await t.rejects(thread.ask({ number: 51 }), RangeError);
  t.equal(await thread.ask({ number: 50 }), 100);
  await thread.close();
  await t.rejects(thread.ask({ number: 1 }), { message: "doubling: its thread has stopped" });
});

t.test("nothing is asked of a thread that has not started, and nothing waits for one that has died", async (t) => {
  const thread = doubling();
  await t.rejects(thread.ask({ number: 1 }), { message: "doubling: its thread has not started" });
  await thread.close();
  thread.start();
  const died = { message: "doubling: out of order" };
  await Promise.all([t.rejects(thread.ask({ kind: "die" }), died), t.rejects(thread.ask({ number: 1 }), died)]);
  await t.rejects(thread.ask({ number: 1 }), died);
  await thread.close();
});
