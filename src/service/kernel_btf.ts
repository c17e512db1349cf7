import { readdir, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import type { KernelBtf } from "../http/server/ports.ts";

const VMLINUX = "vmlinux";

/** The kernel's own BTF, as sysfs shows it to everybody. A kernel without CONFIG_DEBUG_INFO_BTF has none. */
export function kernelBtf(directory = "/sys/kernel/btf"): KernelBtf {
  const names = async (): Promise<readonly string[]> => (await unlessMissing(readdir(directory)))?.sort() ?? [];
  return {
    async list() {
      const all = await Promise.all(
        (await names()).map(async (name) => {
          const found = await unlessMissing(stat(join(directory, name)));
          return found === null ? [] : [{ name, bytes: found.size }];
        }),
      );
      return all.flat();
    },

    async read(name) {
      // Only a name that the directory has: it cannot lead elsewhere.
      if (!(await names()).includes(name)) return null;
      const data = await unlessMissing(readFile(join(directory, name)));
      if (data === null) return null;
      return { data, base: name === VMLINUX ? null : await unlessMissing(readFile(join(directory, VMLINUX))) };
    },
  };
}

/** null: there is no such file, or a module was removed meanwhile. */
async function unlessMissing<Found>(found: Promise<Found>): Promise<Found | null> {
  try {
    return await found;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "ENOENT" || code === "EACCES" || code === "EPERM") return null;
    throw error;
  }
}
