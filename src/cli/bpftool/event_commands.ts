import { ERRNO } from "../../abi/errno.ts";
import { CMD } from "../../abi/service.ts";
import { type Argument, type Command, optional } from "./description.ts";

/** The filters of the log; each is a field of the query of GET /v1/events. */
export const FILTERS: readonly Argument[] = [
  optional("map", "MAP"),
  optional("session", "ID"),
  optional("caller", "NAME"),
  optional("cmd", "CMD", Object.keys(CMD)),
  optional("errno", "ERRNO", Object.keys(ERRNO)),
  optional("key", "HEX"),
  optional("since", "TIME"),
  optional("until", "TIME"),
  optional("changes", null),
  optional("failed", null),
];

export const EVENT_COMMANDS = [
  {
    word: "list",
    arguments: [...FILTERS, optional("after", "POSITION"), optional("before", "POSITION"), optional("limit", "N")],
    text: "Prints recorded events: the last 20, those of the limit, or with after or since all from there on. map: of a map, by MAP or its id; key: whose key begins so, in hex; changes: that changed something; failed: that were refused.",
    examples: [
      ["event list", "the last 20 events"],
      ["event list map name ports changes", "the last changes of a map"],
      ["event list errno ENOENT since 2026-11-23T20:00:00Z", "what was not found since then"],
    ],
    reads: false,
  },
  {
    word: "watch",
    arguments: [...FILTERS.filter(({ word }) => word !== "since" && word !== "until"), optional("after", "POSITION")],
    text: "Prints events as they are recorded, until Ctrl-C; with after, first those that have come since.",
    examples: [["event watch map name ports failed", "refused commands on a map"]],
    reads: false,
  },
] as const satisfies readonly Command[];
