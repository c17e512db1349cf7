import { once } from "node:events";
import { globSync, rmSync } from "node:fs";
import { join } from "node:path";
import t from "tap";
import { ask } from "../support/api.ts";
import { Disk } from "../support/disk.ts";
import { cut, type Damage, garbled, isWhole, prepared, put, start } from "./parts.ts";

const cutOff = cut(0);
/** Of what the service has open: what is made from the log, and what SQLite and LMDB keep beside it. */
const ROWS: readonly (readonly [name: string, files: readonly string[], damage: Damage])[] = [
  ["the state is cut", ["state/data.mdb"], cut(0.5)],
  ["the state is written over", ["state/data.mdb"], garbled(0, 65_536)],
  ["the history is cut", ["history/*.sst"], cut(0.5)],
  ["the history is written over", ["history/*.sst"], garbled(0, 65_536)],
  ["the history's manifest is gone", ["history/manifest.json"], rmSync],
  ["LMDB's lock is gone", ["state/data.mdb-lock"], cutOff],
  ["the log's and the tree's -shm are cut", ["events.sqlite-shm", "tree.sqlite-shm"], cutOff],
];

t.test(
  "what is damaged under a service that runs may end it; what it has answered is there after the next start",
  async (t) => {
    const disk = new Disk(t);
    let service = await prepared(disk);
    let value = 0;
    for (const [name, files, damage] of ROWS) {
      value++;
      t.equal((await put(service, 1, value)).status, 200, name);
      for (const file of files) for (const each of globSync(join(disk.data, file))) damage(each);
      const { child, url } = service;
      const exited = once(child, "exit");
      // Whatever it answers: another write, and all that looks at what has come, until it has ended or answered.
      await put(service, 2, 2);
      for (const path of [
        "/v1/maps/1/elements/01000000?at=20",
        "/v1/maps/1/elements?limit=100",
        "/v1/events?map=1&limit=9",
        "/checkpoint",
      ])
        await ask(url, "GET", path);
      if (child.exitCode === null && child.signalCode === null) child.kill("SIGKILL");
      t.comment(`${name}: ${(await exited).join(" ")}`);
      service = await start(disk);
      await isWhole(t, service, (key) => (key === 1 ? value : key), name);
    }
    t.equal(await service.end("SIGTERM"), 0);
  },
);
