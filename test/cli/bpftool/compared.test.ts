/**
 * The same words for the service and for the real bpftool: each step runs on a map of the ledger and on its twin in the
 * kernel, which bpftool has created by the same words; reads are run on the ledger's kernel map, too.
 */

import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import t, { type Test } from "tap";
import { BPFFS, unfitForKernel } from "../../support/bpffs.ts";
import type { Ran } from "../../support/cli.ts";
import { Ledger } from "../../support/ledger.ts";
import { OWN_NAME } from "../../support/own_name.ts";
import { bpftool, inWords, unfitForBpftool } from "../../support/words.ts";

/** A step: words, with the map as $, or another as $name. */
interface Step {
  readonly words: string;
  /** bpftool prints nothing and fails: ours says why, beginning so. */
  readonly silent?: string;
}

const says = (words: string, silent: string): Step => ({ words, silent });

/** Steps on every map type: reads, in all forms, before and after writes. */
const READS = ["map show $", "-j map show $", "-p map show $", "map dump $", "-j map dump $", "-p map dump $"];

interface Subject {
  readonly name: string;
  readonly create: string;
  readonly steps: readonly (string | Step)[];
}

/** Of a map with keys and values of 4 bytes. At most one element: bpftool walks hash maps in another order. */
const KEYED: readonly (string | Step)[] = [
  "map lookup $ key 1 0 0 0",
  "-j map lookup $ key 1 0 0 0",
  "map getnext $",
  "-j map getnext $",
  "map update $ key 1 0 0 0 value 0x2a 052 0 255 exist",
  "map update $ key 1 0 0 0 value 0x2a 052 0 255 noexist",
  "-j map update $ key 1 0 0 0 value hex 2a 2A 0 ff",
  "map update $ key 1 0 0 0 value 9 9 9 9 noexist",
  "-j map update $ key 1 0 0 0 value 9 9 9 9 noexist",
  "map u $ k 1 0 0 0 v 9 9 9 9 a",
  "map lookup $ key 1 0 0 0",
  "map lookup $ key hex 1 0 0 0",
  "-j map lookup $ key 1 0 0 0",
  "-p map lookup $ key 1 0 0 0",
  ...READS,
  "map getnext $",
  "map getnext $ key 1 0 0 0",
  "-j map getnext $ key 1 0 0 0",
  "map getnext $ key 7 7 7 7",
  "-jp map getnext $",
  "map delete $ key 1 0 0 0",
  "map delete $ key 1 0 0 0",
  "-j map delete $ key 1 0 0 0",
  "map update $ key 1 0 0 0 value 1 0 0 0",
  "-j map delete $ key 1 0 0 0",
  "map lookup $",
  "map lookup $ key 1 0 0",
  "map lookup $ key 1 0 0 0 0",
  "map lookup $ key 1 0 0 x",
  "map lookup $ key hex 1 0 0 0x",
  "map lookup $ key 1 0 0 0 key 1 0 0 0",
  "map lookup $ key 1 0 0 0 value 1 0 0 0",
  "map lookup $ key 1 0 0 0 any",
  "map update $ key 1 0 0 0",
  "map update $ value 1 0 0 0",
  "map update $ key 1 0 value 1 0 0 0",
  "map update $ key 1 0 0 0 value 1 0 0 0 any any",
  "map update $ key 1 0 0 0 value 1 0 0 0 value 1 0 0 0",
  "map update $ strange",
  "map update $",
  "map delete $",
  "map delete $ value 1 0 0 0",
  "-j map lookup $ key 1 0 0 x",
  "map push $ key 1 0 0 0 value 1 0 0 0",
  "map enqueue $ key 1 0 0 0 value 2 0 0 0",
  "map peek $ key 1 0 0 0",
  "map delete $ key 1 0 0 0",
];

const FREEZING = [
  "map freeze $ x",
  "map freeze $",
  "map freeze $",
  "-j map freeze $",
  "map update $ key 1 0 0 0 value 1 0 0 0",
  "map show $",
  "-j map show $",
];

