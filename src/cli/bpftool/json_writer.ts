/**
 * Writes JSON piece by piece, in the form of bpftool's: on one line, or indented by four spaces. Texts are escaped, as
 * bpftool does not.
 */
export class JsonWriter {
  readonly #write: (text: string) => void;
  readonly #pretty: boolean;
  #open: ("{" | "[")[] = [];
  #hasBefore = false;
  #hasEnded = false;
  #isNamed = false;

  constructor(write: (text: string) => void, pretty: boolean) {
    this.#write = write;
    this.#pretty = pretty;
  }

  open(bracket: "{" | "["): void {
    this.#separate();
    this.#write(bracket);
    this.#open.push(bracket);
    this.#hasBefore = false;
  }

  close(bracket: "}" | "]"): void {
    this.#open.pop();
    if (this.#hasBefore) this.#newLine();
    this.#write(bracket);
    this.#hasBefore = true;
  }

  /** A member's name; its value follows. */
  name(name: string): void {
    this.#separate();
    this.#newLine();
    this.#hasBefore = false;
    this.#isNamed = true;
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

  /** How many lists and objects are open. */
  get depth(): number {
    return this.#open.length;
  }

  /**
   * Ends what has failed: writes the fields of `error` where a value can stand, or as members of the object that is open,
   * and closes lists and objects until `depth` are open. null: there is nothing to say.
   */
  unwind(depth: number, error: Readonly<Record<string, string>> | null): void {
    const isAmongMembers = this.depth > depth && this.#open.at(-1) === "{" && !this.#isNamed;
    if (error !== null && isAmongMembers) for (const [name, text] of Object.entries(error)) this.field(name, text);
    else if (error !== null) this.value(error);
    else if (this.depth > depth && this.#isNamed) this.scalar(null);
    while (this.depth > depth) this.close(this.#open.at(-1) === "{" ? "}" : "]");
  }

  #separate(): void {
    if (this.#hasBefore) this.#write(",");
    this.#isNamed = false;
    this.#hasBefore = true;
  }

  #newLine(): void {
    if (this.#pretty) this.#write(`\n${"    ".repeat(this.depth)}`);
  }
}
