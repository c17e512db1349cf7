/** The parts of a segment: sets of events, postings and keys, against plain lists. */

import t from "tap";
import { Bits, SEGMENT_EVENTS } from "../../src/index/bits.ts";
import { addFromBlock, KeyEntries, KeyWanted } from "../../src/index/key_entries.ts";
import { addPostings, offsetsIn, postingsBytes } from "../../src/index/postings.ts";
import { readU32Key } from "../../src/maps/cells.ts";
import { random, SEED } from "../support/seed.ts";

t.comment(`SEED=${SEED}`);
const roll = random(SEED);

/** Offsets of which one in `sparse` is there, in runs of `run`. */
function offsets(sparse: number, run: number, end: number): number[] {
  const found: number[] = [];
  for (let at = roll(sparse * run); at < end; at += 1 + roll(2 * sparse * run))
    for (let more = 0; more < run && at < end; more++) found.push(at++);
  return found;
}

t.test("postings are read as they were written, in whichever form is smallest", (t) => {
  const forms = new Set<number>();
  for (const [sparse, run] of [
    [1, 1],
    [2, 1],
    [1, 3],
    [6, 1],
    [50, 1],
    [3000, 1],
    [40, 900],
    [1, 60_000],
  ] as const)
    for (const end of [1, 2, 9, 5000, SEGMENT_EVENTS]) {
      const all = [0, ...offsets(sparse, run, end), end - 1];
      const wanted = [...new Set(all)].sort((a, b) => a - b);
      const bytes = postingsBytes(Uint16Array.from(wanted));
      forms.add(bytes[0] as number);
      t.strictSame(offsetsIn(bytes), wanted, `one in ${sparse}, runs of ${run}, up to ${end}`);
      t.ok(bytes.length <= end / 8 + 2);
    }
  t.equal(forms.size, 3);
  for (const wrong of [[], [9, 1], [0, 0x80], [1, 1], [0, 0xff, 0xff, 0xff, 0x7f], [2, ...Buffer.alloc(8193)]])
    t.throws(() => addPostings(Buffer.from(wrong), new Bits()), { name: "Damaged" }, wrong.slice(0, 4).join());
  t.end();
});

t.test("sets of events are what lists of them are", (t) => {
  for (let round = 0; round < 200; round++) {
    const [one, other] = [new Bits(), new Bits()];
    const [from, until] = [roll(SEGMENT_EVENTS / 2), SEGMENT_EVENTS / 2 + roll(SEGMENT_EVENTS / 2)];
    const listed = offsets(1 + roll(300), 1 + roll(40), SEGMENT_EVENTS);
    one.addRange(from, until);
    for (const at of listed) other.add(at);
    const isKept = round % 2 === 0;
    if (isKept) one.keep(other);
    else one.remove(other);
    const has = new Set(listed);
    const wanted: number[] = [];
    for (let at = from; at <= until; at++) if (has.has(at) === isKept) wanted.push(at);
    const found = [...one.ascending()];
    t.ok(found.length === wanted.length && found.every((at, place) => at === wanted[place]), `round ${round}`);
    t.strictSame([...one.descending()].reverse().length, found.length);
    t.equal(one.isEmpty, wanted.length === 0);
  }
  t.end();
});

/** Ways in which keys are made: by chance, counted in either byte order, with much in common, of any length. */
const KEYS: Readonly<Record<string, () => Buffer>> = {
  "random bytes": () => Buffer.from(Array.from({ length: 8 }, () => roll(256))),
  "counted from the low byte": () => {
    const key = Buffer.alloc(4);
    key.writeUInt32LE(roll(5000));
    return key;
  },
  "counted from the high byte": () => {
    const key = Buffer.alloc(8);
    key.writeUInt32BE(roll(5000), 4);
    return key;
  },
  "alike in the first 8 bytes": () => Buffer.concat([Buffer.alloc(8, 1), Buffer.from([roll(256), roll(4)])]),
  "of any length": () => Buffer.from(Array.from({ length: roll(12) }, () => pickByte())),
};
const pickByte = (): number => [0, 1, 255][roll(3)] as number;

/** Of 1,024 keys, more than four have a given hash of 16 bits once in 10^11 times. */
const SAME_HASH_MOST = 4;

for (const [name, make] of Object.entries(KEYS))
  t.test(`keys are found by any beginning, in memory and in blocks: ${name}`, (t) => {
    const entries = new KeyEntries();
    const keys = Array.from({ length: 3000 }, make);
    for (const [offset, key] of keys.entries())
      entries.add(Buffer.concat([Buffer.alloc(3), key]), 3, 3 + key.length, offset);
    const blocks = [...entries.blocks()];
    t.strictSame(
      blocks.map(([key]) => key),
      blocks.map(([key]) => key).sort(),
    );
    const wrong: object[] = [];
    for (let round = 0; round < 300; round++) {
      const key = round % 3 === 0 ? make() : (keys[roll(keys.length)] as Buffer);
      const begun = key.subarray(0, 1 + roll(key.length));
      const wanted = new KeyWanted(begun);
      const [memory, stored] = [new Bits(), new Bits()];
      entries.addFound(wanted, memory);
      for (const [start, bytes] of blocks)
        addFromBlock([readU32Key(start, 0), readU32Key(start, 4)], bytes, wanted, stored);
      const right = keys.flatMap((one, at) => (one.subarray(0, begun.length).equals(begun) ? [at] : []));
      const found = [...memory.ascending()];
      const isSame = found.join() === [...stored.ascending()].join();
      // Keys that are longer than their beginning, and it longer than 8 bytes, are told apart by their events alone; and
      // hashes of 16 bits may be the same.
      const isExact = begun.length <= 8;
      const isWhole = keys.every((one) => one.length <= begun.length);
      const others = new Set(found.map((at) => (keys[at] as Buffer).toString("hex"))).size - Math.min(1, right.length);
      const isMore = isExact ? found.length > right.length : isWhole && others > SAME_HASH_MOST;
      if (!isSame || !right.every((at) => memory.has(at)) || isMore)
        wrong.push({ begun, found: found.length, right: right.length, isSame });
    }
    t.strictSame(wrong, []);
    t.end();
  });
