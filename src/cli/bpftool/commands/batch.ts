import { createReadStream, statSync } from "node:fs";
import { batchCommands } from "../batch_lines.ts";
import type { Call } from "../call.ts";
import { Ended, Failure } from "../failure.ts";

/** batch file FILE: a command a line, until one fails; its exit code is the batch's. */
export async function batch(call: Call): Promise<void> {
  const { output, words } = call;
  if (words.left !== 2) throw new Failure(`too ${words.left < 2 ? "few" : "many"} parameters for batch`);
  if (!words.takes("file")) throw new Failure(`expected 'file', got: ${words.first}`);
  const file = words.next("a file");
  const size = sizeOf(file);
  const progress = size === null ? null : call.progress("running commands", size, "bytes");
  const read = { bytes: 0 };
  let done = 0;
  output.json?.open("[");
  try {
    for await (const command of batchCommands(piecesOf(file, read))) {
      const code = await runOne(call, command);
      if (code !== 0) throw new Ended(code);
      done++;
      progress?.update(read.bytes);
      await output.pause();
    }
  } finally {
    progress?.stop();
  }
  output.json?.close("]");
  if (output.json === null) output.text(`processed ${done} commands\n`);
}

async function runOne({ output: { json }, run }: Call, command: readonly string[]): Promise<number> {
  json?.open("{");
  json?.name("command");
  json?.value(command);
  json?.name("output");
  const code = await run(command);
  json?.close("}");
  return code;
}

/** null: of standard input. */
function sizeOf(file: string): number | null {
  if (file === "-") return null;
  try {
    return statSync(file).size;
  } catch (error) {
    throw unopened(file, error);
  }
}

async function* piecesOf(file: string, read: { bytes: number }): AsyncIterable<Buffer> {
  const stream = (file === "-" ? process.stdin : createReadStream(file)) as AsyncIterable<Buffer>;
  try {
    for await (const piece of stream) {
      read.bytes += piece.length;
      yield piece;
    }
  } catch (error) {
    throw unopened(file, error);
  }
}

function unopened(file: string, error: unknown): Failure {
  const { code = "", message } = error as NodeJS.ErrnoException;
  const texts: Readonly<Record<string, string>> = {
    ENOENT: "No such file or directory",
    EACCES: "Permission denied",
    EISDIR: "Is a directory",
  };
  return new Failure(`Can't open file (${file}): ${texts[code] ?? message}`);
}
