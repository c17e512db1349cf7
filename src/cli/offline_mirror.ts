/** Orders about the mirror that the command line carries out by itself, without a service. */

import { CMD } from "../abi/service.ts";
import { readState } from "../data/state_reader.ts";
import { StoppedLog } from "../data/stopped_log.ts";
import { readHost } from "../host.ts";
import { Claim, HeldDirectory } from "../mirror/claim.ts";
import { type Inventory, takeInventory } from "../mirror/inventory.ts";
import { Layout } from "../mirror/layout.ts";
import { type Left, leave, toRemove } from "../mirror/leave.ts";
import { differs, type Mark, markOf, readMark } from "../mirror/mark.ts";
import { atOnce } from "../mirror/pace.ts";
import type { Bpf } from "../native/bpf.ts";
import { openBpf, probe } from "../native/probe.ts";

/**
 * A ledger's data directory, and the bpffs on which its kernel maps are pinned: MAPLEDGER_DATA and MAPLEDGER_BPFFS.
 */
export interface Offline {
  readonly data: string;
  readonly bpffs: string;
}

/** The pins of a ledger on this host. */
export interface OnHost {
  /** The mirror's directory of pins. */
  readonly directory: string;
  readonly log: string;
  /** null: the directory has no mark, so that no pin in it is known to be mapledger's. */
  readonly inventory: Inventory | null;
  /** Pathnames of the directories that sessions have made. */
  readonly pathnames: readonly string[];
}

/** The paths that were to be removed, and those that could not be. */
export interface HasLeft {
  readonly seq: number;
  readonly directory: string;
  readonly removed: readonly string[];
  readonly left: readonly Left[];
}

/**
 * Gives a directory of pins to a ledger whose service is stopped, if no process holds the directory. The event is
 * durable before the mark changes, so a process that dies in between leaves the directory to its former owner. Throws
 * InUse if the service runs, otherwise an Error with the reason if the directory cannot be taken over.
 */
export function takeOverOffline({ data, bpffs }: Offline): { seq: number; directory: string; owner: string } {
  const stopped = StoppedLog.open(data);
  try {
    const { log } = stopped;
    const layout = new Layout(bpffs);
    const directory = layout.own;
    let [seq, owner] = [0, ""];
    const claim = Claim.takeOver({ bpf: usableBpf(), layout, ours: oursOf(log, data), log }, (former) => {
      owner = former;
      seq = stopped.append({ cmd: CMD.MIRROR_TAKE_OVER, attr: { directory, owner } });
      return null;
    });
    if (!(claim instanceof Claim)) throw new Error(claim.why);
    claim.progress.close();
    claim.release();
    return { seq, directory, owner };
  } finally {
    stopped.close();
  }
}

/**
 * Lists the pins of a ledger on this host; its service may be running. Throws an Error if the directory belongs to
 * another ledger.
 */
export function lookOffline({ data, bpffs }: Offline): Promise<OnHost> {
  const bpf = usableBpf();
  const layout = new Layout(bpffs);
  return readState(data, ({ log, life, host, state }) => {
    const mark = readMark(layout.own);
    const why = mark === null ? null : differs(mark, oursOf({ id: log, life }, data));
    if (why !== null) throw new Error(`${layout.own}: ${why}`);
    const cpus = { ledger: host.possibleCpus, machine: readHost().possibleCpus };
    const ledger = {
      map: (id: number) => state.map(id),
      lastMap: state.lastId("map"),
      pinned: () => state.bpffs.pinned(),
    };
    const inventory = mark === null ? null : atOnce(takeInventory(bpf, layout, ledger, cpus));
    return { directory: layout.own, log, inventory, pathnames: [...state.bpffs.directories()] };
  });
}

/**
 * Removes the pins of a ledger whose service is stopped. An event lists the paths before the first is removed. Returns
 * null if the directory has no mark. Throws as takeOverOffline does.
 */
export async function leaveOffline(offline: Offline): Promise<HasLeft | null> {
  const stopped = StoppedLog.open(offline.data);
  let held: HeldDirectory | null = null;
  try {
    const bpf = usableBpf();
    const { log } = stopped;
    const layout = new Layout(offline.bpffs);
    if (readMark(layout.own) === null) return null;
    const holding = HeldDirectory.hold({ bpf, layout, ours: oursOf(log, offline.data), log });
    if (!(holding instanceof HeldDirectory)) throw new Error(holding.why);
    held = holding;
    const other = held.other();
    if (other !== null) throw new Error(other.why);
    const { inventory, directory, pathnames } = await lookOffline(offline);
    if (inventory === null) return null;
    const removed = toRemove(inventory);
    const seq = stopped.append({ cmd: CMD.MIRROR_LEAVE, attr: { directory, removed } });
    return { seq, directory, removed, left: leave(bpf, layout, inventory, pathnames) };
  } finally {
    held?.release();
    stopped.close();
  }
}

function oursOf({ id, life }: { readonly id: string; readonly life: string }, data: string): Mark {
  return markOf({ log: id, life, data });
}

function usableBpf(): Bpf {
  const bpf = openBpf();
  if ("off" in bpf) throw new Error(`asking the kernel: ${bpf.off}`);
  const unusable = probe(bpf);
  if (unusable !== null) throw new Error(`asking the kernel: ${unusable}`);
  return bpf;
}
