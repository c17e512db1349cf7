/** The pieces of MEMORY_READ and MEMORY_WRITE (`pieces.ts`): loads and stores through a mapping of an array. */

import { CMD } from "../abi/service.ts";
import { memoryBytes } from "../maps/array.ts";
import type { OpenMap } from "../syscall/open_map.ts";
import type { State } from "../syscall/state.ts";
import {
  elementsIn,
  failedAt,
  type MemoryRequest,
  type Pieces,
  partOf,
  READ_ELEMENTS,
  sameMap,
  slice,
  WRITTEN_ELEMENTS,
} from "./piece.ts";
import type { Ran, Reply } from "./request.ts";

/**
 * The pieces of a load or store, in ascending order; null: one is enough, or a store beyond the map's end, which is
 * refused as a whole. If a later piece of a read is refused, the read answers the bytes before it.
 */
export function memoryPieces(state: State, request: MemoryRequest, map: OpenMap): Pieces | null {
  const { cmd, value, attr } = request;
  const memory = memoryBytes(map.map, map.host);
  const start = attr.offset < 0 ? Math.max(memory + attr.offset, 0) : attr.offset;
  const end = Math.min(start + attr.length, memory);
  const reads = cmd === CMD.MEMORY_READ;
  const bytes = Math.ceil(map.type.valueBytes(map.map, state.host) / 8) * 8;
  const size = elementsIn(bytes, reads ? READ_ELEMENTS : WRITTEN_ELEMENTS) * bytes;
  if (end - start <= size || (!reads && start + attr.length > memory)) return null;
  return (function* (): Pieces {
    const same = sameMap(state, request, map);
    const read: Buffer[] = [];
    let first: number | null = null;
    let last: Ran | null = null;
    const answer = (ran: Ran): Ran => ({ seq: ran.seq, outcome: { ...ran.outcome, value: Buffer.concat(read) } });
    for (let at = start; at < end; at += size) {
      const done = at - start;
      if (last !== null && !same.holds()) return reads ? answer(last) : same.gone(last, null);
      const length = Math.min(size, end - at);
      const piece: MemoryRequest = {
        ...request,
        target: same.target,
        value: slice(value, done, done + length),
        attr: { offset: at, length },
        part: partOf(done, end - start, first),
      };
      const reply: Reply = yield piece;
      if ("failure" in reply) {
        if (!reads || last === null) return failedAt(reply, done, end - start, "bytes");
        return answer(last);
      }
      if (reply.outcome.errno !== 0) return reads && last !== null ? answer(last) : reply;
      first ??= reply.seq;
      last = reply;
      if (reply.outcome.value !== null) read.push(reply.outcome.value);
    }
    return reads ? answer(last as Ran) : (last as Ran);
  })();
}
