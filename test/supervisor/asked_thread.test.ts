import { setTimeout as sleep } from "node:timers/promises";
import { Worker } from "node:worker_threads";
import t from "tap";
import { AskedThread, NoThread } from "../../src/supervisor/asked_thread.ts";

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

function doubling(report: (message: string) => void = () => {}, pauseMs = 60_000): AskedThread<Question, Doubled> {
  const start = (): Worker => new Worker(DOUBLES, { eval: true });
  const read = ({ twice = 0 }: Doubled): number => {
    if (twice > 100) throw new RangeError("more than 100");
    return twice;
  };
  return new AskedThread({ doing: "doubling", start, read, report, pauseMs });
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
  thread.start();
  const died = { message: "doubling: out of order" };
  await Promise.all([t.rejects(thread.ask({ kind: "die" }), died), t.rejects(thread.ask({ number: 1 }), died)]);
  await t.rejects(thread.ask({ number: 1 }), died);
  await thread.close();
});

t.test("a thread that has died is told of and started again, and answers", async (t) => {
  const told: string[] = [];
  const thread = doubling((message) => told.push(message), 1);
  thread.start();
  for (let deaths = 1; deaths <= 3; deaths++) {
    await t.rejects(thread.ask({ kind: "die" }), NoThread);
    t.equal(told.length, deaths);
    t.match(told.at(-1), /^doubling: its thread has died and is started again in .* s: out of order$/);
    let answer: unknown = null;
    while (answer === null) answer = await thread.ask({ number: 4 }).catch(() => sleep(1, null));
    t.equal(answer, 8);
  }
  await thread.close();
  t.equal(told.length, 3, "one that was closed has not died");
});

t.test("a thread that cannot be started is told of, and tried again", async (t) => {
  const told: string[] = [];
  let tries = 0;
  const start = (): Worker => {
    if (++tries < 3) throw new Error("no descriptors");
    return new Worker(DOUBLES, { eval: true });
  };
  const report = (message: string): unknown => told.push(message);
  const read = ({ twice }: Doubled): unknown => twice;
  const thread = new AskedThread<Question, Doubled>({ doing: "doubling", start, read, report, pauseMs: 1 });
  thread.start();
  await t.rejects(thread.ask({ number: 1 }), { name: "NoThread", message: "doubling: no descriptors" });
  let answer: unknown = null;
  while (answer === null) answer = await thread.ask({ number: 4 }).catch(() => sleep(1, null));
  t.equal(answer, 8);
  t.equal(told.length, 2);
  await thread.close();
});
