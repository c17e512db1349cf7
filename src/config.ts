/**
 * The service's settings. SETTINGS is the only list of them: the documented table must equal it, which a test checks.
 */

import { availableParallelism } from "node:os";
import { BTF_BYTES_MAX } from "./abi/limits.ts";
import { type Limits, QUOTAS, type QuotaName } from "./access/quotas.ts";
import { isKeyName } from "./tlog/note.ts";

export interface Settings {
  readonly host: string;
  /** null: the service does not listen on TCP. */
  readonly port: number | null;
  readonly socket: string;
  readonly socketMode: number;
  readonly socketGroup: string;
  readonly auth: "on" | "off";
  readonly data: string;
  readonly archive: string;
  readonly mirror: "auto" | "off" | "required";
  readonly bpffs: string;
  readonly openRoots: string;
  readonly cpus: number;
  readonly tokens: string;
  readonly tls: "on" | "off";
  readonly tlsCert: string;
  readonly tlsKey: string;
  readonly tlsClientCa: string;
  readonly logLevel: string;
  readonly sessionTtlSeconds: number;
  readonly sessionTtlMaxSeconds: number;
  readonly attachGraceSeconds: number;
  readonly origin: string;
  readonly checkpointEvents: number;
  readonly checkpointSeconds: number;
  readonly witnesses: string;
  readonly publicEvidence: "on" | "off";
  readonly bodyBytesMax: number;
  readonly flightBytesMax: number;
  readonly stallSeconds: number;
  readonly pageElementsMax: number;
  readonly restoreElementsMax: number;
  readonly btfBytesMax: number;
  readonly valueBytesMax: number;
  readonly httpThreads: number;
  readonly queueCommandsMax: number;
  readonly queueBytesMax: number;
  readonly bookmarkSeconds: number;
  readonly lagEventsMax: number;
  readonly readLog: "on" | "off";
  readonly streamsMax: number;
  /** Quotas of each caller; 0: no limit. */
  readonly callerSessionsMax: number;
  readonly callerMapsMax: number;
  readonly callerDescriptorsMax: number;
  readonly callerPinsMax: number;
  readonly callerObjectsMax: number;
  readonly callerBytesMax: number;
  readonly callerKernelBytesMax: number;
  readonly callerStreamsMax: number;
  readonly callerJobsMax: number;
  /** "kernel", and URLs' origins. */
  readonly replayTargets: readonly string[];
}

/**
 * A setting: its variable and default; `takes` describes the accepted values, `what` its effect, and `read` parses a
 * value.
 */
interface Setting<Value> {
  readonly variable: string;
  readonly fallback: Value;
  readonly takes: string;
  readonly what: string;
  /** The default as the documented table shows it, if it is not just the text of `fallback`. */
  readonly written?: string;
  /** Returns undefined if the text is not an accepted value. */
  readonly read: (text: string) => Value | undefined;
}

const ON_OFF = ["on", "off"] as const;
const MODES = ["auto", "off", "required"] as const;
const LEVELS = ["fatal", "error", "warn", "info", "debug", "trace", "silent"];
const MIB = 1024 * 1024;
/** The largest quota, 256 TiB: more than a machine has of any of these. */
const QUOTA_MAX = 2 ** 48;
/** More do not help: three fill the engine's thread. */
const HTTP_THREADS_USUAL = 4;
/** Each has six descriptors of its own, for which `mirror/descriptor_limit.ts` leaves room. */
const HTTP_THREADS_MAX = 8;
/** NR_CPUS of an x86-64 kernel with CONFIG_MAXSMP. */
export const CPUS_MAX = 8192;

