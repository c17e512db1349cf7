/** What each command of the tree does. Only the module of the command that is called is loaded. */

import type { Action } from "./call.ts";
import type { EVENT_COMMANDS } from "./event_commands.ts";
import { Failure } from "./failure.ts";
import type { MAP_COMMANDS } from "./map_commands.ts";
import type { SESSION_COMMANDS } from "./session_commands.ts";
import type { ALONE } from "./tree.ts";

type Load = () => Promise<Action>;
type Loads<Commands extends readonly { readonly word: string }[]> = Readonly<Record<Commands[number]["word"], Load>>;

const show: Load = async () => (await import("./commands/show.ts")).show;
const lookup: Load = async () => (await import("./commands/lookup.ts")).lookup;
const update: Load = async () => (await import("./commands/update.ts")).update;
const pop: Load = async () => (await import("./commands/pop.ts")).pop;
const sessions: Load = async () => (await import("./commands/session_list.ts")).sessionList;

const MAP: Loads<typeof MAP_COMMANDS> = {
  show,
  list: show,
  dump: async () => (await import("./commands/dump.ts")).dump,
  update,
  lookup,
  getnext: async () => (await import("./commands/getnext.ts")).getNext,
  delete: async () => (await import("./commands/delete.ts")).deleteElement,
  pin: async () => (await import("./commands/pin.ts")).pin,
  event_pipe: async () => async () => {
    throw new Failure("event_pipe reads what programs write, which only the kernel map has: use bpftool");
  },
  create: async () => (await import("./commands/create.ts")).create,
  peek: lookup,
  push: update,
  enqueue: update,
  pop,
  dequeue: pop,
  freeze: async () => (await import("./commands/freeze.ts")).freeze,
  history: async () => (await import("./commands/history.ts")).history,
  diff: async () => (await import("./commands/diff.ts")).diff,
  restore: async () => (await import("./commands/restore.ts")).restore,
  watch: async () => (await import("./commands/watch.ts")).watch,
  release: async () => (await import("./commands/release.ts")).release,
};

const EVENT: Loads<typeof EVENT_COMMANDS> = {
  list: async () => (await import("./commands/event_list.ts")).eventList,
  watch: async () => (await import("./commands/event_watch.ts")).eventWatch,
};

const SESSION: Loads<typeof SESSION_COMMANDS> = {
  show: sessions,
  list: sessions,
  create: async () => (await import("./commands/session_create.ts")).sessionCreate,
  end: async () => (await import("./commands/session_end.ts")).sessionEnd,
};

const ONE_WORD: Loads<typeof ALONE> = {
  batch: async () => (await import("./commands/batch.ts")).batch,
  version: async () => (await import("./commands/version.ts")).version,
  completion: async () => (await import("./commands/completion.ts")).completion,
  man: async () => (await import("./commands/man.ts")).man,
};

const GROUPS: Readonly<Record<string, Readonly<Record<string, Load>>>> = { map: MAP, event: EVENT, session: SESSION };

/** `group`: its word; null: a command of one word. Both words are of the tree. */
export function actionOf(group: string | null, command: string): Promise<Action> {
  const loads: Readonly<Record<string, Load>> = group === null ? ONE_WORD : (GROUPS[group] ?? {});
  return (loads[command] as Load)();
}
