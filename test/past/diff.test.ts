import { test } from "tap";
import { replay } from "../../conformance/replay.ts";
import { HOST, Service } from "../../conformance/service.ts";
import { readTranscripts } from "../../conformance/transcript.ts";
import { MemoryCells } from "../../src/engine/memory.ts";
import { History, type PastLog } from "../../src/past/history.ts";
import { Past } from "../../src/past/past.ts";

const MOMENTS = 4;

/** A log that counts how often its changes are read. If its events are not at hand, all elements are compared. */
function counted(log: PastLog, atHand: boolean): PastLog & { reads: number } {
  return {
    reads: 0,
    lastSeq: log.lastSeq,
    archivedThrough: 0,
    atHandAfter: atHand ? 0 : Number.POSITIVE_INFINITY,
    changesAfter(seq, last) {
      this.reads++;
      return log.changesAfter(seq, last);
    },
    origin: (seq) => log.origin(seq),
    seqAt: (timeUs) => log.seqAt(timeUs),
  };
}

let [differences, reads] = [0, 0];

for (const transcript of readTranscripts())
  test(`the events of ${transcript.name} give the differences that all elements give`, async (t) => {
    const service = new Service();
    replay(service, transcript);
    service.end();
    const { lastSeq } = service.log;
    const history = new History(service.log, new MemoryCells(), HOST);
    await history.reach(lastSeq);
    const [near, far] = [counted(service.log, true), counted(service.log, false)];
    const [byEvents, byElements] = [new Past(near, history, HOST), new Past(far, history, HOST)];
    const ask = async (past: Past): Promise<unknown[]> => {
      const found: unknown[] = [];
      for (let map = 1; map <= 5; map++)
        for (let part = 0; part < MOMENTS; part++) {
          const [from, to] = [part, part + 1].map((at) => ({ seq: Math.floor((lastSeq * at) / MOMENTS) })) as [
            { seq: number },
            { seq: number },
          ];
          const page = { reference: { id: map }, after: null, limit: 1000 };
          found.push(
            await past.ask("diff", { ...page, from, to }),
            await past.ask("diff", { ...page, from: to, to: from }),
          );
        }
      return found;
    };
    const found = await ask(byEvents);
    t.same(found, await ask(byElements));
    t.equal(far.reads, 0);
    reads += near.reads;
    differences += found.filter((diff) => (diff as { changes?: unknown[] } | null)?.changes?.length).length;
  });

test("events were read, and elements differed", async (t) => {
  t.ok(reads > 100, `${reads} reads`);
  t.ok(differences > 100, `${differences} differences`);
});
