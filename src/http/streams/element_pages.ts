/**
 * The elements of a map, page by page, all as of the seq of the first page (`engine/moments.ts`). If the engine no
 * longer keeps that moment, the thread of the past answers the next pages.
 */

import { CMD } from "../../abi/service.ts";
import { asBuffer } from "../../log/row_transfer.ts";
import { WHOLE_MAP } from "../../syscall/elements.ts";
import { done, type Outcome } from "../../syscall/outcome.ts";
import type { Ran } from "../server/commands.ts";
import { type Load, outcomeBytes } from "../server/flight.ts";
import type { EngineDoor, PastDoor } from "../server/ports.ts";

/** A page with a limit ends after about this many bytes; a read of the whole map does not. */
const PAGE_BYTES = 16 * 1024 * 1024;

export interface ElementParts {
  readonly engine: Pick<EngineDoor, "query">;
  readonly past: Pick<PastDoor, "run">;
}

/**
 * The command that reads a map's elements after a key; `after` null: from the first. The engine answers what fits in
 * one read.
 */
export function elementsRequest(map: number, caller: string, limit: number, after: Buffer | null = null) {
  const target = { by: "id", id: map } as const;
  return { cmd: CMD.MAP_ELEMENTS, session: 0, caller, target, attr: { after, limit } } as const;
}

/**
 * Yields at most `limit` elements as of one moment, in pages. The first page is the command's own outcome, whose event
 * records the read. Each further page is read when the consumer asks for it, so only one is held at a time: from the
 * engine while it keeps the moment, then from the past. `more` of the last page says whether the map has further
 * elements. `load` counts the page that is held; it has counted the first already.
 */
export async function* elementPages(
  parts: ElementParts,
  load: Load,
  caller: string,
  limit: number,
  first: Ran,
): AsyncGenerator<Outcome> {
  const { seq, outcome } = first;
  const { ids } = outcome.out ?? {};
  if (isAll(first, limit)) {
    yield outcome;
    load.giveAll();
    return;
  }
  try {
    let left = limit;
    let bytesLeft = limit === WHOLE_MAP ? Number.POSITIVE_INFINITY : PAGE_BYTES;
    for (let page = outcome; ; page = await pageBehind(parts, caller, left, { seq, outcome: page })) {
      if (page !== outcome) load.hold(outcomeBytes(page));
      yield ids === true ? { ...page, out: { ...page.out, ids } } : page;
      load.giveAll();
      const bytes = outcomeBytes(page);
      bytesLeft -= bytes;
      left = Math.min(left - countIn(page), Math.floor(bytesLeft / (bytes / countIn(page))));
      if (page.out?.more !== true || left <= 0) return;
    }
  } finally {
    // The engine need no longer keep the moment, even if the consumer stops early. A stopped engine keeps none.
    await parts.engine.query("elementsRead", { seq }).catch(() => {});
  }
}

async function pageBehind(
  { engine, past }: ElementParts,
  caller: string,
  limit: number,
  { seq, outcome }: Ran,
): Promise<Outcome> {
  const { map } = outcome;
  const after = lastKey(outcome);
  const kept = await engine.query("elements", { seq, map, after: after.toString("hex"), limit });
  if (kept !== null) {
    const { count, more, keys, values } = kept;
    return done(map, asBuffer(values), more ? { count, more } : { count }, asBuffer(keys));
  }
  const { answer } = await past.run({ seq }, elementsRequest(map, caller, limit, after));
  if (answer.errno !== 0) throw new Error(`reading map ${map} as of ${seq}: ${answer.detail}`);
  return answer;
}

/** Whether the first page has all elements that were asked for. */
export function isAll({ outcome }: Ran, limit: number): boolean {
  return outcome.out?.more !== true || countIn(outcome) >= limit;
}

/** The last key of an outcome's keys. */
export function lastKey({ key, out }: Outcome): Buffer {
  const keys = key ?? Buffer.alloc(0);
  return keys.subarray(keys.length - keys.length / (out?.count ?? 1));
}

function countIn({ out }: Outcome): number {
  return out?.count ?? 0;
}
