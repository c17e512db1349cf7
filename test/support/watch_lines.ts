import type { Test } from "tap";

export const NDJSON = { accept: "application/x-ndjson" };

export type Line = Record<string, unknown> & { readonly event: string; readonly position: string };

/** Lines of a watch, as they come. */
export class Watch {
  readonly #body: ReadableStreamDefaultReader<Uint8Array>;
  readonly #stop: AbortController;
  #text = "";

  private constructor(body: ReadableStream<Uint8Array>, stop: AbortController) {
    this.#body = body.getReader();
    this.#stop = stop;
  }

  static async open(t: Test, url: string, headers: Record<string, string> = NDJSON): Promise<Watch> {
    const stop = new AbortController();
    t.teardown(() => stop.abort());
    const response = await fetch(url, { headers, signal: stop.signal });
    if (response.status !== 200) throw new Error(`${response.status} ${await response.text()}`);
    return new Watch(response.body as ReadableStream<Uint8Array>, stop);
  }

  async line(): Promise<Line> {
    for (;;) {
      const end = this.#text.indexOf("\n");
      if (end !== -1) {
        const line = this.#text.slice(0, end);
        this.#text = this.#text.slice(end + 1);
        return JSON.parse(line);
      }
      const { value, done } = await this.#body.read();
      if (done) throw new Error("the watch has ended");
      this.#text += Buffer.from(value).toString("utf8");
    }
  }

  async lines(count: number): Promise<Line[]> {
    const lines: Line[] = [];
    while (lines.length < count) lines.push(await this.line());
    return lines;
  }

  async to(event: string): Promise<Line> {
    for (;;) {
      const line = await this.line();
      if (line.event === event) return line;
    }
  }

  cut(): void {
    this.#stop.abort();
  }
}

/** What a reader of a watch has, line by line. */
export function take(have: Map<string, unknown>, { event, key, value }: Line): void {
  if (event === "begin") have.clear();
  if (event === "snapshot" || event === "put") have.set(key as string, value);
  if (event === "delete" && !have.delete(key as string)) throw new Error(`${key} was not there`);
}
