import { EventEmitter } from "node:events";
import t from "tap";
import { CMD } from "../../src/abi/service.ts";
import {
  CallerGone,
  EngineBusy,
  EngineClient,
  EngineClosed,
  EngineLost,
  QueuedRequest,
} from "../../src/engine/client.ts";
import { elementHead, FrameWriter, type ReplyFrames, readRequests } from "../../src/engine/frames.ts";
import type { ToEngine } from "../../src/engine/protocol.ts";
import type { Request } from "../../src/engine/request.ts";
import { done } from "../../src/syscall/outcome.ts";

/** An engine's thread that answers when it is told to. */
class HeldWorker extends EventEmitter {
  readonly batches: Request[][] = [];
  #answered = 0;
  #seq = 0;
  closing = false;

  postMessage(message: ToEngine): void {
    if (!("say" in message)) return;
    if (message.say === "batch") this.batches.push(readRequests(message.frames, message.length, message.bodies));
    if (message.say === "close") this.closing = true;
  }

  /** Answers the oldest batch that is not answered yet. */
  answer(): void {
    const writer = new FrameWriter();
    for (const _ of this.batches[this.#answered++] ?? []) writer.reply({ seq: ++this.#seq, outcome: done(1) });
    const figures = { commands: 1, executeMs: 0, commitMs: 0, mirrorMs: 0 };
    this.emit("message", { say: "replies", ...writer.take(), figures });
  }
}

const command = (fd: number): Request => ({ cmd: CMD.DUP, session: 1, caller: "c", fd });
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(() => setImmediate(resolve)));

function start(commandsMax = 100, bytesMax = 1_000_000): { worker: HeldWorker; client: EngineClient } {
  const worker = new HeldWorker();
  const client = new EngineClient(worker, { commandsMax, bytesMax }, () => {});
  return { worker, client };
}

t.test("commands of one turn are one batch; the next gathers until it is as large", async (t) => {
  const { worker, client } = start();
  const first = [client.run(command(1)), client.run(command(2)), client.run(command(3))];
  t.equal(worker.batches.length, 0, "nothing goes before the turn is over");
  await turn();
  t.equal(worker.batches[0]?.length, 3);
  const second = [client.run(command(4)), client.run(command(5))];
  await turn();
  t.equal(worker.batches.length, 1, "two wait for a third while three are under way");
  second.push(client.run(command(6)));
  await turn();
  t.equal(worker.batches[1]?.length, 3, "a second batch is under way");
  const third = Array.from({ length: 9 }, (_, at) => client.run(command(at)));
  await turn();
  t.equal(worker.batches.length, 2, "a third never is");
  worker.answer();
  t.strictSame(
    (await Promise.all(first)).map((reply) => "seq" in reply && reply.seq),
    [1, 2, 3],
  );
  t.equal(worker.batches.length, 3, "an answer makes room for it at once");
  worker.answer();
  worker.answer();
  t.equal((await Promise.all([...second, ...third])).length, 12);
  t.equal(client.waiting, 0);
});

t.test("a small batch goes when nothing is under way, without waiting for more", async (t) => {
  const { worker, client } = start();
  const large = Array.from({ length: 5 }, (_, at) => client.run(command(at)));
  await turn();
  const small = client.run(command(9));
  await turn();
  t.equal(worker.batches.length, 1);
  worker.answer();
  t.equal(worker.batches[1]?.length, 1);
  worker.answer();
  await Promise.all([...large, small]);
});

t.test("a full queue takes nothing on, by commands and by bytes, and takes on again when it has drained", async (t) => {
  const { worker, client } = start(2);
  const taken = [client.run(command(1)), client.run(command(2))];
  await t.rejects(client.run(command(3)), EngineBusy);
  await turn();
  await t.rejects(client.run(command(3)), EngineBusy, "also while they are under way");
  worker.answer();
  await Promise.all(taken);
  const again = client.run(command(3));
  await turn();
  t.equal(worker.batches[1]?.length, 1);
  worker.answer();
  await again;

  const bytes = start(100, 10);
  bytes.client.run(command(1)).catch(() => {});
  await t.rejects(bytes.client.run(command(2)), { message: /1 commands with 56 bytes are waiting/ });
});

t.test("a close answers what was taken on, then stops the engine", async (t) => {
  const { worker, client } = start();
  const taken = client.run(command(1));
  const closed = client.close();
  await t.rejects(client.run(command(2)), EngineClosed);
  await t.rejects(client.query("directories", { after: "", limit: 1 }), EngineClosed);
  await turn();
  t.notOk(worker.closing, "it waits for the answer");
  worker.answer();
  await taken;
  await turn();
  t.ok(worker.closing);
  worker.emit("exit", 0);
  await closed;
});

t.test(
  "when the engine's thread is gone, whoever waits is told; of what it had, nobody knows what became",
  async (t) => {
    const { worker, client } = start();
    const had: Promise<unknown>[] = [client.run(command(1)), client.query("directories", { after: "", limit: 1 })];
    await turn();
    const gathering = client.run(command(2));
    worker.emit("exit", 1);
    for (const one of had) await t.rejects(one, EngineLost);
    await t.rejects(gathering, EngineClosed);
    await t.rejects(client.run(command(3)), EngineClosed);
  },
);

t.test("commands of a connection that is closed do not reach the engine", async (t) => {
  const { worker, client } = start();
  const [living, closed] = [{ destroyed: false }, { destroyed: false }];
  const first = client.run(command(1), closed);
  await turn();
  const kept = [client.run(command(2), living), client.run(command(3))];
  const dropped = [client.run(command(4), closed), client.run(command(5), closed)];
  kept.push(client.run(command(6), living));
  closed.destroyed = true;
  const gone = dropped.map((run) => t.rejects(run, CallerGone));
  worker.answer();
  await Promise.all([first, ...gone]);
  t.same(
    worker.batches.map((batch) => batch.map((request) => (request as { fd: number }).fd)),
    [[1], [2, 3, 6]],
    "what the engine had is done",
  );
  worker.answer();
  t.strictSame(
    (await Promise.all(kept)).map((reply) => "seq" in reply && reply.seq),
    [2, 3, 4],
    "and the others get their own answers",
  );
  t.equal(client.waiting, 0);

  const last = client.run(command(7), closed);
  await t.rejects(last, CallerGone, "a batch of nothing else does not go");
  t.equal(worker.batches.length, 2);
});

/** Notes what becomes of a command. */
class Noted extends QueuedRequest {
  seq: number | null = null;
  error: Error | null = null;

