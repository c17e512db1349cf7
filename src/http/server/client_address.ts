/**
 * Who is at the other end of a TCP connection. The connection may have been accepted by an HTTP thread, which passes its
 * requests on by a connection of its own (`fronts/`): then it is the client of the accepted one.
 */

import type { Socket } from "node:net";
import { TLSSocket } from "node:tls";

export interface ClientAddress {
  readonly address: string | undefined;
  readonly port: number | undefined;
  /** The name in the client's certificate, if one of the service's authorities has signed it; null: there is none. */
  readonly subject: string | null;
}

const CLIENTS = new WeakMap<Socket, ClientAddress>();

/** Must be called before the first request of a connection by which another thread passes requests on. */
export function isPassedOn(connection: Socket, client: ClientAddress): void {
  CLIENTS.set(connection, client);
}

export function clientAddress(connection: Socket): ClientAddress {
  const passedOn = CLIENTS.get(connection);
  if (passedOn !== undefined) return passedOn;
  const { remoteAddress: address, remotePort: port } = connection;
  return { address, port, subject: certificateSubject(connection) };
}

/** The name of a client certificate that one of the service's authorities has signed: its first URI, else its CN. */
function certificateSubject(socket: Socket): string | null {
  if (!(socket instanceof TLSSocket) || !socket.authorized) return null;
  const certificate = socket.getPeerX509Certificate();
  if (certificate === undefined) return null;
  return uriIn(certificate.subjectAltName ?? "") ?? commonNameIn(certificate.subject ?? "");
}

/**
 * The first URI in a subjectAltName. Names are separated by commas; a name with a comma or a quotation mark is in JSON
 * quotes.
 */
function uriIn(names: string): string | null {
  for (const [, kind, name = ""] of names.matchAll(/([\w ]+):("(?:[^"\\]|\\.)*"|[^,]*)(?:, |$)/g))
    if (kind === "URI") return name.startsWith('"') ? String(JSON.parse(name)) : name;
  return null;
}

/** The CN of a subject, which has one name a line; null if there is none, or more than one. */
function commonNameIn(subject: string): string | null {
  const names = subject.split("\n").filter((line) => line.startsWith("CN="));
  return names.length === 1 ? (names[0] as string).slice("CN=".length) : null;
}