export const SETTINGS: { readonly [Name in keyof Settings]: Setting<Settings[Name]> } = {
  host: text(
    "MAPLEDGER_HOST",
    "127.0.0.1",
    "address to listen on; other than loopback, it needs TLS, or `MAPLEDGER_TLS=off` if a proxy speaks TLS",
  ),
  port: portSetting(),
  socket: text(
    "MAPLEDGER_SOCKET",
    "",
    "path of the unix socket to listen on; empty: `mapledger.sock` in the data directory; `none`: no unix socket",
  ),
  socketMode: {
    variable: "MAPLEDGER_SOCKET_MODE",
    fallback: 0o600,
    written: "0600",
    takes: "a mode in octal, for example 0660",
    what: "mode of the unix socket, which says who may connect; its directory must be searchable for them, too",
    read: (given) => (/^0?[0-7]{3}$/.test(given) ? Number.parseInt(given, 8) : undefined),
  },
  socketGroup: text(
    "MAPLEDGER_SOCKET_GROUP",
    "",
    "group of the unix socket, by name or number; empty: the group of the service",
  ),
  auth: {
    variable: "MAPLEDGER_AUTH",
    fallback: "on",
    takes: "on or off",
    what: "`off`: anyone who reaches the TCP port may do everything without a token; allowed on loopback only",
    read: (given) => ON_OFF.find((word) => word === given),
  },
  data: text("MAPLEDGER_DATA", "./data", "directory of the log and the state"),
  archive: text("MAPLEDGER_ARCHIVE", "", "folder of the archive; empty: `archive/` in the data directory"),
  mirror: {
    variable: "MAPLEDGER_MIRROR",
    fallback: "auto",
    takes: "auto, off or required",
    what: "whether kernel maps follow the state; with `required`, the service does not start if they cannot",
    read: (given) => MODES.find((mode) => mode === given),
  },
  bpffs: {
    ...text(
      "MAPLEDGER_BPFFS",
      "/sys/fs/bpf/mapledger",
      "directory on bpffs in which kernel maps are pinned. If it is the root of a bpffs, such as `/sys/fs/bpf`, maps are pinned at the ledger's own paths, and the service's own entries are in `mapledger/`",
    ),
    takes: "an absolute path",
    read: (given) => (given.startsWith("/") && given.length > 1 ? given.replace(/\/+$/, "") : undefined),
  },
  openRoots: {
    ...text(
      "MAPLEDGER_OPEN_ROOTS",
      "/sys/fs/bpf:/sys/fs/cgroup",
      "directories below which sessions may open files, directories, cgroups and pinned programs; empty: none",
    ),
    takes: "absolute paths, separated by colons",
    read: (given) => (given.split(":").every((root) => root === "" || root.startsWith("/")) ? given : undefined),
  },
  cpus: integer(
    "MAPLEDGER_CPUS",
    0,
    0,
    CPUS_MAX,
    "number of CPUs that a per-CPU value has room for; 0: the possible CPUs of this machine. The log keeps the number from its first start on",
  ),
  tokens: text(
    "MAPLEDGER_TOKENS",
    "",
    "file of callers other than the owner: hashes of their tokens, uids and certificates, and their scopes",
  ),
  tls: {
    variable: "MAPLEDGER_TLS",
    fallback: "on",
    takes: "on or off",
    what: "`off`: the TCP port may listen on other addresses than loopback without TLS, because a proxy speaks TLS",
    read: (given) => ON_OFF.find((word) => word === given),
  },
  tlsCert: text(
    "MAPLEDGER_TLS_CERT",
    "",
    "file with the certificate and its chain, in PEM; empty: the TCP port does not use TLS",
  ),
  tlsKey: text("MAPLEDGER_TLS_KEY", "", "file of the certificate's key, in PEM"),
  tlsClientCa: text(
    "MAPLEDGER_TLS_CLIENT_CA",
    "",
    "file with the authorities that sign clients' certificates, in PEM: a client's certificate then identifies its caller, without a token",
  ),
  logLevel: {
    variable: "MAPLEDGER_LOG_LEVEL",
    fallback: "info",
    takes: LEVELS.join(", "),
    what: "lowest level of log lines that are written to standard output",
    read: (given) => (LEVELS.includes(given) ? given : undefined),
  },
  sessionTtlSeconds: integer(
    "MAPLEDGER_SESSION_TTL",
    600,
    1,
    31_536_000,
    "seconds that a session lives without a command, unless it asks for another time",
  ),
  sessionTtlMaxSeconds: integer(
    "MAPLEDGER_SESSION_TTL_MAX",
    604_800,
    1,
    31_536_000,
    "longest time in seconds that a session may ask for",
  ),
  attachGraceSeconds: integer(
    "MAPLEDGER_ATTACH_GRACE",
    5,
    0,
    3_600,
    "seconds after the end of an attached stream until its session ends",
  ),
  origin: {
    ...text(
      "MAPLEDGER_ORIGIN",
      "",
      "name of the log in its checkpoints; empty: `mapledger/` and the log's id. It cannot change once a checkpoint is signed",
    ),
    takes: "a name without spaces and plus signs",
    read: (given) => (given === "" || isKeyName(given) ? given : undefined),
  },
  checkpointEvents: integer(
    "MAPLEDGER_CHECKPOINT_EVENTS",
    100_000,
    0,
    1_000_000_000,
    "number of events after which a checkpoint is signed automatically; 0: never for their number",
  ),
  checkpointSeconds: integer(
    "MAPLEDGER_CHECKPOINT_SECONDS",
    60,
    0,
    31_536_000,
    "longest time in seconds from an event to a signed checkpoint that includes it; 0: no limit. If both are 0, no checkpoint is signed when the service stops, either",
  ),
  witnesses: text(
    "MAPLEDGER_WITNESSES",
    "",
    "file of witnesses that cosign the log's checkpoints: each line has a verifier key and a URL; empty: no witnesses",
  ),
  publicEvidence: {
    variable: "MAPLEDGER_PUBLIC_EVIDENCE",
    fallback: "off",
    takes: "on or off",
    what: "`on`: `/checkpoint` and `/tile/` need no token, because clients of C2SP's transparency logs send none; they show only hashes",
    read: (given) => ON_OFF.find((word) => word === given),
  },
  bodyBytesMax: integer(
    "MAPLEDGER_BODY_MAX",
    64 * MIB,
    1_024,
    1_024 * MIB,
    "most bytes of a request's body; a body without elements and values may have 512 KiB",
  ),
  flightBytesMax: integer(
    "MAPLEDGER_FLIGHT_BYTES_MAX",
    256 * MIB,
    1_024,
    65_536 * MIB,
    "most bytes of large bodies and answers that are held at once; a caller other than the owner may use half of them. Requests beyond it get 503, but a body of any size is accepted if nothing else is held",
  ),
  stallSeconds: integer(
    "MAPLEDGER_STALL",
    60,
    1,
    3_600,
    "seconds after which a connection is closed if the client sends nothing of a large body, or reads nothing of a large answer",
  ),
  pageElementsMax: integer(
    "MAPLEDGER_PAGE_MAX",
    10_000,
    1,
    1_000_000,
    "most elements, events, sessions, maps or pins in a page, but never more than 1000 maps, pins or directories, or 100 sessions",
  ),
  restoreElementsMax: integer(
    "MAPLEDGER_RESTORE_MAX",
    10_000,
    1,
    100_000_000,
    "most elements that a restore adds, changes and removes; all its commands together may have as many KiB. The restore is atomic, and all other commands wait for it",
  ),
  btfBytesMax: integer(
    "MAPLEDGER_BTF_MAX",
    512 * 1024,
    1_024,
    BTF_BYTES_MAX,
    "most bytes of BTF that BPF_BTF_LOAD accepts; more fails with E2BIG. All other commands wait while BTF is checked",
  ),
  valueBytesMax: integer(
    "MAPLEDGER_VALUE_MAX",
    4 * MIB,
    1_024,
    1_024 * MIB,
    "most bytes of a new map's value, for all CPUs together; a map with larger values fails with E2BIG. All other commands wait while a value is written",
  ),
  httpThreads: {
    ...integer(
      "MAPLEDGER_HTTP_THREADS",
      Math.max(1, Math.min(HTTP_THREADS_USUAL, availableParallelism() - 1)),
      1,
      HTTP_THREADS_MAX,
      "threads that serve the TCP port. One does everything; with more, the others answer requests for single elements themselves, and pass all other requests on to it",
    ),
    written: "the cores but one, from 1 to 4",
  },
  queueCommandsMax: integer(
    "MAPLEDGER_QUEUE_MAX",
    10_000,
    1,
    10_000_000,
    "most commands that wait for the engine; requests beyond it get 503",
  ),
  queueBytesMax: integer(
    "MAPLEDGER_QUEUE_BYTES_MAX",
    256 * MIB,
    1_024,
    16_384 * MIB,
    "most bytes of commands that wait for the engine",
  ),
  bookmarkSeconds: integer(
    "MAPLEDGER_BOOKMARK",
    10,
    1,
    3_600,
    "seconds after which a stream without other messages reports the seq that it has reached",
  ),
  lagEventsMax: integer(
    "MAPLEDGER_LAG_MAX",
    10_000,
    1,
    1_000_000_000,
    "number of events by which a stream may lag behind the log before it reports the lag; it loses no event",
  ),
  readLog: {
    variable: "MAPLEDGER_READ_LOG",
    fallback: "off",
    takes: "on or off",
    what: "`on`: reads without an event (lists, events, histories, watches, diffs, proofs, `?at=`) write a line to the service's log, at level info",
    read: (given) => ON_OFF.find((word) => word === given),
  },
  streamsMax: integer(
    "MAPLEDGER_STREAMS_MAX",
    10_000,
    0,
    100_000,
    "most streams at once, but never so many that they would take the connections that requests need; requests beyond it get 503",
  ),
  callerSessionsMax: quota("sessions", 10_000, "most sessions of one caller at once; more fail with EAGAIN"),
  callerMapsMax: quota("maps", 10_000, "most maps at once that one caller has created; more fail with ENOSPC"),
  callerDescriptorsMax: quota(
    "descriptors",
    65_536,
    "most descriptors in all sessions of one caller; more fail with EMFILE, as do more than 1,021 in one session",
  ),
  callerPinsMax: quota(
    "pins",
    10_000,
    "most pins and directories of bpffs at once that one caller has made; more fail with ENOSPC",
  ),
  callerObjectsMax: quota(
    "objects",
    10_000,
    "most programs, sockets, cgroups, BTF blobs and other objects at once that one caller was the first to open; more fail with EMFILE",
  ),
  callerBytesMax: quota(
    "bytes",
    8192 * MIB,
    "most bytes of keys and values in the maps that one caller has created; more fail with ENOMEM",
  ),
  callerKernelBytesMax: quota(
    "kernel_bytes",
    8192 * MIB,
    "most bytes of kernel memory for the maps and BTF that one caller has created, counted even if no kernel maps follow; more fail with ENOMEM",
  ),
  callerStreamsMax: quota("streams", 50, "most streams of one caller at once; requests beyond it get 503"),
  callerJobsMax: quota("jobs", 4, "most replays and archive jobs of one caller at once; requests beyond it get 503"),
  replayTargets: {
    variable: "MAPLEDGER_REPLAY_TARGETS",
    fallback: [],
    takes: "`kernel` and http or https URLs without a path, separated by commas",
    what: "targets of `POST /v1/replays`: `kernel` and URLs such as `http://10.0.0.5:8620`, separated by commas; empty: none",
    read: readTargets,
  },
};

