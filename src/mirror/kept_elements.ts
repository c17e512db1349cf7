import { ERRNO } from "../abi/errno.ts";
import type { ElementChange, MirrorRefusal, MirrorScan } from "../engine/ports.ts";
import type { Element } from "../maps/map.ts";
import type { Opened } from "./kernel_elements.ts";
import { refusal } from "./refusal.ts";

/** Values that stay once they were added: a bloom filter's. What programs add beside them cannot be told, or taken out. */
export class KeptElements {
  readonly #opened: Opened;

  constructor(opened: Opened) {
    this.#opened = opened;
  }

  write(changes: readonly ElementChange[]): MirrorRefusal | null {
    let first: MirrorRefusal | null = null;
    for (const { value } of changes) {
      if (value === null) continue;
      const refused = this.#add(value);
      first ??= refused;
    }
    return first;
  }

  /** The kernel says "perhaps" of a value that it has not been given, too: then it answers as it should. */
  repair(elements: Iterable<Element>): MirrorRefusal | null {
    const { bpf, fd } = this.#opened;
    let first: MirrorRefusal | null = null;
    for (const { value } of elements) {
      if (bpf.lookup(fd, null, Buffer.from(value)) !== -ERRNO.ENOENT) continue;
      const refused = this.#add(value);
      first ??= refused;
    }
    return first;
  }

  // biome-ignore lint/correctness/useYield: it answers without a piece
  *scan(): MirrorScan {
    return { untold: "the kernel does not show what a bloom filter holds" };
  }

  #add(value: Buffer): MirrorRefusal | null {
    const { bpf, fd, map } = this.#opened;
    const ret = bpf.update(fd, null, value);
    return ret < 0 ? refusal(map.id, "BPF_MAP_UPDATE_ELEM", ret, "adding a value to the kernel map") : null;
  }
}
