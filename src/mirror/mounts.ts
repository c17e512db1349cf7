/**
 * The mounts of bpffs in this mount namespace, parsed from /proc/self/mountinfo (proc_pid_mountinfo(5)). No file system
 * is accessed, because any of them could hang. Paths are bytes, one in each character ("latin1"), because names of pins
 * need not be UTF-8.
 */

export interface BpffsMount {
  readonly point: string;
  /** The superblock's st_dev. */
  readonly dev: number;
  /** Paths below the mount point that are covered by other mounts. */
  readonly covered: ReadonlySet<string>;
}

export interface BpffsMounts {
  /** Mounts that can be reached by a path. */
  readonly visible: readonly BpffsMount[];
  /** A place on a bpffs that no path reaches, because another mount covers it; null if there is none. */
  readonly hidden: string | null;
}

interface Mount {
  readonly id: string;
  readonly parent: string;
  /** For example "0:38". */
  readonly device: string;
  /** The directory of the superblock that is mounted; other than "/" for a bind mount of a subdirectory. */
  readonly root: string;
  readonly point: string;
  readonly isBpffs: boolean;
}

/** `mountinfo`: the bytes of /proc/self/mountinfo. */
export function bpffsMounts(mountinfo: Buffer): BpffsMounts {
  const table = new MountTable(mountinfo.toString("latin1").split("\n").flatMap(parse));
  const visible = table.bpffs.filter((mount) => table.isVisible(mount));
  const covers = visible.flatMap((mount) => table.over(mount).map((cover) => ({ mount, cover })));
  const isShown = (device: string, path: string): boolean => visible.some((mount) => table.shows(mount, device, path));
  const buried = table.bpffs.find(({ device, root }) => !isShown(device, root))?.point;
  const below = covers.find(({ mount, cover }) => !isShown(mount.device, onSuperblock(mount, cover.point)))?.cover
    .point;
  return {
    visible: visible.map((mount) => ({
      point: mount.point,
      dev: makedev(mount.device),
      covered: new Set(table.over(mount).map(({ point }) => point)),
    })),
    hidden: buried ?? below ?? null,
  };
}

class MountTable {
  readonly bpffs: readonly Mount[];
  readonly #root: Mount | null;
  readonly #over = new Map<string, Mount[]>();

  constructor(mounts: readonly Mount[]) {
    const ids = new Set(mounts.map(({ id }) => id));
    const isTop = ({ id, parent }: Mount): boolean => parent === id || !ids.has(parent);
    this.bpffs = mounts.filter(({ isBpffs }) => isBpffs);
    // After a chroot below a mount's root, that mount is not listed, and the mounts on it have no listed parent.
    this.#root = mounts.find((mount) => mount.point === "/" && isTop(mount)) ?? null;
    for (const mount of mounts) {
      if (mount === this.#root) continue;
      const parent = isTop(mount) ? (this.#root?.id ?? "") : mount.parent;
      this.#over.set(parent, [...(this.#over.get(parent) ?? []), mount]);
    }
  }

  /** Mounts whose parent is this mount. */
  over({ id }: Pick<Mount, "id">): readonly Mount[] {
    return this.#over.get(id) ?? [];
  }

  /** Whether the mount can be reached by its mount point: neither it nor a parent is covered there. */
  isVisible(mount: Mount): boolean {
    let at: string = this.#root?.id ?? "";
    if (mount.id === at) return true;
    for (const path of prefixes(mount.point)) {
      for (;;) {
        const next = this.over({ id: at }).find(({ point, id }) => point === path && id !== at);
        if (next === undefined) break;
        at = next.id;
      }
    }
    return at === mount.id;
  }

  /** Whether this mount shows a path of a superblock. */
  shows(mount: Mount, device: string, path: string): boolean {
    if (mount.device !== device || !isBelow(path, mount.root)) return false;
    const shown = join(mount.point, path.slice(mount.root === "/" ? 1 : mount.root.length + 1));
    return !this.over(mount).some(({ point }) => isBelow(shown, point));
  }
}

/** "/a/b/c" gives "/a", "/a/b", "/a/b/c". */
function prefixes(path: string): readonly string[] {
  const names = path.split("/").slice(1);
  return names.map((_, at) => `/${names.slice(0, at + 1).join("/")}`);
}

function onSuperblock({ root, point }: Mount, path: string): string {
  return join(root, path.slice(point === "/" ? 1 : point.length + 1));
}

/** Whether a path is a directory, or below it. */
function isBelow(path: string, directory: string): boolean {
  return directory === "/" || path === directory || path.startsWith(`${directory}/`);
}

export function join(directory: string, name: string): string {
  if (name === "") return directory;
  return directory === "/" ? `/${name}` : `${directory}/${name}`;
}

/**
 * Parses "36 35 98:0 /root /point rw,noatime master:1 - bpf source rw"; any number of optional fields precedes the
 * dash.
 */
function parse(line: string): readonly Mount[] {
  const [id, parent, device, root, point, ...rest] = line.split(" ");
  if (id === undefined || parent === undefined || device === undefined || root === undefined || point === undefined)
    return [];
  const isBpffs = rest[rest.indexOf("-") + 1] === "bpf";
  return [{ id, parent, device, root: unmangled(root), point: unmangled(point), isBpffs }];
}

/**
 * Reverts mangle_path(), fs/seq_file.c: space, tab, newline, backslash and, in newer kernels, the hash sign are written
 * as \ and three octal digits.
 */
function unmangled(field: string): string {
  return field.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
}

/** As gnu_dev_makedev(), which makes st_dev. */
function makedev(device: string): number {
  const [major, minor] = device.split(":").map(Number) as [number, number];
  return (major % 0x1000) * 0x100 + (minor % 0x100) + Math.floor(minor / 0x100) * 0x100000;
}
