/**
 * Globs of scopes. One that begins with a slash is of pins, as in /sys/fs/bpf/tc/*, any other of maps' names, as in block*.
 * `*` stands for any characters but a slash, also for none; nothing else is special.
 */

const BPFFS = "/sys/fs/bpf/";
const PIN = /^(?:\/[^/\p{Cc}]+)+$/u;
const NAME = /^[A-Za-z0-9_.*\xc0-\xff]+$/;

/** Throws an Error that says why a text is no glob. */
export function checkGlob(glob: string): void {
  if (glob === "") throw new Error("a glob is missing behind @");
  if (glob.includes(":")) throw new Error(`"${glob}" has a colon, which no glob may have`);
  if (!glob.startsWith("/")) {
    if (NAME.test(glob)) return;
    throw new Error(`"${glob}" is no glob: names have letters, digits, "_" and ".", paths begin with ${BPFFS}`);
  }
  const isBelow = glob.startsWith(BPFFS) && PIN.test(glob);
  if (!isBelow || glob.split("/").some((name) => name === "." || name === ".."))
    throw new Error(
      `"${glob}" is no glob: pins lie below ${BPFFS}, and a path has no "." or ".." and no slash at its end`,
    );
}

/** Whether a glob is of pins, not of names. */
export function isOfPins(glob: string): boolean {
  return glob.startsWith("/");
}

export function matchesGlob(glob: string, text: string): boolean {
  if (!isOfPins(glob)) return !text.includes("/") && matchesName(glob, text);
  return startsLike(glob, text) && text.split("/").length === glob.split("/").length;
}

/** Whether a path is one that leads to a place that the glob matches, or such a place itself. */
export function startsLike(glob: string, path: string): boolean {
  const wanted = glob.split("/");
  const given = path.split("/");
  return given.length <= wanted.length && given.every((name, at) => matchesName(wanted[at] as string, name));
}

/** Goes back to the last star alone: a name takes as many steps as it has characters, times those of the glob. */
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