/** Variables of the command line, the examples and exported scripts, which the service ignores. */
const OF_CLIENTS: ReadonlySet<string> = new Set(["MAPLEDGER_URL", "MAPLEDGER_TOKEN", "MAPLEDGER_SOURCE_TOKEN"]);

type Environment = Readonly<Record<string, string | undefined>>;

/**
 * Warns of variables that have the service's prefix but are not settings. The service starts nevertheless, because a
 * container may be given more variables.
 */
export function settingWarnings(environment: Environment): string[] {
  const known = Object.values(SETTINGS).map(({ variable }) => variable);
  const strange = Object.keys(environment).filter(
    (variable) => variable.startsWith("MAPLEDGER_") && !known.includes(variable) && !OF_CLIENTS.has(variable),
  );
  return strange.map(
    (variable) => `${variable} is not a setting, and is ignored: the nearest one is ${nearest(variable, known)}`,
  );
}

/** The name with the smallest edit distance, ignoring case; of several, the first. */
function nearest(text: string, names: readonly string[]): string {
  const upper = text.toUpperCase();
  return names.reduce((best, name) => (changes(upper, name) < changes(upper, best) ? name : best));
}

/** Levenshtein's distance: the least number of added, removed or replaced characters that turns `from` into `to`. */
function changes(from: string, to: string): number {
  let row = Array.from({ length: to.length + 1 }, (_, at) => at);
  for (const [at, character] of [...from].entries()) {
    const next = [at + 1];
    for (const [column, other] of [...to].entries())
      next.push(
        Math.min(
          (next[column] as number) + 1,
          (row[column + 1] as number) + 1,
          (row[column] as number) + (character === other ? 0 : 1),
        ),
      );
    row = next;
  }
  return row.at(-1) as number;
}

