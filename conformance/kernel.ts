import { mkdirSync, mkdtempSync, readdirSync, rmdirSync, statSync, unlinkSync } from "node:fs";
import { join } from "node:path";
import { BPF_ATTR_BYTES } from "../src/abi/attr.ts";
import { BPF_CMD } from "../src/abi/bpf.ts";
import { errnoName } from "../src/abi/errno.ts";
import type { DoorRequest } from "../src/codec/door.ts";
import { DoorPacker } from "../src/mirror/door_attr.ts";
import { DEFAULT_PLACES, openRealObject, type RealObject } from "../src/mirror/real_objects.ts";
import { errnoOf } from "../src/mirror/refusal.ts";
import { Bpf } from "../src/native/bpf.ts";
import { Guarded } from "../src/native/guard_pages.ts";
import { openBpf } from "../src/native/probe.ts";
import { mapped } from "../src/native/shared_mapping.ts";
import type { ObjectSpec } from "../src/syscall/command.ts";
import { BPFFS } from "../test/support/bpffs.ts";
import type { Answer, MemoryAnswer, Raw, Subject } from "./subject.ts";

interface Natives {
  readonly bpf: Bpf;
  readonly memory: Guarded;
}

let loaded: Natives | null = null;

/** Loaded once: the guarded memory serves every kernel subject, one after the other. */
function natives(): Natives {
  if (loaded !== null) return loaded;
  const bpf = openBpf();
  if (!(bpf instanceof Bpf)) throw new Error(`opening bpf(2): ${bpf.off}`);
  loaded = { bpf, memory: new Guarded(bpf) };
  return loaded;
}

/** The running kernel: bpf(2) on real buffers, in this process. */
export class Kernel implements Subject {
  readonly directory = mkdtempSync(join(BPFFS, "mlcon"));
  readonly takesRaw = true;
  readonly ownsIds = false;
  readonly #bpf: Bpf;
  readonly #memory: Guarded;
  readonly #packer: DoorPacker;
  readonly #open = new Set<number>();
  readonly #objects: RealObject[] = [];

  constructor(possibleCpus: number) {
    const { bpf, memory } = natives();
    this.#bpf = bpf;
    this.#memory = memory;
    this.#packer = new DoorPacker(bpf, memory, possibleCpus);
  }

  bpf({ cmd, attr = {} }: DoorRequest, raw: Raw = {}): Answer {
    const number = typeof cmd === "number" ? cmd : BPF_CMD[cmd as keyof typeof BPF_CMD];
    const size = raw.size ?? BPF_ATTR_BYTES;
    const call = this.#packer.pack(cmd as string, attr, size);
    if (raw.badPath) call.attr.writeBigUInt64LE(this.#memory.put("path", Buffer.alloc(0)), 0);
    for (const [offset, hex] of Object.entries(raw.poke ?? {})) Buffer.from(hex, "hex").copy(call.attr, Number(offset));
    const { address, bytes } = this.#memory.room("attr", size);
    call.attr.copy(bytes);
    const answer = answered(this.#bpf.bpfAt(number, raw.nullAttr ? null : address, size));
    bytes.copy(call.attr);
    if (answer.errno === null && OPENS.has(cmd as string)) this.#packer.openedMap(answer.ret);
    if (answer.errno === null && OPENS_BTF.has(cmd as string)) this.#packer.openedBtf(answer.ret);
    if (answer.errno === null && answer.ret > 0) this.#open.add(answer.ret);
    return { ...answer, attr: raw.nullAttr ? {} : call.outputs(answer.errno) };
  }

  close(fd: number): Answer {
    this.#open.delete(fd);
    this.#packer.closed(fd);
    return answered(this.#bpf.close(fd));
  }

  dup(fd: number): Answer {
    const answer = answered(this.#bpf.libc("dup", fd));
    if (answer.errno === null) {
      this.#open.add(answer.ret);
      this.#packer.duplicated(fd, answer.ret);
    }
    return answer;
  }

  open(spec: ObjectSpec): Answer {
    const object = openRealObject(this.#bpf, spec);
    if (!("facts" in object)) return { ...answered(object.ret), detail: object.detail };
    this.#objects.push(object);
    this.#open.add(object.fd);
    this.#packer.openedOther(object.fd);
    return { ret: object.fd, errno: null, attr: {}, facts: object.facts };
  }

  mapMemory(fd: number, offset: number, length: number, writable: boolean): string | null {
    const ret = mapped(this.#bpf, fd, { offset, length, writable }, () => {});
    return ret < 0 ? errnoName(-ret) : null;
  }

  readMemory(fd: number, offset: number, length: number): MemoryAnswer {
    let data = "";
    const ret = mapped(this.#bpf, fd, { offset, length, writable: false }, (bytes) => {
      data = bytes.toString("hex");
    });
    return { errno: ret < 0 ? errnoName(-ret) : null, data };
  }

  writeMemory(fd: number, offset: number, data: string): MemoryAnswer {
    const stored = Buffer.from(data, "hex");
    const access = { offset, length: stored.length, writable: true };
    const ret = mapped(this.#bpf, fd, access, (bytes) => stored.copy(bytes));
    return { errno: ret < 0 ? errnoName(-ret) : null, data: "" };
  }

  changePath(call: "unlink" | "mkdir" | "rmdir", pathname: string): Answer {
    const calls = { unlink: unlinkSync, mkdir: mkdirSync, rmdir: rmdirSync };
    return answered(errnoOf(() => calls[call](pathname)));
  }

  removeCgroup(fd: number): void {
    const object = this.#objects.findLast((object) => object.fd === fd);
    if (object !== undefined) removeMade(object);
  }

  settle(ms = SETTLE_MS): boolean {
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
    return true;
  }

  end(): void {
    for (const fd of [...this.#open]) this.close(fd);
    for (const object of this.#objects) {
      for (const other of object.others) this.#bpf.close(other);
      removeMade(object);
    }
    for (const name of readdirSync(this.directory, { recursive: true, encoding: "utf8" }).sort().reverse()) {
      const path = join(this.directory, name);
      if (statSync(path).isDirectory()) rmdirSync(path);
      else unlinkSync(path);
    }
    rmdirSync(this.directory);
  }
}

/** A grace period of RCU, and then some. */
const SETTLE_MS = 10;
const OPENS_BTF = new Set(["BPF_BTF_LOAD", "BPF_BTF_GET_FD_BY_ID"]);
const OPENS = new Set(["BPF_MAP_CREATE", "BPF_MAP_GET_FD_BY_ID", "BPF_OBJ_GET"]);

function answered(ret: number): Answer {
  return ret < 0 ? { ret: -1, errno: errnoName(-ret), attr: {} } : { ret, errno: null, attr: {} };
}

function removeMade({ made }: RealObject): void {
  if (made !== null) DEFAULT_PLACES.cgroups.remove(made);
}
