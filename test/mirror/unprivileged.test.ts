import { spawn } from "node:child_process";
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import t, { type Test } from "tap";
import { BPF_F, BPF_MAP_TYPE, BPF_PROG_TYPE, type MapTypeName } from "../../src/abi/bpf.ts";
import { openRealObject } from "../../src/mirror/real_objects.ts";
import type { Bpf } from "../../src/native/bpf.ts";
import { openBpf } from "../../src/native/probe.ts";
import { BtfBlob } from "../btf/btf_blob.ts";
import { BPFFS } from "../support/bpffs.ts";
import { mapledgerIn, ranAs } from "../support/cli.ts";
import { hex, type Json, Ledger, until } from "../support/ledger.ts";
import { hash, u32, u64 } from "../support/mirror.ts";
import { privateBpffs } from "../support/private_bpffs.ts";
import { ask } from "../support/unix_client.ts";
import {
  asUser,
  give,
  processesOf,
  THREE,
  USER,
  unfitForUsers,
  withHiddenProcesses,
  withOwnBpffs,
} from "../support/unprivileged.ts";

/** What the user's services have compiled: they do not use what root's have. */
const compiled = mkdtempSync(join(tmpdir(), "mapledger-compiled-"));
t.teardown(() => rmSync(compiled, { recursive: true }));

/** A service as a user of its own, whose directory of pins root has made and given to it. */
class OwnUser extends Ledger {
  readonly run: readonly string[];
  readonly #settings: Readonly<Record<string, string>>;

  constructor(
    t: Test,
    capabilities: readonly string[] = THREE,
    settings: Readonly<Record<string, string>> = {},
    point = mounted(t),
  ) {
    super(t, "user", join(point, "ml"));
    this.run = asUser(capabilities);
    this.#settings = settings;
    mkdirSync(this.root);
    chmodSync(this.root, 0o711);
    give(this.root);
    give(this.data);
    // What was compiled is kept where a service ends by itself.
    t.teardown(() => this.stop());
  }

  /** Where others pin, beside the service's directory. */
  get point(): string {
    return dirname(this.root);
  }

