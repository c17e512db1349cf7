import { SERVICE_NAME } from "./caller.ts";

/**
 * How much each caller may have at once. `errno` is the one that a process gets at the kernel's comparable limit:
 *
 *   EAGAIN  sessions, jobs                 fork(2) at RLIMIT_NPROC
 *   EMFILE  descriptors, objects, streams  RLIMIT_NOFILE
 *   ENOMEM  bytes, kernel_bytes            bpf(2) at memory.max of its cgroup
 *   ENOSPC  maps                           all ids are used up
 *   ENOSPC  pins                           bpf_get_inode() without a free inode (EDQUOT is for disk quotas)
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

/** The quotas on things that are in the state, which commands make. Streams and jobs are not in it. */
export const STATE_QUOTAS = ["sessions", "maps", "descriptors", "pins", "objects", "bytes", "kernel_bytes"] as const;
export type StateQuota = (typeof STATE_QUOTAS)[number];

/** The quota of each kind; 0: unlimited. */
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

/** The amount that a caller uses of each quota on the state. */
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

/** The amounts that callers use, kept up to date while the state changes. */
export class Usage {
  readonly #byCaller = new Map<string, Amounts>();
  /** Changes since the last `settle`, which `rollback` can undo. */
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

  /** What all callers use together. */
  total(quota: StateQuota): number {
    let sum = 0;
    for (const amounts of this.#byCaller.values()) sum += amounts[quota];
    return sum;
  }

  of(caller: string): Readonly<Amounts> {
    return this.#byCaller.get(caller) ?? NOTHING;
  }

  /** Callers that use something, or have used something since the start. */
  all(): Iterable<readonly [caller: string, amounts: Readonly<Amounts>]> {
    return this.#byCaller;
  }

  /** A mark for `rollback`; valid until `settle`. */
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

/**
 * Whether `more` would exceed a caller's quota. The service itself has no quota. A caller that is over a quota that was
 * lowered keeps what it has.
 */
export function isOver(limits: Limits, quota: QuotaName, caller: string, used: number, more: number): boolean {
  const limit = limits[quota];
  return limit !== 0 && more > 0 && used + more > limit && caller !== SERVICE_NAME;
}

/** The refusal's text: caller, quota, use and the setting's name. */
export function overQuota(limits: Limits, quota: QuotaName, caller: string, used: number, more: number): string {
  const { of, variable } = QUOTAS[quota];
  return `quota of ${of}: ${caller} has ${used} of ${limits[quota]}, ${more} more required (${variable})`;
}
