import type { Server, Socket } from "node:net";
import { Server as TlsServer } from "node:tls";
import { responseOf } from "./pipelines.ts";

/** Requests that are under way when a service stops have this long. */
const GRACE_MS = 5000;

/**
 * The open connections of HTTP servers. A server that is closed waits for every connection by which a request may still come; one that
 * its client opened and forgot, or holds open on purpose, would keep the service from stopping.
 */
export class Connections {
  /** Everything that was accepted; of TLS these are the connections below it. */
  readonly #accepted = new Set<Socket>();
  /** The connections that requests come by. */
  readonly #http = new Set<Socket>();

  constructor(servers: readonly Server[]) {
    for (const server of servers) {
      keep(server, "connection", this.#accepted);
      keep(server, server instanceof TlsServer ? "secureConnection" : "connection", this.#http);
    }
  }

  /** Closes connections without a request under way now, and all others when GRACE_MS are over. */
  close(): void {
    for (const socket of this.#http) if (responseOf(socket) === null) socket.destroy();
    setTimeout(() => {
      for (const socket of this.#accepted) socket.destroy();
    }, GRACE_MS).unref();
  }
}

function keep(server: Server, event: string, open: Set<Socket>): void {
  server.on(event, (socket: Socket) => {
    open.add(socket);
    socket.once("close", () => open.delete(socket));
  });
}
