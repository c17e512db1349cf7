import Sqlite from "better-sqlite3";
import { ERRNO } from "../abi/errno.ts";
import { cmdName } from "../abi/service.ts";

const COMMANDS = "SELECT cmd AS number, name FROM commands ORDER BY cmd";
const ERRORS = "SELECT errno AS number, name FROM errors ORDER BY errno";

const ERRORS_BY_NUMBER = new Map<number, string>(Object.entries(ERRNO).map(([name, number]) => [number, name]));

/** What the log's own tables call commands and errors otherwise than they are called: the view `readable` shows it. */
export function ledgerFindings(file: string): { readonly seq: null; readonly text: string }[] {
  const db = new Sqlite(file, { readonly: true, fileMustExist: true });
  const misnamed = (sql: string, what: string, nameOf: (number: number) => string | undefined): string[] =>
    (db.prepare(sql).all() as { number: number; name: string }[]).flatMap(({ number, name }) => {
      const right = nameOf(number);
      return right === undefined || right === name ? [] : [`the log calls ${what} ${number} ${name}, it is ${right}`];
    });
  const texts = [
    ...misnamed(COMMANDS, "command", cmdName),
    ...misnamed(ERRORS, "errno", (number) => ERRORS_BY_NUMBER.get(number)),
  ];
  db.close();
  return texts.map((text) => ({ seq: null, text }));
}
