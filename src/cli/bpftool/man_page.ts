/** The man page mapledger(1), in roff, made of the tree. */

import type { About } from "./call.ts";
import type { Command } from "./description.ts";
import { LEGEND, optionText, usageOf } from "./help.ts";
import { OPTIONS } from "./options.ts";
import { ALONE, GROUPS, type Group } from "./tree.ts";

const HEAD = `.SH NAME
mapledger \\- bpf(2)'s map commands as a service with a memory
.SH SYNOPSIS
.B mapledger
[\\fIOPTIONS\\fR] { \\fBmap\\fR | \\fBevent\\fR | \\fBsession\\fR } \\fICOMMAND\\fR
.br
.B mapledger
[\\fIOPTIONS\\fR] \\fBbatch file\\fR \\fIFILE\\fR
.br
.B mapledger
\\fICOMMAND\\fR [\\fIOPTIONS\\fR]
.SH DESCRIPTION
The commands of the first two forms ask a running service, in the words of bpftool(8). A word may be cut to its beginning: the
first command that begins so is meant. The commands of the third form run a service, or work on its log.
`;

const EXIT = `.SH EXIT STATUS
0: success. 255: wrong usage, or an error that no errno names. Otherwise 256 less the errno, as of bpftool(8): 254 if there is no
such element.
`;

const FILES = `.SH ENVIRONMENT
.TP
.B MAPLEDGER_SOCKET
The path of the service's unix socket.
.TP
.B MAPLEDGER_DATA
The service's data directory, with its socket and its token.
.TP
.B MAPLEDGER_TOKEN
The bearer token for the service.
.TP
.B NO_COLOR
If it is set, nothing is coloured.
.SH SEE ALSO
bpftool(8), bpftool\\-map(8), bpf(2)
`;

export function manPage({ version, others }: About): string {
  const parts = [`.TH MAPLEDGER 1 "" "mapledger ${version}" "User Commands"\n`, HEAD, optionsPart()];
  for (const group of GROUPS) parts.push(section(`${group.word} commands`, group, group.commands));
  parts.push(section("other commands in bpftool's words", null, ALONE), wordsPart());
  parts.push(`.SH COMMANDS OF THE SERVICE\n`);
  for (const { usage, description } of others)
    parts.push(`.TP\n.B ${text(`mapledger ${usage}`)}\n${text(description)}\n`);
  return [...parts, EXIT, FILES].join("");
}

function optionsPart(): string {
  const rows = OPTIONS.map(
    (row) => `.TP\n.B ${text(optionText(row))}\n${text(`${row.text[0]?.toUpperCase()}${row.text.slice(1)}.`)}\n`,
  );
  return `.SH OPTIONS\n${rows.join("")}`;
}

function section(title: string, group: Group | null, commands: readonly Command[]): string {
  const rows = commands.map((command) => {
    const examples = command.examples.map(
      ([words, does]) => `.RS\n.nf\n${text(`mapledger ${words}`)}\n.fi\n${text(does)}\n.RE\n`,
    );
    return `.TP\n.B ${text(usageOf(group, command))}\n${text(command.text)}\n${examples.join("")}`;
  });
  return `.SH ${title.toUpperCase()}\n${rows.join("")}`;
}

function wordsPart(): string {
  return `.SH ARGUMENTS\n${LEGEND.map(([name, means]) => `.TP\n.I ${name}\n${text(means)}\n`).join("")}`;
}

/** A text in which roff finds nothing of its own. */
function text(plain: string): string {
  const escaped = plain.replaceAll("\\", "\\e").replaceAll("-", "\\-");
  return /^[.']/.test(escaped) ? `\\&${escaped}` : escaped;
}
