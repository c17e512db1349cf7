import { existsSync } from "node:fs";
import { resolve } from "node:path";
import type { Mirror } from "../engine/ports.ts";
import type { Host } from "../maps/map.ts";
import { openBpf, probe } from "./bpf.ts";
import { claim } from "./bpffs.ts";
import { KernelMirror } from "./kernel_mirror.ts";

export interface MirrorOptions {
  /** `auto`: on where the machine lets it. `required`: the service does not start without it. */
  readonly mode: "auto" | "off" | "required";
  /** The directory of bpffs that is this instance's own. It need not exist, but its file system must be mounted. */
  readonly bpffs: string;
  /** The id of the log: whose kernel maps they are. */
  readonly instance: string;
  readonly host: Host;
  /** CPUs that the machine may have; `host` has those of the ledger. */
  readonly machineCpus: number;
}

/** Throws where the mirror is required and cannot be had; else it is off, and says why. */
export function openMirror(options: MirrorOptions): Mirror {
  if (options.mode === "off") return disabledMirror("the mirror is switched off by its setting");
  const mirror = open(resolve(options.bpffs), options);
  if (typeof mirror !== "string") return mirror;
  if (options.mode === "required") throw new Error(`the mirror is required: ${mirror}`);
  return disabledMirror(mirror);
}

/** Follows nothing. */
export function disabledMirror(reason: string): Mirror {
  return {
    off: reason,
    takeUp: () => [],
    apply: () => [],
    resync: () => [],
    // biome-ignore lint/correctness/useYield: it answers without a piece
    *scan() {
      return { untold: reason };
    },
    mend: () => [],
    cannotImport: () => reason,
    kernelMaps: () => [],
    adopting: () => ({ refused: { errno: "EOPNOTSUPP", detail: reason } }),
    retry: () => ({ repaired: [], refusals: [], more: false }),
    takeUpObjects() {},
    openObject: () => null,
    endedObjects: () => [],
    status: () => ({ state: "off", detail: reason }),
    close() {},
  };
}

function open(root: string, { instance, host, machineCpus }: MirrorOptions): KernelMirror | string {
  const bpf = openBpf();
  if ("off" in bpf) return bpf.off;
  if (!existsSync("/proc/self/fdinfo"))
    return "no procfs is mounted at /proc: what is frozen cannot be told without it";
  return (
    probe(bpf) ??
    claim(root, instance) ??
    new KernelMirror({ bpf, root, host, machineCpus, nowMs: () => performance.now() })
  );
}
