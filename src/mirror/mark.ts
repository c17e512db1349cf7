import { readlinkSync, renameSync, statSync, symlinkSync, unlinkSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { ERRNO, errnoName } from "../abi/errno.ts";
import { makeDirectories } from "./directories.ts";
import { ownerIn, refusedIn, temporaryFor } from "./layout.ts";
import { bootId } from "./pidfd.ts";
import { errnoOf } from "./refusal.ts";

/**
 * The mark of a directory of pins. It is the target of a symbolic link, because bpffs has no files that could hold
 * text; a link's target is replaced atomically.
 *
 *     mapledger 1 log=ID life=ID device=2049 inode=131 boot=ID data=%2Fvar%2Flib%2Fmapledger
 *
 * Each value is percent-encoded; unknown names are ignored. Earlier releases wrote only the log's id; if they find
 * another text, they do not use the directory.
 */
export interface Mark {
  /** The log that the kernel maps follow. */
  readonly log: string;
  /** The life of the ledger. One that was restored from a backup has another life. */
  readonly life: string;
  /** Device and inode of the data directory; a copy of it has others. */
  readonly device: string;
  readonly inode: string;
  /** The boot of the machine. */
  readonly boot: string;
  /** The path of the data directory, for people; a very long one is shortened. */
  readonly data: string;
}

/** A mark of an earlier release, or text that is not a mark. */
export type OtherMark = { readonly old: string } | { readonly garbled: string };

const HEAD = "mapledger";
const VERSION = "1";
const FIELDS = ["log", "life", "device", "inode", "boot", "data"] as const satisfies readonly (keyof Mark)[];
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

/** The target of a symbolic link has at most PATH_MAX, 4096 bytes; a character takes up to twelve bytes in it. */
const DATA_BYTES_MAX = 2400;
const DATA_CHARACTERS_MAX = 200;

/** The present mark of a ledger on this machine. */
export function markOf(ledger: Pick<Mark, "log" | "life" | "data">): Mark {
  const data = resolve(ledger.data);
  const { dev, ino } = statSync(data, { bigint: true });
  return { ...ledger, data, device: String(dev), inode: String(ino), boot: bootId() };
}

/** null: there is no mark. */
export function readMark(own: string): Mark | OtherMark | null {
  const link = ownerIn(own);
  let text = "";
  const errno = errnoOf(() => {
    text = readlinkSync(link);
  });
  if (errno === -ERRNO.ENOENT) return null;
  if (errno === -ERRNO.EINVAL) return { garbled: "no symbolic link" };
  if (errno !== 0) return { garbled: errnoName(-errno) };
  if (UUID.test(text)) return { old: text };
  return parse(text) ?? { garbled: text };
}

/**
 * Sets the mark, and replaces one that exists. Returns null, or the reason why it cannot. The first mark is made before
 * `by_id`, so that `by_id` without a mark is always somebody else's.
 */
export function writeMark(own: string, mark: Mark): string | null {
  const link = ownerIn(own);
  const target = textOf(mark);
  const first = errnoOf(() => symlinkSync(target, link));
  if (first !== -ERRNO.EEXIST) return refusedIn(own, `making ${link}`, first);
  const temporary = temporaryFor(own, "owner");
  errnoOf(() => makeDirectories(dirname(temporary)));
  errnoOf(() => unlinkSync(temporary));
  const unmade = errnoOf(() => symlinkSync(target, temporary));
  if (unmade !== 0) return refusedIn(own, `making ${temporary}`, unmade);
  return refusedIn(
    own,
    `moving ${temporary} to ${link}`,
    errnoOf(() => renameSync(temporary, link)),
  );
}

/**
 * null if the mark is that of `ours`; otherwise the difference, and advice for an operator. A mark of an earlier
 * release has only the log's id, and only that is compared.
 */
export function differs(mark: Mark | OtherMark, ours: Mark): string | null {
  if ("garbled" in mark)
    return `the owner mark cannot be read (${mark.garbled}): if nobody else uses these kernel maps, ${TAKE_OVER}`;
  if ("old" in mark) return mark.old === ours.log ? null : otherLog(mark.old, ours);
  const owner = `the kernel maps follow the log ${mark.log} of ${mark.data}`;
  if (mark.log !== ours.log) return otherLog(`${mark.log} of ${mark.data}`, ours);
  if (mark.life !== ours.life)
    return `${owner} in another life: one of the two was restored from a backup, so the kernel maps may be ahead of this log: ${TAKE_OVER}`;
  if (mark.device !== ours.device || mark.inode !== ours.inode)
    return (
      `${owner} (device ${mark.device}, inode ${mark.inode}), and ${ours.data} (device ${ours.device}, ` +
      `inode ${ours.inode}) may be a copy of it: start mapledger with that directory, or ${TAKE_OVER}`
    );
  if (mark.boot !== ours.boot)
    return `${owner} as it was in boot ${mark.boot} of the machine, and this is boot ${ours.boot}: ${TAKE_OVER}`;
  return null;
}

const TAKE_OVER = "run `mapledger take-over` to make them follow this one";

function otherLog(named: string, { log, data }: Mark): string {
  return (
    `the kernel maps follow the log ${named}, and this is the log ${log} of ${data}: ` +
    `choose another MAPLEDGER_BPFFS, or ${TAKE_OVER}`
  );
}

function textOf(mark: Mark): string {
  const fields = FIELDS.map((name) => `${name}=${encode(name === "data" ? shortened(mark.data) : mark[name])}`);
  return [HEAD, VERSION, ...fields].join(" ");
}

function parse(text: string): Mark | null {
  const [head, version, ...fields] = text.split(" ");
  if (head !== HEAD || version !== VERSION) return null;
  const values = new Map(fields.map((field) => field.split("=", 2) as [string, string | undefined]));
  const mark: Partial<Record<keyof Mark, string>> = {};
  for (const name of FIELDS) {
    const value = decode(values.get(name));
    if (value === null) return null;
    mark[name] = value;
  }
  return mark as Mark;
}

function encode(text: string): string {
  return encodeURIComponent(text.toWellFormed());
}

function decode(text: string | undefined): string | null {
  try {
    return text === undefined ? null : decodeURIComponent(text);
  } catch {
    return null;
  }
}

function shortened(path: string): string {
  if (encode(path).length <= DATA_BYTES_MAX) return path;
  return `${[...path].slice(0, DATA_CHARACTERS_MAX - 1).join("")}…`;
}
