/**
 * The rings of ARCHITECTURE.md: imports go down only, siblings do not see each other.
 * Each ring may import itself and what is listed; main files may import everything.
 */
const RINGS = {
  abi: [],
  access: [],
  maps: ["abi"],
  syscall: ["maps", "access", "abi"],
  codec: ["syscall", "maps", "abi"],
  log: ["syscall", "maps", "abi"],
  replay: ["log", "codec", "syscall", "maps", "abi"],
  client: ["replay", "log", "codec", "syscall", "maps", "abi"],
  engine: ["access", "log", "codec", "syscall", "maps", "abi"],
  http: ["access", "own_access\\.ts", "pipelines\\.ts", "engine", "replay", "log", "codec", "syscall", "maps", "abi"],
  sqlite: ["engine", "replay", "log", "codec", "syscall", "maps", "abi"],
  lmdb: ["engine", "log", "codec", "syscall", "maps", "abi"],
  archive: ["engine", "log", "codec", "syscall", "maps", "abi", "files\\.ts", "plain_files\\.ts"],
  backup: [
    "archive",
    "sqlite",
    "engine",
    "log",
    "log_key\\.ts",
    "version\\.ts",
    "files\\.ts",
    "owner\\.ts",
    "plain_files\\.ts",
  ],
  verify: [
    "access",
    "archive",
    "sqlite",
    "lmdb",
    "engine",
    "log",
    "syscall",
    "maps",
    "abi",
    "host\\.ts",
    "data_version\\.ts",
    "files\\.ts",
    "log_key\\.ts",
    "plain_files\\.ts",
  ],
  witness: ["sqlite", "log", "files\\.ts", "pipelines\\.ts", "private_files\\.ts"],
  mirror: ["engine", "replay", "log", "codec", "syscall", "maps", "abi"],
};
const PURE = ["abi", "access", "maps", "syscall", "codec", "log", "replay"];

module.exports = {
  forbidden: [
    ...Object.entries(RINGS).map(([ring, below]) => ({
      name: `${ring}-imports-down`,
      severity: "error",
      from: { path: `^src/${ring}/` },
      to: { path: "^src/", pathNot: `^src/(${[ring, ...below].join("|")}|config\\.ts)(/|$)` },
    })),
    {
      name: "pure-rings-know-no-settings",
      severity: "error",
      from: { path: `^src/(${PURE.join("|")}|engine)/` },
      to: { path: "^src/config\\.ts$" },
    },
    {
      name: "pure-rings-do-no-io",
      severity: "error",
      from: { path: `^src/(${PURE.join("|")})/` },
      to: { dependencyTypes: ["core", "npm"], pathNot: "^(node:)?(crypto|buffer)$" },
    },
    {
      name: "one-place-for-native-memory",
      severity: "error",
      from: { path: "^src/", pathNot: "^src/mirror/bpf\\.ts$" },
      to: { path: "node_modules/koffi" },
    },
    {
      name: "no-circles",
      severity: "error",
      from: {},
      to: { circular: true, viaOnly: { dependencyTypesNot: ["type-only"] } },
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
