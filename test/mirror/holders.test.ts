import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { chmodSync, chownSync, linkSync, mkdirSync, readdirSync, symlinkSync, unlinkSync } from "node:fs";
import { join } from "node:path";
import t, { type Test } from "tap";
import { BPF_CMD, BPF_MAP_TYPE, BPF_PROG_TYPE } from "../../src/abi/bpf.ts";
import { ERRNO } from "../../src/abi/errno.ts";
import { HolderScan, holdersNow, type KernelHolders } from "../../src/mirror/holders.ts";
import { bpffsMounts } from "../../src/mirror/mounts.ts";
import type { Bpf } from "../../src/native/bpf.ts";
import { openBpf } from "../../src/native/probe.ts";
import { unfitForKernel } from "../support/bpffs.ts";
import { type Json, Ledger } from "../support/ledger.ts";
import { array, hash, u32 } from "../support/mirror.ts";
import { beside, bindMount, privateBpffs } from "../support/private_bpffs.ts";

const { BPF_MAP_TYPE_ARRAY_OF_MAPS, BPF_MAP_TYPE_HASH_OF_MAPS } = BPF_MAP_TYPE;
const NOBODY: KernelHolders = { pins: [], programs: [], outer: [] };
const NONE_OURS = (): boolean => false;
const PRINT_HOLDERS = new URL("../support/print_holders.ts", import.meta.url).pathname;
const CHURN = new URL("../support/churn.ts", import.meta.url).pathname;
/** Pins that take several pieces. */
const MANY = 3000;

/** A kernel object by its fd and the kernel's id. */
interface Held {
  readonly fd: number;
  readonly id: number;
}

t.test("bpffsMounts reads mount points with octal escapes", (t) => {
  const text = [
    "26 1 254:0 / / rw,relatime - ext4 /dev/vda rw",
    "41 26 0:38 / /a\\040b\\011c\\134\\043 rw,relatime shared:7 master:2 - bpf bpf rw",
    "42 26 0:300 /sub /other rw - bpf bpf rw",
    "43 26 0:22 / /tmp rw - tmpfs bpf rw",
    "",
  ].join("\n");
  const { visible, hidden } = bpffsMounts(Buffer.from(text));
  t.same(
    visible.map(({ point, dev }) => [point, dev]),
    [
      ["/a b\tc\\#", 38],
      ["/other", 0x10002c],
    ],
  );
  t.equal(hidden, null);
  t.end();
});

t.test("bpffsMounts tells which mounts no path leads to", (t) => {
  const root = "26 1 254:0 / / rw - ext4 /dev/vda rw";
  const sys = "22 26 0:21 / /sys rw - sysfs sysfs rw";
  const bpf = "30 22 0:38 / /sys/fs/bpf rw - bpf bpf rw";
  const asked = (...lines: readonly string[]): object => {
    const { visible, hidden } = bpffsMounts(Buffer.from(lines.join("\n")));
    return { visible: visible.map(({ dev }) => dev), hidden };
  };
  const at = "/sys/fs/bpf";
  const rows: readonly [string, readonly string[], readonly number[], string | null][] = [
    ["one", [root, sys, bpf], [38], null],
    ["another bpffs on top of it", [root, sys, bpf, `31 30 0:39 / ${at} rw - bpf bpf rw`], [39], at],
    ["a directory above it is covered", [root, sys, bpf, "31 22 0:39 / /sys/fs rw - tmpfs x rw"], [], at],
    ["the same file system on top of itself", [root, sys, bpf, `31 30 0:38 / ${at} rw - bpf bpf rw`], [38], null],
    [
      "covered, and shown elsewhere",
      [root, sys, bpf, `31 30 0:39 / ${at} rw - tmpfs x rw`, "32 26 0:38 / /b rw - bpf b rw"],
      [38],
      null,
    ],
    [
      "covered, and shown elsewhere but for another part",
      [root, sys, bpf, `31 30 0:39 / ${at} rw - tmpfs x rw`, "32 26 0:38 /sub /b rw - bpf b rw"],
      [38],
      at,
    ],
    ["a directory of it is covered", [root, sys, bpf, `31 30 0:39 / ${at}/d rw - tmpfs x rw`], [38], `${at}/d`],
    [
      "a directory of it is covered, and shown elsewhere",
      [root, sys, bpf, `31 30 0:39 / ${at}/d rw - tmpfs x rw`, "32 26 0:38 /d /b rw - bpf b rw"],
      [38, 38],
      null,
    ],
    ["in a chroot, whose own mount is not listed", ["30 22 0:38 / /sys/fs/bpf rw - bpf bpf rw"], [38], null],
    [
      "the root is covered, which no absolute path notices",
      [root, sys, bpf, "31 26 0:39 / / rw - tmpfs x rw"],
      [38],
      null,
    ],
  ];
  for (const [name, lines, visible, hidden] of rows) t.same(asked(...lines), { visible, hidden }, name);
  t.end();
});

