import * as fc from "fast-check";
import { test } from "tap";
import { ElementTable } from "../../src/mirror/element_table.ts";
import { SEED } from "../support/seed.ts";

const SIZES = { keyBytes: 6, valueBytes: 2 };
/** The first four bytes say how many of the bits behind them count, as in the key of an LPM trie. */
const prefixed = (key: Buffer, at: number): number => 32 + key.readUInt32LE(at);
const whole = (): number => 8 * SIZES.keyBytes;

const keys = fc.tuple(fc.nat(16), fc.nat(255), fc.constantFrom(0, 1, 128, 129, 255)).map(([bits, one, other]) => {
  const key = Buffer.from([0, 0, 0, 0, one & 0xc3, other]);
  key.writeUInt32LE(bits);
  return key;
});
const elements = fc.array(fc.record({ key: keys, value: fc.nat(65_535) }), { maxLength: 4000, size: "max" });

/** The prefix, with zeros in place of the bits that do not count. */
function masked(key: Buffer): string {
  const bits = key.readUInt32LE();
  const address = key.readUInt16BE(4) & (0xffff0000 >> bits) & 0xffff;
  return `${bits}/${address}`;
}

for (const [name, significant, identity] of [
  ["whole keys", whole, (key: Buffer) => key.toString("hex")],
  ["prefixes", prefixed, masked],
] as const)
  test(`a table finds elements as a Map does, by ${name}`, async (t) => {
    fc.assert(
      fc.property(elements, fc.array(keys), (elements, others) => {
        const table = new ElementTable(SIZES, significant);
        const wanted = new Map<string, { key: Buffer; value: Buffer }>();
        for (const { key, value } of elements) {
          const bytes = Buffer.from([value, value >> 8]);
          table.add({ key, value: bytes });
          wanted.set(identity(key), { key, value: bytes });
        }
        const padded = (key: Buffer): Buffer => Buffer.concat([Buffer.from([9, 9, 9]), key, Buffer.from([9])]);
        for (const key of [...elements.map(({ key }) => key), ...others]) {
          const index = table.find(padded(key), 3);
          const element = wanted.get(identity(key));
          if (index < 0 !== (element === undefined)) return false;
          if (element === undefined) continue;
          if (!table.key(index).equals(element.key) || !table.value(index).equals(element.value)) return false;
          if (!table.is(index, padded(element.key), 3, padded(element.value), 3)) return false;
          if (
            table.is(index, element.key, 0, Buffer.from([element.value[0] as number, ~(element.value[1] as number)]), 0)
          )
            return false;
        }
        const marked = [...wanted.values()].filter((_, at) => at % 3 === 0);
        for (const { key } of marked) table.mark(table.find(key));
        const left = [...table.unmarked()].map((index) => table.key(index).toString("hex"));
        const unmarked = [...wanted.values()].filter((_, at) => at % 3 !== 0).map(({ key }) => key.toString("hex"));
        return JSON.stringify(left) === JSON.stringify(unmarked);
      }),
      { seed: SEED, numRuns: 40 },
    );
    t.throws(() => new ElementTable(SIZES, whole).add({ key: Buffer.alloc(6), value: Buffer.alloc(3) }), RangeError);
  });
