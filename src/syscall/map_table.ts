import { type Cell, type CellKey, u32Key } from "../maps/cells.ts";
import type { MapRecord } from "../maps/map.ts";
import type { RowCodec } from "./table.ts";

/** The letter of the table of maps. */
export const MAPS = "m";

export const mapCodec: RowCodec<MapRecord> = {
  encode: (map) => Buffer.from(JSON.stringify({ ...map, mapExtra: String(map.mapExtra) })),
  decode(bytes) {
    const row = JSON.parse(bytes.toString());
    return { ...row, mapExtra: BigInt(row.mapExtra) };
  },
};

/** The key of the cell that has a map's record. */
export function mapCell(id: number): CellKey {
  return `${MAPS}${u32Key(id)}`;
}

/** The maps among the cells of a state. */
export function mapsIn(cells: Iterable<Cell>): MapRecord[] {
  return [...cells].filter(([key]) => key.startsWith(MAPS)).map(([, bytes]) => mapCodec.decode(bytes));
}