const reason = unfitForKernel();
if (reason !== null) {
  t.pass("bpf(2)", { skip: reason });
} else {
  run(openBpf() as Bpf);
}

function run(bpf: Bpf): void {
  function must(ret: number, doing: string): number {
    if (ret < 0) throw new Error(`${doing}: ${ret}`);
    return ret;
  }

  /** Closed at the end of the test, unless it has been closed before. */
  function map(t: Test, shape: Partial<typeof hash> = {}, innerMapFd = 0): Held {
    const with_ = { innerMapFd, btfFd: 0, btfKeyTypeId: 0, btfValueTypeId: 0 };
    const fd = must(bpf.create({ ...hash, ...shape }, with_), "creating a map");
    t.teardown(() => bpf.close(fd));
    const info = bpf.infoByFd(fd);
    if (typeof info === "number") throw new Error(`its info: ${info}`);
    return { fd, id: info.id };
  }

  /** A program that uses maps: each is loaded into r1 (BPF_LD_MAP_FD), then r0 = 0; exit. */
  function program(t: Test, ...maps: readonly Held[]): Held {
    const loads = maps.map(({ fd }) => Buffer.concat([Buffer.from("18110000", "hex"), u32(fd), Buffer.alloc(8)]));
    const insns = Buffer.concat([...loads, Buffer.from("b7000000000000009500000000000000", "hex")]);
    const fd = must(bpf.loadProgram(BPF_PROG_TYPE.BPF_PROG_TYPE_SOCKET_FILTER, 0, insns), "loading a program");
    t.teardown(() => bpf.close(fd));
    const info = bpf.objectInfo(fd, 64);
    if (typeof info === "number") throw new Error(`its info: ${info}`);
    return { fd, id: info.readUInt32LE(4) };
  }

  function pin({ fd }: Held, path: string): string {
    must(bpf.pin(fd, path), `pinning at ${path}`);
    return path;
  }

  function descriptors(): readonly string[] {
    return readdirSync("/proc/self/fd");
  }

  function whole(scan: Generator<void, HolderScan>): { pieces: number; scan: HolderScan } {
    for (let pieces = 1; ; pieces++) {
      const { value, done } = scan.next();
      if (done === true) return { pieces, scan: value };
    }
  }

  t.test("a scan tells the pins, programs and maps of maps that hold a map", (t) => {
    const root = privateBpffs(t);
    const [held, other, alone] = [map(t), map(t), map(t)];
    const programs = [program(t, held), program(t, other, held, held), program(t)];
    mkdirSync(join(root, "deep/er"), { recursive: true });
    const pins = [pin(held, join(root, "a")), pin(held, join(root, "deep/er/b"))];
    pin(programs[0] as Held, join(root, "program"));
    const outer = [BPF_MAP_TYPE_ARRAY_OF_MAPS, BPF_MAP_TYPE_HASH_OF_MAPS].map((type) => {
      const made = map(t, { type, valueSize: 4, maxEntries: 5000 }, held.fd);
      for (const key of [7, 4999]) must(bpf.update(made.fd, u32(key), u32(held.fd)), "filling it");
      return made;
    });
    const scan = holdersNow(bpf);
    t.equal(scan.unknown, null);
    const found = scan.of(held.id);
    t.same([...found.pins].sort(), pins);
    t.same(found.programs, [programs[0]?.id, programs[1]?.id], "each once");
    t.same(
      found.outer,
      outer.map(({ id }) => id),
    );
    t.same(scan.of(other.id), { ...NOBODY, programs: [programs[1]?.id] });
    t.same(scan.of(alone.id), NOBODY, "a descriptor is not seen");
    t.end();
  });

  t.test("a program may use more maps than its instructions can name", (t) => {
    const user = program(t);
    const bound = Array.from({ length: 70 }, () => map(t, array));
    const attr = Buffer.alloc(12);
    for (const { fd } of bound) {
      attr.writeUInt32LE(user.fd, 0);
      attr.writeUInt32LE(fd, 4);
      must(bpf.bpf(BPF_CMD.BPF_PROG_BIND_MAP, attr), "binding a map");
    }
    const scan = holdersNow(bpf);
    for (const { id } of bound) t.same(scan.of(id).programs, [user.id]);
    t.end();
  });

  t.test("heldByOthers tells our pins and maps of maps from those of others", (t) => {
    const root = privateBpffs(t);
    const ours = join(root, "ours");
    mkdirSync(ours);
    const isOurs = (path: string): boolean => path.startsWith(`${ours}/`);
    const [alone, own, foreign, used, inner] = [map(t), map(t), map(t), map(t), map(t, array)];
    pin(own, join(ours, "1"));
    pin(foreign, join(ours, "2"));
    pin(foreign, join(root, "ours2"));
    program(t, used);
    const outer = map(t, { type: BPF_MAP_TYPE_ARRAY_OF_MAPS, valueSize: 4 }, inner.fd);
    must(bpf.update(outer.fd, u32(0), u32(inner.fd)), "filling it");
    const scan = holdersNow(bpf);
    t.equal(scan.heldByOthers(alone.id, isOurs, new Set()), false);
    t.equal(scan.heldByOthers(own.id, isOurs, new Set()), false);
    t.equal(scan.heldByOthers(own.id, NONE_OURS, new Set()), true);
    t.equal(scan.heldByOthers(foreign.id, isOurs, new Set()), true);
    t.equal(scan.heldByOthers(used.id, isOurs, new Set()), true);
    t.equal(scan.heldByOthers(inner.id, isOurs, new Set()), true);
    t.equal(scan.heldByOthers(inner.id, isOurs, new Set([outer.id])), false);
    t.end();
  });

  t.test("pins are found at paths of any bytes", (t) => {
    const root = privateBpffs(t, "mounted at\ta \\ path #1 é");
    const held = map(t);
    const path = pin(held, join(root, "ü %s"));
    t.same(holdersNow(bpf).of(held.id).pins, [path]);
    const bytes = Buffer.concat([Buffer.from(`${root}/`), Buffer.from([0xff, 0xe9])]);
    const other = map(t);
    linkBytes(other, bytes);
    t.same(holdersNow(bpf).of(other.id).pins, [bytes.toString()], "as far as UTF-8 can tell");
    t.end();
  });

  /** Pins at a path that is not UTF-8. */
  function linkBytes(held: Held, path: Buffer): void {
    const name = path.subarray(0, path.lastIndexOf(47)).toString();
    const temporary = pin(held, join(name, "temporary"));
    linkSync(temporary, path);
    unlinkSync(temporary);
  }

  t.test("a pin with several paths is listed once, by the first", (t) => {
    const root = privateBpffs(t);
    mkdirSync(join(root, "sub"));
    const [held, hard] = [map(t), map(t)];
    const path = pin(held, join(root, "sub/pin"));
    bindMount(t, root, beside(root, "again"));
    bindMount(t, join(root, "sub"), beside(root, "part"));
    const first = pin(hard, join(root, "1"));
    linkSync(first, join(root, "2"));
    const scan = holdersNow(bpf);
    t.same(scan.of(held.id).pins, [path]);
    t.same(scan.of(hard.id).pins, [first]);
    t.equal(scan.unknown, null);
    t.end();
  });

  t.test("a bind mount of a directory shows its pins where nothing else does", (t) => {
    const elsewhere = privateBpffs(t);
    mkdirSync(join(elsewhere, "sub"));
    const held = map(t);
    pin(held, join(elsewhere, "sub/pin"));
    const part = bindMount(t, join(elsewhere, "sub"), beside(elsewhere, "part"));
    execFileSync("umount", [elsewhere]);
    t.same(holdersNow(bpf).of(held.id).pins, [join(part, "pin")]);
    execFileSync("mount", ["-t", "bpf", "bpf", elsewhere]);
    t.end();
  });

  t.test("symbolic links are not followed", (t) => {
    const [root, other] = [privateBpffs(t), privateBpffs(t)];
    const held = map(t);
    const path = pin(held, join(root, "pin"));
    symlinkSync(path, join(other, "file"));
    symlinkSync(root, join(other, "directory"));
    symlinkSync("nowhere", join(other, "dangling"));
    symlinkSync("loop", join(other, "loop"));
    const scan = holdersNow(bpf);
    t.same(scan.of(held.id).pins, [path]);
    t.equal(scan.unknown, null);
    t.end();
  });

  t.test("pins of other owners and with few permissions are found", (t) => {
    const root = privateBpffs(t);
    const held = [0o400, 0o000, 0o200].map((mode) => {
      const made = map(t);
      const path = pin(made, join(root, `mode${mode}`));
      chmodSync(path, mode);
      chownSync(path, 65534, 65534);
      return { ...made, path };
    });
    const scan = holdersNow(bpf);
    t.equal(scan.unknown, null);
    for (const { id, path } of held) t.same(scan.of(id).pins, [path]);
    t.end();
  });

  t.test("a kernel without batches of maps of maps is asked key by key", (t) => {
    const held = map(t);
    const outer = [BPF_MAP_TYPE_ARRAY_OF_MAPS, BPF_MAP_TYPE_HASH_OF_MAPS].map((type) => {
      const made = map(t, { type, valueSize: 4, maxEntries: 1000 }, held.fd);
      must(bpf.update(made.fd, u32(999), u32(held.fd)), "filling it");
      return made.id;
    });
    const old = openBpf() as Bpf;
    old.lookupBatch = () => -ERRNO.EINVAL;
    const scan = holdersNow(old);
    t.equal(scan.unknown, null);
    t.same(scan.of(held.id).outer, outer);
    t.end();
  });

  t.test("a bucket of a map of maps that is larger than a batch is read whole", (t) => {
    const shape = { type: BPF_MAP_TYPE_HASH_OF_MAPS, valueSize: 4, maxEntries: 64 };
    const held = map(t);
    const outer = map(t, shape, held.fd);
    for (let key = 0; key < 64; key++) must(bpf.update(outer.fd, u32(key), u32(held.fd)), "filling it");
    const last = map(t);
    must(bpf.update(outer.fd, u32(63), u32(last.fd)), "filling it");
    const narrow = openBpf() as Bpf;
    const { lookupBatch } = narrow;
    narrow.lookupBatch = (fd, position, next, keys, values, count) =>
      count < 128 ? -ERRNO.ENOSPC : lookupBatch.call(narrow, fd, position, next, keys, values, count);
    const scan = holdersNow(narrow);
    t.same(scan.of(held.id).outer, [outer.id]);
    t.same(scan.of(last.id).outer, [outer.id]);
    t.end();
  });

  t.test("holders are unknown without the privilege, and the capability is named", (t) => {
    const root = privateBpffs(t);
    const held = map(t);
    pin(held, join(root, "pin"));
    let scan: HolderScan;
    process.seteuid?.(65534);
    try {
      scan = holdersNow(bpf);
    } finally {
      process.seteuid?.(0);
    }
    t.match(scan.unknown, "listing the kernel's programs: EPERM: it needs CAP_SYS_ADMIN");
    t.match(scan.unknown, "listing the kernel's maps: EPERM: it needs CAP_SYS_ADMIN");
    t.match(scan.unknown, /reading \/.*: EACCES: it needs CAP_DAC_READ_SEARCH/);
    t.equal(
      scan.heldByOthers(held.id, () => true, new Set()),
      true,
      "nobody knows that it is not",
    );
    t.equal(holdersNow(bpf).unknown, null);
    t.end();
  });

  t.test("holders are unknown where descriptors have run out", (t) => {
    const full = openBpf() as Bpf;
    full.getReadOnly = () => -ERRNO.EMFILE;
    const held = map(t);
    const path = pin(held, join(privateBpffs(t), "pin"));
    const scan = holdersNow(full);
    t.match(scan.unknown, /^reading \/.*: EMFILE$/);
    t.same(scan.of(held.id), NOBODY);
    t.same(holdersNow(bpf).of(held.id).pins, [path]);
    t.end();
  });

  t.test("what is mounted on a bpffs is left alone, and what it covers is not known", (t) => {
    const root = privateBpffs(t);
    const held = map(t);
    const seen = pin(held, join(root, "pin"));
    mkdirSync(join(root, "sub"));
    pin(held, join(root, "sub/covered"));
    const asked = (script: string): Json => {
      const print = `exec "${process.execPath}" "${PRINT_HOLDERS}" ${held.id}`;
      const args = ["--mount", "--propagation", "private", "sh", "-ec", `${script}\n${print}`];
      return JSON.parse(execFileSync("unshare", args, { encoding: "utf8" })) as Json;
    };
    const sub = join(root, "sub");
    t.same(asked("true"), { ...NOBODY, pins: [seen, join(sub, "covered")], unknown: null });
    const inside = `mkfifo '${sub}/fifo'; ln -s '${root}' '${sub}/link'`;
    t.same(asked(`mount -t tmpfs none '${sub}'; ${inside}`), {
      ...NOBODY,
      pins: [seen],
      unknown: `pins at ${sub} cannot be seen: another mount covers this bpffs`,
    });
    t.same(asked(`mount -t bpf bpf '${root}'`), {
      ...NOBODY,
      unknown: `pins at ${root} cannot be seen: another mount covers this bpffs`,
    });
    t.end();
  });

  t.test("a scan leaves no descriptor open, and keeps no map alive", (t) => {
    const root = privateBpffs(t);
    const held = map(t);
    const path = pin(held, join(root, "pin"));
    const outer = map(t, { type: BPF_MAP_TYPE_ARRAY_OF_MAPS, valueSize: 4 }, held.fd);
    must(bpf.update(outer.fd, u32(0), u32(held.fd)), "filling it");
    pin(program(t), join(root, "program"));
    const before = descriptors();
    holdersNow(bpf);
    t.same(descriptors(), before);
    unlinkSync(path);
    must(bpf.delete(outer.fd, u32(0)), "emptying it");
    bpf.close(held.fd);
    t.equal(bpf.mapFdById(held.id), -ERRNO.ENOENT);
    t.end();
  });

  t.test("a scan is made in pieces, and what vanishes between them is no error", (t) => {
    const before = descriptors().length;
    const mounted = join(privateBpffs(t), "..", "other");
    mkdirSync(mounted);
    execFileSync("mount", ["-t", "bpf", "bpf", mounted]);
    const held = map(t);
    const stays = pin(held, join(privateBpffs(t), "stays"));
    for (let at = 0; at < MANY; at++) pin(held, join(mounted, `pin${at}`));
    const { pieces } = whole(HolderScan.scan(bpf));
    t.ok(pieces > 5, `in ${pieces} pieces`);
    const scan = HolderScan.scan(bpf);
    for (let piece = 0; piece < pieces / 2; piece++) scan.next();
    t.equal(descriptors().length, before + 1, "none is open but the test's own");
    execFileSync("umount", [mounted]);
    const result = whole(scan).scan;
    t.equal(result.unknown, null);
    t.ok(result.of(held.id).pins.includes(stays));
    t.end();
  });

  t.test("a scan never fails while others make and remove pins, maps and programs", async (t) => {
    const root = privateBpffs(t);
    const churned = join(root, "churned");
    mkdirSync(churned);
    const held = map(t);
    const path = pin(held, join(root, "stays"));
    const using = program(t, held);
    const child = spawn(process.execPath, [CHURN, churned], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    t.teardown(async () => {
      child.kill("SIGKILL");
      await once(child, "exit");
    });
    await once(child.stdout, "data");
    const answers = new Set<string>();
    for (let scans = 0; scans < 100; scans++) {
      const scan = holdersNow(bpf);
      answers.add(JSON.stringify({ ...scan.of(held.id), unknown: scan.unknown }));
    }
    const expected = { ...NOBODY, pins: [path], programs: [using.id], unknown: null };
    t.same(
      [...answers].map((answer) => JSON.parse(answer)),
      [expected],
      "each tells the same of what stays",
    );
    t.equal(child.exitCode, null, "it was there all the time");
  });

  t.test("GET /v1/kernel/maps tells who holds each", async (t) => {
    const ledger = new Ledger(t, "holders");
    await ledger.start();
    const root = privateBpffs(t);
    const held = map(t);
    const path = pin(held, join(root, "pin"));
    const using = program(t, held);
    const outer = map(t, { type: BPF_MAP_TYPE_ARRAY_OF_MAPS, valueSize: 4 }, held.fd);
    must(bpf.update(outer.fd, u32(0), u32(held.fd)), "filling it");
    const { kernel_maps: maps } = (await ledger.must("GET", "/kernel/maps")) as { kernel_maps: Json[] };
    t.match(
      maps.find(({ kernel_id }) => kernel_id === held.id),
      {
        was: null,
        pins: [path],
        holders: { programs: [using.id], outer: [outer.id] },
        holders_unknown: null,
      },
    );
    t.match(
      maps.find(({ kernel_id }) => kernel_id === outer.id),
      { pins: [], holders: { programs: [], outer: [] } },
    );
  });
}
