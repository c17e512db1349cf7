import { InvalidInput } from "../codec/invalid.ts";
import type { EventRow } from "../log/event.ts";
import { readEventLine } from "./event_line.ts";

/** The longest line that is read: an event's key and value in hex, and what stands around them. */
const LINE_CHARACTERS_MAX = 512 * 1024 * 1024 - 64 * 1024;

/** A line of an export that cannot be read. */
export class BadLine extends Error {
  /** As in "line 17". */
  readonly where: string;

  constructor(line: number, found: string) {
    super(`line ${line}: ${found}`);
    this.name = "BadLine";
    this.where = `line ${line}`;
  }
}

/**
 * Events of an export, a line each, as its pieces come. Throws BadLine, which tells the line's number; the events before it
 * have been given by then.
 */
export async function* readEventLines(pieces: AsyncIterable<string>): AsyncIterable<EventRow> {
  let number = 0;
  let lastSeq = 0;
  for await (const line of splitLines(pieces)) {
    number++;
    if (line.trim() === "") continue;
    const row = readLine(line, number);
    if (row.seq <= lastSeq)
      throw new BadLine(number, `seq is ${row.seq}: it must be more than ${lastSeq}, the one before`);
    lastSeq = row.seq;
    yield row;
  }
}

function readLine(line: string, number: number): EventRow {
  try {
    return readEventLine(line);
  } catch (fault) {
    if (fault instanceof InvalidInput) throw new BadLine(number, fault.message);
    throw fault;
  }
}

/** Lines without their ends; a last one without an end is one, too. */
async function* splitLines(pieces: AsyncIterable<string>): AsyncIterable<string> {
  let rest: string[] = [];
  let length = 0;
  let number = 1;
  for await (const piece of pieces) {
    const lines = piece.split("\n");
    for (const [at, text] of lines.entries()) {
      rest.push(text);
      length += text.length;
      if (length > LINE_CHARACTERS_MAX)
        throw new BadLine(number, `it is longer than ${LINE_CHARACTERS_MAX} characters`);
      if (at === lines.length - 1) break;
      yield rest.join("");
      number++;
      rest = [];
      length = 0;
    }
  }
  if (length > 0) yield rest.join("");
}
