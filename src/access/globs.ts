/**
 * The globs of scopes. A glob that begins with a slash matches pins (/sys/fs/bpf/tc/*), any other matches map names
 * (block*). `*` matches any number of characters except slashes; no other character is special.
 */

const BPFFS = "/sys/fs/bpf/";
const PIN = /^(?:\/[^/\p{Cc}]+)+$/u;
const NAME = /^[A-Za-z0-9_.*\xc0-\xff]+$/;

/** Throws an Error with the reason if a text is not a glob. */
export function checkGlob(glob: string): void {
  if (glob === "") throw new Error("a glob is required after @");
  if (glob.includes(":")) throw new Error(`"${glob}" has a colon, which is not allowed in a glob`);
  if (!glob.startsWith("/")) {
    if (NAME.test(glob)) return;
    throw new Error(`"${glob}" is not a glob: names have letters, digits, "_" and ".", paths begin with ${BPFFS}`);
  }
  const isBelow = glob.startsWith(BPFFS) && PIN.test(glob);
  if (!isBelow || glob.split("/").some((name) => name === "." || name === ".."))
    throw new Error(
      `"${glob}" is not a glob: pins lie below ${BPFFS}, and a path has no "." or ".." and no slash at its end`,
    );
}

/** Whether a glob matches pins; if not, it matches map names. */
export function isOfPins(glob: string): boolean {
  return glob.startsWith("/");
}

export function matchesGlob(glob: string, text: string): boolean {
  if (!isOfPins(glob)) return !text.includes("/") && matchesName(glob, text);
  return startsLike(glob, text) && text.split("/").length === glob.split("/").length;
}

/** Whether a path, or a path below it, can match the glob. For /sys/fs/bpf/tc/*, a path below /sys/fs/bpf can. */
export function startsLike(glob: string, path: string): boolean {
  const wanted = glob.split("/");
  const given = path.split("/");
  return given.length <= wanted.length && given.every((name, at) => matchesName(wanted[at] as string, name));
}

/** Backtracks to the last star only, so that it takes at most glob length x name length steps. */
function matchesName(glob: string, name: string): boolean {
  let at = 0;
  let star = -1;
  let tried = 0;
  for (let next = 0; next < name.length; ) {
    if (glob[at] === "*") {
      star = at++;
      tried = next;
    } else if (glob[at] === name[next]) {
      at++;
      next++;
    } else if (star !== -1) {
      at = star + 1;
      next = ++tried;
    } else return false;
  }
  while (glob[at] === "*") at++;
  return at === glob.length;
}
