import type { Event } from "../log/event.ts";
import type { Answer } from "./answer.ts";
import type { Call } from "./call.ts";
import type { Target } from "./target.ts";

/** A target that sends nothing: the replay only counts the commands. */
export const DRY: Target = {
  answers: false,
  window: 1,
  send: async (_call: Call, _event: Event, recorded: Answer) => recorded,
};
