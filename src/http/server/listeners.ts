import { once } from "node:events";
import { chmodSync, chownSync, lstatSync, readFileSync, rmSync } from "node:fs";
import { connect, type Server } from "node:net";
import { join } from "node:path";
import type { Settings } from "../../config.ts";
import { SOCKET_FILE } from "../../data/layout.ts";

/** sockaddr_un's sun_path has room for these, and a NUL behind. */
const SOCKET_PATH_BYTES_MAX = 107;
const NO_SOCKET = "none";
/** Nobody but the owner, until the mode is set. */
const SOCKET_UMASK = 0o177;

type ListenSettings = Pick<Settings, "host" | "port" | "auth" | "tls" | "tlsCert" | "tlsKey" | "tlsClientCa">;

/** Throws where the service would be open to others, or where settings do not go together. */
export function checkListen(settings: ListenSettings): void {
  const { host, port, auth, tls, tlsCert, tlsKey, tlsClientCa } = settings;
  if ((tlsCert === "") !== (tlsKey === ""))
    throw new Error("MAPLEDGER_TLS_CERT and MAPLEDGER_TLS_KEY are set together, or neither is");
  if (tlsClientCa !== "" && tlsCert === "")
    throw new Error("MAPLEDGER_TLS_CLIENT_CA needs MAPLEDGER_TLS_CERT and MAPLEDGER_TLS_KEY");
  if (port === null || isLoopback(host)) return;
  if (auth === "off")
    throw new Error(`MAPLEDGER_AUTH is off and MAPLEDGER_HOST is ${host}: without tokens it listens on loopback alone`);
  if (tlsCert === "" && tls !== "off")
    throw new Error(
      `MAPLEDGER_HOST is ${host}: anything but loopback needs MAPLEDGER_TLS_CERT and MAPLEDGER_TLS_KEY, or MAPLEDGER_TLS=off if ` +
        "something in front of it does TLS",
    );
}

function isLoopback(host: string): boolean {
  return host === "localhost" || host === "::1" || /^127(\.\d{1,3}){3}$/.test(host);
}

/** Where the unix socket is; null: there is none. `warning`: why not. */
export function socketPath({ socket, data }: Pick<Settings, "socket" | "data">): {
  readonly path: string | null;
  readonly warning: string | null;
} {
  if (socket === NO_SOCKET) return { path: null, warning: null };
  const path = socket === "" ? join(data, SOCKET_FILE) : socket;
  const bytes = Buffer.byteLength(path);
  if (bytes <= SOCKET_PATH_BYTES_MAX) return { path, warning: null };
  const warning =
    `no unix socket: its path has ${bytes} bytes, and may have ${SOCKET_PATH_BYTES_MAX}: set MAPLEDGER_SOCKET to a shorter one ` +
    `(${path})`;
  return { path: null, warning };
}

/** A socket that a dead process left is removed; one that is served is not, nor is anything else. */
export async function listenOnSocket(
  server: Server,
  path: string,
  { socketMode, socketGroup }: Pick<Settings, "socketMode" | "socketGroup">,
): Promise<void> {
  const group = socketGroup === "" ? null : groupId(socketGroup);
  const found = lstatSync(path, { throwIfNoEntry: false });
  if (found !== undefined) {
    if (!found.isSocket()) throw new Error(`${path}: there is something that is no socket (MAPLEDGER_SOCKET)`);
    if (await isServed(path))
      throw new Error(
        `${path}: another process serves it; if it is the data directory's, another mapledger is using it`,
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
