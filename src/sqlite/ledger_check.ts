import Sqlite from "better-sqlite3";
import { ERRNO } from "../abi/errno.ts";
import { cmdName } from "../abi/service.ts";
import { FACTS, LIFE, LOG_ID, POSSIBLE_CPUS } from "./facts.ts";

const COMMANDS = "SELECT cmd AS number, name FROM commands ORDER BY cmd";
const ERRORS = "SELECT errno AS number, name FROM errors ORDER BY errno";

const NAMES = "SELECT name FROM ledger ORDER BY name";

/** What each start looks for, and makes at the first. */
const NEEDED = [LOG_ID, LIFE, POSSIBLE_CPUS];

const ERRORS_BY_NUMBER = new Map<number, string>(Object.entries(ERRNO).map(([name, number]) => [number, name]));

/**
 * What the log's own tables call commands and errors otherwise than they are called, or have besides: the view `readable` shows it;
 * and facts that no mapledger writes, or that are gone. Names that are missing a start writes again.
 */
export function ledgerFindings(file: string): { readonly seq: null; readonly text: string }[] {
  const db = new Sqlite(file, { readonly: true, fileMustExist: true });
  const misnamed = (sql: string, what: string, nameOf: (number: number) => string | undefined): string[] =>
    (db.prepare(sql).all() as { number: number; name: string }[]).flatMap(({ number, name }) => {
      const right = nameOf(number);
      if (right === undefined)
        return [`the log calls ${what} ${number} ${name}, this mapledger knows none of that number`];
      return right === name ? [] : [`the log calls ${what} ${number} ${name}, it is ${right}`];
    });
  const facts = db.prepare(NAMES).pluck().all() as string[];
  const texts = [
    ...facts
      .filter((name) => !FACTS.has(name))
      .map((name) => `the ledger has a fact "${name}", which no mapledger writes`),
    ...NEEDED.filter((name) => !facts.includes(name)).map((name) => `the ledger has no fact "${name}"`),
    ...misnamed(COMMANDS, "command", cmdName),
    ...misnamed(ERRORS, "errno", (number) => ERRORS_BY_NUMBER.get(number)),
  ];
  db.close();
  return texts.map((text) => ({ seq: null, text }));
}
