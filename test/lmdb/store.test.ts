import {
  closeSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import t from "tap";
import { pageFault } from "../../src/lmdb/page_check.ts";
import { LmdbStore } from "../../src/lmdb/store.ts";
import { withoutDescriptors } from "../support/no_descriptors.ts";

const PAGE = 4096;
const folder = mkdtempSync(join(tmpdir(), "mapledger-lmdb-"));
const file = join(folder, "data.mdb");
t.teardown(() => rmSync(folder, { recursive: true }));

/** Keys of all sizes, small values and such as have pages of their own, written and removed many times over. */
async function fill(store: LmdbStore): Promise<void> {
  for (let round = 0; round < 12; round++) {
    const changes = Array.from({ length: 800 }, (_, at): [string, Buffer | null] => {
      const key = String((round * 7919 + at * 31) % 9000).padStart(6 + (at % 40), "0");
      return [key, at % 7 === 0 ? null : Buffer.alloc(at % 97 === 0 ? 20_000 : at % 300, at)];
    });
    await store.write(changes, store.seq + 1, 100_000);
  }
}

t.test("pages that are not what they should be are found, and nothing where they are", async (t) => {
  const store = new LmdbStore(folder, "log");
  t.equal(store.discarded, null);
  await fill(store);
  await store.close();
  t.equal(pageFault(file, Number.POSITIVE_INFINITY), null);
  const whole = readFileSync(file);
  const other = join(folder, "other.mdb");
  const found = new Map<string, number>();
  writeFileSync(other, whole);
  const changed = openSync(other, "r+");
  const nothing = Buffer.alloc(PAGE, 0xa5);
  for (let page = 2; page * PAGE < whole.length; page++) {
    writeSync(changed, nothing, 0, PAGE, page * PAGE);
    const fault = pageFault(other, Number.POSITIVE_INFINITY);
    if (fault !== null) found.set(fault, page);
    writeSync(changed, whole, page * PAGE, PAGE, page * PAGE);
  }
  closeSync(changed);
  t.equal(pageFault(other, Number.POSITIVE_INFINITY), null, "and nothing again");
  t.ok(
    found.size > (whole.length / PAGE) * 0.2,
    `${found.size} of ${whole.length / PAGE} pages are not free or a value's`,
  );
  for (const share of [0.1, 0.5, 0.9]) {
    writeFileSync(other, whole.subarray(0, whole.length * share));
    t.match(pageFault(other, 1000), /beyond the file's end/, `cut at ${share}`);
  }
  writeFileSync(other, "");
  t.equal(pageFault(other, 1000), "it is not an LMDB file");
});

t.test("a store that the machine did not let be opened is opened as it is when it does", async (t) => {
  let store = new LmdbStore(folder, "log");
  await fill(store);
  const { seq } = store;
  await store.close();
  // Enough for the marker, and for some of LMDB's files.
  for (let left = 0; left < 4; left++) {
    t.throws(
      () => withoutDescriptors(() => new LmdbStore(folder, "log"), left),
      { code: "EMFILE" },
      `${left} descriptors`,
    );
    store = new LmdbStore(folder, "log");
    t.same([store.discarded, store.seq], [null, seq], `${left} descriptors`);
    await store.close();
  }
});

t.test("a store that is damaged is begun anew, and says why", async (t) => {
  for (const damage of [
    () => truncateSync(file, PAGE * 3),
    () => writeFileSync(file, Buffer.alloc(PAGE * 8, 1)),
    () => writeFileSync(join(folder, "marker.json"), "{"),
  ]) {
    let store = new LmdbStore(folder, "log");
    await fill(store);
    await store.close();
    damage();
    store = new LmdbStore(folder, "log");
    t.type(store.discarded, "string");
    t.equal(store.seq, 0);
    store.condemn("MDB_CORRUPTED");
    await store.close();
    store = new LmdbStore(folder, "log");
    t.equal(store.discarded, "it is damaged: MDB_CORRUPTED");
    await store.close();
  }
});

t.test("a store that is read while it is opened anew is open once", async (t) => {
  const store = new LmdbStore(folder, "log");
  await store.write([["key", Buffer.from("1")]], store.seq + 1, 4);
  const reopened = store.reopen();
  t.equal(store.get("key")?.toString(), "1");
  await reopened;
  t.equal(store.get("key")?.toString(), "1");
  await store.close();
  const open = readdirSync("/proc/self/fd").map((fd) => readFd(fd));
  t.same(
    open.filter((name) => name.startsWith(folder)),
    [],
  );
});

/** The name of an open file; empty where it is closed by now. */
function readFd(fd: string): string {
  try {
    return readlinkSync(`/proc/self/fd/${fd}`);
  } catch {
    return "";
  }
}
