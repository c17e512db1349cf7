import type { Event } from "../log/event.ts";
import type { Answer } from "./answer.ts";
import type { Call } from "./call.ts";
import type { Target } from "./target.ts";

/** Nothing is sent: what would be is counted. */
export const DRY: Target = {
  answers: false,
  window: 1,
  send: async (_call: Call, _event: Event, recorded: Answer) => recorded,
};
