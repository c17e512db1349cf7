import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { type Test, test } from "tap";
import { HOST, Service as Recording } from "../../conformance/service.ts";
import { BPF_F } from "../../src/abi/bpf.ts";
import type { EventRow } from "../../src/log/event.ts";
import { KernelTarget } from "../../src/mirror/kernel_target.ts";
import { ReplayDirectory } from "../../src/mirror/replay_directory.ts";
import type { Bpf } from "../../src/native/bpf.ts";
import { openBpf } from "../../src/native/probe.ts";
import { Ids } from "../../src/replay/ids.ts";
import { BPFFS, unfitForKernel } from "../support/bpffs.ts";
import { OWN_NAME } from "../support/own_name.ts";
import { type Replayed, replayedTo } from "./support.ts";

const skip = unfitForKernel() ?? false;

const ELSEWHERE = "its path is not below /sys/fs/bpf";
const LEADS_OUT = "its path leads out of the replay's directory in /sys/fs/bpf";
const MAP = { map_type: "BPF_MAP_TYPE_ARRAY", key_size: 4, value_size: 4, max_entries: 1 };

/** A directory of the host's disk with a file and an empty directory in it. */
class Victim {
  readonly path = mkdtempSync(join(tmpdir(), "mapledger-victim-"));
  readonly file = join(this.path, "file");
  readonly empty = join(this.path, "empty");

  constructor(t: Test) {
    writeFileSync(this.file, "precious");
    mkdirSync(this.empty);
    t.teardown(() => rmSync(this.path, { recursive: true }));
  }

  get entries(): string[] {
    return readdirSync(this.path).sort();
  }
}

const WHOLE = ["empty", "file"];

/** The directory that a replay will have, to put something into it before. */
function directoryOf(t: Test, name: string): ReplayDirectory {
  const directory = new ReplayDirectory(`${BPFFS}/mlpaths${OWN_NAME}_${name}`);
  mkdirSync(directory.path, { mode: 0o700 });
  t.teardown(() => rmSync(directory.path, { recursive: true, force: true }));
  return directory;
}

async function intoKernel(rows: readonly EventRow[], directory: ReplayDirectory): Promise<Replayed> {
  const target = new KernelTarget(openBpf() as Bpf, HOST.possibleCpus, directory);
  try {
    return await replayedTo(target, rows, { ids: new Ids({ oneTable: true }) });
  } finally {
    target.close();
  }
}

/** How many commands were left out, by the reason. */
function leftOut({ summary }: Replayed): Readonly<Record<string, number>> {
  const counts: Record<string, number> = {};
  for (const { why, count } of summary.left_out) counts[why] = (counts[why] ?? 0) + count;
  return counts;
}

test("a path that names a place elsewhere than below /sys/fs/bpf is left out, with the reason", { skip }, async (t) => {
  const victim = new Victim(t);
  const prefixes = [
    "",
    "/",
    "/sys/fs/bpf/../../..",
    "/sys/fs/bpf/conformance/../../../..",
    "../../..",
    "/sys/./fs/bpf/../../..",
  ];
  const recording = new Recording();
  const map_fd = recording.bpf({ cmd: "BPF_MAP_CREATE", attr: MAP }).ret;
  let count = 0;
  for (const prefix of prefixes) {
    const paths = (name: string): string => `${prefix}${victim.path}/${name}`;
    recording.changePath("unlink", paths("file"));
    recording.changePath("rmdir", paths("empty"));
    recording.changePath("rmdir", paths("empty/"));
    recording.changePath("mkdir", paths("made"));
    recording.changePath("mkdir", paths("made\0x"));
    recording.bpf({ cmd: "BPF_OBJ_PIN", attr: { bpf_fd: map_fd, pathname: paths("pin") } });
    recording.bpf({ cmd: "BPF_OBJ_GET", attr: { pathname: paths("file") } });
    recording.open({ kind: "file", path: paths("file") });
    recording.open({ kind: "dir", path: paths("empty") });
    recording.open({ kind: "prog", path: paths("file") });
    count += 10;
  }
  recording.changePath("mkdir", "/sys/fs/bpf_made");
  const { path } = victim;
  const replayed = await intoKernel(recording.log.rows, directoryOf(t, "elsewhere"));
  t.strictSame(leftOut(replayed), { [ELSEWHERE]: count + 1 });
  t.equal(replayed.summary.differences, 0);
  t.strictSame(victim.entries, WHOLE, path);
});

test("a path that leads elsewhere by a link is left out, with the reason", { skip }, async (t) => {
  const victim = new Victim(t);
  const directory = directoryOf(t, "links");
  const others = directoryOf(t, "others");
  mkdirSync(join(others.path, "empty"));
  symlinkSync(victim.path, join(directory.path, "disk"));
  symlinkSync(others.path, join(directory.path, "others"));
  symlinkSync(join(victim.path, "made"), join(directory.path, "dangling"));
  const recording = new Recording();
  const map_fd = recording.bpf({ cmd: "BPF_MAP_CREATE", attr: MAP }).ret;
  for (const link of ["disk", "others", `others/../${basename(directory.path)}/disk`]) {
    recording.changePath("unlink", `${BPFFS}/${link}/file`);
    recording.changePath("rmdir", `${BPFFS}/${link}/empty`);
    recording.changePath("mkdir", `${link}/made`);
    recording.bpf({ cmd: "BPF_OBJ_PIN", attr: { bpf_fd: map_fd, pathname: `${BPFFS}/${link}/pin` } });
    recording.open({ kind: "dir", path: `${BPFFS}/${link}` });
    recording.open({ kind: "file", path: `${BPFFS}/${link}/empty` });
  }
  const replayed = await intoKernel(recording.log.rows, directory);
  t.strictSame(leftOut(replayed), { [LEADS_OUT]: 18 });
  t.strictSame(victim.entries, WHOLE);
  t.strictSame(readdirSync(others.path), ["empty"]);

  // A link in the last place is what is removed, or in the way; nothing follows it.
  rmSync(join(directory.path, "conformance"), { recursive: true });
  const last = new Recording();
  last.changePath("mkdir", "dangling");
  last.changePath("unlink", "disk");
  t.match((await intoKernel(last.log.rows, directory)).differences, [
    { cmd: "MKDIR", got: { errno: "EEXIST" } },
    { cmd: "UNLINK", recorded: { errno: "ENOENT" }, got: { errno: null } },
  ]);
  t.strictSame(victim.entries, WHOLE);
  t.strictSame(readdirSync(directory.path).sort(), ["conformance", "dangling", "others"]);
});

