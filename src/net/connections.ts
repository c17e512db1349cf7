import type { Server, Socket } from "node:net";
import { Server as TlsServer } from "node:tls";
import { responseOf } from "./pipelines.ts";

/** Requests that are under way when a service stops have this long. */
const GRACE_MS = 5000;

/** An application, as far as it is closed here. */
interface App {
  readonly server: Server;
  close(): PromiseLike<unknown>;
}

/**
 * The servers of a service and their open connections. A server that is closed waits for every connection by which a request may still
 * come; one that its client opened and forgot, or holds open on purpose, would keep the service from stopping.
 */
export class Connections {
  readonly #app: App;
  readonly #unix: Server | null;
  /** Everything that was accepted; of TLS these are the connections below it. */
  readonly #accepted = new Set<Socket>();
  /** The connections that requests come by. */
  readonly #http = new Set<Socket>();

  /** `unix`: a second server of the application's routes; null: there is none. */
  constructor(app: App, unix: Server | null) {
    this.#app = app;
    this.#unix = unix;
    for (const server of unix === null ? [app.server] : [app.server, unix]) {
      keep(server, "connection", this.#accepted);
      keep(server, server instanceof TlsServer ? "secureConnection" : "connection", this.#http);
    }
  }

  /** Closes the servers: connections without a request under way now, all others if they are still open when GRACE_MS are over. */
  async close(): Promise<void> {
    const unix = this.#unix;
    const closed = Promise.all([
      this.#app.close(),
      unix === null ? null : new Promise((resolve) => unix.close(resolve)),
    ]);
    for (const socket of this.#http) if (responseOf(socket) === null) socket.destroy();
    setTimeout(() => {
      for (const socket of this.#accepted) socket.destroy();
    }, GRACE_MS).unref();
    await closed;
  }
}

function keep(server: Server, event: string, open: Set<Socket>): void {
  server.on(event, (socket: Socket) => {
    open.add(socket);
    socket.once("close", () => open.delete(socket));
  });
}
