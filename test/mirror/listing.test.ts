import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import t from "tap";
import { FOREIGN_MAX, pinsBelow } from "../../src/mirror/listing.ts";

t.test("a list of others' pins that is cut says so", async (t) => {
  const root = mkdtempSync(join(tmpdir(), "mapledger-listing-"));
  t.teardown(() => rmSync(root, { recursive: true }));
  mkdirSync(join(root, "a"));
  for (let at = 0; at < FOREIGN_MAX; at++) writeFileSync(join(root, "a", `pin${at}`), "");
  t.match(pinsBelow(root), { pins: { length: FOREIGN_MAX }, more: false });
  mkdirSync(join(root, "b"));
  t.match(pinsBelow(root), { pins: { length: FOREIGN_MAX }, more: false }, "an empty directory is no pin");
  writeFileSync(join(root, "b", "pin"), "");
  t.match(pinsBelow(root), { pins: { length: FOREIGN_MAX }, more: true });
});
