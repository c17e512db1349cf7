import { get, type IncomingMessage } from "node:http";
import type { Test } from "tap";
import { parsePosition } from "../../src/log/position.ts";

/** A server-sent event; `data` is read as JSON. */
export interface Message {
  readonly event: string;
  /** The seq up to which all has been told, by its id, which is a position; null: it has none, or one within an event or a snapshot. */
  readonly id: number | null;
  readonly data: Record<string, unknown>;
}

/** The seq of a position. */
export function seqOf(position: string): number {
  const { seq } = parsePosition(position) ?? {};
  if (seq === undefined) throw new Error(`${position} is no position`);
  return seq;
}

function isWhole(position: string): boolean {
  return parsePosition(position)?.place === "at";
}

/** A stream of server-sent events, or of lines of JSON, as a reader has it that takes one after the other. */
export class MessageStream {
  readonly #response: IncomingMessage;
  readonly #chunks: AsyncIterator<string>;
  #text = "";
  /** The last id that came, as it came. */
  lastId: string | null = null;

  private constructor(response: IncomingMessage) {
    this.#response = response;
    this.#chunks = response.setEncoding("utf8")[Symbol.asyncIterator]();
  }

  /** Broken off when the test is over. */
  static open(t: Test, url: string, headers: Record<string, string> = {}): Promise<MessageStream> {
    return new Promise((resolve, reject) => {
      const request = get(url, { headers, agent: false }, (response) => resolve(new MessageStream(response)));
      request.on("error", reject);
      t.teardown(() => request.destroy());
    });
  }

  get status(): number | undefined {
    return this.#response.statusCode;
  }

  get type(): string | undefined {
    return this.#response.headers["content-type"];
  }

  /** The next message; null at the end of the stream. */
  async next(): Promise<Message | null> {
    const text = await this.#until("\n\n");
    if (text === null) return null;
    const fields = Object.fromEntries(text.split("\n").map((line) => /^([a-z]+): (.*)$/.exec(line)?.slice(1) ?? []));
    if (fields.id !== undefined) this.lastId = fields.id;
    return {
      event: fields.event,
      id: fields.id === undefined || !isWhole(fields.id) ? null : seqOf(fields.id),
      data: JSON.parse(fields.data),
    };
  }

  /** The next line of JSON; null at the end of the stream. */
  async line(): Promise<Record<string, unknown> | null> {
    const text = await this.#until("\n");
    return text === null ? null : JSON.parse(text);
  }

  /** The next message of a kind; what comes before is passed over. */
  async nextOf(...events: readonly string[]): Promise<Message> {
    for (;;) {
      const message = await this.next();
      if (message === null) throw new Error(`the stream ended before a message of ${events}`);
      if (events.includes(message.event)) return message;
    }
  }

  break(): void {
    this.#response.destroy();
  }

  async #until(end: string): Promise<string | null> {
    for (;;) {
      const at = this.#text.indexOf(end);
      if (at !== -1) {
        const text = this.#text.slice(0, at);
        this.#text = this.#text.slice(at + end.length);
        return text;
      }
      const chunk = await this.#chunks.next();
      if (chunk.done === true) return null;
      this.#text += chunk.value;
    }
  }
}
