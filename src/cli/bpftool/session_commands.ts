import { type Command, needed, optional } from "./description.ts";

export const SESSION_COMMANDS = [
  {
    word: "show",
    arguments: [optional("id", "ID")],
    text: "Shows sessions: their names, callers, leases and numbers of descriptors.",
    examples: [["session show id 3", "a session"]],
    reads: true,
  },
  {
    word: "list",
    arguments: [optional("id", "ID")],
    text: "The same as show.",
    examples: [["session list", "all sessions"]],
    reads: true,
  },
  {
    word: "create",
    arguments: [optional("name", "TEXT"), optional("ttl", "SECONDS"), optional("pid", "PID")],
    text: "Opens a session and prints its id. It lives for ttl seconds after its last command; with pid, exactly as long as that process.",
    examples: [["session create name shell pid $$", "a session that ends with the shell"]],
    reads: false,
  },
  {
    word: "end",
    arguments: [needed("id", "ID")],
    text: "Ends a session: its descriptors are closed, and maps that nothing else holds are freed.",
    examples: [["session end id 3", "ends session 3"]],
    reads: false,
  },
] as const satisfies readonly Command[];
