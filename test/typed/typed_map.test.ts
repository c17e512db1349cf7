import t from "tap";
import { makeTypes } from "../../src/typed/map_types.ts";
import { type ElementFacts, type Side, TypedMap } from "../../src/typed/typed_map.ts";
import { must, parsed } from "./subjects.ts";

const PLAIN: ElementFacts = { keySize: 4, valueSize: 8, cpus: null, isTrie: false, isIndexed: false, holdsMaps: false };

function mapOf(json: unknown, more: Partial<ElementFacts> = {}): TypedMap {
  const facts = { ...PLAIN, ...more };
  const { blob, keyTypeId, valueTypeId } = must(makeTypes(json, facts, null));
  return new TypedMap({ btf: parsed(blob), keyTypeId, valueTypeId }, facts);
}

const hex = (text: string): Buffer => Buffer.from(text.replaceAll(" ", ""), "hex");

t.test("an element has a key and a value, and a misfit says in which", (t) => {
  const map = mapOf({ key: { name: "char[4]" }, value: { a: "u32", b: "bool" } });
  t.equal(map.typed(hex("61000000"), hex("01000000 01000000")), '{"key":{"name":"a"},"value":{"a":1,"b":true}}');
  t.equal(map.formatted(hex("61000000"), hex("01000000 01000000")), '{"key":{"name":"a"},"value":{"a":1,"b":true}}');
  t.equal(String(map.typed(hex("61006200"), hex("01000000 01000000"))), "key.name: bytes after NUL");
  t.equal(String(map.typed(hex("61000000"), hex("01000000 05000000"))), "value.b: a bool of 5");
  t.end();
});

t.test("values of each CPU are a list, which input gives whole and in any order", (t) => {
  const map = mapOf({ key: "u32", value: { a: "u8" } }, { valueSize: 1, cpus: 2 });
  const value = hex("0500000000000000 0600000000000000");
  t.equal(map.typed(hex("01000000"), value), '{"key":1,"value":[{"cpu":0,"value":{"a":5}},{"cpu":1,"value":{"a":6}}]}');
  t.equal(
    map.formatted(hex("01000000"), value),
    '{"key":1,"values":[{"cpu":0,"value":{"a":5}},{"cpu":1,"value":{"a":6}}]}',
  );
  const side = map.value as Side;
  const slot = (cpu: number, a: number): unknown => ({ cpu, value: { a } });
  t.same(side.fromTyped([slot(1, 6), slot(0, 5)]), value);
  t.same(side.fromFormatted([slot(0, 5), slot(1, 6)]), value);
  t.equal(String(side.fromTyped([slot(0, 5)])), ": a value for CPU 1 required");
  t.equal(String(side.fromTyped([slot(0, 5), slot(0, 5)])), "[1].cpu: CPU 0 for the second time");
  t.equal(String(side.fromTyped([slot(0, 5), slot(2, 5)])), "[1].cpu: 0 to 1, found 2");
  t.equal(String(side.fromTyped([slot(0, 256)])), "[0].value.a: 0 to 255, found 256");
  t.equal(String(side.fromTyped({ a: 5 })), ': a list of {"cpu", "value"} for CPU 0 to 1 required, found an object');
  t.end();
});

t.test("the key of a trie is a prefix if it is a u32 and 4 or 16 bytes, else a struct", (t) => {
  const v4 = mapOf({ key: { prefixlen: "u32", data: "u32" }, value: "u64" }, { keySize: 8, isTrie: true });
  t.equal(v4.typed(hex("08000000 0a000000"), Buffer.alloc(8)), '{"key":"10.0.0.0/8","value":"0"}');
  t.equal(v4.formatted(hex("08000000 0a000000"), Buffer.alloc(8)), '{"key":{"prefixlen":8,"data":10},"value":0}');
  const other = mapOf(
    { key: { prefixlen: "u32", port: "be16", proto: "u8[2]" }, value: "u64" },
    { keySize: 8, isTrie: true },
  );
  t.equal(
    other.typed(hex("08000000 01bb0600"), Buffer.alloc(8)),
    '{"key":{"prefixlen":8,"port":443,"proto":[6,0]},"value":"0"}',
  );
  t.end();
});

t.test("a data section has no type for its key, which is an index", (t) => {
  const section = { "@section": [{ name: "count", type: "u64", bit: 0 }], name: ".bss", bytes: 8 };
  const map = mapOf({ value: section }, { isIndexed: true });
  t.equal(map.typed(hex("00000000"), hex("0500000000000000")), '{"key":0,"value":{"count":"5"}}');
  t.equal(map.formatted(hex("00000000"), hex("0500000000000000")), '{"value":{".bss":[{"count":5}]}}');
  t.same((map.value as Side).fromFormatted({ ".bss": [{ count: 5 }] }), hex("0500000000000000"));
  t.equal(String((map.value as Side).fromTyped({ counts: 5 })), ": section .bss has no member counts; it has count");
  t.end();
});

t.test("a map of maps shows an id and a name, and takes a descriptor", (t) => {
  const map = mapOf({ key: "u32" }, { valueSize: 4, holdsMaps: true });
  const names = { mapName: (id: number) => (id === 7 ? "inner" : null) };
  t.equal(map.typed(hex("01000000"), hex("07000000"), names), '{"key":1,"value":{"id":7,"name":"inner"}}');
  t.equal(map.typed(hex("01000000"), hex("08000000"), names), '{"key":1,"value":{"id":8}}');
  t.same((map.value as Side).fromTyped(5), hex("05000000"));
  t.equal(String((map.value as Side).fromTyped({ id: 7 })), ": the descriptor of a map required, found an object");
  t.end();
});

t.test("types of another size than the map's have no form", (t) => {
  const { blob, keyTypeId, valueTypeId } = must(makeTypes({ key: "u32", value: "u64" }, PLAIN, null));
  const map = new TypedMap({ btf: parsed(blob), keyTypeId, valueTypeId }, { ...PLAIN, valueSize: 12 });
  t.equal(String(map.value), "value: a type of 8 bytes, where 12 are needed");
  t.equal(String(map.typed(Buffer.alloc(4), Buffer.alloc(12))), "value: a type of 8 bytes, where 12 are needed");
  t.end();
});
