/** What a command prints: text or JSON on standard output, and errors where bpftool has them. */

import { visible } from "../../codec/visible.ts";
import type { Failure } from "./failure.ts";
import { JsonWriter } from "./json_writer.ts";

/** Standard output and standard error, and whether somebody sits in front of them. */
export interface Terminal {
  readonly out: Pick<NodeJS.WriteStream, "write" | "once">;
  readonly err: Pick<NodeJS.WriteStream, "write">;
  readonly isTerminal: boolean;
  readonly isColoured: boolean;
}

type Colour = "bold" | "red" | "green" | "yellow";

const SEQUENCES = { bold: 1, red: 31, green: 32, yellow: 33 } as const;
const BUFFERED = 64 * 1024;

export class Output {
  /** null: text is asked for. */
  readonly json: JsonWriter | null;
  readonly #terminal: Terminal;
  #text = "";
  #isScheduled = false;

  constructor(terminal: Terminal, form: "text" | "json" | "pretty") {
    this.#terminal = terminal;
    this.json = form === "text" ? null : new JsonWriter((text) => this.text(text), form === "pretty");
  }

  get isTerminal(): boolean {
    return this.#terminal.isTerminal;
  }

  text(text: string): void {
    this.#text += text;
  }

  /** A line of a stream or of a list. Its texts come from a log: control characters are shown, not sent. */
  line(text: string, colour?: Colour): void {
    this.text(`${this.#coloured(visible(text), colour)}\n`);
  }

  /** A line for other programs: its cells, with tabs between. */
  cells(cells: readonly string[]): void {
    this.text(`${cells.map(visible).join("\t")}\n`);
  }

  #coloured(text: string, colour: Colour | undefined): string {
    if (colour === undefined || !this.#terminal.isColoured) return text;
    return `\u001b[${SEQUENCES[colour]}m${text}\u001b[0m`;
  }

  /** A note beside the answer; JSON has no place for it. */
  note(text: string): void {
    if (this.json === null) this.#tell(`${visible(text)}\n`);
  }

  /** Prints why a command has failed that has begun with `depth` lists and objects open. */
  error({ message, detail }: Failure, depth: number): void {
    if (this.json !== null) this.json.unwind(depth, { error: message, ...(detail !== null && { detail }) });
    else this.#tell(`Error: ${visible(detail === null ? message : `${message}: ${detail}`)}\n`);
  }

  /** Usage, on standard error; JSON has null in its place. */
  usage(text: string): void {
    if (this.json === null) this.#tell(text);
    else this.json.scalar(null);
  }

  /** On a terminal, what was printed before stands before it. */
  #tell(text: string): void {
    this.flush();
    this.#terminal.err.write(text);
  }

  /** Sends a large text on its way; resolves when its reader is ready for more. */
  async pause(): Promise<void> {
    if (this.#text.length >= BUFFERED) await this.flush();
  }

  /** Sends what there is at the end of this turn: the end of a stream's text waits for nothing that may come. */
  soon(): void {
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    setImmediate(() => {
      this.#isScheduled = false;
      this.flush();
    });
  }

  async flush(): Promise<void> {
    const text = this.#text;
    this.#text = "";
    if (text === "" || this.#terminal.out.write(text)) return;
    await new Promise<void>((resolve) => this.#terminal.out.once("drain", () => resolve()));
  }
}
