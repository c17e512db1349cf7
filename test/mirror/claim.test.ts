import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import {
  chmodSync,
  chownSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readlinkSync,
  renameSync,
  rmdirSync,
  rmSync,
  symlinkSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import t, { type Test } from "tap";
import { BPF_F, BPF_MAP_TYPE } from "../../src/abi/bpf.ts";
import { ERRNO } from "../../src/abi/errno.ts";
import { foreignPins, Layout, makeOwn } from "../../src/mirror/layout.ts";
import { DirectoryLock } from "../../src/mirror/lock.ts";
import { differs, type Mark, markOf, readMark, writeMark } from "../../src/mirror/mark.ts";
import { ProgressMap } from "../../src/mirror/progress_map.ts";
import type { Bpf } from "../../src/native/bpf.ts";
import { RENAME } from "../../src/native/libc.ts";
import type { MapShape } from "../../src/native/map_info.ts";
import { openBpf, probe } from "../../src/native/probe.ts";
import { fdinfo } from "../support/fdinfo.ts";
import { u32, u64 } from "../support/mirror.ts";
import { hashOfSeq, MAPS } from "../support/progress.ts";
import { random, SEED } from "../support/seed.ts";
import { bare } from "../support/service_process.ts";

const CHILD = new URL("../support/claim_child.ts", import.meta.url).pathname;
const KILLS = 6;
const NOBODY = 65534;

const { BPF_MAP_TYPE_HASH, BPF_MAP_TYPE_ARRAY } = BPF_MAP_TYPE;
const OLD_CARRIED: MapShape = {
  type: BPF_MAP_TYPE_ARRAY,
  keySize: 4,
  valueSize: 8,
  maxEntries: 1,
  mapFlags: 0,
  name: "ml_carried",
  mapExtra: 0n,
  numaNode: 0,
};

const base = mkdtempSync(join(tmpdir(), "mapledger-claim-"));
chmodSync(base, 0o755);
t.teardown(() => rmSync(base, { recursive: true }));
let directories = 0;

const reason = probe() ?? unmountable();
if (reason !== null) {
  t.pass("bpf(2)", { skip: reason });
} else {
  run(openBpf() as Bpf);
}

function unmountable(): string | null {
  try {
    const at = mount();
    execFileSync("umount", [at]);
    return null;
  } catch (error) {
    return `mounting a bpffs: ${(error as Error).message}`;
  }
}

/** A bpffs that nobody else has. */
function mount(options = "mode=0755"): string {
  const at = join(base, `fs${++directories}`);
  mkdirSync(at);
  execFileSync("mount", ["-t", "bpf", "-o", options, "bpf", at], { stdio: "pipe" });
  return at;
}

/** Unmounted after the test. */
function bpffs(test: Test, options?: string): string {
  const at = mount(options);
  test.teardown(() => execFileSync("umount", ["-l", at]));
  return at;
}

/** A service's directory, claimed as far as tests need it. */
function claimed(test: Test): Layout {
  const layout = new Layout(bpffs(test));
  test.equal(makeOwn(layout), null);
  mkdirSync(layout.byIds);
  return layout;
}

/** Another process, once it has said its first line; killed after the test. */
async function child(test: Test, ...words: readonly string[]): Promise<{ process: ChildProcess; said: unknown }> {
  const process = spawn(globalThis.process.execPath, [CHILD, ...words], {
    stdio: ["ignore", "pipe", "inherit"],
    env: bare(globalThis.process.env),
  });
  test.teardown(() => process.kill("SIGKILL"));
  const [line] = (await once(createInterface(process.stdout as NodeJS.ReadableStream), "line")) as [string];
  return { process, said: JSON.parse(line) };
}

async function killed(process: ChildProcess): Promise<void> {
  const exit = once(process, "exit");
  process.kill("SIGKILL");
  await exit;
}

/** What a user without any capability gets. */
function asNobody<T>(act: () => T): T {
  process.seteuid?.(NOBODY);
  try {
    return act();
  } finally {
    process.seteuid?.(0);
  }
}

function run(bpf: Bpf): void {
  function taken(path: string): DirectoryLock {
    const lock = DirectoryLock.take(bpf, path);
    if (!(lock instanceof DirectoryLock)) throw new Error(JSON.stringify(lock));
    return lock;
  }

  /** Closed after the test. */
  function opened(test: Test, path: string, through = bpf): ProgressMap {
    const progress = ProgressMap.open(through, path);
    if (typeof progress === "number") throw new Error(`opening ${path}: ${progress}`);
    test.teardown(() => progress.close());
    return progress;
  }

  function pinned(path: string, shape: MapShape): void {
    const fd = bpf.create(shape);
    if (bpf.pin(fd, path) !== 0) throw new Error(`pinning ${path}`);
    bpf.close(fd);
  }

  t.test(
    "the service's directory is the same, whether the setting names a bpffs' root or its directory below it",
    async (t) => {
      const root = bpffs(t);
      const above = new Layout(root);
      t.equal(makeOwn(above), null);
      const below = new Layout(`${root}/mapledger/`);
      t.equal(makeOwn(below), null);
      t.equal(above.own, below.own);
      t.equal(above.byId(7), join(root, "mapledger", "by_id", "7"));
      t.same([above.owner, above.carried, above.aside], [below.owner, below.carried, below.aside]);
      t.equal(lstatSync(above.own).mode & 0o777, 0o711, "others pass through it, and cannot hold its lock");
      t.equal(new Layout(`${root}/new/deep`).own, `${root}/new/deep`, "what is not there is no root");
      t.equal(new Layout("/proc").own, "/proc", "the root of another file system has inode 1, too");
    },
  );

  t.test("a session's pathname lies at the root, but not where the service's own things are", async (t) => {
    const above = new Layout(bpffs(t));
    const { root } = above;
    const below = new Layout(`${root}/mapledger`);
    const rows: readonly [pathname: string, above: string | number, below: string | number, legacy: string | null][] = [
      ["/sys/fs/bpf/a/b", `${root}/a/b`, `${root}/mapledger/a/b`, `${root}/mapledger/a/b`],
      ["/sys/fs/bpf", root, `${root}/mapledger`, null],
      ["/sys/fs/bpf/mapledger/x", -ERRNO.EEXIST, `${root}/mapledger/mapledger/x`, `${root}/mapledger/mapledger/x`],
      ["/sys/fs/bpf/by_id/x", `${root}/by_id/x`, -ERRNO.EEXIST, null],
      ["/sys/fs/bpf/owner", `${root}/owner`, -ERRNO.EEXIST, null],
      ["/sys/fs/bpf/carried", `${root}/carried`, -ERRNO.EEXIST, null],
      ["/sys/fs/bpf/aside/x", `${root}/aside/x`, -ERRNO.EEXIST, null],
      ["/sys/fs/bpf/tc/owner", `${root}/tc/owner`, `${root}/mapledger/tc/owner`, `${root}/mapledger/tc/owner`],
      ["/sys/fs/bpf/a.b", -ERRNO.EPERM, -ERRNO.EPERM, null],
      ["/sys/fs/bpf/../x", -ERRNO.EPERM, -ERRNO.EPERM, null],
      ["/sys/fs/bpfx", -ERRNO.EPERM, -ERRNO.EPERM, null],
    ];
    for (const [pathname, inRoot, inOwn, legacy] of rows) {
      t.equal(above.place(pathname), inRoot, pathname);
      t.equal(below.place(pathname), inOwn, pathname);
      t.equal(above.legacyPlace(pathname), legacy, pathname);
      t.equal(below.legacyPlace(pathname), null, pathname);
    }
  });

  t.test("a root that cannot be used says what is to be done about it", async (t) => {
    const plain = join(base, "plain");
    mkdirSync(plain);
    const why = (root: string): string | null => makeOwn(new Layout(root));
    t.equal(why(`${plain}/a`), `no bpffs is mounted at ${plain}/a: mount -t bpf bpf ${plain}/a`);
    t.notOk(existsSync(`${plain}/a`));
    const root = bpffs(t);
    t.match(
      why(`${root}/a.b/c`),
      /^bpffs refuses names with a dot \(EPERM\), and .*\/a\.b\/c has a\.b: choose another/,
    );
    pinned(`${root}/mapledger`, OLD_CARRIED);
    t.match(why(root), /\/mapledger is no directory, something else is pinned there: choose another MAPLEDGER_BPFFS$/);
    t.equal(why(`${root}/own`), null, "pins of others beside it are no matter");
    t.match(why(`${root}/mapledger/own`), /mapledger\/own: making it: ENOTDIR|mapledger is no directory/);
    const dotted = join(base, "x.y");
    mkdirSync(dotted);
    execFileSync("mount", ["-t", "bpf", "bpf", dotted]);
    t.equal(why(dotted), null, "above the mount a dot is no matter");
    execFileSync("umount", [dotted]);
  });

  t.test("a user who may not enter is told which directory, and what would let them in", async (t) => {
    const closed = bpffs(t, "mode=0700");
    const said = new RegExp(
      `^${closed} is closed to uid ${NOBODY} \\(its mode is 1700, its owner uid 0, gid 0\\): mapledger needs a directory ` +
        `that an ExecStartPre makes and owns .*, or a mount with uid= and gid= .*uid=${NOBODY},gid=\\d+,mode=0700`,
    );
    for (const root of [closed, `${closed}/mapledger`, `${closed}/a/b`])
      t.match(asNobody(() => makeOwn(new Layout(root))) as string, said);
    t.same(
      readdirSync(closed).filter((name) => !name.endsWith(".debug")),
      [],
    );

    const made = `${closed}/mapledger`;
    chmodSync(closed, 0o711);
    mkdirSync(made);
    chownSync(made, NOBODY, NOBODY);
    t.equal(
      asNobody(() => makeOwn(new Layout(made))),
      null,
      "as an ExecStartPre makes it",
    );
    const mark = markOf({ log: "log", life: "life", data: base });
    t.equal(
      asNobody(() => writeMark(made, mark)),
      null,
    );
    chownSync(made, 0, 0);
    rmSync(join(made, "owner"));
    t.match(asNobody(() => writeMark(made, mark)) as string, /mapledger is closed to uid 65534/);

    const given = bpffs(t, `uid=${NOBODY},mode=0700`);
    t.equal(
      asNobody(() => makeOwn(new Layout(given))),
      null,
      "a mount with uid=",
    );
  });

  t.test("pins by id without a mark are foreign", async (t) => {
    const layout = new Layout(bpffs(t));
    t.equal(makeOwn(layout), null);
    t.equal(foreignPins(layout), null, "there is nothing");
    mkdirSync(layout.byIds);
    t.match(foreignPins(layout), /\/by_id is there without .*\/owner, so its pins are not known to be mapledger's/);
    t.equal(writeMark(layout.own, markOf({ log: "log", life: "life", data: base })), null);
    t.equal(foreignPins(layout), null);
  });

  t.test("of two processes one holds a directory, until it lets go or is killed", async (t) => {
    const { own } = claimed(t);
    const first = await child(t, "hold", own);
    t.same(first.said, { held: true });
    t.same(DirectoryLock.take(bpf, own), { heldBy: `process ${first.process.pid}` });
    await killed(first.process);
    const lock = taken(own);
    t.same((await child(t, "hold", own)).said, { heldBy: `process ${process.pid}` });
    t.ok(lock.isStill());
    lock.release();
    lock.release();
    const next = await child(t, "hold", own);
    t.same(next.said, { held: true });
    await killed(next.process);
  });

  t.test("the directory of another user is not locked", async (t) => {
    const { own } = claimed(t);
    t.match(
      asNobody(() => DirectoryLock.take(bpf, own)),
      { refused: /is closed to uid 65534/ },
    );
    t.match(DirectoryLock.take(bpf, `${own}/no`), { refused: /\/no: opening it: ENOENT$/ });
  });

  t.test("a lock tells that its directory was unmounted, mounted over, removed or moved", async (t) => {
    const { root, own } = claimed(t);
    const lock = taken(own);
    t.throws(() => execFileSync("umount", [root], { stdio: "pipe" }), /busy/);
    execFileSync("umount", ["-l", root]);
    t.notOk(lock.isStill(), "unmounted");
    execFileSync("mount", ["-t", "bpf", "bpf", root]);
    mkdirSync(own);
    t.notOk(lock.isStill(), "mounted anew");
    const second = taken(own);
    t.not(second.dev, lock.dev);
    t.ok(second.isStill());
    lock.release();
    execFileSync("mount", ["-t", "tmpfs", "tmpfs", root]);
    t.notOk(second.isStill(), "mounted over");
    execFileSync("umount", [root]);
    t.ok(second.isStill());
    renameSync(own, `${root}/moved`);
    mkdirSync(own);
    t.notOk(second.isStill(), "moved");
    const third = taken(own);
    rmdirSync(own);
    t.notOk(third.isStill(), "removed");
    third.release();
    second.release();
  });

  t.test("bpffs moves pins in one step: two change places, or none is replaced", async (t) => {
    const root = bpffs(t);
    mkdirSync(`${root}/a`);
    symlinkSync("x", `${root}/b`);
    t.equal(bpf.rename(`${root}/a`, `${root}/b`, RENAME.NOREPLACE), -ERRNO.EEXIST);
    t.equal(bpf.rename(`${root}/a`, `${root}/b`, RENAME.EXCHANGE), 0);
    t.equal(readlinkSync(`${root}/a`), "x");
    t.ok(lstatSync(`${root}/b`).isDirectory());
    t.equal(bpf.rename(`${root}/a`, `${root}/c`, RENAME.NOREPLACE), 0);
    t.equal(bpf.rename(`${root}/a`, `${root}/c`, RENAME.EXCHANGE), -ERRNO.ENOENT);
  });

  t.test("a mark is read as it was written, whatever the data directory is called", async (t) => {
    const { own } = claimed(t);
    t.equal(readMark(own), null);
    const ours = markOf({ log: "2f0c1b9e-0000-4000-8000-0123456789ab", life: "l", data: base });
    for (const data of ["/var/lib/mapledger", "/a b/c=d&e", "/100%/ä/\n/😀", "/x owner=y", `/${"ö".repeat(199)}`]) {
      t.equal(writeMark(own, { ...ours, data }), null);
      t.same(readMark(own), { ...ours, data });
      t.match(
        readlinkSync(join(own, "owner")),
        /^mapledger 1 log=2f0c1b9e-0000-4000-8000-0123456789ab life=l device=\d+ /,
      );
    }
    const long = `/${"😀/".repeat(1000)}\ud800`;
    t.equal(writeMark(own, { ...ours, data: long }), null, "a link's target has an end");
    const { data, ...rest } = readMark(own) as Mark;
    t.ok(data.length > 200 && data.endsWith("…") && long.startsWith(data.slice(0, -1)));
    t.same(rest, { log: ours.log, life: ours.life, device: ours.device, inode: ours.inode, boot: ours.boot });
    t.same(readdirSync(join(own, "by_id")), [], "nothing is left of what was moved");
  });

  t.test("the mark of an earlier release, and what is none, are told apart", async (t) => {
    const { own } = claimed(t);
    const owner = join(own, "owner");
    const ours = markOf({ log: "2f0c1b9e-0000-4000-8000-0123456789ab", life: "l", data: base });
    symlinkSync(ours.log, owner);
    t.same(readMark(own), { old: ours.log });
    t.equal(differs({ old: ours.log }, ours), null);
    t.equal(writeMark(own, ours), null, "it is replaced");
    t.same(readMark(own), ours);
    t.not(readlinkSync(owner), ours.log, "which an earlier release refuses");
    const mark = readlinkSync(owner);
    const texts = [
      "x",
      "mapledger 2 log=a",
      mark.replace(/ life=\S+/, ""),
      mark.replace("life=l", "life=%zz"),
      "mapledger 1",
    ];
    for (const text of texts) {
      rmSync(owner);
      symlinkSync(text, owner);
      t.same(readMark(own), { garbled: text });
      t.match(differs({ garbled: text }, ours), `the owner mark cannot be read (${text})`);
    }
    rmSync(owner);
    symlinkSync(`${mark} more=1`, owner);
    t.same(readMark(own), ours, "what is added later is passed over");
    rmSync(owner);
    mkdirSync(owner);
    t.same(readMark(own), { garbled: "no symbolic link" });
    t.match(writeMark(own, ours), /moving .*by_id\/owner to .*\/owner: EISDIR$/);
  });

  t.test("a mark says in what its ledger differs from this one", async (t) => {
    const ours: Mark = { log: "L1", life: "F1", device: "1", inode: "2", boot: "B1", data: "/data" };
    const rows: readonly [mark: Mark | { old: string }, why: RegExp][] = [
      [
        { ...ours, log: "L2", life: "F2", data: "/o" },
        /the log L2 of \/o, and this is the log L1 of \/data: choose another/,
      ],
      [{ old: "L2" }, /the log L2, and this is the log L1 of \/data: choose another/],
      [
        { ...ours, life: "F2", inode: "3" },
        /another life: one of the two was restored from a backup, so the kernel maps may be ahead of this log/,
      ],
      [
        { ...ours, device: "9", boot: "B2" },
        /\/data \(device 9, inode 2\), and \/data \(device 1, inode 2\) may be a copy/,
      ],
      [
        { ...ours, inode: "9", data: "/o" },
        /\/o \(device 1, inode 9\), and \/data .* start mapledger with that directory/,
      ],
      [{ ...ours, boot: "B2" }, /as it was in boot B2 of the machine, and this is boot B1/],
    ];
    for (const [mark, why] of rows) {
      t.match(differs(mark, ours), why);
      t.match(differs(mark, ours), /run `mapledger take-over` to make them follow this one$/);
    }
    t.equal(differs({ ...ours, data: "/moved" }, ours), null, "a directory that was moved is the same one");
    t.equal(differs(ours, ours), null);
  });

  t.test("a progress map is found again with all that it was told", async (t) => {
    const { carried } = claimed(t);
    const first = opened(t, carried);
    t.equal(first.found, "new");
    t.equal(first.all(), null);
    t.equal(first.place(7), null);
    t.equal(first.keep(7, 40), 0);
    t.equal(first.unknown(8), 0);
    t.equal(first.caughtUp(9), 0);
    t.equal(opened(t, carried).found, "new", "killed before anything was reached");
    const far = 2 ** 40 + 3;
    t.equal(first.reached(far - 2), 0);
    t.same(first.all(), { seq: far - 2, hashed: null });
    t.equal(first.identify(hashOfSeq(far - 2)), 0);
    t.equal(first.reached(far), 0);
    t.equal(first.keep(9, far - 1), 0);
    t.equal(first.keep(9, far), 0);
    const again = opened(t, carried);
    for (const progress of [first, again]) {
      t.same(progress.all(), { seq: far, hashed: { seq: far - 2, hash: hashOfSeq(far - 2) } });
      t.same([progress.place(1), progress.place(7), progress.place(8), progress.place(9)], [far, 40, null, far]);
      t.same(
        new Map([...progress.exceptions()].sort()),
        new Map([
          [7, 40],
          [8, null],
          [9, far],
        ]),
      );
    }
    t.equal(again.found, "known");
    t.equal(again.id, first.id);
    t.equal(fdinfo(again.fd)?.mapId, again.id);
    t.equal(again.caughtUp(8), 0);
    t.equal(again.keep(7, 41), 0);
    t.equal(again.unknown(9), 0);
    t.same(
      new Map([...opened(t, carried).exceptions()].sort()),
      new Map([
        [7, 41],
        [9, null],
      ]),
    );
  });

  t.test("a progress map grows with its exceptions, in one step, and is the same then", async (t) => {
    const { carried, byIds } = claimed(t);
    const progress = opened(t, carried);
    const { id } = progress;
    t.equal(progress.reached(9), 0);
    t.equal(progress.identify(hashOfSeq(9)), 0);
    for (let mapId = 1; mapId <= MAPS; mapId++) if (progress.keep(mapId, mapId) !== 0) t.fail(`map ${mapId}`);
    t.not(progress.id, id);
    t.equal(fdinfo(progress.fd)?.mapId, progress.id);
    const again = opened(t, carried);
    t.equal(again.id, progress.id, "what is pinned is what is written");
    t.same(again.all(), { seq: 9, hashed: { seq: 9, hash: hashOfSeq(9) } });
    t.equal(again.exceptions().size, MAPS);
    t.same(new Map(again.exceptions()), new Map(progress.exceptions()));
    t.same(readdirSync(byIds), []);
  });

  t.test("nothing is reached while the kernel refuses to keep an exception", async (t) => {
    const { carried } = claimed(t);
    const own = openBpf() as Bpf;
    const update = own.update.bind(own);
    let refused = 0;
    own.update = (fd, key, value, flags) =>
      key?.readUInt32LE(0) === refused ? -ERRNO.ENOMEM : update(fd, key, value, flags);
    const progress = opened(t, carried, own);
    t.equal(progress.keep(7, 1), 0);
    t.equal(progress.reached(1), -ERRNO.ENOMEM);
    refused = 7;
    t.equal(progress.reached(2), 0);
    t.equal(progress.unknown(7), -ERRNO.ENOMEM);
    t.equal(progress.reached(3), -ERRNO.ENOMEM);
    t.equal(progress.place(7), null);
    t.equal(progress.place(1), 2);
    t.same(opened(t, carried).all()?.seq, 2, "nor after a restart");
    refused = -1;
    t.equal(progress.reached(3), 0);
    t.equal(opened(t, carried).place(7), null);
  });

  t.test("where no larger map can be had, the one that is full stays as it is", async (t) => {
    const { carried, byIds } = claimed(t);
    const own = openBpf() as Bpf;
    const progress = opened(t, carried, own);
    t.equal(progress.reached(5), 0);
    let full = 1;
    for (rmdirSync(byIds); progress.keep(full, 4) === 0; full++);
    t.equal(progress.keep(full, 4), -ERRNO.ENOENT, "its place is gone");
    t.equal(progress.reached(6), -ERRNO.ENOENT);
    t.equal(opened(t, carried).exceptions().size, full - 1);
    t.equal(progress.caughtUp(1), 0, "there is room again");
    t.equal(progress.reached(6), 0);
    const again = opened(t, carried);
    t.equal(again.all()?.seq, 6);
    t.equal(again.place(full), 4);
  });

  t.test("an earlier release's seq is known, but no map's place, until all have reached an event", async (t) => {
    const { carried } = claimed(t);
    pinned(carried, OLD_CARRIED);
    const write = (seq: number): void => {
      const fd = bpf.get(carried);
      t.equal(bpf.update(fd, u32(0), u64(seq)), 0);
      bpf.close(fd);
    };
    t.equal(opened(t, carried).found, "new", "0 was: not known");
    write(41);
    const old = opened(t, carried);
    t.equal(old.found, "old");
    t.same(old.all(), { seq: 41, hashed: null });
    t.equal(old.place(7), null);
    const { id } = old;
    t.equal(opened(t, carried).id, id, "it is left as it is until there is something to write");
    t.equal(old.keep(7, 30), 0);
    t.not(old.id, id);
    const started = opened(t, carried);
    t.equal(started.found, "old", "killed while its maps are compared");
    t.same(started.all(), { seq: 41, hashed: null });
    t.same([started.place(7), started.place(8)], [30, null]);
    t.equal(started.reached(50), 0);
    t.same([started.place(7), started.place(8)], [30, 50]);
    t.equal(opened(t, carried).found, "known");
  });

  t.test("what else is pinned in its place is left as it is", async (t) => {
    const { carried } = claimed(t);
    const foreign = { ...OLD_CARRIED, type: BPF_MAP_TYPE_HASH, mapFlags: BPF_F.BPF_F_NO_PREALLOC, valueSize: 48 };
    for (const shape of [foreign, { ...OLD_CARRIED, name: "ml_carrier" }, { ...OLD_CARRIED, valueSize: 4 }]) {
      pinned(carried, shape);
      t.equal(ProgressMap.open(bpf, carried), -ERRNO.EEXIST);
      t.ok(existsSync(carried));
      rmSync(carried);
    }
    const program = bpf.loadProgram(1, 0, Buffer.from("b7000000000000009500000000000000", "hex"));
    t.equal(bpf.pin(program, carried), 0);
    bpf.close(program);
    t.equal(ProgressMap.open(bpf, carried), -ERRNO.EEXIST, "a program");
    rmSync(carried);
    mkdirSync(carried);
    t.ok((ProgressMap.open(bpf, carried) as number) < 0, "a directory");
    rmdirSync(carried);
    t.equal(ProgressMap.open(bpf, `${carried}/deep`), -ERRNO.ENOENT, "no directory");
  });

  t.test(`kill -9 of its writer, ${KILLS} times: each value is one that was written, and none goes back`, async (t) => {
    t.comment(`SEED=${SEED}`);
    const roll = random(SEED);
    const { carried } = claimed(t);
    let before = 0;
    for (let round = 1; round <= KILLS || before <= MAPS; round++) {
      const writer = await child(t, "write", carried);
      await new Promise((resolve) => setTimeout(resolve, 5 + roll(120)));
      await killed(writer.process);
      const progress = opened(t, carried);
      const { seq, hashed } = progress.all() ?? { seq: 0, hashed: null };
      t.same(hashed?.hash, hashed === null ? null : hashOfSeq(hashed.seq), `round ${round}: event ${seq}`);
      if (hashed !== null) t.ok(seq - hashed.seq < 4, `round ${round}: event ${hashed.seq} was hashed`);
      t.ok(seq > before, "it has come further");
      for (const [mapId, place] of progress.exceptions())
        if (place === null || place > seq || 1 + ((place + 1) % MAPS) !== mapId) t.fail(`map ${mapId} is at ${place}`);
      before = seq;
    }
    t.comment(`${before} events: the map has grown on the way`);
  });
}
