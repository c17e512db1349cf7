/** Checks the settings of the listeners, and listens on the unix socket. */

import { once } from "node:events";
import { chmodSync, chownSync, lstatSync, readFileSync, rmSync } from "node:fs";
import { connect, createServer, type Server } from "node:net";
import { join } from "node:path";
import type { Settings } from "../../config.ts";
import { SOCKET_FILE } from "../../data/layout.ts";

/** The size of sockaddr_un's sun_path without the final NUL. */
const SOCKET_PATH_BYTES_MAX = 107;
const NO_SOCKET = "none";
/** Until the socket's mode is set, only the owner can connect. */
const SOCKET_UMASK = 0o177;

type ListenSettings = Pick<Settings, "host" | "port" | "auth" | "tls" | "tlsCert" | "tlsKey" | "tlsClientCa">;

/** Throws if the service would be open to other machines without protection, or if settings contradict each other. */
export function checkListen(settings: ListenSettings): void {
  const { host, port, auth, tls, tlsCert, tlsKey, tlsClientCa } = settings;
  if ((tlsCert === "") !== (tlsKey === ""))
    throw new Error("MAPLEDGER_TLS_CERT and MAPLEDGER_TLS_KEY must be set together");
  if (tlsClientCa !== "" && tlsCert === "")
    throw new Error("MAPLEDGER_TLS_CLIENT_CA needs MAPLEDGER_TLS_CERT and MAPLEDGER_TLS_KEY");
  if (port === null || isLoopback(host)) return;
  if (auth === "off")
    throw new Error(`MAPLEDGER_AUTH is off and MAPLEDGER_HOST is ${host}: without tokens only loopback is allowed`);
  if (tlsCert === "" && tls !== "off")
    throw new Error(
      `MAPLEDGER_HOST is ${host}: other hosts than loopback need MAPLEDGER_TLS_CERT and MAPLEDGER_TLS_KEY, or ` +
        "MAPLEDGER_TLS=off if a proxy terminates TLS",
    );
}

function isLoopback(host: string): boolean {
  return host === "localhost" || host === "::1" || /^127(\.\d{1,3}){3}$/.test(host);
}

/**
 * Throws if another process listens on the TCP port. With SO_REUSEPORT, which lets several threads listen, another
 * service of the same user would not be refused, and would get a part of the connections.
 */
export async function checkFree({ host, port }: Pick<Settings, "host" | "port">): Promise<void> {
  if (port === null || port === 0) return;
  const alone = createServer().listen({ host, port });
  await once(alone, "listening");
  alone.close();
  await once(alone, "close");
}

/** The path of the unix socket; null: there is none. `warning`: why there is none although the settings ask for one. */
export function socketPath({ socket, data }: Pick<Settings, "socket" | "data">): {
  readonly path: string | null;
  readonly warning: string | null;
} {
  if (socket === NO_SOCKET) return { path: null, warning: null };
  const path = socket === "" ? join(data, SOCKET_FILE) : socket;
  const bytes = Buffer.byteLength(path);
  if (bytes <= SOCKET_PATH_BYTES_MAX) return { path, warning: null };
  const warning =
    `no unix socket: its path has ${bytes} bytes (limit ${SOCKET_PATH_BYTES_MAX}); set MAPLEDGER_SOCKET to a path shorter than ` +
    path;
  return { path: null, warning };
}

/** Listens on a unix socket. A socket that a dead process left is removed; if anything else is there, this throws. */
export async function listenOnSocket(
  server: Server,
  path: string,
  { socketMode, socketGroup }: Pick<Settings, "socketMode" | "socketGroup">,
): Promise<void> {
  const group = socketGroup === "" ? null : groupId(socketGroup);
  const found = lstatSync(path, { throwIfNoEntry: false });
  if (found !== undefined) {
    if (!found.isSocket()) throw new Error(`${path} is not a socket (MAPLEDGER_SOCKET)`);
    if (await isServed(path))
      throw new Error(
        `${path}: another process serves it; if it is the data directory's, another mapledger uses the directory`,
      );
    rmSync(path);
  }
  const umask = process.umask(SOCKET_UMASK);
  try {
    server.listen(path);
    await once(server, "listening");
  } finally {
    process.umask(umask);
  }
  if (group !== null) chownSync(path, -1, group);
  chmodSync(path, socketMode);
}

function isServed(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path);
    const tell = (isServed: boolean): void => {
      socket.destroy();
      resolve(isServed);
    };
    socket.once("connect", () => tell(true)).once("error", () => tell(false));
  });
}

function groupId(name: string): number {
  if (/^\d{1,10}$/.test(name)) return Number(name);
  for (const line of readFileSync("/etc/group", "utf8").split("\n")) {
    const [group, , id] = line.split(":");
    if (group === name && id !== undefined) return Number(id);
  }
  throw new Error(`MAPLEDGER_SOCKET_GROUP is ${name}: there is no such group`);
}