  begin(mode = "required", run = this.run): Promise<void> {
    return this.start([], { MAPLEDGER_MIRROR: mode, NODE_COMPILE_CACHE: compiled, ...this.#settings }, run);
  }
}

/** A bpffs that others pass through. */
function mounted(t: Test): string {
  const point = privateBpffs(t);
  chmodSync(dirname(point), 0o711);
  chmodSync(point, 0o711);
  return point;
}

async function session(ledger: Ledger): Promise<Session> {
  return new Session(ledger, (await ledger.must("POST", "/sessions", { ttl_seconds: 3600 })).id as number);
}

class Session {
  readonly #ledger: Ledger;
  readonly #id: number;

  constructor(ledger: Ledger, id: number) {
    this.#ledger = ledger;
    this.#id = id;
  }

  open(body: object): Promise<{ status: number; json: Json }> {
    return this.#ledger.ask("POST", `/sessions/${this.#id}/fds`, body);
  }

  async fd(body: object): Promise<number> {
    return (await this.#ledger.must("POST", `/sessions/${this.#id}/fds`, body)).fd as number;
  }

  /** A command of bpf(2) that has to succeed. */
  async bpf(cmd: string, attr: object): Promise<number> {
    const { ret, errno } = await this.#ledger.must("POST", `/sessions/${this.#id}/bpf`, { cmd, attr });
    if (errno !== null) throw new Error(`${cmd} ${JSON.stringify(attr)}: ${errno}`);
    return ret as number;
  }

  /** Answers its descriptor, and its id. */
  async map(type: MapTypeName, attr: object): Promise<{ readonly fd: number; readonly id: number }> {
    const body = { map_type: type, key_size: 4, value_size: 4, max_entries: 4, ...attr };
    const { fd, map_id: id } = await this.#ledger.must("POST", `/sessions/${this.#id}/maps`, body);
    return { fd: fd as number, id: id as number };
  }
}

const CGROUPS = "/sys/fs/cgroup/unified";
const ONE = hex(u32(1));
const ZERO = hex(u32(0));

/** What a map of a type is created with, and an element that it gets; null: only programs write to it, or it is not mirrored. */
interface Row {
  readonly attr?: object;
  readonly inner?: true;
  readonly stored?: true;
  readonly element: ((open: (body: object) => Promise<number>) => Promise<object>) | null;
}

const plain: Row = { element: async () => ({ key: ZERO, value: ONE }) };
const line: Row = { attr: { key_size: 0 }, element: async () => ({ value: ONE }) };
const byPrograms = (attr: object): Row => ({ attr, element: null });
const slot = (body: object): Row => ({ element: async (open) => ({ key: ZERO, value: hex(u32(await open(body))) }) });
const stored = (body: object): Row => ({
  attr: { max_entries: 0, map_flags: BPF_F.BPF_F_NO_PREALLOC },
  stored: true,
  element: async (open) => ({ key: hex(u32(await open(body))), value: ONE }),
});
const ofMaps: Row = { inner: true, element: async (open) => ({ key: ZERO, value: hex(u32(await open({}))) }) };

const ROWS: Readonly<Record<Exclude<MapTypeName, "BPF_MAP_TYPE_UNSPEC">, Row>> = {
  BPF_MAP_TYPE_HASH: plain,
  BPF_MAP_TYPE_ARRAY: plain,
  BPF_MAP_TYPE_PERCPU_HASH: { element: null },
  BPF_MAP_TYPE_PERCPU_ARRAY: { element: null },
  BPF_MAP_TYPE_LRU_HASH: plain,
  BPF_MAP_TYPE_LRU_PERCPU_HASH: { element: null },
  BPF_MAP_TYPE_LPM_TRIE: {
    attr: { key_size: 8, map_flags: BPF_F.BPF_F_NO_PREALLOC },
    element: async () => ({ key: "080000000a000000", value: ONE }),
  },
  BPF_MAP_TYPE_ARRAY_OF_MAPS: ofMaps,
  BPF_MAP_TYPE_HASH_OF_MAPS: ofMaps,
  BPF_MAP_TYPE_QUEUE: line,
  BPF_MAP_TYPE_STACK: line,
  BPF_MAP_TYPE_BLOOM_FILTER: line,
  BPF_MAP_TYPE_DEVMAP: { element: async () => ({ key: ZERO, value: ONE }) },
  BPF_MAP_TYPE_DEVMAP_HASH: { element: async () => ({ key: ZERO, value: ONE }) },
  BPF_MAP_TYPE_CPUMAP: { element: async () => ({ key: ZERO, value: hex(u32(64)) }) },
  BPF_MAP_TYPE_PROG_ARRAY: slot({ kind: "prog", prog_type: "BPF_PROG_TYPE_XDP" }),
  BPF_MAP_TYPE_PERF_EVENT_ARRAY: slot({ kind: "perf_event" }),
  BPF_MAP_TYPE_CGROUP_ARRAY: slot({ kind: "cgroup", path: CGROUPS }),
  BPF_MAP_TYPE_SOCKMAP: slot({ kind: "tcp_connected" }),
  BPF_MAP_TYPE_SOCKHASH: slot({ kind: "tcp_connected" }),
  BPF_MAP_TYPE_XSKMAP: { element: null },
  BPF_MAP_TYPE_REUSEPORT_SOCKARRAY: {
    attr: { value_size: 8 },
    element: async (open) => ({ key: ZERO, value: hex(u64(await open({ kind: "udp_bound", reuseport: true }))) }),
  },
  BPF_MAP_TYPE_SK_STORAGE: stored({ kind: "tcp_idle" }),
  BPF_MAP_TYPE_INODE_STORAGE: stored({ kind: "file" }),
  BPF_MAP_TYPE_TASK_STORAGE: stored({ kind: "pidfd_self" }),
  BPF_MAP_TYPE_CGRP_STORAGE: stored({ kind: "cgroup", path: CGROUPS }),
  BPF_MAP_TYPE_CGROUP_STORAGE: byPrograms({ key_size: 16, max_entries: 0 }),
  BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE: byPrograms({ key_size: 16, max_entries: 0 }),
  BPF_MAP_TYPE_STACK_TRACE: byPrograms({ value_size: 8 }),
  BPF_MAP_TYPE_RINGBUF: byPrograms({ key_size: 0, value_size: 0, max_entries: 4096 }),
  BPF_MAP_TYPE_USER_RINGBUF: byPrograms({ key_size: 0, value_size: 0, max_entries: 4096 }),
  BPF_MAP_TYPE_ARENA: byPrograms({ key_size: 0, value_size: 0, map_flags: BPF_F.BPF_F_MMAPABLE }),
  BPF_MAP_TYPE_STRUCT_OPS: { element: null },
};

/** Types that the kernel wants CAP_NET_ADMIN for, besides CAP_BPF. */
const SENDING: ReadonlySet<string> = new Set(
  ["SOCKMAP", "SOCKHASH", "DEVMAP", "DEVMAP_HASH", "XSKMAP"].map((name) => `BPF_MAP_TYPE_${name}`),
);

/** A map of each type with an element; answers their `mirror`s by type. */
async function mapOfEachType(ledger: Ledger, withElements: boolean): Promise<Map<string, Json>> {
  const own = await session(ledger);
  const blob = new BtfBlob();
  const number = blob.int("u32", 4);
  const bytes = blob.bytes();
  const btf_fd = await own.bpf("BPF_BTF_LOAD", { btf: hex(bytes), btf_size: bytes.length });
  const described = { btf_fd, btf_key_type_id: number, btf_value_type_id: number };
  const inner = await own.map("BPF_MAP_TYPE_HASH", {});
  const ids = new Map<string, number>();
  for (const [name, { attr = {}, inner: isOuter, stored, element }] of Object.entries(ROWS)) {
    if (name === "BPF_MAP_TYPE_STRUCT_OPS") continue;
    const beside = { ...(isOuter === true && { inner_map_fd: inner.fd }), ...(stored === true && described) };
    const { fd, id } = await own.map(name as MapTypeName, { ...attr, ...beside });
    ids.set(name, id);
    if (element === null || !withElements) continue;
    const given = await element((body) => ("kind" in body ? own.fd(body) : Promise.resolve(inner.fd)));
    await own.bpf("BPF_MAP_UPDATE_ELEM", { map_fd: fd, ...given, flags: 0 });
  }
  const mirrors = new Map<string, Json>();
  for (const [name, id] of ids) mirrors.set(name, (await ledger.must("GET", `/maps/${id}`)).mirror as Json);
  return mirrors;
}

function run(bpf: Bpf): void {
  /** Some other program's map, pinned where only root may write, for all to open. */
  function strange(
    t: Test,
    point: string,
    name: string,
    given: Partial<typeof hash> = {},
    btfFd = 0,
    inner = 0,
  ): number {
    const described = btfFd === 0 ? {} : { btfKeyTypeId: 1, btfValueTypeId: 1 };
    const beside = { innerMapFd: inner, btfFd, btfKeyTypeId: 0, btfValueTypeId: 0, ...described };
    const fd = bpf.create({ ...hash, name: "strange", ...given }, beside);
    if (fd < 0) throw new Error(`creating a map: ${fd}`);
    t.teardown(() => bpf.close(fd));
    if (bpf.pin(fd, join(point, name)) < 0) throw new Error(`pinning ${name}`);
    chmodSync(join(point, name), 0o666);
    return fd;
  }

  function kernelId(fd: number): number {
    const info = bpf.infoByFd(fd);
    if (typeof info === "number") throw new Error(`info of fd ${fd}: ${info}`);
    return info.id;
  }

  t.test("with three capabilities a map of every type has its kernel map, with its elements", async (t) => {
    const ledger = new OwnUser(t);
    await ledger.begin();
    const mirrors = await mapOfEachType(ledger, true);
    for (const [name, mirror] of mirrors) t.match(mirror, { state: "on" }, name);
    t.equal(mirrors.size, Object.keys(ROWS).length - 1, "but for struct_ops, which no mirror makes");
    t.same(await ledger.events("MIRROR_REFUSED"), []);
    const fd = bpf.get(String(mirrors.get("BPF_MAP_TYPE_HASH")?.pinned));
    const value = Buffer.alloc(4);
    t.equal(bpf.lookup(fd, u32(0), value), 0);
    t.same(value, u32(1), "the kernel map has the element");
    bpf.close(fd);
  });

  t.test("it goes through its life as root's does, and leaves nothing behind", async (t) => {
    const ledger = new OwnUser(t);
    await ledger.begin();
    const own = await session(ledger);
    const { id, fd } = await own.map("BPF_MAP_TYPE_HASH", { value_size: 8, map_name: "routes" });
    await ledger.put(id, 1, 42);
    await own.bpf("BPF_OBJ_PIN", { bpf_fd: fd, pathname: "/sys/fs/bpf/routes" });
    const pin = join(ledger.root, "routes");
    t.ok(existsSync(pin));
    const before = (await ledger.must("GET", `/maps/${id}`)).mirror as Json;
    await ledger.end("SIGKILL");
    await ledger.begin();
    t.match((await ledger.must("GET", `/maps/${id}`)).mirror, {
      state: "on",
      kernel_id: before.kernel_id,
      equal: "yes",
    });
    await ledger.put(id, 2, 43);
    t.same(await ledger.elements(id), { 1: 42, 2: 43 });
    const held = bpf.get(pin);
    const value = Buffer.alloc(8);
    bpf.lookup(held, u32(2), value);
    bpf.close(held);
    t.equal(value.readBigUInt64LE(), 43n, "what programs use has gone on");
    await ledger.stop();
    t.notOk(existsSync(join(ledger.data, "mapledger.sock")));
    t.same(processesOf(), []);
    const words = ["mirror", "leave", "--unpin", "--data", ledger.data, "--bpffs", ledger.root];
    t.match(await ranAs(ledger.run, { NODE_COMPILE_CACHE: compiled }, ...words), { code: 0, stderr: "" });
    t.notOk(existsSync(pin));
    t.notOk(existsSync(join(ledger.root, "owner")));
  });

  t.test("what takes more is refused, and named: 403, never an empty list", async (t) => {
    const ledger = new OwnUser(t);
    await ledger.begin();
    const { point } = ledger;
    const admin = { status: 403, json: { errno: "EPERM", detail: /: EPERM: it needs CAP_SYS_ADMIN$/ } };
    t.match(await ledger.ask("GET", "/kernel/maps"), admin);
    t.match(await ledger.must("GET", "/mirror"), {
      state: "on",
      unknown: [/^who holds kernel maps, .*: listing kernel maps: EPERM: it needs CAP_SYS_ADMIN$/],
    });
    const plain = strange(t, point, "plain");
    bpf.update(plain, u32(1), u64(7));
    t.match(await ledger.ask("POST", "/maps/adopt", { kernel_id: kernelId(plain) }), admin);
    t.match(await ledger.ask("POST", "/maps/adopt", { kernel_id: 2 ** 31 }), admin, "whether there is one or not");
    const { map } = await ledger.must("POST", "/maps/adopt", { pinned: join(point, "plain") });
    t.match((map as Json).mirror, { state: "on", kernel_id: kernelId(plain) });
    const { id } = map as { id: number };
    t.same(await ledger.elements(id), { 1: 7 }, "by its pin it can be had");
    await until("its holders have been looked at", async () => {
      const { mirror } = (await ledger.must("GET", `/maps/${id}`)) as { mirror: Json };
      return mirror.held === "unknown" && /needs CAP_SYS_ADMIN/.test(String(mirror.detail));
    });
    const blob = new BtfBlob();
    blob.int("u32", 4);
    const btf = bpf.loadBtf(blob.bytes());
    t.teardown(() => bpf.close(btf));
    strange(t, point, "described", { valueSize: 4 }, btf);
    t.match(await ledger.ask("POST", "/maps/adopt", { pinned: join(point, "described") }), {
      ...admin,
      json: { detail: /reading the BTF of .*: EPERM: it needs CAP_SYS_ADMIN$/ },
    });
    const outer = strange(t, point, "outer", { type: BPF_MAP_TYPE.BPF_MAP_TYPE_ARRAY_OF_MAPS, valueSize: 4 }, 0, plain);
    const other = strange(t, point, "inner");
    bpf.update(outer, u32(0), u32(other));
    t.match(await ledger.ask("POST", "/maps/adopt", { pinned: join(point, "outer") }), admin);
    const programs = strange(t, point, "programs", { type: BPF_MAP_TYPE.BPF_MAP_TYPE_PROG_ARRAY, valueSize: 4 });
    const program = openRealObject(bpf, { kind: "prog", progType: BPF_PROG_TYPE.BPF_PROG_TYPE_XDP });
    if (!("facts" in program)) throw new Error("loading a program");
    t.teardown(() => bpf.close(program.fd));
    t.equal(bpf.update(programs, u32(0), u32(program.fd)), 0);
    t.match(await ledger.ask("POST", "/maps/adopt", { pinned: join(point, "programs") }), admin);
    strange(t, point, "closed");
    chmodSync(join(point, "closed"), 0o600);
    t.match(await ledger.ask("POST", "/maps/adopt", { pinned: join(point, "closed") }), {
      status: 403,
      json: { errno: "EACCES", detail: /: EACCES: it needs CAP_DAC_OVERRIDE$/ },
    });
  });

  t.test("an owner's pin that is closed to the service is neither gone nor there", async (t) => {
    const ledger = new OwnUser(t);
    await ledger.begin();
    const place = join(ledger.point, "theirs");
    mkdirSync(place);
    chmodSync(place, 0o755);
    strange(t, place, "plain");
    const { map } = (await ledger.must("POST", "/maps/adopt", { pinned: join(place, "plain") })) as { map: Json };
    const mirror = async () => (await ledger.must("GET", `/maps/${map.id}`)).mirror as Json;
    chmodSync(place, 0o700);
    // Other places of the host's may be closed to it, too.
    await until("the watch has looked", async () =>
      /theirs\/plain is not known: reading it: EACCES: it needs CAP_DAC_READ_SEARCH/.test(
        String((await mirror()).detail),
      ),
    );
    t.match(await mirror(), { state: "on" });
    await until("it is an event", async () => (await ledger.events("MIRROR_FOUND")).length > 0);
    t.match(await ledger.events("MIRROR_FOUND"), [{ attr: { what: "pin closed", path: join(place, "plain") } }]);
    chmodSync(place, 0o755);
    await until("it is seen again", async () => !/is not known: reading it/.test(String((await mirror()).detail)));
  });

  t.test("objects that take more are refused, each with its capability", async (t) => {
    const ledger = new OwnUser(t, THREE, { MAPLEDGER_OPEN_ROOTS: "/sys/fs/bpf:/sys/fs/cgroup:/root:/tmp" });
    await ledger.begin();
    const own = await session(ledger);
    const closed = mkdtempSync(join(tmpdir(), "mapledger-closed-"));
    t.teardown(() => rmSync(closed, { recursive: true }));
    const needs = (capability: string, errno = "EPERM") => ({
      status: 403,
      json: { errno, detail: new RegExp(`: ${errno}: it needs ${capability}$`) },
    });
    for (const [body, answer] of [
      [{ kind: "xsk" }, needs("CAP_NET_RAW")],
      [{ kind: "prog", id: 1 }, needs("CAP_SYS_ADMIN")],
      [{ kind: "cgroup" }, needs("CAP_DAC_OVERRIDE", "EACCES")],
      [{ kind: "file", path: join(closed, "f") }, needs("CAP_DAC_READ_SEARCH", "EACCES")],
      [{ kind: "dir", path: closed }, needs("CAP_DAC_READ_SEARCH", "EACCES")],
      [{ kind: "pidfd", pid: process.pid }, { status: 201 }],
      [{ kind: "perf_event" }, { status: 201 }],
      [{ kind: "prog", prog_type: "BPF_PROG_TYPE_KPROBE" }, { status: 201 }],
      [{ kind: "prog", prog_type: "BPF_PROG_TYPE_XDP" }, { status: 201 }],
      [{ kind: "cgroup", path: CGROUPS }, { status: 201 }],
    ] as const)
      t.match(await own.open(body), answer, JSON.stringify(body));
  });

  t.test("processes that /proc hides are neither looked at nor taken for gone", async (t) => {
    const ledger = new OwnUser(t);
    await ledger.begin();
    const socket = join(ledger.data, "mapledger.sock");
    const child = spawn("sleep", ["600"], { stdio: "ignore" });
    t.teardown(() => child.kill("SIGKILL"));
    const bound = await ask(socket, "POST", "/v1/sessions", { process: { pid: child.pid } });
    t.match(bound, { status: 201 });
    const blob = new BtfBlob();
    const number = blob.int("u32", 4);
    const own = await session(ledger);
    const btf_fd = await own.bpf("BPF_BTF_LOAD", { btf: hex(blob.bytes()), btf_size: blob.bytes().length });
    const described = { btf_fd, btf_key_type_id: number, btf_value_type_id: number };
    const attr = { max_entries: 0, map_flags: BPF_F.BPF_F_NO_PREALLOC, ...described };
    const { id, fd } = await own.map("BPF_MAP_TYPE_TASK_STORAGE", attr);
    const key = hex(u32(await own.fd({ kind: "pidfd", pid: child.pid })));
    await own.bpf("BPF_MAP_UPDATE_ELEM", { map_fd: fd, key, value: ONE, flags: 0 });
    const elements = async () => (await ledger.must("GET", `/maps/${id}/elements`)).elements as Json[];
    t.equal((await elements()).length, 1);
    await ledger.stop();
    await ledger.begin("required", withHiddenProcesses(ledger.run));
    t.match(await ask(socket, "GET", `/v1/sessions/${bound.id}`), { status: 200, process: { pid: child.pid } });
    t.equal((await elements()).length, 1);
    const hidden = { type: "urn:mapledger:problem:process-hidden", detail: /: EPERM: it needs CAP_SYS_PTRACE$/ };
    for (const asked of ["peer", { pid: child.pid }])
      t.match(await ask(socket, "POST", "/v1/sessions", { process: asked }), { status: 403, ...hidden });
    t.match(await own.open({ kind: "pidfd", pid: child.pid }), { status: 403, json: { detail: hidden.detail } });
    child.kill("SIGKILL");
    await until(
      "its session has ended",
      async () => (await ask(socket, "GET", `/v1/sessions/${bound.id}`)).status === 410,
    );
    await until("its element is gone", async () => (await elements()).length === 0);
  });

  t.test("CAP_BPF alone: kernel maps that packets are sent by are refused with CAP_NET_ADMIN", async (t) => {
    const ledger = new OwnUser(t, ["bpf"]);
    await ledger.begin();
    for (const [name, mirror] of await mapOfEachType(ledger, false))
      if (!SENDING.has(name)) t.match(mirror, { state: "on" }, name);
      else
        t.match(mirror, {
          state: "failed",
          operation: "BPF_MAP_CREATE",
          errno: "EPERM",
          detail: "creating the kernel map: EPERM: it needs CAP_NET_ADMIN",
        });
    const own = await session(ledger);
    const zeroSeed = { map_flags: BPF_F.BPF_F_ZERO_SEED };
    const { id } = await own.map("BPF_MAP_TYPE_HASH", zeroSeed);
    t.match((await ledger.must("GET", `/maps/${id}`)).mirror, { state: "failed", detail: /it needs CAP_SYS_ADMIN$/ });
    for (const [body, capability] of [
      [{ kind: "perf_event" }, "CAP_PERFMON"],
      [{ kind: "prog", prog_type: BPF_PROG_TYPE.BPF_PROG_TYPE_KPROBE }, "CAP_PERFMON"],
      [{ kind: "prog", prog_type: BPF_PROG_TYPE.BPF_PROG_TYPE_XDP }, "CAP_NET_ADMIN"],
    ] as const)
      t.match(await own.open(body), { status: 403, json: { detail: new RegExp(`it needs ${capability}$`) } });
  });

  t.test("without any capability the mirror is off, and says why; required, the service does not start", async (t) => {
    const ledger = new OwnUser(t, []);
    await ledger.begin("auto");
    t.match(await ledger.must("GET", "/mirror"), {
      state: "off",
      detail: /^bpf\(2\) is refused: EPERM: it needs CAP_BPF/,
    });
    t.match(await ledger.ask("GET", "/kernel/maps"), { status: 403, json: { detail: /it needs CAP_SYS_ADMIN$/ } });
    for (const which of [{ kernel_id: 1 }, { pinned: "/sys/fs/bpf/x" }])
      t.match(await ledger.ask("POST", "/maps/adopt", which), { status: 403, json: { detail: /needs CAP_BPF/ } });
    const own = await session(ledger);
    const { id } = await own.map("BPF_MAP_TYPE_HASH", { value_size: 8 });
    await ledger.put(id, 1, 42);
    t.same(await ledger.elements(id), { 1: 42 }, "the ledger does without");
    t.match((await ledger.must("GET", `/maps/${id}`)).mirror, { state: "off", detail: /CAP_BPF/ });
    await ledger.stop();
    await t.rejects(ledger.begin("required"), /the mirror is required: bpf\(2\) is refused: EPERM: it needs CAP_BPF/);
  });

  t.test("a replay into the kernel leaves out what takes more, and names it", async (t) => {
    const ledger = new OwnUser(t, ["bpf"], { MAPLEDGER_REPLAY_TARGETS: "kernel" });
    await ledger.begin();
    const own = await session(ledger);
    await own.map("BPF_MAP_TYPE_DEVMAP", {});
    const { id, fd } = await own.map("BPF_MAP_TYPE_HASH", { value_size: 8 });
    await own.bpf("BPF_MAP_GET_FD_BY_ID", { map_id: id });
    await ledger.put(id, 1, 42);
    await own.bpf("BPF_OBJ_PIN", { bpf_fd: fd, pathname: "/sys/fs/bpf/routes" });
    // The pin that the replay makes stays.
    t.teardown(() => {
      for (const name of readdirSync(BPFFS).filter((name) => name.startsWith("mapledger_replay_")))
        if (statSync(join(BPFFS, name)).uid === USER) rmSync(join(BPFFS, name), { recursive: true });
    });
    const { id: replay } = await ledger.must("POST", "/replays", { target: "kernel" });
    const job = async () => await ledger.must("GET", `/replays/${replay}`);
    await until("the replay is over", async () => (await job()).state !== "running");
    const found = JSON.stringify(await job());
    t.match(found, /needs CAP_NET_ADMIN/);
    t.match(found, /needs CAP_SYS_ADMIN/);
    t.match(await job(), { differences: [] });
  });

  t.test("a bpffs of the service's own, by uid= and gid=, is as good as a directory", async (t) => {
    const ledger = new OwnUser(t);
    await ledger.begin("required", withOwnBpffs(ledger.root, ledger.run));
    const own = await session(ledger);
    const { id } = await own.map("BPF_MAP_TYPE_HASH", { value_size: 8 });
    await ledger.put(id, 1, 42);
    t.match((await ledger.must("GET", `/maps/${id}`)).mirror, { state: "on", equal: "yes" });
    t.match(await ledger.must("GET", "/mirror"), { directory: join(ledger.root, "mapledger") });
    t.same(readdirSync(ledger.root), [], "nobody else sees it");
    await ledger.stop();
    t.same(processesOf(), []);
  });

  t.test("where pins cannot be made, the sentence says what root has to do", async (t) => {
    const point = mounted(t);
    const ledger = new OwnUser(t, THREE, {}, point);
    rmSync(ledger.root, { recursive: true });
    await ledger.begin("auto");
    t.match(await ledger.must("GET", "/mirror"), {
      state: "off",
      detail: new RegExp(`is closed to uid ${USER} .*install -d -o ${USER} DIRECTORY`),
    });
  });

  t.test("`mapledger mirror leave` names directories that it could not read", async (t) => {
    const ledger = new OwnUser(t);
    await ledger.begin();
    await ledger.stop();
    const closed = join(ledger.root, "theirs");
    mkdirSync(closed);
    chmodSync(closed, 0o700);
    const words = ["mirror", "leave", "--data", ledger.data, "--bpffs", ledger.root];
    t.match(await ranAs(ledger.run, { NODE_COMPILE_CACHE: compiled }, ...words), {
      stdout: /theirs: EACCES: it needs CAP_DAC_READ_SEARCH/,
    });
    t.match(await mapledgerIn({}, ...words), { code: 0 });
  });
}

const bpf = openBpf();
const unfit = "off" in bpf ? bpf.off : unfitForUsers();
if (unfit === null) give(compiled);
if (unfit !== null || "off" in bpf) t.pass(`SKIP: ${unfit}`);
else run(bpf);
