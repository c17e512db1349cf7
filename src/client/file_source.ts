import { createReadStream, statSync } from "node:fs";
import type { Readable } from "node:stream";
import type { EventRow } from "../log/event.ts";
import { readEventLines } from "../replay/lines.ts";
import { between, type Source } from "../replay/source.ts";

/** An export in a file, or as standard input brings it. */
export class FileSource implements Source {
  readonly extent: Source["extent"];
  done = 0;
  readonly #stream: Readable;
  /** Reads it a first time, which standard input is not there for. */
  readonly between?: NonNullable<Source["between"]>;

  /** `path`: "-" is standard input. Throws where there is no such file. */
  constructor(path: string) {
    const size = path === "-" ? null : statSync(path).size;
    this.extent = size === null ? null : { total: size, unit: "bytes" };
    this.#stream = path === "-" ? process.stdin : createReadStream(path);
    if (path !== "-")
      this.between = (sinceUs, untilUs) => between(readEventLines(createReadStream(path)), sinceUs, untilUs);
  }

  read(): AsyncIterable<EventRow> {
    return readEventLines(this.#pieces());
  }

  async *#pieces(): AsyncIterable<Buffer> {
    for await (const piece of this.#stream as AsyncIterable<Buffer>) {
      yield piece;
      this.done += piece.length;
    }
  }
}