/** Of a map whose keys its type does not walk: bpftool finds "0 elements" and says nothing of the error. */
const unwalked = (error: string): readonly Step[] => [
  ...READS.map((words) => (words.includes("dump") ? says(words, `can't get next key: ${error}`) : { words })),
  ...[
    "map getnext $",
    "-j map getnext $",
    "map delete $",
    "map delete $ key 1",
    "-j map delete $ key",
    "map getnext $ key",
  ].map((words) => ({
    words,
  })),
];

const LINE: readonly (string | Step)[] = [
  ...unwalked("Invalid argument"),
  "map peek $",
  "-j map peek $",
  "map pop $",
  "-j map dequeue $",
  "map push $ value 1 0 0 0",
  "-j map enqueue $ value hex 2 0 0 0",
  "map push $ value 3 0 0 0",
  "map push $ value 3 0 0 0 exist",
  "map push $ value 3 0 0 0 noexist",
  "map peek $",
  "-j map peek $",
  "map lookup $",
  "map pop $",
  "-j map pop $",
  "-p map peek $",
  "map dequeue $",
  "map peek $ key 1",
  "map push $ key 1 value 1 0 0 0",
  "map push $",
  "map update $ value 1 0 0",
];

const RING: readonly (string | Step)[] = [
  ...unwalked("Unknown error 524"),
  "map lookup $",
  "map peek $",
  "map update $",
  "-j map push $",
  "map push $ value 1",
  "map pop $",
  "-j map pop $",
];

