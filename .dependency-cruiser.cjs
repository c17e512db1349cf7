/**
 * The rings of ARCHITECTURE.md: imports go down only, siblings do not see each other.
 * Each ring may import itself and what is listed; main files may import everything.
 */
const CORE = ["syscall", "maps", "abi"];
const RINGS = {
  abi: [],
  access: [],
  files: [],
  net: [],
  supervisor: [],
  tlog: [],
  maps: ["abi"],
  btf: ["maps", "abi"],
  syscall: ["btf", "maps", "access", "abi"],
  codec: CORE,
  log: ["tlog", ...CORE],
  tree: ["supervisor", "log", "tlog", ...CORE],
  replay: ["log", "codec", ...CORE],
  client: ["replay", "log", "codec", ...CORE],
  engine: ["supervisor", "access", "log", "codec", ...CORE],
  past: ["engine", "supervisor", "access", "log", "codec", ...CORE],
  http: ["net", "past", "tree", "engine", "replay", "supervisor", "access", "log", "tlog", "codec", ...CORE],
  sqlite: ["past", "tree", "engine", "supervisor", "replay", "log", "tlog", "codec", ...CORE],
  index: ["sqlite", "engine", "supervisor", "log", "codec", ...CORE],
  lmdb: ["engine", "supervisor", "log", "codec", ...CORE],
  native: ["maps", "abi"],
  mirror: ["native", "engine", "supervisor", "replay", "log", "tlog", "codec", "btf", ...CORE],
  archive: ["engine", "log", "tlog", "codec", ...CORE, "files"],
  data: [
    "archive",
    "index",
    "lmdb",
    "runs",
    "sqlite",
    "past",
    "tree",
    "engine",
    "supervisor",
    "files",
    "access",
    "log",
    "tlog",
    "codec",
    ...CORE,
    "host\\.ts",
  ],
  backup: ["data", "archive", "sqlite", "tree", "log", "tlog", "files", "version\\.ts", ...CORE],
  verify: [
    "data",
    "archive",
    "index",
    "sqlite",
    "lmdb",
    "runs",
    "past",
    "tree",
    "engine",
    "files",
    "access",
    "log",
    "tlog",
    ...CORE,
    "host\\.ts",
  ],
  witness: ["sqlite", "log", "tlog", "files", "net"],
  runs: ["engine", "supervisor", "files", "log", ...CORE],
  // Rooms for what comes: typed values, whole sets of elements, the supervisor of programs.
  typed: ["btf", "maps", "abi"],
  sets: ["typed", "btf", "maps", "abi"],
  run: ["native", "client", "replay", "log", "codec", ...CORE],
};
/** The rooms of src/http, a ladder of their own below app.ts and parts.ts, which no room imports. */
const HTTP_ROOMS = {
  schemas: [],
  server: ["schemas"],
  jobs: ["views", "server", "schemas"],
  views: ["server", "schemas"],
  streams: ["views", "server", "schemas"],
  routes: ["streams", "views", "jobs", "server", "schemas"],
};
const PURE = ["abi", "access", "maps", "btf", "syscall", "codec", "tlog", "log", "replay", "typed", "sets"];

module.exports = {
  forbidden: [
    ...Object.entries(RINGS).map(([ring, below]) => ({
      name: `${ring}-imports-down`,
      severity: "error",
      from: { path: `^src/${ring}/` },
      to: { path: "^src/", pathNot: `^src/(${[ring, ...below].join("|")}|config\\.ts|data/layout\\.ts)(/|$)` },
    })),
    ...Object.entries(HTTP_ROOMS).map(([room, below]) => ({
      name: `http-${room}-imports-down`,
      severity: "error",
      from: { path: `^src/http/${room}/` },
      to: { path: "^src/http/", pathNot: `^src/http/(${[room, ...below].join("|")})/` },
    })),
    {
      name: "pure-rings-know-no-settings",
      severity: "error",
      from: { path: `^src/(${PURE.join("|")}|tree|engine|past)/` },
      to: { path: "^src/config\\.ts$" },
    },
    {
      name: "pure-rings-do-no-io",
      severity: "error",
      from: { path: `^src/(${PURE.join("|")})/` },
      to: { dependencyTypes: ["core", "npm"], pathNot: "^(node:)?(crypto|buffer)$" },
    },
    {
      name: "bpftool-talks-to-a-service",
      severity: "error",
      from: { path: "^src/cli/bpftool/" },
      to: { path: "^src/", pathNot: "^src/(cli/bpftool|client|typed|btf|abi)/" },
    },
    {
      name: "one-place-for-native-memory",
      severity: "error",
      from: { path: "^src/", pathNot: "^src/native/(libc|probe)\\.ts$" },
      to: { path: "node_modules/koffi" },
    },
    {
      name: "no-circles",
      severity: "error",
      from: {},
      to: { circular: true },
    },
  ],
  options: {
    doNotFollow: { path: "node_modules" },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: "tsconfig.json" },
    enhancedResolveOptions: {
      exportsFields: ["exports"],
      conditionNames: ["import", "require", "node", "default", "types"],
    },
  },
};
