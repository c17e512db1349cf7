/**
 * The commands of a batch file: a command a line; # begins a comment; a backslash at the end of a line continues it; words
 * are separated by blanks, and one that begins with a quote ends at the next such quote.
 */

import { Failure } from "./failure.ts";

const LINE_CHARACTERS_MAX = 1024 * 1024;
const WORD = /\s*(?:'([^']*)'|"([^"]*)"|([^\s'"]\S*))/y;

/** The words of each command; empty lines are skipped. Throws a Failure that names the line. */
export async function* batchCommands(pieces: AsyncIterable<Buffer>): AsyncIterable<readonly string[]> {
  let begun = "";
  let number = 0;
  for await (const line of linesOf(pieces)) {
    number++;
    const [text = ""] = line.split("#", 1);
    if (text.length + begun.length > LINE_CHARACTERS_MAX) throw new Failure(`line ${number} is too long`);
    if (text.endsWith("\\")) {
      begun += text.slice(0, -1);
      continue;
    }
    const words = wordsOf(begun + text, number);
    begun = "";
    if (words.length > 0) yield words;
  }
  if (begun !== "") throw new Failure(`missing continuation line after line ${number}`);
}

function wordsOf(line: string, number: number): readonly string[] {
  const words: string[] = [];
  const text = line.trimEnd();
  WORD.lastIndex = 0;
  while (WORD.lastIndex < text.length) {
    const found = WORD.exec(text);
    if (found === null) throw new Failure(`unterminated quoted string in line ${number}`);
    words.push(found[1] ?? found[2] ?? (found[3] as string));
  }
  return words;
}

async function* linesOf(pieces: AsyncIterable<Buffer>): AsyncIterable<string> {
  const decoder = new TextDecoder();
  let rest = "";
  let number = 1;
  for await (const piece of pieces) {
    const lines = (rest + decoder.decode(piece, { stream: true })).split("\n");
    rest = lines.pop() as string;
    number += lines.length;
    if (rest.length > LINE_CHARACTERS_MAX) throw new Failure(`line ${number} is too long`);
    yield* lines;
  }
  if (rest !== "") yield rest;
}
