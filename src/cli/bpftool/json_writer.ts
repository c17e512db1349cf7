/**
 * Writes JSON piece by piece, in the form of bpftool's: on one line, or indented by four spaces. Texts are escaped, as
 * bpftool does not.
 */
export class JsonWriter {
  readonly #write: (text: string) => void;
  readonly #pretty: boolean;
  #depth = 0;
  #hasBefore = false;
  #hasEnded = false;

  constructor(write: (text: string) => void, pretty: boolean) {
    this.#write = write;
    this.#pretty = pretty;
  }

  open(bracket: "{" | "["): void {
    this.#separate();
    this.#write(bracket);
    this.#depth++;
    this.#hasBefore = false;
  }

  close(bracket: "}" | "]"): void {
    this.#depth--;
    if (this.#hasBefore) this.#newLine();
    this.#write(bracket);
    this.#hasBefore = true;
  }

  /** A member's name; its value follows. */
  name(name: string): void {
    this.#separate();
    this.#newLine();
    this.#hasBefore = false;
    this.#write(`${JSON.stringify(name)}:${this.#pretty ? " " : ""}`);
  }

  scalar(value: string | number | boolean | null): void {
    this.raw(JSON.stringify(value));
  }

  /** Text that is JSON already. */
  raw(json: string): void {
    this.#separate();
    this.#write(json);
  }

  field(name: string, value: string | number | boolean | null): void {
    this.name(name);
    this.scalar(value);
  }

  /** Any value that JSON.parse gives. */
  value(value: unknown): void {
    if (value === null || typeof value !== "object") this.scalar(value as string | number | boolean | null);
    else if (Array.isArray(value)) {
      this.open("[");
      for (const item of value) this.value(item);
      this.close("]");
    } else {
      this.open("{");
      for (const [name, item] of Object.entries(value)) {
        this.name(name);
        this.value(item);
      }
      this.close("}");
    }
  }

  /** The end of a text; another one may follow. Without any, there is an empty line, as bpftool prints it. */
  end(): void {
    if (this.#hasBefore || !this.#hasEnded) this.#write("\n");
    this.#hasBefore = false;
    this.#hasEnded = true;
  }

  /** Whether a list or an object is open. */
  get isNested(): boolean {
    return this.#depth > 0;
  }

  #separate(): void {
    if (this.#hasBefore) this.#write(",");
    this.#hasBefore = true;
  }

  #newLine(): void {
    if (this.#pretty) this.#write(`\n${"    ".repeat(this.#depth)}`);
  }
}
