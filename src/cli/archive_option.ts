import { Option } from "commander";

/** --archive: the folder with a log's archived events, if they are no longer in the folder that the log names. */
export function archiveOption(): Option {
  return new Option("--archive <dir>", "archive with the log's older events, if it has been moved");
}
