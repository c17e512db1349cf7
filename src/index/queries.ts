import { cmdsThat } from "../syscall/command_facts.ts";

/** Commands that change neither elements nor the life of a map. */
export const READS = cmdsThat(({ leavesMaps }) => leavesMaps);

/** What an index offers: the seqs of one filter's value. Each is ordered by seq within a value, so that it serves both directions. */
export const SOURCES = {
  key: "SELECT seq FROM by_key WHERE key = :key",
  keys: "SELECT DISTINCT seq FROM by_key WHERE key >= :key AND key < :keyEnd",
  errno: "SELECT seq FROM by_errno WHERE errno = :errno",
  failures: "SELECT seq FROM failures WHERE true",
  session: "SELECT seq FROM by_session WHERE session = :session",
  map: "SELECT seq FROM by_map WHERE map = :map",
  caller: "SELECT seq FROM by_caller WHERE caller = :caller",
  cmd: "SELECT seq FROM by_cmd WHERE cmd = :cmd",
  changes: "SELECT seq FROM changes WHERE true",
  none: "SELECT seq FROM log.events WHERE true",
} as const;

export type Source = keyof typeof SOURCES;
export type Direction = "ASC" | "DESC";

/** Least and greatest key with a prefix: where they are one, the prefix is a whole key, and its events stand in order. */
export const KEYS_BETWEEN = `
  SELECT (SELECT min(key) FROM by_key WHERE key >= :key AND key < :keyEnd) AS least,
         (SELECT max(key) FROM by_key WHERE key >= :key AND key < :keyEnd) AS greatest`;

/**
 * A row for each seq that the source offers above :after and up to :until: `at` is the seq, all else is NULL where the event
 * does not match the other filters. A filter that is not given is NULL and holds.
 */
export function eventQuery(source: Source, direction: Direction): string {
  const ofMap = ":map IS NULL OR EXISTS (SELECT 1 FROM by_map AS m WHERE m.map = :map AND m.seq = i.seq)";
  return `
  SELECT i.seq AS at, e.*
  FROM (${SOURCES[source]} AND seq > :after AND seq <= :until ORDER BY seq ${direction}) AS i
  LEFT JOIN log.events AS e ON e.seq = i.seq
    AND (:session IS NULL OR e.session = :session)
    AND (:caller IS NULL OR e.caller = :caller)
    AND (:cmd IS NULL OR e.cmd = :cmd)
    AND (:errno IS NULL OR e.errno = :errno)
    AND (:changing IS NULL OR e.cmd NOT IN (${READS.join(", ")}))
    AND (:failed IS NULL OR (e.errno != 0) = :failed)
    AND (:changed IS NULL OR EXISTS (SELECT 1 FROM changes AS c WHERE c.seq = i.seq) = :changed)
    AND (${source === "map" ? ":map IS NOT NULL" : ofMap})
  ORDER BY i.seq ${direction}`;
}
