import t from "tap";
import type { Names } from "../../src/typed/names.ts";
import { described } from "./subjects.ts";

/** Codecs: bytes, what the typed form shows, and input besides it that gives the same bytes. */
const op = { "@codec": "static_map", type: "u32", values: { "1": "read", "2": "write", "3": "read" } };
const CGROUP = "/sys/fs/cgroup/web";

const HOST: Names = {
  machine: "x64",
  ifname: (index) => (index === 2 ? "eth0" : null),
  ifindex: (name) => (name === "eth0" ? 2 : null),
  cgroup: (id) => (id === 77n ? CGROUP : null),
  cgroupId: (path) => (path === CGROUP ? 77n : null),
};

const ROWS: readonly (readonly [type: unknown, hex: string, typed: string, ...also: readonly unknown[]])[] = [
  ["uint[2]", "0100", "1", "0x1"],
  ["uint[3]", "010001", "65537"],
  ["uint[8]", "0100000000000000", '"1"', 1],
  ["string[4]", "61626364", '"abcd"'],
  ["string[4]", "c3a90000", '"é"', [195, 169, 0, 0]],
  ["string[4]", "ff000000", "[255,0,0,0]"],
  ["string[4]", "61006200", ": bytes after NUL"],
  ["inet_ip", "0a000001", '"10.0.0.1"', 167772161],
  ["inet_ip[16]", "20010db8000000000000000000000001", '"2001:db8::1"', "2001:0db8:0:0:0:0:0:1"],
  ["inet_ip[16]", "00000000000000000000ffff0a000001", '"::ffff:10.0.0.1"', "::ffff:a00:1"],
  ["inet_ip[16]", "00".repeat(16), '"::"'],
  ["inet_ip[16]", "00010000000100000000000000000001", '"1:0:1::1"'],
  ["hex[3]", "00ff10", '"00ff10"', "00FF10"],
  ["ifname", "02000000", '{"number":2,"name":"eth0"}', "eth0", 2],
  ["ifname", "03000000", "3"],
  ["cgroup", "4d00000000000000", `{"number":"77","name":"${CGROUP}"}`, CGROUP, "77"],
  ["errno", "feffffff", '"-ENOENT"', -2],
  ["errno", "02000000", '"ENOENT"'],
  ["errno", "e7030000", "999"],
  ["majorminor", "10080000", '"8:16"', 2064],
  ["majorminor", "00081000", '"8:256"'],
  ["dname[13]", "076578616d706c6503636f6d00", '"example.com"', "example.com."],
  ["dname[4]", "00000000", '"."'],
  ["dname[4]", "02610000", ": a label that is not printable ASCII without a dot"],
  ["dname[4]", "09616263", ": a name without its end"],
  ["dname[4]", "01610001", ": bytes after the name"],
  ["syscall", "41010000", '"bpf"', 321],
  ["syscall", "ffff0000", "65535"],
  [op, "01000000", '"read"', 1],
  [op, "03000000", "3"],
  [op, "09000000", "9"],
  ["cidr4", "080000000a010203", '"10.1.2.3/8"'],
  ["cidr4", "210000000a000000", ": a prefix of 33 bits in 32"],
  ["cidr6", `20000000${"20010db8".padEnd(32, "0")}`, '"2001:db8::/32"'],
  ["mac", "020000aabbcc", '"02:00:00:aa:bb:cc"', "02:00:00:AA:BB:CC"],
  ["be16", "01bb", "443"],
  ["be32", "00000001", "1", "0.0.0.1"],
  ["be64", "0000000000000001", '"1"', 1],
  ["ktime", "00ca9a3b01000000", '"5.294967296s"', "5294967296", 5294967296],
  ["mac[2]", "020000000001020000000002", '["02:00:00:00:00:01","02:00:00:00:00:02"]'],
  ["string[2][2]", "61006200", '["a","b"]'],
];

t.test("codecs show bytes, and take what they show", (t) => {
  for (const [type, hex, typed, ...also] of ROWS) {
    const bytes = Buffer.from(hex, "hex");
    const form = described(type, bytes.length);
    const text = form.typed(bytes, HOST);
    t.equal(String(text), typed, `${JSON.stringify(type)}: ${hex}`);
    const inputs = typeof text === "string" ? [JSON.parse(text), ...also] : [];
    for (const input of inputs) t.same(form.fromTyped(input, HOST), bytes, JSON.stringify(input));
  }
  t.end();
});

t.test("names that only a host knows stand nowhere else", (t) => {
  const ifname = described("ifname", 4);
  t.equal(ifname.typed(Buffer.from("02000000", "hex")), "2");
  t.equal(
    String(ifname.fromTyped("eth0")),
    ': the number of a network interface required: names are not known here, found "eth0"',
  );
  t.equal(String(ifname.fromTyped("eth9", HOST)), ': no network interface "eth9" on this host');
  t.same(ifname.fromTyped({ number: 2, name: "eth0" }), Buffer.from("02000000", "hex"));
  t.equal(described("syscall", 4).typed(Buffer.from("41010000", "hex")), "321");
  t.equal(described("syscall", 4).typed(Buffer.from("18010000", "hex"), { machine: "arm64" }), '"bpf"');
  t.end();
});
