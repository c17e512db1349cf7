import Sqlite from "better-sqlite3";
import { ERRNO } from "../abi/errno.ts";
import { cmdName } from "../abi/service.ts";
import { FACTS, LIFE, LOG_ID, POSSIBLE_CPUS } from "./facts.ts";

const COMMANDS = "SELECT cmd AS number, name FROM commands ORDER BY cmd";
const ERRORS = "SELECT errno AS number, name FROM errors ORDER BY errno";

const NAMES = "SELECT name FROM ledger ORDER BY name";

/** Facts that every log has from its first start on. */
const NEEDED = [LOG_ID, LIFE, POSSIBLE_CPUS];

const ERRORS_BY_NUMBER = new Map<number, string>(Object.entries(ERRNO).map(([name, number]) => [number, name]));

/**
 * Compares the log's tables of command and errno names, which the view `readable` shows, with the right names, and
 * finds facts that mapledger does not write or that are missing. Missing names are not reported: a start writes them
 * again.
 */
export function ledgerFindings(file: string): { readonly seq: null; readonly text: string }[] {
  const db = new Sqlite(file, { readonly: true, fileMustExist: true });
  const misnamed = (sql: string, what: string, nameOf: (number: number) => string | undefined): string[] =>
    (db.prepare(sql).all() as { number: number; name: string }[]).flatMap(({ number, name }) => {
      const right = nameOf(number);
      if (right === undefined)
        return [`the log names ${what} ${number} ${name}, but this mapledger knows no such ${what}`];
      return right === name ? [] : [`the log names ${what} ${number} ${name}, but its name is ${right}`];
    });
  const facts = db.prepare(NAMES).pluck().all() as string[];
  const texts = [
    ...facts
      .filter((name) => !FACTS.has(name))
      .map((name) => `the ledger has a fact "${name}", which mapledger does not write`),
    ...NEEDED.filter((name) => !facts.includes(name)).map((name) => `the ledger has no fact "${name}"`),
    ...misnamed(COMMANDS, "command", cmdName),
    ...misnamed(ERRORS, "errno", (number) => ERRORS_BY_NUMBER.get(number)),
  ];
  db.close();
  return texts.map((text) => ({ seq: null, text }));
}
