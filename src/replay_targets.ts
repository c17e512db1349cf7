import { Connection } from "./client/connection.ts";
import type { OpenTarget } from "./http/replays.ts";
import { ApiTarget } from "./replay/api_target.ts";

/** Where replays of the service may go. */
export const openTarget: OpenTarget = (spec) => {
  const connection = new Connection(spec.url, spec.token);
  return { target: new ApiTarget(connection), close: () => connection.close() };
};
