import { Btf } from "../../src/btf/btf.ts";
import { isRefusal } from "../../src/maps/refusal.ts";
import { Form, type Role } from "../../src/typed/form.ts";
import { makeTypes } from "../../src/typed/map_types.ts";
import { Misfit } from "../../src/typed/misfit.ts";

const VALUE = { isKey: false, isPrefix: false };

export function parsed(blob: Buffer): Btf {
  const btf = Btf.parse(blob);
  if (isRefusal(btf)) throw new Error(`parsing BTF: ${btf.detail}`);
  return btf;
}

/** The id of a struct by its name. */
export function idOf(btf: Btf, name: string): number {
  for (let id = 1; id < btf.count; id++) if (btf.name(id) === name) return id;
  throw new Error(`looking for ${name}: there is none`);
}

export function formOf(btf: Btf, id: number, role: Partial<Role> = {}): Form {
  return must(Form.make(btf, id, { ...VALUE, bytes: btf.size(id) ?? 0, ...role }));
}

export function must<Answer>(answer: Answer | Misfit): Answer {
  if (answer instanceof Misfit) throw new Error(String(answer));
  return answer;
}

/** JSON.parse, but numbers beyond 2^53 keep their digits, as strings. */
export function parsedExactly(text: string): unknown {
  const exact = (_: string, value: unknown, context?: { readonly source?: string }): unknown =>
    typeof value === "number" && !Number.isSafeInteger(value) ? (context?.source ?? value) : value;
  return JSON.parse(text, exact as (key: string, value: unknown) => unknown);
}

/** The forms of a value whose type is described in JSON. */
export function described(json: unknown, bytes: number, role: Partial<Role> = {}): Form {
  const made = must(makeTypes({ value: json }, { keySize: 0, valueSize: bytes, isTrie: false }, null));
  return formOf(parsed(made.blob), made.valueTypeId, { bytes, ...role });
}
