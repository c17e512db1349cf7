import { OWNER } from "../access/caller.ts";
import { type Limits, type StateQuota, Usage } from "../access/quotas.ts";
import { type Charge, chargeOf, elementCharge } from "../maps/charge.ts";
import type { Host, MapRecord, MapType } from "../maps/map.ts";
import { type ObjectRecord, objectBytes } from "../maps/object.ts";
import type { Refusal } from "../maps/refusal.ts";
import { mapType } from "../maps/types.ts";
import { checkQuota } from "./quota.ts";

/** Charged to its creator; without one, to the owner. */
type Created = { readonly creator?: string };

/**
 * The usage of quotas by caller. It is counted from the tables when it is first needed, then kept up to date. Replays decide
 * nothing, so they never need it: until then an addition costs nothing.
 */
export class Charges {
  readonly limits: Limits;
  readonly #host: Host;
  readonly #chargeAll: () => void;
  #usage: Usage | null = null;

  /** `chargeAll` adds everything in the tables. */
  constructor(limits: Limits, host: Host, chargeAll: () => void) {
    this.limits = limits;
    this.#host = host;
    this.#chargeAll = chargeAll;
  }

  get usage(): Usage {
    return this.#usage ?? this.count(this.#chargeAll);
  }

  /** `chargeAll` adds everything in the tables. */
  count(chargeAll: () => void): Usage {
    const usage = new Usage();
    this.#usage = usage;
    chargeAll();
    usage.settle();
    return usage;
  }

  /** Whether the usage was counted, and is kept up to date. */
  get isAsked(): boolean {
    return this.#usage !== null;
  }

  add(caller: string, quota: StateQuota, by: number): void {
    this.#usage?.add(caller, quota, by);
  }

  /** A pin or a directory. */
  addPin({ creator = OWNER.name }: Created, by: 1 | -1): void {
    this.add(creator, "pins", by);
  }

  addObject(object: ObjectRecord, by: 1 | -1): void {
    const { creator = OWNER.name } = object;
    this.add(creator, "objects", by);
    this.add(creator, "kernel_bytes", by * objectBytes(object));
  }

  addMap(map: MapRecord, entries: number, by: 1 | -1): void {
    if (this.#usage === null) return;
    const { creator = OWNER.name } = map;
    const { bytes, kernelBytes } = this.ofMap(map, entries);
    this.add(creator, "maps", by);
    this.add(creator, "bytes", by * bytes);
    this.add(creator, "kernel_bytes", by * kernelBytes);
  }

  /** Of a map that is not preallocated. `more` may be negative. */
  addElements(map: MapRecord, type: MapType, more: number): void {
    const { creator = OWNER.name } = map;
    const each = elementCharge(type, map, this.#host);
    this.add(creator, "bytes", more * each.bytes);
    this.add(creator, "kernel_bytes", more * each.kernelBytes);
  }

  ofMap(map: MapRecord, entries: number): Charge {
    return chargeOf(mapType(map.type) as MapType, map, entries, this.#host);
  }

  /** ENOMEM if another element would exceed a quota of the map's creator. `taken`: elements that are not counted yet. */
  checkElement(map: MapRecord, type: MapType, taken: number): Refusal | null {
    if (type.preallocated(map)) return null;
    const { creator = OWNER.name } = map;
    const { bytes, kernelBytes } = elementCharge(type, map, this.#host);
    return (
      checkQuota(this, creator, "kernel_bytes", kernelBytes, taken * kernelBytes) ??
      checkQuota(this, creator, "bytes", bytes, taken * bytes)
    );
  }

  /** Makes the changes so far final. */
  settle(): void {
    this.usage.settle();
  }

  /** Call this after the cells have gone back to a mark, which must not be older than the last `settle`. */
  rollback(mark: number): void {
    this.#usage?.rollback(mark);
  }

  forget(): void {
    this.#usage = null;
  }
}
