/**
 * Names that stand for numbers on one machine only. The caller asks its host, or its ledger, and leaves out whatever it
 * cannot know: then numbers stand alone, as they do for a past moment.
 */

import type { Machine } from "../abi/syscalls.ts";

export interface Names {
  /** The machine whose numbers of system calls values have. */
  readonly machine?: Machine;
  /** The name of a network interface; null: there is none. */
  readonly ifname?: (index: number) => string | null;
  readonly ifindex?: (name: string) => number | null;
  /** The path of a cgroup (version 2), by its id. */
  readonly cgroup?: (id: bigint) => string | null;
  readonly cgroupId?: (path: string) => bigint | null;
  /** The name of an inner map. */
  readonly mapName?: (id: number) => string | null;
}