const subjects: readonly Subject[] = [
  { name: "hash", create: "type hash key 4 value 4 entries 4", steps: [...READS, ...KEYED, ...FREEZING] },
  { name: "lru", create: "type lru_hash key 4 value 4 entries 64", steps: [...READS, ...KEYED] },
  { name: "array", create: "type array key 4 value 4 entries 2", steps: [...READS, ...KEYED, ...FREEZING] },
  {
    name: "wide",
    create: "type hash key 17 value 33 entries 2 flags 1",
    steps: [
      "map update $ key 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 value hex 00 01 02 03 04 05 06 07 08 09 0a 0b 0c 0d 0e 0f 10 11 12 13 14 15 16 17 18 19 1a 1b 1c 1d 1e 1f 20",
      ...READS,
      "map getnext $",
      "map lookup $ key 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 0",
    ],
  },
  {
    name: "long",
    create: "type hash key 16 value 16 entries 2",
    steps: [
      "map update $ key 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 value 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16",
      ...READS,
    ],
  },
  {
    name: "trie",
    create: "type lpm_trie key 8 value 1 entries 4 flags 1",
    steps: [
      "map update $ key 8 0 0 0 10 0 0 0 value 7",
      "map update $ key 33 0 0 0 10 0 0 0 value 7",
      ...READS,
      "map lookup $ key 32 0 0 0 10 1 2 3",
      "map lookup $ key 32 0 0 0 11 1 2 3",
      "map getnext $",
      "map delete $ key 9 0 0 0 10 0 0 0",
    ],
  },
  { name: "percpu_hash", create: "type percpu_hash key 4 value 4 entries 2", steps: [...READS, ...KEYED] },
  {
    name: "percpu_array",
    create: "type percpu_array key 4 value 12 entries 2",
    steps: [
      ...READS,
      "map update $ key 1 0 0 0 value 1 2 3 4 5 6 7 8 9 10 11 12",
      ...READS,
      "map lookup $ key 1 0 0 0",
      "-p map lookup $ key 1 0 0 0",
      "map lookup $ key 2 0 0 0",
      "map delete $ key 1 0 0 0",
    ],
  },
  { name: "percpu_wide", create: "type percpu_array key 4 value 20 entries 1", steps: READS },
  { name: "lru_percpu", create: "type lru_percpu_hash key 4 value 4 entries 64", steps: [...READS, ...KEYED] },
  {
    name: "programs",
    create: "type prog_array key 4 value 4 entries 2",
    steps: [
      ...READS,
      "map lookup $ key 0 0 0 0",
      "map update $ key 0 0 0 0 value 1 0 0 0",
      "map update $ key 0 0 0 0 value id",
      "map update $ key 0 0 0 0 value id x",
      "map update $ key 0 0 0 0 value id 4294967295",
      "map delete $ key 0 0 0 0",
    ],
  },
  {
    name: "perf",
    create: "type perf_event_array key 4 value 4 entries 2",
    steps: [...READS, "map lookup $ key 0 0 0 0"],
  },
  { name: "stacks", create: "type stack_trace key 4 value 8 entries 2", steps: [...READS, "map lookup $ key 0 0 0 0"] },
  {
    name: "cgroups",
    create: "type cgroup_array key 4 value 4 entries 2",
    steps: [...READS, "map lookup $ key 0 0 0 0"],
  },
  {
    name: "array_of_maps",
    create: "type array_of_maps key 4 value 4 entries 2 inner_map $hash",
    steps: [
      ...READS,
      "map update $ key 0 0 0 0 value $hash",
      "-j map update $ key 1 0 0 0 value $array",
      "map update $ key 1 0 0 0 value id",
      "map update $ key 1 0 0 0 value id 0",
      "map update $ key 9 0 0 0 value $hash",
      "map delete $ key 1 0 0 0",
      "map delete $ key 0 0 0 0",
      ...READS,
    ],
  },
  {
    name: "hash_of_maps",
    create: "type hash_of_maps key 4 value 4 entries 2 inner_map $hash",
    steps: [...READS, "map update $ key 0 0 0 0 value $hash noexist", "map update $ key 0 0 0 0 value $hash noexist"],
  },
  {
    name: "devices",
    create: "type devmap key 4 value 4 entries 2",
    steps: [
      ...READS,
      "map update $ key 0 0 0 0 value 1 0 0 0",
      ...READS,
      "map update $ key 0 0 0 0 value 255 255 255 127",
    ],
  },
  {
    name: "devices_hash",
    create: "type devmap_hash key 4 value 8 entries 2",
    steps: [...READS, "map update $ key 0 0 0 0 value 1 0 0 0 0 0 0 0", ...READS],
  },
  { name: "cpus", create: "type cpumap key 4 value 4 entries 2", steps: READS },
  { name: "xsks", create: "type xskmap key 4 value 4 entries 2", steps: [...READS, "map lookup $ key 0 0 0 0"] },
  { name: "sockets", create: "type sockmap key 4 value 4 entries 2", steps: [...READS, "map lookup $ key 0 0 0 0"] },
  { name: "cookies", create: "type sockmap key 4 value 8 entries 2", steps: [...READS, "map lookup $ key 0 0 0 0"] },
  { name: "sockhash", create: "type sockhash key 4 value 4 entries 2", steps: READS },
  {
    name: "ports",
    create: "type reuseport_sockarray key 4 value 4 entries 2",
    steps: [...READS, "map lookup $ key 0 0 0 0"],
  },
  { name: "port_cookies", create: "type reuseport_sockarray key 4 value 8 entries 2", steps: READS },
  { name: "cgroup_storage", create: "type cgroup_storage key 8 value 4 entries 0", steps: [...READS, "map getnext $"] },
  { name: "percpu_storage", create: "type percpu_cgroup_storage key 8 value 4 entries 0", steps: READS },
  { name: "queue", create: "type queue key 0 value 4 entries 2", steps: LINE },
  { name: "stack", create: "type stack key 0 value 4 entries 2", steps: LINE },
  {
    name: "bloom",
    create: "type bloom_filter key 0 value 4 entries 8",
    steps: [
      ...unwalked("Operation not supported"),
      "map push $ value 1 0 0 0",
      "map push $ value 1 0 0 0 exist",
      "map pop $",
    ],
  },
  { name: "ring", create: "type ringbuf key 0 value 0 entries 4096", steps: RING },
  { name: "user_ring", create: "type user_ringbuf key 0 value 0 entries 4096", steps: RING },
];

/**
 * Creations that fail, and other words that do. docs/cli.md has those that differ: a pin outside bpffs, where bpftool
 * mounts one; types that bpftool 7.1 does not know; descriptor 0, which a program of its own has.
 */
