import type { FastifyRequest } from "fastify";
import { visible } from "../../codec/visible.ts";
import { requestText } from "./access.ts";

/** Operations that tell of maps, and of what became of them, and leave no event of it. */
export const SILENT_READS: ReadonlySet<string> = new Set([
  "listSessions",
  "getSession",
  "listDescriptors",
  "getDescriptor",
  "listMaps",
  "getMap",
  "watchMap",
  "elementHistory",
  "diffMap",
  "restoreMap",
  "listEvents",
  "streamEvents",
  "getEvent",
  "getProof",
  "listPins",
  "listDirectories",
  "getDrift",
  "getMirror",
  "listKernelMaps",
]);

/** Characters of anything that a caller has written. */
const TEXT_MAX = 256;

/** A line of the service's log about a read that leaves no event: one of these operations, or one of an earlier moment. */
export function logRead(request: FastifyRequest, operation: string): void {
  const params = (request.params ?? {}) as Record<string, unknown>;
  const query = (request.query ?? {}) as Record<string, unknown>;
  if (!SILENT_READS.has(operation) && query.at === undefined) return;
  const { caller, peer } = request;
  const what = {
    map: shown(params.map ?? query.map),
    session: shown(params.session),
    fd: shown(params.fd),
    seq: shown(params.seq),
    at: shown(query.at),
  };
  request.log.info({ caller, peer, operation, request: shown(requestText(request)), ...what }, "read");
}

/** What a caller has written can neither fill the log nor change the terminal of who reads it. */
function shown(value: unknown): string | undefined {
  return value === undefined ? undefined : visible(String(value).slice(0, TEXT_MAX));
}
