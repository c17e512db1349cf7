import { hash, timingSafeEqual } from "node:crypto";
import { readFileSync } from "node:fs";
import type { IncomingHttpHeaders } from "node:http";
import type { FastifyRequest } from "fastify";
import type { Settings } from "../config.ts";
import { Problem } from "./problems.ts";

/** The caller whose token it is, or null. */
export type Authenticate = (token: string) => string | null;

/** The caller of everything where no tokens are configured. */
const ANONYMOUS = "anonymous";
/** The service's own name in the log. */
const SERVICE = "mapledger";
const NAME_BYTES_MAX = 255;

/**
 * Reads a file of tokens' hashes: a line is `name:sha256`, the hash in hex of the token's bytes; empty lines and lines that
 * begin with # say nothing. A name may have several tokens. Throws an Error that names the file and the line.
 */
export function readTokens(file: string): Authenticate {
  const tokens = readFileSync(file, "utf8")
    .split("\n")
    .map((line, at) => readLine(line.trim(), `${file}:${at + 1}`))
    .filter((token) => token !== null);
  if (tokens.length === 0) throw new Error(`${file}: there is no token, so nobody could use the service`);
  return (token) => {
    const given = hash("sha256", token, "buffer");
    let caller: string | null = null;
    // All of them are compared, so that the time taken tells nothing.
    for (const { name, digest } of tokens) if (timingSafeEqual(digest, given)) caller = name;
    return caller;
  };
}

function readLine(line: string, where: string): { readonly name: string; readonly digest: Buffer } | null {
  if (line === "" || line.startsWith("#")) return null;
  const colon = line.lastIndexOf(":");
  const name = line.slice(0, Math.max(colon, 0)).trim();
  const digits = line.slice(colon + 1).trim();
  if (colon < 0 || !/^[0-9a-f]{64}$/i.test(digits))
    throw new Error(`${where}: "name:" and the 64 hex digits of a SHA-256 are needed`);
  if (name === "" || Buffer.byteLength(name) > NAME_BYTES_MAX)
    throw new Error(`${where}: a name has 1 to ${NAME_BYTES_MAX} bytes, found ${Buffer.byteLength(name)}`);
  if (name === SERVICE || name === ANONYMOUS) throw new Error(`${where}: ${name} is a name of the service's own`);
  return { name, digest: Buffer.from(digits, "hex") };
}

/** Throws where the service would be open to others without a token. */
export function checkListen({ host, tokens }: Pick<Settings, "host" | "tokens">): void {
  if (tokens === "" && !isLoopback(host))
    throw new Error(
      `MAPLEDGER_HOST is ${host}: anything but loopback needs MAPLEDGER_TOKENS, a file of tokens' hashes`,
    );
}

function isLoopback(host: string): boolean {
  return host === "localhost" || host === "::1" || /^127(\.\d{1,3}){3}$/.test(host);
}

/** Who sends a request. Throws the problem of a token that is missing or unknown. */
export function callerOf(headers: IncomingHttpHeaders, authenticate: Authenticate | null): string {
  if (authenticate === null) return ANONYMOUS;
  const [, token] = /^Bearer +([^ ]+) *$/i.exec(headers.authorization ?? "") ?? [];
  if (token === undefined) throw unauthorized("the request has no bearer token", "Bearer");
  return authenticate(token) ?? refuse();
}

function refuse(): never {
  throw unauthorized("the bearer token is unknown", 'Bearer error="invalid_token"');
}

function unauthorized(detail: string, challenge: string): Problem {
  return new Problem("unauthorized", detail, {}, { "www-authenticate": challenge });
}

/** Names by which a service on loopback is called; a page that has made another name mean loopback is found out by it. */
const LOOPBACK_HOST = /^(localhost|127(\.\d{1,3}){3}|\[::1\])(:\d+)?$/;

/** Whether a request's Host is one that the service goes by. With tokens any will do: a page does not know them. */
export function isOwnHost({ host }: IncomingHttpHeaders, authenticate: Authenticate | null): boolean {
  return authenticate !== null || host === undefined || LOOPBACK_HOST.test(host);
}

/** Whether no browser says that a page of another origin is behind the request. */
export function isOfOwnPage(headers: IncomingHttpHeaders): boolean {
  const site = headers["sec-fetch-site"];
  return site === undefined || site === "same-origin" || site === "none";
}

/** What people come to by links from elsewhere, and which has no data: API documents. */
function isDocument(route: string | undefined): boolean {
  return route !== undefined && (route === "/openapi.json" || route === "/docs" || route.startsWith("/docs/"));
}

/**
 * A browser sends what a page of any origin asks it to, and a service on loopback without tokens would obey: such
 * requests say where they come from, and are refused.
 */
export function checkOrigin(
  { headers, method, routeOptions }: FastifyRequest,
  authenticate: Authenticate | null,
): void {
  const { origin } = headers;
  const site = headers["sec-fetch-site"];
  const isRead = method === "GET" && headers["sec-fetch-mode"] === "navigate" && isDocument(routeOptions.url);
  if (!isOfOwnPage(headers) && !isRead)
    throw new Problem("foreign-page", `a page of another origin has the browser send this (Sec-Fetch-Site: ${site})`);
  if (!isOwnHost(headers, authenticate))
    throw new Problem("foreign-page", `the request was sent to ${headers.host}, which is no name of loopback`);
  if (origin !== undefined && origin.slice(origin.indexOf("://") + 3) !== headers.host)
    throw new Problem("foreign-page", `the request comes from a page of ${origin}`);
}
