import { connect, type Socket } from "node:net";

// A process of its own that follows a map's watch on many connections. Of most it counts the bytes; of the first few it reads the
// messages: each must be behind the one before it, and its event's time says how late it is.

export interface FollowersAsked {
  readonly url: string;
  /** Of the watch, without a snapshot. */
  readonly path: string;
  readonly token: string;
  readonly count: number;
  readonly parsed: number;
}

/** Since it was asked before. */
export interface FollowersSeen {
  readonly bytes: number;
  /** Of those that are parsed: messages, and how many of them came after so many milliseconds, by these. */
  readonly messages: number;
  readonly lags: Readonly<Record<number, number>>;
  /** The last seq that all that are parsed have had. */
  readonly seq: number;
  readonly faults: readonly string[];
}

const MESSAGE_END = "\n\n";

let bytes = 0;
let messages = 0;
let lags: Record<number, number> = {};
let faults: string[] = [];
const sockets: Socket[] = [];
let seqs: number[] = [];

process.on("message", async (asked: { follow?: FollowersAsked; close?: true }) => {
  if (asked.follow !== undefined) await follow(asked.follow);
  if (asked.close === true) for (const socket of sockets.splice(0)) socket.destroy();
  const seq = seqs.length === 0 ? 0 : Math.min(...seqs);
  process.send?.({ bytes, messages, lags, seq, faults } satisfies FollowersSeen);
  [bytes, messages, lags, faults] = [0, 0, {}, []];
});

async function follow({ url, path, token, count, parsed }: FollowersAsked): Promise<void> {
  const { hostname, port } = new URL(url);
  const head = `GET ${path} HTTP/1.1\r\nhost: ${hostname}\r\nauthorization: Bearer ${token}\r\naccept: text/event-stream\r\n\r\n`;
  const buffer = Buffer.alloc(256 * 1024);
  seqs = Array.from({ length: parsed }, () => 0);
  const open = (at: number): Promise<void> =>
    new Promise((resolve) => {
      const take = at < parsed ? parser(at) : () => {};
      const callback = (length: number): boolean => {
        bytes += length;
        take(buffer.toString("latin1", 0, length));
        resolve();
        return true;
      };
      const socket = connect({ host: hostname, port: Number(port), onread: { buffer, callback } });
      socket.on("error", (error) => faults.push(error.message));
      socket.write(head);
      sockets.push(socket);
    });
  for (let at = 0; at < count; at++) await open(at);
}

/** Takes a connection's text as it comes, with the frames of its chunks. */
function parser(at: number): (text: string) => void {
  let rest = "";
  return (text) => {
    const nowMs = performance.timeOrigin + performance.now();
    rest += text;
    if (!rest.includes(MESSAGE_END)) return;
    const whole = rest.lastIndexOf(MESSAGE_END) + MESSAGE_END.length;
    const unframed = rest.slice(0, whole).replaceAll(/\r\n([0-9a-f]+\r\n)?/g, "");
    rest = rest.slice(whole);
    for (const [, data = ""] of unframed.matchAll(/event: put\ndata: (.*)\n\n/g)) {
      const { seq, time } = JSON.parse(data) as { seq: number; time: string };
      if (seq <= (seqs[at] as number)) faults.push(`${seq} came behind ${seqs[at]}`);
      seqs[at] = seq;
      messages++;
      const lagMs = Math.max(Math.round(nowMs - Date.parse(time)), 0);
      lags[lagMs] = (lags[lagMs] ?? 0) + 1;
    }
  };
}
