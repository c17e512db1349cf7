import type { ElementChange, MirrorRefusal } from "../engine/ports.ts";
import type { Element, MapRecord } from "../maps/map.ts";
import type { Bpf } from "../native/bpf.ts";
import { isFrozenFd } from "./fdinfo.ts";
import { keptElements } from "./kept_elements.ts";
import { type KernelElements, type Opened, unreadable } from "./kernel_elements.ts";
import { KeyedElements } from "./keyed_elements.ts";
import { LineElements } from "./line_elements.ts";
import type { MirroredType } from "./map_types.ts";
import { errnoOf, refusal } from "./refusal.ts";

/** Elements that are gathered before they are written; a larger number would only use more memory. */
const FILL_ENTRIES = 16_384;

/** A kernel map that this process holds by an fd. */
export class KernelMap {
  readonly map: MapRecord;
  readonly type: MirroredType;
  readonly fd: number;
  /** The kernel's id of the map. */
  readonly id: number;
  readonly elements: KernelElements;
  readonly #bpf: Bpf;

  constructor(opened: Opened, id: number) {
    this.#bpf = opened.bpf;
    this.type = opened.type;
    this.map = opened.map;
    this.fd = opened.fd;
    this.id = id;
    this.elements = elementsOf(opened);
  }

  /** Writes the elements of the ledger's map into a new kernel map. */
  fill(elements: Iterable<Element>, failed: (change: ElementChange) => void): MirrorRefusal | null {
    let first: MirrorRefusal | null = null;
    let changes: ElementChange[] = [];
    const write = (): void => {
      const refused = this.elements.write(changes, failed);
      first ??= refused;
      changes = [];
    };
    for (const element of elements) if (changes.push(element) === FILL_ENTRIES) write();
    write();
    return first;
  }

  freeze(): MirrorRefusal | null {
    const ret = this.#bpf.freeze(this.fd);
    return ret < 0 ? refusal(this.map.id, "BPF_MAP_FREEZE", ret, "freezing the kernel map") : null;
  }

  isFrozen(): boolean {
    let frozen = false;
    errnoOf(() => {
      frozen = isFrozenFd(this.fd);
    });
    return frozen;
  }

  close(): void {
    this.#bpf.close(this.fd);
  }
}

function elementsOf(opened: Opened): KernelElements {
  switch (opened.type.filled) {
    case "by key":
      return new KeyedElements(opened);
    case "queue":
    case "stack":
      return new LineElements(opened);
    case "for good":
      return keptElements(opened);
    case "by programs":
      return {
        ...unreadable("only programs fill it: the ledger has no elements of it"),
        write: () => null,
        catchUp: () => null,
      };
  }
}
