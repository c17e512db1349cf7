import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import t from "tap";
import { ask } from "../support/api.ts";
import { Disk } from "../support/disk.ts";
import { said } from "../support/service_process.ts";
import { cut, type Damage, garbled, prepared, put, ready, start } from "./parts.ts";

t.test("a tree and a key that are damaged are refused, and stay as they are", async (t) => {
  const rows: readonly (readonly [file: string, damage: Damage])[] = [
    ["tree.sqlite", cut(0.5)],
    ["tree.sqlite", garbled(0, 4096)],
    ["log.key", cut(0)],
    ["log.key", garbled(0, 60)],
    ["checkpoint", cut(0.3)],
  ];
  const disk = new Disk(t);
  let service = await prepared(disk);
  await service.end("SIGTERM");
  for (const [file, damage] of rows) {
    const path = join(disk.data, file);
    const before = readFileSync(path);
    damage(path);
    const damaged = readFileSync(path);
    service = await start(disk);
    await said(service, 50, /the tree is refused/);
    t.match((await ready(service)).body.degraded, [{ part: "tree", state: "refused" }], file);
    t.match((await ask(service.url, "GET", "/checkpoint")).body, { status: 503, type: /log-contradicted/ }, file);
    t.equal((await put(service, 1, 1)).status, 200);
    t.equal((await ask(service.url, "GET", "/metrics")).status, 200);
    t.equal(await service.end("SIGTERM"), 0);
    if (file !== "tree.sqlite") t.same(readFileSync(path), damaged, `${file} stays as it is`);
    writeFileSync(path, before);
  }
});
