import { SERVICE_NAME } from "./caller.ts";

/**
 * What a caller may have at once. `errno` is what a process gets at a limit of its own: EAGAIN of fork(2) at RLIMIT_NPROC, EMFILE at
 * RLIMIT_NOFILE, ENOMEM of bpf(2) at memory.max of its cgroup, ENOSPC where numbers of kernel objects end (ids of maps; inotify(7)'s
 * limits a user; inodes, which is what bpf_get_inode() answers when bpffs can have no other: it has no disk quota, whose EDQUOT it
 * would be).
 */
export const QUOTAS = {
  sessions: { variable: "MAPLEDGER_CALLER_SESSIONS_MAX", errno: "EAGAIN", of: "sessions" },
  maps: { variable: "MAPLEDGER_CALLER_MAPS_MAX", errno: "ENOSPC", of: "maps" },
  descriptors: { variable: "MAPLEDGER_CALLER_DESCRIPTORS_MAX", errno: "EMFILE", of: "descriptors" },
  pins: { variable: "MAPLEDGER_CALLER_PINS_MAX", errno: "ENOSPC", of: "pins and directories" },
  objects: { variable: "MAPLEDGER_CALLER_OBJECTS_MAX", errno: "EMFILE", of: "objects" },
  bytes: { variable: "MAPLEDGER_CALLER_BYTES_MAX", errno: "ENOMEM", of: "bytes of keys and values" },
  kernel_bytes: { variable: "MAPLEDGER_CALLER_KERNEL_BYTES_MAX", errno: "ENOMEM", of: "bytes of kernel memory" },
  streams: { variable: "MAPLEDGER_CALLER_STREAMS_MAX", errno: "EMFILE", of: "streams" },
  jobs: { variable: "MAPLEDGER_CALLER_JOBS_MAX", errno: "EAGAIN", of: "jobs" },
} as const satisfies Record<string, { readonly variable: string; readonly errno: string; readonly of: string }>;

export type QuotaName = keyof typeof QUOTAS;

/** The quotas of things that the state has: what commands make. */
export const STATE_QUOTAS = ["sessions", "maps", "descriptors", "pins", "objects", "bytes", "kernel_bytes"] as const;
export type StateQuota = (typeof STATE_QUOTAS)[number];

/** How much of each a caller may have; 0: as much as he wants. */
export type Limits = Readonly<Record<QuotaName, number>>;

export const UNLIMITED: Limits = {
  sessions: 0,
  maps: 0,
  descriptors: 0,
  pins: 0,
  objects: 0,
  bytes: 0,
  kernel_bytes: 0,
  streams: 0,
  jobs: 0,
};

/** How much a caller has of that which the state has. */
export type Amounts = Record<StateQuota, number>;

const NOTHING: Readonly<Amounts> = {
  sessions: 0,
  maps: 0,
  descriptors: 0,
  pins: 0,
  objects: 0,
  bytes: 0,
  kernel_bytes: 0,
};

/** Who has how much: sums of what the state says, kept up while it changes. */
export class Usage {
  readonly #byCaller = new Map<string, Amounts>();
  /** What was added since it was settled. */
  readonly #added: [caller: string, quota: StateQuota, amount: number][] = [];

  add(caller: string, quota: StateQuota, amount: number): void {
    if (amount === 0) return;
    this.#added.push([caller, quota, amount]);
    this.#change(caller, quota, amount);
  }

  #change(caller: string, quota: StateQuota, amount: number): void {
    let amounts = this.#byCaller.get(caller);
    if (amounts === undefined) {
      amounts = { ...NOTHING };
      this.#byCaller.set(caller, amounts);
    }
    amounts[quota] += amount;
  }

  of(caller: string): Readonly<Amounts> {
    return this.#byCaller.get(caller) ?? NOTHING;
  }

  /** Of callers who have, or have had, anything. */
  all(): Iterable<readonly [caller: string, amounts: Readonly<Amounts>]> {
    return this.#byCaller;
  }

  /** A point to go back to, until it is settled. */
  mark(): number {
    return this.#added.length;
  }

  rollback(mark: number): void {
    for (const [caller, quota, amount] of this.#added.splice(mark)) this.#change(caller, quota, -amount);
  }

  settle(): void {
    this.#added.length = 0;
  }
}

/** Whether so much more is over a caller's quota; the service itself has none. Whoever has more than a quota of today keeps it. */
export function isOver(limits: Limits, quota: QuotaName, caller: string, used: number, more: number): boolean {
  const limit = limits[quota];
  return limit !== 0 && more > 0 && used + more > limit && caller !== SERVICE_NAME;
}

/** For who is refused: whose quota it is, how much of it is used, and which setting it is. */
export function overQuota(limits: Limits, quota: QuotaName, caller: string, used: number, more: number): string {
  const { of, variable } = QUOTAS[quota];
  return `quota of ${of}: ${caller} has ${used} of ${limits[quota]}, ${more} more are needed (${variable})`;
}
