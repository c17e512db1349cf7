/** Elements, keys and values as bpftool prints them. Keys and values come as hex, as the API has them. */

import type { Errno } from "../../abi/errno.ts";
import type { JsonWriter } from "./json_writer.ts";
import type { MapFacts } from "./map_reference.ts";
import type { Output } from "./output.ts";

/** Prints elements of one map, each as it comes. */
export interface ElementPrinter {
  element(key: string, value: string): void;
  /** A key whose value cannot be read. `text`: strerror(3) of the errno. */
  unread(key: string, errno: Errno, text: string): void;
}

/** Of per-CPU maps a value has a slot for each CPU. */
export type PerCpu = Pick<MapFacts, "possible_cpus" | "value_size">;

const SLOT_BYTES = 8;
/** Longer keys and values begin on a line of their own. */
const SHORT_BYTES = 16;
const LINE_BYTES = 24;

/** Bytes in rows of sixteen, in two groups of eight: "00 01 02 03 04 05 06 07  08 09". */
export function hexText(hex: string): string {
  let text = "";
  for (let at = 0; at < hex.length; at += 2) {
    const byte = at / 2;
    if (byte > 0) text += byte % 16 === 0 ? "\n" : byte % 8 === 0 ? "  " : " ";
    text += hex.slice(at, at + 2);
  }
  return text;
}

/** ["0x00","0x01"] */
export function writeBytes(json: JsonWriter, hex: string): void {
  json.open("[");
  for (let at = 0; at < hex.length; at += 2) json.raw(`"0x${hex.slice(at, at + 2)}"`);
  json.close("]");
}

export function elementPrinter(output: Output, map: MapFacts): ElementPrinter {
  return output.json === null ? new TextPrinter(output, map) : new JsonPrinter(output.json, map);
}

/** The values of each CPU; the whole value, if it is not per CPU. */
export function slotsOf(map: PerCpu, value: string): readonly string[] {
  const { possible_cpus: cpus, value_size: bytes } = map;
  if (cpus === null) return [value];
  const step = Math.ceil(bytes / SLOT_BYTES) * SLOT_BYTES;
  return Array.from({ length: cpus }, (_, cpu) => value.slice(cpu * step * 2, (cpu * step + bytes) * 2));
}

/** The value for each CPU, as a value of one is given for all. */
export function onAllCpus({ possible_cpus: cpus, value_size: bytes }: MapFacts, value: string): string {
  if (cpus === null) return value;
  return value.padEnd(Math.ceil(bytes / SLOT_BYTES) * SLOT_BYTES * 2, "0").repeat(cpus);
}

/** What stands before a key and a value of these lengths, and between them. */
function spacing(key: number, value: number): { readonly gap: string; readonly between: string } {
  const isLong = key > SHORT_BYTES || value > SHORT_BYTES;
  return { gap: isLong ? "\n" : " ", between: key + value <= LINE_BYTES && !isLong ? "  " : "\n" };
}

class TextPrinter implements ElementPrinter {
  readonly #output: Output;
  readonly #map: MapFacts;

  constructor(output: Output, map: MapFacts) {
    this.#output = output;
    this.#map = map;
  }

  element(key: string, value: string): void {
    if (this.#map.possible_cpus === null) this.#onOne(key, value);
    else this.#onCpus(key, value);
  }

  unread(key: string, errno: Errno, text: string): void {
    const { key_size: keyBytes, map_type: type } = this.#map;
    const said =
      errno === "ENOENT"
        ? "<no entry>"
        : errno === "ENOSPC" && type === "BPF_MAP_TYPE_REUSEPORT_SOCKARRAY"
          ? "<cannot read>"
          : text;
    const { gap, between } = spacing(keyBytes, said.length);
    this.#output.text(`key:${gap}${hexText(key)}${between}value:${gap}${said}\n`);
  }

  #onOne(key: string, value: string): void {
    const { key_size: keyBytes, value_size: valueBytes } = this.#map;
    const { gap, between } = spacing(keyBytes, valueBytes);
    const keyText = keyBytes === 0 ? "" : `key:${gap}${hexText(key)}${between}`;
    this.#output.text(`${keyText}${valueBytes === 0 ? "" : `value:${gap}${hexText(value)}`}\n`);
  }

  #onCpus(key: string, value: string): void {
    const { key_size: keyBytes, value_size: valueBytes } = this.#map;
    if (keyBytes > 0) this.#output.text(`key:\n${hexText(key)}\n`);
    const gap = valueBytes > SHORT_BYTES ? "\n" : " ";
    for (const [cpu, slot] of slotsOf(this.#map, value).entries())
      this.#output.text(`value (CPU ${String(cpu).padStart(2, "0")}):${gap}${hexText(slot)}\n`);
  }
}

class JsonPrinter implements ElementPrinter {
  readonly #json: JsonWriter;
  readonly #map: MapFacts;

  constructor(json: JsonWriter, map: MapFacts) {
    this.#json = json;
    this.#map = map;
  }

  element(key: string, value: string): void {
    this.#json.open("{");
    this.#json.name("key");
    writeBytes(this.#json, key);
    writeValue(this.#json, this.#map, value);
    this.#json.close("}");
  }

  unread(key: string, _errno: Errno, text: string): void {
    this.#json.open("{");
    this.#json.name("key");
    writeBytes(this.#json, key);
    this.#json.name("value");
    this.#json.open("{");
    this.#json.field("error", text);
    this.#json.close("}");
    this.#json.close("}");
  }
}

/** The member "value", or "values" with each CPU's. */
function writeValue(json: JsonWriter, map: MapFacts, value: string): void {
  if (map.possible_cpus === null) {
    json.name("value");
    writeBytes(json, value);
    return;
  }
  json.name("values");
  json.open("[");
  for (const [cpu, slot] of slotsOf(map, value).entries()) {
    json.open("{");
    json.field("cpu", cpu);
    json.name("value");
    writeBytes(json, slot);
    json.close("}");
  }
  json.close("]");
}
