import { createReadStream, statSync } from "node:fs";
import type { Readable } from "node:stream";
import type { EventRow } from "../log/event.ts";
import { readEventLines } from "../replay/lines.ts";
import type { Source } from "../replay/source.ts";

/** An export in a file, or as standard input brings it. */
export class FileSource implements Source {
  readonly extent: Source["extent"];
  done = 0;
  readonly #stream: Readable;

  /** `path`: "-" is standard input. Throws where there is no such file. */
  constructor(path: string) {
    const size = path === "-" ? null : statSync(path).size;
    this.extent = size === null ? null : { total: size, unit: "bytes" };
    this.#stream = path === "-" ? process.stdin : createReadStream(path);
  }

  read(): AsyncIterable<EventRow> {
    return readEventLines(this.#text());
  }

  /** Decoded as a whole: characters may lie across pieces. */
  async *#text(): AsyncIterable<string> {
    const decoder = new TextDecoder();
    for await (const piece of this.#stream as AsyncIterable<Buffer>) {
      yield decoder.decode(piece, { stream: true });
      this.done += piece.length;
    }
    yield decoder.decode();
  }
}
