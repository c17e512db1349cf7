/**
 * The connection that a stream is written to. A text that many streams send is framed as a chunk of HTTP/1.1 once
 * (RFC 9112, section 7.1), and each of them writes the same bytes to its socket: ServerResponse.write() would make a
 * frame of four parts for each (measured for 1,000 sockets: a quarter to a half more CPU a write). Before callers write
 * the next text, they wait until the former one has left this process (`isFree`, `whenFree`).
 */

import type { ServerResponse } from "node:http";
import { Socket } from "node:net";
import { responseOf } from "../../net/pipelines.ts";

const LINE_END = "\r\n";
const EMPTY = Buffer.alloc(0);

/** A text as a chunk of HTTP/1.1. An empty chunk would be the end of a response. */
export class Frame {
  readonly bytes: Buffer;
  readonly #from: number;

  constructor(text: string) {
    const length = Buffer.byteLength(text);
    const head = length.toString(16) + LINE_END;
    this.bytes = Buffer.allocUnsafe(head.length + length + LINE_END.length);
    this.bytes.write(head, 0, "latin1");
    this.bytes.write(text, head.length, "utf8");
    this.bytes.write(LINE_END, head.length + length, "latin1");
    this.#from = head.length;
  }

  /** The bytes of the text, without the frame around them. */
  get text(): Buffer {
    return this.bytes.subarray(this.#from, this.bytes.length - LINE_END.length);
  }
}

export class Outlet {
  readonly #response: ServerResponse;
  #onFree: (() => void) | null = null;
  readonly #written = (): void => {
    if (this.isFree || this.isGone) this.#wake();
  };

  /** `response`: its head has been sent, or the first write will send it. */
  constructor(response: ServerResponse) {
    this.#response = response;
    response.once("close", () => this.#wake());
  }

  /** Whether the reader is gone. */
  get isGone(): boolean {
    return this.#response.destroyed;
  }

  /** Whether everything that was written has left this process. */
  get isFree(): boolean {
    return this.#response.writableLength === 0;
  }

  /** Bytes that were written and have not left this process. */
  get waitingBytes(): number {
    return this.#response.writableLength;
  }

  write(text: string): void {
    if (text !== "") this.writeFrame(new Frame(text));
  }

  writeFrame(frame: Frame): void {
    if (this.isGone) return;
    const socket = this.#chunkedSocket();
    if (socket === null) this.#response.write(frame.text, this.#written);
    else socket.write(frame.bytes);
  }

  /** Calls `then` once all written bytes have left this process or the reader is gone, which may be at once. */
  whenFree(then: () => void): void {
    if (this.isFree || this.isGone) {
      then();
      return;
    }
    this.#onFree = then;
    // On the bare socket, an empty write calls back after all bytes that wait. A response's own writes have callbacks.
    this.#chunkedSocket()?.write(EMPTY, this.#written);
  }

  free(): Promise<void> {
    return new Promise((resolve) => this.whenFree(resolve));
  }

  /** The socket, if this response is sent on it at present, in chunks. */
  #chunkedSocket(): Socket | null {
    const { socket, chunkedEncoding, headersSent } = this.#response;
    const isOwn = headersSent && chunkedEncoding && socket instanceof Socket && responseOf(socket) === this.#response;
    return isOwn ? socket : null;
  }

  #wake(): void {
    const then = this.#onFree;
    this.#onFree = null;
    then?.();
  }
}
