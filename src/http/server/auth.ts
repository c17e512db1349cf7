/**
 * Finds the sender of a request: by a bearer token, by the user at the other end of the unix socket, or by a client
 * certificate. The peer (pid, uid, address) is looked up once per connection. It is in the `attr` of a command's event,
 * unless the session's opening event has the same peer. Also refuses requests that a web page of another origin has a
 * browser send.
 */

import type { IncomingHttpHeaders, IncomingMessage } from "node:http";
import type { Socket } from "node:net";
import type { FastifyRequest } from "fastify";
import { ANONYMOUS, type Caller } from "../../access/caller.ts";
import type { Callers } from "../../access/callers.ts";
import type { Settings } from "../../config.ts";
import { clientAddress } from "./client_address.ts";
import { Problem } from "./problems.ts";
import { isSecret } from "./secrets.ts";

/** The caller and the peer of requests. */
export interface Identity {
  /** Throws UnknownCaller. */
  callerOf(request: IncomingMessage): Caller;
  /** The peer as events have it: an address, or "uid=1000 pid=4711"; undefined if the machine does not report it. */
  peerOf(request: IncomingMessage): string | undefined;
  /**
   * Whether requests without credentials are accepted. Such a request is accepted only if its Host is a name of
   * loopback, because a web page can have a browser send it.
   */
  takesAnonymous(request: IncomingMessage): boolean;
}

/** Both listeners' identities as one: each request is judged by the listener of its connection. */
export function identityAt(isUnix: (connection: Socket) => boolean, unix: Identity, tcp: Identity): Identity {
  const at = ({ socket }: IncomingMessage): Identity => (isUnix(socket) ? unix : tcp);
  return {
    callerOf: (request) => at(request).callerOf(request),
    peerOf: (request) => at(request).peerOf(request),
    takesAnonymous: (request) => at(request).takesAnonymous(request),
  };
}

/**
 * On TCP: by a bearer token or a client certificate; with MAPLEDGER_AUTH=off, a request that has neither is anonymous.
 */
export function tcpIdentity(
  callers: Pick<Callers, "byToken" | "byCertificate" | "version">,
  auth: Settings["auth"],
): Identity {
  const takesAnonymous = auth === "off";
  const peers = new WeakMap<Socket, string>();
  const tokens = new ConnectionTokens(callers);
  return {
    peerOf({ socket }) {
      const known = peers.get(socket);
      if (known !== undefined) return known;
      const { address } = clientAddress(socket);
      if (address !== undefined) peers.set(socket, address);
      return address;
    },
    takesAnonymous: () => takesAnonymous,
    callerOf({ headers, socket }) {
      const { authorization } = headers;
      if (authorization !== undefined) return tokens.callerOf(socket, authorization);
      const { subject } = clientAddress(socket);
      if (subject !== null)
        return callers.byCertificate(subject) ?? unknown("unknown_certificate", `the certificate of ${subject}`);
      return takesAnonymous ? ANONYMOUS : noToken();
    },
  };
}

/** The process that made a connection. `pid` 0: a process in a pid namespace that the service cannot see. */
export interface SocketPeer {
  readonly uid: number;
  readonly pid: number;
}

/**
 * On the unix socket: by a bearer token or the connecting user. `peerOf` returns null if the machine does not report
 * it.
 */
export function socketIdentity(callers: Callers, peerOf: (socket: number) => SocketPeer | null): Identity {
  const peers = new WeakMap<Socket, { readonly uid: number; readonly text: string } | null>();
  const peerAt = (socket: Socket) => {
    const known = peers.get(socket);
    if (known !== undefined) return known;
    const descriptor = descriptorOf(socket);
    const found = descriptor === undefined ? null : peerOf(descriptor);
    const peer = found && { uid: found.uid, text: `uid=${found.uid}${found.pid === 0 ? "" : ` pid=${found.pid}`}` };
    peers.set(socket, peer);
    return peer;
  };
  const tokens = new ConnectionTokens(callers);
  return {
    takesAnonymous: () => false,
    peerOf: ({ socket }) => peerAt(socket)?.text,
    callerOf({ headers, socket }) {
      const { authorization } = headers;
      if (authorization !== undefined) return tokens.callerOf(socket, authorization);
      const peer = peerAt(socket);
      return peer === null ? noToken() : (callers.byUid(peer.uid) ?? unknown("unknown_uid", `uid ${peer.uid}`));
    },
  };
}

