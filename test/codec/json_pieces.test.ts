import fc from "fast-check";
import t from "tap";
import { readDeleteBatchBody, readDoorBody, readUpdateBatchBody, readValueBody } from "../../src/codec/body.ts";
import { readDoor } from "../../src/codec/door.ts";
import { InvalidInput } from "../../src/codec/invalid.ts";
import { NotJson, type PieceOptions, parseInPieces } from "../../src/codec/json_pieces.ts";
import { withoutMark } from "../../src/http/server/wanted_bodies.ts";
import { SEED } from "../support/seed.ts";

const RUNS = 2000;
const READERS = {
  update: readUpdateBatchBody,
  delete: readDeleteBatchBody,
  value: readValueBody,
  door: (body: unknown) => readDoor(readDoorBody(body)),
} as const;
type ReaderName = keyof typeof READERS;

/** What a reader makes of a body, or says is wrong with it. */
function told(read: () => unknown): unknown {
  try {
    return read();
  } catch (error) {
    if (error instanceof InvalidInput) return { where: error.where, message: error.message };
    if (error instanceof NotJson || error instanceof SyntaxError) return "no JSON";
    throw error;
  }
}

async function inPieces(name: ReaderName, json: Buffer, options: PieceOptions): Promise<unknown> {
  let body: unknown;
  try {
    body = await parseInPieces(json, async () => {}, options);
  } catch (error) {
    return told(() => {
      throw error;
    });
  }
  return told(() => READERS[name](body));
}

/** As a small body is read: a byte order mark in front is none of it. */
function atOnce(name: ReaderName, json: Buffer): unknown {
  return told(() => READERS[name](JSON.parse(withoutMark(json.toString("utf8")))));
}

const digits = (bytes: number) =>
  fc.uint8Array({ minLength: bytes, maxLength: bytes }).map((all) => Buffer.from(all).toString("hex"));
const hex = fc.oneof(
  { weight: 8, arbitrary: digits(2) },
  digits(3).map((text) => text.toUpperCase()),
  digits(2).map((text) => `0x${text}`),
  digits(40),
  digits(40).map((text) => `0X${text}`),
  fc.constantFrom(
    "",
    "0",
    "abc",
    "zz00",
    "00\u00e9\u00e9",
    "0x",
    "\ud83d\ude00",
    "00\u20ac0",
    "a\nb",
    `${"00".repeat(30)}x0`,
    `${"0".repeat(61)}`,
  ),
);
const odd = fc.oneof(
  hex,
  fc.jsonValue({ maxDepth: 3 }),
  fc.constantFrom(null, true, -0, 1e21, 18446744073709552000, [], {}, [[]], { __proto__: null }, "BPF_ANY", [
    "BPF_NOEXIST",
  ]),
);
const pair = fc.oneof(
  { weight: 20, arbitrary: fc.record({ key: digits(2), value: digits(4) }) },
  { weight: 2, arbitrary: fc.record({ value: digits(4), key: digits(2) }) },
  { weight: 1, arbitrary: fc.record({ key: hex, value: hex }) },
  { weight: 1, arbitrary: fc.record({ key: odd, value: odd, more: odd }, { requiredKeys: [] }) },
  { weight: 1, arbitrary: odd },
);
const list = (item: fc.Arbitrary<unknown>) =>
  fc.oneof({ weight: 9, arbitrary: fc.array(item, { maxLength: 12 }) }, odd);
const BODIES: { readonly [Name in ReaderName]: fc.Arbitrary<unknown> } = {
  update: fc.record({ elements: list(pair), elem_flags: odd, other: odd }, { requiredKeys: ["elements"] }),
  delete: fc.record(
    { keys: list(fc.oneof({ weight: 9, arbitrary: digits(3) }, odd)), elem_flags: odd },
    { requiredKeys: ["keys"] },
  ),
  value: fc.record({ value: hex, flags: odd, more: odd }, { requiredKeys: ["value"] }),
  door: fc.record(
    {
      cmd: fc.constantFrom(
        "BPF_MAP_UPDATE_ELEM",
        "BPF_MAP_UPDATE_BATCH",
        "BPF_MAP_DELETE_ELEM",
        "BPF_OBJ_PIN",
        2,
        26,
        99,
      ),
      attr: fc.oneof(
        {
          weight: 9,
          arbitrary: fc.record(
            { map_fd: odd, key: hex, value: hex, keys: hex, values: hex, count: odd, pathname: hex },
            { requiredKeys: [] },
          ),
        },
        odd,
      ),
      size: odd,
      tail: hex,
    },
    { requiredKeys: ["cmd"] },
  ),
};
const NAMES = Object.keys(READERS) as ReaderName[];
/** As JSON may be written: with blanks, with characters escaped that need not be. */
const written = fc
  .constantFrom(...NAMES)
  .chain((name) => fc.tuple(fc.constant(name), BODIES[name], fc.constantFrom(0, 1), fc.boolean()))
  .map(([name, body, indent, escapes]) => {
    const json = JSON.stringify(body, null, indent);
    const text = escapes ? json.replace(/[0-9a-f]0/g, (two) => `\\u00${two.charCodeAt(0).toString(16)}0`) : json;
    // An escape within a name or a number is no JSON, for either.
    return { name, json: text };
  });
const OPTIONS: readonly PieceOptions[] = [
  { pieceBytes: 1, longBytes: 100_000 },
  { pieceBytes: 7, longBytes: 100_000 },
  { pieceBytes: 5, longBytes: 64 },
];

