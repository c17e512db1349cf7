import t from "tap";
import { Service } from "../../conformance/service.ts";
import { BPF_F } from "../../src/abi/bpf.ts";
import type { Capability } from "../../src/syscall/command.ts";
import { ask, climb } from "./ladder.ts";
import { NOT_OPEN } from "./subjects.ts";

const { BPF_F_NO_PREALLOC, BPF_F_ZERO_SEED, BPF_F_TOKEN_FD, BPF_F_CLONE } = BPF_F;
const HASH = { map_type: "BPF_MAP_TYPE_HASH", key_size: 4, value_size: 4, max_entries: 2 };
const NET = { map_type: "BPF_MAP_TYPE_SOCKMAP", key_size: 4, value_size: 4, max_entries: 2 };
/** What is beyond the types' first checks, and wrong. */
const LATER = { map_name: "a-b", btf_value_type_id: 1, btf_key_type_id: 1, btf_fd: NOT_OPEN, excl_prog_hash_size: 1 };

t.test("BPF_MAP_CREATE without capabilities refuses in the kernel's order", async (t) => {
  const service = new Service({ capabilities: [] });
  const unseeded = { ...HASH, ...LATER, map_flags: BPF_F_ZERO_SEED | BPF_F_CLONE | BPF_F_TOKEN_FD, map_token_fd: -1 };
  const token = { ...HASH, ...LATER, map_flags: BPF_F_TOKEN_FD, map_token_fd: -1 };
  const trie = { ...HASH, ...LATER, map_type: "BPF_MAP_TYPE_LPM_TRIE", key_size: 4, map_flags: BPF_F_NO_PREALLOC };
  climb(t, service, "BPF_MAP_CREATE", [
    { refuses: "an unknown type", attr: { ...unseeded, map_type: 99 }, errno: "EINVAL", detail: /map_type/ },
    {
      refuses: "a hash without a seed, whatever else is wrong",
      attr: { ...unseeded, max_entries: 0 },
      errno: "EPERM",
      detail: /BPF_F_ZERO_SEED requires CAP_SYS_ADMIN/,
    },
    { refuses: "no entries", attr: { ...token, max_entries: 0 }, errno: "EINVAL", detail: /max_entries/ },
    { refuses: "a token that is not open", attr: token, errno: "EBADF", detail: /map_token_fd/ },
    {
      refuses: "any map, before what its type checks second",
      attr: { ...HASH, ...LATER, max_entries: 2 ** 27 + 1 },
      errno: "EPERM",
      detail: /CAP_BPF/,
    },
    { refuses: "a trie whose key is too small", attr: trie, errno: "EPERM", detail: /CAP_BPF/ },
    { refuses: "a map for packets", attr: { ...NET, max_entries: 0 }, errno: "EPERM", detail: /CAP_BPF/ },
    { refuses: "a map for an interface", attr: { ...NET, map_ifindex: 1 }, errno: "EPERM", detail: /CAP_BPF/ },
    { refuses: "nothing for its name", attr: HASH, errno: "EPERM" },
  ]);
});

/** What each set of capabilities may make, and the rest of what capabilities are asked for. */
for (const [capabilities, may] of [
  [[], { map: false, net: false, seedless: false, ids: false, btf: false }],
  [["CAP_NET_ADMIN"], { map: false, net: false, seedless: false, ids: false, btf: false }],
  [["CAP_BPF"], { map: true, net: false, seedless: false, ids: false, btf: true }],
  [["CAP_BPF", "CAP_NET_ADMIN"], { map: true, net: true, seedless: false, ids: false, btf: true }],
  [["CAP_SYS_ADMIN"], { map: true, net: true, seedless: true, ids: true, btf: true }],
  [["CAP_BPF", "CAP_NET_ADMIN", "CAP_SYS_ADMIN"], { map: true, net: true, seedless: true, ids: true, btf: true }],
] as readonly (readonly [readonly Capability[], Record<"map" | "net" | "seedless" | "ids" | "btf", boolean>])[])
  t.test(`capabilities ${capabilities.join(", ") || "(none)"} may do what the kernel lets them`, async (t) => {
    const service = new Service({ capabilities });
    const answer = (is: boolean): string | null => (is ? null : "EPERM");
    t.equal(ask(service, "BPF_MAP_CREATE", HASH), answer(may.map), "a hash");
    for (const type of ["SOCKMAP", "SOCKHASH", "DEVMAP", "DEVMAP_HASH", "XSKMAP"]) {
      const attr = { ...NET, map_type: `BPF_MAP_TYPE_${type}` };
      t.equal(ask(service, "BPF_MAP_CREATE", attr), answer(may.net), type);
    }
    for (const type of ["CPUMAP", "REUSEPORT_SOCKARRAY", "ARRAY", "PROG_ARRAY"]) {
      const attr = { ...NET, map_type: `BPF_MAP_TYPE_${type}` };
      t.equal(ask(service, "BPF_MAP_CREATE", attr), answer(may.map), `${type} is no map of the network's`);
    }
    for (const [type, may_] of [
      ["HASH", may.seedless],
      ["PERCPU_HASH", may.seedless],
      ["LRU_HASH", may.seedless],
      ["LRU_PERCPU_HASH", may.seedless],
      ["BLOOM_FILTER", may.map],
    ] as const) {
      const key_size = type === "BLOOM_FILTER" ? 0 : 4;
      const attr = { ...HASH, map_type: `BPF_MAP_TYPE_${type}`, key_size, map_flags: BPF_F_ZERO_SEED };
      t.equal(ask(service, "BPF_MAP_CREATE", attr), answer(may_), `${type} without a seed`);
    }
    t.equal(service.bpf({ cmd: "BPF_MAP_GET_NEXT_ID", attr: { start_id: 0 } }).errno, may.ids ? null : "EPERM");
    t.equal(ask(service, "BPF_BTF_LOAD", { btf_size: 0 }), may.btf ? "EINVAL" : "EPERM");
  });

