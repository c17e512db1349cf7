import { createSocket } from "node:dgram";
import { type Packets, RECEIVER, type Received } from "./addresses.ts";
import { ip, serve } from "./asked.ts";
import { Filter } from "./filter.ts";

/** The receiving end: the program drops packets at its interface, what passes is counted. */
const { interface: device, address, port } = RECEIVER;
const arrived: Packets = {};
let filter: Filter | null = null;

serve({ open, received: (): Received => ({ arrived, ...(filter as Filter).counts() }) });

async function open(pinned: string): Promise<void> {
  ip("address", "add", `${address}/32`, "dev", device);
  ip("link", "set", device, "up");
  // Whoever sends, this is where it comes from.
  ip("route", "add", "default", "dev", device);
  const ifindex = Number.parseInt(ip("-o", "link", "show", "dev", device), 10);
  filter = new Filter(pinned, ifindex);
  const socket = createSocket("udp4", (_, from) => {
    arrived[from.address] = (arrived[from.address] ?? 0) + 1;
  });
  await new Promise<void>((resolve) => socket.bind(port, address, resolve));
}
