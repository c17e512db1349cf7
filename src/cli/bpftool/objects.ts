/** The first words of the command line in bpftool's words; all other first words are commands of the service's own. */

/** In the order in which the beginning of a word is looked for: "m" is map. */
const OBJECTS: readonly string[] = ["batch", "map", "event", "session", "version", "completion", "man"];

/** Options whose value is the next word. */
const WITH_VALUE: readonly string[] = ["--at", "--url", "--token"];

/** Whether the word before this place is an option, maybe cut to its beginning, that takes this one as its value. */
export function isValueOfOption(words: readonly string[], at: number): boolean {
  const before = words[at - 1] ?? "";
  return before.length > "--".length && WITH_VALUE.some((option) => option.startsWith(before));
}

/** The words without options and their values. */
export function plainWords(words: readonly string[]): readonly string[] {
  return words.filter((word, at) => !word.startsWith("-") && !isValueOfOption(words, at));
}

/**
 * The words of a command line in bpftool's words; null: it is one of the service's own commands, which win if they are
 * written out (`own`). "help map" is "map --help".
 */
export function inBpftoolsWords(words: readonly string[], own: ReadonlySet<string>): readonly string[] | null {
  const [first = "", ...rest] = plainWords(words);
  if (first === "help" && OBJECTS.includes(rest[0] ?? "")) return [...rest, "--help"];
  const isObject = first !== "" && !own.has(first) && OBJECTS.some((object) => object.startsWith(first));
  return isObject ? words : null;
}
