/**
 * Reads one HTTP/1.1 response from the pieces of a connection (RFC 9112): its status, then its body, whose length is
 * given by Content-Length, by chunks, or by the end of the connection. Throws an Error if the bytes are no response.
 */

/** The most bytes of a status line with its headers, of a chunk's size line, or of trailers. */
const HEAD_BYTES_MAX = 64 * 1024;
const CRLF = "\r\n";

type Expected = "head" | "sized" | "chunk size" | "chunk" | "chunk end" | "trailers" | "to the end" | "nothing";

export class AnswerReader {
  #rest: Buffer = Buffer.alloc(0);
  #expected: Expected = "head";
  #status: number | null = null;
  #left = 0;
  #closes = false;
  #body: Buffer[] = [];

  /** null: it is not known yet. */
  get status(): number | null {
    return this.#status;
  }

  get isWhole(): boolean {
    return this.#expected === "nothing";
  }

  /** Whether another response may follow on the connection. */
  get keepsAlive(): boolean {
    return this.isWhole && !this.#closes && this.#rest.length === 0;
  }

  take(piece: Buffer): void {
    this.#rest = this.#rest.length === 0 ? piece : Buffer.concat([this.#rest, piece]);
    while (this.#step());
  }

  /** The connection has ended. Throws an Error if the response has not. */
  end(): void {
    this.#closes = true;
    if (this.#expected === "to the end") this.#expected = "nothing";
    if (!this.isWhole) throw new Error("the connection was closed before the answer was complete");
  }

  /** The bytes of the body since the last call. */
  taken(): readonly Buffer[] {
    const taken = this.#body;
    this.#body = [];
    return taken;
  }

  /** Whether anything was read, so that more may be. */
  #step(): boolean {
    switch (this.#expected) {
      case "head":
        return this.#until(`${CRLF}${CRLF}`, (head) => this.#readHead(head));
      case "sized":
        return this.#readBody("nothing");
      case "chunk":
        return this.#readBody("chunk end");
      case "chunk end":
        return this.#until(CRLF, (line) => {
          if (line !== "") throw new Error("its answer has a chunk of another size than it says");
          this.#expected = "chunk size";
        });
      case "chunk size":
        return this.#until(CRLF, (line) => this.#readChunkSize(line));
      case "trailers":
        return this.#until(CRLF, (line) => {
          if (line === "") this.#expected = "nothing";
        });
      case "to the end":
        return this.#readBody("to the end");
      case "nothing":
        return false;
    }
  }

  #until(mark: string, read: (text: string) => void): boolean {
    const end = this.#rest.indexOf(mark);
    if (end > HEAD_BYTES_MAX || (end === -1 && this.#rest.length > HEAD_BYTES_MAX))
      throw new Error("its answer is not HTTP/1.1");
    if (end === -1) return false;
    const text = this.#rest.toString("latin1", 0, end);
    this.#rest = this.#rest.subarray(end + mark.length);
    read(text);
    return true;
  }

  #readHead(head: string): void {
    const [first = "", ...lines] = head.split(CRLF);
    const status = Number(/^HTTP\/1\.1 (\d{3})( |$)/.exec(first)?.[1] ?? Number.NaN);
    if (Number.isNaN(status)) throw new Error("its answer is not HTTP/1.1");
    // An interim response, such as 100 Continue: the final one follows.
    if (status < 200) return;
    const fields = new Map(lines.map(field));
    this.#status = status;
    this.#closes = /\bclose\b/i.test(fields.get("connection") ?? "");
    const length = fields.get("content-length");
    if (status === 204 || status === 304) this.#expected = "nothing";
    else if (/\bchunked$/i.test(fields.get("transfer-encoding") ?? "")) this.#expected = "chunk size";
    else if (length === undefined) this.#expected = "to the end";
    else if (/^\d{1,15}$/.test(length)) this.#expect("sized", Number(length), "nothing");
    else throw new Error("its answer is not HTTP/1.1");
  }

  #readChunkSize(line: string): void {
    const size = /^[0-9a-f]{1,12}(?=;|\s*$)/i.exec(line)?.[0];
    if (size === undefined) throw new Error("its answer is not HTTP/1.1");
    this.#expect("chunk", Number.parseInt(size, 16), "trailers");
  }

  #expect(body: Expected, bytes: number, atZero: Expected): void {
    this.#left = bytes;
    this.#expected = bytes === 0 ? atZero : body;
  }

  #readBody(next: Expected): boolean {
    if (this.#rest.length === 0) return false;
    const isEndless = next === "to the end";
    const bytes = isEndless ? this.#rest.length : Math.min(this.#left, this.#rest.length);
    this.#body.push(this.#rest.subarray(0, bytes));
    this.#rest = this.#rest.subarray(bytes);
    this.#left -= bytes;
    if (isEndless || this.#left > 0) return false;
    this.#expected = next;
    return true;
  }
}

function field(line: string): [name: string, value: string] {
  const colon = line.indexOf(":");
  return [line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim()];
}
