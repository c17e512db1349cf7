/** The pieces of batch commands (`pieces.ts`). */

import { ERRNO } from "../abi/errno.ts";
import { CMD } from "../abi/service.ts";
import { elementsDone } from "../syscall/effects.ts";
import { idsShown } from "../syscall/elements.ts";
import type { OpenMap } from "../syscall/open_map.ts";
import type { Outcome } from "../syscall/outcome.ts";
import type { State } from "../syscall/state.ts";
import {
  type BatchRequest,
  elementsIn,
  failedAt,
  lengthOf,
  type Pieces,
  partOf,
  READ_ELEMENTS,
  sameMap,
  slice,
  WRITTEN_ELEMENTS,
  withCount,
} from "./piece.ts";
import type { Ran, Reply } from "./request.ts";

/** The most elements that one piece updates or deletes in a map that evicts an element for each new one. */
export const EVICTING_ELEMENTS = 256;
/**
 * A batch that reads ends after this many bytes, with fewer elements than requested. A batch of the kernel may do so,
 * too.
 */
const ANSWER_BYTES = 16 * 1024 * 1024;

/** The pieces of an update or delete batch; null: one is enough. The first refused element ends the batch. */
export function writePieces(state: State, request: BatchRequest, map: OpenMap): Pieces | null {
  const { key, value, attr } = request;
  const { count } = attr;
  const keyBytes = map.map.keySize;
  const updates = request.cmd === CMD.BPF_MAP_UPDATE_BATCH;
  const valueBytes = updates ? map.type.valueBytes(map.map, state.host) : 0;
  const size = elementsIn(keyBytes + valueBytes, map.type.facts.evicts ? EVICTING_ELEMENTS : WRITTEN_ELEMENTS);
  if (count <= size) return null;
  // A wrong length refuses the batch as a whole, before it has any effect.
  if (
    request.exact === true &&
    (lengthOf(key) !== keyBytes * count || (updates && lengthOf(value) !== valueBytes * count))
  )
    return null;
  return (function* (): Pieces {
    const same = sameMap(state, request, map);
    let first: number | null = null;
    let last: Ran | null = null;
    let done = 0;
    for (let at = 0; at < count; at += size) {
      if (last !== null && !same.holds()) return same.gone(last, done);
      const most = Math.min(size, count - at);
      const piece: BatchRequest = {
        ...request,
        target: same.target,
        key: slice(key, at * keyBytes, (at + size) * keyBytes),
        value: updates ? slice(value, at * valueBytes, (at + size) * valueBytes) : value,
        attr: { ...attr, count: most, ...(attr.ifPresent !== undefined && { ifPresent: most }) },
        part: partOf(at, count, first),
      };
      const reply: Reply = yield piece;
      if ("failure" in reply) return failedAt(reply, at, count, "elements");
      first ??= reply.seq;
      last = reply;
      const { outcome } = reply;
      const isWhole = outcome.errno !== 0 && at === 0 && outcome.out?.count === piece.attr.count;
      done += elementsDone(piece, outcome);
      if (outcome.errno !== 0) return withCount(reply, isWhole ? count : done);
    }
    return withCount(last as Ran, done);
  })();
}

/**
 * The pieces of a batch that reads or takes out, each from where the last one ended; null: one is enough. If a later
 * piece is refused, the batch answers the elements before it, as if the walk had ended there. EFAULT is the caller's
 * fault, and is answered in place of them.
 */
export function readPieces(state: State, request: BatchRequest, map: OpenMap): Pieces | null {
  const { attr } = request;
  const { count } = attr;
  const keyBytes = map.map.keySize;
  const valueBytes = map.type.valueBytes(map.map, state.host);
  const size = elementsIn(keyBytes + valueBytes, takesOut(request) ? WRITTEN_ELEMENTS : READ_ELEMENTS);
  if (count <= size) return null;
  const most = Math.max(1, Math.min(count, Math.floor(ANSWER_BYTES / (keyBytes + valueBytes))));
  return (function* (): Pieces {
    const same = sameMap(state, request, map);
    const keys: Buffer[] = [];
    const values: Buffer[] = [];
    let got = 0;
    let first: number | null = null;
    let last: Ran | null = null;
    let position = attr.inBatch;
    let next = Math.min(size, most);
    const answer = (ran: Ran, errno: number, detail: string | null): Ran => {
      const place = position === attr.inBatch ? {} : { out_batch: position?.toString("hex") };
      const out = { count: got, ...place, ...idsShown(map) };
      const given = { key: Buffer.concat(keys), value: Buffer.concat(values), out: out as Outcome["out"] };
      return { seq: ran.seq, outcome: { ...ran.outcome, ret: errno === 0 ? 0 : -1, errno, detail, ...given } };
    };
    for (;;) {
      if (last !== null && !same.holds()) return answer(last, 0, null);
      const piece: BatchRequest = {
        ...request,
        target: same.target,
        key: slice(request.key, got * keyBytes),
        value: slice(request.value, got * valueBytes),
        attr: { ...attr, count: next, inBatch: position },
        part: partOf(got, count, first),
      };
      const reply: Reply = yield piece;
      if ("failure" in reply) return last === null ? reply : answer(last, 0, null);
      first ??= reply.seq;
      const { outcome } = reply;
      const { errno, key, value, out } = outcome;
      if (errno === ERRNO.ENOSPC && next < count - got) {
        // The hash bucket has more elements than the piece: the next piece is larger.
        next = Math.min(next * 2, count - got);
        continue;
      }
      if (errno !== 0 && (errno !== ERRNO.ENOENT || value === null)) {
        if (errno === ERRNO.EFAULT) return reply;
        // If the batch is refused as a whole, `count` stays as the caller gave it.
        if (got === 0) return out?.count === next ? withCount(reply, count) : reply;
        return answer(last as Ran, 0, null);
      }
      last = reply;
      got += out?.count ?? 0;
      if (key !== null) keys.push(key);
      if (value !== null) values.push(value);
      if (out?.out_batch !== undefined) position = Buffer.from(out.out_batch, "hex");
      if (errno !== 0 || got >= most || out?.count === 0) return answer(reply, errno, outcome.detail);
      next = Math.min(size, most - got);
    }
  })();
}

function takesOut({ cmd }: BatchRequest): boolean {
  return cmd === CMD.BPF_MAP_LOOKUP_AND_DELETE_BATCH;
}
