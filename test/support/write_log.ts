import { mkdirSync } from "node:fs";
import { CMD } from "../../src/abi/service.ts";
import type { Request } from "../../src/engine/request.ts";
import { createAttr } from "./commands.ts";
import { openEngine } from "./recover.ts";

const SESSION = { session: 1, caller: "writer" };

/**
 * A new data directory with a few hundred events of all sorts, batches, refusals, reads and an end of a map among them;
 * six for each turn.
 */
export async function writeLog(data: string, turns = 60): Promise<void> {
  mkdirSync(data, { recursive: true });
  const { engine } = await openEngine(data);
  const create = (attr: object): Request => ({ ...SESSION, cmd: CMD.BPF_MAP_CREATE, attr: createAttr(attr) });
  engine.run([
    { session: 0, caller: "writer", cmd: CMD.SESSION_OPEN, attr: { name: "s", ttlMs: 3_600_000 } },
    create({ maxEntries: 60, mapName: Buffer.from("kept".padEnd(16, "\0")) }),
    create({ mapType: 9, maxEntries: 5 }),
    create({ mapType: 22, keySize: 0, maxEntries: 20 }),
    { session: 0, caller: "writer", cmd: CMD.MKDIR, attr: { pathname: "/sys/fs/bpf/dir\u{1f41d}" } },
  ]);
  for (let turn = 0; turn < turns; turn++) engine.run(requests(turn));
  engine.run([{ ...SESSION, cmd: CMD.CLOSE, fd: 4, attr: { reason: "close" } }]);
  await engine.close();
}

function requests(turn: number): Request[] {
  const key = Buffer.from([(turn * 7) % 23, 0, 0, 0]);
  const value = Buffer.alloc(8, turn);
  const on = (fd: number) => ({ ...SESSION, target: { by: "fd", fd } as const, flags: 0n });
  const batch = { count: 3, elemFlags: 0n, inBatch: null, outBatch: null };
  const keys = Buffer.concat([key, Buffer.from([turn, 1, 0, 0]), Buffer.from([turn, 2, 0, 0])]);
  return [
    { ...on(3), cmd: CMD.BPF_MAP_UPDATE_ELEM, key, value },
    { ...on(4), cmd: CMD.BPF_MAP_UPDATE_ELEM, key, value },
    { ...on(5), cmd: CMD.BPF_MAP_UPDATE_ELEM, key: null, value, flags: turn % 9 === 0 ? 2n ** 63n + 1n : 0n },
    { ...on(3), cmd: CMD.BPF_MAP_LOOKUP_ELEM, key: keys.subarray(4, 8), value: null },
    { ...on(3), cmd: CMD.BPF_MAP_UPDATE_BATCH, key: keys, value: Buffer.alloc(24, turn), attr: batch },
    turn % 2 === 0
      ? { ...on(5), cmd: CMD.BPF_MAP_LOOKUP_AND_DELETE_ELEM, key: null, value: null }
      : { ...on(3), cmd: CMD.BPF_MAP_DELETE_ELEM, key, value: null },
  ];
}
