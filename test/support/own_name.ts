import { randomBytes } from "node:crypto";

/** What this process puts in the names of its own on a file system of the machine's: a run that was killed may have left those of its pid there. */
export const OWN_NAME = `${process.pid}_${randomBytes(4).toString("hex")}`;
