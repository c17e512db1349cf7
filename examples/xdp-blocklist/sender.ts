import { createSocket, type Socket } from "node:dgram";
import { once } from "node:events";
import { type Packets, RECEIVER, SENDER, SOURCES } from "./addresses.ts";
import { ip, serve } from "./asked.ts";

/** The sending end: while packets flow, one from each source every few milliseconds. */
const EVERY_MS = 10;
const sockets = new Map<string, Socket>();
let sent: Packets = {};
let sending: Promise<void>[] = [];
let flow: NodeJS.Timeout | undefined;

serve({ open, start, halt });

async function open(): Promise<void> {
  const device = SENDER.interface;
  ip("link", "set", device, "up");
  for (const address of SOURCES) ip("address", "add", `${address}/32`, "dev", device);
  ip("neighbour", "add", RECEIVER.address, "lladdr", RECEIVER.mac, "dev", device);
  ip("route", "add", `${RECEIVER.address}/32`, "dev", device);
  for (const address of SOURCES) {
    const socket = createSocket("udp4").bind(0, address);
    await once(socket, "listening");
    sockets.set(address, socket);
  }
}

function start(): void {
  sent = {};
  sending = [];
  flow = setInterval(() => {
    for (const [address, socket] of sockets) sending.push(send(address, socket));
  }, EVERY_MS);
}

/** How many packets were sent since the start. */
async function halt(): Promise<Packets> {
  clearInterval(flow);
  await Promise.all(sending);
  return sent;
}

function send(address: string, socket: Socket): Promise<void> {
  return new Promise((resolve, reject) => {
    socket.send("packet", RECEIVER.port, RECEIVER.address, (error) => {
      if (error !== null) return reject(error);
      sent[address] = (sent[address] ?? 0) + 1;
      resolve();
    });
  });
}
