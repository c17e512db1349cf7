import { execFileSync, spawnSync } from "node:child_process";
import {
  chmodSync,
  chownSync,
  linkSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import t, { type Test } from "tap";
import { makePrivate, narrowFiles } from "../../src/files/modes.ts";
import { mapledger } from "../support/cli.ts";
import { prepare } from "../support/load.ts";
import { startService } from "../support/service_process.ts";

const NOBODY = 65_534;
const isRoot = process.geteuid?.() === 0;
const ROOT_ALONE = isRoot ? {} : { skip: "needs root, to give files to another user" };

/** A folder of its own that all may pass through, gone after the test. */
function folderOf(t: Test): string {
  const folder = mkdtempSync(join(tmpdir(), "mapledger-private-"));
  chmodSync(folder, 0o755);
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

function modeOf(path: string): string {
  return (lstatSync(path).mode & 0o7777).toString(8);
}

/** What in a directory, and the directory itself, others may do anything with. */
function openToOthers(directory: string): string[] {
  const paths = ["", ...readdirSync(directory, { recursive: true, encoding: "utf8" })];
  return paths.filter((path) => (statSync(join(directory, path)).mode & 0o077) !== 0);
}

function write(path: string, mode: number): string {
  writeFileSync(path, "");
  chmodSync(path, mode);
  return path;
}

function directory(path: string, mode: number): string {
  mkdirSync(path);
  chmodSync(path, mode);
  return path;
}

/** As another user, whose rights the whole process has meanwhile. */
function asNobody<T>(run: () => T): T {
  process.setegid?.(NOBODY);
  process.seteuid?.(NOBODY);
  try {
    return run();
  } finally {
    process.seteuid?.(0);
    process.setegid?.(0);
  }
}

t.test("a data directory that is made is its owner's alone", (t) => {
  const data = join(folderOf(t), "a", "b");
  t.same(makePrivate(data), []);
  t.equal(modeOf(data), "700");
  t.equal(modeOf(join(data, "..")), "700");
  t.end();
});

t.test("one that is there is narrowed with all that is in it", (t) => {
  const data = directory(join(folderOf(t), "data"), 0o2775);
  write(join(data, "events.sqlite"), 0o666);
  write(join(data, "log.key"), 0o600);
  directory(join(data, "state"), 0o755);
  write(join(data, "state", "data.mdb"), 0o755);
  t.same(makePrivate(data), [data, ...["events.sqlite", "state", "state/data.mdb"].map((name) => join(data, name))]);
  for (const [name, mode] of Object.entries({
    ".": "700",
    "events.sqlite": "600",
    "log.key": "600",
    state: "700",
    "state/data.mdb": "600",
  }))
    t.equal(modeOf(join(data, name)), mode, name);
  t.same(makePrivate(data), [], "once");
  t.end();
});

t.test("no link is followed out of it, and nothing but files and directories is opened", async (t) => {
  const folder = folderOf(t);
  const data = directory(join(folder, "data"), 0o755);
  const [outside, elsewhere] = [write(join(folder, "outside"), 0o644), directory(join(folder, "elsewhere"), 0o755)];
  write(join(elsewhere, "file"), 0o644);
  symlinkSync(outside, join(data, "link"));
  symlinkSync(elsewhere, join(data, "folder"));
  symlinkSync("nowhere", join(data, "dangling"));
  execFileSync("mkfifo", ["-m", "644", join(data, "fifo")]);
  const server = createServer().listen(join(data, "socket"));
  t.teardown(() => server.close());
  await new Promise((resolve) => server.once("listening", resolve));
  t.same(makePrivate(data), [data]);
  t.equal(modeOf(outside), "644");
  t.equal(modeOf(elsewhere), "755");
  t.equal(modeOf(join(elsewhere, "file")), "644");
});

t.test("a link to the data directory itself is its owner's way to say where it lies", (t) => {
  const folder = folderOf(t);
  const data = directory(join(folder, "data"), 0o755);
  symlinkSync(data, join(folder, "link"));
  t.same(makePrivate(join(folder, "link")), [data]);
  t.equal(modeOf(data), "700");
  t.end();
});

t.test("a file that others may have linked into it keeps its mode; one that its owner has linked does not", (t) => {
  const folder = folderOf(t);
  const [outside, snapshot] = ["outside", "snapshot"].map((name) => write(join(folder, name), 0o644));
  const [shared, own] = [directory(join(folder, "shared"), 0o777), directory(join(folder, "own"), 0o755)];
  linkSync(outside as string, join(shared, "planted"));
  linkSync(snapshot as string, join(own, "snapshot"));
  t.same(makePrivate(shared), [shared]);
  t.equal(modeOf(outside as string), "644");
  makePrivate(own);
  t.equal(modeOf(snapshot as string), "600");
  t.end();
});

t.test("what cannot be narrowed is refused, with what to run", ROOT_ALONE, (t) => {
  const folder = folderOf(t);
  const data = directory(join(folder, "it's data"), 0o700);
  chownSync(data, NOBODY, NOBODY);
  write(join(data, "events.sqlite"), 0o644);
  const refused =
    /is open to others, and cannot be closed to them by uid 65534: .*events\.sqlite has mode 0644, uid 0 and gid 0 \(EPERM\)/;
  const run = `run: chmod -R go-rwx '${folder}/it'\\''s data', or, to make it the service's: chown -R 65534: '${folder}/it'\\''s data'`;
  let message = "";
  try {
    asNobody(() => makePrivate(data));
  } catch (error) {
    message = (error as Error).message;
  }
  t.match(message, refused);
  t.ok(message.endsWith(run), message);
  const command = message.slice(message.indexOf("run: ") + "run: ".length, message.indexOf(", or, "));
  t.equal(spawnSync("sh", ["-c", command]).status, 0, "the command does what it is for");
  t.same(
    asNobody(() => makePrivate(data)),
    [],
  );
  t.end();
});

t.test("what another user has closed to us as well is left", ROOT_ALONE, (t) => {
  const data = directory(join(folderOf(t), "data"), 0o755);
  chownSync(data, NOBODY, NOBODY);
  directory(join(data, "lost+found"), 0o700);
  t.same(
    asNobody(() => makePrivate(data)),
    [data],
  );
  t.end();
});

t.test("a folder that others use keeps its mode; the files named in it do not", (t) => {
  const folder = folderOf(t);
  write(join(folder, "archive.json"), 0o644);
  write(join(folder, "others"), 0o644);
  symlinkSync(join(folder, "others"), join(folder, "SHA256SUMS"));
  narrowFiles(folder, ["archive.json", "SHA256SUMS", "missing"]);
  t.same(
    ["", "archive.json", "others"].map((name) => modeOf(join(folder, name))),
    ["755", "600", "644"],
  );
  t.end();
});

t.test(
  "whatever the umask is, a service's files and those that the command line writes are the owner's alone",
  async (t) => {
    const umask = process.umask(0);
    t.teardown(() => process.umask(umask));
    const folder = folderOf(t);
    const [data, backup, restored, archive, ids] = ["data", "backup", "restored", "archive", "ids"].map((name) =>
      join(folder, name),
    ) as [string, string, string, string, string];
    const settings = { MAPLEDGER_DATA: data, MAPLEDGER_MIRROR: "off" };
    let service = await startService(settings);
    await prepare(service.url);
    await fetch(`${service.url}/checkpoint`);
    t.same(openToOthers(data), [], "while it runs");
    await service.end("SIGTERM");
    t.same(openToOthers(data), [], "when it has stopped");
    t.match(await mapledger("backup", "--data", data, backup), { code: 0 });
    t.same(openToOthers(backup), []);
    t.match(await mapledger("restore-backup", backup, "--data", restored), { code: 0 });
    t.same(openToOthers(restored), []);
    t.match(await mapledger("replay", data, "--dry-run", "--ids", ids), { code: 0 });
    t.equal(modeOf(ids), "600");
    t.match(await mapledger("archive", "--data", data, "--before", "3", "--archive", archive), { code: 0 });
    t.same(openToOthers(archive), []);
    t.same(openToOthers(data), []);

    for (const path of ["", ...readdirSync(data, { recursive: true, encoding: "utf8" })])
      chmodSync(join(data, path), statSync(join(data, path)).isDirectory() ? 0o755 : 0o644);
    service = await startService({ ...settings, MAPLEDGER_ARCHIVE: archive });
    t.same(openToOthers(data), [], "a data directory of an earlier release");
    t.equal(service.lines.filter(({ msg }) => /was open to other users: \d+ files/.test(String(msg))).length, 1);
    await service.end("SIGTERM");
  },
);

t.test("a copy of a file that others may read is not for them", async (t) => {
  const umask = process.umask(0);
  t.teardown(() => process.umask(umask));
  const folder = folderOf(t);
  const [data, backup, restored] = ["data", "backup", "restored"].map((name) => join(folder, name)) as [
    string,
    string,
    string,
  ];
  const service = await startService({ MAPLEDGER_DATA: data, MAPLEDGER_MIRROR: "off" });
  await fetch(`${service.url}/checkpoint`);
  await service.end("SIGTERM");
  chmodSync(join(data, "log.key"), 0o644);
  await mapledger("backup", "--data", data, backup);
  t.equal(modeOf(join(backup, "log.key")), "600");
  for (const name of readdirSync(backup)) chmodSync(join(backup, name), 0o644);
  mkdirSync(restored, { mode: 0o755 });
  t.match(await mapledger("restore-backup", backup, "--data", restored), { code: 0 });
  t.same(openToOthers(restored), [""], "a directory that was there is narrowed by the service");
});
