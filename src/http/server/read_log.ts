/** A log line for each read that leaves no event, so that the service's log has all reads (MAPLEDGER_READ_LOG). */

import type { FastifyRequest } from "fastify";
import { visible } from "../../codec/visible.ts";
import { requestText } from "./access.ts";

/** Operations that show maps, elements or events without leaving an event. */
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
  "listBtf",
  "getBtf",
  "getMapTypes",
]);

/** The most characters of a text from a caller. */
const TEXT_MAX = 256;

/** Writes the line of a request whose operation is one of SILENT_READS, or that reads an earlier moment (`at`). */
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
    btf: shown(params.btf),
    at: shown(query.at),
  };
  request.log.info({ caller, peer, operation, request: shown(requestText(request)), ...what }, "read");
}

/**
 * A caller's text, cut and with control characters escaped: it can neither fill the log nor affect a reader's terminal.
 */
function shown(value: unknown): string | undefined {
  return value === undefined ? undefined : visible(String(value).slice(0, TEXT_MAX));
}