/** A connection's file descriptor, which Node exposes nowhere else. undefined: the request came over no connection. */
export function descriptorOf(connection: Socket): number | undefined {
  return (connection as { _handle?: { readonly fd?: number } | null })._handle?.fd;
}

/** The caller whom the last request of a connection named by its token. */
interface KnownToken {
  readonly authorization: string;
  readonly caller: Caller;
  /** The version of the callers among which the token was found. */
  readonly version: number;
}

/** Callers by tokens. The requests of a connection have the same token nearly always: it is hashed and looked up once. */
class ConnectionTokens {
  readonly #callers: Pick<Callers, "byToken" | "version">;
  readonly #known = new WeakMap<Socket, KnownToken>();

  constructor(callers: Pick<Callers, "byToken" | "version">) {
    this.#callers = callers;
  }

  /** Throws the problem of a caller who is not known. */
  callerOf(connection: Socket, authorization: string): Caller {
    const { version } = this.#callers;
    const known = this.#known.get(connection);
    if (known !== undefined && known.version === version && isSecret(known.authorization, authorization))
      return known.caller;
    const [, token] = /^Bearer +([^ ]+) *$/i.exec(authorization) ?? [];
    const caller = this.#callers.byToken(token ?? noToken()) ?? unknownToken();
    this.#known.set(connection, { authorization, caller, version });
    return caller;
  }
}

export type UnknownKind = "no_token" | "unknown_token" | "unknown_uid" | "unknown_certificate";

/** The problem of an unknown caller: 401, with a challenge. */
export class UnknownCaller extends Problem {
  readonly kind: UnknownKind;

  constructor(kind: UnknownKind, detail: string, challenge = "Bearer") {
    super("unauthorized", detail, {}, { "www-authenticate": challenge });
    this.kind = kind;
  }
}

function noToken(): never {
  throw new UnknownCaller("no_token", "the request has no bearer token");
}

function unknownToken(): never {
  throw new UnknownCaller("unknown_token", "the bearer token is unknown", 'Bearer error="invalid_token"');
}

function unknown(kind: UnknownKind, who: string): never {
  throw new UnknownCaller(
    kind,
    `${who} is not in the tokens' file (MAPLEDGER_TOKENS), and the request has no bearer token`,
  );
}

/**
 * Names of loopback. A page whose own name resolves to loopback (DNS rebinding) sends that name as Host, and is
 * refused.
 */
const LOOPBACK_HOST = /^(localhost|127(\.\d{1,3}){3}|\[::1\])(:\d+)?$/;

/** Whether the request's Host is accepted. If callers must authenticate, any Host is: a web page has no credentials. */
export function isOwnHost(request: IncomingMessage, identity: Identity): boolean {
  const { host } = request.headers;
  return !identity.takesAnonymous(request) || host === undefined || LOOPBACK_HOST.test(host);
}

/** false: by its Sec-Fetch-Site, a page of another origin sends the request. */
export function isOfOwnPage(headers: IncomingHttpHeaders): boolean {
  const site = headers["sec-fetch-site"];
  return site === undefined || site === "same-origin" || site === "none";
}

/** Whether a route is one of the API documents: links from elsewhere may lead there, and they have no data. */
function isDocument(route: string | undefined): boolean {
  return route !== undefined && (route === "/openapi.json" || route === "/docs" || route.startsWith("/docs/"));
}

/**
 * Refuses requests that a page of another origin has the browser send, because a service without tokens on loopback
 * would obey them. Browsers report the origin in Sec-Fetch-Site and Origin.
 */
export function checkOrigin({ headers, method, routeOptions, raw }: FastifyRequest, identity: Identity): void {
  const { origin } = headers;
  const site = headers["sec-fetch-site"];
  const isRead = method === "GET" && headers["sec-fetch-mode"] === "navigate" && isDocument(routeOptions.url);
  if (!isOfOwnPage(headers) && !isRead)
    throw new Problem("foreign-page", `a page of another origin sent this request (Sec-Fetch-Site: ${site})`);
  if (!isOwnHost(raw, identity))
    throw new Problem("foreign-page", `the request was sent to ${headers.host}, which is not a name of loopback`);
  if (origin !== undefined && origin.slice(origin.indexOf("://") + 3) !== headers.host)
    throw new Problem("foreign-page", `a page of ${origin} sent this request`);
}
