import { readFileSync } from "node:fs";
import t from "tap";
import { CODEC_NAMES } from "../../src/typed/codec.ts";
import { described } from "./subjects.ts";

const page = readFileSync(new URL("../../docs/typed.md", import.meta.url), "utf8");

t.test("docs/typed.md has every codec", (t) => {
  for (const name of CODEC_NAMES) t.match(page, new RegExp(`^\\| .*\`${name}\`.* \\|`, "m"));
  t.end();
});

t.test("the example of docs/typed.md is what there is", (t) => {
  const flow = {
    "@struct": [
      { name: "packets", type: "u64", bit: 0 },
      { name: "saddr", type: { "@codec": "inet_ip", type: "u32" }, bit: 64 },
      { name: "dport", type: "be16", bit: 96 },
      { name: "state", type: { "@enum": { NEW: 0, OPEN: 1 }, bytes: 4 }, bit: 128 },
      { name: "fin", type: "u8", bit: 160, bits: 1 },
      { name: "comm", type: "char[16]", bit: 168 },
    ],
    bytes: 40,
  };
  const form = described(flow, 40);
  const [, formatted = "", typed = ""] = /^ {4}formatted {2}(.*)\n {4}typed {6}(.*)$/m.exec(page) ?? [];
  const bytes = form.fromTyped(JSON.parse(typed));
  if (!Buffer.isBuffer(bytes)) throw new Error(String(bytes));
  t.equal(form.typed(bytes), typed);
  t.equal(form.formatted(bytes), formatted);
  t.end();
});
