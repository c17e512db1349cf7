import { OBJ_NAME_LEN } from "../abi/bpf.ts";
import { CMD } from "../abi/service.ts";
import type { Element } from "../maps/map.ts";
import { mapType } from "../maps/types.ts";
import { BPFFS } from "../syscall/pins.ts";
import { batch, inBatches } from "./batches.ts";
import type { Request } from "./engine.ts";
import { MADE } from "./made.ts";
import type { ForeignMap } from "./ports.ts";

/** Which kernel map is to be taken over, where its map is pinned in the ledger (null: by its name), and who asks. */
export interface AdoptAsk {
  readonly which: { readonly kernelId: number } | { readonly pinned: string };
  readonly pathname: string | null;
  readonly caller: string;
}

/** The map that a kernel map has become; or why it has become none. */
export type AdoptAnswer =
  | { readonly map: number; readonly seq: number }
  | { readonly refused: { readonly errno: string; readonly detail: string } }
  | { readonly failure: "disk full" | "log failed" | "bug"; readonly detail: string };

const BATCH_ELEMENTS = 4096;
const TTL_MS = 60_000;

/**
 * The commands that a kernel map's definition and contents come to: all of them run, or none. Elements are batches that the
 * mirror does not carry, for the kernel has them; of types that have no batches, updates that change nothing there.
 */
export function adoptRequests(foreign: ForeignMap, elements: readonly Element[], ask: AdoptAsk): Request[] {
  const { caller } = ask;
  const made = { session: MADE, caller } as const;
  const target = { by: "id", id: MADE } as const;
  const operator = { session: 0, caller } as const;
  const requests: Request[] = [
    { cmd: CMD.SESSION_OPEN, session: 0, caller, attr: { name: "adoption", ttlMs: TTL_MS } },
    { cmd: CMD.BPF_MAP_CREATE, ...made, attr: createAttr(foreign) },
  ];
  if (mapType(foreign.type)?.batch.update !== null)
    for (const { key, value } of elements)
      requests.push({ cmd: CMD.BPF_MAP_UPDATE_ELEM, ...operator, target, key, value, flags: 0n });
  else
    for (const some of inBatches(elements, BATCH_ELEMENTS)) {
      const keys = some.map(({ key }) => key);
      const values = some.map(({ value }) => value);
      requests.push({ ...operator, imported: true, ...batch(CMD.BPF_MAP_UPDATE_BATCH, target, keys, values) });
    }
  if (foreign.frozen)
    requests.push({ cmd: CMD.BPF_MAP_FREEZE, ...operator, target, key: null, value: null, flags: 0n });
  const pathname = ask.pathname ?? `${BPFFS}/${pinName(foreign, ask)}`;
  requests.push({ cmd: CMD.BPF_OBJ_PIN, ...operator, target, attr: { pathname, fileFlags: 0, pathFd: 0 } });
  requests.push({ cmd: CMD.SESSION_END, ...made, attr: { reason: "ended by request" } });
  return requests;
}

/** As where it was found; or its own; bpffs has no names with dots. */
function pinName({ name, id }: ForeignMap, { which }: AdoptAsk): string {
  const found = "pinned" in which ? (which.pinned.split("/").at(-1) as string) : name;
  return found === "" ? `map_${id}` : found.replaceAll(".", "_");
}

function createAttr(foreign: ForeignMap) {
  const mapName = Buffer.alloc(OBJ_NAME_LEN);
  mapName.write(foreign.name, "latin1");
  return {
    mapType: foreign.type,
    keySize: foreign.keySize,
    valueSize: foreign.valueSize,
    maxEntries: foreign.maxEntries,
    mapFlags: foreign.mapFlags,
    innerMapFd: 0,
    numaNode: 0,
    mapName,
    mapIfindex: 0,
    btfFd: 0,
    btfKeyTypeId: 0,
    btfValueTypeId: 0,
    btfVmlinuxValueTypeId: 0,
    mapExtra: foreign.mapExtra,
    valueTypeBtfObjFd: 0,
    mapTokenFd: 0,
    exclProgHash: null,
    exclProgHashSize: 0,
    adopted: foreign.id,
  };
}
