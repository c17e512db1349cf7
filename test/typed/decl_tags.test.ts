import t from "tap";
import { btfOf, missing } from "./compiled.ts";
import { formOf, idOf, must, parsed } from "./subjects.ts";

/** Codecs as BPF programs declare them: btf_decl_tag on members and typedefs. */
const SOURCE = `
#define TAG(text) __attribute__((btf_decl_tag(text)))
typedef unsigned int __u32;
typedef __u32 __be32;
typedef unsigned long long time_ns TAG("ktime");
typedef unsigned char mac_t[6] TAG("mac");
struct event {
  __u32 src TAG("inet_ip");
  __be32 dst_ip;
  __be32 plain;
  __be32 both_addr TAG("be32");
  __u32 op TAG("static_map:{\\"1\\":\\"read\\",\\"2\\":\\"write\\"}");
  __u32 other TAG("some other tag");
  __u32 hops[2] TAG("errno");
  time_ns at;
  mac_t macs[2];
  char name[4] TAG("hex");
};
int use(struct event *event) { return 0; }
`;

t.test("tags of members and typedefs are codecs", { skip: missing("clang-16") ?? missing("clang") ?? false }, (t) => {
  const btf = parsed(btfOf("clang-16", SOURCE, t.testdir()));
  const form = formOf(btf, idOf(btf, "event"));
  const json = {
    ...{ src: "10.0.0.1", dst_ip: "10.0.0.2", plain: 167_772_163, both_addr: 167_772_164, op: "write", other: 5 },
    ...{ hops: ["ENOENT", 0], at: "1.500000000s", macs: ["02:00:00:00:00:01", "02:00:00:00:00:02"], name: "61620000" },
  };
  const bytes = must(form.fromTyped(json));
  t.same(JSON.parse(must(form.typed(bytes))), json);
  t.equal(bytes.toString("hex", 0, 24), "0a0000010a0000020a0000030a0000040200000005000000");
  t.match(form.formatted(bytes), /^\{"src":16777226,"dst_ip":33554442,.*"name":"ab"\}$/);
  t.end();
});
