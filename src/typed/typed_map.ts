/** The forms of a map's elements: of keys, of values, of values of each CPU, of the ids of inner maps. */

import type { Btf } from "../btf/btf.ts";
import { Form } from "./form.ts";
import { inRange, range } from "./integers.ts";
import { Misfit, shown } from "./misfit.ts";
import type { Names } from "./names.ts";

const NO_NAMES: Names = {};
const VOID = 0;
const DESCRIPTORS = range(0n, 2n ** 31n - 1n);

/** Types of an element; 0: none. */
export interface ElementTypes {
  readonly btf: Btf;
  readonly keyTypeId: number;
  readonly valueTypeId: number;
}

export interface ElementFacts {
  readonly keySize: number;
  /** In bytes, of one CPU. */
  readonly valueSize: number;
  /** A value has a slot for each possible CPU, rounded up to 8 bytes; null: it has no slots. */
  readonly cpus: number | null;
  /** BPF_MAP_TYPE_LPM_TRIE. */
  readonly isTrie: boolean;
  /** Keys are indexes, so a key without a type is a u32. */
  readonly isIndexed: boolean;
  /** Lookups answer the ids of inner maps. */
  readonly holdsMaps: boolean;
}

/** One side of an element in both forms. Misfits of `read` and `write` are relative to "key" or "value". */
export interface Side {
  readonly bytes: number;
  readonly textMax: number;
  readonly formatted: (bytes: Buffer) => string;
  readonly typed: (bytes: Buffer, names?: Names) => string | Misfit;
  readonly fromTyped: (json: unknown, names?: Names) => Buffer | Misfit;
  readonly fromFormatted: (json: unknown) => Buffer | Misfit;
}

export class TypedMap {
  /** null: there are no keys, or they have no type. A Misfit: why the type has no forms. */
  readonly key: Form | Misfit | null;
  readonly value: Side | Misfit | null;
  readonly #showsKey: boolean;
  readonly #valuesName: string;

  /** `types` null: the map was created without. */
  constructor(types: ElementTypes | null, facts: ElementFacts) {
    const { keyTypeId, valueTypeId } = types ?? { keyTypeId: VOID, valueTypeId: VOID };
    const { keySize, valueSize, cpus, isTrie, isIndexed, holdsMaps } = facts;
    const isIndex = keyTypeId === VOID && isIndexed && keySize === 4;
    this.#showsKey = keyTypeId !== VOID;
    this.#valuesName = cpus === null ? "value" : "values";
    if (types === null || keyTypeId === VOID || keySize === 0) this.key = isIndex ? Form.index() : null;
    else this.key = outside("key", Form.make(types.btf, keyTypeId, { bytes: keySize, isKey: true, isPrefix: isTrie }));
    if (holdsMaps) this.value = innerMap();
    else if (types === null || valueTypeId === VOID || valueSize === 0) this.value = null;
    else {
      const one = outside(
        "value",
        Form.make(types.btf, valueTypeId, { bytes: valueSize, isKey: false, isPrefix: false }),
      );
      this.value = one instanceof Misfit ? one : cpus === null ? one : eachCpu(one, cpus);
    }
  }

  /** The most characters of an element in either form. */
  get textMax(): number {
    const most = (side: { readonly textMax: number } | Misfit | null): number =>
      side === null || side instanceof Misfit ? 0 : side.textMax;
    return 32 + most(this.key) + most(this.value);
  }

  /** The member "formatted" of an element in bpftool's list: {"key": ..., "value": ...}. */
  formatted(key: Buffer, value: Buffer): string | Misfit {
    if (this.key instanceof Misfit) return this.key;
    if (this.value instanceof Misfit) return this.value;
    const keyText = this.#showsKey && this.key !== null ? `"key":${this.key.formatted(key)}` : "";
    const valueText = this.value === null ? "" : `"${this.#valuesName}":${this.value.formatted(value)}`;
    return `{${keyText}${keyText === "" || valueText === "" ? "" : ","}${valueText}}`;
  }

  /** {"key": ..., "value": ...}; a Misfit, such as "key.name: bytes after NUL", if one of them has no typed form. */
  typed(key: Buffer, value: Buffer, names: Names = NO_NAMES): string | Misfit {
    const keyText = typedSide(this.key, key, { where: "key", names });
    if (keyText instanceof Misfit) return keyText;
    const valueText = typedSide(this.value, value, { where: "value", names });
    if (valueText instanceof Misfit) return valueText;
    return `{${keyText}${keyText === "" || valueText === "" ? "" : ","}${valueText}}`;
  }
}

