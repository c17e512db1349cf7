import { cmdName } from "../abi/service.ts";
import { visible } from "../codec/visible.ts";
import type { Event } from "../log/event.ts";
import { cmdNumber } from "../syscall/command.ts";
import type { Answer } from "./answer.ts";
import type { Call } from "./call.ts";
import { type HttpRequest, httpRequest } from "./http_call.ts";
import type { Target, Write } from "./target.ts";
import { isToken, parts, token, variableOf } from "./tokens.ts";

const HEAD = `#!/bin/sh
# Commands of a mapledger's log, written by mapledger replay --to curl. Each is sent, and its answer printed.
# MAPLEDGER_URL is the address of the service; MAPLEDGER_TOKEN is the bearer token, if one is needed.
set -eu
url=\${MAPLEDGER_URL:-http://127.0.0.1:8620}

# METHOD PATH, then options of curl's
send() {
  method=$1
  path=$2
  shift 2
  curl -sS --path-as-is -w '\\n' -X "$method" \${MAPLEDGER_TOKEN:+-H "authorization: Bearer $MAPLEDGER_TOKEN"} "$@" "$url$path"
}

# METHOD PATH BODY
json() {
  printf %s "$3" | send "$1" "$2" -H 'content-type: application/json' --data-binary @-
}

# NAME ANSWER: the number that an answer gives by this name
field() {
  number=$(printf '%s\\n' "$2" | sed -n 's/.*"'"$1"'":\\([0-9][0-9]*\\).*/\\1/p')
  if [ -z "$number" ]; then
    printf 'no %s is in the answer: %s\\n' "$1" "$2" >&2
    exit 1
  fi
  printf %s "$number"
}

# NUMBER: a u32 in hex, little-endian
le32() {
  printf '%02x%02x%02x%02x' $(($1 & 255)) $(($1 >> 8 & 255)) $(($1 >> 16 & 255)) $(($1 >> 24 & 255))
}
`;

/**
 * A shell script of curl commands. It can run as it is: its variables take the ids of sessions, descriptors and maps
 * from the responses.
 */
export class CurlTarget implements Target {
  readonly answers = false;
  readonly window = 1;
  readonly #write: Write;
  #begun = false;

  constructor(write: Write) {
    this.#write = write;
  }

  async send(call: Call, event: Event, recorded: Answer): Promise<Answer> {
    if (!this.#begun) await this.#write(HEAD);
    this.#begun = true;
    const answer = named(event, recorded);
    await this.#write(`\n# ${comment(event, recorded)}\n${commandText(httpRequest(call), call, recorded, answer)}`);
    return answer;
  }
}

/** The recorded answer, with shell variables in place of ids. */
function named({ command }: Event, recorded: Answer): Answer {
  if (recorded.errno !== null) return recorded;
  return {
    ...recorded,
    ...(typeof recorded.ret === "number" &&
      recorded.ret > 0 && { ret: token(`s${command.session}_fd${recorded.ret}`) }),
    ...(recorded.session !== undefined && { session: token(`s${recorded.session}`) }),
    ...(recorded.map !== undefined && { map: token(`m${recorded.map}`) }),
  };
}

function comment({ seq, command }: Event, { ret, errno }: Answer): string {
  const name = cmdName(cmdNumber(command)) ?? "a command of another kind";
  return visible(`${seq} ${name}: ${errno ?? `returned ${ret}`}`);
}

/** The response fields that later commands need, and the variables that take them. */
function captures(call: Call, answer: Answer): (readonly [field: string, id: string])[] {
  const ids = [
    ["id", answer.session],
    [call.kind === "bpf" ? "ret" : "fd", answer.ret],
    ["map_id", call.kind === "create" ? answer.map : undefined],
  ] as const;
  return ids.flatMap(([field, id]) => (isToken(id) ? [[field, id] as const] : []));
}

function commandText(request: HttpRequest, call: Call, recorded: Answer, answer: Answer): string {
  const sent = sentText(request);
  const taken = recorded.errno === null ? captures(call, answer) : [];
  if (taken.length === 0) return `${sent}\n`;
  const lines = taken.map(([field, id]) => `${variableOf(id)}=$(field ${field} "$answer")`);
  return [`answer=$(${sent})`, `printf '%s\\n' "$answer"`, ...lines, ""].join("\n");
}

function sentText({ method, path, body, headers }: HttpRequest): string {
  if (typeof body === "string") return `json ${method} ${quoted(path)} ${quoted(body)}`;
  const options = Object.entries(headers).map(([name, value]) => ` -H ${quoted(`${name}: ${value}`)}`);
  const sent = `send ${method} ${quoted(path)}${options.join("")}`;
  return body === null ? sent : `printf '${octal(body)}' | ${sent} --data-binary @-`;
}

/**
 * A word in the shell's quotes; variables are outside of the quotes and expanded when the script runs. Invisible
 * characters are escaped: they occur only within JSON, where an escape means the same; paths are percent-encoded.
 */
function quoted(text: string): string {
  return parts(text)
    .map((part) => {
      if (typeof part === "string") return `'${visible(part).replaceAll("'", "'\\''")}'`;
      return part.hex ? `"$(le32 "$${part.variable}")"` : `"$${part.variable}"`;
    })
    .join("");
}

function octal(bytes: Buffer): string {
  return [...bytes].map((byte) => `\\${byte.toString(8).padStart(3, "0")}`).join("");
}
