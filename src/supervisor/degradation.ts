/**
 * Collects the parts that fail at present in the service's thread, as the threads report them (`derived_parts.ts`):
 * /readyz and a metric name them.
 */

import type { PartFault, PartName } from "./derived_parts.ts";

export class Degraded {
  readonly #faults = new Map<PartName, PartFault>();
  readonly #log: (fault: PartFault | null, message: string) => void;

  /** `log` is called for each change. */
  constructor(log: (fault: PartFault | null, message: string) => void) {
    this.#log = log;
  }

  get faults(): readonly PartFault[] {
    return [...this.#faults.values()];
  }

  /** A function that takes news of this part: its fault, or null if it works again. */
  teller(part: PartName): (fault: PartFault | null) => void {
    return (fault) => this.#tell(part, fault);
  }

  #tell(part: PartName, fault: PartFault | null): void {
    const was = this.#faults.get(part);
    if (fault !== null) this.#faults.set(part, fault);
    else this.#faults.delete(part);
    if (fault === null && was !== undefined) this.#log(null, `the ${part} serves again`);
    if (fault !== null && fault.detail !== was?.detail)
      this.#log(fault, `the ${part} ${fault.state === "refused" ? "is refused" : "has failed"}: ${fault.detail}`);
  }
}
