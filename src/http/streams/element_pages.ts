/**
 * Elements of a map, page by page, all as of the event of the first page (`engine/moments.ts`). If the engine no longer
 * keeps that moment, the thread of the past goes on.
 */

import { CMD } from "../../abi/service.ts";
import { asBuffer } from "../../log/row_transfer.ts";
import { WHOLE_MAP } from "../../syscall/elements.ts";
import { done, type Outcome } from "../../syscall/outcome.ts";
import type { Ran } from "../server/commands.ts";
import { type Load, outcomeBytes } from "../server/flight.ts";
import type { EngineDoor, PastDoor } from "../server/ports.ts";

/** A page that is asked for ends behind so many bytes, however few its elements are; a whole map does not. */
const PAGE_BYTES = 16 * 1024 * 1024;

export interface ElementParts {
  readonly engine: Pick<EngineDoor, "query">;
  readonly past: Pick<PastDoor, "run">;
}

/** What reads a map's elements from behind a key on; `after` null: from the first. Answers as many as the engine reads at once. */
export function elementsRequest(map: number, caller: string, limit: number, after: Buffer | null = null) {
  const target = { by: "id", id: map } as const;
  return { cmd: CMD.MAP_ELEMENTS, session: 0, caller, target, attr: { after, limit } } as const;
}

/**
 * At most `limit` elements as they were at one moment, in pages as the engine reads them. The first is the command's own, and its
 * event tells that they were read; each of the others is read when it is taken, so that nobody holds two: of the engine, which keeps
 * the moment for a while, else of the past. The last one's `more` says whether the map has elements behind it. `load` counts the one
 * that is held; it has the first already.
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
    // Whoever breaks off leaves it behind; an engine that has stopped keeps nothing.
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

/** Whether the engine's first page is all that was asked for. */
export function isAll({ outcome }: Ran, limit: number): boolean {
  return outcome.out?.more !== true || countIn(outcome) >= limit;
}

/** The last of the keys that an outcome has given out. */
export function lastKey({ key, out }: Outcome): Buffer {
  const keys = key ?? Buffer.alloc(0);
  return keys.subarray(keys.length - keys.length / (out?.count ?? 1));
}

function countIn({ out }: Outcome): number {
  return out?.count ?? 0;
}
