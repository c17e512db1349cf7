/**
 * Finds the archived events that can be read: segments without a gap up to the last archived event, in one folder or
 * several. The threads that read them are started when they are first asked: `threads/archived.ts` for events, and a
 * second `threads/past.ts` for the past from event 1 on. `index/whole_events.ts` and `past/whole_past.ts` ask the log
 * first, and these threads if the log answers EventsArchived.
 */

import { Archive } from "./archive.ts";
import type { Segment } from "./segment.ts";

/** A segment, and the archive's folder that it lies in. */
export type PlacedSegment = Segment & { readonly folder: string };

/**
 * The segments of a log's archived events that are at hand, ascending: without a gap up to the last archived event, which is in the last
 * of them. A log may have been archived to one folder after the other. None: why.
 */
export function segmentsAtHand(
  folders: readonly string[],
  log: string,
  through: number,
): readonly PlacedSegment[] | string {
  const reasons: string[] = [];
  const byEnd = new Map<number, PlacedSegment>();
  for (const folder of new Set(folders))
    try {
      const archive = new Archive(folder);
      if (archive.log !== log) throw new Error(`${folder} is the archive of log ${archive.log}`);
      for (const segment of archive.segments)
        if (!byEnd.has(segment.through)) byEnd.set(segment.through, { ...segment, folder });
    } catch (error) {
      reasons.push((error as Error).message);
    }
  const chain: PlacedSegment[] = [];
  for (let end = through; end > 0; ) {
    const segment = byEnd.get(end);
    if (segment === undefined) break;
    chain.unshift(segment);
    end = segment.first - 1;
  }
  if (chain.length > 0) return chain;
  return [...reasons, `no archive has event ${through}`].join("; ");
}