t.test("a body that is read in pieces is what it is when it is read at once", async (t) => {
  await fc.assert(
    fc.asyncProperty(written, fc.constantFrom(...OPTIONS.slice(0, 2)), async ({ name, json }, options) => {
      const bytes = Buffer.from(json);
      t.strictSame(await inPieces(name, bytes, options), atOnce(name, bytes));
    }),
    { seed: SEED, numRuns: RUNS },
  );
});

t.test("hex that is decoded as it is read is what it is when it is read at once", async (t) => {
  const texts = fc.oneof(
    hex,
    digits(400),
    digits(300).map((text) => `${text}\u20ac${text}`),
    digits(300).map((text) => `${text}0`),
  );
  await fc.assert(
    fc.asyncProperty(texts, fc.boolean(), fc.integer({ min: 1, max: 500 }), async (value, escapes, pieceBytes) => {
      const plain = JSON.stringify({ value });
      const json = escapes ? plain.replaceAll("00", "\\u0030\\u0030").replaceAll("\u20ac", "\\u20ac") : plain;
      const bytes = Buffer.from(json);
      t.strictSame(await inPieces("value", bytes, { pieceBytes, longBytes: 16 }), atOnce("value", bytes), json);
    }),
    { seed: SEED, numRuns: RUNS },
  );
});

t.test("what is no JSON is none in pieces, wherever it is broken", async (t) => {
  const broken = fc.record({
    from: written,
    place: fc.nat(),
    put: fc.oneof(
      fc.constantFrom(
        "",
        '"',
        "\\",
        "\\u12",
        ",",
        "]",
        "}",
        "[",
        "{",
        ":",
        "0",
        "-",
        "e",
        ".",
        "\n",
        "\u0001",
        " ",
        "nul",
        "1e+",
        "01",
        "\u{feff}",
      ),
      fc.string({ maxLength: 3 }),
    ),
    drop: fc.nat({ max: 3 }),
  });
  await fc.assert(
    fc.asyncProperty(
      broken,
      fc.constantFrom(...OPTIONS),
      async ({ from: { name, json }, place, put, drop }, options) => {
        const at = place % (json.length + 1);
        const bytes = Buffer.from(json.slice(0, at) + put + json.slice(at + drop));
        const wanted = atOnce(name, bytes);
        const found = await inPieces(name, bytes, options);
        if (wanted === "no JSON" || found === "no JSON") t.equal(found, wanted, bytes.toString());
      },
    ),
    { seed: SEED, numRuns: 2 * RUNS },
  );
});

t.test("a body of random bytes is no JSON, or JSON, in pieces as it is at once", async (t) => {
  const bytes = fc
    .array(fc.constantFrom(...'[]{}":,0123456789.eE+-\\/utrfalsn \n'), { maxLength: 30 })
    .map((all) => all.join(""));
  await fc.assert(
    fc.asyncProperty(bytes, async (text) => {
      const json = Buffer.from(text);
      const wanted = atOnce("value", json);
      const found = await inPieces("value", json, { pieceBytes: 3 });
      t.strictSame(found, wanted, text);
    }),
    { seed: SEED, numRuns: 5 * RUNS },
  );
});

const LARGE: Readonly<Record<string, () => string>> = {
  "a value": () => JSON.stringify({ value: "00".repeat(1_000_000) }),
  "a batch": () =>
    JSON.stringify({
      elements: Array.from({ length: 40_000 }, (_, at) => ({
        key: at.toString(16).padStart(8, "0"),
        value: "00000000",
      })),
    }),
  keys: () => JSON.stringify({ keys: Array.from({ length: 100_000 }, (_, at) => at.toString(16).padStart(8, "0")) }),
  "lists in a list": () => `{"value":[${"[],".repeat(500_000)}0]}`,
  "one text that is no hex": () => JSON.stringify({ value: '\\"'.repeat(500_000) }),
  fields: () => `{${Array.from({ length: 100_000 }, (_, at) => `"field${at}":${at}`).join(",")}}`,
  "texts in a list": () => `{"flags":[${'"BPF_ANY",'.repeat(100_000)}0]}`,
};

t.test("between pieces the caller has its turn, whatever is large about a body", async (t) => {
  const pieceBytes = 64 * 1024;
  for (const [what, make] of Object.entries(LARGE)) {
    const json = Buffer.from(make());
    let turns = 0;
    await parseInPieces(json, async () => void turns++, { pieceBytes });
    // Of hex a piece is twice as long as its bytes.
    t.ok(turns >= Math.floor(json.length / pieceBytes / 2) - 1, `${what}: ${json.length} bytes, ${turns} turns`);
  }
});

t.test("what is short does not stand for more of the caller's time: fields and objects are few a piece", async (t) => {
  const most = 5000;
  for (const [what, json, count] of [
    ["fields", `{"a":1${',"b":1'.repeat(200_000)}}`, 200_000],
    ["fields of a field", `{"a":{"a":1${',"b":1'.repeat(200_000)}}}`, 200_000],
    ["objects", `{"elements":[${'{"value":"","key":""},'.repeat(100_000)}{"value":"","key":""}]}`, 100_000],
  ] as const) {
    let turns = 0;
    await parseInPieces(Buffer.from(json), async () => void turns++, { pieceBytes: 64 * 1024 });
    t.ok(turns >= count / most, `${what}: ${turns} turns of ${count}`);
  }
});

t.test("nothing deep or endless is looked through at once", async (t) => {
  for (const json of [
    `{"value":${"[".repeat(1001)}`,
    `{"value":${"9".repeat(70_000)}}`,
    `{"value":${" ".repeat(70_000)}1}`,
  ])
    await t.rejects(
      parseInPieces(Buffer.from(json), async () => {}),
      InvalidInput,
    );
});