/** Throws an Error that names the variable and the accepted values. */
export function readSettings(environment: Environment): Settings {
  const settings: { -readonly [Name in keyof Settings]?: unknown } = {};
  for (const [name, setting] of Object.entries(SETTINGS)) {
    const given = environment[setting.variable];
    const value = given === undefined ? setting.fallback : (setting as Setting<unknown>).read(given);
    if (value === undefined)
      throw new Error(`${setting.variable} takes ${setting.takes}, found ${JSON.stringify(given)}`);
    settings[name as keyof Settings] = value;
  }
  return settings as Settings;
}

function readTargets(given: string): readonly string[] | undefined {
  const targets =
    given === "" ? [] : given.split(",").map((target) => (target === "kernel" ? target : originOf(target)));
  return targets.every((target) => target !== null) ? targets : undefined;
}

/** The origin of a URL that has only a scheme, a host and a port; null if it has more. */
function originOf(text: string): string | null {
  const url = URL.canParse(text) ? new URL(text) : null;
  return url !== null && /^https?:$/.test(url.protocol) && url.href === `${url.origin}/` ? url.origin : null;
}

function text(variable: string, fallback: string, what: string): Setting<string> {
  return { variable, fallback, takes: "text", what, read: (given) => given };
}

function portSetting(): Setting<number | null> {
  const port = integer(
    "MAPLEDGER_PORT",
    8620,
    0,
    65_535,
    "TCP port; 0 takes a free one; empty: the service does not listen on TCP",
  );
  return {
    ...port,
    takes: `${port.takes}, or nothing`,
    read: (given) => (given === "" ? null : port.read(given)),
  };
}

/** A quota of each caller; 0: no limit. */
function quota(name: QuotaName, fallback: number, what: string): Setting<number> {
  return integer(QUOTAS[name].variable, fallback, 0, QUOTA_MAX, `${what}; 0: no quota`);
}

/** Each caller's quotas, from the settings. */
export function limitsOf(settings: Settings): Limits {
  return {
    sessions: settings.callerSessionsMax,
    maps: settings.callerMapsMax,
    descriptors: settings.callerDescriptorsMax,
    pins: settings.callerPinsMax,
    objects: settings.callerObjectsMax,
    bytes: settings.callerBytesMax,
    kernel_bytes: settings.callerKernelBytesMax,
    streams: settings.callerStreamsMax,
    jobs: settings.callerJobsMax,
  };
}

function integer(variable: string, fallback: number, least: number, most: number, what: string): Setting<number> {
  return {
    variable,
    fallback,
    takes: `an integer from ${least} to ${most}`,
    what,
    read(given) {
      if (!/^\d{1,15}$/.test(given)) return undefined;
      const number = Number(given);
      return number >= least && number <= most ? number : undefined;
    },
  };
}
