import { Btf } from "../src/btf/btf.ts";
import { isRefusal } from "../src/maps/refusal.ts";
import { makeTypes } from "../src/typed/map_types.ts";
import { Misfit } from "../src/typed/misfit.ts";
import { type Side, TypedMap } from "../src/typed/typed_map.ts";
import type { Figure } from "./targets.ts";

/** A struct of nine members: counters, addresses, ports, an enumeration, a name. */
const VALUE = {
  packets: "u64",
  bytes: "u64",
  src: "inet_ip",
  dst: "inet_ip",
  sport: "be16",
  dport: "be16",
  state: { "@enum": { NEW: 0, OPEN: 1, CLOSED: 2 }, name: "state", bytes: 4 },
  last: "u64",
  comm: "char[16]",
};
const JSON_VALUE = {
  ...{ packets: "123456", bytes: "9876543210", src: "10.0.0.1", dst: "192.168.1.77", sport: 443, dport: 51_234 },
  ...{ state: "OPEN", last: "1700000000123456789", comm: "nginx" },
};
const VALUE_BYTES = 56;
const TIMES = 200_000;

/** Time of a typed value of nine members beyond that of its hex, and of making its bytes. */
export function typedValues(): readonly Figure[] {
  const value = sideOf();
  const bytes = value.fromTyped(JSON_VALUE);
  if (bytes instanceof Misfit) throw new Error(`writing a value: ${bytes}`);
  const hexUs = usOf(() => bytes.toString("hex"));
  return [
    {
      name: "a typed value of 9 members beyond its hex, us",
      figure: usOf(() => value.typed(bytes)) - hexUs,
      target: { most: 4 },
    },
    { name: "a formatted value of 9 members beyond its hex, us", figure: usOf(() => value.formatted(bytes)) - hexUs },
    { name: "bytes of a typed value of 9 members, us", figure: usOf(() => value.fromTyped(JSON_VALUE)) },
  ];
}

function sideOf(): Side {
  const facts = { keySize: 4, valueSize: VALUE_BYTES, cpus: null, isTrie: false, isIndexed: true, holdsMaps: false };
  const made = makeTypes({ value: VALUE }, facts, null);
  if (made instanceof Misfit) throw new Error(`making types: ${made}`);
  const btf = Btf.parse(made.blob);
  if (isRefusal(btf)) throw new Error(`reading BTF: ${btf.detail}`);
  const { value } = new TypedMap({ btf, keyTypeId: made.keyTypeId, valueTypeId: made.valueTypeId }, facts);
  if (value === null || value instanceof Misfit) throw new Error(`making forms: ${value}`);
  return value;
}

/** The time of a call, in microseconds. */
function usOf(call: () => unknown): number {
  let used = 0;
  const start = process.hrtime.bigint();
  for (let time = 0; time < TIMES; time++) if (call() !== null) used++;
  if (used !== TIMES) throw new Error(`calling ${TIMES} times: ${used} answers`);
  return Number(process.hrtime.bigint() - start) / 1000 / TIMES;
}
