import { BPF_MAP_TYPE, type MapTypeName } from "../../abi/bpf.ts";
import { type Argument, type Command, needed, optional } from "./description.ts";
import { typeWord } from "./map_reference.ts";

const MAP = needed(null, "MAP");
const FLAGS = optional(null, "UPDATE_FLAGS", ["any", "exist", "noexist"]);
const TYPES = (Object.keys(BPF_MAP_TYPE) as MapTypeName[]).map(typeWord).filter((word) => word !== "unspec");
const VALUE_ALONE: readonly Argument[] = [MAP, needed("value", "VALUE"), FLAGS];

/** In bpftool's order, which decides what the beginning of a word means ("d" is dump); then those that it has not. */
export const MAP_COMMANDS = [
  {
    word: "show",
    arguments: [optional(null, "MAP")],
    text: "Shows maps: their type, name, flags and sizes, and with -f their pins. A name may be that of several maps. Leaves no event.",
    examples: [
      ["map show", "all maps"],
      ["-f map show name ports", "a map, and where it is pinned"],
    ],
    reads: true,
  },
  {
    word: "list",
    arguments: [optional(null, "MAP")],
    text: "The same as show.",
    examples: [["--at 2026-11-23T20:00:00Z map list", "the maps that there were at that time"]],
    reads: true,
  },
  {
    word: "dump",
    arguments: [MAP],
    text: "Prints all elements of a map as of one moment, in the order of the service's state. A name may be that of several maps.",
    examples: [
      ["map dump name ports", "all elements"],
      ["--at 14 -j map dump name ports", "those right after event 14, as JSON"],
    ],
    reads: true,
  },
  {
    word: "update",
    arguments: [MAP, optional("key", "DATA"), optional("value", "VALUE"), FLAGS],
    text: "Writes an element. A per-CPU map gets the value on each CPU. In maps of maps the value is a MAP, in program arrays a PROG.",
    examples: [
      ["map update name ports key 80 0 0 0 value hex 2a 00 00 00", "writes an element"],
      ["map update name ports key 80 0 0 0 value 42 0 0 0 noexist", "writes it if there is none"],
      ["map update name outer key 0 0 0 0 value name ports", "puts a map into a map of maps"],
    ],
    reads: false,
  },
  {
    word: "lookup",
    arguments: [MAP, optional("key", "DATA")],
    text: "Prints an element. If there is none, the exit code is 254.",
    examples: [
      ["map lookup name ports key 80 0 0 0", "an element"],
      ["--at 14 map lookup name ports key 80 0 0 0", "the element that it was right after event 14"],
    ],
    reads: true,
  },
  {
    word: "getnext",
    arguments: [MAP, optional("key", "DATA")],
    text: "Prints the key after a key; without a key, the first one.",
    examples: [["map getnext name ports", "the first key"]],
    reads: true,
  },
  {
    word: "delete",
    arguments: [MAP, needed("key", "DATA")],
    text: "Deletes an element.",
    examples: [["map delete name ports key 80 0 0 0", "deletes an element"]],
    reads: false,
  },
  {
    word: "pin",
    arguments: [MAP, needed(null, "FILE")],
    text: "Pins a map, so that it lives on without descriptors. A relative path begins in the current directory of bpffs, and elsewhere at /sys/fs/bpf.",
    examples: [["map pin id 7 /sys/fs/bpf/ports", "pins map 7"]],
    reads: false,
  },
  {
    word: "event_pipe",
    arguments: [MAP],
    text: "Is refused: events of programs go through kernel maps, which bpftool reads.",
    examples: [],
    reads: false,
  },
  {
    word: "create",
    arguments: [
      optional(null, "FILE"),
      { word: "type", value: "TYPE", needed: true, choices: TYPES },
      needed("key", "KEY_SIZE"),
      needed("value", "VALUE_SIZE"),
      needed("entries", "MAX_ENTRIES"),
      needed("name", "NAME"),
      optional("flags", "FLAGS"),
      optional("inner_map", "MAP"),
      optional("dev", "NAME"),
      optional("session", "ID"),
    ],
    text: "Creates a map and pins it at FILE; without FILE, at /sys/fs/bpf/NAME. With a session and without FILE it is not pinned: a descriptor of the session holds it.",
    examples: [
      ["map create type hash key 4 value 4 entries 16 name ports", "a map, pinned at /sys/fs/bpf/ports"],
      [
        "map create /sys/fs/bpf/cidrs type lpm_trie key 8 value 4 entries 1024 name cidrs flags 1",
        "a trie, with BPF_F_NO_PREALLOC",
      ],
    ],
    reads: false,
  },
  {
    word: "peek",
    arguments: [MAP, optional("value", "DATA")],
    text: "Prints the value that a pop would take from a queue or a stack. With a value, asks a bloom filter whether it may have been pushed.",
    examples: [["map peek name jobs", "the next value"]],
    reads: true,
  },
  {
    word: "push",
    arguments: VALUE_ALONE,
    text: "Pushes a value onto a stack, a queue or a bloom filter.",
    examples: [["map push name jobs value 1 0 0 0", "pushes a value"]],
    reads: false,
  },
  { word: "enqueue", arguments: VALUE_ALONE, text: "The same as push.", examples: [], reads: false },
  {
    word: "pop",
    arguments: [MAP],
    text: "Takes a value out of a stack or a queue, and prints it.",
    examples: [["map pop name jobs", "takes the next value"]],
    reads: false,
  },
  { word: "dequeue", arguments: [MAP], text: "The same as pop.", examples: [], reads: false },
  {
    word: "freeze",
    arguments: [MAP],
    text: "Freezes a map: no command changes its elements any more. This cannot be undone.",
    examples: [["map freeze name settings", "freezes a map"]],
    reads: false,
  },
  {
    word: "history",
    arguments: [MAP, needed("key", "DATA")],
    text: "Prints every version of an element: when, by whom, by which command. A freed map is found by its id.",
    examples: [["map history name ports key 80 0 0 0", "all values that the key had"]],
    reads: false,
  },
  {
    word: "diff",
    arguments: [MAP, needed("from", "MOMENT"), optional("to", "MOMENT")],
    text: "Prints the elements that differ between two moments: each a seq, or a time (RFC 3339). Without to: until now.",
    examples: [["map diff name ports from 5 to 14", "what events 6 to 14 have changed"]],
    reads: false,
  },
  {
    word: "restore",
    arguments: [MAP, needed("to", "MOMENT"), optional("reason", "TEXT"), optional("session", "ID")],
    text: "Brings a map back to an earlier moment, all of it or nothing. With --dry-run it shows the commands and runs none. A freed map is found by its id and created again; session gets a descriptor of it.",
    examples: [
      ["map restore name ports to 5 --dry-run", "what a restore would do"],
      ["map restore name ports to 5 reason 'deleted by mistake'", "does it"],
    ],
    reads: false,
  },
  {
    word: "watch",
    arguments: [MAP, optional("after", "POSITION")],
    text: "Prints the elements of a map, then each change as it happens, until the map is freed or Ctrl-C. With after: only the changes after that seq or position.",
    examples: [["map watch name ports", "follows a map"]],
    reads: false,
  },
  {
    word: "release",
    arguments: [MAP],
    text: "Ends the adoption of a map: its kernel map stays as it is, and the two no longer follow each other. MAP may be an id alone.",
    examples: [["map release id 7", "lets go of the kernel map that map 7 follows"]],
    reads: false,
  },
] as const satisfies readonly Command[];