const REFUSED = [
  "map create $/x type hash key 4 value 4 entries 4",
  "map create $/x type hash key 4 value 4",
  "map create $/x type strange key 4 value 4 entries 4 name x",
  "map create $/x type hash type hash key 4 value 4 entries 4 name x",
  "map create $/x type hash key 4 key 4 value 4 entries 4 name x",
  "map create $/x type hash key x value 4 entries 4 name x",
  "map create $/x type hash key 4 value 4 entries 4 name x strange 1",
  "map create $/x type hash key 4 value 4 entries 4 name x strange",
  "map create $/x type hash key 4 value 4 entries 4 flags 1 flags 1 name x",
  "map create $/x type hash key 0 value 4 entries 4 name x",
  "map create $/x type hash key 4 value 4 entries 0 name x",
  "map create $/x type unspec key 4 value 4 entries 4 name x",
  "map create $/x type array_of_maps key 4 value 4 entries 2 name x inner_map id 0",
  "map create $/x type sk_storage key 4 value 4 entries 0 flags 1 name x",
  "map create $/x type inode_storage key 4 value 4 entries 0 flags 1 name x",
  "map create $/x type task_storage key 4 value 4 entries 0 flags 1 name x",
  "map create $/x type struct_ops key 4 value 4 entries 1 name x",
  "map create $/x type hash key 4 value 4 entries 4 name x-y",
  "map create $/x type hash key 4 value 4 entries 4 dev nosuchdev name x",
  "map create $/hash type hash key 4 value 4 entries 4 name x",
  "-j map create $/x type hash key 0 value 4 entries 4 name x",
  "map show id 0",
  "map show id 4294967295",
  "map show id x",
  "-j map show id x",
  "map show pinned $/strange",
  "-j map show pinned $/strange",
  "map show strange 1",
  "map show id",
  "map show id 1 2 3",
  "map show name abcdefghijklmnop",
  "map dump id 0",
  "-j map dump id 0",
  "map dump",
  "map dump id",
  "map lookup",
  "map lookup id",
  "map lookup strange 1",
  "map update id",
  "map getnext id",
  "map delete id",
  "map pop id",
  "map freeze id",
  "map freeze",
  "-j map freeze",
  "map pin id",
  "map pin id 0",
  "map pin id 0 $/x",
  "map pin $hash $/hash",
  "map strange",
  "-j map strange",
  "map help",
  "-j map help",
  "--strange map show",
  "-j --strange map show",
  "-jz map show",
  "batch",
  "batch file",
  "batch strange x",
  "batch file /no/such/file",
  "batch file a b",
  "-j batch file /no/such/file",
];

