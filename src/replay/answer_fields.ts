/** Reads responses of a target that may not be a mapledger. */

import type { Outputs } from "./answer.ts";
import { TargetFailed } from "./target.ts";

type Fields = Readonly<Record<string, unknown>>;

/** Outputs of the syscall door that are hex strings, and those that are numbers. */
const TEXTS = ["value", "next_key", "keys", "values", "out_batch", "info", "hash", "btf", "name"];
const NUMBERS = ["next_id", "count", "info_len"];

/**
 * Reads the fields of a target's JSON with the types that mapledger's API gives them. If a type differs, TargetFailed
 * is thrown, with nothing of the response in its message: a target that is not a mapledger may have sent something
 * confidential.
 */
export class AnswerFields {
  readonly #fields: Fields;

  constructor(fields: unknown) {
    if (typeof fields !== "object" || fields === null || Array.isArray(fields)) throw noMapledger();
    this.#fields = fields as Fields;
  }

  static read(body: Buffer): AnswerFields {
    try {
      return new AnswerFields(JSON.parse(body.toString("utf8")));
    } catch (error) {
      throw error instanceof TargetFailed ? error : noMapledger();
    }
  }

  has(name: string): boolean {
    return this.#fields[name] !== undefined;
  }

  integer(name: string): number {
    const value = this.#fields[name];
    return Number.isSafeInteger(value) ? (value as number) : fail();
  }

  text(name: string): string {
    const value = this.#fields[name];
    return typeof value === "string" ? value : fail();
  }

  textOrNull(name: string): string | null {
    return this.#fields[name] === null ? null : this.text(name);
  }

  flag(name: string): boolean {
    const value = this.#fields[name];
    return typeof value === "boolean" ? value : fail();
  }

  fields(name: string): AnswerFields {
    return new AnswerFields(this.#fields[name]);
  }

  fieldsOrNull(name: string): AnswerFields | null {
    return this.#fields[name] === null ? null : this.fields(name);
  }

  integers(name: string): readonly number[] {
    const list = this.#list(name);
    return list.every(Number.isSafeInteger) ? (list as number[]) : fail();
  }

  list(name: string): readonly AnswerFields[] {
    return this.#list(name).map((fields) => new AnswerFields(fields));
  }

  /** The outputs of the syscall door, each with its type checked. */
  outputs(name: string): Outputs {
    const attr = this.fields(name);
    for (const text of TEXTS) if (attr.has(text)) attr.text(text);
    for (const number of NUMBERS) if (attr.has(number)) attr.integer(number);
    return attr.#fields as Outputs;
  }

  #list(name: string): readonly unknown[] {
    const value = this.#fields[name];
    return Array.isArray(value) ? value : fail();
  }
}

export function noMapledger(): TargetFailed {
  return new TargetFailed("the target's answer is not a mapledger's");
}

function fail(): never {
  throw noMapledger();
}
