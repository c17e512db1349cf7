import t from "tap";
import { readSettings, SETTINGS } from "../src/config.ts";

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
    [{ MAPLEDGER_SOCKET_MODE: "0999" }, /^MAPLEDGER_SOCKET_MODE takes a mode in octal, as 0660, found "0999"$/],
    [{ MAPLEDGER_AUTH: "no" }, /^MAPLEDGER_AUTH takes on or off, found "no"$/],
    [{ MAPLEDGER_MIRROR: "on" }, /^MAPLEDGER_MIRROR takes auto, off or required, found "on"$/],
    [{ MAPLEDGER_BPFFS: "bpf" }, /^MAPLEDGER_BPFFS takes an absolute path, found "bpf"$/],
    [{ MAPLEDGER_LOG_LEVEL: "loud" }, /^MAPLEDGER_LOG_LEVEL takes fatal, error, .* found "loud"$/],
    [{ MAPLEDGER_SESSION_TTL: "0" }, /^MAPLEDGER_SESSION_TTL takes an integer from 1/],
    [
      { MAPLEDGER_REPLAY_TARGETS: "kernel,10.0.0.5:8620" },
      /^MAPLEDGER_REPLAY_TARGETS takes kernel and URLs of http or/,
    ],
    [{ MAPLEDGER_REPLAY_TARGETS: "http://10.0.0.5:8620/v1" }, /^MAPLEDGER_REPLAY_TARGETS takes/],
    [{ MAPLEDGER_REPLAY_TARGETS: "http://a@10.0.0.5" }, /^MAPLEDGER_REPLAY_TARGETS takes/],
    [{ MAPLEDGER_REPLAY_TARGETS: "kernel," }, /^MAPLEDGER_REPLAY_TARGETS takes/],
    [{ MAPLEDGER_PROT: "1" }, /^MAPLEDGER_PROT is no setting; there are MAPLEDGER_HOST, /],
  ];
  for (const [environment, message] of wrong)
    t.throws(() => readSettings(environment), { message }, JSON.stringify(environment));
  t.end();
});
