import { isKeyName } from "./log/note.ts";

export interface Settings {
  readonly host: string;
  /** null: none. */
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
  readonly bodyBytesMax: number;
  readonly pageElementsMax: number;
  readonly queueCommandsMax: number;
  readonly queueBytesMax: number;
  readonly bookmarkSeconds: number;
  readonly lagEventsMax: number;
  readonly streamsMax: number;
  readonly callerStreamsMax: number;
  /** "kernel", and origins of URLs. */
  readonly replayTargets: readonly string[];
}

/** One setting: its variable, its default, what it takes, in words and as a reader. */
interface Setting<Value> {
  readonly variable: string;
  readonly fallback: Value;
  readonly takes: string;
  readonly what: string;
  /** The default as it is written, where that is not plain. */
  readonly written?: string;
  /** undefined: the text is not what it takes. */
  readonly read: (text: string) => Value | undefined;
}

const ON_OFF = ["on", "off"] as const;
const MODES = ["auto", "off", "required"] as const;
const LEVELS = ["fatal", "error", "warn", "info", "debug", "trace", "silent"];
const MIB = 1024 * 1024;

/** Every setting there is. The README's table is this one; a test holds them together. */
export const SETTINGS: { readonly [Name in keyof Settings]: Setting<Settings[Name]> } = {
  host: text(
    "MAPLEDGER_HOST",
    "127.0.0.1",
    "address to listen on; anything but loopback needs TLS, or the word that something in front does it",
  ),
  port: portSetting(),
  socket: text(
    "MAPLEDGER_SOCKET",
    "",
    "path of the unix socket to listen on; empty: `mapledger.sock` in the data directory; `none`: there is none",
  ),
  socketMode: {
    variable: "MAPLEDGER_SOCKET_MODE",
    fallback: 0o600,
    written: "0600",
    takes: "a mode in octal, as 0660",
    what: "who may connect to the unix socket; its directory must let them pass, too",
    read: (given) => (/^0?[0-7]{3}$/.test(given) ? Number.parseInt(given, 8) : undefined),
  },
  socketGroup: text(
    "MAPLEDGER_SOCKET_GROUP",
    "",
    "group that the unix socket is given to, by name or number; empty: the service's",
  ),
  auth: {
    variable: "MAPLEDGER_AUTH",
    fallback: "on",
    takes: "on or off",
    what: "`off`: whoever reaches the TCP port may do everything, without a token; on loopback alone",
    read: (given) => ON_OFF.find((word) => word === given),
  },
  data: text("MAPLEDGER_DATA", "./data", "directory of the log and the state"),
  archive: text("MAPLEDGER_ARCHIVE", "", "folder that events are archived to; empty: `archive/` in the data directory"),
  mirror: {
    variable: "MAPLEDGER_MIRROR",
    fallback: "auto",
    takes: "auto, off or required",
    what: "whether kernel maps follow the state; `required` stops the start where they cannot",
    read: (given) => MODES.find((mode) => mode === given),
  },
  bpffs: {
    ...text(
      "MAPLEDGER_BPFFS",
      "/sys/fs/bpf/mapledger",
      "directory on bpffs where kernel maps are pinned: at `/sys/fs/bpf`, or another bpffs' root, pins lie at the ledger's own paths, and the service's own entries in `mapledger/` below",
    ),
    takes: "an absolute path",
    read: (given) => (given.startsWith("/") && given.length > 1 ? given.replace(/\/+$/, "") : undefined),
  },
  openRoots: {
    ...text(
      "MAPLEDGER_OPEN_ROOTS",
      "/sys/fs/bpf:/sys/fs/cgroup",
      "directories below which files, directories, cgroups and pinned programs are opened for sessions; empty for none",
    ),
    takes: "absolute paths with colons between them",
    read: (given) => (given.split(":").every((root) => root === "" || root.startsWith("/")) ? given : undefined),
  },
  cpus: integer(
    "MAPLEDGER_CPUS",
    0,
    0,
    8_192,
    "CPUs that values of per-CPU maps are for; 0: as many as are possible here. Kept in the log: it cannot change later",
  ),
  tokens: text(
    "MAPLEDGER_TOKENS",
    "",
    "file of callers beside the owner: hashes of their tokens, uids and certificates, and their scopes",
  ),
  tls: {
    variable: "MAPLEDGER_TLS",
    fallback: "on",
    takes: "on or off",
    what: "`off`: off loopback, too, the TCP port needs no TLS, because something in front of it does it",
    read: (given) => ON_OFF.find((word) => word === given),
  },
  tlsCert: text(
    "MAPLEDGER_TLS_CERT",
    "",
    "file of the certificate, with its chain, in PEM; empty: the TCP port has no TLS",
  ),
  tlsKey: text("MAPLEDGER_TLS_KEY", "", "file of the certificate's key, in PEM"),
  tlsClientCa: text(
    "MAPLEDGER_TLS_CLIENT_CA",
    "",
    "file of the authorities, in PEM, that sign clients' certificates: a certificate names its caller, instead of a token",
  ),
  logLevel: {
    variable: "MAPLEDGER_LOG_LEVEL",
    fallback: "info",
    takes: LEVELS.join(", "),
    what: "least level of the log lines on standard output",
    read: (given) => (LEVELS.includes(given) ? given : undefined),
  },
  sessionTtlSeconds: integer(
    "MAPLEDGER_SESSION_TTL",
    600,
    1,
    31_536_000,
    "seconds a session lives without a command, unless it asks for others",
  ),
  sessionTtlMaxSeconds: integer(
    "MAPLEDGER_SESSION_TTL_MAX",
    604_800,
    1,
    31_536_000,
    "most seconds that a session may ask for",
  ),
  attachGraceSeconds: integer(
    "MAPLEDGER_ATTACH_GRACE",
    5,
    0,
    3_600,
    "seconds between the end of an attached stream and that of its session",
  ),
  origin: {
    ...text(
      "MAPLEDGER_ORIGIN",
      "",
      "what the log is called in its checkpoints; empty for `mapledger/` and the log's id. Once a checkpoint is signed it cannot change",
    ),
    takes: "a name without spaces and plus signs",
    read: (given) => (given === "" || isKeyName(given) ? given : undefined),
  },
  checkpointEvents: integer(
    "MAPLEDGER_CHECKPOINT_EVENTS",
    100_000,
    0,
    1_000_000_000,
    "events after which a checkpoint is signed without being asked for; 0: not by their number",
  ),
  checkpointSeconds: integer(
    "MAPLEDGER_CHECKPOINT_SECONDS",
    60,
    0,
    31_536_000,
    "seconds after an event by which a checkpoint that has it is signed; 0: not by time. With both 0 none is signed at a stop, either",
  ),
  bodyBytesMax: integer("MAPLEDGER_BODY_MAX", 64 * MIB, 1_024, 1_024 * MIB, "most bytes of a request's body"),
  pageElementsMax: integer(
    "MAPLEDGER_PAGE_MAX",
    10_000,
    1,
    1_000_000,
    "most elements, events, sessions, maps or pins in a page",
  ),
  queueCommandsMax: integer(
    "MAPLEDGER_QUEUE_MAX",
    10_000,
    1,
    10_000_000,
    "most commands that wait for the engine; beyond it requests get 503",
  ),
  queueBytesMax: integer(
    "MAPLEDGER_QUEUE_BYTES_MAX",
    256 * MIB,
    1_024,
    16_384 * MIB,
    "most bytes that wait for the engine",
  ),
  bookmarkSeconds: integer(
    "MAPLEDGER_BOOKMARK",
    10,
    1,
    3_600,
    "seconds after which a stream that has nothing else to tell says up to which seq it has looked",
  ),
  lagEventsMax: integer(
    "MAPLEDGER_LAG_MAX",
    10_000,
    1,
    1_000_000_000,
    "events that a stream may stand behind the log before it is told so; it loses nothing",
  ),
  streamsMax: integer("MAPLEDGER_STREAMS_MAX", 100, 0, 100_000, "most streams at once; beyond it requests get 503"),
  callerStreamsMax: integer(
    "MAPLEDGER_CALLER_STREAMS_MAX",
    50,
    0,
    100_000,
    "most streams of one caller at once; beyond it his requests get 503",
  ),
  replayTargets: {
    variable: "MAPLEDGER_REPLAY_TARGETS",
    fallback: [],
    takes: "kernel and URLs of http or https without a path, separated by commas",
    what: "where `POST /v1/replays` may send commands: `kernel` and URLs such as `http://10.0.0.5:8620`, separated by commas; empty: nowhere",
    read: readTargets,
  },
};