test("a path that begins at a descriptor stays in the replay's directory, too", { skip }, async (t) => {
  const victim = new Victim(t);
  const directory = directoryOf(t, "descriptors");
  const recording = new Recording();
  const map_fd = recording.bpf({ cmd: "BPF_MAP_CREATE", attr: MAP }).ret;
  const path_fd = recording.open({ kind: "dir", path: `${BPFFS}/conformance` }).ret;
  const tmp_fd = recording.open({ kind: "dir" }).ret;
  const file_flags = BPF_F.BPF_F_PATH_FD;
  const pin = (attr: object) => recording.bpf({ cmd: "BPF_OBJ_PIN", attr: { bpf_fd: map_fd, file_flags, ...attr } });
  const get = (attr: object) => recording.bpf({ cmd: "BPF_OBJ_GET", attr: { file_flags, ...attr } });
  t.equal(pin({ path_fd, pathname: "pin" }).errno, null);
  t.equal(get({ path_fd, pathname: "pin" }).errno, null);
  const within = await intoKernel(recording.log.rows, directory);
  t.strictSame([within.differences, leftOut(within)], [[], {}]);
  t.ok(existsSync(join(directory.path, "conformance/pin")));
  rmSync(join(directory.path, "conformance"), { recursive: true });

  pin({ path_fd, pathname: "../../made" });
  pin({ path_fd, pathname: `../../../../..${victim.path}/made` });
  pin({ path_fd: tmp_fd, pathname: "made" });
  get({ path_fd, pathname: `../../../../..${victim.file}` });
  // AT_FDCWD, and a descriptor of the process's own.
  pin({ path_fd: -100, pathname: "made" });
  pin({ path_fd: 1, pathname: "made" });
  const without = await intoKernel(recording.log.rows, directory);
  t.strictSame(leftOut(without), { [LEADS_OUT]: 4 });
  t.strictSame(without.differences, [], "EBADF, of both that are no descriptors of the session's");
  t.strictSame(victim.entries, WHOLE);
});

test("a path out of /sys/fs/bpf and back into it stays in the replay's directory", { skip }, async (t) => {
  const directory = directoryOf(t, "back");
  const foreign = join(BPFFS, `mlpaths${OWN_NAME}_foreign`);
  mkdirSync(foreign);
  t.teardown(() => rmSync(foreign, { recursive: true, force: true }));
  const recording = new Recording();
  recording.changePath("rmdir", `/sys/fs/bpf/../bpf/${basename(foreign)}`);
  recording.changePath("mkdir", "/sys/fs/bpf/../../../sys/fs/bpf/made");
  recording.changePath("mkdir", "//sys//fs/bpf/made/below");
  recording.changePath("rmdir", "/sys/fs/bpf");
  const replayed = await intoKernel(recording.log.rows, directory);
  t.strictSame(replayed.differences, []);
  t.strictSame(leftOut(replayed), { [LEADS_OUT]: 1 }, "the mount point itself");
  t.ok(existsSync(foreign));
  t.ok(existsSync(join(directory.path, "made/below")));
});

test("a directory that is not the replay's own is not used: a link, or one that others can write to", {
  skip,
}, async (t) => {
  const victim = new Victim(t);
  const recording = new Recording();
  recording.changePath("mkdir", "empty/made");
  recording.changePath("mkdir", "made");
  const link = `${BPFFS}/mlpaths${OWN_NAME}_link`;
  symlinkSync(victim.path, link);
  t.teardown(() => rmSync(link));
  const byLink = await intoKernel(recording.log.rows, new ReplayDirectory(link));
  t.strictSame(leftOut(byLink), { [`${link} cannot be made`]: 3 });
  t.strictSame(victim.entries, WHOLE);
  const open = `${BPFFS}/mlpaths${OWN_NAME}_open`;
  mkdirSync(open);
  t.teardown(() => rmSync(open, { recursive: true }));
  chmodSync(open, 0o777);
  const byOpen = await intoKernel(recording.log.rows, new ReplayDirectory(open));
  t.strictSame(leftOut(byOpen), { [`others can write to ${open}`]: 3 });
  t.strictSame(readdirSync(open), []);
});

test("a cgroup by its path is left out: a replay makes its own", { skip }, async (t) => {
  const recording = new Recording();
  recording.open({ kind: "cgroup", path: "/sys/fs/cgroup" });
  const replayed = await intoKernel(recording.log.rows, directoryOf(t, "cgroup"));
  t.strictSame(leftOut(replayed), { "a cgroup's path is not below /sys/fs/bpf": 1 });
});