function compare(): void {
  const ledger = new Ledger(t, "words");
  const twins = `${BPFFS}/mlwords${OWN_NAME}`;
  mkdirSync(twins);
  t.teardown(() => rmSync(twins, { recursive: true, force: true }));
  t.before(() => ledger.start());
  const service = () => ({ url: ledger.url, token: undefined });
  const at = (words: string, pins: string): string[] =>
    words
      .replaceAll(/\$(?=\/)/g, pins)
      .replaceAll(/\$([a-z_]+)/g, `pinned ${pins}/$1`)
      .split(" ");
  const ours = (words: string): Promise<Ran> => inWords(service(), at(words, BPFFS));
  const theirs = (words: string, pins: string): Promise<Ran> => bpftool(at(words, pins));

  const same = (t: Test, step: Step, ourRan: Ran, theirRan: Ran, where: string, showsIds = false): void => {
    const [our, their] = showsIds ? [withoutIds(ourRan), withoutIds(theirRan)] : [ourRan, theirRan];
    const name = `${step.words} ${where}`;
    t.equal(our.code, their.code, `${name}: exit code`);
    if (step.silent !== undefined) {
      t.match(their.stderr, "", name);
      const said = step.words.startsWith("-") ? (JSON.parse(our.stdout) as { error: string }).error : our.stderr;
      t.ok(said.includes(step.silent), `${name}: ${said}`);
      return;
    }
    const isUsage = /^Usage:/m.test(their.stderr) || step.words.endsWith("help");
    if (isUsage) return;
    if (step.words.startsWith("-")) t.same(...json(our.stdout, their.stdout), `${name}: ${our.stdout} ${their.stdout}`);
    else t.equal(shown(our.stdout), shown(their.stdout), `${name}: stdout`);
    // Ours goes on with the rule that was broken.
    const beginning = unplaced(their.stderr).trimEnd();
    t.ok(unplaced(our.stderr).startsWith(beginning), `${name}: stderr: ${our.stderr} ${their.stderr}`);
    t.equal(our.stderr === "", their.stderr === "", `${name}: stderr: ${our.stderr} ${their.stderr}`);
  };

  for (const { name, create, steps } of subjects)
    t.test(`${create}: the same output and exit codes as bpftool`, async (t) => {
      const created = { words: `map create $/${name} ${create} name ${name.slice(0, 15)}` };
      same(t, created, await ours(created.words), await theirs(created.words, twins), "");
      for (const each of steps) {
        const step = typeof each === "string" ? { words: each } : each;
        const words = step.words.replace(/\$(?= |$)/, `$${name}`);
        const our = await ours(words);
        const showsIds = name.endsWith("_of_maps");
        same(t, step, our, await theirs(words, twins), "on the twin", showsIds);
        if (/map (show|dump|lookup|peek|getnext)/.test(words))
          same(t, step, our, await theirs(words, ledger.root), "on the kernel map", showsIds);
      }
    });

  t.test("words that are refused: the same output and exit codes as bpftool", async (t) => {
    for (const words of REFUSED) same(t, { words }, await ours(words), await theirs(words, twins), "");
  });

  t.test("batches: the same output and exit codes as bpftool", async (t) => {
    const folder = t.testdir();
    const files: readonly [name: string, text: string][] = [
      [
        "good",
        "# a comment\nmap update $array key 0 0 0 0 value 5 5 5 5 # one\n\n  map lookup $array \\\n key 0 0 0 0\nmap 'lookup' $array \"key\" 0 0 0 0\n",
      ],
      ["without an end", "map lookup $array key 0 0 0 0"],
      ["stopped", "map lookup $array key 9 0 0 0\nmap lookup $array key 0 0 0 0\n"],
      ["wrong", "map lookup $array key 0 0 0 x\nmap lookup $array key 0 0 0 0\n"],
      ["empty", ""],
    ];
    for (const [name, text] of files)
      for (const form of ["", "-j "]) {
        const place = (pins: string): string => {
          const file = join(folder, name.replaceAll(" ", "_"));
          writeFileSync(file, at(text, pins).join(" "));
          return `${form}batch file ${file}`;
        };
        // The words of each line name the pin, which is another one.
        const our = unplacedRan(await ours(place(BPFFS)));
        const their = unplacedRan(await theirs(place(twins), twins));
        same(t, { words: `${form}batch ${name}` }, our, their, "");
      }
  });

  /** Texts in which ids, pins and memory are left out: they differ. */
  function unplaced(text: string): string {
    return text.replaceAll(twins, BPFFS).replaceAll(ledger.root, BPFFS);
  }

  function unplacedRan(ran: Ran): Ran {
    return { ...ran, stdout: unplaced(ran.stdout) };
  }

  function shown(text: string): string {
    return unplaced(text)
      .replaceAll(/^\d+: /gm, "ID: ")
      .replaceAll(/ {2}memlock \d+B/g, "");
  }

  /** Values of maps of maps are ids, which are others in the ledger. */
  function withoutIds(ran: Ran): Ran {
    const stdout = ran.stdout
      .replaceAll(/value: (.. ){3}..$/gm, "value: ID")
      .replaceAll(/"value": ?\[("0x..",?){4}\s*\]/g, '"value":"ID"');
    return { ...ran, stdout };
  }

  function json(our: string, their: string): [unknown, unknown] {
    return [plain(JSON.parse(our)), their.trim() === "" ? null : plain(JSON.parse(unplaced(their)))];
  }

  function plain(value: unknown): unknown {
    if (Array.isArray(value)) return value.map(plain);
    if (value === null || typeof value !== "object") return value;
    const { id, bytes_memlock, detail, ...rest } = value as Record<string, unknown>;
    return Object.fromEntries(Object.entries(rest).map(([name, field]) => [name, plain(field)]));
  }
}

const why = unfitForKernel() ?? (await unfitForBpftool());
if (why !== null) t.pass("bpftool and ours say the same", { skip: why });
else compare();
