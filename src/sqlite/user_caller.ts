import { userInfo } from "node:os";

/** The caller in events of the command line: "user:" and the name of the user, or the uid if the user has no name. */
export function userCaller(): string {
  try {
    return `user:${userInfo().username}`;
  } catch {
    return `user:${process.geteuid?.() ?? 0}`;
  }
}
