import { setTimeout as sleep } from "node:timers/promises";
import { Worker } from "node:worker_threads";
import t from "tap";
import { AskedThread, type AskedThreadOptions, NoThread } from "../../src/supervisor/asked_thread.ts";
import { PartFailed } from "../../src/supervisor/derived_parts.ts";
import type { Answers, Asker, Listeners } from "../../src/supervisor/protocol.ts";
import { DOUBLING, type DoublingProtocol, type DoublingQuestions, TooMany } from "../support/doubling.ts";

function doubling(options: Partial<AskedThreadOptions<DoublingProtocol>> = {}): AskedThread<DoublingProtocol> {
  return new AskedThread(DOUBLING, {
    start: startDoubling,
    report() {},
    listeners: { limited() {} },
    answers: { double: ({ number }) => 2 * number },
    pauseMs: 60_000,
    ...options,
  });
}

function startDoubling(): Worker {
  return new Worker(new URL("../support/doubling_thread.ts", import.meta.url), { workerData: { limit: 100 } });
}

t.test("answers find who asked, and so do errors", async (t) => {
  const thread = doubling();
  thread.start();
  t.same(await Promise.all([1, 2, 3].map((number) => thread.ask("double", { number }))), [2, 4, 6]);
  await t.rejects(thread.ask("double", { number: -1 }), { message: "doubling: below zero" });
  t.equal(await thread.ask("double", { number: 50 }), 100);
  await thread.close();
  await t.rejects(thread.ask("double", { number: 1 }), { message: "doubling: its thread has stopped" });
});

t.test("errors of a protocol arrive as what they were", async (t) => {
  const thread = doubling();
  thread.start();
  const tooMany = await thread.ask("double", { number: 51 }).catch((error) => error);
  t.type(tooMany, TooMany);
  t.match(tooMany, { limit: 100, message: "more than 100" });
  const failed = await thread.ask("fail", {}).catch((error) => error);
  t.type(failed, PartFailed);
  t.match(failed, { fault: { part: "index", state: "failed", detail: "the disk is full", full: true } });
  await thread.close();
});

t.test("a thread asks, obeys and tells; buffers of an answer are handed over", async (t) => {
  const limits: number[] = [];
  const thread = doubling({
    listeners: { limited: ({ limit }) => limits.push(limit) },
    answers: {
      double({ number }) {
        if (number > 10) throw new TooMany(10);
        return 2 * number;
      },
    },
  });
  thread.start();
  t.equal(await thread.ask("doubleBack", { number: 7 }), 14);
  await t.rejects(thread.ask("doubleBack", { number: 11 }), TooMany, "an error crosses twice");
  thread.say("limit", { limit: 3 });
  await t.rejects(thread.ask("double", { number: 2 }), { message: "more than 3" });
  t.same(limits, [3]);
  t.equal((await thread.ask("bytes", { count: 65_536 })).length, 65_536);
  t.equal(await thread.ask("bytesLeft", {}), 0);
  await thread.close();
});

t.test("a question that is not in the table is answered with an error", async (t) => {
  const thread = doubling();
  thread.start();
  // @ts-expect-error: it is in no table.
  await t.rejects(thread.ask("halve", { number: 2 }), { message: "doubling: there is no question halve" });
  // @ts-expect-error: it is in every object.
  await t.rejects(thread.ask("toString", {}), { message: "doubling: there is no question toString" });
  t.equal(await thread.ask("double", { number: 1 }), 2, "and the thread goes on");
  await thread.close();
});

t.test("what a table does not have, or what has no answer in it, does not compile", (t) => {
  const asker: Asker<Pick<DoublingQuestions, "double">> = doubling();
  t.ok(asker);
  // @ts-expect-error: bytes has no answer.
  const lacking: Answers<Pick<DoublingQuestions, "double" | "bytes">> = { double: ({ number }) => number };
  // @ts-expect-error: the answer is a number.
  const wrong: Answers<Pick<DoublingQuestions, "double">> = { double: ({ number }) => `${number}` };
  // @ts-expect-error: nobody listens to it.
  const deaf: Listeners<DoublingProtocol["orders"]> = { close() {} };
  t.ok(lacking && wrong && deaf);
  const typed = async (thread: AskedThread<DoublingProtocol>): Promise<void> => {
    // @ts-expect-error: a number is asked for.
    await thread.ask("double", { count: 1 });
    // @ts-expect-error: what is answered is a number.
    const text: string = await thread.ask("double", { number: 1 });
    // @ts-expect-error: it is asked, not told.
    thread.say("double", { number: 1 });
    // @ts-expect-error: what the thread is started with has a limit.
    DOUBLING.start({ most: text });
  };
  t.type(typed, "function");
  t.end();
});

t.test("nothing is asked of a thread that has not started, and nothing waits for one that has died", async (t) => {
  const thread = doubling();
  await t.rejects(thread.ask("double", { number: 1 }), { message: "doubling: its thread has not started" });
  thread.start();
  const died = { message: "doubling: out of order" };
  await Promise.all([t.rejects(thread.ask("die", {}), died), t.rejects(thread.ask("die", {}), died)]);
  await t.rejects(thread.ask("double", { number: 1 }), died);
  await thread.close();
});

t.test("a thread that has died is told of and started again, and answers", async (t) => {
  const told: string[] = [];
  const faults: (string | null)[] = [];
  const thread = doubling({
    report: (message) => told.push(message),
    part: { name: "history", told: (fault) => faults.push(fault?.detail ?? null) },
    pauseMs: 1,
  });
  thread.start();
  for (let deaths = 1; deaths <= 3; deaths++) {
    await t.rejects(thread.ask("die", {}), NoThread);
    t.equal(told.length, deaths);
    t.match(told.at(-1), /^doubling: its thread has died and is started again in .* s: out of order$/);
    let answer: unknown = null;
    while (answer === null) answer = await thread.ask("double", { number: 4 }).catch(() => sleep(1, null));
    t.equal(answer, 8);
    t.same(faults.splice(0), ["out of order", null]);
  }
  await thread.close();
  t.equal(told.length, 3, "one that was closed has not died");
});

t.test("a thread that cannot be started is told of, and tried again", async (t) => {
  const told: string[] = [];
  let tries = 0;
  const start = (): Worker => {
    if (++tries < 3) throw new Error("no descriptors");
    return startDoubling();
  };
  const thread = doubling({ start, report: (message) => told.push(message), pauseMs: 1 });
  thread.start();
  await t.rejects(thread.ask("double", { number: 1 }), { name: "NoThread", message: "doubling: no descriptors" });
  let answer: unknown = null;
  while (answer === null) answer = await thread.ask("double", { number: 4 }).catch(() => sleep(1, null));
  t.equal(answer, 8);
  t.equal(told.length, 2);
  await thread.close();
});
