import type { Test } from "tap";
import type { Subject } from "../../conformance/subject.ts";
import { BPF_F } from "../../src/abi/bpf.ts";
import { climb, create, succeed } from "./ladder.ts";
import { NOT_OPEN } from "./subjects.ts";

const { BPF_F_RDONLY, BPF_F_WRONLY } = BPF_F;

/** A map whose keys have four bytes at least, and an element with which nothing is right. */
interface Worst {
  readonly map: Readonly<Record<string, unknown>>;
  readonly key: string;
  readonly flags: number;
  /** Whether its descriptors can be for reading or for writing alone; false where the type takes no such flags. */
  readonly modes?: boolean;
}

const BATCHES = [
  "BPF_MAP_LOOKUP_BATCH",
  "BPF_MAP_LOOKUP_AND_DELETE_BATCH",
  "BPF_MAP_UPDATE_BATCH",
  "BPF_MAP_DELETE_BATCH",
];

/** Guards that come before a map type is asked, in their order; what the type itself refuses is wrong all the while. */
export function climbShared(t: Test, subject: Subject, { map, key, flags, modes = true }: Worst): void {
  const only = (mode: number): number =>
    create(subject, { ...map, map_flags: ((map.map_flags as number) ?? 0) | mode });
  const map_fd = create(subject, map);
  const pipe = succeed(subject.open({ kind: "pipe" })).ret;
  const frozen = create(subject, map);
  succeed(subject.bpf({ cmd: "BPF_MAP_FREEZE", attr: { map_fd: frozen } }));
  const readonly = modes ? only(BPF_F_RDONLY) : frozen;
  const writeonly = modes ? only(BPF_F_WRONLY) : null;
  const short = key.slice(2);
  const reader = (attr: Record<string, unknown>): Parameters<typeof climb>[3] =>
    writeonly === null
      ? []
      : [{ refuses: "a descriptor for writing", attr: { ...attr, map_fd: writeonly }, errno: "EPERM" }];
  const nothing = (attr: Record<string, unknown>): Parameters<typeof climb>[3] => [
    { refuses: "a descriptor that is not open", attr: { ...attr, map_fd: NOT_OPEN }, errno: "EBADF" },
    { refuses: "a descriptor of something else", attr: { ...attr, map_fd: pipe }, errno: "EINVAL", detail: /pipe/ },
  ];

  const wrong = { flags: flags | 4 };
  climb(t, subject, "BPF_MAP_UPDATE_ELEM", [
    ...nothing(wrong),
    { refuses: "a descriptor for reading", attr: { ...wrong, map_fd: readonly }, errno: "EPERM" },
    { refuses: "a frozen map", attr: { ...wrong, map_fd: frozen }, errno: "EPERM", detail: /frozen/ },
    { refuses: "BPF_F_LOCK", attr: { ...wrong, map_fd }, errno: "EINVAL", detail: /BPF_F_LOCK/ },
    { refuses: "a null key", attr: { map_fd, flags }, errno: "EFAULT", detail: /^key/ },
    { refuses: "a short key", attr: { map_fd, key: short, flags }, errno: "EFAULT", detail: /^key/ },
    { refuses: "a null value", attr: { map_fd, key, flags }, errno: "EFAULT", detail: /^value/ },
    { refuses: "a short value", attr: { map_fd, key, value: "aaaaaa", flags }, errno: "EFAULT", detail: /^value/ },
  ]);
  climb(t, subject, "BPF_MAP_LOOKUP_ELEM", [
    { refuses: "flags that are none of a lookup's", attr: { map_fd: NOT_OPEN, flags: 5 }, errno: "EINVAL" },
    ...nothing({ flags: 4 }),
    ...reader({ flags: 4 }),
    { refuses: "BPF_F_LOCK", attr: { map_fd, flags: 4 }, errno: "EINVAL", detail: /BPF_F_LOCK/ },
    { refuses: "a short key", attr: { map_fd, key: short, value: "" }, errno: "EFAULT", detail: /^key/ },
  ]);
  climb(t, subject, "BPF_MAP_LOOKUP_AND_DELETE_ELEM", [
    { refuses: "flags that are none of a lookup's", attr: { map_fd: NOT_OPEN, flags: 5 }, errno: "EINVAL" },
    ...nothing({ flags: 4 }),
    ...reader({ flags: 4 }),
    { refuses: "a frozen map", attr: { map_fd: frozen, flags: 4 }, errno: "EPERM", detail: /frozen/ },
    { refuses: "BPF_F_LOCK", attr: { map_fd, flags: 4 }, errno: "EINVAL", detail: /BPF_F_LOCK/ },
    { refuses: "a short key", attr: { map_fd, key: short, value: "" }, errno: "EFAULT", detail: /^key/ },
  ]);
  climb(t, subject, "BPF_MAP_DELETE_ELEM", [
    ...nothing({}),
    { refuses: "a descriptor for reading", attr: { map_fd: readonly }, errno: "EPERM" },
    { refuses: "a frozen map", attr: { map_fd: frozen }, errno: "EPERM", detail: /frozen/ },
    { refuses: "a null key", attr: { map_fd }, errno: "EFAULT", detail: /^key/ },
    { refuses: "a short key", attr: { map_fd, key: short }, errno: "EFAULT", detail: /^key/ },
  ]);
  climb(t, subject, "BPF_MAP_GET_NEXT_KEY", [
    ...nothing({ key: short }),
    ...reader({ key: short }),
    { refuses: "a short key", attr: { map_fd, key: short, next_key: "" }, errno: "EFAULT", detail: /^key/ },
  ]);
  climb(t, subject, "BPF_MAP_FREEZE", [
    ...nothing({}),
    { refuses: "a descriptor for reading", attr: { map_fd: readonly }, errno: "EPERM" },
    { refuses: "a frozen map", attr: { map_fd: frozen }, errno: "EPERM", detail: /frozen/ },
  ]);
  for (const fd of new Set([map_fd, pipe, frozen, readonly, writeonly])) if (fd !== null) subject.close(fd);
}

/** Types that have no batches say so at once. */
export function climbNoBatches(t: Test, subject: Subject, map: Worst["map"]): void {
  const map_fd = create(subject, map);
  for (const cmd of BATCHES)
    climb(t, subject, cmd, [
      { refuses: "a descriptor that is not open", attr: { map_fd: NOT_OPEN, elem_flags: 1 }, errno: "EBADF" },
      { refuses: "such maps, whatever else is wrong", attr: { map_fd, elem_flags: 1, count: 1 }, errno: "ENOTSUPP" },
    ]);
  succeed(subject.bpf({ cmd: "BPF_MAP_FREEZE", attr: { map_fd } }));
  for (const cmd of BATCHES)
    climb(t, subject, cmd, [
      {
        refuses: cmd === "BPF_MAP_LOOKUP_BATCH" ? "such maps, frozen or not" : "a frozen map first",
        attr: { map_fd, elem_flags: 1, count: 1 },
        errno: cmd === "BPF_MAP_LOOKUP_BATCH" ? "ENOTSUPP" : "EPERM",
      },
    ]);
  subject.close(map_fd);
}
