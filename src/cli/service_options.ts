import { existsSync } from "node:fs";
import { InvalidArgumentError, Option } from "commander";
import type { Service } from "../client/ask.ts";
import { SETTINGS } from "../config.ts";
import { ownSocketFile, ownTokenFile, readOwnToken } from "../data/own_access.ts";

/** A service as it listens on TCP if nothing is set. */
const DEFAULT_URL = `http://${SETTINGS.host.fallback}:${SETTINGS.port.fallback}`;
/** Where a service of the system's may have its socket. */
const SYSTEM_SOCKET = "/run/mapledger/mapledger.sock";

/** --url without a default: the command does it itself unless it is given. */
export function urlOption(what: string): Option {
  return new Option("--url <url>", `${what}: http://..., https://... or unix:PATH of its socket`).argParser(url);
}

/** --url of the service that is asked; `findService` finds one if it is not given. */
export function serviceOption(): Option {
  return urlOption(
    `the service that is asked; by default the unix socket of MAPLEDGER_SOCKET, of ./data or ${SYSTEM_SOCKET}, whichever is there, ` +
      `else ${DEFAULT_URL} with the token in the data directory`,
  );
}

export function tokenOption(): Option {
  return new Option("--token <token>", "bearer token for the service").env("MAPLEDGER_TOKEN");
}

/** The service that is asked if none is named. */
export function findService({ url, token }: { readonly url?: string; readonly token?: string }): Service {
  if (url !== undefined) return { url, token };
  const data = process.env[SETTINGS.data.variable] ?? SETTINGS.data.fallback;
  const socket = sockets(data).find((path) => existsSync(path));
  if (socket !== undefined) return { url: `unix:${socket}`, token };
  return { url: DEFAULT_URL, token: token ?? readOwnToken(ownTokenFile(data)) ?? undefined };
}

function sockets(data: string): readonly string[] {
  const given = process.env[SETTINGS.socket.variable] ?? "";
  return [...(given === "" ? [] : [given]), ownSocketFile(data), SYSTEM_SOCKET];
}

function url(text: string): string {
  if (/^unix:./.test(text) || (/^https?:\/\//.test(text) && URL.canParse(text))) return text;
  throw new InvalidArgumentError("http://..., https://... or unix:PATH is needed.");
}
