import { afterPrefix, type CellKey, type Cells, readU32Key, u32Key } from "../maps/cells.ts";
import type { MapRecord } from "../maps/map.ts";

/** The most maps of one name that a refusal lists. */
export const NAMED_MAX = 16;

/** Maps by their names: cells k, of name, 0 and map id. */
export class MapNames {
  readonly #cells: Cells;

  constructor(cells: Cells) {
    this.#cells = cells;
  }

  /** The ids of maps with this name, ascending; at most NAMED_MAX + 1 of them. */
  ids(name: string): number[] {
    const prefix = prefixOf(name);
    const ids: number[] = [];
    for (const [key] of this.#cells.range(prefix, afterPrefix(prefix))) {
      ids.push(readU32Key(key, prefix.length));
      if (ids.length > NAMED_MAX) break;
    }
    return ids;
  }

  add({ id, name }: MapRecord): void {
    this.#cells.put(`${prefixOf(name)}${u32Key(id)}`, NOTHING);
  }

  delete({ id, name }: MapRecord): void {
    this.#cells.delete(`${prefixOf(name)}${u32Key(id)}`);
  }
}

const NOTHING = Buffer.alloc(0);

function prefixOf(name: string): CellKey {
  return `k${name}\0`;
}

/** Why a name means no map: several, as `ids` answers them, have it. `name`: as it was given. */
export function severalNamed(name: string, ids: readonly number[]): string {
  if (ids.length <= NAMED_MAX) return `${ids.length} maps have the name ${name}: ids ${ids.join(", ")}`;
  return `more than ${NAMED_MAX} maps have the name ${name}: ids ${ids.slice(0, NAMED_MAX).join(", ")} and others`;
}
