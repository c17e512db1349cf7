import type { ElementChange, MirrorRefusal } from "../engine/ports.ts";
import type { Element } from "../maps/map.ts";
import type { KernelMap } from "./kernel_map.ts";

/** How many elements are gathered before they are written: more would only cost memory. */
const FILL_ENTRIES = 16_384;

/** Writes elements into a kernel map that has just been made. */
export function fill(kernel: KernelMap, elements: Iterable<Element>): MirrorRefusal | null {
  let first: MirrorRefusal | null = null;
  let changes: ElementChange[] = [];
  for (const element of elements) {
    changes.push(element);
    if (changes.length < FILL_ENTRIES) continue;
    const refused = kernel.write(changes);
    first ??= refused;
    changes = [];
  }
  const refused = kernel.write(changes);
  return first ?? refused;
}

/**
 * Makes a kernel map that programs may be using equal to the elements of the state. What differs or is missing is
 * written before strays are deleted, so that a program which moves from one to the other finds at least one of them;
 * only where the strays take up the room that the elements need, they go first.
 */
export function repair(kernel: KernelMap, elements: Iterable<Element>): MirrorRefusal | null {
  const wanted = new Map<string, Wanted>();
  for (const { key, value } of elements) wanted.set(kernel.type.identity(key), { key, value, met: false });
  const strays: ElementChange[] = [];
  const zeros = Buffer.alloc(kernel.valueBytes);
  const unread = kernel.read((key, value) => {
    const element = wanted.get(kernel.type.identity(key));
    if (element !== undefined) element.met = key.equals(element.key) && value.equals(element.value);
    else if (kernel.type.absent === "nothing") strays.push({ key: Buffer.from(key), value: null });
    else if (!value.equals(zeros)) strays.push({ key: Buffer.from(key), value: zeros });
  });
  if (unread !== null) return unread;
  const missing = [...wanted.values()].filter((element) => !element.met);
  const unwritten = kernel.write(missing);
  const undeleted = kernel.write(strays);
  if (undeleted !== null) return undeleted;
  const full = unwritten?.errno === "E2BIG" || unwritten?.errno === "ENOSPC";
  return full && strays.length > 0 ? kernel.write(missing) : unwritten;
}

interface Wanted extends Element {
  /** The kernel has it, byte for byte. */
  met: boolean;
}
