/** The place of the service that a command asks. */

import { existsSync } from "node:fs";
import { join } from "node:path";
import type { Service } from "../client/ask.ts";
import { SETTINGS } from "../config.ts";
import { SOCKET_FILE } from "../data/layout.ts";

/** The address of a service whose settings are all at their defaults. */
export const DEFAULT_URL = `http://${SETTINGS.host.fallback}:${SETTINGS.port.fallback}`;
/** The usual socket of a service that the system runs. */
export const SYSTEM_SOCKET = "/run/mapledger/mapledger.sock";

export interface Given {
  /** A URL that `isServiceUrl` accepts. */
  readonly url?: string;
  readonly token?: string;
}

/** The service that `url` names; otherwise that of the first socket that exists; otherwise the one at the default address. */
export async function findService({ url, token }: Given): Promise<Service> {
  if (url !== undefined) return { url, token };
  const data = process.env[SETTINGS.data.variable] ?? SETTINGS.data.fallback;
  const socket = sockets(data).find((path) => existsSync(path));
  if (socket !== undefined) return { url: `unix:${socket}`, token };
  // Loaded only if it is needed: it takes a command by the socket a tenth longer.
  const { ownTokenFile, readOwnToken } = await import("../data/own_access.ts");
  return { url: DEFAULT_URL, token: token ?? readOwnToken(ownTokenFile(data)) ?? undefined };
}

export function isServiceUrl(text: string): boolean {
  return /^unix:./.test(text) || (/^https?:\/\//.test(text) && URL.canParse(text));
}

function sockets(data: string): readonly string[] {
  const given = process.env[SETTINGS.socket.variable] ?? "";
  return [...(given === "" ? [] : [given]), join(data, SOCKET_FILE), SYSTEM_SOCKET];
}