  replied(frame: ReplyFrames): void {
    this.seq = frame.seq;
  }

  failed(error: Error): void {
    this.error = error;
  }
}

const head = elementHead({ session: 1, caller: "c", peer: undefined, target: { by: "fd", fd: 3 } });

function lookup(
  client: EngineClient,
  key: string,
  connection?: { destroyed: boolean },
): { taken: boolean; noted: Noted } {
  const noted = new Noted(connection);
  const digits = { in: key, start: 0, end: key.length };
  return { taken: client.runElement(head, CMD.BPF_MAP_LOOKUP_ELEM, digits, null, noted), noted };
}

t.test("commands on elements by their digits go with the others, in their order", async (t) => {
  const { worker, client } = start();
  const first = client.run(command(1));
  const second = lookup(client, "00ff");
  const third = client.run(command(2));
  t.notOk(lookup(client, "0x").taken, "digits that are none are left to whoever reads them in full");
  await turn();
  t.strictSame(
    worker.batches[0]?.map(({ cmd }) => cmd),
    [CMD.DUP, CMD.BPF_MAP_LOOKUP_ELEM, CMD.DUP],
  );
  worker.answer();
  t.strictSame(
    (await Promise.all([first, third])).map((reply) => "seq" in reply && reply.seq),
    [1, 3],
  );
  t.ok(second.taken);
  t.equal(second.noted.seq, 2);
  t.equal(client.waiting, 0);
});

t.test("commands on elements have the same limits as all others", async (t) => {
  const { worker, client } = start(1);
  const connection = { destroyed: false };
  const large = client.run(
    {
      cmd: CMD.MEMORY_READ,
      session: 1,
      caller: "c",
      target: { by: "fd", fd: 3 },
      value: null,
      attr: { offset: 0, length: 2 ** 30 },
    },
    connection,
  );
  t.notOk(lookup(client, "00", connection).taken, "behind a large command of its connection it is to wait");
  const busy = lookup(client, "00");
  t.ok(busy.taken);
  t.ok(busy.noted.error instanceof EngineBusy);
  await turn();
  worker.answer();
  await large;
  await turn();
  const gone = lookup(client, "00", connection);
  connection.destroyed = true;
  await turn();
  t.ok(gone.noted.error instanceof CallerGone);
  const lost = lookup(client, "00");
  await turn();
  worker.emit("exit", 1);
  t.ok(lost.noted.error instanceof EngineLost);
  const late = lookup(client, "00");
  t.ok(late.taken);
  t.ok(late.noted.error instanceof EngineClosed);
});
