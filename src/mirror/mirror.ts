import { existsSync } from "node:fs";
import type { Mirror } from "../engine/ports.ts";
import type { Host } from "../maps/map.ts";
import { openBpf, probe } from "../native/probe.ts";
import { KernelMirror } from "./kernel_mirror.ts";
import type { MapMaker } from "./map_maker.ts";
import { openPlaces } from "./real_objects.ts";

export interface MirrorOptions {
  /** `off`: the mirror stays off. Otherwise it is on as soon as the machine allows it. */
  readonly mode: "auto" | "off" | "required";
  /** The setting MAPLEDGER_BPFFS: a directory on bpffs. It need not exist, but the bpffs must be mounted. */
  readonly bpffs: string;
  /** The data directory, which is part of the mark. */
  readonly data: string;
  /** The setting MAPLEDGER_OPEN_ROOTS. */
  readonly openRoots: string;
  readonly host: Host;
  /** The number of CPUs that the machine may have; `host` has the ledger's. */
  readonly machineCpus: number;
  /** Makes kernel maps that take the kernel long. */
  readonly maker: () => MapMaker | null;
}

/** Makes the mirror. It is off until `begin`. */
export function openMirror({ mode, bpffs, data, openRoots, host, machineCpus, maker }: MirrorOptions): Mirror {
  if (mode === "off") return disabledMirror("the mirror is switched off by its setting");
  const bpf = openBpf();
  if ("off" in bpf) return disabledMirror(bpf.off);
  const unfit = (): string | null => (existsSync("/proc/self/fdinfo") ? probe(bpf) : NO_PROCFS);
  const nowMs = (): number => performance.now();
  const places = openPlaces({ data, openRoots });
  return new KernelMirror({ bpf, root: bpffs, host, machineCpus, data, places, unfit, nowMs, maker: maker() });
}

const NO_PROCFS = "no procfs is mounted at /proc: whether a map is frozen cannot be told without it";

/** A mirror that is always off. */
export function disabledMirror(reason: string): Mirror {
  return {
    follows: false,
    off: reason,
    owner: null,
    carried: null,
    begin: () => reason,
    takeOver: () => reason,
    place: () => null,
    takeUpObjects() {},
    ensureDirectories: () => [],
    open: () => ({ opening: "none", refusals: [] }),
    recreate: () => [],
    catchUp: () => [],
    takenUp() {},
    reached() {},
    identify() {},
    dropStale: () => [],
    openObject: () => null,
    heldObject: (facts) => ({ found: { facts }, keep() {}, drop() {} }),
    endedObjects: () => [],
    apply: () => [],
    making: () => null,
    kernelId: () => null,
    traits: () => ({ compared: false, evicts: false }),
    // biome-ignore lint/correctness/useYield: it answers without a piece
    *scan() {
      return { untold: reason };
    },
    look: () => undefined,
    shown: () => null,
    lacks: (_map, changed) => changed,
    isPending: () => false,
    write: () => [],
    // biome-ignore lint/correctness/useYield: it answers without a piece
    *kernelMaps() {
      return { refused: { errno: "EOPNOTSUPP", detail: reason } };
    },
    adopting: () => ({ refused: { errno: "EOPNOTSUPP", detail: reason } }),
    cannotImport: () => reason,
    retry: () => ({ repaired: [], refusals: [], drifted: [], reopen: [] }),
    watch: () => ({ found: [], former: [], replaced: [] }),
    lost() {},
    letGo: () => [],
    follow: () => [],
    repin: ({ id }) => ({ mapId: id, operation: "BPF_OBJ_PIN", errno: "EOPNOTSUPP", detail: reason }),
    // biome-ignore lint/correctness/useYield: it answers without a piece
    *listed() {
      return { directory: "", ours: [], foreign: [], more: false, unknown: [] };
    },
    occupied: () => null,
    status: () => ({ state: "off", detail: reason }),
    close() {},
  };
}