function outside(where: string, form: Form | Misfit): Form | Misfit {
  return form instanceof Misfit ? form.inside(where) : form;
}

function typedSide(
  side: Side | Misfit | null,
  bytes: Buffer,
  { where, names }: { where: string; names: Names },
): string | Misfit {
  if (side === null) return "";
  if (side instanceof Misfit) return side;
  const text = side.typed(bytes, names);
  return typeof text === "string" ? `"${where}":${text}` : text.inside(where);
}

/** [{"cpu": 0, "value": ...}, ...] in both forms; input must have each CPU once, in any order. */
function eachCpu(one: Form, cpus: number): Side {
  const stride = Math.ceil(one.bytes / 8) * 8;
  const list = (slot: (cpu: number) => string | Misfit): string | Misfit => {
    let text = "[";
    for (let cpu = 0; cpu < cpus; cpu++) {
      const part = slot(cpu);
      if (typeof part !== "string") return part.inside(`[${cpu}].value`);
      text += `${cpu === 0 ? "" : ","}{"cpu":${cpu},"value":${part}}`;
    }
    return `${text}]`;
  };
  const written = (json: unknown, write: (json: unknown) => Buffer | Misfit): Buffer | Misfit => {
    if (!Array.isArray(json))
      return new Misfit(`a list of {"cpu", "value"} for CPU 0 to ${cpus - 1} required, found ${shown(json)}`);
    const bytes = Buffer.alloc(stride * cpus);
    const seen = new Set<number>();
    for (const [index, slot] of json.entries()) {
      const cpu = cpuOf(slot, cpus);
      if (cpu instanceof Misfit) return cpu.inside(`[${index}]`);
      if (seen.has(cpu)) return new Misfit(`CPU ${cpu} for the second time`, `[${index}].cpu`);
      seen.add(cpu);
      const value = write((slot as { value: unknown }).value);
      if (value instanceof Misfit) return value.inside(`[${index}].value`);
      value.copy(bytes, cpu * stride);
    }
    for (let cpu = 0; cpu < cpus; cpu++) if (!seen.has(cpu)) return new Misfit(`a value for CPU ${cpu} required`);
    return bytes;
  };
  return {
    bytes: stride * cpus,
    textMax: 2 + cpus * (one.textMax + 32),
    formatted: (bytes) => list((cpu) => one.formatted(bytes, cpu * stride)) as string,
    typed: (bytes, names) => list((cpu) => one.typed(bytes, names, cpu * stride)),
    fromTyped: (json, names) => written(json, (value) => one.fromTyped(value, names)),
    fromFormatted: (json) => written(json, (value) => one.fromFormatted(value)),
  };
}

function cpuOf(slot: unknown, cpus: number): number | Misfit {
  const isSlot =
    typeof slot === "object" && slot !== null && Object.hasOwn(slot, "cpu") && Object.hasOwn(slot, "value");
  if (!isSlot || Object.keys(slot).length !== 2)
    return new Misfit(`{"cpu": ..., "value": ...} required, found ${shown(slot)}`);
  const cpu = inRange((slot as { cpu: unknown }).cpu, range(0n, BigInt(cpus - 1)));
  return cpu instanceof Misfit ? cpu.inside(".cpu") : Number(cpu);
}

/** The id that a lookup answers, and the name of that map. A command takes a descriptor in its place. */
function innerMap(): Side {
  const fd = (json: unknown): Buffer | Misfit => {
    const value = inRange(json, DESCRIPTORS);
    if (value instanceof Misfit) return new Misfit(`the descriptor of a map required, found ${shown(json)}`);
    const bytes = Buffer.alloc(4);
    bytes.writeUInt32LE(Number(value));
    return bytes;
  };
  return {
    bytes: 4,
    textMax: 128,
    formatted: (bytes) => String(bytes.readUInt32LE(0)),
    typed: (bytes, names) => {
      const id = bytes.readUInt32LE(0);
      const name = names?.mapName?.(id);
      return typeof name === "string" ? `{"id":${id},"name":${JSON.stringify(name)}}` : `{"id":${id}}`;
    },
    fromTyped: fd,
    fromFormatted: fd,
  };
}