/** Reads the settings. Throws an Error that names the variable and what it takes. */
export function readSettings(environment: Readonly<Record<string, string | undefined>>): Settings {
  const known = new Set(Object.values(SETTINGS).map(({ variable }) => variable));
  for (const variable in environment)
    if (variable.startsWith("MAPLEDGER_") && !known.has(variable))
      throw new Error(`${variable} is no setting; there are ${[...known].join(", ")}`);
  const settings: Record<string, unknown> = {};
  for (const [name, setting] of Object.entries(SETTINGS)) {
    const given = environment[setting.variable];
    const value = given === undefined ? setting.fallback : (setting as Setting<unknown>).read(given);
    if (value === undefined)
      throw new Error(`${setting.variable} takes ${setting.takes}, found ${JSON.stringify(given)}`);
    settings[name] = value;
  }
  return settings as unknown as Settings;
}

function readTargets(given: string): readonly string[] | undefined {
  const targets =
    given === "" ? [] : given.split(",").map((target) => (target === "kernel" ? target : originOf(target)));
  return targets.every((target) => target !== null) ? targets : undefined;
}

/** Scheme, host and port of a URL that has nothing else. */
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
    "TCP port; 0 takes a free one; empty: there is none, but for the unix socket",
  );
  return {
    ...port,
    takes: `${port.takes}, or nothing`,
    read: (given) => (given === "" ? null : port.read(given)),
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
