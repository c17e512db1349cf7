import { execFileSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

/** Why a program cannot be run here, found out by running it; null: it can. */
export function missing(program: string): string | null {
  try {
    execFileSync(program, ["--version"], { stdio: "pipe" });
    return null;
  } catch (error) {
    return `${program} --version: ${(error as Error).message.split("\n")[0]}`;
  }
}

/** The BTF that clang writes for C source. */
export function btfOf(clang: string, source: string, directory: string): Buffer {
  const [c, object] = [join(directory, `${clang}.c`), join(directory, `${clang}.o`)];
  writeFileSync(c, source);
  execFileSync(clang, ["-w", "-g", "-O1", "-target", "bpf", "-c", c, "-o", object], { stdio: "pipe" });
  return section(readFileSync(object), ".BTF");
}

/** Runs a C program with the input that it reads. */
export function outputOf(
  compiler: string,
  source: string,
  { directory, input }: { directory: string; input: Buffer },
): string {
  const [c, program] = [join(directory, `${compiler}.c`), join(directory, compiler)];
  writeFileSync(c, source);
  execFileSync(compiler, ["-w", "-O0", "-o", program, c], { stdio: "pipe" });
  return execFileSync(program, { input, encoding: "latin1", maxBuffer: 2 ** 26 });
}

/** A section of a 64-bit ELF file. */
function section(elf: Buffer, name: string): Buffer {
  const [table, bytes, count, names] = [
    Number(elf.readBigUInt64LE(40)),
    elf.readUInt16LE(58),
    elf.readUInt16LE(60),
    elf.readUInt16LE(62),
  ];
  const at = (index: number): { name: number; from: number; size: number } => {
    const start = table + index * bytes;
    return {
      name: elf.readUInt32LE(start),
      from: Number(elf.readBigUInt64LE(start + 24)),
      size: Number(elf.readBigUInt64LE(start + 32)),
    };
  };
  const strings = at(names);
  for (let index = 0; index < count; index++) {
    const { name: start, from, size } = at(index);
    const text = elf.subarray(strings.from + start, strings.from + strings.size);
    if (text.toString("latin1", 0, text.indexOf(0)) === name) return elf.subarray(from, from + size);
  }
  throw new Error(`looking for section ${name}: there is none`);
}
