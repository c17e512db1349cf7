import { execFileSync } from "node:child_process";
import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as fc from "fast-check";
import { test } from "tap";
import { visible, visibleJson } from "../../src/codec/visible.ts";
import { rowEvent } from "../../src/log/event.ts";
import { BpftoolTarget } from "../../src/replay/bpftool.ts";
import type { Call } from "../../src/replay/call.ts";
import { CurlTarget } from "../../src/replay/curl.ts";
import { readEventLine } from "../../src/replay/event_line.ts";
import { Ids } from "../../src/replay/ids.ts";
import { readEventLines } from "../../src/replay/lines.ts";
import { Replay } from "../../src/replay/replay.ts";
import type { Target } from "../../src/replay/target.ts";
import { EXPORTED_CREATE, EXPORTED_EVENT } from "../support/exported.ts";
import { SEED } from "../support/seed.ts";

const RUNS = 60;
/** Each run of a script starts a hundred processes. */
const SCRIPT_RUNS = 25;

interface Line {
  readonly [name: string]: unknown;
}

let seq = 0;

function line(fields: Line): Line {
  return { ...EXPORTED_EVENT, seq: ++seq, map: null, fd: null, ...fields };
}

function opened(name: string): Line {
  return line({ session: null, cmd: "SESSION_OPEN", attr: { name, ttl_ms: 1000 }, out: { session_id: 1 } });
}

const MAP = { ...EXPORTED_CREATE, map_type: 1, key_size: 4, value_size: 4, max_entries: 4 };

function created(map_name: string): Line {
  return line({ cmd: "BPF_MAP_CREATE", map: 1, ret: 3, attr: { ...MAP, map_name }, out: { map_id: 1 } });
}

async function* textOf(lines: readonly Line[]): AsyncIterable<Buffer> {
  for (const event of lines) yield Buffer.from(`${JSON.stringify(event)}\n`);
}

async function written(
  lines: readonly Line[],
  target: (write: (text: string) => Promise<void>) => Target,
): Promise<string> {
  let script = "";
  const replay = new Replay({
    source: { extent: null, done: 0, read: () => readEventLines(textOf(lines)) },
    target: target(async (text) => {
      script += text;
    }),
    ids: new Ids(),
    selection: {},
    prepare: false,
    pace: null,
    onDifference() {},
  });
  await replay.run();
  return script;
}

/** What a shell, or whoever reads a script, could take for something else than text. */
const EVIL = [
  "$(touch pwned)",
  "`touch pwned`",
  "'; touch pwned; '",
  '"; touch pwned; "',
  "\n touch pwned\n",
  "\r\n# x",
  "\0",
  "\u0085touch pwned\u2028",
  "\u202etouch",
  "\u009b2J\u001b]0;x\u0007",
  "\ue000MAPLEDGER_TOKEN\ue001",
  "\ue000s1\ue001",
  "\ue000#s1\ue001",
  '"\ue000s1\ue001"',
  "$MAPLEDGER_TOKEN",
  "$url",
  "-rf",
  "--upload-file",
  "@/etc/passwd",
  "[1-3]{a,b}",
  "%s%n",
  "\\",
  "'",
  "\ud800",
];
const evil = fc
  .array(fc.oneof(fc.constantFrom(...EVIL), fc.string({ unit: "binary", maxLength: 6 })), {
    minLength: 1,
    maxLength: 4,
  })
  .map((parts) => parts.join(""));

/** A curl that keeps what it was given: its arguments, and its standard input. It starts as few processes as it can. */
const STUB = `#!/bin/sh
n=0
test ! -e calls/last || read n < calls/last
n=$((n + 1))
echo "$n" > calls/last
for word in "$@"; do printf '%s\\0' "$word"; done > "calls/$n.words"
case " $* " in *" @- "*) cat > "calls/$n.body";; esac
printf '{"id":7,"fd":5,"map_id":9,"ret":0}'
`;

interface Sent {
  readonly words: readonly string[];
  readonly body: string | null;
}

function runScript(script: string): { readonly sent: readonly Sent[]; readonly left: readonly string[] } {
  const directory = mkdtempSync(join(tmpdir(), "mapledger-script-"));
  try {
    execFileSync("mkdir", ["calls", "bin"], { cwd: directory });
    writeFileSync(join(directory, "bin/curl"), STUB);
    chmodSync(join(directory, "bin/curl"), 0o755);
    writeFileSync(join(directory, "replay.sh"), script);
    const PATH = `${join(directory, "bin")}:${process.env.PATH}`;
    execFileSync("sh", ["replay.sh"], { cwd: directory, env: { PATH, MAPLEDGER_TOKEN: "bearer" }, stdio: "pipe" });
    const files = readdirSync(join(directory, "calls"));
    const words = files.filter((name) => name.endsWith(".words"));
    const sent = words
      .sort((a, b) => Number.parseInt(a, 10) - Number.parseInt(b, 10))
      .map((name) => {
        const body = name.replace("words", "body");
        const read = (file: string): string => readFileSync(join(directory, "calls", file), "utf8");
        return { words: read(name).split("\0").slice(0, -1), body: files.includes(body) ? read(body) : null };
      });
    return { sent, left: readdirSync(directory).sort() };
  } finally {
    rmSync(directory, { recursive: true });
  }
}

