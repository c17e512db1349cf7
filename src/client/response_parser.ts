import type { HttpResponse } from "../replay/http_call.ts";

const HEAD_END = Buffer.from("\r\n\r\n");
const LINE_END = Buffer.from("\r\n");
const HEAD_BYTES_MAX = 64 * 1024;
const NOTHING = Buffer.alloc(0);

/** Where the parser is in a response. */
type At =
  | { readonly in: "head" }
  | { readonly in: "body"; readonly bytes: number }
  | { readonly in: "chunk size" }
  | { readonly in: "chunk"; readonly bytes: number }
  | { readonly in: "trailer" };

/** Responses of HTTP/1.1 (RFC 9112) out of a stream of bytes: each has a length, or comes in chunks. Throws for what is neither. */
export class ResponseParser {
  readonly #done: (response: HttpResponse) => void;
  #rest: Buffer = NOTHING;
  #at: At = { in: "head" };
  #status = 0;
  #headers: Record<string, string> = {};
  #pieces: Buffer[] = [];

  constructor(done: (response: HttpResponse) => void) {
    this.#done = done;
  }

  push(piece: Buffer): void {
    this.#rest = this.#rest.length === 0 ? piece : Buffer.concat([this.#rest, piece]);
    while (this.#step());
  }

  /** Takes the next part off what there is; false: more is needed. */
  #step(): boolean {
    switch (this.#at.in) {
      case "head":
        return this.#head();
      case "body":
        return this.#body(this.#at.bytes);
      case "chunk size":
        return this.#chunkSize();
      case "chunk":
        return this.#chunk(this.#at.bytes);
      case "trailer":
        return this.#trailer();
    }
  }

  #head(): boolean {
    const end = this.#rest.indexOf(HEAD_END);
    if (end === -1) {
      if (this.#rest.length > HEAD_BYTES_MAX) throw new Error("it answers what is not HTTP/1.1");
      return false;
    }
    const [first = "", ...lines] = this.#rest.toString("latin1", 0, end).split("\r\n");
    this.#rest = this.#rest.subarray(end + HEAD_END.length);
    const [, status] = /^HTTP\/1\.1 (\d{3})/.exec(first) ?? [];
    if (status === undefined) throw new Error(`it answers what is not HTTP/1.1: ${JSON.stringify(first.slice(0, 40))}`);
    this.#status = Number(status);
    this.#headers = {};
    for (const line of lines) {
      const colon = line.indexOf(":");
      this.#headers[line.slice(0, colon).toLowerCase()] = line.slice(colon + 1).trim();
    }
    this.#at = this.#bodyKind();
    return true;
  }

  #bodyKind(): At {
    // 100 Continue and its like are no answers yet.
    if (this.#status < 200) return { in: "head" };
    if (this.#headers["transfer-encoding"]?.toLowerCase() === "chunked") return { in: "chunk size" };
    const length = this.#status === 204 || this.#status === 304 ? "0" : this.#headers["content-length"];
    if (length === undefined || !/^\d{1,15}$/.test(length)) throw new Error("it answers without a length");
    return { in: "body", bytes: Number(length) };
  }

  #body(bytes: number): boolean {
    if (this.#rest.length < bytes) {
      this.#keep(this.#rest.length);
      this.#at = { in: "body", bytes: bytes - (this.#pieces.at(-1)?.length ?? 0) };
      return false;
    }
    this.#keep(bytes);
    this.#finish();
    return true;
  }

  #chunkSize(): boolean {
    const line = this.#line();
    if (line === null) return false;
    const [, digits] = /^([0-9a-f]{1,8})(?:;.*)?$/i.exec(line) ?? [];
    if (digits === undefined) throw new Error("it answers in chunks without a size");
    const bytes = Number.parseInt(digits, 16);
    this.#at = bytes === 0 ? { in: "trailer" } : { in: "chunk", bytes };
    return true;
  }

  #chunk(bytes: number): boolean {
    if (this.#rest.length < bytes + LINE_END.length) return false;
    this.#keep(bytes);
    this.#rest = this.#rest.subarray(LINE_END.length);
    this.#at = { in: "chunk size" };
    return true;
  }

  #trailer(): boolean {
    const line = this.#line();
    if (line === null) return false;
    if (line === "") this.#finish();
    return true;
  }

  #line(): string | null {
    const end = this.#rest.indexOf(LINE_END);
    if (end === -1) return null;
    const line = this.#rest.toString("latin1", 0, end);
    this.#rest = this.#rest.subarray(end + LINE_END.length);
    return line;
  }

  #keep(bytes: number): void {
    this.#pieces.push(this.#rest.subarray(0, bytes));
    this.#rest = this.#rest.subarray(bytes);
  }

  #finish(): void {
    const body = this.#pieces.length === 1 ? (this.#pieces[0] as Buffer) : Buffer.concat(this.#pieces);
    this.#pieces = [];
    this.#at = { in: "head" };
    this.#done({ status: this.#status, headers: this.#headers, body });
  }
}
