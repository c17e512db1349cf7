import { execFileSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { gunzipSync, gzipSync } from "node:zlib";
import t from "tap";
import { BPF_MAP_TYPE } from "../../src/abi/bpf.ts";
import { readHost } from "../../src/host.ts";
import type { Bpf } from "../../src/native/bpf.ts";
import { openBpf } from "../../src/native/probe.ts";
import { TypedMap } from "../../src/typed/typed_map.ts";
import { unfitForKernel } from "../support/bpffs.ts";
import { random, SEED } from "../support/seed.ts";
import { btfOf, missing } from "./compiled.ts";
import { bpfSource, type Generated, randomStructs } from "./random_structs.ts";
import { formOf, idOf, must, parsed } from "./subjects.ts";

/**
 * `formatted` is what `bpftool -j map dump` of Debian 12 prints of the kernel's maps, and what it has printed:
 * formatted.json.gz is a recording, which `RECORD=1 node test/typed/bpftool.test.ts` makes anew.
 */
const RECORDING = new URL("formatted.json.gz", import.meta.url);
const CLANGS = ["clang-16", "clang-14"];
const STRUCTS = 150;
const U32_BYTES = 4;
const BACKSLASH = 0x5c;

interface Recorded {
  /** BTF, base64. */
  readonly btf: string;
  readonly cpus: number;
  readonly elements: readonly Element[];
}

/** An element of a map, and the text of bpftool's member "formatted". Bytes as hex. */
interface Element {
  readonly mapType: number;
  readonly keyType: number;
  readonly valueType: number;
  readonly keySize: number;
  readonly valueSize: number;
  readonly key: string;
  readonly value: string;
  readonly formatted: string;
}

const { BPF_MAP_TYPE_ARRAY: ARRAY, BPF_MAP_TYPE_HASH: HASH, BPF_MAP_TYPE_PERCPU_ARRAY: PERCPU } = BPF_MAP_TYPE;
const TYPES = [ARRAY, HASH, PERCPU] as const;

function ours({ btf, cpus }: Pick<Recorded, "btf" | "cpus">, element: Omit<Element, "formatted">): string {
  const types = { btf: parsed(Buffer.from(btf, "base64")), keyTypeId: element.keyType, valueTypeId: element.valueType };
  const isPerCpu = element.mapType === PERCPU;
  const map = new TypedMap(types, {
    keySize: element.keySize,
    valueSize: element.valueSize,
    cpus: isPerCpu ? cpus : null,
    isTrie: false,
    isIndexed: element.mapType !== HASH,
    holdsMaps: false,
  });
  return must(map.formatted(Buffer.from(element.key, "hex"), Buffer.from(element.value, "hex")));
}

t.test("the formatted form is what bpftool has printed", (t) => {
  const all = JSON.parse(gunzipSync(readFileSync(RECORDING)).toString()) as readonly Recorded[];
  for (const recorded of all) {
    const different = recorded.elements.filter((element) => ours(recorded, element) !== element.formatted);
    t.same(different, [], `${recorded.elements.length} elements`);
  }
  t.end();
});

const bpf = openBpf();
const reason = unfitForKernel() ?? missing("bpftool") ?? ("off" in bpf ? bpf.off : null);
if (reason !== null) t.pass("bpftool", { skip: reason });
else judge(bpf as Bpf);

function judge(bpf: Bpf): void {
  const all: Recorded[] = [];
  for (const [at, clang] of CLANGS.entries())
    t.test(
      `the formatted form is what bpftool prints of the kernel's maps, by the BTF of ${clang}`,
      { skip: missing(clang) ?? false },
      (t) => {
        t.comment(`SEED=${SEED}`);
        const next = random(SEED + 100 * at);
        const structs = randomStructs("s", STRUCTS, next).filter(({ faulty }) => !faulty);
        t.ok(structs.length > STRUCTS / 3, `${structs.length} structs that bpftool can print`);
        const blob = btfOf(clang, bpfSource(structs), t.testdir());
        const recorded = { btf: blob.toString("base64"), cpus: readHost().possibleCpus };
        const btfFd = bpf.loadBtf(blob);
        if (btfFd < 0) throw new Error(`loading BTF of ${clang}: ${btfFd}`);
        const elements = structs.map((struct, index) =>
          dumped({ bpf, blob, btfFd, struct, next, mapType: TYPES[index % 3] as number }),
        );
        bpf.close(btfFd);
        const different = elements.filter((element) => ours(recorded, element) !== element.formatted);
        t.same(
          different.map((element) => [ours(recorded, element), element.formatted]),
          [],
        );
        all.push({ ...recorded, elements });
        t.end();
      },
    );
  t.teardown(() => {
    if (process.env.RECORD !== undefined) writeFileSync(RECORDING, gzipSync(JSON.stringify(all), { level: 9 }));
  });
}

interface Subject {
  readonly bpf: Bpf;
  readonly blob: Buffer;
  readonly btfFd: number;
  readonly struct: Generated;
  readonly next: (below: number) => number;
  readonly mapType: number;
}

/** Makes a map with an element, and lets bpftool print it. Structs are the keys of hash maps, too. */
function dumped({ bpf, blob, btfFd, struct, next, mapType }: Subject): Element {
  const btf = parsed(blob);
  const valueType = idOf(btf, struct.name);
  const form = formOf(btf, valueType);
  // Any bytes will do, unless a bitfield in them is negative or a backslash is in a string: bpftool prints these wrong.
  const anyBytes = !struct.kinds.includes("signed bitfield") && next(2) === 0;
  const values = (): Buffer =>
    anyBytes
      ? Buffer.from(Array.from({ length: form.bytes }, () => next(256)).map((byte) => (byte === BACKSLASH ? 0 : byte)))
      : must(form.fromTyped(struct.sample(next, true).json));
  const stride = Math.ceil(form.bytes / 8) * 8;
  const cpus = readHost().possibleCpus;
  const value =
    mapType === PERCPU
      ? Buffer.concat(Array.from({ length: cpus }, () => Buffer.concat([values(), Buffer.alloc(stride - form.bytes)])))
      : values();
  const isHash = mapType === HASH;
  const key = isHash ? values() : Buffer.alloc(U32_BYTES);
  const keyType = isHash ? valueType : idOf(btf, "chain1");
  const shape = {
    type: mapType,
    keySize: key.length,
    valueSize: form.bytes,
    maxEntries: 1,
    mapFlags: 0,
    name: "typed",
    mapExtra: 0n,
    numaNode: 0,
  };
  const fd = bpf.create(shape, { innerMapFd: 0, btfFd, btfKeyTypeId: keyType, btfValueTypeId: valueType });
  if (fd < 0) throw new Error(`creating a map of ${struct.c}: ${fd}`);
  try {
    const updated = bpf.update(fd, key, value);
    const info = bpf.infoByFd(fd);
    if (updated < 0 || typeof info === "number") throw new Error(`writing to a map of ${struct.c}: ${updated}`);
    const text = execFileSync("bpftool", ["-j", "map", "dump", "id", String(info.id)], {
      encoding: "latin1",
    }).trimEnd();
    const start = text.indexOf('"formatted":') + '"formatted":'.length;
    const bytes = { key: key.toString("hex"), value: value.toString("hex") };
    const sizes = { keySize: key.length, valueSize: form.bytes };
    return { mapType, keyType, valueType, ...sizes, ...bytes, formatted: text.slice(start, -"}]".length) };
  } finally {
    bpf.close(fd);
  }
}
