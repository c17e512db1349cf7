import { writeFileSync } from "node:fs";
import { join } from "node:path";
import t from "tap";
import { processMemory } from "../../../src/http/server/process_memory.ts";
import { Service } from "../service.ts";

t.test("the kinds are those of proc(5), in bytes", (t) => {
  const file = join(t.testdir(), "status");
  writeFileSync(file, "VmRSS:\t   60 kB\nRssAnon:\t      10 kB\nRssFile:\t  20 kB\nRssShmem:\t 30 kB\n");
  t.same(Object.fromEntries(processMemory(file)), { anonymous: 10_240, files: 20_480, shared: 30_720 });
  writeFileSync(file, "Name:\tnode\n");
  t.equal(processMemory(file).size, 0, "a machine without them");
  t.equal(processMemory(join(t.testdirName, "nothing")).size, 0, "a machine without /proc");
  t.end();
});

t.test("/metrics has the memory of the process", { skip: process.platform !== "linux" }, async (t) => {
  const service = await Service.start(t);
  const { body } = await service.send("GET", "/metrics");
  for (const kind of ["anonymous", "files"]) {
    const bytes = Number(body.match(new RegExp(`^mapledger_memory_bytes\\{kind="${kind}"\\} (\\d+)$`, "m"))?.[1]);
    t.ok(bytes > 1024 * 1024, `${kind}: ${bytes}`);
  }
});
