/**
 * Finds the archived events that can be read: segments without a gap up to the last archived event, in one folder or
 * several. The threads that read them are started when they are first asked: `threads/archived.ts` for events, and a
 * second `threads/past.ts` for the past from event 1 on. `index/whole_events.ts` and `past/whole_past.ts` ask the log
 * first, and these threads if the log answers EventsArchived.
 */

import { Archive } from "./archive.ts";
import type { Segment } from "./segment.ts";

/** A segment with the folder of the archive that has it. */
export type PlacedSegment = Segment & { readonly folder: string };

/**
 * The available segments of a log's archived events, ascending and without a gap; the last one ends with event
 * `through`. They may come from several folders, if a log was archived to one folder after the other. For example, with
 * events 1 to 300 archived and the segment of 101 to 200 missing, the answer is the segment of 201 to 300. If there is
 * none, the answer is the reason.
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
