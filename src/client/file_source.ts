import { createReadStream, statSync } from "node:fs";
import type { Readable } from "node:stream";
import type { EventRow } from "../log/event.ts";
import { readEventLines } from "../replay/lines.ts";
import { between, type Source } from "../replay/source.ts";

/** An export in a file or on standard input. */
export class FileSource implements Source {
  readonly extent: Source["extent"];
  done = 0;
  readonly #stream: Readable;
  /** Reads the file once before `read` does; standard input can be read only once, so it has no `between`. */
  readonly between?: NonNullable<Source["between"]>;

  /** `path` "-": standard input. Throws if the file does not exist. */
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
