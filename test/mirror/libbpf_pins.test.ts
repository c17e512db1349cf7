import { execFileSync } from "node:child_process";
import { mkdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import t, { type Test } from "tap";
import { BPF_MAP_TYPE, mapTypeName } from "../../src/abi/bpf.ts";
import type { Bpf } from "../../src/native/bpf.ts";
import { openBpf } from "../../src/native/probe.ts";
import { BtfBlob } from "../btf/btf_blob.ts";
import { BPFFS, unfitForKernel } from "../support/bpffs.ts";
import { hex, type Json, Ledger } from "../support/ledger.ts";
import { type Definition, type Libbpf, openLibbpf } from "../support/libbpf.ts";
import { OWN_NAME } from "../support/own_name.ts";
import { bare } from "../support/service_process.ts";

/** libbpf takes a mirrored map for the one that an object pins by its name, wherever it takes its own. */

const OBJECT = join(import.meta.dirname, "../fixtures/pinned_maps.bpf.o");

/** They are made with the BTF of their values alone. */
const STORAGE: ReadonlySet<number> = new Set([
  BPF_MAP_TYPE.BPF_MAP_TYPE_SK_STORAGE,
  BPF_MAP_TYPE.BPF_MAP_TYPE_INODE_STORAGE,
  BPF_MAP_TYPE.BPF_MAP_TYPE_TASK_STORAGE,
  BPF_MAP_TYPE.BPF_MAP_TYPE_CGRP_STORAGE,
]);

/**
 * Of the fixture's maps those that libbpf need not take again even if it has made them itself: the kernel shows other
 * max_entries, or map_flags, than it was given.
 */
const CHANGED_BY_KERNEL: ReadonlySet<string> = new Set(["lru_rounded", "devmap", "devmap_hash"]);

/** What a map is in the ledger, and its kernel map. */
interface Mirrored {
  readonly map: number;
  readonly kernelId: number;
}

function run(bpf: Bpf, libbpf: Libbpf): void {
  const definitions = libbpf.definitions(OBJECT);

  function kernelId(fd: number): number {
    const info = bpf.infoByFd(fd);
    if (typeof info === "number") throw new Error(`asking for the kernel's id of a map: ${info}`);
    return info.id;
  }

  /** Makes a map of a definition in the ledger, pinned by its name. */
  async function mirrored(ledger: Ledger, session: string, name: string, definition: Definition): Promise<Mirrored> {
    const body = { ...bodyOf(definition), map_name: name };
    const made = await ledger.must("POST", `${session}/maps`, {
      ...body,
      ...(definition.inner === null
        ? {}
        : { inner_map_fd: (await ledger.must("POST", `${session}/maps`, bodyOf(definition.inner))).fd }),
      ...(STORAGE.has(definition.type) ? await described(ledger, session) : {}),
    });
    await ledger.must("POST", `${session}/fds/${made.fd}/pin`, { pathname: `/sys/fs/bpf/${name}` });
    return { map: made.map_id as number, kernelId: await kernelIdOf(ledger, made.map_id as number) };
  }

  async function kernelIdOf(ledger: Ledger, map: number): Promise<number> {
    const { mirror } = (await ledger.must("GET", `/maps/${map}`)) as { mirror: Json };
    if (mirror.state !== "on") throw new Error(`the mirror of map ${map}: ${JSON.stringify(mirror)}`);
    return mirror.kernel_id as number;
  }

  /** What libbpf does with the map that is pinned: the errno that it refuses it with, or whether it is the one. */
  function taken(root: string, name: string, wanted: number): number | "the same" | "another" {
    const found = libbpf.load(OBJECT, root, name, kernelId);
    if (found < 0) return found;
    return found === wanted ? "the same" : "another";
  }

  t.test("libbpf takes a mirrored map of every type, where it takes the one that it has made itself", async (t) => {
    const own = ownDirectory(t);
    const ledger = new Ledger(t, "libbpf");
    await ledger.start();
    const session = `/sessions/${(await ledger.must("POST", "/sessions", { ttl_seconds: 3600 })).id}`;
    const made = new Map<string, Mirrored>();
    for (const [name, definition] of definitions) {
      const first = libbpf.load(OBJECT, own, name, kernelId);
      if (first < 0) {
        t.comment(`libbpf makes no ${name} here: ${first}`);
        continue;
      }
      const native = taken(own, name, first);
      if (!CHANGED_BY_KERNEL.has(name)) t.equal(native, "the same", `${name} that libbpf has made`);
      const ours = await mirrored(ledger, session, name, definition);
      made.set(name, ours);
      t.equal(taken(ledger.root, name, ours.kernelId), native, `${name} that is mirrored`);
    }
    await ledger.stop();
    await ledger.start();
    for (const [name, { map, kernelId }] of made)
      t.equal(await kernelIdOf(ledger, map), kernelId, `${name} is the same kernel map for the next start`);
    t.same(await ledger.events("MIRROR_REFUSED"), []);
  });

  t.test("libbpf takes no roomy LRU map", async (t) => {
    const ledger = new Ledger(t, "roomy");
    await ledger.start();
    const session = `/sessions/${(await ledger.must("POST", "/sessions", { ttl_seconds: 3600 })).id}`;
    for (const name of ["lru_hash", "lru_lists", "lru_percpu"]) {
      const body = { ...bodyOf(definitions.get(name) as Definition), map_name: name, mirror_shape: "roomy" };
      const { fd, map_id } = await ledger.must("POST", `${session}/maps`, body);
      await ledger.must("POST", `${session}/fds/${fd}/pin`, { pathname: `/sys/fs/bpf/${name}` });
      t.ok(Number(taken(ledger.root, name, await kernelIdOf(ledger, map_id as number))) < 0, name);
    }
  });

  t.test("libbpf finds the maps below its default pin root, if MAPLEDGER_BPFFS is /sys/fs/bpf", async (t) => {
    const bodies = [...definitions]
      .filter(([name, { type, inner }]) => !CHANGED_BY_KERNEL.has(name) && !STORAGE.has(type) && inner === null)
      .map(([name, definition]) => [name, bodyOf(definition)]);
    const script = new URL("../support/default_pin_root.ts", import.meta.url).pathname;
    const command = `mount -t bpf bpf ${BPFFS} && exec "$0" "$@"`;
    const told = JSON.stringify(Object.fromEntries(bodies));
    const args = ["--mount", "sh", "-c", command, process.execPath, script, OBJECT, told];
    const out = execFileSync("unshare", args, { encoding: "utf8", env: bare(process.env) });
    const ids = JSON.parse(out) as Record<string, { ours: number; libbpf: number }>;
    t.equal(Object.keys(ids).length, bodies.length);
    for (const [name, { ours, libbpf: found }] of Object.entries(ids)) t.equal(found, ours, name);
  });

  t.test("the object has a map of every type that a program can pin", async (t) => {
    const types = new Set([...definitions.values()].map(({ type }) => type));
    const missing = Object.values(BPF_MAP_TYPE).filter((type) => type !== 0 && !types.has(type));
    t.same(missing.map(mapTypeName), ["BPF_MAP_TYPE_STRUCT_OPS"]);
  });
}

/** A directory of libbpf's own. */
function ownDirectory(t: Test): string {
  const own = `${BPFFS}/mllibbpf${OWN_NAME}`;
  mkdirSync(own);
  t.teardown(() => rmSync(own, { recursive: true }));
  return own;
}

function bodyOf({ type, keySize, valueSize, maxEntries, mapFlags }: Definition): object {
  return {
    map_type: type,
    key_size: keySize,
    value_size: valueSize,
    max_entries: maxEntries,
    map_flags: mapFlags,
  };
}

async function described(ledger: Ledger, session: string): Promise<object> {
  const blob = new BtfBlob();
  const ids = { btf_key_type_id: blob.int("int", 4), btf_value_type_id: blob.int("u64", 8) };
  const btf = blob.bytes();
  const loaded = await ledger.must("POST", `${session}/bpf`, {
    cmd: "BPF_BTF_LOAD",
    attr: { btf: hex(btf), btf_size: btf.length },
  });
  return { btf_fd: loaded.ret, ...ids };
}

const libbpf = openLibbpf();
const reason = unfitForKernel() ?? (typeof libbpf === "string" ? libbpf : null);
if (reason !== null) t.pass("libbpf", { skip: reason });
else run(openBpf() as Bpf, libbpf as Libbpf);
