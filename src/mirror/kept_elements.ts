import type { ElementChange, MirrorRefusal } from "../engine/ports.ts";
import type { Element } from "../maps/map.ts";
import { type KernelElements, type Opened, unreadable, type WindowChange } from "./kernel_elements.ts";
import { refusal } from "./refusal.ts";

/** The values of a bloom filter, which cannot be read or removed. Values that programs add are not seen. */
export function keptElements({ bpf, fd, map }: Opened): KernelElements {
  const add = (value: Buffer): MirrorRefusal | null => {
    const ret = bpf.update(fd, null, value);
    return ret < 0 ? refusal(map.id, "BPF_MAP_UPDATE_ELEM", ret, "adding a value to the kernel map") : null;
  };
  const write: KernelElements["write"] = (changes, failed = () => {}) => {
    let first: MirrorRefusal | null = null;
    for (const change of changes) {
      const refused = change.value === null ? null : add(change.value);
      if (refused === null) continue;
      first ??= refused;
      failed(change);
    }
    return first;
  };
  return {
    ...unreadable("the kernel does not show the values of a bloom filter"),
    write,
    /** Adding a value again is harmless, because it sets the same bits. */
    catchUp: (_elements: Iterable<Element>, changes: readonly WindowChange[], failed) =>
      write(
        changes.map(({ key, now }): ElementChange => ({ key, value: now })),
        failed,
      ),
  };
}
