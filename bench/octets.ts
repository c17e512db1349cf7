/** Sends bytes over connections that stay open; the client takes as little of the machine as it can. */

import { Agent, type IncomingMessage, request } from "node:http";

export interface Sent {
  readonly status: number;
  readonly headers: IncomingMessage["headers"];
  readonly body: string;
}

export class OctetClient {
  readonly #url: string;
  readonly #agent = new Agent({ keepAlive: true });

  constructor(url: string) {
    this.#url = url;
  }

  /** Throws if the answer is not 2xx. */
  send(method: string, path: string, body: Buffer, type: string): Promise<Sent> {
    return new Promise((resolve, reject) => {
      const headers = { "content-type": type, "content-length": body.length };
      const sending = request(`${this.#url}${path}`, { method, headers, agent: this.#agent }, (response) => {
        const pieces: Buffer[] = [];
        response.on("data", (piece: Buffer) => pieces.push(piece));
        response.on("end", () => {
          const text = Buffer.concat(pieces).toString();
          const status = response.statusCode ?? 0;
          if (status >= 300) reject(new Error(`${method} ${path}: ${status} ${text}`));
          else resolve({ status, headers: response.headers, body: text });
        });
      });
      sending.on("error", reject).end(body);
    });
  }

  close(): void {
    this.#agent.destroy();
  }
}

const KEY_BYTES = 8;
const VALUE_BYTES = 64;
export const OCTETS = "application/octet-stream";
export const HASH = { map_type: "BPF_MAP_TYPE_HASH", key_size: KEY_BYTES, value_size: VALUE_BYTES } as const;

/** `count` pairs from a key on, as octets: 8-byte keys, then 64-byte values that end in random bytes. */
export function pairs(first: number, count: number): Buffer {
  const body = Buffer.alloc(count * (KEY_BYTES + VALUE_BYTES), 0xa5);
  for (let at = 0; at < count; at++) {
    body.writeBigUInt64LE(BigInt(first + at), at * KEY_BYTES);
    body.writeUInt32LE(Math.floor(Math.random() * 2 ** 32), count * KEY_BYTES + (at + 1) * VALUE_BYTES - 4);
  }
  return body;
}

const PAIRS_A_REQUEST = 10_000;

/** Fills a map by its path with so many elements, in batches of 10,000 over one connection. */
export async function fill(client: OctetClient, path: string, elements: number): Promise<void> {
  for (let at = 0; at < elements; at += PAIRS_A_REQUEST)
    await client.send("POST", `${path}/batch/update`, pairs(at, PAIRS_A_REQUEST), OCTETS);
}

/** The same as JSON. */
export function pairsJson(first: number, count: number): Buffer {
  const octets = pairs(first, count);
  const elements = Array.from({ length: count }, (_, at) => {
    const value = count * KEY_BYTES + at * VALUE_BYTES;
    return {
      key: octets.toString("hex", at * KEY_BYTES, (at + 1) * KEY_BYTES),
      value: octets.toString("hex", value, value + VALUE_BYTES),
    };
  });
  return Buffer.from(JSON.stringify({ elements }));
}
