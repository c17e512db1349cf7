import { execFileSync } from "node:child_process";
import { hash } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import t from "tap";

const HERE = new URL(".", import.meta.url).pathname;

t.test("the libraries are made of the source that lies beside them", async (t) => {
  const source = hash("sha256", readFileSync(join(HERE, "disk.c")), "hex");
  for (const arch of ["x64", "arm64"])
    t.ok(
      readFileSync(join(HERE, `disk-${arch}.so`)).includes(`disk.c ${source}`),
      `disk-${arch}.so: run test/faults/build.sh`,
    );
  const made = mkdtempSync(join(tmpdir(), "mapledger-disk-built-"));
  t.teardown(() => rmSync(made, { recursive: true }));
  t.doesNotThrow(
    () => execFileSync(join(HERE, "build.sh"), [made]),
    "what there is a compiler for is made without a warning",
  );
});
