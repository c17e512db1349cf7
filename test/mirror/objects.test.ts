import { spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import t from "tap";
import { OPEN_KINDS } from "../../src/abi/service.ts";
import type { ObjectRecord } from "../../src/maps/object.ts";
import { openForSession } from "../../src/mirror/object_opener.ts";
import { ObjectTable } from "../../src/mirror/object_table.ts";
import { openRoots } from "../../src/mirror/open_below.ts";
import { DEFAULT_PLACES, type OpenPlaces } from "../../src/mirror/real_objects.ts";
import { Bpf } from "../../src/native/bpf.ts";
import { openBpf } from "../../src/native/probe.ts";
import type { ObjectSpec } from "../../src/syscall/command.ts";
import { unfitForKernel } from "../support/bpffs.ts";

/** Real objects behind descriptors: on the live kernel alone. */
const skip = unfitForKernel() ?? false;
const root = cgroupRoot();
const skipCgroups = skip || (root === undefined ? "no cgroup2 is mounted" : false);

/** Paths may be anywhere, so that the kernel's own answers show. */
const places: OpenPlaces = { ...DEFAULT_PLACES, roots: openRoots("/") };

function bpf(): Bpf {
  const bpf = openBpf();
  if (!(bpf instanceof Bpf)) throw new Error(bpf.off);
  return bpf;
}

function table(): ObjectTable {
  return new ObjectTable(bpf(), places);
}

/** Opens an object, keeps it under the id, and answers its record. */
function keep(objects: ObjectTable, id: number, spec: ObjectSpec): ObjectRecord {
  const opened = openForSession(bpf(), spec, places);
  if (!("held" in opened) || opened.held === undefined || !("facts" in opened.found))
    throw new Error(`opening a ${spec.kind}: nothing came`);
  const { facts } = opened.found;
  objects.take(facts, opened.held).keep(id);
  return { id, ...facts } as ObjectRecord;
}

function cgroupRoot(): string | undefined {
  const mounts = readFileSync("/proc/mounts", "utf8").split("\n");
  return mounts.map((line) => line.split(" ")).find(([, , type]) => type === "cgroup2")?.[1];
}

/** Until it is so, or far too long, also on a machine that has much to do. */
async function until(holds: () => boolean): Promise<void> {
  for (let tries = 0; tries < 6000 && !holds(); tries++) await new Promise((resolve) => setTimeout(resolve, 10));
}

t.test("every kind of object can be opened for real, and none leaves anything behind", { skip }, async (t) => {
  const objects = table();
  const more: Partial<Record<string, object>> = { pidfd: { pid: process.pid }, prog: { progType: 6 } };
  const made: string[] = [];
  const kinds = OPEN_KINDS.filter((kind) => kind !== "cgroup" || skipCgroups === false);
  kinds.forEach((kind, at) => {
    const record = keep(objects, at + 1, { kind, ...more[kind] });
    if (record.kind === "socket") t.match(record.cookie, /^[1-9]\d*$/, `${kind} has a cookie`);
    if (record.kind === "prog") t.ok(record.progId > 0 && record.progType === 6, "a program has the kernel's id");
    if (record.kind === "cgroup") made.push(record.path as string);
    if (record.kind === "process") t.equal(record.exited, kind === "pidfd_dead");
  });
  kinds.forEach((_, at) => {
    objects.gone(at + 1);
  });
  for (const path of made) t.throws(() => rmdirSync(path), { code: "ENOENT" }, "the cgroup that was made is gone");
  objects.close();
});

t.test("what the kernel refuses is refused with its errno", { skip }, async (t) => {
  const rows: readonly [spec: ObjectSpec, errno: string][] = [
    [{ kind: "pidfd", pid: 4_194_000 }, "ESRCH"],
    [{ kind: "file", path: "/nowhere/at/all" }, "ENOENT"],
    [{ kind: "dir", path: "/etc/hostname" }, "ENOTDIR"],
    [{ kind: "cgroup", path: "/tmp" }, "EBADF"],
    [{ kind: "prog", id: 2 ** 31 - 2 }, "ENOENT"],
    [{ kind: "prog", path: "/sys/fs/bpf/nothing" }, "ENOENT"],
    [{ kind: "file", path: "/dev/null" }, "EOPNOTSUPP"],
  ];
  for (const [spec, errno] of rows)
    t.match(openForSession(bpf(), spec, places), { found: { errno } }, JSON.stringify(spec));
  const objects = table();
  t.match(objects.open({ kind: "dir", path: "/tmp" })?.found, { errno: "EAGAIN" }, "the engine's thread opens no path");
  t.equal(
    objects.open({ kind: "dir", path: "/sys/fs/bpf" }),
    null,
    "the ledger's own bpffs is no directory of the machine",
  );
  objects.close();
});

t.test("a process that exits and a cgroup that is removed have ended, once each", { skip: skipCgroups }, async (t) => {
  const objects = table();
  const child = spawn("sleep", ["600"], { stdio: "ignore" });
  const path = mkdtempSync(join(root as string, "test-"));
  keep(objects, 1, { kind: "pidfd", pid: child.pid as number });
  keep(objects, 2, { kind: "cgroup", path });
  t.same(objects.ended(), []);
  rmdirSync(path);
  child.kill("SIGKILL");
  const ended: number[] = [];
  await until(() => ended.push(...objects.ended()) === 2);
  t.same(ended.sort(), [1, 2]);
  t.same(objects.ended(), []);
  objects.close();
});

t.test(
  "after a restart objects are taken up by name; another process with the pid is not taken for it",
  { skip: skipCgroups },
  async (t) => {
    const before = table();
    const path = mkdtempSync(join(root as string, "test-"));
    const file = join(t.testdir({}), "file");
    writeFileSync(file, "");
    const records = [
      keep(before, 1, { kind: "pidfd", pid: process.pid }),
      keep(before, 2, { kind: "cgroup", path }),
      keep(before, 3, { kind: "file", path: file }),
      keep(before, 4, { kind: "tcp_listen", reuseport: true }),
    ];
    before.close();
    rmdirSync(path);
    mkdirSync(path);
    const after = table();
    const impostor = { ...records[0], id: 5, startTime: "1" } as ObjectRecord;
    after.takeUp([...records, impostor]);
    t.same([...after.ended()].sort(), [2, 5], "the cgroup at the path is another one, and so is the process");
    after.close();
    rmdirSync(path);
  },
);
