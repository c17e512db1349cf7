import type { Worker } from "node:worker_threads";
import { createAttr } from "../engine/create_attr.ts";
import type { MirrorRefusal } from "../engine/ports.ts";
import type { Host, MapRecord } from "../maps/map.ts";
import { mapType } from "../maps/types.ts";
import type { Bpf } from "../native/bpf.ts";
import { AskedThread } from "../supervisor/asked_thread.ts";
import { type Created, createKernelMap, type Wanted } from "./make.ts";
import { type Cpus, mirrored } from "./map_types.ts";
import { MAP_MAKER, type MakerProtocol } from "./protocol.ts";

/**
 * Makes kernel maps outside of the engine's thread: those that allocate more than 4 MiB, or have BTF. The kernel takes
 * a second for 250 MiB, and with BTF as long as its checks take. Such a map is `waiting` until then, and its creation
 * is answered afterwards; at a start, when nobody waits, all maps are made in the engine's thread.
 */
export interface MapMaker {
  make(wanted: Wanted): Promise<Created | MirrorRefusal>;
  close(): Promise<void>;
}

/** The kernel allocates this much in about 20 ms. */
const QUICK_BYTES = 4 * 1024 * 1024;

/** Whether the kernel may take long to make this map. */
export function takesLong(map: MapRecord, host: Host): boolean {
  if (map.btf !== null) return true;
  return (mapType(map.type)?.allocatedBytes(createAttr(map, 0, 0), host) ?? 0) > QUICK_BYTES;
}

/** Carries out a request in the maker's thread. */
export function makeFor(bpf: Bpf, cpus: Cpus, wanted: Wanted): Created | MirrorRefusal {
  const type = mirrored(wanted.map, cpus);
  if (typeof type === "string") throw new Error(type);
  const { btf } = wanted;
  return createKernelMap({ bpf, cpus }, type, { ...wanted, btf: btf === null ? null : Buffer.from(btf) });
}

/** The maker as a thread. Its descriptors belong to the process, and stay open if the thread ends. */
export class ThreadedMapMaker implements MapMaker {
  readonly #thread: AskedThread<MakerProtocol>;

  constructor(start: () => Worker, report: (message: string) => void) {
    this.#thread = new AskedThread(MAP_MAKER, { start, report, listeners: {}, answers: {}, onDemand: true });
  }

  make(wanted: Wanted): Promise<Created | MirrorRefusal> {
    return this.#thread.ask("make", { wanted });
  }

  close(): Promise<void> {
    return this.#thread.close();
  }
}
