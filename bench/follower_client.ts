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

const PUT = 'event: put\ndata: {"seq":';
const MESSAGE_END = "\n\n";
const TIME = ',"time":"';
/** "2026-11-23T20:00:00" */
const SECOND_LENGTH = 19;
const HEAD_MAX = 64;

let bytes = 0;
let messages = 0;
let lags: Record<number, number> = {};
let faults: string[] = [];
const sockets: Socket[] = [];
let seqs: number[] = [];
let lastSecond = "";
let lastSecondMs = 0;

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
      const read = at < parsed ? parser(at) : null;
      const callback = (length: number): boolean => {
        bytes += length;
        read?.(buffer.toString("latin1", 0, length));
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

/**
 * Takes a connection's text as it comes. Ten connections have 100,000 messages a second, so a message is not read as
 * JSON: its seq and its time stand at its beginning. No message is divided by a chunk's frame, which is between two.
 */
function parser(at: number): (text: string) => void {
  let rest = "";
  return (text) => {
    const nowMs = performance.timeOrigin + performance.now();
    rest += text;
    let begin = 0;
    for (;;) {
      const put = rest.indexOf(PUT, begin);
      const end = put === -1 ? -1 : rest.indexOf(MESSAGE_END, put);
      if (end === -1) break;
      take(at, rest.slice(put + PUT.length, put + PUT.length + HEAD_MAX), nowMs);
      begin = end + MESSAGE_END.length;
    }
    rest = rest.slice(begin);
  };
}

/** `head`: `17,"time":"2026-11-23T20:00:00.000000Z",...` */
function take(at: number, head: string, nowMs: number): void {
  const seq = Number.parseInt(head, 10);
  const time = head.indexOf(TIME) + TIME.length;
  const second = head.slice(time, time + SECOND_LENGTH);
  if (second !== lastSecond) [lastSecond, lastSecondMs] = [second, Date.parse(`${second}Z`)];
  const lagMs = Math.round(
    nowMs - lastSecondMs - Number(head.slice(time + SECOND_LENGTH + 1, time + SECOND_LENGTH + 4)),
  );
  if (!(seq > (seqs[at] as number)) || Number.isNaN(lagMs)) faults.push(`${head} came behind ${seqs[at]}`);
  seqs[at] = seq;
  messages++;
  const counted = Math.max(lagMs, 0);
  lags[counted] = (lags[counted] ?? 0) + 1;
}
