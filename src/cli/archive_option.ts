import { Option } from "commander";

/** Where archived events are, unless they are where the log says. */
export function archiveOption(): Option {
  return new Option("--archive <dir>", "archive that the log's older events are in, if it has been moved");
}
