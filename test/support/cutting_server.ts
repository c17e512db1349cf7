import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";
import type { Test } from "tap";

/** What is done when the n-th request of a connection has arrived, n from 1 on. */
export type OnRequest = (socket: Socket, n: number, path: string) => void;

/** A server that reads requests of HTTP/1.1, counts them, and has the test say which bytes are answered, and when the connection ends. */
export class CuttingServer {
  /** The paths of all requests that have arrived, in their order. */
  readonly requests: string[] = [];
  connections = 0;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  private constructor(onRequest: OnRequest, onConnection: (socket: Socket) => void) {
    this.#server = createServer((socket) => {
      this.connections++;
      this.#sockets.add(socket);
      socket.on("error", () => {});
      onConnection(socket);
      this.#read(socket, onRequest);
    });
  }

  static async start(t: Test, onRequest: OnRequest, onConnection: (socket: Socket) => void = () => {}) {
    const server = new CuttingServer(onRequest, onConnection);
    await once(server.#server.listen(0, "127.0.0.1"), "listening");
    t.teardown(() => {
      server.#server.close();
      for (const socket of server.#sockets) socket.destroy();
    });
    return server;
  }

  get url(): URL {
    return new URL(`http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`);
  }

  /** Connections that had come, once this one has: connections are accepted in their order. */
  async connectionsBefore(): Promise<number> {
    const before = this.connections;
    const { port } = this.#server.address() as AddressInfo;
    const probe = connect(port, "127.0.0.1");
    const [accepted] = (await Promise.all([once(this.#server, "connection"), once(probe, "connect")]))[0];
    let last = accepted as Socket;
    while (last.remotePort !== probe.localPort) [last] = (await once(this.#server, "connection")) as [Socket];
    probe.destroy();
    return Math.max(before, this.connections - 1);
  }

  #read(socket: Socket, onRequest: OnRequest): void {
    let rest = "";
    let count = 0;
    socket.setEncoding("latin1").on("data", (piece: string) => {
      rest += piece;
      for (;;) {
        const end = rest.indexOf("\r\n\r\n");
        if (end === -1) return;
        const [, length = "0"] = /\r\ncontent-length: (\d+)/i.exec(rest.slice(0, end)) ?? [];
        if (rest.length < end + 4 + Number(length)) return;
        const path = rest.split(" ", 2)[1] as string;
        rest = rest.slice(end + 4 + Number(length));
        this.requests.push(path);
        onRequest(socket, ++count, path);
      }
    });
  }
}

/** An answer of JSON. */
export function answer(json: object, headers = ""): string {
  const text = JSON.stringify(json);
  return `HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n${headers}content-length: ${text.length}\r\n\r\n${text}`;
}
