/** Whether bpf(2) can be used on this machine, and by this process. */

import { createRequire } from "node:module";
import { BPF_F, BPF_MAP_TYPE } from "../abi/bpf.ts";
import { errnoName } from "../abi/errno.ts";
import { Bpf } from "./bpf.ts";
import type { Koffi } from "./libc.ts";
import type { MapShape } from "./map_info.ts";

/** __NR_bpf: arch/x86/entry/syscalls/syscall_64.tbl, scripts/syscall.tbl. Both machines are little-endian. */
const SYSCALL_NUMBER: Partial<Record<NodeJS.Architecture, number>> = { x64: 321, arm64: 280 };

/** Opens bpf(2), or returns the reason why this machine has none. `probe` tells whether this process may use it. */
export function openBpf(): Bpf | { readonly off: string } {
  if (process.platform !== "linux") return { off: `bpf(2) exists on Linux only, and this is ${process.platform}` };
  const number = SYSCALL_NUMBER[process.arch];
  if (number === undefined) return { off: `bpf(2) is supported on x64 and arm64, and this is ${process.arch}` };
  try {
    return new Bpf(createRequire(import.meta.url)("koffi") as Koffi, number);
  } catch (error) {
    return { off: `loading koffi: ${error instanceof Error ? error.message : String(error)}` };
  }
}

const ENOSYS = 38;

/** A trie, because the kernel refuses one to a process without CAP_BPF, whatever unprivileged_bpf_disabled is. */
const PROBE: MapShape = {
  type: BPF_MAP_TYPE.BPF_MAP_TYPE_LPM_TRIE,
  keySize: 5,
  valueSize: 1,
  maxEntries: 1,
  mapFlags: BPF_F.BPF_F_NO_PREALLOC,
  name: "",
  mapExtra: 0n,
  numaNode: 0,
};

/** The reason why bpf(2) cannot be used, or null; found by creating a map. */
export function probe(bpf: Bpf | { readonly off: string } = openBpf()): string | null {
  if ("off" in bpf) return bpf.off;
  const fd = bpf.create(PROBE);
  if (fd >= 0) {
    bpf.close(fd);
    return null;
  }
  const errno = errnoName(-fd);
  if (errno === "EPERM")
    return "bpf(2) is refused: EPERM: it needs CAP_BPF or CAP_SYS_ADMIN, and a seccomp profile that allows it";
  if (-fd === ENOSYS) return "bpf(2) is refused: ENOSYS: this kernel was built without it";
  return `bpf(2) is refused: making a map: ${errno}`;
}