/** A line of a script behind its head. */
const SCRIPT_LINE =
  /^(|# \d+ [\x20-\x7e]*|(answer=\$\()?(json|send) (GET|POST|PUT|DELETE) .*|printf '%s\\n' "\$answer"|[sm]\d+(_fd\d+)?=\$\(field \w+ "\$answer"\))$/;

test("no text of a log becomes a command, a variable or a line of its own in a script of curl commands", async (t) => {
  await fc.assert(
    fc.asyncProperty(evil, evil, evil, async (name, path, mapName) => {
      seq = 0;
      const lines = [
        opened(name),
        created(mapName.slice(0, 15)),
        line({
          cmd: "BPF_OBJ_PIN",
          fd: 3,
          attr: { pathname: path, file_flags: 0, path_fd: 0 },
          out: { pathname: path },
        }),
        line({ session: null, cmd: "MKDIR", attr: { pathname: path } }),
        line({ session: null, cmd: "UNLINK", errno: "ENOENT", ret: -1, detail: path, attr: { pathname: path } }),
        line({
          session: null,
          cmd: "BPF_MAP_FREEZE",
          attr: { map: { by: "name", name: path } },
          errno: "ENOENT",
          ret: -1,
        }),
        line({ cmd: path, ret: -1, errno: "EINVAL", attr: { name: path } }),
        line({ cmd: "OPEN", ret: 4, attr: { kind: "dir", path }, out: { object: 1 } }),
      ];
      const script = await written(lines, (write) => new CurlTarget(write));
      const { sent, left } = runScript(script);
      t.strictSame(left, ["bin", "calls", "replay.sh"], "no file was made");
      const urls = sent.map(({ words }) => words.at(-1));
      const auth = ["-sS", "--path-as-is", "-w", "\\n", "-X"];
      const json = [
        "-H",
        "authorization: Bearer bearer",
        "-H",
        "content-type: application/json",
        "--data-binary",
        "@-",
      ];
      t.strictSame(sent[0]?.words.slice(0, 6), [...auth, "POST"]);
      t.strictSame(sent[0]?.words.slice(6, -1), json);
      t.strictSame(urls.slice(0, 2), ["http://127.0.0.1:8620/v1/sessions", "http://127.0.0.1:8620/v1/sessions/7/maps"]);
      t.equal(JSON.parse(sent[0]?.body ?? "").name, name);
      const pin = JSON.parse(sent[2]?.body ?? "");
      t.strictSame([pin.cmd, pin.attr.bpf_fd, pin.attr.pathname], ["BPF_OBJ_PIN", 5, path]);
      t.equal(urls[3], `http://127.0.0.1:8620/v1/directories/${encodeURIComponent(path.toWellFormed())}`);
      t.equal(JSON.parse(sent.at(-1)?.body ?? "").path, path);
      t.equal(sent.length, lines.length);
      for (const text of script.slice(script.indexOf("\n# 1 ")).split("\n")) t.match(text, SCRIPT_LINE);
      t.notMatch(script, /[\u007f-\u009f\u2028\u202e]/);
    }),
    { seed: SEED, numRuns: SCRIPT_RUNS },
  );
});

test("no text of a log becomes a command or a line of its own in a batch file", async (t) => {
  await fc.assert(
    fc.asyncProperty(evil, evil, async (name, path) => {
      seq = 0;
      const pathname = `/sys/fs/bpf/${path}`;
      const lines = [
        opened(name),
        created(name.slice(0, 15)),
        line({
          cmd: "BPF_OBJ_PIN",
          fd: 3,
          map: 1,
          attr: { pathname: path, file_flags: 0, path_fd: 0 },
          out: { pathname },
        }),
        line({ cmd: name, ret: -1, errno: "EINVAL", attr: { name } }),
      ];
      const script = await written(lines, (write) => new BpftoolTarget(write));
      for (const text of script.split("\n").slice(0, -1))
        t.match(
          text,
          /^(#[\x20-\x7e]*|map create [\x21-\x7e]+ type hash key 4 value 4 entries 4 name [\w.]+|map pin pinned \/sys\/fs\/bpf\/replay_map_1 \/sys\/fs\/bpf\/[^\s"'#\\]*)$/,
        );
    }),
    { seed: SEED, numRuns: RUNS },
  );
});

test("bpftool is not told of paths elsewhere, over which it would mount a bpffs", async (t) => {
  for (const path of ["/etc/x", "/sys/fs/bpf/../x", "x", "-x", "/sys/fs/bpf_x"]) {
    seq = 0;
    const attr = { pathname: path, file_flags: 0, path_fd: 0 };
    const script = await written(
      [opened("x"), created("m"), line({ cmd: "BPF_OBJ_PIN", fd: 3, map: 1, attr })],
      (write) => new BpftoolTarget(write),
    );
    t.match(script, /BPF_OBJ_PIN: returned 0; the path is not below \/sys\/fs\/bpf\n$/);
  }
});

test("a log's numbers are numbers: a line with anything else is refused, and named", async (t) => {
  const evilId = "1$(touch pwned)";
  const session = { session: null, cmd: "SESSION_OPEN" };
  const rows: readonly (readonly [Line, string])[] = [
    [{ ...session, attr: { name: "x", ttl_ms: 1 }, out: { session_id: evilId } }, "out.session_id"],
    [{ ...session, attr: { name: "x", ttl_ms: evilId }, out: { session_id: 1 } }, "attr.ttl_ms"],
    [{ ...session, attr: { name: { x: 1 }, ttl_ms: 1 }, out: { session_id: 1 } }, "attr.name"],
    [{ cmd: "BPF_MAP_CREATE", map: 1, ret: 3, attr: { ...MAP, max_entries: evilId } }, "attr.max_entries"],
    [{ cmd: "BPF_MAP_CREATE", map: 1, ret: 3, attr: { ...MAP, map_extra: evilId } }, "attr.map_extra"],
    [{ cmd: "BPF_MAP_CREATE", map: 1, ret: 3, attr: MAP, out: { map_id: evilId } }, "out.map_id"],
    [{ cmd: "BPF_MAP_CREATE", map: evilId, attr: MAP }, "map"],
    [{ cmd: "DUP", fd: 3, ret: evilId }, "ret"],
    [{ cmd: "DUP", fd: evilId }, "fd"],
    [{ cmd: "DUP", session: evilId, fd: 3 }, "session"],
    [
      { cmd: "BPF_MAP_LOOKUP_BATCH", map: 1, fd: 3, attr: { count: 1, elem_flags: "0", in_batch: evilId } },
      "attr.in_batch",
    ],
    [{ cmd: "BPF_MAP_LOOKUP_BATCH", map: 1, fd: 3, attr: { count: [evilId], elem_flags: "0" } }, "attr.count"],
    [{ cmd: "MEMORY_READ", map: 1, fd: 3, attr: { offset: evilId, length: 1 } }, "attr.offset"],
    [{ cmd: "CLOSE", fd: 3, attr: { reason: "close" }, out: { freed: [evilId] } }, "out.freed"],
    [{ cmd: "UNLINK", session: null, attr: { pathname: [evilId] } }, "attr.pathname"],
    [{ cmd: "BPF_MAP_FREEZE", session: null, attr: { map: { by: "id", id: evilId } } }, "attr.map.id"],
    [{ cmd: "BPF_MAP_FREEZE", session: null, attr: { map: evilId } }, "attr.map"],
  ];
  for (const [fields, where] of rows) {
    seq = 0;
    const lines = [opened("x"), line(fields)];
    await t.rejects(
      written(lines, (write) => new CurlTarget(write)),
      {
        name: "BadLine",
        message: new RegExp(`^line 2: ${where.replaceAll(".", "\\.")}: .*found`),
      },
    );
  }
});

test("a row whose session's number is text is not written to a script, whatever reads it", async (t) => {
  seq = 0;
  const row = { ...readEventLine(JSON.stringify(opened("x"))), out: '{"session_id":"1$(touch pwned)"}' };
  const event = rowEvent(row);
  const target = new CurlTarget(async () => {});
  const call: Call = { kind: "open session", body: { name: "x" } };
  const recorded = { ret: 0, errno: null, outputs: {}, session: "1$(touch pwned)" };
  await t.rejects(target.send(call, event, recorded), { message: /is not a variable's name$/ });
});

test("what a terminal acts upon is escaped, and JSON stays the same value's", (t) => {
  t.equal(
    visible("a\u001b[2J\u009b\u202eb\u2028\n\u007f\ud800ö🐝"),
    "a\\u001b[2J\\u009b\\u202eb\\u2028\\u000a\\u007f\\ud800ö🐝",
  );
  fc.assert(
    fc.property(fc.string({ unit: "binary" }), (text) => {
      const json = visibleJson({ text });
      t.strictSame(JSON.parse(json), { text });
      t.notMatch(json, /[\p{Cc}\p{Cf}\p{Cs}\u2028\u2029]/u);
    }),
    { seed: SEED },
  );
  t.end();
});
