import { userInfo } from "node:os";

/** The caller in events of the command line: whose process it is. A uid that no /etc/passwd has stands for itself. */
export function userCaller(): string {
  try {
    return `user:${userInfo().username}`;
  } catch {
    return `user:${process.geteuid?.() ?? 0}`;
  }
}