t.test("BPF_MAP_CREATE without CAP_SYS_ADMIN refuses seeds and interfaces in the kernel's order", async (t) => {
  const service = new Service({ capabilities: ["CAP_BPF", "CAP_NET_ADMIN"] });
  const seedless = {
    ...HASH,
    map_type: "BPF_MAP_TYPE_HASH_OF_MAPS",
    map_flags: BPF_F_ZERO_SEED,
    inner_map_fd: NOT_OPEN,
  };
  const offloaded = { ...NET, map_ifindex: 2 ** 31 - 1, map_name: "a-b" };
  climb(t, service, "BPF_MAP_CREATE", [
    {
      refuses: "a map of maps that holds no ids",
      attr: { ...seedless, value_size: 8 },
      errno: "EINVAL",
      detail: /value_size/,
    },
    {
      refuses: "a map of maps without a seed",
      attr: { ...seedless, max_entries: 0 },
      errno: "EPERM",
      detail: /ZERO_SEED/,
    },
    { refuses: "a map for an interface", attr: offloaded, errno: "EPERM", detail: /offloading/ },
  ]);
  climb(t, new Service(), "BPF_MAP_CREATE", [
    { refuses: "types that no interface has", attr: offloaded, errno: "EINVAL", detail: /can be offloaded/ },
    {
      refuses: "an unknown interface",
      attr: { ...offloaded, ...HASH, map_type: 1 },
      errno: "EINVAL",
      detail: /no interface/,
    },
    { refuses: "loopback", attr: { ...offloaded, ...HASH, map_ifindex: 1 }, errno: "EOPNOTSUPP" },
  ]);
});

t.test("ids without CAP_SYS_ADMIN are refused in the kernel's order", async (t) => {
  const service = new Service({ capabilities: ["CAP_BPF", "CAP_NET_ADMIN"] });
  climb(t, service, "BPF_MAP_GET_NEXT_ID", [
    {
      refuses: "a field that it does not use",
      attr: { start_id: 2 ** 31 - 1, open_flags: 8 },
      errno: "EINVAL",
      detail: /open_flags/,
    },
    { refuses: "an id that can be none", attr: { start_id: 2 ** 31 - 1 }, errno: "EINVAL", detail: /start_id/ },
    { refuses: "to walk", attr: { start_id: 0 }, errno: "EPERM" },
  ]);
  climb(t, service, "BPF_MAP_GET_FD_BY_ID", [
    { refuses: "unknown flags", attr: { map_id: 99, open_flags: 1 }, errno: "EINVAL", detail: /open_flags 1/ },
    { refuses: "both modes, and an unknown id", attr: { map_id: 99, open_flags: 24 }, errno: "EPERM" },
    { refuses: "an unknown id", attr: { map_id: 99 }, errno: "EPERM" },
  ]);
  climb(t, new Service(), "BPF_MAP_GET_FD_BY_ID", [
    {
      refuses: "both modes, and an unknown id",
      attr: { map_id: 99, open_flags: 24 },
      errno: "EINVAL",
      detail: /excludes/,
    },
    { refuses: "an unknown id", attr: { map_id: 99 }, errno: "ENOENT" },
  ]);
});

t.test("BPF_BTF_LOAD without CAP_BPF is refused before its size is looked at", async (t) => {
  const large = { btf_size: 16 * 1024 * 1024 + 1 };
  t.equal(ask(new Service({ capabilities: ["CAP_NET_ADMIN"] }), "BPF_BTF_LOAD", large), "EPERM");
  t.equal(ask(new Service({ capabilities: ["CAP_BPF"] }), "BPF_BTF_LOAD", large), "E2BIG");
});

t.test("elements, freezing, info and pins take descriptors and no capabilities", async (t) => {
  const service = new Service({ capabilities: ["CAP_BPF"] });
  const map_fd = service.bpf({ cmd: "BPF_MAP_CREATE", attr: { ...HASH, map_type: 1 } }).ret;
  const [key, value] = ["01000000", "0a0b0c0d"];
  for (const [cmd, attr] of [
    ["BPF_MAP_UPDATE_ELEM", { map_fd, key, value }],
    ["BPF_MAP_LOOKUP_ELEM", { map_fd, key }],
    ["BPF_MAP_GET_NEXT_KEY", { map_fd }],
    ["BPF_MAP_UPDATE_BATCH", { map_fd, keys: key, values: value, count: 1 }],
    ["BPF_MAP_DELETE_ELEM", { map_fd, key }],
    ["BPF_OBJ_PIN", { bpf_fd: map_fd, pathname: `${service.directory}/pin` }],
    ["BPF_OBJ_GET", { pathname: `${service.directory}/pin` }],
    ["BPF_OBJ_GET_INFO_BY_FD", { bpf_fd: map_fd, info_len: 80 }],
    ["BPF_MAP_FREEZE", { map_fd }],
  ] as const)
    t.equal(service.bpf({ cmd, attr }).errno, null, cmd);
  const { state, fold } = service.cells();
  t.same(fold, state);
});
