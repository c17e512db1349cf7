import type { Call } from "../call.ts";
import { Failure } from "../failure.ts";

/** The scripts ask this command line for candidates: the words after "mapledger" up to the cursor, the last may be "". */
const SCRIPTS: Readonly<Record<string, string>> = {
  bash: `# Completion of mapledger's words in bash.
_mapledger() {
  local IFS=$'\\n'
  COMPREPLY=($(mapledger completion words -- "\${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
  if [ \${#COMPREPLY[@]} -eq 0 ]; then compopt -o default; fi
}
complete -F _mapledger mapledger
`,
  zsh: `#compdef mapledger
# Completion of mapledger's words in zsh.
_mapledger() {
  local -a candidates
  candidates=("\${(@f)$(mapledger completion words -- "\${(@)words[2,CURRENT]}" 2>/dev/null)}")
  if [[ -n "\${candidates[1]}" ]]; then compadd -- "\${candidates[@]}"; else _files; fi
}
if [ "$funcstack[1]" = "_mapledger" ]; then _mapledger "$@"; else compdef _mapledger mapledger; fi
`,
  fish: `# Completion of mapledger's words in fish.
function __mapledger_words
  set -l tokens (commandline -opc) (commandline -ct)
  mapledger completion words -- $tokens[2..-1] 2>/dev/null
end
complete -c mapledger -f -a '(__mapledger_words)'
complete -c mapledger -n 'test -z "(__mapledger_words)"' -F
`,
};

/** completion { bash | zsh | fish }, and for their scripts: completion words WORD... */
export async function completion(call: Call): Promise<void> {
  const { output, words } = call;
  const shell = words.next("a shell: bash, zsh or fish");
  if (shell === "words") {
    const { candidates } = await import("../candidates.ts");
    const given: string[] = [];
    while (words.first !== undefined) given.push(words.next("a word"));
    for (const word of await candidates(call, given)) output.line(word);
    return;
  }
  words.end();
  const script = Object.hasOwn(SCRIPTS, shell) ? SCRIPTS[shell] : undefined;
  if (script === undefined) throw new Failure(`unknown shell '${shell}': bash, zsh and fish have completion`);
  output.text(script);
}
