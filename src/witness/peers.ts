/** Limits the connections of a single peer, so that one network cannot use up a server's connections. */

import { isIPv6, type Server, type Socket } from "node:net";

/**
 * The 16-bit groups of an IPv6 address that identify a network. Its owner has all addresses in the network, so they
 * count as one peer.
 */
const NETWORK_GROUPS = 4;
const GROUPS = 8;
const MAPPED = "::ffff:";

/**
 * Makes a server close connections of a peer that already has `connectionsMax` open ones. A peer is an IPv4 address or
 * an IPv6 network of 64 bits.
 */
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

/** The peer of an address: "2001:db8::1" belongs to "2001:db8:0:0", "::ffff:10.0.0.1" to "10.0.0.1". */
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
