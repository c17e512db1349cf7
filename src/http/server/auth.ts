/**
 * Who sends a request: the owner of a token, a user on the other end of the unix socket, or a client's certificate. The
 * identity is found once a connection. The peer (pid, uid, address) stands in the `attr` of a command's event, unless
 * it is the peer of the session's opening event.
 */

import type { IncomingHttpHeaders, IncomingMessage } from "node:http";
import type { Socket } from "node:net";
import { TLSSocket } from "node:tls";
import type { FastifyRequest } from "fastify";
import { ANONYMOUS, type Caller } from "../../access/caller.ts";
import type { Callers } from "../../access/callers.ts";
import type { Settings } from "../../config.ts";
import { Problem } from "./problems.ts";

/** How the service knows who sends a request. */
export interface Identity {
  /** Throws the problem of a caller who is not known. */
  callerOf(request: IncomingMessage): Caller;
  /** From where a request comes, as events tell it: an address, or "uid=1000 pid=4711"; undefined: the machine does not say. */
  peerOf(request: IncomingMessage): string | undefined;
  /**
   * Whether requests are taken that say of nobody that he sent them. A browser sends what a page asks it to: such requests are
   * taken only if they were sent to a name of loopback.
   */
  takesAnonymous(request: IncomingMessage): boolean;
}

/** Over both listeners: by that which a request's connection came in at. */
export function identityAt(isUnix: (connection: Socket) => boolean, unix: Identity, tcp: Identity): Identity {
  const at = ({ socket }: IncomingMessage): Identity => (isUnix(socket) ? unix : tcp);
  return {
    callerOf: (request) => at(request).callerOf(request),
    peerOf: (request) => at(request).peerOf(request),
    takesAnonymous: (request) => at(request).takesAnonymous(request),
  };
}

/** On TCP: by a bearer token or a client's certificate; anybody, where the operator has said so. */
export function tcpIdentity(callers: Callers, auth: Settings["auth"]): Identity {
  const takesAnonymous = auth === "off";
  const peers = new WeakMap<Socket, string>();
  return {
    peerOf({ socket }) {
      const known = peers.get(socket);
      if (known !== undefined) return known;
      const { remoteAddress } = socket;
      if (remoteAddress !== undefined) peers.set(socket, remoteAddress);
      return remoteAddress;
    },
    takesAnonymous: () => takesAnonymous,
    callerOf({ headers, socket }) {
      const token = tokenIn(headers);
      if (token !== null) return callers.byToken(token) ?? unknownToken();
      const subject = certificateSubject(socket);
      if (subject !== null)
        return callers.byCertificate(subject) ?? unknown("unknown_certificate", `the certificate of ${subject}`);
      return takesAnonymous ? ANONYMOUS : noToken();
    },
  };
}

/** Who made a connection. `pid` 0: a process in a pid namespace that the service does not see. */
export interface SocketPeer {
  readonly uid: number;
  readonly pid: number;
}

/** On the unix socket: by the user at its other end, or a bearer token. `peerOf`: null where the machine does not tell. */
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
  return {
    takesAnonymous: () => false,
    peerOf: ({ socket }) => peerAt(socket)?.text,
    callerOf({ headers, socket }) {
      const token = tokenIn(headers);
      if (token !== null) return callers.byToken(token) ?? unknownToken();
      const peer = peerAt(socket);
      return peer === null ? noToken() : (callers.byUid(peer.uid) ?? unknown("unknown_uid", `uid ${peer.uid}`));
    },
  };
}

/** Of a connection; Node tells it nowhere else. undefined: the request came over no connection. */
export function descriptorOf(connection: Socket): number | undefined {
  return (connection as { _handle?: { readonly fd?: number } | null })._handle?.fd;
}

function tokenIn({ authorization }: IncomingHttpHeaders): string | null {
  if (authorization === undefined) return null;
  const [, token] = /^Bearer +([^ ]+) *$/i.exec(authorization) ?? [];
  return token ?? noToken();
}

/** Whom a client's certificate names, which one of the service's own authorities has signed: its first URI, else its CN. */
function certificateSubject(socket: Socket): string | null {
  if (!(socket instanceof TLSSocket) || !socket.authorized) return null;
  const certificate = socket.getPeerX509Certificate();
  if (certificate === undefined) return null;
  return uriIn(certificate.subjectAltName ?? "") ?? commonNameIn(certificate.subject ?? "");
}

/** Names have commas between them; one that has a comma or a quotation mark itself is quoted as JSON quotes it. */
function uriIn(names: string): string | null {
  for (const [, kind, name = ""] of names.matchAll(/([\w ]+):("(?:[^"\\]|\\.)*"|[^,]*)(?:, |$)/g))
    if (kind === "URI") return name.startsWith('"') ? String(JSON.parse(name)) : name;
  return null;
}

/** A line each; none where there are several. */
function commonNameIn(subject: string): string | null {
  const names = subject.split("\n").filter((line) => line.startsWith("CN="));
  return names.length === 1 ? (names[0] as string).slice("CN=".length) : null;
}

export type UnknownKind = "no_token" | "unknown_token" | "unknown_uid" | "unknown_certificate";

/** The problem of a caller who is not known. */
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

/** Names by which a service on loopback is called; a page that has made another name mean loopback is found out by it. */
const LOOPBACK_HOST = /^(localhost|127(\.\d{1,3}){3}|\[::1\])(:\d+)?$/;

/** Whether a request's Host is one that the service goes by. If callers must authenticate, any Host is accepted: a web page has no credentials. */
export function isOwnHost(request: IncomingMessage, identity: Identity): boolean {
  const { host } = request.headers;
  return !identity.takesAnonymous(request) || host === undefined || LOOPBACK_HOST.test(host);
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
export function checkOrigin({ headers, method, routeOptions, raw }: FastifyRequest, identity: Identity): void {
  const { origin } = headers;
  const site = headers["sec-fetch-site"];
  const isRead = method === "GET" && headers["sec-fetch-mode"] === "navigate" && isDocument(routeOptions.url);
  if (!isOfOwnPage(headers) && !isRead)
    throw new Problem("foreign-page", `a page of another origin has the browser send this (Sec-Fetch-Site: ${site})`);
  if (!isOwnHost(raw, identity))
    throw new Problem("foreign-page", `the request was sent to ${headers.host}, which is no name of loopback`);
  if (origin !== undefined && origin.slice(origin.indexOf("://") + 3) !== headers.host)
    throw new Problem("foreign-page", `the request comes from a page of ${origin}`);
}
