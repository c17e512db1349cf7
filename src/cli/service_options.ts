import { existsSync } from "node:fs";
import { join } from "node:path";
import { InvalidArgumentError, Option } from "commander";
import type { Service } from "../client/ask.ts";
import { SETTINGS } from "../config.ts";
import { SOCKET_FILE } from "../data/layout.ts";
import { ownTokenFile, readOwnToken } from "../data/own_access.ts";

/** The address of a service whose settings are all at their defaults. */
const DEFAULT_URL = `http://${SETTINGS.host.fallback}:${SETTINGS.port.fallback}`;
/** The usual socket of a service that the system runs. */
const SYSTEM_SOCKET = "/run/mapledger/mapledger.sock";

/** --url without a default: unless it is given, the command acts on the files itself. */
export function urlOption(what: string): Option {
  return new Option("--url <url>", `${what}: http://..., https://... or unix:PATH of its socket`).argParser(url);
}

/** --url of the service to ask; if it is not given, `findService` finds one. */
export function serviceOption(): Option {
  return urlOption(
    `the service to ask; by default the first unix socket that exists, of MAPLEDGER_SOCKET, ./data and ${SYSTEM_SOCKET}, ` +
      `otherwise ${DEFAULT_URL} with the token in the data directory`,
  );
}

export function tokenOption(): Option {
  return new Option("--token <token>", "bearer token for the service").env("MAPLEDGER_TOKEN");
}

/** The service that --url names; otherwise that of the first socket that exists; otherwise the one at the default address. */
export function findService({ url, token }: { readonly url?: string; readonly token?: string }): Service {
  if (url !== undefined) return { url, token };
  const data = process.env[SETTINGS.data.variable] ?? SETTINGS.data.fallback;
  const socket = sockets(data).find((path) => existsSync(path));
  if (socket !== undefined) return { url: `unix:${socket}`, token };
  return { url: DEFAULT_URL, token: token ?? readOwnToken(ownTokenFile(data)) ?? undefined };
}

function sockets(data: string): readonly string[] {
  const given = process.env[SETTINGS.socket.variable] ?? "";
  return [...(given === "" ? [] : [given]), join(data, SOCKET_FILE), SYSTEM_SOCKET];
}

function url(text: string): string {
  if (/^unix:./.test(text) || (/^https?:\/\//.test(text) && URL.canParse(text))) return text;
  throw new InvalidArgumentError("http://..., https://... or unix:PATH is needed.");
}
