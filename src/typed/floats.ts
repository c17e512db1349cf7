/**
 * Floats of 4 and 8 bytes are numbers, and strings where JSON has no number: "NaN", "Infinity", "-Infinity", "-0". Floats
 * of other sizes are the hex digits of their bytes, in the order of memory: JavaScript cannot calculate with them.
 */

import type { Leaf } from "./leaf.ts";
import { Misfit, shown } from "./misfit.ts";

const WORDS = new Map([
  ["NaN", Number.NaN],
  ["Infinity", Number.POSITIVE_INFINITY],
  ["-Infinity", Number.NEGATIVE_INFINITY],
  ["-0", -0],
]);
const HEX = /^[0-9a-fA-F]*$/;
/** The bits of the NaN that is written: quiet, positive, without a payload. */
const NAN: Readonly<Record<number, string>> = { 4: "0000c07f", 8: "000000000000f87f" };

const DECIMAL = /^-?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?$/;

/** A number of JSON in a string; undefined: the text is none, or is beyond all floats. */
function decimalOf(text: string): number | undefined {
  const number = text.length <= 400 && DECIMAL.test(text) ? Number(text) : Number.NaN;
  return Number.isFinite(number) ? number : undefined;
}

function floatText(value: number): string {
  return Number.isFinite(value) && !Object.is(value, -0) ? String(value) : `"${Object.is(value, -0) ? "-0" : value}"`;
}

/** `always`: a NaN with other bits than the one that is written is shown nevertheless. */
export function float(size: number, always: boolean): Leaf {
  if (size !== 4 && size !== 8) return hexBytes(size);
  const get =
    size === 4
      ? (bytes: Buffer, at: number) => bytes.readFloatLE(at)
      : (bytes: Buffer, at: number) => bytes.readDoubleLE(at);
  return {
    read: (bytes, at) => {
      const value = get(bytes, at);
      if (Number.isNaN(value) && !always) {
        const bits = bytes.toString("hex", at, at + size);
        if (bits !== NAN[size]) return new Misfit(`a NaN with bits of its own: ${bits}`);
      }
      return floatText(value);
    },
    write: (bytes, at, json) => {
      const value = typeof json === "string" ? (WORDS.get(json) ?? decimalOf(json)) : json;
      if (typeof value !== "number" || (!Number.isFinite(value) && typeof json !== "string"))
        return new Misfit(`a number, "NaN", "Infinity", "-Infinity" or "-0" required, found ${shown(json)}`);
      if (size === 8) bytes.writeDoubleLE(value, at);
      else bytes.writeFloatLE(value, at);
      if (Number.isNaN(value)) bytes.write(NAN[size] as string, at, "hex");
      const isLost = Number.isFinite(value) && !Number.isFinite(get(bytes, at));
      return isLost ? new Misfit(`a number that fits a float of ${size} bytes required, found ${shown(json)}`) : null;
    },
  };
}

/** The hex digits of bytes, in the order of memory. */
export function hexBytes(size: number): Leaf {
  return {
    read: (bytes, at) => `"${bytes.toString("hex", at, at + size)}"`,
    write: (bytes, at, json) => {
      if (typeof json !== "string" || json.length !== 2 * size || !HEX.test(json))
        return new Misfit(`${2 * size} hex digits required, found ${shown(json)}`);
      bytes.write(json, at, "hex");
      return null;
    },
  };
}
