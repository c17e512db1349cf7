/** How the tree describes a command: its words, arguments, help and examples. */

/** An argument: a keyword, a keyword with a value, or a value alone. */
export interface Argument {
  readonly word: string | null;
  /** The value's name in the help; null: the keyword has none. */
  readonly value: string | null;
  readonly needed: boolean;
  /** The values, for the completion. */
  readonly choices?: readonly string[];
}

export interface Command {
  readonly word: string;
  readonly arguments: readonly Argument[];
  readonly text: string;
  /** Command lines after "mapledger", each with what it does. */
  readonly examples: readonly (readonly [words: string, does: string])[];
  /** Whether --at says as of which moment it reads. */
  readonly reads: boolean;
}

export function needed(word: string | null, value: string | null, choices?: readonly string[]): Argument {
  return { word, value, needed: true, ...(choices !== undefined && { choices }) };
}

export function optional(word: string | null, value: string | null, choices?: readonly string[]): Argument {
  return { word, value, needed: false, ...(choices !== undefined && { choices }) };
}

/** The arguments as the help has them: "MAP [key DATA]". */
export function argumentsText(all: readonly Argument[]): string {
  return all
    .map(({ word, value, needed }) => {
      const text = [word, value].filter((part) => part !== null).join(" ");
      return needed ? text : `[${text}]`;
    })
    .join(" ");
}
