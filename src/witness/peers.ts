import { isIPv6, type Server, type Socket } from "node:net";

/** Groups of 16 bits of an IPv6 address that are one network's: whoever has that has all addresses in it. */
const NETWORK_GROUPS = 4;
const GROUPS = 8;
const MAPPED = "::ffff:";

/** A server that closes what one peer opens beyond so many connections; a peer is an IPv4 address, or an IPv6 network of 64 bits. */
export function boundPeers<Bounded extends Server>(server: Bounded, connectionsMax: number): Bounded {
  const open = new Map<string, number>();
  server.on("connection", (socket: Socket) => {
    const peer = peerOf(socket.remoteAddress ?? "");
    const count = open.get(peer) ?? 0;
    if (count >= connectionsMax) {
      socket.destroy();
      return;
    }
    open.set(peer, count + 1);
    socket.once("close", () => {
      const left = (open.get(peer) as number) - 1;
      if (left === 0) open.delete(peer);
      else open.set(peer, left);
    });
  });
  return server;
}

/** "2001:db8::1" is of "2001:db8:0:0". */
export function peerOf(address: string): string {
  if (!isIPv6(address)) return address;
  if (address.startsWith(MAPPED)) return address.slice(MAPPED.length);
  const [front = "", back = ""] = address.split("::");
  const [before, behind] = [groupsOf(front), groupsOf(back)];
  const between = Array.from({ length: GROUPS - before.length - behind.length }, () => "0");
  return [...before, ...between, ...behind].slice(0, NETWORK_GROUPS).join(":");
}

function groupsOf(text: string): string[] {
  return text === "" ? [] : text.split(":");
}
