import { once } from "node:events";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import t from "tap";
import { readSettings, SETTINGS, settingWarnings } from "../src/config.ts";
import { spawnService, startService } from "./support/service_process.ts";

t.test("settings that are not given have their defaults", (t) => {
  const settings = readSettings({ PATH: "/bin" });
  for (const [name, { fallback }] of Object.entries(SETTINGS))
    t.equal(settings[name as keyof typeof settings], fallback, name);
  t.end();
});

t.test("settings are read from their variables", (t) => {
  t.match(readSettings({ MAPLEDGER_PORT: "0", MAPLEDGER_MIRROR: "required", MAPLEDGER_BPFFS: "/sys/fs/bpf/x/" }), {
    port: 0,
    mirror: "required",
    bpffs: "/sys/fs/bpf/x",
  });
  t.end();
});

t.test("targets of replays are the kernel and origins", (t) => {
  const read = (given: string) => readSettings({ MAPLEDGER_REPLAY_TARGETS: given }).replayTargets;
  t.strictSame(read(""), []);
  t.strictSame(read("kernel,HTTP://Ledger.example:80/,https://[::1]:8620"), [
    "kernel",
    "http://ledger.example",
    "https://[::1]:8620",
  ]);
  t.end();
});

t.test("a wrong setting is named, with what it takes and what was found", (t) => {
  const wrong: [Record<string, string>, RegExp][] = [
    [{ MAPLEDGER_PORT: "http" }, /^MAPLEDGER_PORT takes an integer from 0 to 65535, or nothing, found "http"$/],
    [{ MAPLEDGER_PORT: "65536" }, /^MAPLEDGER_PORT takes an integer from 0 to 65535, or nothing, found "65536"$/],
    [{ MAPLEDGER_PORT: "-1" }, /^MAPLEDGER_PORT takes/],
    [{ MAPLEDGER_PORT: " " }, /^MAPLEDGER_PORT takes/],
    [
      { MAPLEDGER_SOCKET_MODE: "0999" },
      /^MAPLEDGER_SOCKET_MODE takes a mode in octal, for example 0660, found "0999"$/,
    ],
    [{ MAPLEDGER_AUTH: "no" }, /^MAPLEDGER_AUTH takes on or off, found "no"$/],
    [{ MAPLEDGER_MIRROR: "on" }, /^MAPLEDGER_MIRROR takes auto, off or required, found "on"$/],
    [{ MAPLEDGER_BPFFS: "bpf" }, /^MAPLEDGER_BPFFS takes an absolute path, found "bpf"$/],
    [{ MAPLEDGER_LOG_LEVEL: "loud" }, /^MAPLEDGER_LOG_LEVEL takes fatal, error, .* found "loud"$/],
    [{ MAPLEDGER_SESSION_TTL: "0" }, /^MAPLEDGER_SESSION_TTL takes an integer from 1/],
    [
      { MAPLEDGER_REPLAY_TARGETS: "kernel,10.0.0.5:8620" },
      /^MAPLEDGER_REPLAY_TARGETS takes `kernel` and http or https URLs/,
    ],
    [{ MAPLEDGER_REPLAY_TARGETS: "http://10.0.0.5:8620/v1" }, /^MAPLEDGER_REPLAY_TARGETS takes/],
    [{ MAPLEDGER_REPLAY_TARGETS: "http://a@10.0.0.5" }, /^MAPLEDGER_REPLAY_TARGETS takes/],
    [{ MAPLEDGER_REPLAY_TARGETS: "kernel," }, /^MAPLEDGER_REPLAY_TARGETS takes/],
  ];
  for (const [environment, message] of wrong)
    t.throws(() => readSettings(environment), { message }, JSON.stringify(environment));
  t.end();
});

t.test("a variable that is not a setting is warned of, with the nearest setting, and stops nothing", async (t) => {
  const rows: readonly (readonly [variable: string, nearest: string])[] = [
    ["MAPLEDGER_PROT", "MAPLEDGER_PORT"],
    ["MAPLEDGER_TOKENFILE", "MAPLEDGER_TOKENS"],
    ["MAPLEDGER_PORTS", "MAPLEDGER_PORT"],
    ["MAPLEDGER_MIROR", "MAPLEDGER_MIRROR"],
    ["MAPLEDGER_log_level", "MAPLEDGER_LOG_LEVEL"],
    ["MAPLEDGER_CALLER_MAPS", "MAPLEDGER_CALLER_MAPS_MAX"],
  ];
  for (const [variable, nearest] of rows) {
    const warning = `${variable} is not a setting, and is ignored: the nearest one is ${nearest}`;
    t.same(settingWarnings({ [variable]: "1", PATH: "/bin", MAPLEDGER_PORT: "0" }), [warning]);
    t.doesNotThrow(() => readSettings({ [variable]: "1" }));
  }
  const ofClients = { MAPLEDGER_URL: "http://127.0.0.1:1", MAPLEDGER_TOKEN: "x", MAPLEDGER_SOURCE_TOKEN: "y" };
  t.same(settingWarnings({ ...ofClients, TMPDIR: "/tmp" }), []);
  const data = join(t.testdir(), "data");
  const given = { MAPLEDGER_DATA: data, MAPLEDGER_MIRROR: "off", MAPLEDGER_PROT: "1", ...ofClients };
  const service = await startService(given);
  const warned = service.lines.filter(({ level, msg }) => level === 40 && /is not a setting/.test(String(msg)));
  t.match(warned, [{ msg: /^MAPLEDGER_PROT is not a setting, .* MAPLEDGER_PORT$/ }]);
  t.equal(warned.length, 1);
  t.equal(await service.end("SIGTERM"), 0);
});

t.test("a file that a setting names and that is not there ends the start in one line that names both", async (t) => {
  const [file, here] = ["/nowhere/at/all", import.meta.filename];
  const rows: readonly Record<string, string>[] = [
    { MAPLEDGER_TOKENS: file },
    { MAPLEDGER_WITNESSES: file },
    { MAPLEDGER_TLS_CERT: file, MAPLEDGER_TLS_KEY: here },
    { MAPLEDGER_TLS_CERT: here, MAPLEDGER_TLS_KEY: file },
    { MAPLEDGER_TLS_CERT: here, MAPLEDGER_TLS_KEY: here, MAPLEDGER_TLS_CLIENT_CA: file },
    { MAPLEDGER_TOKENS: "/dev/null" },
  ];
  for (const given of rows) {
    const child = spawnService({ ...given, MAPLEDGER_DATA: "/nowhere", MAPLEDGER_MIRROR: "off" });
    const [said, lines, [code]] = await Promise.all([text(child.stderr), text(child.stdout), once(child, "exit")]);
    const [variable, named] = Object.entries(given).find(([, value]) => value !== here) as [string, string];
    const why = named === file ? "this file does not exist" : "/dev/null is not a regular file";
    t.same([code, lines, said], [2, "", `${variable} is ${named}: ${why}\n`]);
  }
});
